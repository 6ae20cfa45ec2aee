"""Coarser and finer grids, an octave apart: cubic B-splines along the last two axes.

A field of n points along an axis has n // 2 + 1 spline coefficients an octave coarser, whose knots are every second
point. `finer` is the sum of the splines; `coarser` is its adjoint (a sum with weights, no mean).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

Shape = tuple[int, int]

_DENSE = 160  # points along an axis up to which a matrix is the quicker way


def shapes(shape: Shape, count: int) -> list[Shape]:
    """Of a grid and those of `count` octaves coarser.

    >>> shapes((65, 33), 2)
    [(65, 33), (33, 17), (17, 9)]
    """
    found = [shape]
    for _ in range(count):
        found.append(tuple(n // 2 + 1 for n in found[-1]))
    return found


def finer(x: Float[Tensor, "*batch h w"], shape: Shape) -> Float[Tensor, "*batch y x"]:
    """The field of `shape` that has these spline coefficients, one octave coarser."""
    ny, nx = shape
    if max(shape) <= _DENSE:
        return splines(ny, x.dtype, x.device) @ x @ splines(nx, x.dtype, x.device).mT
    return finer_along(finer_along(x, ny).mT, nx).mT


def coarser(y: Float[Tensor, "*batch y x"]) -> Float[Tensor, "*batch h w"]:
    """The adjoint of `finer`."""
    ny, nx = y.shape[-2:]
    if max(ny, nx) <= _DENSE:
        return splines(ny, y.dtype, y.device).mT @ y @ splines(nx, y.dtype, y.device)
    return _coarser(_coarser(y).mT).mT


@lru_cache(maxsize=64)
def splines(n: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "n h"]:
    """The cubic B-splines on n points, one in a column, with knots at every second point."""
    away = (torch.arange(n, dtype=torch.float64)[:, None] - 2 * torch.arange(n // 2 + 1)).abs()
    values = torch.tensor([6.0, 4.0, 1.0, 0.0], dtype=torch.float64) / 8
    return values[away.clamp(max=3).long()].to(device, dtype)


def finer_along(x: Tensor, n: int) -> Tensor:
    """Along the last axis but one: even points see three coefficients, odd ones two."""
    p = pad(x, (0, 0, 1, 1))
    even = torch.add(p[..., :-2, :] + p[..., 2:, :], x, alpha=6) / 8
    odd = (p[..., 1:-1, :] + p[..., 2:, :]) / 2
    return torch.stack([even, odd], -2).flatten(-3, -2)[..., :n, :]


def _coarser(y: Tensor) -> Tensor:
    h = y.shape[-2] // 2 + 1
    pairs = pad(y, (0, 0, 0, 2 * h - y.shape[-2])).unflatten(-2, (h, 2))
    even, odd = pairs[..., 0, :], pairs[..., 1, :]
    around, before = pad(even, (0, 0, 1, 1)), pad(odd, (0, 0, 1, 0))
    return torch.add(around[..., :-2, :] + around[..., 2:, :], even, alpha=6) / 8 + (odd + before[..., :-1, :]) / 2
