"""Notebooks are executed when something they depend on has changed, and only then."""

import json
import logging
import os
import shutil

import execute
import keys
import nbformat
import pytest

PARAMETERS = 'budget = "unset"\nseed = 0'


def write_notebook(path, *sources):
    notebook = nbformat.v4.new_notebook()
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = python
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook.cells = [first, *(nbformat.v4.new_code_cell(source) for source in sources)]
    nbformat.write(notebook, path)
    return path


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.text for cell in cells for out in cell.get("outputs", []) if "text" in out)


def run(folder, depends=None):
    return execute.run_all(
        sorted(folder.glob("*.ipynb")),
        folder / "out",
        {"budget": "quick"},
        {"the library": "one", **(depends or {})},
        jobs=2,
    )


def test_notebooks_are_executed_and_one_that_fails_stops_no_other(tmp_path):
    (tmp_path / "out").mkdir()
    write_notebook(tmp_path / "out" / "b.ipynb", "print('an earlier result')")
    told = "print(budget, seed, os.environ['OMP_NUM_THREADS'], os.getcwd())"
    write_notebook(tmp_path / "a.ipynb", "import os", told)
    write_notebook(tmp_path / "b.ipynb", "good = 1", "bad = good / 0", "print('never')")
    write_notebook(tmp_path / "c.ipynb", "import os\nos._exit(3)")
    fine, broken, dead = run(tmp_path)
    assert (fine.cached, fine.failure) == (False, "")
    assert outputs(tmp_path / "out" / "a.ipynb") == f"quick 0 1 {os.path.realpath(tmp_path)}\n"
    assert "b.ipynb, cell 3 of 4 raised" in broken.failure
    assert "bad = good / 0" in broken.failure
    assert "ZeroDivisionError" in broken.failure
    assert "c.ipynb, cell 2 of 2" in dead.failure
    assert "died" in dead.failure.lower()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ipynb", "keys.json"]
    assert list(json.loads((tmp_path / "out" / "keys.json").read_text())) == ["a"]


@pytest.fixture
def copied(monkeypatch):
    done = []

    def execute_(found, why, folder, parameters, progress, workers):  # copies
        progress.say(f"start {found.name}: {why}")
        folder.mkdir(exist_ok=True)
        shutil.copy(found.source, folder)
        found.seconds = 1.5
        done.append(found.name)

    monkeypatch.setattr(execute, "_execute", execute_)
    return done


def test_only_what_changed_is_executed_again(tmp_path, copied, capsys):
    write_notebook(tmp_path / "a.ipynb", "print(1)")
    write_notebook(tmp_path / "b.ipynb", "print(2)")
    run(tmp_path)
    again = run(tmp_path)
    assert [one.cached for one in again] == [True, True]
    assert [one.seconds for one in again] == [1.5, 1.5]
    assert "2 of 2 notebooks are up to date" in capsys.readouterr().out

    write_notebook(tmp_path / "b.ipynb", "print(3)")
    assert [one.cached for one in run(tmp_path)] == [True, False]
    assert "b: its cells changed" in capsys.readouterr().out

    assert [one.cached for one in run(tmp_path, {"the library": "two"})] == [False, False]
    assert "a: the library changed" in capsys.readouterr().out

    (tmp_path / "out" / "a.ipynb").unlink()
    assert [one.cached for one in run(tmp_path, {"the library": "two"})] == [False, True]
    assert "a: the executed copy is gone" in capsys.readouterr().out
    assert sorted(copied) == ["a", "a", "a", "b", "b", "b"]


def test_a_worker_that_dies_is_a_failure_and_results_without_a_source_go(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    for name in "old.ipynb", ".a.ipynb.123.tmp":
        (tmp_path / "out" / name).write_text("{}")
    (tmp_path / "out" / "keys.json").write_text("{ torn")  # counts as empty
    write_notebook(tmp_path / "a.ipynb", "print(1)")
    monkeypatch.setattr(execute.sys, "executable", "/bin/false")
    (broken,) = run(tmp_path)
    assert "the worker ended with status 1" in broken.failure
    assert not list((tmp_path / "out").glob("*a*.ipynb*")) + list((tmp_path / "out").glob("old*"))


def test_outputs_and_counts_do_not_make_a_notebook_another(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "print(1)")
    before = keys.of_notebook(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    notebook.cells[1].execution_count = 7
    nbformat.write(notebook, path)
    assert keys.of_notebook(path) == before
    notebook.cells[1].metadata["tags"] = ["hide-input"]
    nbformat.write(notebook, path)
    assert keys.of_notebook(path) != before


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("trix/a.py", "the library"),
        ("trix/show/new.js", "the library"),
        ("constraints.txt", "the pins"),
        ("book/claims/records/x.jsonl", "the claims"),
    ],
)
def test_each_thing_that_matters_is_named_when_it_changes(tmp_path, path, name):
    for file in ("trix/a.py", "trix/show/w.js", "constraints.txt", "book/claims/claims.toml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("old")
    corpus = ("plays", "abc")
    quick: dict[str, object] = {"budget": "quick"}
    before = keys.shared(tmp_path, quick, corpus)

    def changed(budget=quick, text=corpus):
        return keys.changed(before, keys.shared(tmp_path, budget, text))

    (tmp_path / "trix" / "__pycache__").mkdir()
    (tmp_path / "trix" / "__pycache__" / "a.pyc").write_text("noise")
    assert changed() == []
    assert changed(text=("plays", "abd")) == ["the corpus changed"]
    assert changed({"budget": "full"}) == ["its parameters changed"]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("new")
    assert changed() == [f"{name} changed"]


DEATH = RuntimeError("Kernel died before replying to kernel_info")


@pytest.mark.parametrize(
    ("errors", "status", "told"),
    [
        ([], 0, ""),
        ([DEATH] * 2, 0, ""),
        ([DEATH] * 3, 1, "Kernel died"),
        ([OSError("no space left")] * 3, 1, "no space left"),
    ],
)
def test_only_a_kernel_that_dies_at_birth_is_started_again(
    tmp_path, monkeypatch, capsys, errors, status, told
):
    path, calls = write_notebook(tmp_path / "a.ipynb"), []

    def started(*given, **options):
        calls.append(given)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]

    monkeypatch.setattr("papermill.execute_notebook", started)
    assert execute.main(str(path), "b.ipynb", '{"seed": 1}') == status
    assert len(calls) == (1 if "space" in told else min(len(errors) + 1, execute.STARTS))
    out = capsys.readouterr().out
    assert told in out
    assert ("failure" in out) == bool(status)
    logging.disable(logging.NOTSET)


def test_a_parameter_that_a_notebook_does_not_have_is_refused(tmp_path, capsys):
    path = write_notebook(tmp_path / "a.ipynb")
    assert execute.main(str(path), "b.ipynb", '{"bugdet": "quick"}') == 1
    told = json.loads(capsys.readouterr().out)["failure"]
    assert told == "a.ipynb: parameters must be among ['budget', 'seed'], got ['bugdet']"
    logging.disable(logging.NOTSET)
