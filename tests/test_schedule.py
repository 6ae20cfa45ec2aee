"""Laws that every schedule keeps."""

import math
from itertools import pairwise

import numpy as np
import pytest

from nida_kit import schedule

SCHEDULES = [schedule.linear, schedule.cosine, schedule.geometric]


@pytest.mark.parametrize("make", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 4, 11])
def test_a_schedule_falls_from_one_and_stays_positive(make, steps):
    values = make(steps)
    assert len(values) == steps
    assert values[0] == 1
    assert all(a > b > 0 for a, b in pairwise(values))


def test_cosine_is_slow_at_both_ends():
    values = [*schedule.cosine(8), 0.0]
    falls = [a - b for a, b in pairwise(values)]
    assert falls[:4] == sorted(falls[:4])
    assert falls[4:] == sorted(falls[4:], reverse=True)


def test_a_number_asks_the_schedule_and_a_list_is_kept():
    assert schedule.temperatures(3, schedule.geometric) == [1, 0.5, 0.25]
    assert schedule.temperatures((1.0, 0.2, 0.2, 0.0)) == [1, 0.2, 0.2, 0]


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8])
def test_a_number_of_steps_may_be_of_any_whole_kind(kind):
    assert schedule.temperatures(kind(4)) == schedule.linear(4)


WRONG = [0, -1, np.int64(0), [], [0.5, 0.6], [1.1, 0.5], [1.0, -0.1], [1.0, math.nan]]
WRONG += [3.0, True, "4", "1", None, object(), ["a"], [None], np.float64(1.0)]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_schedule_is_an_error(wrong):
    with pytest.raises(ValueError, match="temperatures="):
        schedule.temperatures(wrong)
