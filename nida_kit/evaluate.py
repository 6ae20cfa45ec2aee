"""Scores: xarray in, xarray out. Every function reduces over `dim`; None is everything.

Estimates and truth must share their coordinates exactly: nothing is aligned, cut or broadcast along time in silence.
Where both declare units, along `component` or in their attributes, these must be the same.
NaN in one of them gives NaN; where estimate and truth both are NaN, on land, there is nothing to score, and it is left
out. Estimates are a mean and a standard deviation `(..., time, component)`, or of a field with
its own dims after time, or draws with the dim `member` besides, which every score of draws reduces.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import reduce
from statistics import NormalDist
from types import ModuleType

import numpy as np
import xarray as xr

from nida_kit import checks
from nida_kit.dates import model_times, natural_unit
from nida_kit.notes import warn
from nida_kit.state import COMPONENT, MEMBER, TIME, declared_units, state_dims
from nida_kit.units import NONE, conversion

Dims = Hashable | Sequence[Hashable] | None

OTHER = "other_member"
TRAJECTORY = "trajectory"  # as dim: time and the state's own dims
ERROR = "RMSE [climatological std]"  # the unit of error of all notebooks
BAND = NormalDist().inv_cdf(0.95)  # half-width of the central 90% interval, in standard deviations
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PIVOTS = 10_000_000  # of the transport solver, which stops at the optimum: 1,024 draws need some 100,000


def _core(array: xr.DataArray) -> list[Hashable]:
    """Time and the state's own dims, those that there are."""
    return [d for d in (TIME, *state_dims(array)) if d in array.dims]


def _over(dim: Dims, array: xr.DataArray) -> list[Hashable]:
    """The dims to reduce, as a list."""
    if dim is None:
        return list(array.dims)
    if isinstance(dim, str) and dim == TRAJECTORY and dim not in array.dims:
        return _core(array)
    return list(dim) if isinstance(dim, Sequence) and not isinstance(dim, str) else [dim]


def _check_labelled(*arrays: xr.DataArray) -> None:
    for array in arrays:
        if not isinstance(array, xr.DataArray):
            raise ValueError(f"Scores compare xr.DataArrays, not a {type(array).__name__}: pass result['mean'], say.")
        checks.real("What scores compare", array)
        checks.no_fill(str(array.name or "x"), array, array.attrs)


def _matched(dim: Dims, *arrays: xr.DataArray, spread: int | None = None) -> tuple[xr.DataArray, ...]:
    """The arrays, if they agree along the dims to reduce and along time and the state's own dims, and in their units.

    Args:
        dim: what to reduce.
        arrays: estimates and truth.
        spread: which of them is a standard deviation, if any.

    Raises:
        ValueError: they do not, or one is no DataArray.
    """
    _check_labelled(*arrays)
    needed = {d for array in arrays for d in _over(dim, array)}
    needed |= {d for array in arrays for d in _core(array)}
    if any(not needed <= set(array.dims) for array in arrays):
        raise ValueError(
            f"Estimate and truth have the dims {[list(map(str, a.dims)) for a in arrays]}, and not all of these are to "
            "be compared: select one of each, or reduce only what they share, with dim=."
        )
    for k, array in enumerate(arrays[1:], 1):
        _check_units(arrays[0], array, spread=k == spread)
    arrays = tuple(_at_times_of(arrays[0], array) for array in arrays)
    try:  # in double precision: squares of int16 overflow, and sums of float32 lose digits
        return xr.align(*(array.astype(float, copy=False) for array in arrays), join="exact", copy=False)
    except ValueError as error:
        raise ValueError(
            f"Estimate and truth lie on different coordinates; select the same ones first. {error}"
        ) from error


def _units(array: xr.DataArray) -> dict[Hashable, str]:
    """Declared units, by component, or of all components as those of None; "1" and "" declare nothing."""
    units, whole = declared_units(array), {None: array.attrs.get("units")}
    if COMPONENT not in array.dims:
        whole = {None: units[0]}
    elif COMPONENT in array.coords:
        whole |= dict(zip(array[COMPONENT].values.tolist(), units, strict=True))
    return {name: unit for name, unit in whole.items() if isinstance(unit, str) and unit.strip() not in NONE}


def _check_units(first: xr.DataArray, array: xr.DataArray, *, spread: bool) -> None:
    """Raises a ValueError where two arrays say that they are in different units; a spread knows no zero."""
    one, other = _units(first), _units(array)
    for name in (one | other) if (one and other) else ():  # a union of dicts keeps the components' order
        given, wanted = other.get(name, other.get(None)), one.get(name, one.get(None))
        if given is None or wanted is None or given == wanted:
            continue
        what = "What is compared" if name is None else f"What is compared, {name},"
        factor, offset = conversion(given, wanted, what)
        if factor != 1 or (offset != 0 and not spread):
            raise ValueError(
                f"{what} is in {wanted!r} first, and then in {given!r}: bring both into one unit. x {given} are "
                f"{factor:.6g} x{'' if spread else f' {offset:+.6g}'} {wanted}; declare what you made, "
                'x.assign_attrs(units=...) or x.assign_coords(units=("component", [...])).'
            )


def _at_times_of(first: xr.DataArray, array: xr.DataArray) -> xr.DataArray:
    """The array at the first one's times, if its own differ from them by rounding only."""
    if not all(TIME in a.coords and a[TIME].ndim == 1 and a[TIME].dtype.kind in "iuf" for a in (first, array)):
        return array
    wanted, own = (a[TIME].values.astype(float) for a in (first, array))
    if len(wanted) < 2 or wanted.shape != own.shape or np.array_equal(wanted, own):
        return array
    step = np.abs(np.diff(wanted)).min()
    return array.assign_coords({TIME: first[TIME]}) if np.abs(wanted - own).max() <= 1e-6 * step else array


def _matched_spread(dim: Dims, mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray) -> list[xr.DataArray]:
    """The same of a mean, a standard deviation and the truth; where lazy, a negative one is refused once computed."""
    mean, std, truth = _matched(dim, mean, std, truth, spread=1)
    std = xr.apply_ufunc(_not_negative, std, dask="parallelized", output_dtypes=[std.dtype], keep_attrs=True)
    return [mean, std, truth]


def _not_negative(std: np.ndarray) -> np.ndarray:
    if (std < 0).any():
        raise ValueError(f"std holds {std.min():g}; a standard deviation is never negative: pass result['std'], say.")
    return std


def _left_out(truth: xr.DataArray, *estimates: xr.DataArray) -> xr.DataArray:
    """Where truth and estimates all are NaN: on land, where there is nothing to know."""
    return reduce(operator.and_, (array.isnull() for array in (truth, *estimates)))


def _mean(scores: xr.DataArray, left_out: xr.DataArray, dim: Dims) -> xr.DataArray:
    """The mean of what is not left out; NaN where a score is, or where nothing is left."""
    if scores.size and left_out.chunks is None and not left_out.any():  # most often, and labs wait for it
        over = [d for d in _over(dim, scores) if d in scores.dims]
        return scores.mean(over, skipna=False).drop_attrs(deep=False)
    scores, kept = xr.broadcast(scores, ~left_out)
    over, named = _over(dim, scores), scores.where(kept, 0.0)
    count = kept.sum(over)
    return (named.sum(over, skipna=False) / count.where(count > 0)).drop_attrs(deep=False)


def mse(estimate: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Mean squared error, in squared state units.

    >>> import nida_kit as nk, xarray as xr
    >>> mean, truth = (xr.DataArray(values, dims="time") for values in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0]))
    >>> nk.mse(mean, truth).item()
    1.0
    """
    estimate, truth = _matched(dim, estimate, truth)
    return _mean((estimate - truth) ** 2, _left_out(truth, estimate), dim)


def rmse(estimate: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Root mean squared error, in state units.

    >>> import nida_kit as nk, xarray as xr
    >>> mean, truth = (xr.DataArray(values, dims="time") for values in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0]))
    >>> nk.rmse(mean, truth).item()
    1.0
    """
    return mse(estimate, truth, dim) ** 0.5


def crps(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Continuous ranked probability score of Gaussian marginals (Gneiting & Raftery 2007), in state units.

    Where std is 0 it is the absolute error.

    >>> import nida_kit as nk, xarray as xr
    >>> mean, truth = (xr.DataArray(values, dims="time") for values in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0]))
    >>> round(nk.crps(mean, xr.ones_like(mean), truth).item(), 3)
    0.538
    """
    import xskillscore  # here, for it takes seconds to import

    mean, std, truth = _matched_spread(dim, mean, std, truth)
    scores = xskillscore.crps_gaussian(truth, mean, std.where(std != 0, 1.0), dim=[])
    return _mean(scores.where(std != 0, abs(mean - truth)), _left_out(truth, mean, std), dim)


def coverage(
    mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, level: float = 0.9, dim: Dims = None
) -> xr.DataArray:
    """The share of true values within the central interval of Gaussian marginals; `level` if calibrated.

    >>> import nida_kit as nk, xarray as xr
    >>> mean, truth = (xr.DataArray(values, dims="time") for values in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0]))
    >>> nk.coverage(mean, xr.ones_like(mean), truth, level=0.9).item()
    0.75

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1: 0.9 is the 90% interval.")
    mean, std, truth = _matched_spread(dim, mean, std, truth)
    margin = NormalDist().inv_cdf((1 + level) / 2) * std - abs(truth - mean)
    return _mean((margin >= 0).where(margin.notnull()), _left_out(truth, mean, std), dim).assign_attrs(margin.attrs)


def spread_error_ratio(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Root mean variance over root mean squared error: 1 if calibrated, below 1 if overconfident.

    >>> import nida_kit as nk, xarray as xr
    >>> mean, truth = (xr.DataArray(values, dims="time") for values in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0]))
    >>> nk.spread_error_ratio(mean, xr.ones_like(mean), truth).item()
    1.0
    """
    mean, std, truth = _matched_spread(dim, mean, std, truth)
    return _mean(std**2, _left_out(truth, mean, std), dim) ** 0.5 / rmse(mean, truth, dim)


def gaussian_scores(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray) -> dict[str, float]:
    """Error and calibration of Gaussian marginals over everything, in the units given.

    Returns:
        `mse`, `crps`, `coverage_90` and `coverage_50` of the central intervals, and `spread_error_ratio`.
    """
    return {
        "mse": float(mse(mean, truth)),
        "crps": float(crps(mean, std, truth)),
        "coverage_90": float(coverage(mean, std, truth, 0.9)),
        "coverage_50": float(coverage(mean, std, truth, 0.5)),
        "spread_error_ratio": float(spread_error_ratio(mean, std, truth)),
    }


def reliability(
    mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, levels: Sequence[float] = LEVELS, dim: Dims = None
) -> xr.DataArray:
    """`coverage` of the central interval at each nominal level, along the new dim `level`; the diagonal if calibrated.

    >>> import nida_kit as nk, xarray as xr
    >>> mean, truth = (xr.DataArray(values, dims="time") for values in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0]))
    >>> nk.reliability(mean, xr.ones_like(mean), truth, levels=[0.5, 0.99]).values.tolist()
    [0.75, 1.0]

    Raises:
        ValueError: a level outside (0, 1), or none.
    """
    covered = [coverage(mean, std, truth, level, dim) for level in levels]
    return xr.concat(covered, xr.Variable("level", list(levels)))


def spread_error(mean: xr.DataArray, std: xr.DataArray, truth: xr.DataArray, bins: int = 10) -> xr.Dataset:
    """Is the error large where it is said to be? Leutbecher & Palmer (2008, doi:10.1016/j.jcp.2007.02.014).

    >>> import nida_kit as nk, xarray as xr
    >>> mean, truth = (xr.DataArray(values, dims="time") for values in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0]))
    >>> nk.spread_error(mean, xr.ones_like(mean), truth, bins=1)["error"].item()
    1.0

    All values are sorted by their predicted standard deviation and cut into bins of equal count.

    Returns:
        Along `bin`, in state units: `spread`, the root mean predicted variance, and `error`, the root mean squared
        error of the same values; equal if calibrated. A NaN makes all bins NaN, since it could lie in any.

    Raises:
        ValueError: fewer values than bins.
    """
    mean, std, truth = xr.broadcast(*_matched_spread(None, mean, std, truth))
    bins = checks.count("bins", bins, 1, std.size)
    squares = np.stack([std.values.ravel() ** 2, (mean - truth).values.ravel() ** 2])
    left_out = _left_out(truth, mean, std).values.ravel()
    if left_out.any() and not left_out.all():
        squares = squares[:, ~left_out]
        bins = checks.count("bins", bins, 1, squares.shape[1])
    if np.isnan(squares).any():
        squares[:] = np.nan
    binned = np.array_split(squares[:, np.argsort(squares[0])], bins, axis=1)
    spread, error = np.sqrt([b.mean(axis=1) for b in binned]).T
    return xr.Dataset({"spread": ("bin", spread), "error": ("bin", error)})


def _first(draws: xr.DataArray) -> xr.DataArray:
    """One member, whose dims and coordinates are those of all.

    Raises:
        ValueError: there is none.
    """
    _check_labelled(draws)
    if not draws.sizes.get(MEMBER):
        raise ValueError(f"Draws lie along {MEMBER!r}, as method.sample gives them; these have {dict(draws.sizes)}.")
    return draws.isel({MEMBER: 0}, drop=True)


def _score_points(score: Callable, over: list[Hashable], draws: xr.DataArray, others: xr.DataArray) -> xr.DataArray:
    """A score of trajectories as points: `score(draws (m, d), others (n, d))`, a window at a time to save memory.

    Of the dims to reduce, time and the state's own make up the d coordinates of a point; over the others goes the mean.
    """
    left_out = draws.isnull().all(MEMBER) & others.isnull().all(OTHER)
    draws, others = (array.where(~left_out, 0.0) for array in (draws, others))
    point = [d for d in _core(others) if d in over]
    scores = xr.apply_ufunc(
        lambda x, y: score(x.reshape(len(x), -1), y.reshape(len(y), -1)),
        draws,
        others,
        input_core_dims=[[MEMBER, *point], [OTHER, *point]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[float],
    )
    scores = scores.where(~left_out.all(point))  # of nothing there is no score
    return scores.mean([d for d in over if d not in point], skipna=False)


def _transport() -> ModuleType:
    try:
        import ot
    except ImportError as error:
        raise ValueError("wasserstein needs POT, which is not installed: pip install POT") from error
    return ot


def crps_ensemble(draws: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """Continuous ranked probability score of the members' empirical distribution, in state units.

    >>> import nida_kit as nk, numpy as np, xarray as xr
    >>> draws = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=("member", "time"))
    >>> round(nk.crps_ensemble(draws, truth=draws[1]).item(), 3)
    0.889

    E|X - x| - E|X - X'| / 2 (Gneiting & Raftery 2007), X and X' any two members, equal ones too: the standard score,
    not the fair one, so m draws of a calibrated forecast score 1 + 1 / m times what the forecast itself does.
    """
    _matched(dim, _first(draws), truth)
    members = draws.sizes[MEMBER]
    weights = (2 * np.arange(members) + 1 - members) / members**2

    def score(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
        # By sorting: xskillscore compares all pairs at once (10 GB for 200 windows of 256 draws), and skips NaN.
        apart = draws - truth[..., None]
        return np.abs(apart).mean(-1) - np.sort(apart) @ weights

    core = [[MEMBER], []]
    scores = xr.apply_ufunc(score, draws, truth, input_core_dims=core, dask="parallelized", output_dtypes=[float])
    return _mean(scores, truth.isnull() & draws.isnull().all(MEMBER), dim)


def rank_histogram(draws: xr.DataArray, truth: xr.DataArray, dim: Dims = None, seed: int = 0) -> xr.DataArray:
    """How often the truth is the 1st, ..., (members + 1)-th smallest among the members (Hamill 2001).

    >>> import nida_kit as nk, numpy as np, xarray as xr
    >>> draws = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=("member", "time"))
    >>> nk.rank_histogram(draws, truth=draws[1] + 0.5).values.tolist()
    [0.0, 0.0, 4.0, 0.0]

    Returns:
        Counts over `dim`, along the new dim `rank`: flat if calibrated, a U if overconfident. Ties are broken at
        random, by the seed.
    """
    uniform = np.random.default_rng(checks.seed(seed))
    _matched(dim, _first(draws), truth)
    over = _over(dim, truth)
    truth = truth.broadcast_like(_first(draws))
    left_out = truth.isnull() & draws.isnull().all(MEMBER)
    known = (truth.notnull() & draws.notnull().all(MEMBER)) | left_out
    tied = (draws == truth).sum(MEMBER)
    among = np.floor(xr.DataArray(uniform.random(tied.shape), dims=tied.dims) * (tied + 1))
    every = xr.DataArray(np.arange(1, draws.sizes[MEMBER] + 2), dims="rank")
    ranks = ((draws < truth).sum(MEMBER) + among + 1).where(~left_out)
    counts = (ranks == every.assign_coords(rank=every)).sum(over)
    return counts.rename(None).where(known.all(over) & ~left_out.all(over))


def energy_score(draws: xr.DataArray, truth: xr.DataArray, dim: Dims = None) -> xr.DataArray:
    """The CRPS of whole trajectories: E|X - x| - E|X - X'| / 2 (Gneiting & Raftery 2007), in state units.

    >>> import nida_kit as nk, numpy as np, xarray as xr
    >>> draws = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=("member", "time"))
    >>> round(nk.energy_score(draws, truth=draws[1], dim="time").item(), 3)  # of four values: twice the CRPS of each
    1.778

    Of the dims to reduce, time and component (of a field, its own dims) enter the Euclidean norm, jointly; over all
    others goes the mean. So `dim=("time", "component")`, or "trajectory" whatever a state's dims are, is the score of
    each window, and one single value has that of `crps_ensemble`.
    """
    _matched(dim, _first(draws), truth)

    from scipy.spatial.distance import cdist, pdist  # here, as xskillscore: it takes long to import

    def score(draws: np.ndarray, truth: np.ndarray) -> float:
        return cdist(draws, truth).mean() - pdist(draws).sum() / len(draws) ** 2

    return _score_points(score, _over(dim, truth), draws, truth.expand_dims(OTHER))


# Scales

_LEAST = 3  # times, or points along x, of which there are spectra
_OF = "_error_or_truth"  # a dim that no field has


def resolved_scales(mean: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Which scales of a field an estimate resolves, as the ocean data challenges score maps (2020a, 2022b).

    Their definitions (github.com/ocean-data-challenges/2020a_SSH_mapping_NATL60, src/mod_eval.py), on fields
    `(..., time, y, x)`; of what lies along further dims, windows say, spectra and squares are averaged:

        mu        1 - rms(mean - truth) / rms(truth), over everything: 1 is perfect, 0 as good as zero everywhere
        sigma     the standard deviation over time of the same at each time
        lambda_x  the shortest wavelength along x, and
        lambda_t  the shortest period, at which 1 - PSD(mean - truth) / PSD(truth) is 0.5 or more

    PSD is the power spectrum in time and along the last dim, averaged over the others; a plane is taken off before, and
    a Hann window laid over. Only waves with a positive frequency along both axes count. The share of power is
    interpolated between wavelengths and between periods. Resolved are the scales with a share of 0.5 or more that hang
    together, in the largest such part of the spectrum: a stray small scale outside it does not count. Where there is
    land, spectra are those of the lines along the last dim that have none, mu and sigma those of all points at sea.

    >>> import nida_kit as nk
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=4, steps=12, dt=5.0, seed=0)
    >>> scales = nk.resolved_scales(0.9 * truth, truth)
    >>> round(scales["mu"].item(), 6), scales["lambda_x"].item(), scales["lambda_t"].item()
    (0.9, 0.1328125, 12.0)

    Returns:
        `mu`, `sigma`, `lambda_x` and `lambda_t`, in the units of the coordinates; and `spectral_score`, the share of
        power along the frequencies. Where no scale is resolved, lambda is NaN. Where all are down to the shortest of
        the grid, it is that one: a bound, and no crossing (as here, where 10% of each wave is error).

    Raises:
        ValueError: no fields, less than three times or points, or times or points that are not even.

    Warns:
        Where each line along x has land: there are no spectra then, and all that is made of them is NaN.
    """
    mean, truth = _matched(None, mean, truth)
    own = state_dims(truth)
    if COMPONENT in own or not own or TIME not in truth.dims or min(truth.sizes[d] for d in (TIME, own[-1])) < _LEAST:
        raise ValueError(
            f"Scales are those of fields (..., time, y, x) with three times and three points along x or more; truth "
            f"has {dict(truth.sizes)}."
        )
    x, error, left_out = own[-1], mean - truth, _left_out(truth, mean)
    others = [d for d in truth.dims if d != TIME]
    at_times = 1 - _rms(error, left_out, others) / _rms(truth, left_out, others)
    points = {TIME: model_times(truth[TIME], natural_unit(truth[TIME])), x: truth[x].values.astype(float)}
    lines = error, truth
    if left_out.any():
        at_sea = ~left_out.any([d for d in truth.dims if d not in own[:-1]]).compute()
        if at_sea.any():
            lines = [array.where(at_sea, drop=True) for array in lines]
        else:
            warn(_no_line(left_out.any([d for d in truth.dims if d not in own])), stacklevel=2)
    power = _power(xr.concat(lines, _OF, coords="minimal", compat="override"), points, kept=_OF)
    share = (1 - power[{_OF: 0}] / power[{_OF: 1}]).transpose(f"freq_{TIME}", ...)
    axes = [f"freq_{d}" for d in (TIME, x)]
    shortest = xr.apply_ufunc(
        _shortest,
        share,
        *(1 / share[axis] for axis in axes),
        input_core_dims=[axes, axes[:1], axes[1:]],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[float, float],
    )
    units = natural_unit(truth[TIME]), str(truth[x].attrs.get("units", "1"))
    lambda_t, lambda_x = (s.assign_attrs(units=unit) for s, unit in zip(shortest, units, strict=True))
    found = {
        "mu": 1 - _rms(error, left_out, None) / _rms(truth, left_out, None),
        "sigma": at_times.std(TIME, skipna=False),
    }
    found |= {"lambda_x": lambda_x, "lambda_t": lambda_t, "spectral_score": share}
    return xr.Dataset(
        {name: array.drop_attrs(deep=False) if name in ("mu", "sigma") else array for name, array in found.items()}
    )


def _no_line(land: xr.DataArray) -> str:
    """What to say where each line along the last dim has land, `(*own)`: which part of a plane has none."""
    said = (
        f"Each line along {land.dims[-1]!r} has land or other missing values, so that lambda_x, lambda_t and "
        "spectral_score are NaN"
    )
    part = f"{said}: select a part without them, of mean and of truth"
    if land.ndim != 2:
        return f"{part}, .sel(...)."
    box = _largest_open(land.values)
    if box is None:
        return f"{said}, and none has {_LEAST} points side by side without them, of which there were spectra."
    slices = (f"{d}=slice{ends}" for d, ends in zip(land.dims, box, strict=True))
    return f"{part}; the largest rectangle is .isel({', '.join(slices)})."


def _largest_open(land: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Where rows and columns of the largest rectangle without land begin and end, if there is one with scales along x.

    Of each height the longest run of columns is looked for, above which land has no point.
    """
    most, found, shut, column = 0, None, land, np.arange(land.shape[1])
    for tall in range(1, len(land) + 1):
        shut = shut[: len(land) - tall + 1] | land[tall - 1 :]
        run = column - np.maximum.accumulate(np.where(shut, column, -1), axis=1)  # of columns that end at each
        i, j = np.unravel_index(run.argmax(), run.shape)
        wide = int(run[i, j])
        if wide < _LEAST:
            break
        if tall * wide > most:
            most, found = tall * wide, ((int(i), int(i) + tall), (int(j) + 1 - wide, int(j) + 1))
    return found


def _rms(array: xr.DataArray, left_out: xr.DataArray, dim: Dims) -> xr.DataArray:
    return _mean(array**2, left_out, dim) ** 0.5


def spectrum(array: xr.DataArray) -> xr.DataArray:
    """The power of the waves along the last dim of a field `(..., time, y, x)`, averaged over all others.

    A line is taken off before, and a Hann window laid over, as in `resolved_scales`. Lines with land, or any NaN, are
    left out.

    >>> import nida_kit as nk
    >>> truth = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=4, dt=5.0, seed=0)
    >>> spectrum(truth).sizes
    Frozen({'freq_x': 8})

    Raises:
        ValueError: no field, points that are not even, or no line without NaN.
    """
    _check_labelled(array)
    own = state_dims(array)
    if COMPONENT in own or not own or array.sizes[own[-1]] < 3:
        raise ValueError(f"A spectrum is that of a field with three points along x or more, not {dict(array.sizes)}.")
    whole = array.notnull().all([d for d in array.dims if d not in own[:-1]]).compute()
    if not whole.any():
        raise ValueError(f"Each line along {own[-1]!r} holds NaN: select a part of the field without land, .sel(...).")
    array = array.where(whole, drop=True) if len(own) > 1 and not whole.all() else array
    return _power(array, {own[-1]: array[own[-1]].values.astype(float)})


def _power(array: xr.DataArray, numbers: dict[Hashable, np.ndarray], kept: str | None = None) -> xr.DataArray:
    """The power spectrum along dims with these points, of positive frequencies, averaged over all others but `kept`."""
    import xrft  # here, for few need it, and it takes long

    for name, points in numbers.items():
        advice = f"a spectrum needs an even one. Interpolate both fields, .interp({name}=np.linspace(...))."
        checks.even(name, points, advice)
    array = array.drop_vars(array.coords).assign_coords(numbers)
    array = array.chunk(dict.fromkeys(numbers, -1)) if array.chunks else array
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of an old name of xarray's that it uses
        power = xrft.power_spectrum(array, dim=list(numbers), detrend="linear", window="hann")
    power = power.mean([d for d in array.dims if d not in (*numbers, kept)], skipna=False)
    return power.isel({f"freq_{d}": power[f"freq_{d}"].values > 0 for d in numbers})


def _shortest(share: np.ndarray, *scales: np.ndarray) -> tuple[float, ...]:
    """The shortest scale along each axis at which the share of power is 0.5 or more; NaN where none is.

    Args:
        share: `(F, G)`.
        scales: along each of its axes, falling.
    """
    from scipy.ndimage import label

    parts, count = label(share >= 0.5)
    if not count or np.isnan(share).any():
        return (np.nan,) * len(scales)
    resolved = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    found = []
    for axis, scale in enumerate(scales):
        share_of, within = np.moveaxis(share, axis, -1), np.moveaxis(resolved, axis, -1)
        shortest = scale[within.any(0).nonzero()[0].max()]
        rows, k = np.nonzero(within[:, :-1] & (share_of[:, 1:] < 0.5))
        here, after = share_of[rows, k], share_of[rows, k + 1]
        crossing = scale[k] + (here - 0.5) / (here - after) * (scale[k + 1] - scale[k])
        found.append(min(shortest, crossing.min(initial=np.inf)))
    return tuple(found)


def wasserstein(draws: xr.DataArray, reference: xr.DataArray, dim: Dims = TRAJECTORY) -> xr.DataArray:
    """Wasserstein-1 distance between two sets of draws as measures of trajectories, in state units.

    >>> import nida_kit as nk, numpy as np, xarray as xr
    >>> draws = xr.DataArray(np.arange(12.0).reshape(3, 4, 1), dims=("member", "time", "component"))
    >>> nk.wasserstein(draws, draws + 1.0).item()  # each member is moved by 1 in each of the four values
    2.0

    It is the least mean distance over which one set is moved onto the other, solved exactly with POT (Flamary et al.
    2021). Between finite sets of one law it is not 0: compare with that of two independent references.

    Args:
        draws: with the dim `member`.
        reference: the same, with any number of members.
        dim: to reduce: time and component (of a field, its own dims) enter the Euclidean norm, jointly; over all others
            goes the mean. "trajectory" is time and the state's own dims.

    Raises:
        ValueError: POT is not installed, or the draws do not match.
    """
    from scipy.spatial.distance import cdist

    ot = _transport()
    _, one = _matched(dim, _first(draws), _first(reference))

    def score(draws: np.ndarray, reference: np.ndarray) -> float:
        distances = cdist(draws, reference)
        return np.nan if np.isnan(distances).any() else ot.emd2([], [], distances, numItermax=PIVOTS)

    return _score_points(score, _over(dim, one), draws, reference.rename({MEMBER: OTHER}))
