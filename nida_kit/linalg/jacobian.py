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
    """f(x), and w -> J' w for any number of w."""
    follows = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        point = x if follows else x.detach().requires_grad_()
        value = function(point)
    if not value.requires_grad:
        _check_constant(function, x, value)

    def pull(w: Tensor) -> Tensor:
        if not value.requires_grad:  # f is constant
            return torch.zeros_like(x)
        (slope,) = torch.autograd.grad(value, point, w, retain_graph=True, create_graph=follows, allow_unused=True)
        return torch.zeros_like(x) if slope is None else slope

    return value if follows else value.detach(), pull


def _check_constant(function: Callable[[Tensor], Tensor], x: Tensor, value: Tensor) -> None:
    """Raises ValueError if a function without slopes is not constant: they were lost on the way."""
    with torch.no_grad():
        elsewhere = function(x + 1e-3 * (1 + x.abs()))
    if not torch.equal(elsewhere.nan_to_num(), value.nan_to_num()):
        raise ValueError(
            "The operator or the model has values but no slopes, which this method needs: numpy, detach() or no_grad "
            "lost them. Write it in torch functions of x, or use a method without slopes, nk.EnKF or nk.EnKS."
        )


def pulled_at_once(function: Callable[[Tensor], Tensor], x: Tensor, w: Float[Tensor, "M *batch p"]) -> Tensor:
    """J' w for many w, `(M, *x.shape)`: by as many copies of x, which f must treat independently."""
    copies, pull = pullback(function, x.expand(len(w), *x.shape))
    return pull(w.expand_as(copies))
