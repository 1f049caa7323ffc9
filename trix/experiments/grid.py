"""A grid of settings: every combination of the values given is one way to train a model."""

import dataclasses
import inspect
import itertools
import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trix.experiments.arm import Arm, Training, quality
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import Protocol, protocol
from trix.models.charlm import FFNS, MIXERS, CharLM, LMConfig

Settings = dict[str, list[Any]]  # the values to try of each setting, by its name

MODEL = {f.name for f in dataclasses.fields(LMConfig)} - {"vocab_size"}  # which the text decides
TRAINING = {f.name for f in dataclasses.fields(TrainConfig)}
OPTIONS = ("mixer_options", "ffn_options", "loss_weights")
"""Settings that hold others: `mixer_options.slots` is one entry of the first."""


@dataclass(frozen=True)
class Point:
    """One combination: a value for every setting, and what trains a model with them."""

    values: dict[str, Any]
    recipe: Training

    @property
    def arm(self) -> Arm:
        """Trains it and judges it, see `quality`."""
        return Arm(self.recipe, (quality,))

    @property
    def name(self) -> str:
        """The settings in one word, as `mixer=attention,layers=2`."""
        return ",".join(f"{key}={text_of(value)}" for key, value in self.values.items())


def text_of(value: Any) -> str:
    """Return a value as it is written in `--set`."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def parse_settings(texts: Iterable[str]) -> Settings:
    """Return the settings written as `name=value,value`: each is JSON, or else a word."""
    settings: Settings = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (name and equals and values):
            raise ValueError(f"a setting must be written name=value,value, got {text!r}")
        if name in settings:
            raise ValueError(f"setting {name} is given twice; write its values in one list")
        try:
            settings[name] = json.loads(f"[{values}]")
        except json.JSONDecodeError:
            settings[name] = [_value(word) for word in values.split(",")]
    return settings


def read_grid(path: Path) -> tuple[str, Settings]:
    """Return `protocol` and the table `[set]` of a TOML file: a list of values, or one, by name."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"corrupt grid {path}: {error}") from error
    if set(values) != {"protocol", "set"} or not isinstance(values["set"], dict):
        raise ValueError(f"{path} must hold protocol and a table [set], got {sorted(values)}")
    settings = {}
    for name, given in values["set"].items():
        if name in OPTIONS and isinstance(given, dict):
            settings |= {f"{name}.{key}": value for key, value in given.items()}
        else:
            settings[name] = given
    listed = {name: v if isinstance(v, list) else [v] for name, v in settings.items()}
    return values["protocol"], listed


def grid(name: str, settings: Settings) -> list[Point]:
    """Return every combination of the settings' values; the last setting changes fastest."""
    base = protocol(name)
    if not settings:
        raise ValueError("a sweep needs at least one setting, got none")
    for key, values in settings.items():
        _check_name(key)
        texts = [text_of(value) for value in values]
        if not values or len(set(texts)) < len(texts):
            raise ValueError(f"{key} needs values, none of them twice, got {texts}")
    points = []
    for values in itertools.product(*settings.values()):
        chosen = dict(zip(settings, values, strict=True))
        point = Point(chosen, Training(name, *_changes(base, chosen)))
        try:
            _check(base, point.recipe)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{point.name}: {error}") from error
        points.append(point)
    return points


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word


def _check_name(key: str) -> None:
    group, dot, option = key.partition(".")
    if (group in OPTIONS and option) if dot else key in MODEL | TRAINING:
        return
    raise ValueError(
        f"unknown setting {key!r}; known are {sorted(MODEL)} of the model, {sorted(TRAINING)} of "
        f"the training, and single entries of {list(OPTIONS)}, as mixer_options.slots"
    )


def _changes(base: Protocol, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the values change in the model, and in its training."""
    whole = {key: value for key, value in values.items() if "." not in key}
    for group in OPTIONS:
        start = f"{group}."
        single = {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}
        holder = base.train if group in TRAINING else base.model
        options = whole.get(group)
        if options is None:
            options, kind = getattr(holder, group), group.removesuffix("_options")
            # what another mixer or feed-forward does not take is left out with the protocol's own
            if kind in whole and (known := _keywords(kind, whole[kind])) is not None:
                options = {key: value for key, value in options.items() if key in known}
        if isinstance(options, dict) and {**options, **single} != getattr(holder, group):
            whole[group] = {**options, **single}
    model, training = ({k: v for k, v in whole.items() if k in part} for part in (MODEL, TRAINING))
    return model, training


def _keywords(kind: str, name: Any) -> set[str] | None:
    """Return what a mixer or feed-forward takes besides `dim`; None where that is not known."""
    known = {"mixer": MIXERS, "ffn": FFNS}[kind]
    if not isinstance(name, str) or name not in known:
        return None  # `LMConfig` says what is
    parameters = inspect.signature(make).parameters if (make := known[name]) else {}
    hidden = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return None if hidden else set(parameters) - {"dim"}


def _check(base: Protocol, recipe: Training) -> None:
    for holder, changes in ((base.model, recipe.changes), (base.train, recipe.training)):
        for key, value in changes.items():
            _check_type(key, value, getattr(holder, key))
    config = base.with_model(**recipe.changes)
    for kind, name in (("mixer", config.mixer), ("ffn", config.ffn)):
        options, known = getattr(config, f"{kind}_options"), _keywords(kind, name)
        if known is not None and (unknown := sorted(set(options) - known)):
            raise ValueError(f"options of {name} must be among {sorted(known)}, got {unknown}")
    longest = max(dataclasses.replace(base.train, **recipe.training).context, base.block)
    if 0 < config.positions < longest:
        raise ValueError(
            f"positions must be 0 or at least {longest}, which are trained or judged at once, "
            f"got {config.positions}"
        )
    with torch.random.fork_rng():
        CharLM(config)  # each layer checks its own


def _check_type(key: str, value: Any, before: Any) -> None:
    wanted = type(before)
    fits = isinstance(value, int | float if wanted is float else wanted)
    if before is not None and (not fits or (isinstance(value, bool) and wanted is not bool)):
        raise ValueError(f"{key} must be of type {wanted.__name__}, got {value!r}")
