"""Slopes of torch functions, by automatic differentiation.

Reverse mode, since forward mode is not safe under Dask's threads; and plain autograd, since `torch.func` imports a
compiler for seconds when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

FEW = 10_000  # numbers of all copies, where the time of calls is all that counts
AT_ONCE = 1_000_000  # numbers: so many copies of a small batch are followed back together, since it is calls that cost


def linearise(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch n"], outputs: int | None = None
) -> tuple[Float[Tensor, "*batch p"], Float[Tensor, "*batch p n"]]:
    """f(x) and its Jacobian at every point of a batch.

    f must treat the points independently. One pullback of the whole batch per component of f; or all at once through
    as many copies of a small batch, since there it is calls that cost. Differentiable once more where x has gradients.

    Args:
        function: f, from `(..., n)` to `(..., p)`.
        x: the points.
        outputs: p, if it is known: then a small batch needs one call of f.
    """
    if outputs is not None and x.numel() * outputs < FEW:
        value, pull = pullback(function, x.expand(outputs, *x.shape))
        units = torch.eye(outputs).to(value).view(outputs, *[1] * (x.ndim - 1), outputs)
        return value[0], pull(units.expand_as(value)).movedim(0, -2)
    value, pull = pullback(function, x)
    units = torch.eye(value.shape[-1]).to(value)
    if len(units) > 8 and value.numel() * len(units) < AT_ONCE:
        return value, pulled_at_once(function, x, units.view(-1, *[1] * (value.ndim - 1), len(units))).movedim(0, -2)
    return value, torch.stack([pull(e.expand_as(value)) for e in units], -2)


def pullback(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """f(x), and w -> J' w for any number of w.

    Raises:
        ValueError: f has lost all slopes on the way.
    """
    value, pull, known = _followed(function, x)
    if not known:
        check_slopes("The operator or the model", function, x)
    return value, pull


def _followed(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor], bool]:
    """f(x), its pullback, and whether there are any slopes."""
    follows = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        point = x if follows else x.detach().requires_grad_()
        value = function(point)

    def pull(w: Tensor) -> Tensor:
        if not value.requires_grad:  # f is constant
            return torch.zeros_like(x)
        (slope,) = torch.autograd.grad(value, point, w, retain_graph=True, create_graph=follows, allow_unused=True)
        return torch.zeros_like(x) if slope is None else slope

    return value if follows else value.detach(), pull, value.requires_grad


def check_slopes(what: str, function: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch n"]) -> None:
    """Check that automatic slopes are those of the values, near x.

    The slopes along a random direction u are held against (f(x + h u) - f(x - h u)) / 2 h, where f moves. What f jumps
    by, or rounds, differs between two h, and is left out.

    Args:
        what: f, for the error.
        function: f, of each point of a batch.
        x: the points.

    Raises:
        ValueError: slopes that were lost on the way, or values that change by jumps alone.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(x)

    x = x.detach()
    size = x.abs().reshape(-1, x.shape[-1]).amax(0)
    size = torch.where(size > 0, size, 1.0)
    near = x + 1e-2 * size * noise(x.shape)
    value, pull, _ = _followed(function, near)
    for _ in range(3):  # so that no loss hides behind another by chance
        u, w = size * noise(x.shape), noise(value.shape)
        far, close = (_difference(function, near, u, h) for h in (1e-4, 5e-5))
        moved = far.abs().nan_to_num(nan=0.0, posinf=0.0).reshape(-1, far.shape[-1]).amax(0)  # of each value
        w = torch.where(far != 0, w / (moved + 1e-6 * moved.amax()), 0.0)
        expected, closer, said = (w * far).sum(), (w * close).sum(), (pull(w) * u).sum()
        if (said - expected).abs() > 1e-2 * (w * far).norm() + 10 * (expected - closer).abs():
            raise ValueError(f"{what} has values but no slopes of them, or not all; {_LOST}")
    if pull(noise(value.shape)).any():
        return
    others = [_followed(function, near + far * size * noise(x.shape)) for far in (1, 10, 100, 1000)]
    flat = not any(pull(noise(value.shape)).any() for _, pull, _ in others)
    if flat and any((other.nan_to_num() != value.nan_to_num()).any() for other, _, _ in others):
        raise ValueError(f"{what} has values that change by jumps alone, so all its slopes are 0; {_LOST}")


WITHOUT_SLOPES = "Write it in torch functions of x, or use a method without slopes, nk.EnKF or nk.EnKS."
_LOST = f"this method needs slopes, which numpy, detach(), no_grad() and whole numbers lose. {WITHOUT_SLOPES}"


@torch.no_grad()
def _difference(function: Callable[[Tensor], Tensor], x: Tensor, u: Tensor, h: float) -> Tensor:
    """The slope of f along u, by its values."""
    return (function(x + h * u) - function(x - h * u)) / (2 * h)


def pulled_at_once(function: Callable[[Tensor], Tensor], x: Tensor, w: Float[Tensor, "M *batch p"]) -> Tensor:
    """J' w for many w, `(M, *x.shape)`: by as many copies of x, which f must treat independently."""
    copies, pull = pullback(function, x.expand(len(w), *x.shape))
    return pull(w.expand_as(copies))
