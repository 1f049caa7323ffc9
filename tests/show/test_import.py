"""Who pays for pictures: only whoever asks for them."""

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_library_itself_imports_no_plotting():
    heavy = "{'matplotlib', 'ipywidgets', 'anywidget', 'IPython', 'myst_nb', 'trix.show'}"
    done = run(f"import sys, trix; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("missing", "asked"),
    [
        ("matplotlib", "import trix.show"),
        ("anywidget", "from trix.show import AddressPlane"),
        ("ipywidgets", "import trix; trix.show"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(missing, asked):
    done = run(f"import sys; sys.modules[{missing!r}] = None; {asked}")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: trix.show needs {missing}")
    assert last.endswith('in a clone of the repository: pip install ".[book]"')


def test_the_namespace_is_small():
    done = run("import trix.show; print(sum(not n.startswith('_') for n in dir(trix.show)))")
    assert int(done.stdout) <= 18 + 2  # and the two packages, figures and widgets
