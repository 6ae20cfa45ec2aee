"""Gaussians over whole trajectories, and the one update that every method here repeats.

A Gaussian N(mu, P^-1) over x (T time steps of n components) is kept by its *precision* P, banded in time, a point c and
the information b that pulls it away from there:

    log p(x) = -1/2 (x - c)' P (x - c) + b' (x - c) + const,      mu = c + P^-1 b.

Observations y = H x + eta, eta ~ N(0, R), act on each time step, so H' R^-1 H is block-diagonal. Conditioning adds

    P + H' R^-1 H,      b + H' R^-1 (y - H c),

keeps the band, and is exact however far apart c and mu lie: the linearised forecast of a chaotic model leaves every
bound on a long window, but never has to be computed. Asking for `mean` costs the one linear solve. R is diagonal; a
missing value (NaN in y) is an infinite error.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def linearise(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch n"]
) -> tuple[Float[Tensor, "*batch p"], Float[Tensor, "*batch p n"]]:
    """f(x) and its Jacobian at every point of a batch: one pullback (torch.func) of the whole batch per component of f.

    f must treat the points independently. Reverse mode, since forward mode is not safe under Dask's threads. Many
    pullbacks of a small batch are done at once: there it is the calls that take the time.
    """
    value, pull = torch.func.vjp(function, x)
    units = torch.eye(value.shape[-1]).to(value)
    if len(units) > 8 and value.numel() * len(units) < 1_000_000:
        units = units.view(-1, *[1] * (value.ndim - 1), value.shape[-1]).expand(-1, *value.shape)
        return value, torch.func.vmap(pull)(units)[0].movedim(0, -2)
    return value, torch.stack([pull(e.expand_as(value))[0] for e in units], -2)
