"""The notebooks' first cell carries the address that `_config.yml` holds."""

from pathlib import Path

import colab
import nbformat

ROOT = Path(__file__).parents[2]
ADDRESS = "https://example.org/someone/book"


def a_notebook(tmp_path, address):
    (tmp_path / "notebooks").mkdir(exist_ok=True)
    (tmp_path / "_config.yml").write_text(f'repository: {{url: "{address}", branch: main}}\n')
    path = tmp_path / "notebooks" / "a.ipynb"
    if not path.exists():
        cells = [nbformat.v4.new_markdown_cell("# Title")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_the_notebooks_agree_with_the_settings():
    assert [path.name for path in colab.outdated(ROOT)] == [], "run: python book/colab.py"


def test_the_cell_comes_changes_and_goes_with_the_address(tmp_path, monkeypatch):
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    path = a_notebook(tmp_path, "")
    untouched = path.read_bytes()
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
    assert nbformat.reads(path.read_text(), 4).cells == nbformat.reads(untouched.decode(), 4).cells


def test_elsewhere_the_cell_does_nothing(tmp_path):
    from IPython.core.inputtransformer2 import TransformerManager

    source = colab.first_cell(ADDRESS, "main")
    names: dict = {"get_ipython": None}
    exec(TransformerManager().transform_cell(source), names)
    assert "google.colab" not in names["sys"].modules
