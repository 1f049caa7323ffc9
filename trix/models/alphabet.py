"""Text as numbers: a character's number is its place in an alphabet, a string without repeats."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trix.checks import indices, integers, shape


def encode(text: str, alphabet: str, whose: str) -> Tensor:
    """Return the number of each character, int64 `[len(text)]`.

    The `ValueError` of an unknown one names it and, as `whose`, the owner: "of corpus 'plays'".
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a str, got {text!r}")
    wanted, known = _code_points(text), _code_points(alphabet)
    order = np.argsort(known)
    found = np.searchsorted(known, wanted, sorter=order)
    numbers = order[np.minimum(found, len(known) - 1)]
    unknown = np.flatnonzero(known[numbers] != wanted)
    if unknown.size:
        at = int(unknown[0])
        raise ValueError(
            f"character {text[at]!r} at {at} is not among the {len(alphabet)} {whose}: {alphabet!r}"
        )
    return torch.from_numpy(numbers)


def decode(numbers: Tensor | Sequence[int], alphabet: str) -> str:
    """Return the text whose characters have these integers, `[length]`; undoes `encode`."""
    row = torch.as_tensor(numbers)
    shape("numbers", row, "length")
    if row.numel() == 0:
        return ""
    integers("numbers", row)
    indices("numbers", row, len(alphabet))
    return "".join(alphabet[number] for number in row.tolist())


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
