"""A grid of settings: which points it has, how it is written, and what is refused."""

import pytest

from trix.experiments.grid import grid, parse_settings, read_grid

SETTINGS = {"mixer": ["attention", "none"], "steps": [3, 4]}
NAMES = [f"mixer={m},steps={n}" for m in ("attention", "none") for n in (3, 4)]


def test_every_combination_is_there_once_in_order():
    points = grid("tiny", SETTINGS)
    assert [point.name for point in points] == NAMES
    assert [(p.recipe.changes, p.recipe.training) for p in points][1:3] == [
        ({"mixer": "attention"}, {"steps": 4}),
        ({"mixer": "none", "mixer_options": {}}, {"steps": 3}),
    ]
    assert len(grid("tiny", {"layers": [1, 2, 3], "lr": [1e-3, 2], "tied": [True, False]})) == 12


def test_settings_are_read_from_the_command_line():
    assert parse_settings(
        [
            "mixer=attention,routed-memory",
            "layers=2,4",
            "lr=1e-3",
            "tied=true,false",
            "ffn_options.branching=[8,8],[4]",
            "anneal=null,[1.0,0.5]",
        ]
    ) == {
        "mixer": ["attention", "routed-memory"],
        "layers": [2, 4],
        "lr": [0.001],
        "tied": [True, False],
        "ffn_options.branching": [[8, 8], [4]],
        "anneal": [None, [1.0, 0.5]],
    }
    for text in ("layers", "layers=", "=2"):
        with pytest.raises(ValueError, match=f"written name=value,value, got '{text}'"):
            parse_settings([text])
    with pytest.raises(ValueError, match="layers is given twice"):
        parse_settings(["layers=2", "layers=4"])


def test_a_grid_is_read_from_a_file(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'protocol = "tiny"\n[set]\nmixer = ["attention", "none"]\nlayers = 2\n'
        "ffn_options.hidden = [4, 8]\n"
    )
    assert read_grid(path) == (
        "tiny",
        {"mixer": ["attention", "none"], "layers": [2], "ffn_options.hidden": [4, 8]},
    )
    for text, message in (
        ("protocol = ", "corrupt grid"),
        ('protocol = "tiny"', r"must hold protocol and a table \[set\], got \['protocol'\]"),
        ('protocol = "tiny"\nset = 3', "must hold protocol"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_grid(path)


def test_single_options_join_those_of_the_protocol():
    points = grid("tiny", {"ffn": ["tiled"], "loss_weights.load-balance": [0.1, 0.2]})
    weights = [point.recipe.training["loss_weights"] for point in points]
    assert weights == [{"load-balance": 0.1}, {"load-balance": 0.2}]
    (point,) = grid("tiny", {"mixer_options.bias": [True]})
    assert point.recipe.changes == {"mixer_options": {"heads": 2, "bias": True}}
    (point,) = grid("tiny", {"mixer_options": [{"heads": 4}], "ffn_options.hidden": [3]})
    assert point.recipe.changes == {"mixer_options": {"heads": 4}, "ffn_options": {"hidden": 3}}


def test_options_that_a_part_does_not_take_go_with_the_one_that_does():
    points = grid("seed", {"mixer": ["attention", "routed-memory"], "layers": [1]})
    assert points[0].recipe.changes == {"mixer": "attention", "layers": 1}
    assert points[1].recipe.changes["mixer_options"] == {"heads": 4}  # neither bias nor dropout
    changes = {"ffn": "random-lookup", "ffn_options": {"tiles": 64}}
    (point,) = grid("tiny", {name: [value] for name, value in changes.items()})
    assert point.recipe.changes == changes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "at least one setting, got none"),
        ({"depth": [2]}, r"unknown setting 'depth'; known are \['bias', 'dim'.*'lr'.*mixer_opti"),
        ({"vocab_size": [9]}, "unknown setting 'vocab_size'"),
        ({"layers.x": [9]}, "unknown setting 'layers.x'"),
        ({"mixer_options.": [9]}, "unknown setting 'mixer_options.'"),
        ({"mixer": ["lstm"]}, r"mixer=lstm: mixer must be one of \['attention', .*'routed-memory'"),
        ({"ffn": ["moe"]}, r"ffn=moe: ffn must be one of .*'tiled'"),
        ({"mixer_options.slots": [4]}, r"of attention must be among \['bias', 'dropout', 'heads'"),
        ({"mixer_options.heads": [3]}, "mixer_options.heads=3: .*3"),
        ({"layers": [1, 0]}, "layers=0: layers must be"),
        ({"layers": ["two"]}, "layers must be of type int, got 'two'"),
        ({"layers": [True]}, "layers must be of type int, got True"),
        ({"tied": [1]}, "tied must be of type bool, got 1"),
        ({"lr": [-1.0]}, "lr must be finite and not negative, got -1.0"),
        ({"schedule": ["square"]}, "schedule must be one of"),
        ({"loss_weights.speed": [1.0]}, "unknown routing losses .*known are .*load-balance"),
        ({"positions": [4]}, "positions must be 0 or at least 6"),
        ({"context": [7]}, "positions must be 0 or at least 7"),
        (
            {"ffn": ["random-lookup"], "ffn_options.hidden": [64]},
            "unexpected keyword argument 'hidden'",
        ),
        ({"layers": []}, r"layers needs values, none of them twice, got \[\]"),
        ({"layers": [1, 2, 1]}, r"layers needs values, none of them twice, got \['1', '2', '1'\]"),
    ],
)
def test_bad_settings_say_what_is_allowed(settings, message):
    with pytest.raises(ValueError, match=message):
        grid("tiny", settings)
