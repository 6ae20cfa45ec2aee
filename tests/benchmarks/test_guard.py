import json

import guard


def test_a_ratio_may_grow_by_half_and_no_more():
    assert guard.slower({"a": 1.4, "b": 0.2}, {"a": 1.0, "b": 0.3}) == []
    assert guard.slower({"a": 1.6}, {"a": 1.0}) == ["a: 1.60, recorded 1.00"]


def test_what_is_measured_on_one_side_only_is_said():
    assert guard.slower({"a": 1.0}, {"b": 1.0}) == ["a: measured now only", "b: measured before only"]


def test_the_committed_records_hold_every_ratio():
    solves, cycles = (json.loads(path.read_text()) for path in guard.RECORDS)
    algebra, methods = guard.of_algebra(solves["rows"]), guard.of_methods(cycles)
    assert len(algebra) > 5 and len(methods) == 4
    assert all(ratio > 0 for ratio in (algebra | methods).values())
