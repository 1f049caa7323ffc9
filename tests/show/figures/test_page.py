"""What a notebook tells its page."""

import importlib.util
import re
import time

import myst_nb
import numpy as np
import pytest
import torch

from trix.lab.corpus import Corpus
from trix.show import glue, provenance

TEXT = Corpus(name="tiny <text>", source="a test & nothing else", text="to be or not to be")


def facts(box) -> dict[str, str]:
    return dict(re.findall(r"<dt[^>]*>(.*?)</dt><dd[^>]*>(.*?)</dd>", box.data))


def test_glue_keeps_the_value_where_a_book_is_made(monkeypatch):
    kept = []
    monkeypatch.setattr(myst_nb, "glue", lambda *given, display: kept.append((*given, display)))
    glue("loss", "1.88")
    assert kept == [("loss", "1.88", False)]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "myst_nb" else find(name)
    )
    glue("loss", "1.88")
    assert len(kept) == 1
    for name in ("", "  ", None):
        with pytest.raises(ValueError, match="name: expected"):
            glue(name, 1)  # pyright: ignore[reportArgumentType]


def test_provenance_says_how_the_numbers_came_about():
    started = time.perf_counter() - 7.2
    said = facts(provenance(corpus=TEXT, seeds=[3, 5], budget="quick", started=started))
    assert (said["budget"], said["seeds"]) == ("quick", "3, 5")
    for part in (TEXT.sha256[:8], "tiny &lt;text&gt;", "a test &amp; nothing else"):
        assert part in said["corpus"]
    for version in (torch.__version__, np.__version__, "trix 0.", "Python 3."):
        assert version in said["versions"]
    assert said["threads"] == str(torch.get_num_threads())
    assert int(said["seconds"].split()[0]) >= 7
    assert said["device"]
    box = provenance(corpus=None, seeds=[0], budget="full", started=started)
    assert facts(box)["corpus"] == "none"
