"""Notebooks are executed when something they depend on has changed, and only then."""

import json
import logging
import os
import sys

import execute
import keys
import nbformat
import pytest

PARAMETERS = 'budget = "unset"\nseed = 0'


def write_notebook(path, *sources):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook.cells = [first, *(nbformat.v4.new_code_cell(source) for source in sources)]
    nbformat.write(notebook, path)
    return path


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.text for cell in cells for out in cell.get("outputs", []) if "text" in out)


def run(folder, depends=None, budget="quick"):
    return execute.run_all(
        sorted(folder.glob("*.ipynb")),
        folder / "out",
        {"budget": budget},
        {"the library": "one", **(depends or {})},
        jobs=2,
    )


def test_a_notebook_is_executed_with_its_parameters_on_one_thread(tmp_path):
    source = "import os, torch\nprint(budget, seed, torch.get_num_threads(), os.getcwd())"
    write_notebook(tmp_path / "a.ipynb", source)
    (first,) = run(tmp_path)
    assert (first.cached, first.failure) == (False, "")
    assert outputs(tmp_path / "out" / "a.ipynb") == f"quick 0 1 {os.path.realpath(tmp_path)}\n"


def test_only_what_changed_is_executed_again(tmp_path, capsys):
    write_notebook(tmp_path / "a.ipynb", "print(1)")
    write_notebook(tmp_path / "b.ipynb", "print(2)")
    run(tmp_path)
    assert [again.cached for again in run(tmp_path)] == [True, True]

    write_notebook(tmp_path / "b.ipynb", "print(3)")
    assert [again.cached for again in run(tmp_path)] == [True, False]
    assert "b: its cells changed" in capsys.readouterr().out
    assert outputs(tmp_path / "out" / "b.ipynb") == "3\n"

    assert [again.cached for again in run(tmp_path, {"the library": "two"})] == [False, False]
    assert "a: the library changed" in capsys.readouterr().out


def test_a_notebook_that_raises_stops_no_other_and_is_not_kept(tmp_path, capsys):
    write_notebook(tmp_path / "a.ipynb", "print(1)")
    write_notebook(tmp_path / "b.ipynb", "print(2)")
    run(tmp_path)
    write_notebook(tmp_path / "a.ipynb", "good = 1", "bad = good / 0", "print('never')")
    write_notebook(tmp_path / "b.ipynb", "print(22)")
    broken, other = run(tmp_path)
    assert "a.ipynb, cell 3 of 4 raised" in broken.failure
    assert "bad = good / 0" in broken.failure
    assert "ZeroDivisionError" in broken.failure
    assert other.failure == ""
    assert outputs(tmp_path / "out" / "b.ipynb") == "22\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.ipynb", "keys.json"]
    assert "a" not in json.loads((tmp_path / "out" / "keys.json").read_text())


def test_a_kernel_that_dies_is_a_failure(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "import os\nos._exit(3)")
    (broken,) = run(tmp_path)
    assert "a.ipynb, cell 2 of 2" in broken.failure
    assert "died" in broken.failure.lower()


def test_a_worker_that_dies_is_a_failure(tmp_path, monkeypatch):
    write_notebook(tmp_path / "a.ipynb", "print(1)")
    monkeypatch.setattr(execute.sys, "executable", "/bin/false")
    assert sys.executable == "/bin/false"
    (broken,) = run(tmp_path)
    assert "the worker ended with status 1" in broken.failure


def test_results_without_a_source_go(tmp_path):
    write_notebook(tmp_path / "a.ipynb")
    (tmp_path / "out").mkdir()
    for name in ("old.ipynb", ".a.ipynb.123.tmp"):
        (tmp_path / "out" / name).write_text("{}")
    execute.run_all([], tmp_path / "out", {}, {}, jobs=1)
    assert list((tmp_path / "out").iterdir()) == []


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
def test_each_file_that_matters_is_named_when_it_changes(tmp_path, path, name):
    for file in ("trix/a.py", "trix/show/w.js", "constraints.txt", "book/claims/claims.toml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("old")
    corpus = ("plays", "abc")
    before = keys.shared(tmp_path, {"budget": "quick"}, corpus)
    (tmp_path / "trix" / "__pycache__").mkdir()
    (tmp_path / "trix" / "__pycache__" / "a.pyc").write_text("noise")
    assert keys.changed(before, keys.shared(tmp_path, {"budget": "quick"}, corpus)) == []
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("new")
    after = keys.shared(tmp_path, {"budget": "quick"}, corpus)
    assert keys.changed(before, after) == [f"{name} changed"]


def test_corpus_and_parameters_are_named_when_they_change(tmp_path):
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "trix").mkdir()
    before = keys.shared(tmp_path, {"budget": "quick"}, ("plays", "abc"))
    other_text = keys.shared(tmp_path, {"budget": "quick"}, ("plays", "abd"))
    other_budget = keys.shared(tmp_path, {"budget": "full"}, ("plays", "abc"))
    assert keys.changed(before, other_text) == ["the corpus changed"]
    assert keys.changed(before, other_budget) == ["its parameters changed"]


def test_a_ledger_that_cannot_be_read_counts_as_empty(tmp_path):
    (tmp_path / "keys.json").write_text("{ torn")
    assert execute.Ledger(tmp_path).hashes("a") is None


@pytest.mark.parametrize(("deaths", "status"), [(0, 0), (2, 0), (3, 1)])
def test_a_kernel_that_dies_at_birth_is_started_again(monkeypatch, capsys, deaths, status):
    calls = []

    def started(*given, **options):
        calls.append(given)
        if len(calls) <= deaths:
            raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr("papermill.execute_notebook", started)
    assert execute.main("a.ipynb", "b.ipynb", "{}") == status
    assert len(calls) == min(deaths + 1, execute.STARTS)
    assert ("failure" in capsys.readouterr().out) == bool(status)
    logging.disable(logging.NOTSET)


def test_another_failure_is_not_tried_again(monkeypatch, capsys):
    calls = []

    def broken(*given, **options):
        calls.append(given)
        raise OSError("no space left")

    monkeypatch.setattr("papermill.execute_notebook", broken)
    assert execute.main("a.ipynb", "b.ipynb", "{}") == 1
    assert len(calls) == 1
    assert "no space left" in capsys.readouterr().out
    logging.disable(logging.NOTSET)
