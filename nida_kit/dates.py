"""Time as a method counts it: numbers in its own unit, from dates, spans or numbers in any unit.

Dates (datetime64, or cftime's of any calendar) count from 1970-01-01. In months or years they count calendar months, so
that monthly data are evenly spaced, wherever in its month a date lies.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from nida_kit.units import NONE, conversion, is_calendar

EPOCH = np.datetime64("1970-01-01", "ns")


def are_dates(time: xr.DataArray) -> bool:
    """Whether times are dates, of whatever calendar."""
    return time.dtype.kind == "M" or (
        time.dtype == object and time.size > 0 and hasattr(time.values.flat[0], "calendar")
    )


def decoded(time: xr.DataArray) -> xr.DataArray:
    """The times, as dates if they are numbers "since" one (CF conventions)."""
    if time.dtype.kind not in "iuf" or " since " not in str(time.attrs.get("units", "")):
        return time
    plain = xr.Variable("time", time.values, time.attrs)
    try:
        dates = xr.decode_cf(xr.Dataset(coords={"time": plain}))["time"].values
    except (ValueError, OverflowError) as error:
        raise ValueError(f"The time coordinate cannot be read as dates: {error}") from error
    return xr.DataArray(dates, {time.dims[0]: dates}, time.dims, time.name)


def model_times(time: xr.DataArray, unit: str) -> np.ndarray:
    """Times as numbers in a unit.

    >>> dates = xr.DataArray(np.array(["1970-01-02", "1970-03-01"], "datetime64[ns]"), dims="time")
    >>> model_times(dates, "d"), model_times(dates, "months")
    (array([ 1., 59.]), array([0., 2.]))

    Args:
        time: `(T,)`.
        unit: of the method's time; "1" is its equations' own, which no date can be told in.

    Raises:
        ValueError: neither dates, spans nor numbers, a unit that cannot be converted, or missing times.
    """
    time = decoded(time)
    if not (np.isfinite(time.values) if time.dtype.kind in "iuf" else time.notnull().values).all():
        raise ValueError("The time coordinate holds NaN or infinite values; drop those times, or fill them in.")
    if time.dtype.kind in "iuf":
        factor, _ = conversion(str(time.attrs.get("units", unit)), unit, "The time coordinate")
        return time.values.astype(float) * factor
    spans = time.dtype.kind == "m"
    if not spans and not are_dates(time):
        raise ValueError(f"The time coordinate has dtype {time.dtype}; dates or plain numbers are needed.")
    if unit in NONE:
        raise ValueError(
            f"The time coordinate has dtype {time.dtype}, and its unit here is the equations' own, which has no "
            "name. Say what one of it is: obs.assign_coords(time=(obs.time - obs.time[0]) / np.timedelta64(1, 'D')), "
            "or give the method's labels their time_units."
        )
    if not spans and is_calendar(unit):
        months = (time.dt.year - 1970).values * 12 + time.dt.month.values - 1
        return months / (12.0 if "year" in unit else 1.0)
    per_second, _ = conversion("s", unit, "The time coordinate")
    return _seconds(time, spans) * per_second


def _seconds(time: xr.DataArray, spans: bool) -> np.ndarray:
    if spans:
        return time.values.astype("timedelta64[ns]").astype(float) / 1e9
    if time.dtype.kind == "M":
        return (time.values.astype("datetime64[ns]") - EPOCH).astype(float) / 1e9
    import cftime

    calendar = time.values.flat[0].calendar
    return np.asarray(cftime.date2num(time.values, "seconds since 1970-01-01", calendar), float)


def natural_unit(time: xr.DataArray) -> str:
    """A unit in which evenly spaced times have an even step: months, or the longest that fits."""
    time = decoded(time)
    if time.dtype.kind in "iuf":
        return str(time.attrs.get("units", "1"))
    if are_dates(time) and time.size > 1:
        months = np.diff(model_times(time, "months"))
        if months[0] > 0 and (months == months[0]).all():
            return "months"
    if not are_dates(time) and time.dtype.kind != "m":
        return "1"  # what cannot be read is refused where it is read
    steps = np.diff(_seconds(time, time.dtype.kind == "m"))
    return next((u for u, s in (("d", 86400), ("h", 3600), ("min", 60)) if (steps % s == 0).all()), "s")


def later(time: xr.DataArray, steps: int) -> xr.DataArray:
    """The times that follow evenly spaced ones.

    >>> months = xr.DataArray(np.array(["2001-11-30", "2001-12-31"], "datetime64[ns]"), dims="time")
    >>> later(months, 2).dt.strftime("%Y-%m-%d").values.tolist()
    ['2002-01-31', '2002-02-28']

    Args:
        time: `(T,)`, two or more, in any form; months follow by the calendar, on the latest day that any of them has.
        steps: how many.
    """
    dates = decoded(time)
    monthly = are_dates(dates) and natural_unit(dates) == "months"
    values = time.values
    if monthly:
        found = _later_months(dates, steps)
        found = found if dates is time else _counted(found, time.attrs)
    elif values.dtype == object:
        found = [values[-1] + (values[-1] - values[0]) * k / (len(values) - 1) for k in range(1, steps + 1)]
    else:
        k, gaps = np.arange(1, steps + 1), len(values) - 1
        whole = values.dtype.kind in "mM" or (values.dtype.kind in "iu" and (values[-1] - values[0]) % gaps == 0)
        span = values[-1] - values[0]
        found = values[-1] + (span * k // gaps if whole else span / gaps * k)
    return xr.DataArray(np.asarray(found), dims=time.dims, attrs=time.attrs)


def _later_months(dates: xr.DataArray, steps: int) -> np.ndarray:
    """Dates of the months that follow."""
    numpy, last = dates.dtype.kind == "M", dates.values[-1]
    last = pd.Timestamp(last) if numpy else last
    day, counted = int(dates.dt.day.max()), model_times(dates, "months")
    found = []
    for k in range(1, steps + 1):
        year, month = divmod(round(counted[-1] + k * (counted[1] - counted[0])), 12)
        first = last.replace(year=year + 1970, month=month + 1, day=1)
        found.append(first.replace(day=min(day, first.days_in_month if numpy else first.daysinmonth)))
    return np.array(found, dates.dtype if numpy else object)


def _counted(dates: np.ndarray, attrs: dict) -> np.ndarray:
    """Dates as numbers, as the attributes of a CF coordinate say."""
    encoding = {name: attrs[name] for name in ("units", "calendar") if name in attrs}
    return xr.conventions.encode_cf_variable(xr.Variable("time", dates, encoding=encoding)).values
