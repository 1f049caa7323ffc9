"""Who pays for pictures: only whoever asks for them."""

import subprocess
import sys

import pytest

import trix.show

HEAVY = ("matplotlib", "ipywidgets", "anywidget", "IPython", "myst_nb", "trix.show")
ASKED = {
    "matplotlib": "import trix.show",
    "anywidget": "from trix.show import AddressPlane",
    "ipywidgets": "import trix; trix.show",
}
CODE = f"""
import sys, trix
print([name for name in {HEAVY} if name in sys.modules])
for missing, asked in {ASKED}.items():
    for name in list(sys.modules):
        if name.startswith(("trix.show", "matplotlib", "ipywidgets", "anywidget")):
            del sys.modules[name]
    vars(trix).pop("show", None)
    sys.modules[missing] = None
    try:
        exec(asked)
    except ModuleNotFoundError as error:
        print(error)
"""


@pytest.mark.slow
def test_pictures_are_imported_when_asked_for_and_a_missing_package_is_named():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    install = 'in a clone of the repository: pip install ".[book]"'
    told = [f"trix.show needs {name}; {install}" for name in ASKED]
    assert done.stdout.splitlines() == ["[]", *told]


def test_the_namespace_is_small():
    # the two packages, figures and widgets, stand beside the names
    assert sum(not name.startswith("_") for name in dir(trix.show)) <= 18 + 2
