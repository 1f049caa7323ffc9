"""The folder that Jupyter Book reads is laid out as it should be; notebooks carry its address."""

import re
from pathlib import Path

import colab
import nbformat
import pytest
import stage
import yaml
from execute import Run

from tests import size

ROOT = Path(__file__).parents[2]
ADDRESS = "https://example.org/someone/book"


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_buttons_need_an_address_and_execution_stays_off(address):
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())
    settings["repository"]["url"] = address
    settings = yaml.safe_load(stage.config(yaml.safe_dump(settings)))
    buttons = [name for name in settings["html"] if re.fullmatch("use_.*_button", name)]
    assert bool(buttons) == ("launch_buttons" in settings) == ("repository" in settings)
    assert bool(buttons) == bool(address)
    if address:
        assert settings["repository"]["url"] == address
        assert settings["launch_buttons"]["colab_url"]
        assert settings["launch_buttons"]["binderhub_url"]
        assert settings["html"]["use_repository_button"] is True
    assert settings["execute"]["execute_notebooks"] == "off"


def test_a_staged_notebook_hides_injected_parameters_and_forgets_times(tmp_path):
    content = nbformat.v4.new_notebook(metadata={"papermill": {"duration": 3.1}})
    injected = nbformat.v4.new_code_cell(
        'budget = "quick"',
        metadata={"tags": ["injected-parameters"], "papermill": {"duration": 1.0}},
    )
    content.cells = [injected, nbformat.v4.new_code_cell("x", metadata={"tags": ["hide-input"]})]
    nbformat.write(content, tmp_path / "a.ipynb")
    staged = nbformat.reads(stage.notebook(tmp_path / "a.ipynb").decode(), as_version=4)
    assert "papermill" not in staged.metadata
    assert [dict(cell.metadata) for cell in staged.cells] == [
        {"tags": ["injected-parameters", "remove-cell"]},
        {"tags": ["hide-input"]},
    ]


def test_sync_leaves_exactly_the_given_files(tmp_path):
    stage.sync(tmp_path, {"a.md": b"1", "deep/b.md": b"2", "gone/c.md": b"3"})
    untouched = (tmp_path / "a.md").stat().st_mtime_ns
    stage.sync(tmp_path, {"a.md": b"1", "deep/b.md": b"new"})
    assert (tmp_path / "a.md").stat().st_mtime_ns == untouched
    left = {
        str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()
    }
    assert left == {"a.md": b"1", "deep/b.md": b"new"}
    assert not (tmp_path / "gone").exists()


def test_the_contents_list_every_page_and_chapter_and_nothing_else(tmp_path):
    assert stage.missing_from_toc(ROOT) == []
    for name in "book/index.md", "notebooks/07-new.ipynb":
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "_toc.yml").write_text(
        "root: book/index\nparts:\n- chapters:\n  - file: notebooks/06-old\n"
    )
    assert stage.missing_from_toc(tmp_path) == [
        "notebooks/07-new is not in _toc.yml",
        "notebooks/06-old is in _toc.yml and does not exist",
    ]


def test_the_table_of_seconds_adds_up():
    runs = [Run(Path("notebooks/00-a.ipynb"), 1.25), Run(Path("notebooks/01-b.ipynb"), 30.5)]
    table = stage.seconds_table(runs, "quick")
    assert "| [](../notebooks/00-a.ipynb) | 1.2 |" in table
    assert "| [](../notebooks/01-b.ipynb) | 30.5 |" in table
    assert "| 31.8 |" in table


def test_the_reference_names_everything_that_is_public():
    text = stage.api(ROOT / "trix")
    assert [name for name in size.public_names() if f"`{name.split('.')[-1]} <" not in text] == []
    assert ".. automodule:: trix.lab.train\n" in text
    assert text.count("\n## ") == 4
    for name in "execution", "api":  # every generated part is shown by a page
        assert f"_generated/{name}.md" in (ROOT / "book" / f"{name}.md").read_text()


def test_the_staged_book_has_executed_chapters_and_records_and_no_scripts(tmp_path):
    chapter = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# executed")])
    nbformat.write(chapter, tmp_path / "00-look-it-up.ipynb")
    runs = [Run(ROOT / "notebooks" / "00-look-it-up.ipynb", 1.0)]
    files = stage.book(ROOT, tmp_path, runs, "quick")
    assert [name for name in files if name.endswith(".ipynb")] == ["notebooks/00-look-it-up.ipynb"]
    assert b"# executed" in files["notebooks/00-look-it-up.ipynb"]
    scripts = {Path(name).parent for name in files if name.endswith(".py")}
    assert scripts == {Path("book/_ext")}
    assert not [name for name in files if name.startswith("book/claims")]
    records = (ROOT / "book" / "claims" / "records").glob("*.jsonl")  # the ledger links to them
    expected = {f"book/_static/records/{path.name}": path.read_bytes() for path in records}
    staged = {name: files[name] for name in files if name.startswith("book/_static/records/")}
    assert staged == expected != {}


def a_notebook(tmp_path, address):
    (tmp_path / "notebooks").mkdir(exist_ok=True)
    (tmp_path / "_config.yml").write_text(f'repository: {{url: "{address}", branch: main}}\n')
    path = tmp_path / "notebooks" / "a.ipynb"
    if not path.exists():
        cells = [nbformat.v4.new_markdown_cell("# Title")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_the_cell_comes_changes_and_goes_with_the_address(tmp_path, monkeypatch):
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    assert [path.name for path in colab.outdated(ROOT)] == [], "run: python book/colab.py"
    path = a_notebook(tmp_path, "")
    untouched = nbformat.read(path, as_version=4).cells
    assert colab.outdated(tmp_path) == []

    a_notebook(tmp_path, ADDRESS)
    assert colab.outdated(tmp_path) == [path]
    colab.main()
    assert colab.outdated(tmp_path) == []
    first, title = nbformat.read(path, as_version=4).cells
    assert ADDRESS in first.source
    assert first.metadata.tags == ["remove-cell"]
    assert title.source == "# Title"

    a_notebook(tmp_path, ADDRESS + "-moved")
    assert colab.outdated(tmp_path) == [path]
    colab.main()
    assert len(nbformat.read(path, as_version=4).cells) == 2

    a_notebook(tmp_path, "")
    colab.main()
    assert nbformat.read(path, as_version=4).cells == untouched


def test_elsewhere_the_cell_does_nothing(tmp_path):
    from IPython.core.inputtransformer2 import TransformerManager

    source = colab.first_cell(ADDRESS, "main")
    names: dict = {"get_ipython": None}
    exec(TransformerManager().transform_cell(source), names)
    assert "google.colab" not in names["sys"].modules
