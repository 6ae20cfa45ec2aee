"""Temperature schedules: s falls from 1 (coarse, near the first guess) towards 0 (sharp), one temperature per step.

A method takes a number of steps and a schedule, or any decreasing list of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Real

from nida_kit import checks

Schedule = Callable[[int], list[float]]


def linear(steps: int) -> list[float]:
    """1, 1 - 1/K, ..., 1/K.

    >>> linear(4)
    [1.0, 0.75, 0.5, 0.25]
    """
    steps = checks.count("steps", steps, 1)
    return [1 - k / steps for k in range(steps)]


def cosine(steps: int) -> list[float]:
    """Slow at both ends: (1 + cos(pi k / K)) / 2."""
    steps = checks.count("steps", steps, 1)
    return [(1 + math.cos(math.pi * k / steps)) / 2 for k in range(steps)]


def geometric(steps: int) -> list[float]:
    """Each temperature half of the one before."""
    return [0.5**k for k in range(checks.count("steps", steps, 1))]


SCHEDULES: dict[str, Schedule] = {"linear": linear, "cosine": cosine, "geometric": geometric}


def temperatures(wanted: int | Sequence[float], schedule: Schedule = linear) -> list[float]:
    """A number of steps under a schedule, or a list, checked.

    Raises:
        ValueError: no step at all, temperatures outside [0, 1] or rising, or neither a whole number nor a list.
    """
    if isinstance(wanted, Real):
        steps = checks.count("temperatures", wanted, 1)
        wanted = checks.function("schedule", schedule, "Try nk.schedule.linear.")(steps)
    expected = "a whole number of steps, or a non-rising list of numbers from 1 down to 0"
    values = checks.numbers("temperatures", wanted, expected)
    if values.ndim != 1 or not len(values):
        raise checks.refused("temperatures", wanted, expected, "Try temperatures=4, or [1, 0.5].")
    found = values.tolist()
    if not all(0 <= s <= 1 for s in found) or any(a < b for a, b in pairwise(found)):
        raise checks.refused("temperatures", wanted, expected, "Try temperatures=4, or [1, 0.5].")
    return found
