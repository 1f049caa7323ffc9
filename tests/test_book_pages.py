"""Pages without one first heading, and pictures without words, are found."""

import pages
import pytest

H1 = "<h1>Title</h1>"


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<h2>No first heading</h2>", "expected one <h1>, found 0"),
        (H1 + H1, "expected one <h1>, found 2"),
        (H1 + '<img src="a.png">', "has no alt text"),
        (H1 + '<img src="a.png" alt=" ">', "has no alt text"),
        (H1 + "<svg><path/></svg>", "has no role and label"),
        (H1 + '<svg aria-label="a line"><path/></svg>', "has no role and label"),
        (H1 + '<svg role="img"><path/></svg>', "has no role and label"),
        (H1 + "<svg><title> </title></svg>", "has no role and label"),
        (H1 + '<svg role="img" aria-label="ok"></svg><svg><g/></svg>', "has no role and label"),
    ],
)
def test_what_is_missing_is_named(html, found):
    (problem,) = pages.problems(html)
    assert found in problem


@pytest.mark.parametrize(
    "html",
    [
        H1,
        H1 + '<img src="a.png" alt="a curve">',
        H1 + '<img src="a.png" role="presentation" alt="">',
        H1 + '<svg role="img" aria-label="a line"><path/></svg>',
        H1 + "<svg><title>a line</title><path/></svg>",
        H1 + '<svg aria-hidden="true"><path/></svg>',
        H1 + '<svg role="img" aria-label="outer"><svg><path/></svg></svg>',
        '<meta http-equiv="Refresh" content="0; url=book/index.html"/>',
    ],
)
def test_a_good_page_has_no_problems(html):
    assert pages.problems(html) == []
