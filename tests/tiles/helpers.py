import torch
from torch import Tensor


def tokens(*shape: int, dim: int = 13, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dim, dtype=torch.float64, generator=draw).to(dtype)


def grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    assert parameter.grad.isfinite().all()
    return parameter.grad


def agree(output: Tensor, slow: Tensor, moved: list[Tensor]) -> None:
    torch.testing.assert_close(output, slow, rtol=0, atol=1e-12)
    weight = tokens(*output.shape[:-1], dim=output.shape[-1], seed=2)
    ours, theirs = (
        torch.autograd.grad((y * weight).sum(), moved, materialize_grads=True)
        for y in (output, slow)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
