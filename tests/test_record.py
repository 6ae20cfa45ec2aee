"""Seasons and windows of a record, and methods around them."""

import warnings

import numpy as np
import pytest
import xarray as xr

import nida_kit as nk

STEPS = 12


def monthly(years, seed=0, start="1950-01-01", calendar="standard"):
    """Two series with seasons of their own and anomalies that last for some months."""
    random, n = np.random.default_rng(seed), 12 * years
    anomaly = np.zeros((n, 2))
    for t in range(1, n):
        anomaly[t] = 0.9 * anomaly[t - 1] + 0.3 * random.normal(size=2) @ [[1.0, 0.4], [0.0, 0.6]]
    season = np.stack([20 + 5 * np.cos(2 * np.pi * np.arange(n) / 12), 3.0 * (np.arange(n) % 12 == 6)], -1)
    time = xr.date_range(start, periods=n, freq="MS", calendar=calendar, use_cftime=calendar != "standard")
    coords = {"time": time, "component": ["a", "b"], "units": ("component", ["degC", "m"])}
    return tuple(xr.DataArray(x, coords, ("time", "component")) for x in (season + anomaly, season, anomaly))


@pytest.fixture(scope="module")
def fitted():
    record, *_ = monthly(60)
    season = nk.Season.fit(record)
    past = nk.windows(season.anomalies(record), STEPS)
    return season, nk.OptimalInterpolation.fit(past, order=2)


def some(record, begin, every=4):
    """A year from the record's month `begin` on, rarely observed."""
    window = record.isel(time=slice(begin, begin + STEPS))
    seen = np.arange(STEPS)[:, None] % every == 0
    return window, xr.Dataset({"value": window.where(seen), "noise_std": 0.1})


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_the_season_of_each_month_is_its_mean(calendar):
    record, season, _anomaly = monthly(20, calendar=calendar)
    found = nk.Season.fit(record)
    expected = record.groupby("time.month").mean()
    np.testing.assert_allclose(found.coefficients, expected, rtol=1e-12)
    np.testing.assert_allclose(found.anomalies(record) + found.at(record["time"]), record, rtol=1e-12)
    assert found.anomalies(record).dims == record.dims
    assert float(abs(found.at(record["time"]) - season).max()) < 1


def test_missing_values_are_left_out_of_a_season():
    record, _season, _ = monthly(30)
    holes = record.where(np.random.default_rng(1).random(record.shape) < 0.6)
    np.testing.assert_allclose(nk.Season.fit(holes).coefficients, holes.groupby("time.month").mean(), rtol=1e-12)
    june = record.where(record["time"].dt.month != 6)
    with pytest.raises(ValueError, match="no value in some month"):
        nk.Season.fit(june).at(record["time"])
    nk.Season.fit(june).at(record["time"][:5])


def test_seasons_of_the_day_and_of_the_year():
    time = xr.date_range("2001-01-01", periods=24 * 400, freq="h")
    day = xr.DataArray(
        (np.arange(time.size) % 24.0)[:, None], {"time": time, "component": ["a"]}, ("time", "component")
    )
    np.testing.assert_allclose(nk.Season.fit(day, by="hour").coefficients[:, 0], np.arange(24), atol=1e-9)
    angle = 2 * np.pi * (time.dayofyear.values - 1 + time.hour.values / 24) / 365.2425
    year = day.copy(data=(3 + np.cos(angle) - 0.5 * np.sin(2 * angle))[:, None])
    np.testing.assert_allclose(nk.Season.fit(year, by="dayofyear").at(day["time"]), year, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "how", "said"),
    [
        (lambda r: r.assign_coords(time=np.arange(r.sizes["time"])), {}, "goes by the calendar"),
        (lambda r: r, {"by": "week"}, "by='week' must be one of"),
        (lambda r: r.values, {}, "must be an xr.DataArray"),
        (lambda r: r.isel(time=0), {}, "it needs time"),
        (lambda r: r.where(r > 1e9), {}, "0 values are too few"),
    ],
)
def test_a_season_needs_a_dated_record(change, how, said):
    record, *_ = monthly(3)
    with pytest.raises(ValueError, match=said):
        nk.Season.fit(change(record), **how)


def test_windows_overlap_and_say_when_they_begin():
    record, *_ = monthly(3)
    cut = nk.windows(record, STEPS, every=5)
    assert cut.sizes == {"sample": 5, "time": STEPS, "component": 2}
    for k in range(5):
        np.testing.assert_array_equal(cut[k], record[5 * k : 5 * k + STEPS])
    assert (cut["begins"].values == record["time"].values[:25:5]).all()
    assert cut["time"].attrs["units"] == "months" and cut["units"].values.tolist() == ["degC", "m"]
    np.testing.assert_array_equal(cut["time"], np.arange(STEPS))
    with pytest.raises(ValueError, match="36 times, fewer than steps=37"):
        nk.windows(record, 37)
    with pytest.raises(ValueError, match="select one of each other"):
        nk.windows(cut, 3)


def test_a_seasonal_method_is_the_method_of_anomalies_made_by_hand(fitted):
    season, method = fitted
    record, *_ = monthly(10, seed=5, start="2011-01-01")
    _window, obs = some(record, 31)
    seasonal = nk.Seasonal(method, season)
    found = seasonal.assimilate(obs)
    s = season.at(obs["time"])
    by_hand = method.assimilate(obs.assign(value=obs["value"] - s))
    np.testing.assert_allclose(found["mean"], by_hand["mean"] + s, atol=1e-12)
    np.testing.assert_array_equal(found["std"], by_hand["std"])
    assert (found["time"] == obs["time"]).all() and found.attrs["season"] == "month"
    draws = seasonal.sample(obs, 50, seed=1)
    np.testing.assert_allclose(draws.mean("member"), found["mean"], atol=5 * float(found["std"].max()) / 50**0.5)
    only = obs.sel(component=["b"])
    assert seasonal.assimilate(only)["mean"].sizes["component"] == 2
    kelvin = obs.assign(value=obs["value"] + xr.DataArray([273.15, 0.0], {"component": ["a", "b"]}, "component"))
    kelvin = kelvin.assign_coords(units=("component", ["K", "m"]))
    np.testing.assert_allclose(seasonal.assimilate(kelvin)["mean"], found["mean"], atol=1e-9)


def test_a_prior_that_knows_the_season_is_better_than_one_that_does_not(fitted):
    season, method = fitted
    raw, *_ = monthly(60)
    ignorant = nk.OptimalInterpolation.fit(nk.windows(raw, STEPS), order=2)
    record, *_ = monthly(10, seed=5, start="2011-01-01")
    errors = {"seasonal": [], "raw": []}
    for begin in range(0, 100, 7):
        window, obs = some(record, begin)
        for name, m in (("seasonal", nk.Seasonal(method, season)), ("raw", ignorant)):
            errors[name].append(float(((m.assimilate(obs)["mean"] - window) ** 2).mean()))
    assert np.mean(errors["seasonal"]) ** 0.5 < 0.7 * np.mean(errors["raw"]) ** 0.5


def test_operators_see_the_season(fitted):
    season, method = fitted
    record, *_ = monthly(10, seed=5)
    window, _ = some(record, 31)
    matrix, seasonal = np.array([[1.0, 2.0]]), nk.Seasonal(method, season)
    obs = nk.observe(window, every=3, noise_std=0.2, operator=matrix, seed=1)
    linear = seasonal.assimilate(obs, operator=matrix)
    function = lambda x: x @ x.new_tensor([[1.0], [2.0]])  # noqa: E731
    for operator in (function, nk.over_window(function), lambda x, t: function(x)):
        np.testing.assert_allclose(seasonal.assimilate(obs, operator=operator)["mean"], linear["mean"], atol=1e-6)
    with pytest.raises(ValueError, match="outermost method"):
        nk.Chain([seasonal, nk.Seasonal(method, season)]).assimilate(obs, operator=matrix)
    with pytest.raises(ValueError, match="The season is of"):
        nk.Seasonal(nk.NeuralIncremental.pretrained("lorenz63"), season)
    with pytest.raises(ValueError, match="goes by the calendar"):
        seasonal.assimilate(obs.assign_coords(time=np.arange(STEPS)), operator=matrix)


def test_a_full_climatology_is_laid_over_observations_by_time_not_by_index():
    """Windows from January to December, observed from April to August: the Gaussian of these months alone."""
    record, *_ = monthly(60)
    years = record.values.reshape(60, 12, 2)
    past = xr.DataArray(years, {"time": np.arange(1.0, 13), "component": ["a", "b"]}, ("year", "time", "component"))
    method = nk.OptimalInterpolation.fit(past)
    mean, cov = years.reshape(60, -1).mean(0), np.cov(years.reshape(60, -1).T)
    obs = past.isel(year=3, time=slice(3, 8))
    obs = xr.Dataset({"value": obs.where(obs["time"] == 5), "noise_std": 0.1})
    found = method.assimilate(obs)
    some_of = np.arange(24).reshape(12, 2)[3:8].ravel()
    m, C = mean[some_of], cov[np.ix_(some_of, some_of)]
    H = np.eye(10)[2:4]
    gain = C @ H.T @ np.linalg.inv(H @ C @ H.T + 0.01 * np.eye(2))
    np.testing.assert_allclose(found["mean"].values.ravel(), m + gain @ (obs["value"].values[1] - H @ m), atol=1e-6)
    np.testing.assert_allclose(found["std"].values.ravel() ** 2, np.diag(C - gain @ H @ C), atol=1e-6)
    for shift in (3.0, -1.0, 0.5):
        with pytest.raises(ValueError, match=r"each time from 1 to 12.*nk.Seasonal"):
            method.assimilate(xr.Dataset({"value": past[0], "noise_std": 0.1}).assign_coords(time=past["time"] + shift))
    pooled = nk.OptimalInterpolation.fit(past, order=1)
    pooled.assimilate(xr.Dataset({"value": past[0], "noise_std": 0.1}).assign_coords(time=past["time"] + 3))


def test_a_part_of_a_full_climatology_loses_no_digits():
    """Of nearly singular windows: the same as one that was fitted to these steps alone."""
    past = nk.Lorenz63().simulate(1500, 20, 0.04, seed=1, spinup=100)
    some = {"time": slice(4, 16)}
    obs = nk.observe(past.isel(time=slice(4, 16), sample=slice(3)), every=5, noise_std=0.5, seed=2)
    found = nk.OptimalInterpolation.fit(past).assimilate(obs)
    expected = nk.OptimalInterpolation.fit(past.isel(some)).assimilate(obs)
    assert (abs(found["mean"] - expected["mean"]) < 1e-3 * expected["std"]).all()


@pytest.mark.parametrize("kind", [str, object, complex, bool])
def test_windows_to_fit_to_are_real_numbers(kind):
    with pytest.raises(ValueError, match="real numbers are needed"):
        nk.OptimalInterpolation.fit(nk.Lorenz63().simulate(50, 4, 0.05).astype(kind), order=1)


def test_a_record_with_gaps_serves_nearly_as_well_as_the_whole():
    record, *_ = monthly(40)
    gappy = record.where(np.random.default_rng(2).random(record.shape) < 0.7)
    truth, *_ = monthly(20, seed=5)
    scores = []
    for past in (record, gappy):
        season = nk.Season.fit(past)
        windows = nk.windows(season.anomalies(past), STEPS)
        method = nk.Seasonal(nk.OptimalInterpolation.fit(windows, order=1), season)
        seen = [some(truth, begin) for begin in range(0, 228, STEPS)]
        errors = [float(((method.assimilate(obs)["mean"] - window) ** 2).mean()) for window, obs in seen]
        scores.append(np.mean(errors) ** 0.5)
    assert scores[1] < 1.1 * scores[0]


@pytest.mark.parametrize("kind", ["missing", "twice", "shuffled", "backwards", "daily", "numeric"])
def test_windows_never_reach_over_a_hole(kind):
    months = xr.date_range("1990-01-01", periods=60, freq="MS")
    record = xr.DataArray(np.arange(60.0)[:, None], {"time": months, "component": ["a"]}, ("time", "component"))
    days = record.assign_coords(time=xr.date_range("1990-01-01", periods=60, freq="D"))
    hole = [k for k in range(60) if k != 30]
    broken = {
        "missing": record.isel(time=hole),
        "twice": record.isel(time=[*range(31), *range(30, 60)]),
        "shuffled": record.isel(time=[1, 0, *range(2, 60)]),
        "backwards": record[::-1],
        "daily": days.isel(time=hole),
        "numeric": record.assign_coords(time=np.arange(60.0)).isel(time=hole),
    }[kind]
    with pytest.raises(ValueError, match="not even in time"):
        nk.windows(broken, steps=24)
    filled = record.isel(time=hole).reindex(time=months)
    assert nk.windows(filled, steps=24).sizes["sample"] == 37


def test_fill_values_in_the_past_are_named():
    time = xr.date_range("2000-01-01", periods=120, freq="MS")
    values = np.random.default_rng(0).normal(size=(120, 1))
    record = xr.DataArray(values, {"time": time, "component": ["a"]}, ("time", "component"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nk.OptimalInterpolation.fit(nk.windows(record, steps=6), order=1)
        nk.Season.fit(record)
    record[7] = -9999.0
    with pytest.warns(UserWarning, match="a value, -9999, fifty times"):
        nk.Season.fit(record)
    with pytest.warns(UserWarning, match="fill values"):
        nk.OptimalInterpolation.fit(nk.windows(record, steps=6), order=1)
