"""A table of measurements, or a dataset at irregular times, as observations on the model's grid.

Values that share a cell of the grid are combined by their errors, as independent measurements of one number:

    value = sum(v / std^2) / sum(1 / std^2),    noise_std = 1 / sqrt(sum(1 / std^2))

So the information sum(1 / std^2) is kept, and only times and places move, to those of the cell. With `exact=True` they
do not: a value at a fraction f of the way from step k to k + 1 is a statement about both,

    y = (1 - f) x_k + f x_{k + 1} + error

and likewise along each axis of a field. Such values stand in columns at step k, and an operator over the window knows
their fractions.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import xarray as xr

from nida_kit import checks
from nida_kit.edge import ALONG, LENGTH, NOISE, TRACK
from nida_kit.observing.axes import Axis, corners, place_axis, read_step, shown, time_axis
from nida_kit.observing.operators import OverWindow, over_window
from nida_kit.observing.points import Between
from nida_kit.observing.table import Names, Rows, read_rows
from nida_kit.state import COMPONENT, TIME, GridLabels, Labels, StateLabels, reserved
from nida_kit.units import conversion

_MOST = 3 * 10**8  # numbers of an array, 2.4 GB


def grid(
    data: pd.DataFrame | xr.Dataset,
    like,
    dt=None,
    start=None,
    steps: int | None = None,
    *,
    exact: bool = False,
    time: Hashable = TIME,
    what: Hashable | None = None,
    value: Hashable = "value",
    error: Hashable | float | None = None,
    places: Mapping[str, Hashable] | None = None,
    window: Hashable | None = None,
    flag: Hashable | Sequence[Hashable] | None = None,
) -> xr.Dataset | tuple[xr.Dataset, OverWindow]:
    """Observations on the model's grid, of a long table or of a dataset at irregular times.

    >>> import nida_kit as nk, pandas as pd
    >>> table = pd.DataFrame({
    ...     "time": [0.0, 0.11, 0.09, 0.32], "what": ["x", "x", "x", "z"],
    ...     "value": [1.0, 2.0, 5.0, 20.0], "error": [0.5, 1.0, 0.5, 1.0],
    ... })
    >>> obs = nk.grid(table, nk.Lorenz63(), dt=0.1)
    >>> obs["value"].sel(component="x").values
    array([1. , 4.4, nan, nan])
    >>> print(obs.attrs["report"])
    rows                        4
    values used                 4, as 3 observations
    share a cell with others    2, which differ from what they make by up to 2.4 standard deviations
    moved along time            by up to 0.02, by 0.01 on average

    True times stay with `exact=True`, through an operator that goes with the observations:

    >>> obs, between = nk.grid(table, nk.Lorenz63(), dt=0.1, exact=True)
    >>> result = nk.WeakFourDVar(nk.Lorenz63(), 0.1).assimilate(obs, operator=between)

    Files of the ocean data challenges go in as they are, and results come out as theirs: along the track
    `nk.grid(xr.open_dataset("track.nc"), method, value="ssh_model", error=0.05, exact=True)`, a map likewise with
    `value="sossheig"`, for a field of `nk.GridLabels({"lat": ..., "lon": ...}, "m", time_units="d")`; and
    `result["mean"].rename("sossheig").to_netcdf("map.nc")`.

    Args:
        data: a DataFrame with a row for each value, in the columns that are named below; or an `xr.Dataset` with these
            as variables or coordinates: at irregular times, (time, component), of several stations, (station, time), or
            of single values, (obs,). A row whose value is NaN measures nothing. Declared units are converted to the
            model's, those of values and errors in a dataset's attributes, or in a column `unit` or `units`; without
            any, numbers are taken to be in the model's. Errors that drift along tracks are told by the coordinates
            `track`, `along_track` and `noise_length` of a dataset, as `nk.observe(..., noise_length=)` gives them, and
            need `exact`.
        like: whose grid it is: a method, a system, or its labels (`nk.StateLabels`, `nk.GridLabels`).
        dt: the time step, a number in the model's time unit; along dates or durations also a text or an object,
            such as "6h", "1D" or "MS" (calendar months: a value belongs to the month that it falls in); None is that of
            `like`.
        start: first time of the grid; None is the first in the table (with months, the first of that month, and with
            whole years the first of January).
        steps: how many; None is as many as reach the last value.
        exact: keep true times and places, and give an operator too. Only what lies beyond the first or last point of
            an axis, by less than half a step, moves onto it. The operator goes over the whole window, so `nk.Cycled`
            cannot cut it, and the time grows with the cube of the steps: 800 of Lorenz-63 take a quarter of a minute.
            Of a long record take parts, by `start` and `steps`, or leave `exact` away.
        time: the column of times: numbers in the model's time unit, datetime64, timedelta64, or dates of cftime. The
            grid's times are of the same kind.
        what: the column of components' names; None is "what" or "component". A field needs none.
        value: the column of what was measured.
        error: the column of standard deviations of errors, which are independent; or one number; None is the column
            "error" or "noise_std".
        places: for a field, the column of each of its dims, {"y": "lat", "x": "lon"}; None is the dims' own names.
        window: the column that tells windows apart, along a dim of its name; None is "sample" if there is one, else all
            is one window.
        flag: which quality flags good values have: one or several of the flag's values, or of its `flag_meanings`; rows
            with others, or without any, are left out. None takes all values. The flags are the column that is called
            as the values are, with "_qc", or what the attribute `ancillary_variables` of these names, or the only
            column whose name or attributes say that it holds flags (`qc`, `quality_flag`).

    Returns:
        `value` and `noise_std (time, component)`, NaN where nothing was measured, or of a field with its own dims,
        after the dim of windows, if any. Its attrs have a `report` of what became of all rows, as text, and the same as
        numbers. With `exact=True` a pair of observations and operator, for
        `method.assimilate(obs, operator=operator)`, with methods of whole windows; a row of (steps, components) for
        each value must fit in memory.

    Raises:
        ValueError: columns that are missing, rows that do not say what they must, components or dims that the state
            does not have, flags that there are not, a time step or units that cannot be known, nothing within the
            window, or, without `steps`, a few times so far from all others that nearly all steps would be empty.

    Warns:
        Of values outside the grid, or on the land of the method `like`, which are left out; of values of one cell that
        contradict each other, of rows that come more than once, of flags that are not looked at, and of dims that tell
        no values apart.
    """
    labels, known = _model(like)
    exact = checks.flag("exact", exact)
    steps = None if steps is None else checks.count("steps", steps, 1)
    dims = labels.dims if isinstance(labels, GridLabels) else ()
    components = labels.components if isinstance(labels, StateLabels) else ()
    rows = read_rows(data, Names(time, what, value, error, window, places), dims, components, flag)
    rows, converted = _in_units_of(labels, rows)
    _check_dim(rows.dim, labels)
    if rows.tracks is not None and not exact:
        raise ValueError(
            "The errors drift along tracks (noise_length), and values that share a cell are combined as independent "
            "ones: keep their places by exact=True, or drop_vars('noise_length')."
        )
    step = read_step(dt, rows.kind, labels.time_units, known)
    most = _MOST // (labels.size * (1 if rows.windows is None else len(rows.windows)))
    axes = [time_axis(rows.time, start, step, steps, most, beyond=exact)]
    axes += [place_axis(dim, coords, rows.places[dim]) for dim, coords in labels.indexes.items() if dim in rows.places]
    inside = np.all([axis.inside for axis in axes], axis=0)
    if not inside.any():
        raise ValueError(_nothing(axes))
    land = getattr(like, "land", None)
    ashore = np.zeros(inside.shape, bool)
    if land is not None:
        ashore[inside] = _on_land([axis.among(inside) for axis in axes], land.cpu().numpy(), labels.shape, exact)
        inside = inside & ~ashore
    if not inside.any():
        raise ValueError(f"All values lie on land, where the method knows no field: {_first(axes, ashore)}.")
    values = _Values.of(rows, [axis.among(inside) for axis in axes], inside)
    obs, operator, cells = (_interpolating if exact else _on_grid)(values, labels, rows)
    report = _report(rows, values, cells, exact, converted, int(ashore.sum()))
    for note in _doubts(report, rows, axes, _contradiction(values, cells, labels, exact), _first(axes, ashore)):
        warnings.warn(note, stacklevel=2)
    obs = _labelled(obs, rows, labels, axes[0]).assign_attrs(report.numbers | {"report": report.text})
    return (obs, operator) if exact else obs


def _model(like) -> tuple[Labels, float | None]:
    """The labels and the time step of a method, a system, or labels, which have no step."""
    labels = getattr(like, "labels", like)
    expected = "a method, a system, or the labels of a state"
    checks.instance("like", labels, StateLabels | GridLabels, expected, "Try nk.Lorenz63(), or nk.GridLabels({...}).")
    return labels, getattr(like, "dt", None)


def _check_dim(dim: Hashable | None, labels: Labels) -> None:
    """Raises a ValueError if windows cannot lie along this dim."""
    if dim is not None and (dim in (TIME, COMPONENT, *labels.dims) or reserved(dim)):
        raise ValueError(f"Windows cannot lie along {dim!r}, a name with another meaning: rename that column.")


def _nothing(axes: Sequence[Axis]) -> str:
    """What to say if no value lies on the grid."""
    spans = [
        f"{axis.name} of the values is {shown(axis.given.min())} to {shown(axis.given.max())}, of the grid "
        f"{shown(axis.points[0])} to {shown(axis.points[-1])}"
        for axis in axes
    ]
    return (
        f"Nothing lies on the grid: {'; '.join(spans)}. Give another start= or steps=, or bring both into one unit and "
        "convention (longitudes from -180 or from 0 on)."
    )


def _on_land(axes: Sequence[Axis], land: np.ndarray, shape: tuple[int, ...], exact: bool) -> np.ndarray:
    """Which values `(N,)` lie on land alone: their nearest point does, or if places are kept, all points around them.

    Args:
        axes: time and the field's own, with the values.
        land: which points of the field are.
        shape: of the field.
        exact: whether places are kept.
    """
    at = [axis.between() if exact else axis.nearest().astype(float) for axis in axes]
    index, weight = corners(axes, at, shape)
    return (land[index % land.size] | (weight == 0)).all(-1)


def _first(axes: Sequence[Axis], some: np.ndarray) -> str:
    """Where the first of some values lie, in words."""
    places = [[shown(x, 5) for x in axis.given[some][:3]] for axis in axes]
    listed = ", ".join(f"({', '.join(at)})" for at in zip(*places, strict=True))
    return f"({', '.join(str(axis.name) for axis in axes)}) = {listed}{', ...' if some.sum() > 3 else ''}"


# Values


@dataclass(frozen=True)
class _Values:
    """The N values on the grid.

    Attributes:
        value: `(N,)`.
        error: `(N,)`, its standard deviation.
        window: `(N,)`, from 0.
        windows: how many there are.
        axes: time and, of a field, its own.
        what: `(N,)`, the place among the components; None for a field.
        tracks: of errors that drift, the track of each value and the distance along it, `(N,)` each.
    """

    value: np.ndarray
    error: np.ndarray
    window: np.ndarray
    windows: int
    axes: list[Axis]
    what: np.ndarray | None
    tracks: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, rows: Rows, axes: list[Axis], inside: np.ndarray) -> _Values:
        """Those of the rows that lie on the grid."""
        window = np.zeros(inside.size, int) if rows.window is None else rows.window
        windows = 1 if rows.windows is None else len(rows.windows)
        what = None if rows.what is None else rows.what[inside]
        tracks = tuple(x[inside] for x in (rows.tracks or ())[:2])
        return cls(rows.value[inside], rows.error[inside], window[inside], windows, axes, what, tracks)

    @property
    def steps(self) -> int:
        """Of the window."""
        return len(self.axes[0].points)


@dataclass(frozen=True)
class _Cells:
    """Values combined, M of them.

    Attributes:
        index: `(M,)`, rising: which cell.
        value: `(M,)`.
        error: `(M,)`, its standard deviation.
        shared: the number of values that are not alone in theirs.
        apart: the largest distance of one of these from the combined value, in its standard deviations.
        worst: the place among all values of that one.
        made: the combined value that it is so far from, and its standard deviation.
        repeated: the number of values that another row repeats with all it says.
    """

    index: np.ndarray
    value: np.ndarray
    error: np.ndarray
    shared: int
    apart: float
    worst: int
    made: tuple[float, float]
    repeated: int


def _combined(cell: np.ndarray, values: _Values) -> _Cells:
    """Values of the same cell `(N,)` as one; a value alone in its cell is left as it is, bit for bit."""
    order = np.argsort(cell, kind="stable")
    cell, v, s = cell[order], values.value[order], values.error[order]
    first = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
    counts = np.diff(np.r_[first, cell.size])
    least = np.minimum.reduceat(s, first)
    weight = (np.repeat(least, counts) / s) ** 2  # at most 1, whatever the unit
    total = np.add.reduceat(weight, first)
    mean, error = np.add.reduceat(weight * v, first) / total, least / np.sqrt(total)
    shared = np.repeat(counts > 1, counts)
    apart = np.where(shared, np.abs(v - np.repeat(mean, counts)) / s, 0.0)
    worst = int(apart.argmax())
    made = float(np.repeat(mean, counts)[worst]), float(np.repeat(error, counts)[worst])
    told = {axis.name: axis.given[order][shared] for axis in values.axes} | {"cell": cell[shared]}
    told |= {"value": v[shared], "error": s[shared]}
    repeated = int(pd.DataFrame(told).duplicated().sum())
    return _Cells(cell[first], mean, error, int(shared.sum()), float(apart[worst]), int(order[worst]), made, repeated)


# On the grid


def _on_grid(values: _Values, labels: Labels, rows: Rows) -> tuple[xr.Dataset, None, _Cells]:
    """Each value at the nearest step and point."""
    time, *places = values.axes
    state = [axis.order[axis.nearest()] for axis in places] if places else [values.what]
    shape = (values.windows, values.steps, *labels.shape)
    cells = _combined(np.ravel_multi_index((values.window, time.nearest(), *state), shape), values)
    obs = _spread(cells, cells.index, shape, (TIME, *labels.dims))
    if isinstance(labels, StateLabels):
        return _named(obs, range(labels.size), labels.components, labels, rows), None, cells
    return obs.assign_coords(labels.coordinates()), None, cells


def _spread(cells: _Cells, index: np.ndarray, shape: tuple[int, ...], dims: Sequence[str]) -> xr.Dataset:
    """Combined values at these places of a flattened array of windows, NaN elsewhere."""
    arrays = {}
    for name, x in (("value", cells.value), (NOISE, cells.error)):
        array = np.full(shape, np.nan)
        array.flat[index] = x
        arrays[name] = ((_WINDOWS, *dims), array)
    return xr.Dataset(arrays)


_WINDOWS = "_windows"  # until the dim has its own name


# Between the grid's points


def _interpolating(values: _Values, labels: Labels, rows: Rows) -> tuple[xr.Dataset, OverWindow, _Cells]:
    """Each value at its own time and place, in a column at the step before it; and what says where it is.

    The operator serves all windows. So a column at a step means the same in each of them.
    """
    positions = [axis.between() for axis in values.axes]
    of_value, first = _distinct([*positions, *([] if values.what is None else [values.what])])
    cells = _combined(values.window * len(first) + of_value, values)
    at = [position[first] for position in positions]
    what = np.zeros(len(first), int) if values.what is None else values.what[first]
    step = np.floor(at[0]).astype(int)
    column, of_column = _columns(step, what)
    shape = (values.windows, values.steps, len(of_column))
    if math.prod(shape) > _MOST:
        raise ValueError(
            f"Up to {shape[-1]} true times within one of {shape[1]} steps need {math.prod(shape):.1e} numbers in "
            "all: cut the table by start= and steps=, or give a smaller dt."
        )
    window, statement = np.divmod(cells.index, len(first))
    index = np.ravel_multi_index((window, step[statement], column[statement]), shape)
    obs = _spread(cells, index, shape, (TIME, COMPONENT))
    names = labels.components if isinstance(labels, StateLabels) else (labels.long_name,)
    obs = _named(obs, of_column, _numbered([names[k] for k in of_column]), labels, rows)
    obs = obs.assign_coords(fraction=_fractions(at[0] - step, step, column, shape[1:]))
    if rows.tracks is not None:
        along = _along_tracks(values, of_value, first, step, column, shape[1:])
        obs = obs.assign_coords({LENGTH: rows.tracks[-1]} | along)
    around = corners(values.axes, at, labels.shape, None if values.what is None else what)
    tables = [np.zeros((*shape[1:], x.shape[-1]), x.dtype) for x in around]
    for table, x in zip(tables, around, strict=True):
        table[step, column] = x
    function = Between(*map(torch.from_numpy, tables), (values.steps, *labels.shape))
    return obs, over_window(function), cells


def _distinct(keys: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For rows `(N,)` of keys: which of the distinct ones each is, and a row of each; in the order of the keys."""
    order = np.lexsort(keys[::-1])
    new = np.any([np.r_[True, np.diff(key[order]) != 0] for key in keys], axis=0)
    which = np.empty(order.size, int)
    which[order] = np.cumsum(new) - 1
    return which, order[new]


def _columns(step: np.ndarray, what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column for each statement, where no two of one step share one; and the component of each column."""
    order = np.lexsort((what, step))
    group = step[order] * (what.max() + 1) + what[order]
    first = np.flatnonzero(np.r_[True, np.diff(group) != 0])
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size) - np.repeat(first, np.diff(np.r_[first, order.size]))
    most = np.zeros(what.max() + 1, int)
    np.maximum.at(most, what, rank + 1)
    return (np.cumsum(most) - most)[what] + rank, np.repeat(np.arange(most.size), most)


def _numbered(names: Sequence[str]) -> list[str]:
    """Names that differ from each other and from those of components, which only the operator knows: "x (1)"."""
    count: Counter[str] = Counter()
    found = []
    for name in names:
        count[name] += 1
        found.append(f"{name} ({count[name]})")
    return found


def _along_tracks(
    values: _Values, of_value: np.ndarray, first: np.ndarray, step: np.ndarray, column: np.ndarray, shape: tuple
) -> dict[str, xr.Variable]:
    """The track of each statement and the distance along it, `(T, p)`, for errors that drift.

    Args:
        values: on the grid.
        of_value: the statement of each, `(N,)`.
        first: a value of each statement, `(M,)`.
        step: of each statement, `(M,)`.
        column: of each statement, `(M,)`.
        shape: (T, p).

    Raises:
        ValueError: values of one time and place, whose errors cannot be told apart.
    """
    windows = np.unique(np.stack([values.window, of_value]), axis=1).shape[1]
    if windows < of_value.size or not all(np.array_equal(x, x[first][of_value], equal_nan=True) for x in values.tracks):
        raise ValueError(
            "Several values have the same time and place, and errors that drift along different tracks (noise_length) "
            "cannot be combined: drop all but one of them, or move them apart by a little."
        )
    tables = np.full((2, *shape), np.nan)
    tables[:, step, column] = [x[first] for x in values.tracks]
    return {name: xr.Variable((TIME, COMPONENT), table) for name, table in zip((TRACK, ALONG), tables, strict=True)}


def _fractions(fraction: np.ndarray, step: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> xr.Variable:
    """Of the way from each step to the next, for the record."""
    of_step = np.full(shape, np.nan)
    of_step[step, column] = fraction
    about = {"long_name": "fraction of the step after time at which the value was measured"}
    return xr.Variable((TIME, COMPONENT), of_step, about)


# What is said of it


@dataclass(frozen=True)
class _Report:
    """What became of the rows, as text and as numbers."""

    text: str
    numbers: dict[str, int | float | str]


def _report(rows: Rows, values: _Values, cells: _Cells, exact: bool, converted: str, ashore: int) -> _Report:
    used, total = values.value.size, rows.value.size + rows.missing + rows.flagged
    numbers = {
        "rows": total,
        "missing": rows.missing,
        "flagged": rows.flagged,
        "outside": rows.value.size - used - ashore,
        "on_land": ashore,
        "repeated": cells.repeated,
        "used": used,
        "shared": cells.shared,
        "observations": cells.index.size,
    }
    lines = {"rows": f"{total:,}", "without a value": f"{rows.missing:,}" if rows.missing else ""}
    lines["left out by their flags"] = f"{rows.flagged:,}" if rows.flagged else ""
    lines["outside the grid"] = f"{numbers['outside']:,}" if numbers["outside"] else ""
    lines["on land"] = f"{ashore:,}" if ashore else ""
    lines["values used"] = f"{used:,}, as {checks.counted(cells.index.size, 'observation')}"
    if cells.shared:
        lines["share a cell with others"] = (
            f"{cells.shared:,}, which differ from what they make by up to {cells.apart:.3g} standard deviations"
        )
    lines["repeated row by row"] = f"{cells.repeated:,}" if cells.repeated else ""
    for axis in values.axes:
        moved = axis.moved(exact)
        most, mean = moved.max(), moved.mean()
        numbers |= {f"moved_{axis.name}_max": _plain(most), f"moved_{axis.name}_mean": _plain(mean)}
        lines[f"moved along {axis.name}"] = f"by up to {_shown(most)}, by {_shown(mean)} on average" if most else "no"
    lines["converted"] = converted
    lines["not used"] = ", ".join((*rows.unused, *rows.pooled))
    text = "\n".join(f"{name:<26}  {said}" for name, said in lines.items() if said)
    return _Report(text, numbers)


def _plain(shift) -> float | str:
    """A shift as attributes of files can hold it."""
    return _shown(shift) if isinstance(shift, np.timedelta64) else float(shift)


def _shown(shift) -> str:
    if not isinstance(shift, np.timedelta64):
        return f"{shift:.3g}"
    shift = pd.Timedelta(shift)
    return str(shift.round("s") if shift > pd.Timedelta("1min") else shift)


_CHANCE = 1e-3  # of a false alarm among all values that share a cell


def _contradiction(values: _Values, cells: _Cells, labels: Labels, exact: bool) -> str:
    """What to say if a value differs from what its cell makes by more than the largest of so many normal numbers."""
    if not cells.shared or cells.shared * math.erfc(cells.apart / math.sqrt(2)) >= _CHANCE:
        return ""
    k, (made, error) = cells.worst, cells.made
    name = labels.components[values.what[k]] if values.what is not None else labels.long_name
    where = ", ".join(f"{axis.name} {shown(axis.given[k])}" for axis in values.axes)
    apart = " exact=True keeps values of different times apart, so that robust='student' can weigh them."
    return (
        f"Values that share a cell contradict each other: {name} at {where} is {values.value[k]:g} +- "
        f"{values.error[k]:g}, and with the others in its cell it makes {made:.4g} +- {error:.2g}, which is "
        f"{cells.apart:.3g} standard deviations away. Look at them: drop what is wrong, or give larger errors if what "
        f"is measured varies within a cell.{'' if exact else apart}"
    )


def _doubts(report: _Report, rows: Rows, axes: Sequence[Axis], contradiction: str, ashore: str) -> list[str]:
    """What must be heard even if no report is read."""
    notes, numbers = [contradiction] if contradiction else [], report.numbers
    if numbers["outside"]:
        where = "; ".join(axis.outside for axis in axes if axis.outside)
        advice = "Widen start= and steps=, or select" if axes[0].outside else "Select"
        notes.append(
            f"{numbers['outside']} of {checks.counted(numbers['rows'], 'row')} "
            f"{'lies outside the grid and is' if numbers['outside'] == 1 else 'lie outside the grid and are'} left "
            f"out: {where}. "
            f"{advice} the others before."
        )
    if numbers["on_land"]:
        notes.append(
            f"{numbers['on_land']} of {checks.counted(numbers['rows'], 'row')} "
            f"{'lies on land and is' if numbers['on_land'] == 1 else 'lie on land and are'} left out, for the method "
            f"knows no field there: {ashore}. If it is sea there, fit the method to a past that has values."
        )
    if numbers["repeated"]:
        notes.append(
            f"{checks.counted(numbers['repeated'], 'row repeats', 'rows repeat')} another in all that counts, and each "
            "is taken as a measurement of its own, which makes errors too small if there are copies: "
            "df.drop_duplicates()."
        )
    notes += rows.flags
    if rows.pooled:
        notes.append(
            f"Nothing tells values along {list(rows.pooled)} apart: those of one time are combined. If they are "
            f"windows, say window={rows.pooled[0]!r}; of a field, give their places."
        )
    return notes


# Units and labels


def _in_units_of(labels: Labels, rows: Rows) -> tuple[Rows, str]:
    """Rows in the model's units, where others are declared; and what was converted."""
    named, given = rows.what is not None, rows.units
    what = rows.what if named else np.zeros(rows.value.size, int)
    value, error, time, said = rows.value.copy(), rows.error.copy(), rows.time, []

    def converted(name: str, unit: str, wanted: str) -> tuple[float, float]:
        found = conversion(unit, wanted, f"{name!r}") if unit else (1.0, 0.0)
        if found != (1.0, 0.0):
            said.append(f"{name}: {unit} to {wanted}")
        return found

    for k in np.unique(what):
        name, wanted = (labels.components[k], labels.units[k]) if named else ("value", labels.units)
        unit, here = given.components.get(name) or given.value, what == k
        factor, offset = converted(name, unit, wanted)
        value[here] = value[here] * factor + offset
        if given.error and given.error != unit:
            factor, _ = converted(f"error of {name}", given.error, wanted)  # a difference has no offset
        error[here] *= abs(factor)
    if rows.time.dtype.kind == "f":
        factor, _ = converted("time", given.time, labels.time_units)
        time = time * factor
    return replace(rows, time=time, value=value, error=error), ", ".join(said)


def _named(obs: xr.Dataset, components: Sequence[int], names: Sequence[str], labels: Labels, rows: Rows) -> xr.Dataset:
    """Columns with their names, and with units if those of the input are known."""
    obs = obs.assign_coords({COMPONENT: list(names)})
    if not (rows.units.components or rows.units.value):
        return obs
    units = labels.units if isinstance(labels, StateLabels) else [labels.units]
    return obs.assign_coords(units=(COMPONENT, [units[k] for k in components]))


def _labelled(obs: xr.Dataset, rows: Rows, labels: Labels, time: Axis) -> xr.Dataset:
    """With the coordinates of windows and time, and what the variables are."""
    told = {"units": labels.time_units} if rows.units.time and rows.time.dtype.kind == "f" else {}
    if rows.dim is None:
        obs = obs.isel({_WINDOWS: 0})
    else:
        obs = obs.rename({_WINDOWS: rows.dim}).assign_coords({rows.dim: rows.windows})
    obs["value"].attrs = {"long_name": "observed value", "comment": "NaN where nothing was observed"}
    if rows.units.value and isinstance(labels, GridLabels):
        obs["value"].attrs["units"] = labels.units
    obs[NOISE].attrs = {"long_name": "standard deviation of the observation error"}
    return obs.assign_coords({TIME: xr.Variable(TIME, time.points, told)})
