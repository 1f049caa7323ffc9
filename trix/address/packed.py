r"""Packed ternary values: two bits per weight, and a product that reads them as they lie.

Four values share a byte, the first in its lowest bits: 0 is `00`, 1 is `01` and −1 is `11` (BitNet
b1.58, Ma et al. 2024; bitnet.cpp, Wang et al. 2025). Nothing is looked up: two bits shifted to the
top of a machine word *are* a floating number: `00` reads 0, `01` reads 2 and `11` reads −2.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trix.address.ternary import row_scale, ternarize
from trix.checks import at_least, finite, floating, last_dim, shape, tokens, typed

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)


def pack(ternary: Tensor) -> Tensor:
    """Pack values `[..., length]` that are −1, 0 or 1, four per byte: `[..., ceil(length / 4)]`.

    The unused bits of a last byte are 0.

    >>> pack(torch.tensor([1, 0, -1, 0, 1])).tolist()
    [49, 1]

    Raises:
        TypeError: the dtype is neither floating, nor uint8, nor a signed integer.
        ValueError: no axis, or another value.
    """
    if not (ternary.is_floating_point() or ternary.dtype in (torch.uint8, *_INTEGERS)):
        raise TypeError(f"ternary must be a floating or integer tensor, got {ternary.dtype}")
    if ternary.ndim == 0:
        raise ValueError("ternary must have shape [..., length], got []")
    bad = (ternary != 0) & (ternary.abs() != 1)
    if bad.any():
        found = ternary[bad][:5].tolist()
        raise ValueError(f"ternary must hold only -1, 0 and 1, got {found} among {ternary.numel()}")
    codes = (ternary.to(torch.int8) & 3).to(torch.uint8)
    codes = nn.functional.pad(codes, (0, -ternary.shape[-1] % 4)).unflatten(-1, (-1, 4))
    first, second, third, fourth = codes.unbind(-1)
    return first | second << 2 | third << 4 | fourth << 6


def unpack(packed: Tensor, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the `[..., length]` that `pack` packed, in any floating dtype or a signed integer one.

    >>> unpack(torch.tensor([49, 1], dtype=torch.uint8), 5, torch.int8).tolist()
    [1, 0, -1, 0, 1]

    Raises:
        TypeError: `packed` is not uint8, or `dtype` cannot hold −1.
        ValueError: the number of bytes does not fit the length, or they hold other codes.
    """
    if not (dtype.is_floating_point or dtype in _INTEGERS):
        raise TypeError(f"dtype must be floating or a signed integer, got {dtype}")
    _check(packed, length)
    return _decode(packed, length, dtype)


def _check(packed: Tensor, length: int) -> None:
    typed("packed", packed, torch.uint8)
    last_dim("packed", packed, -(-at_least("length", length, 0) // 4))
    bad = packed & ~(packed << 1) & 0b10101010  # a high bit whose low bit is missing
    if bad.any() or (length % 4 and (packed[..., -1] >> 2 * (length % 4)).any()):
        raise ValueError(f"packed must hold the codes of {length} values -1, 0 and 1, got others")


def _decode(packed: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=packed.device)
    codes = packed.unsqueeze(-1) >> shifts
    values = (codes & 1).to(torch.int8) - (codes & 2).to(torch.int8)
    return values.flatten(-2)[..., :length].to(dtype)


@functools.cache
def kernel(dtype: torch.dtype) -> Callable[..., Any] | None:
    """Return the compiled product for float32 or float64, or None where numba is not installed.

    It maps `packed [rows, bytes]`, `scale [rows, 1]` and `x [batch, dim]` to `[batch, rows]`.
    """
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    if dtype == torch.float64:
        word, real, top, name = np.uint64, np.float64, np.uint64(62), "float64"
    else:
        word, real, top, name = np.uint32, np.float32, np.uint32(30), "float32"
    high = word(3) << top

    # Sums may be taken in another order and products fused, or nothing becomes a vector
    # instruction; NaN and infinity keep their meaning. Nothing is cached on disk: it is quick.
    @numba.njit(
        f"{name}[:, ::1](uint8[:, ::1], {name}[:, ::1], {name}[:, ::1])",
        fastmath={"reassoc", "contract"},
        nogil=True,
    )
    def product(packed: Any, scale: Any, x: Any) -> Any:
        (rows, size), (batch, dim) = packed.shape, x.shape
        y = np.empty((batch, rows), real)
        turned = np.zeros((4, size), real)
        for t in range(batch):
            # side by side: what meets the same bits of neighbouring bytes; codes read 2 and −2
            for i in range(dim):
                turned[i % 4, i // 4] = real(0.5) * x[t, i]
            for r in range(rows):
                total = real(0)
                for b in range(size):
                    code = word(packed[r, b])
                    for j in range(4):
                        lifted = word((code << (top - word(2 * j))) & high)
                        total += lifted.view(real) * turned[j, b]
                y[t, r] = total * scale[r, 0]
        return y

    return product


class PackedTernary(nn.Module):
    """A ternary matrix with one scale per row, two bits per weight, for inference.

    Its state is two buffers: `packed [rows, ceil(dim / 4)]`, uint8, and `scale [rows, 1]`. Nothing
    is derived from them and kept, so whatever changes them is seen by the next product.

    >>> layer = PackedTernary.from_weights(torch.tensor([[2.0, 0.1, -4.0]]))
    >>> layer(torch.tensor([1.0, 1.0, 0.0])).tolist()
    [3.0]

    Args:
        ternary, scale: `[rows, dim]` of −1, 0 and 1; finite floating `[rows, 1]`, ones by default.

    Raises:
        TypeError: `ternary` has a dtype that `pack` refuses, or `scale` or `x` is not floating.
        ValueError: a shape or a value is not as said; in `load_state_dict` too.
    """

    packed: Tensor
    scale: Tensor

    def __init__(self, ternary: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        shape("ternary", ternary, "rows", "dim")
        rows, self.dim = ternary.shape
        scale = torch.ones(rows, 1, device=ternary.device) if scale is None else scale
        floating("scale", scale)
        shape("scale", scale, rows, 1)
        finite("scale", scale)
        self.register_buffer("packed", pack(ternary.detach()))
        self.register_buffer("scale", scale.detach().clone())
        self.register_load_state_dict_post_hook(_check_loaded)

    @classmethod
    def from_weights(
        cls, weights: Tensor, threshold: float = 0.5, relative: bool = True
    ) -> "PackedTernary":
        """Pack weights `[rows, dim]` by `ternarize`, with their `row_scale` in float32 or 64."""
        ternary = ternarize(weights.detach(), threshold, relative)
        dtype = _computed_in(weights)
        return cls(ternary, row_scale(weights.detach().to(dtype), ternary.to(dtype)))

    @property
    def shape(self) -> tuple[int, int]:
        """The matrix's `(rows, dim)`."""
        return self.packed.shape[0], self.dim

    def unpack(self) -> Tensor:
        """Return the ternary matrix without its scale, `[rows, dim]`, in the scale's dtype."""
        return _decode(self.packed, self.dim, self.scale.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x @ (scale * ternary).T`, `[..., rows]` in the dtype of `x`, without a gradient.

        It is computed in float64 for float64, else in float32; NaN and infinity come out as from
        the dense product. Without numba, or away from the CPU, torch multiplies an unpacked matrix:
        the same up to rounding, but slower than a dense one.
        """
        tokens("x", x, self.dim)
        dtype = _computed_in(x)
        packed, scale, flat = self.packed, self.scale.to(dtype), x.detach().to(dtype)
        product = kernel(dtype) if x.is_cpu and packed.is_cpu else None
        if product is None:
            return (flat @ (scale * _decode(packed, self.dim, dtype)).T).to(x.dtype)
        lead = x.shape[:-1]
        flat = flat.reshape(lead.numel(), self.dim)  # -1 would not do for a dim of 0
        y = product(*(each.contiguous().numpy() for each in (packed, scale, flat)))
        return torch.from_numpy(y.reshape(*lead, y.shape[1])).to(x.dtype)

    def extra_repr(self) -> str:
        return f"rows={self.shape[0]}, dim={self.dim}"


def _computed_in(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _check_loaded(module: nn.Module, _keys: Any) -> None:
    # Thirteen values and fourteen take the same bytes, so the shape alone does not tell them apart.
    if isinstance(module, PackedTernary):
        _check(module.packed, module.dim)
