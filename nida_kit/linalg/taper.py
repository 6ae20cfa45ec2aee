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

import math

import torch
from torch import Tensor


def gaspari_cohn(distance: Tensor, radius: float) -> Tensor:
    """A taper like exp(-distance^2 / (2 radius^2)) that is 0 beyond 3.65 radii.

    Fifth-order piecewise rational, equation 4.10 of Gaspari & Cohn (1999, doi:10.1002/qj.49712555417).
    """
    z = distance / (radius * math.sqrt(10 / 3))
    near = (((-z / 4 + 0.5) * z + 0.625) * z - 5 / 3) * z**2 + 1
    far = ((((z / 12 - 0.5) * z + 0.625) * z + 5 / 3) * z - 5) * z + 4 - 2 / (3 * z.clamp(min=1e-9))
    return torch.where(z <= 1, near, torch.where(z < 2, far, 0.0))
