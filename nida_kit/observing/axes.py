"""Where values lie along an axis of the model's grid: between which of its points, and how far on the way.

A position is a real number: 2 is the third point, 2.25 a quarter of the way from there to the fourth. An axis is time,
with numbers, dates or durations as its coordinate, or one of the grid's own. A value belongs to the point that is
nearest; where steps are calendar months, to the month that it falls in.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from numbers import Real

import numpy as np
import pandas as pd

from nida_kit import checks
from nida_kit.state import TIME
from nida_kit.units import NONE, conversion, is_calendar


@dataclass(frozen=True)
class Months:
    """A time step of whole calendar months."""

    number: int


Step = float | np.timedelta64 | Months


_CONVENTION = (
    " (if these are longitudes, bring them to the grid's convention: x % 360 of those from 0 on, (x + 180) % 360 - 180 "
    "of those from -180 on)"
)


@dataclass(frozen=True)
class Axis:
    """An axis of the grid, and the N values along it.

    Attributes:
        name: of its dim.
        points: its coordinates, `(n,)`, rising.
        order: the place of each on the model's own axis, `(n,)`.
        given: the coordinate of each value, `(N,)`.
        position: of each value, `(N,)`; infinite where it lies beyond all cells.
        whole: cells begin at their points, as months do, instead of around them.
    """

    name: str
    points: np.ndarray
    order: np.ndarray
    given: np.ndarray
    position: np.ndarray
    whole: bool = False

    @property
    def inside(self) -> np.ndarray:
        """Which values lie in a cell of the axis, `(N,)`."""
        shift = 0.0 if self.whole else 0.5
        return (self.position >= -shift) & (self.position < len(self.points) - shift)

    def among(self, some: np.ndarray) -> Axis:
        """The same axis with some of the values."""
        return Axis(self.name, self.points, self.order, self.given[some], self.position[some], self.whole)

    @property
    def outside(self) -> str:
        """Which values lie in no cell, in words; "" if there are none."""
        beyond = self.given[~self.inside]
        if not beyond.size:
            return ""
        first, last = self.points[[0, -1]]
        at = " to ".join(dict.fromkeys((shown(beyond.min()), shown(beyond.max()))))
        said = f"{beyond.size} along {self.name!r}, at {at}, where the grid has {shown(first)} to {shown(last)}"
        turned = [] if self.name == TIME else [beyond - 360, beyond + 360]
        on_the_grid = any(((x >= first) & (x <= last)).any() for x in turned)
        return f"{said}{_CONVENTION if on_the_grid else ''}"

    def nearest(self) -> np.ndarray:
        """The point of each value, `(N,)`, from 0 along `points`."""
        found = np.floor(self.position if self.whole else self.position + 0.5).astype(int)
        return found.clip(0, len(self.points) - 1)

    def between(self) -> np.ndarray:
        """The position of each value between the first and the last point, `(N,)`."""
        return self.position.clip(0, len(self.points) - 1)

    def moved(self, exact: bool) -> np.ndarray:
        """How far each value moved, `(N,)`: to its point, or, if places are kept, from beyond the ends to an end."""
        moved = np.abs(_spans(self.given - self.points[self.nearest()]))
        if not exact:
            return moved
        return np.where(self.between() == self.position, np.zeros_like(moved), moved)


def shown(coordinate, digits: int = 10) -> str:
    """A coordinate in words."""
    return f"{coordinate:.{digits}g}" if isinstance(coordinate, float) else str(coordinate).removesuffix(".000000")


def corners(
    axes: Sequence[Axis], at: Sequence[np.ndarray], shape: tuple[int, ...], what: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The points of the grid around each place, `(M, corners)`, in a flattened window, and their weights.

    Args:
        axes: time and, of a field, its own.
        at: the position along each, `(M,)`.
        shape: of a state.
        what: the place among a state's components, `(M,)`; None for a field.
    """
    around = []
    for axis, position in zip(axes, at, strict=True):
        low = np.floor(position).astype(int)
        fraction = position - low
        high = np.where(fraction > 0, low + 1, low)
        around.append([(axis.order[low], 1 - fraction), (axis.order[high], fraction)])
    index, weight = [], []
    for corner in itertools.product(*around):
        places, weights = zip(*corner, strict=True)
        index.append(np.ravel_multi_index(places if what is None else (*places, what), (len(axes[0].points), *shape)))
        weight.append(math.prod(weights))
    return np.stack(index, -1), np.stack(weight, -1)


# Places


def place_axis(name: str, coords: tuple[float, ...], given: np.ndarray) -> Axis:
    """An axis of the grid with the places of values along it."""
    order = np.argsort(coords, kind="stable")
    points = np.array(coords)[order]
    if len(points) == 1:
        at = np.where(np.abs(given - points[0]) <= 1e-6 * max(1.0, abs(points[0])), 0.0, np.inf)
        return Axis(name, points, order, given, at)
    k = (np.searchsorted(points, given, side="right") - 1).clip(0, len(points) - 2)
    return Axis(name, points, order, given, _rounded(k + (given - points[k]) / (points[k + 1] - points[k])))


def _rounded(position: np.ndarray) -> np.ndarray:
    """Positions without the rounding errors of coordinates, so that 2.9999999999 is 3."""
    return np.round(position, 9)


# Time


def time_axis(given: np.ndarray, start, step: Step, steps: int | None, most: int, *, beyond: bool = False) -> Axis:
    """The model's steps with the times of values along them.

    Args:
        given: `(N,)`, numbers, datetime64, timedelta64, or cftime's dates as objects.
        start: of the window; None is the first time, or the start of its month, or of its year where steps are years.
        step: from `read_step`.
        steps: of the window; None is as many as reach the last value.
        most: how many there may be.
        beyond: the last step is one that is not before the last value, instead of the nearest to it.

    Raises:
        ValueError: a start of another kind than the times, a window of too many steps, or, where nobody said how many,
            of steps that are nearly all empty because of a few times.
    """
    begin = _start(given, start, step)
    position = _rounded(_position(given, begin, step))
    if steps is None:
        last = float(position.max())
        nearest = np.floor(last if isinstance(step, Months) else last + 0.5)
        steps = max(1, int(np.ceil(last) if beyond else nearest) + 1)
        _check_together(given, position, steps, most)
    if steps > most:
        raise ValueError(
            f"The window has {steps:.3g} steps, and {most} are as many as fit in memory: is dt in the unit of the "
            "times? Else cut the table, by start= and steps=."
        )
    points = _points(begin, step, steps)
    return Axis(TIME, points, np.arange(steps), given, position, isinstance(step, Months))


_LONG = 100  # steps, below which a gap is no matter


def _check_together(given: np.ndarray, position: np.ndarray, steps: int, most: int) -> None:
    """Raises a ValueError if a few times lie so far from all others that nearly all steps are empty: mistyped, perhaps.

    Args:
        given: times, `(N,)`.
        position: of each, `(N,)`; before 0 there are no steps.
        steps: of the window.
        most: how many there may be.
    """
    order = np.argsort(position, kind="stable")
    order = order[position[order] > -0.5]
    gaps = np.diff(position[order])
    if gaps.size < 4 or steps < _LONG:
        return
    cut = int(gaps.argmax()) + 1
    early, late = order[:cut], order[cut:]
    few, others = (early, late) if early.size < late.size else (late, early)
    span = np.ptp(position[others])
    if few.size > max(1, 0.05 * order.size) or gaps.max() < 10 * max(span, 1.0):
        return
    where = " to ".join(dict.fromkeys(shown(given[k]) for k in few[[0, -1]]))
    raise ValueError(
        f"{few.size} of {order.size} values {'lies' if few.size == 1 else 'lie'} far from the others in time, at "
        f"{where}, where these have {shown(given[others[0]])} to {shown(given[others[-1]])}: so the grid has {steps:,} "
        "steps, nearly all of them empty. If a time is mistyped, correct it or drop its rows; else cut the table, by "
        f"start= and steps={f', or keep all of it, by steps={steps}' if steps <= most else ''}."
    )


def _start(given: np.ndarray, start, step: Step):
    """The first time of the grid."""
    first = given.min()
    if start is None:
        return _calendar_start(first, step) if isinstance(step, Months) else first
    if given.dtype.kind == "f":
        return checks.finite("start", start)
    try:
        begin = _same_kind(start, given)
        if begin != begin:
            raise ValueError("it is missing")
    except (ValueError, TypeError) as error:
        example = _text(_calendar_start(first, step) if isinstance(step, Months) else first)
        advice = f"Try start={example!r}, where the values begin."
        raise checks.refused("start", start, "a time as those of the values", advice) from error
    if isinstance(step, Months) and begin != (month := _month_starts(_months([begin]), begin)[0]):
        advice = f"Try start={_text(month)!r}."
        raise checks.refused("start", start, "the first of a month, as steps are months", advice)
    return begin


def _calendar_start(first, step: Months):
    """The first of the month of the first time, or of its year where steps are whole years."""
    months = _months([first])
    return _month_starts(months - months % 12 if step.number % 12 == 0 else months, first)[0]


def _text(time) -> str:
    """The day of a date, or a duration, as `start` takes it."""
    return str(pd.Timedelta(time)) if isinstance(time, np.timedelta64) else str(time)[:10]


def _same_kind(start, given: np.ndarray):
    """A time as those that are given."""
    if given.dtype == object:
        calendar = given[0].calendar
        if isinstance(start, str):
            import cftime

            return cftime.datetime(*map(int, start.split("-")), calendar=calendar)
        if getattr(start, "calendar", None) != calendar:
            raise ValueError(f"the values' calendar is {calendar}")
        return start
    if isinstance(start, Real):  # nanoseconds, to pandas
        raise TypeError("a number is no date")
    if given.dtype.kind == "M" and isinstance(start, str):  # 03/01/2021 is in March to some, and in January to others
        start = pd.to_datetime(start, format="ISO8601")
    kind = pd.Timestamp if given.dtype.kind == "M" else pd.Timedelta
    return kind(start).to_numpy().astype(given.dtype)


def _position(given: np.ndarray, begin, step: Step) -> np.ndarray:
    if not isinstance(step, Months):
        return _spans(given - begin) / step
    first, month = _months([begin])[0], _months(given)
    k = (month - first) // step.number
    here, after = (_month_starts(first + n * step.number, begin) for n in (k, k + 1))
    return k + _spans(given - here) / _spans(after - here)


def _points(begin, step: Step, steps: int) -> np.ndarray:
    k = np.arange(steps)
    if isinstance(step, Months):
        return _month_starts(_months([begin])[0] + step.number * k, begin)
    return begin + (k * step).astype(object) if hasattr(begin, "calendar") else begin + k * step


def _spans(x: np.ndarray) -> np.ndarray:
    """Differences of times, as numbers or timedelta64."""
    return x.astype("m8[us]") if x.dtype == object else x


def _months(times: np.ndarray | list) -> np.ndarray:
    """Calendar months since the year 0."""
    times = np.asarray(times)
    if times.dtype == object:
        return np.array([12 * t.year + t.month - 1 for t in times])
    return times.astype("M8[M]").astype(int) + 12 * 1970


def _month_starts(months: np.ndarray, like) -> np.ndarray:
    """The beginnings of calendar months, as times of the same kind."""
    if not hasattr(like, "calendar"):
        return (months - 12 * 1970).astype("M8[M]").astype("M8[us]")
    import cftime

    found, which = np.unique(months, return_inverse=True)
    starts = [cftime.datetime(month // 12, month % 12 + 1, 1, calendar=like.calendar) for month in found.tolist()]
    return np.array(starts, object)[which]


# The step


_MONTHS = {"MS": 1, "QS": 3, "YS": 12}


def read_step(dt, kind: str, units: str, known: float | None) -> Step:
    """The time step as times of that kind take it.

    Args:
        dt: a number in the model's time unit; of dates also a duration, or a text such as "6h", "1D", "MS" (calendar
            months), or an offset of pandas; None takes the model's own.
        kind: of the times' dtype: "f" numbers, "M" dates, "m" durations.
        units: of the model's time.
        known: the model's own step, if it has one.

    Raises:
        ValueError: no step, none that the times can take, or another one than the model's.
    """
    if dt is None and known is None:
        example = "dt=0.05, in the unit of the times" if kind == "f" else "dt='6h', or 'MS' for calendar months"
        raise ValueError(f"like= has no time step of its own, so it cannot be known: give dt=, such as {example}.")
    step = _read(known if dt is None else getattr(dt, "freqstr", dt), kind, units)
    if dt is None or known is None:
        return step
    try:
        own = _read(known, kind, units)
    except ValueError:  # the model's unit is no time of the calendar: only the user knows its length
        return step
    same = step == own if isinstance(step, Months) or isinstance(own, Months) else abs(step - own) <= 1e-3 * own
    if not same:
        raise ValueError(
            f"dt={dt!r} is another time step than that of like=, which works with {known:g}: give dt={known:g}."
        )
    return step


def _read(dt, kind: str, units: str) -> Step:
    if kind == "M" and (months := _calendar_text(dt)):
        return Months(checks.count("dt", int(months[1] or 1), 1) * _MONTHS[months[2]])
    if kind == "f":
        if isinstance(dt, str | timedelta | np.timedelta64):
            raise ValueError(f"dt={dt!r} is a duration, and the times are plain numbers: give dt in their unit.")
        return checks.positive("dt", dt)
    if isinstance(dt, str | timedelta | np.timedelta64):
        return _duration(dt, kind)
    number = checks.positive("dt", dt)
    if is_calendar(units):
        return _calendar(number, units, kind)
    if units in NONE:
        raise ValueError(
            "The times are dates or durations, and the model's time unit is its equations' own, which has no name: say "
            "how long one of its steps is, dt='6h', '1D', or 'MS' for calendar months."
        )
    seconds, _ = conversion(units, "s", "The model's time")
    return _microseconds(number * seconds * 1e6, dt)


def _calendar_text(dt) -> re.Match | None:
    """A text that means calendar months, taken apart; to pandas it could mean milliseconds."""
    return re.fullmatch(r"\s*(\d*)(MS|QS|YS)(-JAN)?\s*", dt) if isinstance(dt, str) else None


def _calendar(number: float, unit: str, kind: str) -> Months:
    """A number of months or years as whole calendar months."""
    months = number * (12 if "year" in unit else 1)
    if kind != "M" or abs(months - round(months)) > 1e-6 or round(months) < 1:
        raise ValueError(
            f"dt={number:g} {unit} is no step of whole calendar months along dates: give a duration, such as dt='10D'."
        )
    return Months(round(months))


def _duration(dt, kind: str) -> np.timedelta64:
    """A text or an object as a duration."""
    if _calendar_text(dt):
        raise ValueError(f"dt={dt!r} means calendar months, and the times are durations: give a duration, dt='30D'.")
    text = f"1{dt}" if isinstance(dt, str) and re.fullmatch(r"\s*[A-Za-z]+\s*", dt) else dt
    try:
        return _microseconds(pd.Timedelta(text) / pd.Timedelta("1us"), dt)
    except (ValueError, TypeError) as error:
        expected = "a positive duration" + (", or calendar months as 'MS', '3MS'" if kind == "M" else "")
        raise checks.refused("dt", dt, expected, "Try dt='6h', or dt='1D'.") from error


def _microseconds(number: float, dt) -> np.timedelta64:
    if not number >= 1:
        raise ValueError(
            f"dt={dt!r} is less than a microsecond, or negative; along dates a step is that long at least."
        )
    return np.timedelta64(round(number), "us")
