"""A user's measurements as plain columns: a row for each value, of a long table or of a labelled dataset.

Here is checked that each row says what, when and where it was measured, and how large its error is. Times keep their
kind (numbers, dates or durations). A row whose value is NaN measures nothing; it is counted and left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nida_kit import checks, flags
from nida_kit.checks import counted
from nida_kit.dates import decoded
from nida_kit.edge import ALONG, COVARIANCE, LENGTH, NOISE, TRACK, track_of
from nida_kit.state import COMPONENT, SAMPLE, TIME
from nida_kit.units import check_agree

Column = np.ndarray | pd.Series


@dataclass(frozen=True)
class Names:
    """Which column holds what.

    Attributes:
        time: the time.
        what: the component's name; None is "what" or "component", whichever there is.
        value: what was measured.
        error: its standard deviation; None is "error" or "noise_std"; a number serves all rows.
        window: what tells windows apart; None is "sample" if there is one.
        places: by dim of the grid, where it is not the dim's own name.
    """

    time: Hashable = TIME
    what: Hashable | None = None
    value: Hashable = "value"
    error: Hashable | float | None = None
    window: Hashable | None = None
    places: Mapping[str, Hashable] | None = None


@dataclass(frozen=True)
class Units:
    """Units that a dataset or a table declares; "" is none.

    Attributes:
        time: of times that were numbers.
        value: of all values.
        error: of their errors, where that is another than the values'.
        components: by component, where values have their own.
    """

    time: str = ""
    value: str = ""
    error: str = ""
    components: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The rows that hold a value, N of them.

    Attributes:
        time: `(N,)`, numbers, datetime64, timedelta64, or cftime's dates as objects.
        value: `(N,)`, finite.
        error: `(N,)`, its standard deviation, positive.
        what: `(N,)`, the place among the components; None for a field.
        places: by dim of the grid, `(N,)`, in the coordinate's unit.
        window: `(N,)`, the place among the windows; None if there is one window without a name.
        windows: their labels.
        dim: what windows lie along.
        missing: the number of rows without a value.
        flagged: the number of rows whose value is left out by its flag.
        unused: columns or variables that play no part.
        flags: what to say of those among them that seem to tell good values from bad.
        pooled: dims of a dataset that tell no values apart.
        units: what is declared.
        tracks: of errors that drift along tracks the track and the distance along it, `(N,)` each, and the length over
            which they are correlated; None if they are independent.
    """

    time: np.ndarray
    value: np.ndarray
    error: np.ndarray
    what: np.ndarray | None
    places: dict[str, np.ndarray]
    window: np.ndarray | None
    windows: np.ndarray | None
    dim: Hashable | None
    missing: int
    flagged: int
    unused: tuple[str, ...]
    flags: tuple[str, ...]
    pooled: tuple[str, ...]
    units: Units
    tracks: tuple[np.ndarray, np.ndarray, float] | None = None

    @property
    def kind(self) -> str:
        """Of times: "f" numbers, "M" dates, "m" durations."""
        return self.time.dtype.kind.replace("O", "M")


def read_rows(
    data: pd.DataFrame | xr.Dataset, names: Names, dims: Sequence[str], components: Sequence[str], flag=None
) -> Rows:
    """The rows of a table or dataset that hold a value.

    Args:
        data: what was measured.
        names: of its columns.
        dims: of the grid, none for a state with components.
        components: of the state, none for a field.
        flag: which flags good values have; None takes all values.

    Raises:
        ValueError: no table, columns that lack or come twice, flags that there are not, or rows that do not say what
            they must.
    """
    source = _Source(data)
    value_name = source.needed(names.value, "value")
    what_name = _what_name(source, names.what, components)
    places = _place_names(source, names.places, dims)
    time_name = source.needed(names.time, "time")
    window_name = names.window
    if window_name is None and source.has(SAMPLE, bare=True):
        window_name = SAMPLE
    if window_name is not None:
        source.needed(window_name, "window", bare=True)
    error_name = _error_name(source, names.error)
    wanted = [n for n in (time_name, what_name, value_name, error_name, window_name, *places.values()) if n is not None]
    length = track_of(data)[-1] if LENGTH in source.columns else None
    wanted += [] if length is None else [TRACK, ALONG]
    unit_name = _unit_name(source, value_name, wanted)
    wanted += [] if unit_name is None else [unit_name]
    attrs = {n: source.attrs(n) for n in source.candidates if n not in wanted}
    flag_names = flags.among(attrs, _ancillary(data, value_name))
    flag_name = None if flag is None else flags.chosen(flag_names, value_name, _ancillary(data, value_name))
    if flag_name is not None:
        wanted += [flag_name]
        source.check_beside(flag_name, value_name)
    source = source.flat(wanted, [value_name, error_name, unit_name, flag_name])

    value = _numbers(source[value_name], value_name)
    kept = ~np.isnan(value)
    if not kept.any():
        raise ValueError(f"There is no value: the column {value_name!r} holds {value.size} rows, all of them NaN.")
    missing = int((~kept).sum())
    if flag_name is not None:
        kept &= flags.good(flag_name, source[flag_name].to_numpy(), attrs[flag_name], flag)
    if not kept.any():
        raise ValueError(f"There is no value left: of those that there are none has in {flag_name!r} the flag {flag}.")
    if isinstance(data, xr.Dataset):
        for name in (value_name, error_name):
            if name is not None:
                checks.no_fill(f"data[{name!r}]", source[name].to_numpy()[kept], data[name].attrs)
    if infinite := np.isinf(value[kept]).sum():
        raise ValueError(f"{value_name!r} holds {counted(infinite, 'infinite value')}; make them NaN, or drop them.")
    error = _errors(source, names.error, error_name, kept)
    units = _declared(data, time_name, value_name, error_name)
    time = _times(_dated(source[time_name], units.time), time_name, kept)
    what = _what(source, what_name, components, kept)
    if unit_name is not None:
        units = _with_units_of_rows(units, source[unit_name][kept], what, components, value_name)
    where = {dim: _placed(source[name], name, kept) for dim, name in places.items()}
    window, windows = _windows(source, window_name, kept)
    return Rows(
        time[kept],
        value[kept],
        error,
        what,
        where,
        window,
        windows,
        window_name,
        missing,
        int((~kept).sum()) - missing,
        source.unused,
        tuple(flags.told(n, np.asarray(data[n]), attrs[n]) for n in flag_names) if flag is None else (),
        source.pooled,
        units,
        None if length is None else (*(_numbers(source[name], name)[kept] for name in (TRACK, ALONG)), length),
    )


class _Source:
    """A table or a dataset, asked for columns in the same way."""

    def __init__(self, data: pd.DataFrame | xr.Dataset):
        if not isinstance(data, pd.DataFrame | xr.Dataset):
            raise ValueError(
                f"nk.grid takes a pandas DataFrame with a row per value, or an xr.Dataset, not {type(data).__name__}: "
                "pd.DataFrame(...) of other tables, array.to_dataset(name='value') of a DataArray, "
                "series.rename('value').reset_index() of a Series."
            )
        if isinstance(data, pd.DataFrame):
            named = [n for n in data.index.names if n is not None and n not in data.columns]
            data = data.reset_index(named) if named else data
            if data.empty:
                raise ValueError(
                    f"There is no row: the table, with the columns {list(map(str, data.columns))}, is empty. Look at "
                    "what made it, a selection that nothing meets or a file without lines."
                )
            twice = data.columns[data.columns.duplicated()].tolist()
            if twice:
                raise ValueError(f"The table has more than one column {twice[0]!r}: rename or drop all but one.")
        self.data = data
        self.unused: tuple[str, ...] = ()
        self.pooled: tuple[str, ...] = ()

    @property
    def columns(self) -> list:
        return list(self.data.columns) if self.is_table else list(self.data.variables)

    @property
    def candidates(self) -> list:
        """Columns, or variables that are no coordinates."""
        return list(self.data.columns) if self.is_table else list(self.data.data_vars)

    def attrs(self, name: Hashable) -> Mapping[Hashable, Any]:
        """What a variable says of itself."""
        return {} if self.is_table else self.data[name].attrs

    @property
    def is_table(self) -> bool:
        return isinstance(self.data, pd.DataFrame)

    def has(self, name: Hashable, bare: bool = False) -> bool:
        """Whether there is such a column; `bare` lets a dim without coordinates count."""
        if not isinstance(name, Hashable):
            raise ValueError(f"A column has a name; {type(name).__name__} is none: put it into the data, and name it.")
        return name in self.columns or (bare and not self.is_table and name in self.data.dims)

    def needed(self, name: Hashable, role: str, bare: bool = False) -> Hashable:
        """The name, if there is such a column."""
        if not self.has(name, bare):
            raise self.lacks(name, role)
        return name

    def lacks(self, name: Hashable, role: str) -> ValueError:
        """What to say of a column that there is not."""
        kind = "table has no column" if self.is_table else "dataset has no variable or coordinate"
        advice = _ADVICE[role] if self.is_table else _ADVICE_OF_DATASETS.get(role, _ADVICE[role])
        return ValueError(f"The {kind} {name!r}; there are {list(map(str, self.columns))}. {advice}")

    def check_beside(self, flag: Hashable, value: Hashable) -> None:
        """Raises a ValueError if there is no flag for each value alone."""
        foreign = [] if self.is_table else [d for d in self.data[flag].dims if d not in self.data[value].dims]
        if foreign:
            raise ValueError(f"{flag} has the dims {foreign} that {value} has not: a flag is of each value.")

    def flat(self, wanted: Sequence[Hashable], measured: Sequence[Hashable]) -> _Source:
        """The same with one axis of rows, and the names of what tells no values apart."""
        if self.is_table:
            self.unused = tuple(str(name) for name in self.columns if name not in wanted)
            return self
        arrays = [self.data[name] for name in wanted]
        explained = {d for name, a in zip(wanted, arrays, strict=True) if name not in measured for d in a.dims}
        flat = xr.broadcast(*(array.drop_vars(array.coords) for array in arrays))
        source = _Source(pd.DataFrame({name: a.values.ravel() for name, a in zip(wanted, flat, strict=True)}))
        source.unused = tuple(str(name) for name in self.data.data_vars if name not in wanted)
        source.pooled = tuple(str(d) for d in flat[0].dims if d not in explained)
        return source

    def __getitem__(self, name: Hashable) -> pd.Series:
        return self.data[name]


_MELT = "A table with a column for each component is made long by df.melt(id_vars='time', var_name='what')"
_ADVICE = {
    "time": "Say which holds the time: time='date', or name the index: df.rename_axis('time').",
    "what": f"Say which holds the components' names: what='name'. {_MELT}; of one component: df.assign(what='x').",
    "value": f"Say which holds what was measured: value='sst'. {_MELT}.",
    "error": "Say which holds the standard deviation of each error, error='sigma', or give one number: error=0.4.",
    "window": "Say which tells windows apart: window='station'.",
    "place": "Say which holds the places along each dim of the grid: places={'y': 'lat', 'x': 'lon'}.",
}
_STACK = "Variables for each component become one by ds[['x', 'y']].to_array('component').to_dataset(name='value')."
_ADVICE_OF_DATASETS = {
    "time": "Say which holds the time: time='date'; a dim needs coordinates: ds.assign_coords(time=...).",
    "what": f"Say which holds the components' names: what='name'. {_STACK}",
    "value": f"Say which holds what was measured: value='sst'. {_STACK}",
}


def _what_name(source: _Source, given: Hashable | None, components: Sequence[str]) -> Hashable | None:
    """The column of components' names; None for a field, and for a state of one component that needs none."""
    if given is not None:
        return source.needed(given, "what")
    found = _first(source, ("what", COMPONENT), "what")
    if found is None and len(components) > 1:
        raise source.lacks("what", "what")
    return found


def _error_name(source: _Source, given: Hashable | float | None) -> Hashable | None:
    """The column of standard deviations; None if one number serves all."""
    if given is not None and not isinstance(given, str) and not source.has(given):
        checks.positive("error", given)
        return None
    if given is not None:
        return source.needed(given, "error")
    found = _first(source, ("error", NOISE), "error")
    if found is None and source.has(COVARIANCE):
        raise ValueError(
            "The errors are correlated (noise_covariance), and values that share a cell are combined as independent "
            "ones: give their standard deviations, error='noise_std', or bring them onto the grid yourself."
        )
    if found is None:
        raise source.lacks("error", "error")
    return found


def _first(source: _Source, names: Sequence[str], role: str) -> str | None:
    """The one of these columns that there is."""
    there = [name for name in names if source.has(name)]
    if len(there) > 1:
        raise ValueError(
            f"There are columns {there[0]!r} and {there[1]!r}: say which one holds it, {role}={there[0]!r}."
        )
    return there[0] if there else None


def _place_names(source: _Source, given: Mapping[str, Hashable] | None, dims: Sequence[str]) -> dict[str, Hashable]:
    """The column of each dim of the grid."""
    given = checks.instance("places", given or {}, Mapping, "a dict", "Try places={'y': 'lat', 'x': 'lon'}.")
    if foreign := [dim for dim in given if dim not in dims]:
        raise ValueError(
            f"places= names {foreign}, which are no dims of the grid: "
            + (f"it has {list(dims)}." if dims else "the state has components and no places.")
        )
    return {dim: source.needed(given.get(dim, dim), "place") for dim in dims}


def _numbers(column: Column, name: Hashable) -> np.ndarray:
    """A column of numbers as floats; what is missing is NaN."""
    if not pd.api.types.is_numeric_dtype(column.dtype) or column.dtype.kind not in "iuf":
        raise ValueError(
            f"The column {name!r} has dtype {column.dtype}; real numbers are needed{_first_text(column)}: "
            f"pd.to_numeric(df[{name!r}]) tells what is none."
        )
    return column.to_numpy(dtype=float, na_value=np.nan)


def _first_text(column: Column) -> str:
    """The first of a column of texts that is no number, in words."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return ""
    numbers = pd.to_numeric(pd.Series(column), errors="coerce").to_numpy()
    wrong = np.flatnonzero(np.isnan(numbers.astype(float)) & pd.notna(column))
    return f", and row {wrong[0]}, counted from 0, holds {pd.Series(column).iloc[wrong[0]]!r}" if wrong.size else ""


def _errors(source: _Source, given, name: Hashable | None, kept: np.ndarray) -> np.ndarray:
    """The standard deviation of each value that there is."""
    if name is None:
        return np.full(int(kept.sum()), checks.positive("error", given))
    error = _numbers(source[name], name)[kept]
    bad = ~((error > 0) & np.isfinite(error))
    if bad.any():
        raise ValueError(
            f"The column {name!r} holds {error[bad][0]:g} beside a value, and {bad.sum()} such in all; standard "
            "deviations are positive and finite. Give the missing ones, df.fillna({" + repr(name) + ": 0.4}) say, or "
            "make the values NaN that you do not trust."
        )
    return error


def _dated(column: pd.Series, units: str) -> pd.Series:
    """Times as dates, if they are numbers "since" one."""
    times = xr.DataArray(column.to_numpy(), dims=TIME, attrs={"units": units}) if " since " in units else None
    return column if times is None else pd.Series(decoded(times).values, name=column.name)


def _times(column: Column, name: Hashable, kept: np.ndarray) -> np.ndarray:
    """Times as numbers, datetime64 or timedelta64, in steps of microseconds or longer, or as dates of cftime."""
    dtype = column.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        raise ValueError(
            f"The times {name!r} are in the time zone {dtype.tz}, and a model has one clock: "
            f"df[{name!r}].dt.tz_convert('UTC').dt.tz_localize(None)."
        )
    if dtype.kind in "Mm":
        time = column.to_numpy().astype(f"{dtype.kind}8[us]")
        lost = np.isnat(time)
    elif dtype.kind in "iuf" and pd.api.types.is_numeric_dtype(dtype):
        time = _numbers(column, name)
        lost = ~np.isfinite(time)
    elif _of_one_calendar(column[kept]):
        time, lost = column.to_numpy(), column.isna().to_numpy()
    else:
        raise ValueError(
            f"The times {name!r} have dtype {dtype} ({column.iloc[0]!r} is the first): numbers, datetime64 or "
            "timedelta64 are needed, or dates of one calendar of cftime; of texts, "
            f"df.assign({name}=pd.to_datetime(df[{name!r}]))."
        )
    if (lost & kept).any():
        raise ValueError(
            f"{counted((lost & kept).sum(), 'value has', 'values have')} no time ({name!r} is missing or infinite): "
            "give it, or drop."
        )
    return time


def _of_one_calendar(column: pd.Series) -> bool:
    """Whether times are cftime's dates."""
    calendars = {getattr(t, "calendar", "") for t in column} if column.dtype.kind == "O" else set()
    return len(calendars) == 1 and all(calendars)


def _what(source: _Source, name: Hashable | None, components: Sequence[str], kept: np.ndarray) -> np.ndarray | None:
    """The place of each value's component in the state; None for a field, which is one quantity."""
    if name is None:
        return np.zeros(int(kept.sum()), int) if components else None
    codes, found = pd.factorize(source[name][kept])
    if (codes < 0).any():
        raise ValueError(
            f"{counted((codes < 0).sum(), 'value does', 'values do')} not say what was measured ({name!r} is missing): "
            "give it, or drop."
        )
    if not components:
        if len(found) > 1:
            raise ValueError(
                f"A field is one quantity, and the column {name!r} holds {_few(found)}: select one of them, "
                f"df[df[{name!r}] == {found[0]!r}]."
            )
        return None
    unknown = [each for each in found if str(each) not in components]
    if unknown:
        raise ValueError(
            f"The column {name!r} names {_few(unknown)}, unknown here; the state has {_few(components)}. Rename them, "
            f"or leave them out: df[df[{name!r}].isin({_few(components)})]."
        )
    return np.array([components.index(str(each)) for each in found])[codes]


def _few(labels: Sequence) -> str:
    """A list of which only the first are shown if it is long."""
    labels = [each.item() if isinstance(each, np.generic) else each for each in labels]
    return str(labels) if len(labels) <= 8 else f"[{', '.join(map(repr, labels[:6]))}, ... ({len(labels)} in all)]"


def _placed(column: Column, name: Hashable, kept: np.ndarray) -> np.ndarray:
    where = _numbers(column, name)[kept]
    if not np.isfinite(where).all():
        lost = counted((~np.isfinite(where)).sum(), "value has", "values have")
        raise ValueError(f"{lost} no place ({name!r} is missing or infinite): give it, or drop.")
    return where


def _windows(source: _Source, name: Hashable | None, kept: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The place of each value's window, and the windows' labels; those without a value count too."""
    if name is None:
        return None, None
    codes, labels = pd.factorize(source[name], sort=True)
    if (codes < 0).any():
        lost = counted((codes < 0).sum(), "row does", "rows do")
        raise ValueError(f"{lost} not say the window ({name!r} is missing): give it, or drop.")
    if any(isinstance(label, tuple) for label in labels[:1]):
        raise ValueError(
            f"The windows {name!r} are labelled by pairs: data.reset_index({name!r}), and name one column."
        )
    return codes[kept], np.asarray(labels)


def _ancillary(data, value: Hashable) -> list[str]:
    """Variables that a dataset says belong to the value, by the CF conventions."""
    return str(data[value].attrs.get("ancillary_variables", "")).split() if isinstance(data, xr.Dataset) else []


def _declared(data, time: Hashable, value: Hashable, error: Hashable | None) -> Units:
    """What the variables of a dataset declare of themselves."""
    if not isinstance(data, xr.Dataset):
        return Units()
    return Units(*("" if name is None else str(data[name].attrs.get("units", "")) for name in (time, value, error)))


def _unit_name(source: _Source, value: Hashable, wanted: Sequence[Hashable]) -> str | None:
    """The column or coordinate that holds the units of values, as texts, if there is one."""
    for name in ("units", "unit"):
        if not source.has(name) or name in wanted or pd.api.types.is_numeric_dtype(source[name].dtype):
            continue
        if source.is_table or set(source[name].dims) <= set(source[value].dims):
            return name
    return None


def _with_units_of_rows(
    units: Units, column: pd.Series, what: np.ndarray | None, components: Sequence[str], value: Hashable
) -> Units:
    """Units that a dataset declares with those that its rows do.

    Raises:
        ValueError: they contradict each other.
    """
    of_rows = _units_of_rows(column, what, components)
    for unit in [of_rows["value"]] if "value" in of_rows else of_rows.get("components", {}).values():
        if units.value:
            check_agree(unit, units.value, f"The column {column.name!r}", f"{value!r} by its attrs['units']")
    return replace(units, **of_rows)


def _units_of_rows(column: pd.Series, what: np.ndarray | None, components: Sequence[str]) -> dict:
    """The one unit of each component among the rows, or of a field."""
    given = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    names = np.full(len(given), "the field") if what is None else np.array(components)[what]
    found = {str(name): units.unique().tolist() for name, units in given.groupby(names)}
    for name, units in found.items():
        if len(units) > 1:
            raise ValueError(
                f"Values of {name!r} come in several units, {_few(units)} in the column {column.name!r}: convert them "
                "and their errors to one of these before, and write it there."
            )
    one = {name: unit for name, (unit,) in found.items() if unit}
    return {"components": one} if what is not None else {"value": one["the field"]} if one else {}
