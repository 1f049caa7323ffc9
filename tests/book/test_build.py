"""A small book goes through the real build: what it must hold, and what must stop it."""

import re
import shutil
import threading
import time
from pathlib import Path

import build
import nbformat
import pytest
import stage
import yaml
from execute import Run

ROOT = Path(__file__).parents[2]
ADDRESS = "https://github.com/someone/book"
INDEX = "# A small book\n\nA context of {constant}`nano.context` characters, $x^2$.\n"
ALT = '<svg role="img" aria-label="a line" viewBox="0 0 9 9"><path d="M0 0L9 9"/></svg>'


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    for name in ("_ext", "_static", "_templates", "_vendor"):
        shutil.copytree(ROOT / "book" / name, tmp_path / "book" / name)
    for name in ("constants.toml", "references.bib"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book" / name)
    (tmp_path / "trix").mkdir()
    (tmp_path / "book" / "claims").mkdir()
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: notebooks/a\n"
    )
    monkeypatch.setattr(stage, "tables", lambda *_: {})

    def make(index=INDEX, output=ALT, address=""):
        settings = yaml.safe_load((ROOT / "_config.yml").read_text())
        settings["repository"]["url"] = address
        (tmp_path / "_config.yml").write_text(yaml.safe_dump(settings))
        (tmp_path / "book" / "index.md").write_text(index)
        shown = nbformat.v4.new_output("display_data", data={"text/html": output})
        cells = [
            nbformat.v4.new_markdown_cell("# A chapter", id="a"),
            nbformat.v4.new_code_cell("show()", outputs=[shown], id="b"),
        ]
        about = {"language_info": {"name": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=about), tmp_path / "a.ipynb")
        runs = [Run(tmp_path / "notebooks" / "a.ipynb", 1.0)]
        return build.build_html(stage.book(tmp_path, tmp_path, runs, "quick"))

    return make


@pytest.mark.slow
def test_a_book_with_an_address_is_built_once_and_offers_to_launch(small_book, tmp_path, capfd):
    assert small_book(address=ADDRESS)
    html = tmp_path / "_build" / "html"
    chapter = (html / "notebooks" / "a.html").read_text()
    assert "colab.research.google.com/github/someone/book/blob/main/notebooks/a.ipynb" in chapter
    assert "mybinder.org/v2/gh/someone/book/main" in chapter
    assert f'href="{ADDRESS}"' in chapter
    index = (html / "book" / "index.html").read_text()
    assert re.search('<abbr class="constant" title="nanoGPT[^"]*">64</abbr>', index)
    assert "thebe" not in index
    assert (html / "_static" / "mathjax" / "tex-chtml-full.js").is_file()

    capfd.readouterr()
    assert small_book(address=ADDRESS)
    assert "The pages are up to date" in capfd.readouterr().out


WRONG = "# A small book\n\nA loss of 8.2 nats, {constant}`nano.kontext`, {cite}`nobody1999`.\n"
SILENT = '<h1>B</h1><img alt="x" src="https://cdn.example.org/x.png"><svg><path/></svg>'


def test_mistakes_in_the_text_and_in_the_pages_stop_the_build(small_book, tmp_path, capfd):
    assert not small_book(index=WRONG, output=SILENT)
    told = capfd.readouterr().err
    assert "index.md:3: WARNING: typed number '8.2'" in told
    assert "nano.kontext" in told
    assert "nobody1999" in told
    assert "notebooks/a.html loads https://cdn.example.org/x.png" in told
    assert "notebooks/a.html: expected one <h1>, found 2" in told
    assert "notebooks/a.html: <svg> has no role and label" in told
    assert not (tmp_path / "_build" / "html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"index": WRONG}, {"output": SILENT}])
def test_each_mistake_stops_the_build_each_time(small_book, tmp_path, wrong):
    for _ in range(2):
        assert not small_book(**wrong)
        assert not (tmp_path / "_build" / "html").exists()


def test_a_second_build_waits_for_the_first(tmp_path, capsys):
    def second():
        with build.alone(tmp_path):
            done.append("second")

    done = []
    other = threading.Thread(target=second)
    with build.alone(tmp_path):
        other.start()
        while "waiting until it is done" not in capsys.readouterr().out:
            time.sleep(0.01)
        done.append("first")
    other.join()
    assert done == ["first", "second"]
