"""Results as long tables."""

import numpy as np
import pytest

import nida_kit as nk

TRUTH = nk.Pendulum().simulate(samples=2, steps=9, dt=0.1, seed=0)
OBS = nk.observe(TRUTH, components=["momentum"], every=4, noise_std=0.1, seed=1)
RESULT = nk.NeuralIncremental.pretrained("pendulum", temperatures=2).assimilate(OBS, trace=True)


def test_each_value_has_a_row_with_its_interval_and_what_was_observed():
    rows = nk.table(RESULT, OBS)
    assert len(rows) == 2 * 9 * 2
    row = rows[(rows["sample"] == 1) & (rows["time"] == OBS["time"].values[4]) & (rows["component"] == "momentum")]
    last = RESULT.isel(step=-1, sample=1, time=4).sel(component="momentum")
    assert row["mean"].item() == float(last["mean"]) and row["std"].item() == float(last["std"])
    assert row["high_90"].item() == pytest.approx(float(last["mean"] + 1.6448536 * last["std"]))
    assert row["low_90"].item() == pytest.approx(float(last["mean"] - 1.6448536 * last["std"]))
    assert row["unit"].item() == str(nk.Pendulum.labels.units[1])
    assert row["value"].item() == float(OBS["value"].isel(sample=1, time=4).sel(component="momentum"))
    assert rows["value"].count() == int(OBS["value"].notnull().sum())


def test_without_observations_or_spread_their_columns_are_left_out():
    assert list(nk.table(RESULT.isel(sample=0, drop=True).drop_vars("std"))) == ["time", "component", "unit", "mean"]


def test_a_field_has_a_column_for_each_of_its_dims():
    grid = nk.GridLabels({"y": (0.0, 1.0), "x": (0.0, 1.0, 2.0)}, "K", "temperature")
    coords = {"time": [0.0, 1.0], **grid.coordinates()}
    mean = TRUTH.__class__(np.arange(12.0).reshape(2, 2, 3), dims=("time", "y", "x"), coords=coords)
    rows = nk.table(mean.to_dataset(name="mean"))
    assert list(rows) == ["time", "y", "x", "mean"] and rows["mean"].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("result", "obs", "said"),
    [
        (TRUTH, None, "xr.Dataset"),
        (OBS, None, "no mean along time"),
        (RESULT, TRUTH, "observations"),
        (RESULT, RESULT, "no value"),
        (RESULT, OBS.isel(sample=0), "select the same windows"),
        (RESULT, OBS.isel(sample=[0]), "'sample' other labels or sizes"),
        (RESULT, OBS.isel(time=slice(0, 4)), "'time' other labels or sizes"),
        (RESULT, OBS.assign_coords(component=["angle", "spin"]), "spin"),
    ],
)
def test_what_fits_not_is_refused(result, obs, said):
    with pytest.raises(ValueError, match=said):
        nk.table(result, obs)
