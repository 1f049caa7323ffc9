"""Typed numbers are found in prose, and nowhere else."""

import json
from pathlib import Path

import prose
import pytest
import roles
import yaml

ROOT = Path(__file__).parents[2]


PASSED_OVER = [
    "No number at all, one or two words.",
    "Code `x = 8.2` in a line.",
    "```python\nloss = 8.2\n```",
    "    indented = 8.2",
    "```{code-block} python\nloss = 8.2\n```",
    "Maths $8.2 \\cdot 10^3$ in a line.",
    "$$\n8.2\n$$",
    "\\begin{align}\n8.2\n\\end{align}",
    "```{math}\n:label: eq2\n8.2\n```",
    "[a link about 8.2](https://example.org/2)",
    "<https://example.org/2016>",
    "{glue:text}`loss:.2f` and {constant}`nano.context2`",
    "```{glue:figure} fig2\n```",
    "{cite}`vaswani2017attention`",
    "1. one\n2. two",
    "```{figure} a2.svg\n:name: fig-2\n:alt: 3 bars\n:width: 80%\n\nA caption.\n```",
    ":::{note}\n---\nclass: w50\n---\nText.\n:::",
    "<!-- a note of 2016 -->",
    '<svg viewBox="0 0 9 9"><text>8</text></svg>',
    '<div style="width: 50%">text</div>',
    "---\ntitle: 3\n---\n\nText.",
    "(label-2)=\n## A heading",
    "The claims A1 and (P2 to P4), M6.",
    "a <code>8</code> b",
]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("The loss is 8.2 nats.", ["8.2"]),
        ("It is 3 % better, or 2.5x.", ["3", "2.5x"]),
        ("A share of ½ is left.", ["½"]),
        ("# Chapter 7", ["7"]),
        ("- a list with 12 things", ["12"]),
        ("> said 5 times", ["5"]),
        ("| a | b |\n| - | - |\n| x | 41 |", ["41"]),
        ("**1,234** and *56*", ["1,234", "56"]),
        ("text\n: with 9 definitions", ["9"]),
        ("<div>about 77</div>", ["77"]),
        ("before <b>78</b> after", ["78"]),
        ("![a curve that ends at 88](x.png)", ["88"]),
        ("$x$ is 9", ["9"]),
        ("GPT-2 on a 64×64 grid", ["GPT-2", "64×64"]),
        (":::{note}\nIt took 31 s.\n:::", ["31"]),
        ("```{admonition} All 4 of them\nfine\n```", ["4"]),
        ("::::{note}\n:::{tip}\nnested 17\n:::\n::::", ["17"]),
        ("```{figure} a2.svg\n:alt: 3 bars\n\nCaption with 18.\n```", ["18"]),
        ("```{glossary}\nword\n  It is 6.\n```", ["6"]),
        ("<p>\n<svg>8</svg> 5\n</p>", ["5"]),
        ("A100 is not a claim, nor is a1.", ["A100", "a1"]),
        ("[^note]\n\n[^note]: A footnote of 21.", ["21"]),
        *((text, []) for text in PASSED_OVER),
    ],
)
def test_typed_numbers_are_found_in_prose_alone(markdown, expected):
    assert [found.number for found in prose.typed_numbers(markdown)] == expected


def test_a_number_is_told_with_its_line_and_surroundings():
    text = "# Title\n\nNothing.\n\nA line\nand 8.2 here.\n\n:::{note}\n:class: x\n\nDeep\n9\n:::\n"
    found = prose.typed_numbers(text)
    assert [(one.line, one.number) for one in found] == [(6, "8.2"), (12, "9")]
    assert "'8.2'" in str(found[0])
    assert "and 8.2 here" in str(found[0])


def test_a_notebook_is_read_cell_by_cell():
    figure = {"mystnb": {"figure": {"caption": "It ends at 4.", "name": "fig-2"}}}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Fine\n", "\n", "text"]},
        {"cell_type": "code", "metadata": {}, "source": "x = 8.2"},
        {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "b = 1"},
        {"cell_type": "markdown", "metadata": {}, "source": ["line\n", "and 8.2"]},
        {"cell_type": "markdown", "metadata": {"tags": ["remove-cell"]}, "source": "8.2"},
        {"cell_type": "code", "metadata": figure, "source": "y = 3"},
    ]
    found = prose.typed_numbers_in_notebook(json.dumps({"cells": cells}))
    assert [(cell, number.line, number.number) for cell, number in found] == [
        (3, 2, "8.2"),
        (5, 1, "4"),
    ]


def test_the_check_parses_what_the_book_parses():
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert set(settings["parse"]["myst_enable_extensions"]) == prose.SYNTAX


def test_a_constant_is_shown_with_its_source_and_refused_without():
    declared = roles.parse_constants(
        '[a]\nsource = "there"\nx = 64\ny = {value = "1.88", source = "elsewhere"}\nz = 875585\n'
    )
    assert declared == {
        "a.x": roles.Shown("64", "there"),
        "a.y": roles.Shown("1.88", "elsewhere"),
        "a.z": roles.Shown("875,585", "there"),
    }
    for text in "[a]\nx = 1\n", '[a]\nx = {source = "there"}\n':
        with pytest.raises(ValueError, match=r"a\.x: expected a value and a source"):
            roles.parse_constants(text)
    with pytest.raises(KeyError, match=r"nano\.context.*'nano\.kontext'"):
        roles.constant("nano.kontext")
