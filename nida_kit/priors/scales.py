"""How the scales of a field's noise correlate, and which of them a record of the past asks for.

A scale is a sum of cubic B-splines with white coefficients, whose knots are 2^octave points apart (`linalg.pyramid`).
Its correlation over a displacement is known; that of a record is matched by several, each with its share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit.linalg.pyramid import Shape, finer_along, shapes

OCTAVES = 7  # of the coarsest scale, at most
_LEAST = 0.01  # of the variance, below which a scale at either end is left out


@lru_cache(maxsize=16)
def axis_variances(n: int, octaves: int) -> tuple[Float[Tensor, " n"], ...]:
    """Along an axis of n points, the sum of the squared splines of each scale, from octave 0 on."""
    return tuple(basis.square().sum(1).float() for basis in _bases(n, octaves))


def _bases(n: int, octaves: int) -> Iterator[Float[Tensor, "n h"]]:
    """Along an axis of n points, the splines of each scale, one in a column."""
    grids = shapes((n, 1), octaves)
    for octave in range(octaves + 1):
        basis = torch.eye(grids[octave][0])
        for shape in reversed(grids[:octave]):
            basis = finer_along(basis, shape[0])
        yield basis


@lru_cache(maxsize=16)
def _in_line(octave: int) -> Float[Tensor, " r"]:
    """Far from any edge, the mean of the product of a scale's splines at a displacement r, from 0 on."""
    period = 2**octave
    reach = 4 * period
    *_, basis = _bases(4 * reach + 1, octave)
    basis, begin = basis.double(), reach
    here = basis[begin : begin + period]
    return torch.stack([(here * basis[begin + r : begin + r + period]).sum(1).mean() for r in range(reach)])


def axis_sizes(octaves: Sequence[int]) -> list[float]:
    """The variance of each scale along an axis, for unit noise."""
    return [float(_in_line(octave)[0]) for octave in octaves]


def displacements(shape: Shape) -> Float[Tensor, " R"]:
    """At which correlations are compared: 0, 1, 2, 3, 4, 6, 8, 12, ..., up to half of the field."""
    values = sorted({0, 1, 3, *(2**k for k in range(1, 9)), *(3 * 2**k for k in range(1, 8))})
    return torch.tensor([r for r in values if r <= max(shape) // 2], dtype=torch.float64)


def _models(at: Float[Tensor, " R"], octaves: Sequence[int]) -> Float[Tensor, "R K"]:
    """The correlation of each scale at each displacement."""
    columns = []
    for octave in octaves:
        line = _in_line(octave)
        far = torch.cat([line, line.new_zeros(max(0, int(at[-1]) + 1 - len(line)))])
        columns.append(far[at.long()] / line[0])
    return torch.stack(columns, 1)


def scales(correlation: Float[Tensor, " R"], at: Float[Tensor, " R"], shape: Shape) -> tuple[int, tuple[float, ...]]:
    """The finest octave, and the share of each scale."""
    from scipy.optimize import nnls  # here, as all that takes long to import

    octaves = [k for k in range(OCTAVES + 1) if 2**k <= max(2, min(shape) // 2)]
    found, _ = nnls(_models(at, octaves).numpy(), correlation.double().numpy())
    kept = np.nonzero(found > _LEAST * found.sum())[0]
    some = found[kept[0] : kept[-1] + 1]
    return octaves[kept[0]], tuple((some / some.sum()).tolist())


def memories(
    correlation: Float[Tensor, "L R"], at: Float[Tensor, " R"], finest: int, shares: Sequence[float]
) -> Float[Tensor, "K L"]:
    """The correlation of each scale at each lag."""
    from scipy.optimize import lsq_linear

    size = np.maximum(np.array(shares), 1e-9)
    models = _models(at, range(finest, finest + len(shares))).numpy() * size
    found = [np.ones(len(size))]
    for lag in range(1, len(correlation)):
        found.append(lsq_linear(models, correlation[lag].double().numpy(), (-1.0, 1.0)).x)
    return torch.from_numpy(np.stack(found, 1)).float()


def correlation_at(
    away: Float[Tensor, "N T y x"], sea: Bool[Tensor, "y x"], at: Float[Tensor, " R"], lag: int
) -> Float[Tensor, " R"]:
    """The mean product of values that lie apart along either axis, and by a lag, on pairs at sea."""
    steps, found = away.shape[1], []
    first, later = away[:, : steps - lag], away[:, lag:]
    sea = sea.to(away)
    for r in map(int, at):
        total = count = 0.0
        for a, b, here in ((first, later, sea), (first.mT, later.mT, sea.mT)):
            n = a.shape[-1]
            if r >= n:
                continue
            for p, q in ((a, b), (b, a))[: 1 + (lag > 0)]:
                total += float((p[..., : n - r] * q[..., r:]).sum())
                count += float((here[:, : n - r] * here[:, r:]).sum()) * len(away) * (steps - lag)
        found.append(total / max(count, 1.0))
    return torch.tensor(found, dtype=torch.float64)


def root(correlation: Float[Tensor, " T"]) -> Float[Tensor, "T T"]:
    """The root of a correlation over time, by its eigenvectors; the nearest one, where none has these numbers."""
    t = torch.arange(len(correlation))
    values, vectors = torch.linalg.eigh(correlation.double()[(t[:, None] - t).abs()])
    root = vectors * values.clamp(min=0).sqrt()
    return root / root.square().sum(1, keepdim=True).sqrt()
