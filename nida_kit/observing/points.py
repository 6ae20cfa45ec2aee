"""Fields at points between the grid's: linear along each axis, and so between two steps.

The weights are those with which `nk.grid(..., exact=True)` writes a value at a point as a statement about the field.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit import checks
from nida_kit.dates import are_dates, decoded, model_times, natural_unit
from nida_kit.observing.axes import Axis, corners, place_axis, shown
from nida_kit.state import TIME

_CELL, _CORNER = "_cell", "_corner"


@dataclass(frozen=True, eq=False)
class Between:
    """Values between points of the grid: sums over the points around each, of known weights.

    Attributes:
        index: of the points around each value, `(T, p, corners)`, in a flattened window.
        weight: of each point, `(T, p, corners)`; 0 where a step has fewer values.
        shape: of a window, (T, *state).
    """

    index: Int[Tensor, "T p corners"]
    weight: Float[Tensor, "T p corners"]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            raise ValueError(
                f"The operator interpolates within windows of shape {self.shape}, and got {tuple(x.shape)}: it goes "
                "with all steps of the observations that nk.grid gave beside it."
            )
        window, index = x.flatten(-len(self.shape)), self.index.to(x.device)
        around = window.index_select(-1, index.flatten())  # x[..., index] has slopes eighty times as slow
        return (around.unflatten(-1, index.shape) * self.weight.to(x)).sum(-1)


def sampled(truth: xr.DataArray, points: xr.Dataset, own: Sequence[Hashable]) -> xr.DataArray:
    """A field at points, on the dims of its windows and of the points; NaN where a point has a NaN as coordinate.

    Args:
        truth: the field, `(..., time, *own)`.
        points: coordinates `time` and those of `own`, along any dims; also along those of `truth` before time, if its
            windows have points of their own. Without `time` they are moored, and measure at every step.
        own: the field's dims after time.

    Raises:
        ValueError: no points of a field, or points beyond its grid or its times.
    """
    lead = [d for d in truth.dims if d not in (TIME, *own)]
    at = _coordinates(truth, points, own)
    along = [d for d in at[0].dims if d not in lead]
    given = [at[0].values, *(a.values.astype(float) for a in at[1:])]
    known = ~np.any([np.isnat(x) if x.dtype.kind in "mM" else np.isnan(x) for x in given], axis=0)
    told = points[TIME].attrs if TIME in points.variables else truth[TIME].attrs
    axes = [_time_axis(truth[TIME], given[0][known], told)]
    axes += [place_axis(d, tuple(truth[d].values.tolist()), x[known]) for d, x in zip(own, given[1:], strict=True)]
    _check_inside(axes, [x[known] for x in given], truth)
    index, weight = (np.zeros((*known.shape, 2 ** len(axes)), kind) for kind in (int, float))
    weight[~known] = np.nan
    index[known], weight[known] = corners(axes, [axis.position for axis in axes], [truth.sizes[d] for d in own])
    values = truth.transpose(*lead, TIME, *own).values.astype(float)
    flat = xr.DataArray(values.reshape(*values.shape[: len(lead)], -1), dims=[*lead, _CELL])
    around = [xr.DataArray(table, dims=[*at[0].dims, _CORNER]) for table in (index, weight)]
    core = [*along, _CORNER]
    value = xr.apply_ufunc(
        lambda field, index, weight: (np.where(weight, field[index], 0.0) * weight).sum(-1),  # 0 * NaN is NaN
        flat,
        *around,
        input_core_dims=[[_CELL], core, core],
        output_core_dims=[along],
        vectorize=True,
    )
    lost = value.isnull() | np.isinf(value)
    if (lost := lost & xr.DataArray(known, dims=at[0].dims)).any():
        raise ValueError(_without_value(lost, at, truth, points, own))
    windows = {name: c for name, c in truth.coords.items() if set(c.dims) <= set(lead)}
    said = points.coords if TIME in points.variables else points.coords | {TIME: truth[TIME]}
    return value.transpose(*lead, *along).assign_coords(windows | dict(said))


def _coordinates(truth: xr.DataArray, points: xr.Dataset, own: Sequence[Hashable]) -> tuple[xr.DataArray, ...]:
    """Time and places of the points, on the same dims and without coordinates of their own."""
    lacking = [d for d in own if not isinstance(points, xr.Dataset) or d not in points.variables]
    if lacking:
        has = list(map(str, points.variables)) if isinstance(points, xr.Dataset) else type(points).__name__
        raise ValueError(
            f"at= has {has}, and needs {[TIME, *own]}: points are an xr.Dataset with the coordinates time and those of "
            "the field, along a dim obs, as nk.tracks(truth, ...) makes them; without time they measure at every step."
        )
    for d in set(truth.dims) - {TIME, *own}:
        if d in points.variables and d in truth.coords and not np.array_equal(points[d], truth[d]):
            raise ValueError(
                f"at= has other windows along {d!r} than truth: bring them together, points.sel({d}=truth.{d})."
            )
    given = [points[TIME] if TIME in points.variables else truth[TIME], *(points[d] for d in own)]
    for d, place in zip(own, given[1:], strict=True):
        checks.real(f"at.{d}", place)
    at = xr.broadcast(*(xr.DataArray(a.values, dims=a.dims) for a in given))
    for d in set(at[0].dims) & set(truth.dims) - {TIME}:
        if d in own or at[0].sizes[d] != truth.sizes[d]:
            sizes = f"{at[0].sizes[d]} along {d!r}, and truth {truth.sizes[d]}"
            raise ValueError(f"at= has {sizes}: points lie along obs, and along the dims of windows as truth has them.")
    return at


_TOLD, _LISTED = 3, 20  # points that are named by their places, and by their numbers


def _without_value(
    lost: xr.DataArray, at: Sequence[xr.DataArray], truth: xr.DataArray, points: xr.Dataset, own: Sequence[Hashable]
) -> str:
    """What to say of points around which the field has no value, as on land and beside it.

    Args:
        lost: which, on the dims of windows and of the points.
        at: time and places of the points.
        truth: the field.
        points: as they came.
        own: the field's dims after time.
    """
    lost = lost.any([d for d in lost.dims if d not in at[0].dims])
    names, at = (TIME, *own), [a.transpose(*lost.dims) for a in at]
    if TIME not in points.variables and TIME not in points.dims:  # moored: a point is one at all times
        lost, names = lost.any(TIME), own
        at = [a.isel({TIME: 0}) for a in at[1:]]
    first = [[shown(a.values[lost.values][k], 5) for a in at] for k in range(min(_TOLD, int(lost.sum())))]
    listed = ", ".join(f"({', '.join(each)})" for each in first) + (", ..." if int(lost.sum()) > _TOLD else "")
    return (
        f"truth holds NaN or infinite values around {int(lost.sum())} of {checks.counted(lost.size, 'point')}, as on "
        f"land and beside it: ({', '.join(map(str, names))}) = {listed}. Leave those out: "
        f"{_others(lost, truth, points, names)}."
    )


def _others(lost: xr.DataArray, truth: xr.DataArray, points: xr.Dataset, names: Sequence[Hashable]) -> str:
    """Code that leaves points out: by their numbers, or where they are many by the weight of land in their values.

    Args:
        lost: which, on the dims of the points.
        truth: the field.
        points: as they came.
        names: of the dims along which values are interpolated.
    """
    if lost.ndim == 1 and int(lost.sum()) <= _LISTED:
        return f"at=points.drop_isel({lost.dims[0]}={np.flatnonzero(lost).tolist()})"
    along = [d for d in names if truth.sizes[d] > 1]
    others = [str(d) for d in truth.dims if d not in along and (d in names or d not in lost.dims)]
    places = ", ".join(f"{d}={'points' if d in points.variables else 'truth'}.{d}" for d in along)
    anywhere = f".any({others})" if others else ""
    sea, x = "~(land > 1e-9)", names[-1]
    keep = f"where({sea}, drop=True)" if lost.ndim == 1 else f"assign_coords({x}=points.{x}.where({sea}))"
    return f"land = (~np.isfinite(truth)){anywhere}.astype(float).interp({places}), then at=points.{keep}"


def _time_axis(steps: xr.DataArray, given: np.ndarray, attrs: dict) -> Axis:
    """The steps of the field with the times of points along them, as numbers in one unit."""
    steps, given = decoded(steps), decoded(xr.DataArray(given, dims=TIME, attrs=attrs))
    if (steps.dtype.kind in "iuf") != (given.dtype.kind in "iuf"):
        raise ValueError(
            f"The times of the points have dtype {given.dtype}, those of truth {steps.dtype}: give both as numbers in "
            "one unit, or both as dates."
        )
    unit = "d" if are_dates(steps) else natural_unit(steps)  # calendar months would lose the day
    return place_axis(TIME, tuple(model_times(steps, unit).tolist()), model_times(given, unit))


def _check_inside(axes: Sequence[Axis], given: Sequence[np.ndarray], truth: xr.DataArray) -> None:
    """Raises a ValueError where points lie beyond the first or last point of an axis.

    Args:
        axes: with the points along them.
        given: the coordinate of each point along each, as it came.
        truth: the field.
    """
    for axis, coordinate in zip(axes, given, strict=True):
        beyond = coordinate[(axis.position < 0) | (axis.position > len(axis.points) - 1)]
        if not beyond.size:
            continue
        name, points = axis.name, truth[axis.name].values
        what, remedy = "the domain", "bring them into its unit and convention"
        if name == TIME:
            what, remedy = "the window", "simulate more steps"
        ends = [shown(x) for x in (beyond.min(), beyond.max(), points.min(), points.max())]
        lie, at = "lies" if beyond.size == 1 else "lie", " to ".join(dict.fromkeys(ends[:2]))
        raise ValueError(
            f"{beyond.size} of {checks.counted(coordinate.size, 'point')} {lie} outside {what}, at {name} {at}, where "
            f"truth has {ends[2]} to {ends[3]}: {remedy}, or keep the others, points.where((points.{name} >= "
            f"truth.{name}.min()) & (points.{name} <= truth.{name}.max()), drop=True)."
        )
