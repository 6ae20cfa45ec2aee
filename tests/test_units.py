"""Units that are declared reach whatever is shown, scored or fitted; the same numbers come out as in the model's."""

import numpy as np
import pytest
import xarray as xr

import nida_kit as nk
from nida_kit.state import labels_of
from nida_kit.units import conversion

TRUTH = nk.Pendulum().simulate(samples=1, steps=40, dt=0.1, seed=0)
OBS = nk.observe(TRUTH, every=4, noise_std=0.05, seed=1)
DEGREES = OBS.assign_coords(units=("component", ["degree", "degree/s"])).assign(
    value=np.rad2deg(OBS["value"]), noise_std=np.rad2deg(OBS["noise_std"])
)
METHOD = nk.NeuralIncremental.pretrained("pendulum", temperatures=1)


@pytest.mark.parametrize(
    "name", ["degC", "degrees Celsius", "deg C", "degree Celsius", "celsius", "°C", "degree_Celsius", "Degrees C"]
)
def test_temperatures_as_people_write_them(name):
    assert conversion(name, "K", "temperature") == (1.0, 273.15)


@pytest.mark.parametrize("name", ["kelvin", "Kelvin", "degrees Kelvin", "deg K", "degK"])
def test_kelvin_as_people_write_it(name):
    assert conversion(name, "K", "temperature") == (1.0, 0.0)


def test_fahrenheit_as_people_write_it():
    factor, offset = conversion("degrees Fahrenheit", "K", "temperature")
    assert factor * 50 + offset == pytest.approx(283.15)


def test_figures_show_observations_and_truth_in_the_results_unit():
    plots = pytest.importorskip("nida_kit.plots")
    result = METHOD.assimilate(DEGREES)
    truth = np.rad2deg(TRUTH).assign_coords(units=("component", ["degree", "degree/s"]))
    fig, expected = nk.plot(result, DEGREES, truth), nk.plot(METHOD.assimilate(OBS), OBS, TRUTH)
    for ax, other in zip(fig.axes, expected.axes, strict=True):
        for line, wanted in zip(ax.lines, other.lines, strict=True):
            drawn = (np.asarray(each.get_ydata(), float) for each in (line, wanted))
            np.testing.assert_allclose(*drawn, atol=1e-6)
    shown = plots.shown(METHOD.assimilate(DEGREES, trace=True), DEGREES, truth)
    np.testing.assert_allclose(shown["value"], OBS["value"], atol=1e-9)
    np.testing.assert_allclose(shown["truth"], TRUTH, atol=1e-9)


def test_tables_have_values_in_the_unit_that_they_name():
    rows, expected = nk.table(METHOD.assimilate(DEGREES), DEGREES), nk.table(METHOD.assimilate(OBS), OBS)
    assert rows["unit"].tolist() == expected["unit"].tolist()
    np.testing.assert_allclose(rows["value"], expected["value"], atol=1e-9)


def test_errors_have_a_unit_of_their_own():
    milli = OBS.isel(component=[0]).assign(noise_std=xr.DataArray(50.0, attrs={"units": "mrad"}))
    found, expected = METHOD.assimilate(milli), METHOD.assimilate(OBS.isel(component=[0]))
    np.testing.assert_allclose(found["mean"], expected["mean"], atol=1e-9)
    assert "mrad to rad" in found.attrs["converted"]
    same = OBS.isel(component=[0]).assign(noise_std=xr.DataArray(0.05, attrs={"units": "rad"}))
    assert "converted" not in METHOD.assimilate(same).attrs
    with pytest.raises(ValueError, match=r"obs\.noise_std.* is declared in .kg"):
        METHOD.assimilate(OBS.assign(noise_std=OBS["noise_std"].assign_attrs(units="kg")))


def test_the_error_of_a_temperature_has_no_zero_point():
    past = xr.DataArray(
        np.random.default_rng(0).normal(290, 5, (50, 6, 2, 3)),
        {"time": np.arange(6.0), "y": [0.0, 1.0], "x": [0.0, 1.0, 2.0]},
        ("sample", "time", "y", "x"),
        attrs={"units": "K"},
    )
    method = nk.OptimalInterpolation.fit(past, order=0, shrinkage="auto")
    kelvin = nk.observe(past[0], noise_std=0.2, seed=1)
    value = (kelvin["value"] - 273.15).assign_attrs(units="degC")
    for units, size in (("degC", 0.2), ("mK", 200.0), ("K", 0.2)):
        obs = xr.Dataset({"value": value, "noise_std": xr.DataArray(size, attrs={"units": units})})
        np.testing.assert_allclose(method.assimilate(obs)["std"], method.assimilate(kelvin)["std"], atol=1e-9)


def test_anomalies_are_in_the_seasons_unit():
    time = xr.date_range("2000-01-01", periods=48, freq="MS")
    celsius = xr.DataArray(
        15 + np.random.default_rng(0).normal(size=(48, 1)),
        {"time": time, "component": ["sst"], "units": ("component", ["degC"])},
        ("time", "component"),
    )
    kelvin = (celsius + 273.15).assign_coords(units=("component", ["K"]))
    season = nk.Season.fit(celsius, by="month")
    np.testing.assert_allclose(season.anomalies(kelvin), season.anomalies(celsius), atol=1e-9)
    assert season.anomalies(kelvin)["units"].values.tolist() == ["degC"]
    field = celsius.isel(component=0, drop=True).expand_dims(y=[0.0], axis=1)
    field.attrs["units"] = "degC"
    season = nk.Season.fit(field, by="month")
    warm = (field + 273.15).assign_attrs(units="K")
    np.testing.assert_allclose(season.anomalies(warm), season.anomalies(field), atol=1e-9)
    assert season.anomalies(warm).attrs["units"] == "degC"
    undeclared = nk.Season.fit(celsius.drop_vars("units"), by="month")
    np.testing.assert_allclose(undeclared.anomalies(celsius), season.anomalies(field).values, atol=1e-9)


@pytest.mark.parametrize("component", [True, False], ids=["components", "field"])
def test_a_season_in_another_unit_than_its_method_is_converted(component):
    time = xr.date_range("2000-01-01", periods=96, freq="MS")
    warm = 15 + 5 * np.cos(2 * np.pi * np.arange(96) / 12) + np.random.default_rng(0).normal(size=96)
    dim = {"component": ["sst"]} if component else {"y": [0.0]}
    celsius = xr.DataArray(warm[:, None], {"time": time, **dim}, ("time", *dim))

    def declared(record, unit):
        return record.assign_coords(units=("component", [unit])) if component else record.assign_attrs(units=unit)

    celsius, kelvin = declared(celsius, "degC"), declared(celsius + 273.15, "K")
    seasons = [nk.Season.fit(record, by="month") for record in (celsius, kelvin)]
    past = nk.windows(seasons[1].anomalies(kelvin), steps=12)
    method = nk.OptimalInterpolation.fit(past, order=1)
    obs = xr.Dataset({"value": kelvin[:12].where(np.arange(12)[:, None] % 3 == 0), "noise_std": 0.2})
    found, expected = (nk.Seasonal(method, season).assimilate(obs)["mean"] for season in seasons)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert abs(float(expected.mean()) - 288) < 2
    smoother = nk.Seasonal(nk.KalmanSmoother.fit(past), seasons[0])
    for guess in (celsius[:12], kelvin[:12]):
        began = smoother.assimilate(obs, guess, trace=True)["first_guess"]
        np.testing.assert_allclose(began, kelvin[:12], atol=1e-9)


def test_units_that_contradict_each_other_are_refused_by_both_names():
    told = DEGREES.isel(component=[0])
    same = told.assign(value=told["value"].assign_attrs(units="degrees"))
    xr.testing.assert_equal(METHOD.assimilate(same)["mean"], METHOD.assimilate(told)["mean"])
    torn = told.assign(value=told["value"].assign_attrs(units="rad"))
    for use in (
        METHOD.assimilate,
        lambda obs: nk.rmse(obs["value"], obs["value"]),
        lambda obs: labels_of(obs["value"]),
    ):
        with pytest.raises(ValueError, match=r"'units' of value says 'degree', and its attrs\['units'\] 'rad'"):
            use(torn)
    rows = torn.isel(sample=0).drop_vars("noise_std")
    with pytest.raises(ValueError, match=r"'units' says 'degree', and 'value' by its attrs\['units'\] 'rad'"):
        nk.grid(rows, METHOD, error=0.1)


def test_one_unit_as_a_coordinate_holds_for_all_values():
    one = OBS.isel(component=[0])
    one = (one * 1000).assign_coords(units="mrad")
    xr.testing.assert_allclose(METHOD.assimilate(one)["mean"], METHOD.assimilate(OBS.isel(component=[0]))["mean"])
