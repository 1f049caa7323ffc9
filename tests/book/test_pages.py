"""What a finished page must not have: loads from other hosts, two titles, silent pictures."""

import codecs

import latex_names
import offline
import pages
import pytest

H1 = "<h1>Title</h1>"


FOREIGN = """\
<script src="https://cdn.example.org/a.js"></script>
<script src="//cdn.example.org/a.js"></script>
<script type="module">import x from "https://cdn.example.org/a.js"</script>
<link rel="stylesheet" href="https://cdn.example.org/a.css">
<link rel="preconnect" href="https://cdn.example.org">
<link rel="shortcut icon" href="https://cdn.example.org/i.png">
<img src="https://cdn.example.org/a.png">
<img srcset="a.png 1x, https://cdn.example.org/a.png 2x">
<iframe src="https://cdn.example.org/"></iframe>
<svg><image href="https://cdn.example.org/a.png"/></svg>
<style>@import "https://cdn.example.org/a.css";</style>
<style>@font-face{src:url(//cdn.example.org/a.woff2)}</style>
<p style="background:url(https://cdn.example.org/a.png)">text</p>
<video poster="https://cdn.example.org/a.png"></video>
"""
LOCAL = """\
<a href="https://example.org/">a link</a>
<link rel="canonical" href="https://example.org/">
<script src="_static/a.js?digest=1"></script>
<img src="data:image/png;base64,AA//AA==">
<script type="application/json">{"url": "import 'https://example.org/'"}</script>
<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>
<style>a{background:url("data:image/svg+xml,%3Csvg xmlns='http://x'/%3E")}</style>
<code>url(https://example.org)</code>"""


@pytest.mark.parametrize("html", (FOREIGN + LOCAL).split("\n"))
def test_only_a_load_from_another_host_is_found(html):
    found = offline.foreign_in_html(html)
    assert len(found) == (html in FOREIGN)
    assert all("cdn.example.org" in address for address in found)


def test_a_folder_is_searched_for_pages_and_styles_and_comments_load_nothing(tmp_path):
    assert offline.foreign_in_css("/* url(https://example.org/a) */ a{}") == []
    assert offline.foreign_in_css("a{b:url('https://example.org/a')}") == ["https://example.org/a"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.html").write_text('<img src="https://example.org/a.png">')
    (tmp_path / "b.css").write_text("@import 'http://example.org/b.css';")
    (tmp_path / "c.txt").write_text('<img src="https://example.org/a.png">')
    assert offline.foreign(tmp_path) == [
        "b.css loads http://example.org/b.css",
        "deep/a.html loads https://example.org/a.png",
    ]


def test_mathjax_comes_whole_out_of_its_package(tmp_path):
    offline.copy_mathjax(tmp_path)
    script = (tmp_path / "tex-chtml-full.js").read_text(encoding="utf-8")
    assert "boldsymbol" in script
    fonts = list((tmp_path / "output/chtml/fonts/woff-v2").glob("*.woff"))
    assert len(fonts) > 20
    assert all(font.read_bytes()[:4] == b"wOFF" for font in fonts)


def test_names_in_latex_can_be_decoded():
    latex_names.release_codec_names()
    from pybtex.richtext import Text

    assert str(Text.from_latex("J{\\'e}gou")) == "Jégou"
    with pytest.raises(LookupError):
        codecs.lookup("a codec that does not exist")


LABEL = "has no role and label"


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<h2>No first heading</h2>", "expected one <h1>, found 0"),
        (H1 + H1, "expected one <h1>, found 2"),
        (H1 + '<img src="a.png">', "has no alt text"),
        (H1 + '<img src="a.png" alt=" ">', "has no alt text"),
        (H1 + "<svg><path/></svg>", LABEL),
        (H1 + '<svg aria-label="a line"><path/></svg>', LABEL),
        (H1 + '<svg role="img"><path/></svg>', LABEL),
        (H1 + "<svg><title> </title></svg>", LABEL),
        (H1 + '<svg role="img" aria-label="ok"></svg><svg><g/></svg>', LABEL),
        (H1, ""),
        (H1 + '<img src="a.png" alt="a curve">', ""),
        (H1 + '<img src="a.png" role="presentation" alt="">', ""),
        (H1 + '<svg role="img" aria-label="a line"><path/></svg>', ""),
        (H1 + "<svg><title>a line</title><path/></svg>", ""),
        (H1 + '<svg aria-hidden="true"><path/></svg>', ""),
        (H1 + '<svg role="img" aria-label="outer"><svg><path/></svg></svg>', ""),
        ('<meta http-equiv="Refresh" content="0; url=book/index.html"/>', ""),
    ],
)
def test_what_is_missing_in_a_page_is_named(html, found):
    problems = pages.problems(html)
    assert len(problems) == bool(found)
    assert all(found in problem for problem in problems)
