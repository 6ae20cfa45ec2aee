"""Scores: xarray in, xarray out. Every function reduces over `dim`; None is everything.

Estimates and truth must share their coordinates exactly: nothing is aligned, cut or broadcast along time in silence.
NaN in any of them gives NaN.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from statistics import NormalDist

import xarray as xr

from nida_kit.labels import CORE

Dims = Hashable | Sequence[Hashable] | None


def _over(dim: Dims, array: xr.DataArray) -> list[Hashable]:
    """The dims to reduce, as a list."""
    if dim is None:
        return list(array.dims)
    return list(dim) if isinstance(dim, Sequence) and not isinstance(dim, str) else [dim]


def _matched(dim: Dims, *arrays: xr.DataArray) -> tuple[xr.DataArray, ...]:
    """The arrays, if they agree along the dims to reduce and along time and component.

    Raises:
        ValueError: they do not, or one is no DataArray.
    """
    for array in arrays:
        if not isinstance(array, xr.DataArray):
            raise ValueError(f"Scores compare xr.DataArrays, not a {type(array).__name__}: pass result['mean'], say.")
    needed = {d for array in arrays for d in _over(dim, array)}
    needed |= {d for d in CORE if any(d in array.dims for array in arrays)}
    if any(not needed <= set(array.dims) for array in arrays):
        raise ValueError(
            f"Estimate and truth have the dims {[list(map(str, a.dims)) for a in arrays]}, and not all of these are to "
            "be compared: select one of each, or reduce only what they share, with dim=."
        )
    try:
        return xr.align(*arrays, join="exact", copy=False)
    except ValueError as error:
        raise ValueError(
            f"Estimate and truth lie on different coordinates; select the same ones first. {error}"
        ) from error


def mse(estimate: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Mean squared error, in squared state units."""
    import xskillscore

    return xskillscore.mse(*_matched(dim, estimate, truth), dim=_over(dim, truth))


def rmse(estimate: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Root mean squared error, in state units."""
    import xskillscore  # here, as in each score: it takes seconds to import

    return xskillscore.rmse(*_matched(dim, estimate, truth), dim=_over(dim, truth))


def crps(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Continuous ranked probability score of Gaussian marginals (Gneiting & Raftery 2007), in state units."""
    import xskillscore

    mean, std, truth = _matched(dim, mean, std, truth)
    return xskillscore.crps_gaussian(truth, mean, std, dim=[]).mean(_over(dim, truth), skipna=False)


def coverage(
    mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, level: float = 0.9, dim: Dims = None
) -> xr.DataArray:
    """The share of true values within the central interval of Gaussian marginals; `level` if calibrated.

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1: 0.9 is the 90% interval.")
    mean, std, truth = _matched(dim, mean, std, truth)
    margin = NormalDist().inv_cdf((1 + level) / 2) * std - abs(truth - mean)
    return (margin >= 0).where(margin.notnull()).mean(dim, skipna=False)


def spread_error_ratio(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Root mean variance over root mean squared error: 1 if calibrated, below 1 if overconfident."""
    mean, std, truth = _matched(dim, mean, std, truth)
    return (std**2).mean(dim, skipna=False) ** 0.5 / rmse(mean, truth, dim)
