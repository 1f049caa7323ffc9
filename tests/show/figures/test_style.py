"""Colours: contrast on light and dark, and apartness for every kind of eye."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest

from trix.show.figures import style

# Machado, Oliveira, Fernandes (2009), severity 1.0: what linear sRGB becomes.
EYES = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}

OKABE_ITO = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]


def oklab(colour: str, eye: str) -> np.ndarray:
    """Ottosson's OKLab of a colour as that eye sees it."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(EYES[eye]) @ linear, 0, 1)
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(lab) @ np.cbrt(np.array(cones) @ seen)


def closest(palette, eye: str) -> float:
    seen = [oklab(colour, eye) for colour in palette]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))


def test_contrast_agrees_with_known_ratios():
    assert style.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert style.contrast("#FFFFFF", "#FFFFFF") == pytest.approx(1)
    assert style.contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert style.contrast("#ff0000", "#ffffff") == pytest.approx(3.998, abs=1e-3)


@pytest.mark.parametrize("ground", style.GROUNDS)
@pytest.mark.parametrize("name", style.NAMED)
def test_every_colour_reads_on_every_ground(name, ground):
    assert style.contrast(style.NAMED[name], style.GROUNDS[ground]) >= 3


@pytest.mark.parametrize("eye", EYES)
def test_no_two_colours_fall_together_for_any_eye(eye):
    worst_of_okabe_ito = min(closest(OKABE_ITO, each) for each in EYES)
    assert closest(style.PALETTE, eye) > worst_of_okabe_ito
    assert closest(style.PALETTE, eye) > 0.08


@pytest.mark.parametrize("colour", ["teal", "#12345", "#1234567", "#+12345", "#GG0000", ""])
def test_a_colour_that_is_none_is_refused_by_name(colour):
    with pytest.raises(ValueError, match="six hexadecimal digits"):
        style.luminance(colour)


def test_use_sets_series_colours_and_clear_grounds():
    with mpl.rc_context():
        style.use()
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(style.PALETTE)
        assert mpl.rcParams["figure.facecolor"] == mpl.rcParams["axes.facecolor"] == "none"
        assert mpl.rcParams["image.cmap"] in mpl.colormaps
