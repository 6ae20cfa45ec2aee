"""Temperature schedules: decreasing lists from 1 (coarse) towards 0 (sharp), one temperature per step.

A method takes a number of steps and a schedule, or any list of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral

Schedule = Callable[[int], list[float]]


def linear(steps: int) -> list[float]:
    """1, 1 - 1/K, ..., 1/K.

    >>> linear(4)
    [1.0, 0.75, 0.5, 0.25]
    """
    return [1 - k / steps for k in range(steps)]


def cosine(steps: int) -> list[float]:
    """Slow at both ends: (1 + cos(pi k / K)) / 2."""
    return [(1 + math.cos(math.pi * k / steps)) / 2 for k in range(steps)]


def geometric(steps: int) -> list[float]:
    """Each temperature half of the one before."""
    return [0.5**k for k in range(steps)]


def temperatures(wanted: int | Sequence[float], schedule: Schedule = linear) -> list[float]:
    """A number of steps under a schedule, or a list, checked.

    Raises:
        ValueError: no step at all, temperatures outside [0, 1] or rising, or neither a whole number nor a list.
    """
    if isinstance(wanted, Integral) and not isinstance(wanted, bool):
        if wanted < 1:
            raise ValueError(f"temperatures={wanted}: at least one step is needed.")
        wanted = schedule(int(wanted))
    try:
        values = [] if isinstance(wanted, str) else [float(s) for s in wanted]
    except (TypeError, ValueError):
        values = []
    if not values:
        raise ValueError(f"temperatures={wanted!r}: give a whole number of steps, 4, or a list of some, [1, 0.5].")
    if not all(0 <= s <= 1 for s in values) or any(a < b for a, b in pairwise(values)):
        raise ValueError(f"temperatures={values} must be a non-rising list of numbers from 1 down to 0.")
    return values
