"""A record of the past: its season, what is left without it, and its windows.

    x(t) = season(t) + anomaly(t)

The season is what the calendar alone says: the mean of each month or hour, or a smooth curve over the year.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from nida_kit import checks
from nida_kit.dates import are_dates, decoded, model_times, natural_unit
from nida_kit.edge import in_units_of
from nida_kit.notes import warn
from nida_kit.state import COMPONENT, SAMPLE, TIME, labels_of, reserved, state_dims

HARMONICS = 3  # waves in a year

_KINDS = ("month", "dayofyear", "hour")


@dataclass(frozen=True)
class Season:
    """What the calendar says of a state.

    A season of N independent years is an estimate: anomalies of these years about it are smaller than those of a new
    year, by a factor of sqrt((N - 1) / (N + 1)). With few years, make them larger before a method is fitted to them, or
    its intervals are too narrow (notebook 11 does so).

    >>> import nida_kit as nk, numpy as np, xarray as xr
    >>> time = xr.date_range("2000-01-01", periods=120, freq="MS")
    >>> warm = 20 + 5 * np.cos(2 * np.pi * (np.arange(120) % 12) / 12)
    >>> record = xr.DataArray(warm[:, None], {"time": time, "component": ["sst"]}, ("time", "component"))
    >>> season = nk.Season.fit(record, by="month")
    >>> float(abs(season.anomalies(record)).max().round(9))
    0.0

    Attributes:
        coefficients: of each wave or phase, `(phase, *state)`.
        by: "month" and "hour" have a mean for each, "dayofyear" a mean and three harmonics of the year.
    """

    coefficients: xr.DataArray
    by: str

    @classmethod
    def fit(cls, record: xr.DataArray, by: str = "month") -> Season:
        """The season of a record, by least squares; missing values are left out.

        Args:
            record: dated, `(time, component)` or a field's `(time, y, x)`; further dims count as more of the same.
            by: as above.

        Raises:
            ValueError: no dates, another `by`, or too few values.
        """
        checks.one_of("by", by, _KINDS)
        own = _check_record(record)
        record = record.transpose(TIME, ..., *own)
        rest = [dim for dim in record.dims if dim not in (TIME, *own)]
        basis = _basis(record[TIME], by)
        shape = [record.sizes[dim] for dim in own]
        values = record.values.astype(float).reshape(len(basis), -1, int(np.prod(shape)))
        if COMPONENT not in own:
            checks.no_constant("record", values)
        if doubt := checks.doubtful("record", values):
            warn(doubt, stacklevel=3)
        found = np.stack([_fitted(basis, values[..., k]) for k in range(values.shape[-1])], -1)
        coords = {name: c for name, c in record.coords.items() if not {TIME, *rest} & set(c.dims) and c.dims}
        coefficients = xr.DataArray(found.reshape(-1, *shape), coords, ("phase", *own), attrs=record.attrs)
        return cls(coefficients, by)

    def at(self, time: xr.DataArray) -> xr.DataArray:
        """The season at some dates, `(time, *state)`.

        Raises:
            ValueError: no dates, or in a month or hour of which the record has no value.
        """
        basis = xr.DataArray(_basis(time, self.by), {TIME: time}, (TIME, "phase"))
        known = self.coefficients.fillna(0.0)
        found = (basis * known).sum("phase").transpose(TIME, *known.dims[1:])
        unknown = ((basis != 0) & self.coefficients.isnull()).any()
        if unknown:
            raise ValueError(
                f"The season's record has no value in some {self.by} of these dates: give a longer record."
            )
        return found.assign_attrs(self.coefficients.attrs)

    def anomalies(self, record: xr.DataArray) -> xr.DataArray:
        """A dated record without its season, in the season's units, if it declares some.

        Raises:
            ValueError: as `at`, or units that cannot be converted.
        """
        season = self.at(record[TIME])
        if "units" in season.attrs or "units" in season.coords:
            record = in_units_of(labels_of(season), record, "record")
        return (record - season).transpose(*record.dims).assign_attrs(record.attrs)


def _check_record(record: xr.DataArray) -> tuple[str, ...]:
    """The state's own dims of a dated record."""
    advice = "Try xr.DataArray(values, {'time': dates, 'component': names}, ('time', 'component'))."
    checks.instance("record", record, xr.DataArray, "an xr.DataArray", advice)
    own = state_dims(record)
    if TIME not in record.dims or TIME not in record.coords or not own:
        raise ValueError(f"record has the dims {record.dims}; it needs time, with coordinates, and component. {advice}")
    checks.no_fill("record", record, record.attrs)
    return own


def _basis(time: xr.DataArray, by: str) -> np.ndarray:
    """What multiplies each coefficient at each time, `(time, phase)`."""
    time = decoded(time)
    if not are_dates(time):
        raise ValueError(
            f"A season goes by the calendar, and the time coordinate has dtype {time.dtype}: give it dates, "
            "assign_coords(time=xr.date_range('2000-01-01', periods=..., freq='MS'))."
        )
    if by == "month":
        return np.eye(12)[time.dt.month.values - 1]
    if by == "hour":
        return np.eye(24)[time.dt.hour.values]
    days = 360.0 if time.dt.calendar == "360_day" else 365.2425
    angle = 2 * np.pi * (time.dt.dayofyear.values - 1 + time.dt.hour.values / 24) / days
    waves = [f(k * angle) for k in range(1, HARMONICS + 1) for f in (np.cos, np.sin)]
    return np.stack([np.ones(angle.size), *waves], -1)


def _fitted(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients of values `(time, more)` of one component, NaN for phases without any."""
    seen = np.isfinite(values)
    rows, y = basis[np.nonzero(seen)[0]], values[seen]
    there = (rows != 0).any(0)
    if there.sum() > 0 and np.linalg.matrix_rank(rows[:, there]) == there.sum():
        found = np.full(basis.shape[1], np.nan)
        found[there] = np.linalg.lstsq(rows[:, there], y, rcond=None)[0]
        return found
    raise ValueError(f"{y.size} values are too few for a season of {basis.shape[1]} numbers: give a longer record.")


def windows(record: xr.DataArray, steps: int, every: int = 1) -> xr.DataArray:
    """Windows of a long record, which may overlap, as methods are fitted to and trained on.

    >>> import nida_kit as nk
    >>> record = nk.Lorenz63().simulate(1, 100, 0.05).isel(sample=0)
    >>> nk.windows(record, steps=32, every=4).sizes
    Frozen({'sample': 18, 'time': 32, 'component': 3})

    Args:
        record: `(time, component)`, or a field's `(time, y, x)`, at even times.
        steps: of each window.
        every: so many steps lie between the starts of two windows.

    Returns:
        `(sample, time, ...)`: time counts from the start of each window, which `begins` tells.

    Raises:
        ValueError: a record that is shorter than a window, or not even.
    """
    own = _check_record(record)
    steps, every = checks.count("steps", steps, 1), checks.count("every", every, 1)
    if set(record.dims) != {TIME, *own}:
        raise ValueError(
            f"record has the dims {record.dims}, and windows are cut along time: select one of each other."
        )
    if steps > record.sizes[TIME]:
        times = record.sizes[TIME]
        raise ValueError(f"record has {checks.counted(times, 'time')}, fewer than {steps=}: try steps={times}.")
    record = record.transpose(TIME, *own)
    unit = natural_unit(record[TIME])
    times = model_times(record[TIME], unit)
    if len(times) > 1:
        _check_even(record[TIME], times)
    begins = np.arange(0, record.sizes[TIME] - steps + 1, every)
    values = record.values[begins[:, None] + np.arange(steps)]
    coords = {name: c for name, c in record.coords.items() if TIME not in c.dims and not reserved(name)}
    since = {"long_name": "time since the window began", "units": unit, SINCE: "window"}
    coords |= {TIME: (TIME, times[:steps] - times[0], since), "begins": (SAMPLE, record[TIME].values[begins])}
    return xr.DataArray(values, coords, (SAMPLE, TIME, *own), record.name, record.attrs)


def _check_even(time: xr.DataArray, times: np.ndarray) -> None:
    """Raises a ValueError where a window would reach over a hole, or go back in time."""
    gaps = np.diff(times)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(abs(gaps - usual) > 1e-3 * abs(usual)) if usual > 0 else np.arange(1)
    if odd.size:
        k = int(odd[0])
        raise ValueError(
            f"record is not even in time: from {time.values[k]} to {time.values[k + 1]} it goes by {gaps[k]:g}, "
            f"elsewhere by {usual:g}. Sort it by time, keep each time once, and fill holes with NaN: "
            "record.sortby('time').drop_duplicates('time').reindex(time=xr.date_range(...)); windows with NaN can be "
            "fitted to."
        )


SINCE = "counts_from"  # in the attrs of a time coordinate: what its zero is
