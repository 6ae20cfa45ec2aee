"""Tapers: correlations that fall with distance and end at a finite one, as if far places knew nothing of each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaspari_cohn(distance: Tensor, radius: float) -> Tensor:
    """A taper like exp(-distance^2 / (2 radius^2)) that is 0 beyond 3.65 radii.

    Fifth-order piecewise rational, equation 4.10 of Gaspari & Cohn (1999, doi:10.1002/qj.49712555417).
    """
    z = distance / (reach(radius) / 2)
    near = (((-z / 4 + 0.5) * z + 0.625) * z - 5 / 3) * z**2 + 1
    far = ((((z / 12 - 0.5) * z + 0.625) * z + 5 / 3) * z - 5) * z + 4 - 2 / (3 * z.clamp(min=1e-9))
    return torch.where(z <= 1, near, torch.where(z < 2, far, 0.0))


def reach(radius: float) -> float:
    """The distance from which on that taper is 0."""
    return 2 * (radius * math.sqrt(10 / 3))
