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
    ratios = {
        ("#000000", "#FFFFFF"): 21,
        ("#FFFFFF", "#FFFFFF"): 1,
        ("#777777", "#ffffff"): 4.478,
        ("#ff0000", "#ffffff"): 3.998,
    }
    for pair, ratio in ratios.items():
        assert style.contrast(*pair) == pytest.approx(ratio, abs=1e-3)
    for colour in ("teal", "#12345", "#1234567", "#+12345", "#GG0000", ""):
        with pytest.raises(ValueError, match="six hexadecimal digits"):
            style.luminance(colour)


def test_every_colour_reads_on_every_ground_and_no_two_fall_together_for_any_eye():
    for colour, ground in itertools.product(style.PALETTE, style.GROUNDS.values()):
        assert style.contrast(colour, ground) >= 3
    worst_of_okabe_ito = min(closest(OKABE_ITO, each) for each in EYES)
    for eye in EYES:
        assert closest(style.PALETTE, eye) > max(worst_of_okabe_ito, 0.08)


def test_use_sets_series_colours_and_clear_grounds():
    with mpl.rc_context():
        style.use()
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(style.PALETTE)
        assert mpl.rcParams["figure.facecolor"] == mpl.rcParams["axes.facecolor"] == "none"
        assert mpl.rcParams["image.cmap"] in mpl.colormaps
