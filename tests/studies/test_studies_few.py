"""The study of few windows: years are kept apart, and what is measured is there."""

import numpy as np
import pytest

import nida_kit as nk
from nida_kit.studies import few

pytest.importorskip("statsmodels")


@pytest.mark.parametrize("turn", range(4))
def test_years_of_training_validation_and_test_are_apart(turn):
    record = few.record()
    parts = few.split(record, turn)
    months = [
        {
            begin + np.timedelta64(31 * k + 3, "D").astype("timedelta64[ns]")
            for begin in part["begins"].values
            for k in range(12)
        }
        for part in parts
    ]
    years = [{int(np.datetime64(m, "Y").astype(int)) + 1970 for m in some} for some in months]
    assert not years[0] & years[1] and not years[0] & years[2] and not years[1] & years[2]
    assert set.union(*years) == set(range(1950, 2011))
    first, last = few.BLOCKS[turn]
    assert years[2] == set(range(first, last + 1))


def test_the_season_is_that_of_the_training_years():
    record = few.record()
    past, *rest = few.split(record, 0)
    warmer = record + 5 * (record["time"].dt.year < 1965)
    again, *_, test = few.split(warmer, 0)
    np.testing.assert_allclose(again, past, atol=1e-12)
    np.testing.assert_allclose(test, rest[-1] + 5, atol=1e-12)


def test_the_study_runs_small(tmp_path, monkeypatch):
    monkeypatch.setattr(few, "CORRECTED", nk.Settings(steps=2, batch=4, longest=2, look=1))
    row = few.measure(1, tmp_path, kinds=("corrected",), turns=(3,))["blocks"][0]
    assert row["test"] == [1995, 2010] and row["corrected, batches"][0] in (0, 1, 2)
    assert 0.3 < row["optimal interpolation"] < 0.6
    assert row["corrected"][0] == pytest.approx(row["optimal interpolation"], rel=0.05)
