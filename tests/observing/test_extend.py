"""Forecasts by further steps: their times in every form, and the spread that the model says."""

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk

SYSTEM = nk.LinearOscillator()
OBS = nk.observe(SYSTEM.simulate(1, 13, 0.1, seed=0), components=["angle"], every=4, noise_std=0.1, seed=1)


def at(times, **attrs):
    return OBS.isel(time=slice(len(times))).assign_coords(time=("time", times, attrs))


def test_the_spread_grows_as_the_models_own_forecast():
    method = nk.KalmanSmoother(SYSTEM, 0.05)
    known = nk.Cycled(method, window=13).assimilate(OBS).isel(sample=0)
    found = method.assimilate(nk.extend(OBS, steps=30)).isel(sample=0, time=slice(13, None))
    step = torch.func.jacrev(lambda x: SYSTEM.step(x, 0.1))(torch.zeros(2, dtype=torch.float64)).numpy()
    mean, covariance = known["next_mean"].values, known["next_covariance"].values
    for t in range(30):
        np.testing.assert_allclose(found["mean"][t], mean, atol=1e-8)
        np.testing.assert_allclose(found["std"][t], np.sqrt(np.diag(covariance)), atol=1e-8)
        mean, covariance = step @ mean, step @ covariance @ step.T + 0.05**2 * np.eye(2)
    spread = found["std"].mean("component")
    assert spread[0] < spread[10] < spread[29]


@pytest.mark.parametrize("name", ["OptimalInterpolation", "NeuralIncremental", "EnKF"])
def test_any_method_forecasts_there(name):
    system = nk.Lorenz63()
    obs = nk.observe(system.simulate(1, 9, 0.05, seed=0), every=2, noise_std=0.4, seed=1)
    method = {
        "OptimalInterpolation": lambda: nk.OptimalInterpolation.fit(system.simulate(50, 8, 0.05, seed=2), order=1),
        "NeuralIncremental": lambda: nk.NeuralIncremental.pretrained("lorenz63_small", temperatures=1),
        "EnKF": lambda: nk.EnKF(system, members=20),
    }[name]()
    result = method.assimilate(nk.extend(obs, steps=41))
    spread = result["std"].isel(sample=0).mean("component")
    assert result.sizes["time"] == 50 and spread[-1] > spread[8]
    np.testing.assert_allclose(result["time"], 0.05 * np.arange(50))


def test_what_was_observed_stays_and_nothing_is_observed_after():
    longer = nk.extend(OBS, steps=5)
    xr.testing.assert_identical(longer.isel(time=slice(13)), OBS)
    assert longer["value"].isel(time=slice(13, None)).isnull().all()
    assert longer["time"].attrs == OBS["time"].attrs
    varying = OBS.assign(noise_std=OBS["noise_std"] * xr.ones_like(OBS["time"]).drop_attrs())
    window = 0.01 * xr.DataArray(
        np.eye(13).reshape(13, 1, 13, 1),
        {"time": OBS["time"], "component": ["angle"], "other_time": OBS["time"].values, "other_component": ["angle"]},
        ("time", "component", "other_time", "other_component"),
    )
    correlated = OBS.sel(component=["angle"]).drop_vars("noise_std").assign(noise_covariance=window)
    lazy = OBS.chunk(sample=1)
    expected = nk.KalmanSmoother(SYSTEM, 0.05).assimilate(longer)["mean"]
    for obs in (varying, correlated, lazy):
        found = nk.KalmanSmoother(SYSTEM, 0.05).assimilate(nk.extend(obs, steps=5))["mean"]
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("times", "attrs", "expected"),
    [
        (np.arange(5), {}, np.array([5, 6, 7])),
        (np.arange(5) * 0.25, {"units": "h"}, np.array([1.25, 1.5, 1.75])),
        (np.arange(4) * np.timedelta64(6, "h"), {}, np.array([24, 30, 36]) * np.timedelta64(1, "h")),
        (
            np.array(["2024-02-26", "2024-02-27", "2024-02-28"], "datetime64[ns]"),
            {},
            np.array(["2024-02-29", "2024-03-01", "2024-03-02"], "datetime64[ns]"),
        ),
        (
            np.array(["2023-10-31", "2023-11-30", "2023-12-31"], "datetime64[ns]"),
            {},
            np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "datetime64[ns]"),
        ),
        (
            np.array(["2021-05-16", "2021-08-16", "2021-11-16"], "datetime64[ns]"),
            {},
            np.array(["2022-02-16", "2022-05-16", "2022-08-16"], "datetime64[ns]"),
        ),
        (np.array([0, 31, 59]), {"units": "days since 2001-01-01"}, np.array([90, 120, 151])),
        (np.array([0, 30, 60]), {"units": "days since 2001-01-01", "calendar": "360_day"}, np.array([90, 120, 150])),
        (np.array([0, 2, 4]), {"units": "days since 2001-01-01"}, np.array([6, 8, 10])),
    ],
)
def test_times_go_on_in_their_own_form(times, attrs, expected):
    found = nk.extend(at(times, **attrs), steps=3)["time"]
    np.testing.assert_array_equal(found[len(times) :], expected)
    assert found.dtype.kind == np.asarray(times).dtype.kind
    assert found.attrs == attrs


def test_dates_of_other_calendars_go_on():
    for freq, last in (("MS", "2001-08-01"), ("D", "2001-01-08")):
        dates = xr.date_range("2001-01-01", periods=5, freq=freq, calendar="360_day", use_cftime=True)
        found = nk.extend(OBS.isel(time=slice(5)).assign_coords(time=dates), steps=3)["time"]
        assert found[-1].dt.strftime("%Y-%m-%d") == last and found[-1].dt.calendar == "360_day"


@pytest.mark.parametrize(
    ("obs", "steps", "says"),
    [
        (OBS, 0, "steps=0 must be a whole number"),
        (OBS.isel(time=[0, 1, 3]), 2, "not evenly increasing"),
        (OBS.isel(time=[0]), 2, "One single time"),
        (OBS["value"], 2, "xr.Dataset"),
    ],
)
def test_what_cannot_be_extended_is_refused(obs, steps, says):
    with pytest.raises(ValueError, match=says):
        nk.extend(obs, steps)
