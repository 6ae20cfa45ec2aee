"""Tables on the model's grid: nothing lost, weights by hand, and true times against dense numpy."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import nida_kit as nk
from nida_kit.priors.climatology import Climatology

SYSTEM = nk.LinearOscillator()
FIELD = nk.GridLabels({"y": (30.0, 10.0, 0.0), "x": (0.0, 1.0, 2.0, 4.0)}, "K", "temperature")
DAILY = nk.StateLabels(("x", "y"), ("m", "s"), ("x", "y"), time_units="days")
TABLE = pd.DataFrame(
    {
        "time": [0.0, 0.11, 0.09, 0.32, 0.2],
        "what": ["angle", "angle", "angle", "momentum", "angle"],
        "value": [1.0, 2.0, 5.0, 20.0, np.nan],
        "error": [0.5, 1.0, 0.5, 1.0, 1.0],
    }
)


def field_table(n=40, seed=0):
    rng = np.random.default_rng(seed)
    columns = {"time": rng.uniform(0, 5, n), "y": rng.uniform(0, 30, n), "x": rng.uniform(0, 4, n)}
    return pd.DataFrame(columns | {"value": rng.normal(size=n), "error": rng.uniform(0.1, 2, n)})


# Cells


def test_values_that_share_a_cell_are_combined_by_their_errors():
    obs = nk.grid(TABLE, SYSTEM, dt=0.1)
    assert obs["value"].dims == obs["noise_std"].dims == ("time", "component")
    np.testing.assert_allclose(obs["time"], [0, 0.1, 0.2, 0.3], atol=1e-15)
    # (2 / 1 + 5 / 0.25) / (1 / 1 + 1 / 0.25) = 22 / 5
    np.testing.assert_allclose(obs["value"], [[1, np.nan], [4.4, np.nan], [np.nan, np.nan], [np.nan, 20]], rtol=1e-15)
    np.testing.assert_allclose(obs["noise_std"].sel(component="angle"), [0.5, 0.2**0.5, np.nan, np.nan], rtol=1e-15)


def test_the_report_says_what_became_of_each_row():
    attrs = nk.grid(TABLE.assign(flag=1), SYSTEM, dt=0.1).attrs
    counts = {"rows": 5, "missing": 1, "outside": 0, "repeated": 0, "used": 4, "shared": 2, "observations": 3}
    assert {name: attrs[name] for name in counts} == counts
    assert attrs["moved_time_max"] == pytest.approx(0.02)
    assert attrs["moved_time_mean"] == pytest.approx((0.01 + 0.01 + 0.02) / 4)
    lines = dict(line.split("  ", 1) for line in attrs["report"].splitlines())
    assert {name: said.strip() for name, said in lines.items()} == {
        "rows": "5",
        "without a value": "1",
        "values used": "4, as 3 observations",
        "share a cell with others": "2, which differ from what they make by up to 2.4 standard deviations",
        "moved along time": "by up to 0.02, by 0.01 on average",
        "not used": "flag",
    }


ROWS = st.tuples(st.floats(-3, 3), st.sampled_from(["angle", "momentum"]), st.floats(-10, 10), st.floats(0.01, 100))


@given(st.lists(ROWS, min_size=1, max_size=30), st.sampled_from([0.1, 0.7, 5.0]))
def test_information_is_kept_and_no_time_moves_by_more_than_half_a_step(rows, dt):
    table = pd.DataFrame(rows, columns=["time", "what", "value", "error"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that come twice
        obs = nk.grid(table, SYSTEM, dt=dt)
        exact, _ = nk.grid(table, SYSTEM, dt=dt, exact=True)
    said = (table["error"] ** -2).sum(), (table["value"] * table["error"] ** -2).sum()
    for found in (obs, exact):
        weight = found["noise_std"] ** -2.0
        assert float(weight.sum()) == pytest.approx(said[0], rel=1e-9)
        assert float((found["value"] * weight).sum()) == pytest.approx(said[1], rel=1e-9, abs=1e-9 * said[0])
    assert obs.attrs["moved_time_max"] <= dt / 2 * (1 + 1e-6)
    assert exact.attrs["moved_time_max"] == 0


def test_a_value_alone_in_its_cell_stays_as_it_is_bit_for_bit():
    table = TABLE.assign(value=[0.1, 1 / 3, 7.7, 1e300, np.nan], error=[1e-300, 1 / 3, 0.7, 1e-7, 1.0])
    table = table.assign(time=[0, 1, 2, 3, 4])
    obs = nk.grid(table, SYSTEM, dt=1)
    assert obs["value"].values[[0, 1, 2, 3], [0, 0, 0, 1]].tolist() == [0.1, 1 / 3, 7.7, 1e300]
    assert obs["noise_std"].values[[0, 1, 2, 3], [0, 0, 0, 1]].tolist() == [1e-300, 1 / 3, 0.7, 1e-7]


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_errors_of_any_unit_are_weighed(scale):
    table = TABLE.assign(error=TABLE["error"] * scale)
    np.testing.assert_allclose(nk.grid(table, SYSTEM, dt=0.1)["value"][1, 0], 4.4)


def test_irregular_times_of_a_dataset_are_all_kept():
    times = [0.0, 0.04, 0.11, 0.13, 0.26]
    obs = xr.Dataset(
        {"value": (("time", "component"), np.arange(10.0).reshape(5, 2)), "noise_std": 0.5},
        {"time": times, "component": ["angle", "momentum"]},
    )
    with pytest.raises(ValueError, match=r"nk\.grid\(obs, method"):
        nk.WeakFourDVar(SYSTEM, 0.1).assimilate(obs)
    found = nk.grid(obs, SYSTEM, dt=0.1)
    assert found.attrs["used"] == 10
    np.testing.assert_allclose(found["value"].sel(component="angle"), [1, 5, np.nan, 8])
    assert int(found["value"].count()) == 6


def test_a_dataset_that_is_on_the_grid_comes_back_as_it_is():
    truth = SYSTEM.simulate(samples=3, steps=6, dt=0.2)
    obs = nk.observe(truth, components=["momentum"], every=2, noise_std=0.3)
    found = nk.grid(obs, SYSTEM, dt=0.2, start=0, steps=6)
    assert found["value"].dims == obs["value"].dims
    np.testing.assert_array_equal(found["value"], obs["value"])
    np.testing.assert_array_equal(found["noise_std"], obs["noise_std"].where(obs["value"].notnull()))
    assert found.attrs["moved_time_max"] == 0


# Places


def test_stations_go_to_the_nearest_point_of_a_field():
    stations = xr.Dataset(
        {"sst": (("station", "time"), [[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]]), "sigma": ("station", [1.0, 1.0, 2.0])},
        {"time": [0.0, 1.1], "lat": ("station", [1.0, 2.0, 29.0]), "lon": ("station", [0.2, 0.3, 3.1])},
    )
    obs = nk.grid(stations, FIELD, dt=1, value="sst", error="sigma", places={"y": "lat", "x": "lon"})
    assert obs["value"].dims == ("time", "y", "x")
    assert obs["y"].values.tolist() == [30, 10, 0]
    assert float(obs["value"].sel(time=0, y=0, x=0)) == 2
    assert float(obs["value"].sel(time=1, y=0, x=0)) == 2
    assert float(obs["value"].sel(time=1, y=30, x=4)) == 6
    assert float(obs["noise_std"].sel(time=1, y=30, x=4)) == 2
    assert int(obs["value"].notnull().sum()) == 4
    assert [obs.attrs[f"moved_{dim}_max"] for dim in ("time", "y", "x")] == pytest.approx([0.1, 2, 0.9])


@given(st.integers(0, 10**6))
def test_each_value_goes_to_the_point_that_a_search_over_all_finds(seed):
    table = field_table(seed=seed)
    obs = nk.grid(table, FIELD, dt=1, start=0, steps=6)
    information = np.zeros((6, *FIELD.shape))
    for row in table.itertuples():
        places = zip(FIELD.indexes.values(), (row.y, row.x), strict=True)
        k = [np.abs(np.array(points) - at).argmin() for points, at in places]
        information[round(row.time), *k] += row.error**-2
    np.testing.assert_allclose(obs["noise_std"].fillna(np.inf) ** -2, information)


# Windows, names and units


def test_a_column_tells_windows_apart():
    table = TABLE.assign(station=["b", "b", "a", "a", "c"])
    obs = nk.grid(table, SYSTEM, dt=0.1, window="station")
    assert obs["value"].dims == ("station", "time", "component")
    assert obs["station"].values.tolist() == ["a", "b", "c"]
    assert int(obs["value"].sel(station="c").count()) == 0  # asked, and nothing was seen
    assert obs["value"].sel(station="a")[1, 0] == 5
    assert obs["value"].sel(station="b")[1, 0] == 2
    assert nk.grid(TABLE.assign(sample=7), SYSTEM, dt=0.1)["sample"].values.tolist() == [7]


def test_columns_may_have_any_name_and_times_may_be_the_index():
    table = (
        TABLE.rename(columns={"time": "when", "what": "name", "value": "sst"}).drop(columns="error").set_index("when")
    )
    obs = nk.grid(table, SYSTEM, dt=0.1, time="when", what="name", value="sst", error=2.0)
    np.testing.assert_allclose(obs["value"][1, 0], 3.5)
    np.testing.assert_allclose(obs["noise_std"][1, 0], 2 / 2**0.5)


def test_columns_of_any_numbers_and_categories_serve():
    nullable = TABLE.astype({"value": "Float64", "what": "category", "error": "float32"})
    xr.testing.assert_allclose(nk.grid(nullable, SYSTEM, dt=0.1), nk.grid(TABLE, SYSTEM, dt=0.1))


@pytest.mark.parametrize("exact", [False, True])
def test_units_that_a_dataset_declares_are_converted(exact):
    obs = xr.Dataset(
        {"value": (("time", "component"), [[90.0, 1.0], [np.nan, 2.0]]), "noise_std": 0.5},
        {
            "time": ("time", [0.0, 1.0], {"units": "min"}),
            "component": ["angle", "momentum"],
            "units": ("component", ["degree", "rad min-1"]),
        },
    )
    found = nk.grid(obs, SYSTEM, dt=30, exact=exact)
    found = found[0] if exact else found
    np.testing.assert_allclose(found["time"], [0, 30, 60])
    np.testing.assert_allclose(found["value"], [[np.pi / 2, 1 / 60], [np.nan] * 2, [np.nan, 2 / 60]])
    np.testing.assert_allclose(found["noise_std"][0], [np.pi / 360, 0.5 / 60])
    assert found["units"].values.tolist() == ["rad", "rad s-1"]
    assert found["time"].attrs["units"] == "s"
    said = "angle: degree to rad, momentum: rad min-1 to rad s-1, time: min to s"
    assert found.attrs["report"].splitlines()[-1].split(maxsplit=1) == ["converted", said]
    assert "units" not in nk.grid(TABLE, SYSTEM, dt=0.1).coords


def test_units_of_a_field_are_converted():
    stations = field_table().rename_axis("obs").to_xarray()
    warmer = stations.assign(value=stations["value"].assign_attrs(units="degC"))
    found, as_said = (nk.grid(data, FIELD, dt=1) for data in (warmer, stations))
    np.testing.assert_allclose(found["value"], as_said["value"] + 273.15)
    np.testing.assert_allclose(found["noise_std"], as_said["noise_std"])
    assert found["value"].attrs["units"] == "K"


@pytest.mark.parametrize(("unit", "size"), [("mK", 300.0), ("degC", 0.3)])
def test_errors_are_converted_by_the_unit_that_they_declare_themselves(unit, size):
    """300 mK are 0.3 K, whatever zero the values count from."""
    stations = field_table().rename_axis("obs").to_xarray().assign(error=("obs", np.full(40, size), {"units": unit}))
    for declared, offset in (("degC", 273.15), ("K", 0.0), ("", 0.0)):
        data = stations.assign(value=stations["value"].assign_attrs(units=declared))
        found = nk.grid(data, FIELD, dt=1, start=0)
        expected = nk.grid(field_table().assign(error=0.3), FIELD, dt=1, start=0)
        np.testing.assert_allclose(found["value"], expected["value"] + offset)
        np.testing.assert_allclose(found["noise_std"], expected["noise_std"])
    assert ("error of value: mK to K" in found.attrs["report"]) == (unit == "mK")
    with pytest.raises(ValueError, match="'error of value' is declared in 'm', and 'K' is needed"):
        nk.grid(stations.assign(error=stations["error"].assign_attrs(units="m")), FIELD, dt=1)


@pytest.mark.parametrize("name", ["unit", "units"])
def test_a_column_of_units_is_converted_and_said(name):
    table = TABLE.assign(**{name: ["degree", "degree", "degree", "rad min-1", None]})
    found, expected = nk.grid(table, SYSTEM, dt=0.1), nk.grid(TABLE, SYSTEM, dt=0.1)
    factor = [np.pi / 180, 1 / 60]
    for variable in ("value", "noise_std"):
        np.testing.assert_allclose(found[variable], expected[variable] * factor)
    assert found["units"].values.tolist() == ["rad", "rad s-1"]
    said = "angle: degree to rad, momentum: rad min-1 to rad s-1"
    assert found.attrs["report"].splitlines()[-1].split(maxsplit=1) == ["converted", said]
    of_a_field = field_table().assign(**{name: "degC"})
    np.testing.assert_allclose(
        nk.grid(of_a_field, FIELD, dt=1)["value"], nk.grid(field_table(), FIELD, dt=1)["value"] + 273.15
    )
    by_row = table.dropna().rename_axis("obs").to_xarray()
    np.testing.assert_allclose(nk.grid(by_row, SYSTEM, dt=0.1)["value"], found["value"])


def test_a_column_of_numbers_or_of_other_things_is_no_unit():
    obs = nk.grid(TABLE.assign(unit=[7, 7, 8, 8, 7]), SYSTEM, dt=0.1)
    assert obs.attrs["report"].splitlines()[-1].split() == ["not", "used", "unit"]
    obs = nk.grid(TABLE.rename(columns={"what": "unit"}), SYSTEM, dt=0.1, what="unit")
    assert "units" not in obs.coords


def test_a_table_of_a_result_comes_back():
    truth = nk.Pendulum().simulate(samples=2, steps=9, dt=0.1, seed=0)
    obs = nk.observe(truth, every=2, noise_std=0.1, seed=1)
    result = nk.WeakFourDVar(nk.Pendulum(), 0.1).assimilate(obs)
    table = nk.table(result)
    found = nk.grid(table, nk.Pendulum(), dt=0.1, value="mean", error="std")
    np.testing.assert_allclose(found["value"], result["mean"], rtol=1e-12)
    np.testing.assert_allclose(found["noise_std"], result["std"], rtol=1e-12)
    assert "converted" not in found.attrs["report"] and "unit" not in found.attrs["report"]
    degrees = table.assign(unit=table["unit"].replace("rad", "degree"))
    again = nk.grid(degrees, nk.Pendulum(), dt=0.1, value="mean", error="std")
    np.testing.assert_allclose(again["value"], result["mean"] * [np.pi / 180, 1], rtol=1e-12)


def test_numbers_since_a_date_are_dates():
    obs = xr.Dataset(
        {"value": (("time", "component"), [[1.0], [2.0]]), "noise_std": 0.5},
        {"time": ("time", [0.0, 1.3], {"units": "days since 2006-01-31"}), "component": ["x"]},
    )
    found = nk.grid(obs, DAILY, dt=1)
    assert found["time"].values.astype("M8[D]").astype(str).tolist() == ["2006-01-31", "2006-02-01"]
    assert found.attrs["moved_time_max"] == "0 days 07:12:00"


@pytest.mark.parametrize("dt", ["MS", "20D"])
def test_dates_of_any_calendar_stay_dates(dt):
    times = xr.date_range("2006-01-01", periods=60, freq="D", use_cftime=True, calendar="360_day")[[0, 1, 29, 39, 59]]
    table = pd.DataFrame({"time": times, "what": "x", "value": np.arange(5.0), "error": 1.0})
    obs = nk.grid(table, DAILY, dt=dt)
    expected = ["01-01", "02-01"] if dt == "MS" else ["01-01", "01-21", "02-11", "03-01"]
    assert [t.strftime("%m-%d") for t in obs["time"].values] == expected
    assert obs["time"].values[0].calendar == "360_day"
    means = [1, 3.5] if dt == "MS" else [0.5, 2, 3, 4]
    np.testing.assert_allclose(obs["value"].sel(component="x"), means)
    at = nk.grid(table, DAILY, dt=dt, exact=True)[0]["fraction"].values
    parts = [0, 1 / 30, 29 / 30, 9 / 30, 29 / 30] if dt == "MS" else [0, 1 / 20, 9 / 20, 19 / 20, 19 / 20]
    np.testing.assert_allclose(np.sort(at[np.isfinite(at)]), np.sort(parts), atol=1e-9)
    assert nk.grid(table, DAILY, dt="MS", start="2005-12-01").sizes["time"] == 3


@pytest.mark.parametrize("units", ["m", "1"])
def test_times_in_no_unit_of_time_are_refused(units):
    obs = nk.observe(SYSTEM.simulate(1, 4, 0.1), noise_std=0.1)
    obs["time"].attrs["units"] = units
    with pytest.raises(ValueError, match=f"'time' is declared in '{units}', and 's' is needed"):
        nk.grid(obs, SYSTEM, dt=0.1)


@pytest.mark.parametrize("dt", ["MS", 1])
def test_dates_on_the_grid_are_those_of_the_result(dt):
    labels = nk.StateLabels(("x", "y"), ("m", "s"), ("x", "y"), time_units="months")
    law = Climatology.fit(torch.randn(40, 3, 2, generator=torch.Generator().manual_seed(0)))
    method = nk.OptimalInterpolation(law, labels, 1.0)
    obs = nk.grid(DATED, method, dt=dt)
    result = method.assimilate(obs)
    assert result["time"].values.astype("M8[M]").astype(str).tolist() == ["2006-01", "2006-02", "2006-03"]
    obs, between = nk.grid(DATED, method, exact=True, start="2006-01-01", steps=3)
    assert method.assimilate(obs, operator=between)["observed"] == 3


def test_it_goes_through_a_file(tmp_path):
    obs = nk.grid(TABLE, SYSTEM, dt=0.1)
    path = tmp_path / "obs.nc"
    obs.to_netcdf(path)
    xr.testing.assert_identical(nk.load_observations(path), obs.assign_attrs(observations_file=str(path)))


def test_a_method_s_step_is_that_of_the_grid():
    obs = nk.observe(nk.Lorenz63().simulate(1, 8, 0.05), noise_std=0.4)
    method = nk.NeuralIncremental.pretrained("lorenz63_small")
    np.testing.assert_allclose(nk.grid(obs, method)["time"], obs["time"])


# Dates


DATES = pd.to_datetime(["2006-01-31 20:00", "2006-02-01 03:59", "2006-03-31 23:00"])
DATED = pd.DataFrame({"time": DATES, "what": ["x", "x", "y"], "value": [1.0, 3.0, 5.0], "error": 1.0})


@pytest.mark.parametrize("dt", ["6h", 0.25, pd.Timedelta("6h"), np.timedelta64(6, "h"), pd.offsets.Hour(6)])
def test_dates_stay_dates(dt):
    obs = nk.grid(DATED, DAILY, dt=dt, start="2006-01-31")
    assert obs["time"].dtype.kind == "M"
    assert obs["time"].values[4] == np.datetime64("2006-02-01")
    assert float(obs["value"].sel(time="2006-01-31T18:00", component="x")) == 1
    assert float(obs["value"].sel(time="2006-02-01T06:00", component="x")) == 3
    assert obs["time"].values[-1] == np.datetime64("2006-04-01")
    assert obs.attrs["moved_time_max"] == "0 days 02:01:00"


@pytest.mark.parametrize(
    ("dt", "units"), [("MS", "1"), (1, "months"), (1 / 12, "years"), (pd.offsets.MonthBegin(1), "days")]
)
def test_a_value_belongs_to_the_month_that_it_falls_in(dt, units):
    labels = nk.StateLabels(("x", "y"), ("1", "1"), ("x", "y"), time_units=units)
    obs = nk.grid(DATED, labels, dt=dt)
    assert obs["time"].values.astype("M8[M]").astype(str).tolist() == ["2006-01", "2006-02", "2006-03"]
    np.testing.assert_array_equal(obs["value"], [[1, np.nan], [3, np.nan], [np.nan, 5]])


def test_quarters_begin_where_the_window_does():
    obs = nk.grid(DATED, DAILY, dt="QS", start="2005-12-01")
    assert obs["time"].values.astype("M8[M]").astype(str).tolist() == ["2005-12", "2006-03"]
    np.testing.assert_array_equal(obs["value"], [[2, np.nan], [np.nan, 5]])


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
@pytest.mark.parametrize(("dt", "units"), [("YS", "1"), (1, "years"), (12, "months"), (None, "years")])
def test_years_begin_in_january(dt, units, calendar):
    labels = nk.StateLabels(("x",), ("K",), ("x",), time_units=units)
    times = pd.to_datetime(["1941-10-05", "1942-03-01", "1943-12-31"])
    if calendar == "noleap":
        times = xr.date_range("1941-10-05", "1943-12-31", use_cftime=True, calendar=calendar)[[0, 147, -1]]
    table = pd.DataFrame({"time": times, "what": "x", "value": [1.0, 2.0, 3.0], "error": 1.0})
    if dt is None:
        law = Climatology.fit(torch.randn(40, 3, 1, generator=torch.Generator().manual_seed(0)))
        labels = nk.OptimalInterpolation(law, labels, 1.0)
    obs = nk.grid(table, labels, dt=dt)
    assert [str(t)[:10] for t in obs["time"].values] == ["1941-01-01", "1942-01-01", "1943-01-01"]
    np.testing.assert_array_equal(obs["value"], [[1], [2], [3]])
    with_start = nk.grid(table, labels, dt=dt, start="1941-10-01")
    np.testing.assert_array_equal(with_start["value"], [[1.5], [np.nan], [3]])


def test_exact_months_know_how_long_each_is():
    obs, _ = nk.grid(DATED, DAILY, dt="MS", exact=True)
    days = [30 + 20 / 24, 0 + (3 + 59 / 60) / 24, 30 + 23 / 24]
    found = [float(obs["fraction"][k, c]) for k, c in ((0, 0), (1, 0), (2, 1))]
    np.testing.assert_allclose(found, [days[0] / 31, days[1] / 28, days[2] / 31], atol=1e-9)
    assert obs["time"].values[-1] == np.datetime64("2006-04-01")


def test_durations_stay_durations():
    table = DATED.assign(time=DATED["time"] - DATED["time"][0])
    obs = nk.grid(table, DAILY, dt="1D")
    assert obs["time"].dtype.kind == "m"
    assert obs["value"].sel(component="y").argmax("time").item() == 59


# True times


def dense_posterior(mean, covariance, H, y, std):
    """Of N(mean, covariance) given y = H x + N(0, std^2)."""
    gain = covariance @ H.T @ np.linalg.inv(H @ covariance @ H.T + np.diag(std**2))
    return mean + gain @ (y - H @ mean), covariance - gain @ H @ covariance


def between_steps(table, dt, steps, names):
    """The rows of H, made one by one."""
    H = np.zeros((len(table), steps, len(names)))
    for row, (t, what) in zip(H, table[["time", "what"]].values, strict=True):
        k = min(int(t // dt), steps - 2)
        row[k, names.index(what)], row[k + 1, names.index(what)] = 1 - (t / dt - k), t / dt - k
    return H.reshape(len(table), -1)


IRREGULAR = pd.DataFrame(
    {
        "time": [0.03, 0.07, 0.07, 0.2, 0.41, 0.49, 0.5, 0.62, 0.7],
        "what": ["angle", "angle", "momentum", "angle", "momentum", "angle", "angle", "momentum", "angle"],
        "value": [1.0, -0.2, 0.4, 0.3, -1.0, 0.1, 0.2, 0.6, -0.3],
        "error": [0.3, 0.2, 0.5, 0.3, 0.4, 0.2, 0.1, 0.3, 0.2],
    }
)
STEPS, DT, STD = 8, 0.1, 0.3
B = np.array([[1.0, 0.2], [0.2, 0.5]])


def dense_prior():
    """Mean and covariance of the window under the linear model."""
    M = SYSTEM.step(torch.eye(2).double(), DT).numpy().T
    powers = [np.linalg.matrix_power(M, k) for k in range(STEPS)]
    L = np.zeros((STEPS, 2, STEPS, 2))
    for t in range(STEPS):
        for s in range(t + 1):
            L[t, :, s] = powers[t - s]
    L = L.reshape(2 * STEPS, -1)
    Q = np.kron(np.eye(STEPS), STD**2 * np.eye(2))
    Q[:2, :2] = B
    return L[:, :2] @ [0.5, -0.5], L @ Q @ L.T


@pytest.mark.parametrize("name", ["KalmanSmoother", "WeakFourDVar", "OptimalInterpolation"])
def test_exact_times_agree_with_dense_linear_algebra(name):
    mean, covariance = dense_prior()
    if name == "OptimalInterpolation":
        square = torch.from_numpy(covariance)
        law = Climatology.from_covariance(torch.from_numpy(mean).view(STEPS, 2), square, torch.ones(2).double())
        method = nk.OptimalInterpolation(law, SYSTEM.labels, DT)
    else:
        method = getattr(nk, name)(SYSTEM, STD, start_mean=[0.5, -0.5], start_covariance=B)
    obs, between = nk.grid(IRREGULAR, method, dt=DT, start=0, steps=STEPS, exact=True)
    result = method.assimilate(obs, operator=between)
    H = between_steps(IRREGULAR, DT, STEPS, ["angle", "momentum"])
    expected, spread = dense_posterior(mean, covariance, H, *IRREGULAR[["value", "error"]].values.T)
    np.testing.assert_allclose(result["mean"].values.ravel(), expected, atol=1e-6)
    np.testing.assert_allclose(result["std"].values.ravel(), np.sqrt(np.diag(spread)), rtol=1e-6)
    assert result["observed"] == len(IRREGULAR)


def test_true_places_are_interpolated_along_each_axis():
    table = field_table()
    obs, between = nk.grid(table, FIELD, dt=1, start=0, steps=6, exact=True)
    y, x, t = np.array([0.0, 10, 30]), np.array([0.0, 1, 2, 4]), np.arange(6.0)
    state = np.random.default_rng(1).normal(size=(6, 3, 4))
    window = xr.DataArray(state, {"time": t, "y": y[::-1], "x": x}, ("time", "y", "x"))
    at = {name: xr.DataArray(table[name], dims="row") for name in ("time", "y", "x")}
    expected = window.interp(at).values
    found = between(torch.from_numpy(state)).numpy()[obs["value"].notnull().values]
    assert obs.attrs["observations"] == len(table)
    order = np.argsort(obs["value"].values[obs["value"].notnull().values])
    np.testing.assert_allclose(found[order], expected[np.argsort(table["value"].values)], atol=1e-7)


def test_windows_share_one_operator_and_each_keeps_its_own_values():
    first = IRREGULAR.assign(sample=0)
    second = IRREGULAR.assign(sample=1, time=IRREGULAR["time"] * 0.9, value=-IRREGULAR["value"])
    method = nk.KalmanSmoother(SYSTEM, STD, start_mean=[0.5, -0.5], start_covariance=B)
    both = pd.concat([first, second])
    obs, between = nk.grid(both, method, dt=DT, start=0, steps=STEPS, exact=True)
    together = method.assimilate(obs, operator=between)
    for k, table in enumerate((first, second)):
        alone, h = nk.grid(table, method, dt=DT, start=0, steps=STEPS, exact=True)
        expected = method.assimilate(alone, operator=h).isel(sample=0)
        np.testing.assert_allclose(together["mean"].sel(sample=k), expected["mean"], atol=1e-9)
        np.testing.assert_allclose(together["std"].sel(sample=k), expected["std"], atol=1e-9)


def test_true_times_that_are_steps_say_the_same_as_the_grid():
    table = IRREGULAR.assign(time=[0, 0.1, 0.1, 0.2, 0.4, 0.5, 0.6, 0.6, 0.7])
    method = nk.WeakFourDVar(SYSTEM, STD, start_mean=[0.5, -0.5], start_covariance=B)
    obs, between = nk.grid(table, method, dt=DT, exact=True)
    exact = method.assimilate(obs, operator=between)
    np.testing.assert_allclose(exact["mean"], method.assimilate(nk.grid(table, method, dt=DT))["mean"], atol=1e-9)


def test_neural_priors_take_true_times_and_are_closer_to_the_truth():
    fine = nk.Lorenz63().simulate(samples=4, steps=32 * 8, dt=0.05 / 8, seed=3)
    rng = np.random.default_rng(0)
    rows = []
    for sample in range(4):
        k = rng.choice(31 * 8, 24)
        told = {"sample": sample, "time": fine["time"].values[k], "what": "x"}
        rows.append(pd.DataFrame(told | {"value": fine.values[sample, k, 0] + 0.1 * rng.normal(size=24)}))
    table, truth = pd.concat(rows), fine.isel(time=slice(None, None, 8))
    method = nk.NeuralIncremental.pretrained("lorenz63")
    how = {"like": method, "start": 0, "steps": 32, "error": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of answers that miss values which were moved
        moved = method.assimilate(nk.grid(table, **how))["mean"]
    obs, between = nk.grid(table, **how, exact=True)
    exact = method.assimilate(obs, operator=between)["mean"]
    assert nk.rmse(exact, truth).mean() < 0.7 * nk.rmse(moved, truth).mean()


def test_exact_values_are_refused_without_their_operator_and_with_another_window():
    method = nk.WeakFourDVar(SYSTEM, STD)
    obs, between = nk.grid(IRREGULAR.query("time == 0.03"), method, dt=DT, start=0, steps=STEPS, exact=True)
    with pytest.raises(ValueError, match=r"'angle \(1\)'.*operator="):
        method.assimilate(obs)
    with pytest.raises(ValueError, match=r"windows of shape \(8, 2\), and got \(1, 4, 2\)"):
        method.assimilate(obs.isel(time=slice(4)), operator=between)


def test_exact_values_beyond_the_last_step_are_moved_onto_it():
    table = IRREGULAR.assign(time=IRREGULAR["time"] + 0.03)
    obs, _ = nk.grid(table, SYSTEM, dt=DT, start=0, steps=STEPS, exact=True)
    assert obs.attrs["used"] == len(table)
    assert obs.attrs["moved_time_max"] == pytest.approx(0.03)
    assert obs.attrs["moved_time_mean"] == pytest.approx(0.03 / len(table))


# Said or refused


def test_values_of_one_cell_that_contradict_each_other_are_said():
    table = pd.DataFrame({"time": [0.0, 0.01, 0.02], "what": "angle", "value": [20.0, 99.9, 20.1], "error": 0.3})
    said = r"angle at time 0\.01 is 99\.9 \+- 0\.3, .* makes 46\.67 \+- 0\.17, which is 177 .* exact=True keeps"
    with pytest.warns(UserWarning, match=said):
        nk.grid(table, SYSTEM, dt=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nk.grid(table, SYSTEM, dt=0.1, exact=True)  # three times, and none shares its own
        nk.grid(table.assign(what=["angle", "momentum", "angle"]), SYSTEM, dt=0.1)
    with pytest.warns(UserWarning, match=r"contradict each other: .* varies within a cell\.$"):
        nk.grid(table.assign(time=0.0), SYSTEM, dt=0.1, exact=True)
    with pytest.warns(UserWarning, match="contradict each other: temperature at time 0, y 10, x 1 is 9 "):
        field = pd.DataFrame({"time": 0.0, "y": 10.0, "x": 1.0, "value": [1.0, 1.1, 9.0], "error": 0.2})
        nk.grid(field, FIELD, dt=1)


def test_differences_by_chance_are_no_contradiction():
    """Ten thousand honest values in cells of two."""
    value = np.random.default_rng(0).normal(size=10_000)
    table = pd.DataFrame({"time": np.arange(10_000) // 2, "what": "angle", "value": value, "error": 1.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        obs = nk.grid(table, SYSTEM, dt=1)
    assert obs.attrs["shared"] == 10_000
    np.testing.assert_allclose(obs["value"].sel(component="angle"), value.reshape(-1, 2).mean(-1))


def test_rows_outside_are_said():
    with pytest.warns(UserWarning, match="2 of 5 rows lie outside"):
        obs = nk.grid(TABLE, SYSTEM, dt=0.1, start=0.1, steps=2)
    assert (obs.attrs["outside"], obs.attrs["used"]) == (2, 2)


def test_places_outside_are_said():
    with pytest.warns(
        UserWarning,
        match="1 of 2 rows lies outside the grid and is left.*1 along 'x', at 5.1, where the grid has 0 to 4. Select",
    ):
        nk.grid(field_table(2).assign(x=[1, 5.1]), FIELD, dt=1)


def test_longitudes_of_another_convention_are_said():
    globe = nk.GridLabels({"y": (0.0, 10.0), "x": tuple(range(0, 360, 5))}, "K", "temperature")
    table = field_table(3).assign(y=0.0, x=[-150.0, -120.0, 20.0])
    with pytest.warns(
        UserWarning, match="2 along 'x', at -150 to -120, where the grid has 0 to 355.*longitudes"
    ) as said:
        nk.grid(table, globe, dt=1)
    assert "widen" not in str(said[0].message)


def test_copied_rows_are_said():
    with pytest.warns(UserWarning, match=r"4 rows repeat another.*drop_duplicates"):
        nk.grid(pd.concat([TABLE, TABLE]), SYSTEM, dt=0.1)


def test_dims_that_tell_nothing_apart_are_said():
    obs = nk.observe(SYSTEM.simulate(samples=3, steps=4, dt=0.1), noise_std=0.3).rename(sample="depth")
    with pytest.warns(UserWarning, match=r"along \['depth'\] apart.*window='depth'"):
        found = nk.grid(obs, SYSTEM, dt=0.1)
    np.testing.assert_allclose(found["value"], obs["value"].mean("depth"))


@pytest.mark.parametrize("name", ["value_qc", "qc", "quality_flag", "STATUS_FLAG"])
@pytest.mark.parametrize("data", ["table", "dataset"])
def test_flags_that_are_not_looked_at_are_said(data, name):
    table = TABLE.dropna().assign(**{name: [1, 1, 4, 1]})
    if data == "dataset":
        table = table.rename_axis("obs").to_xarray()
    with pytest.warns(UserWarning, match=rf"flags '{name}' are not looked at.*1 \(3 times\), 4 \(1 time\).*flag=1"):
        obs = nk.grid(table, SYSTEM, dt=0.1)
    assert obs.attrs["report"].splitlines()[-1].split() == ["not", "used", name]


@pytest.mark.parametrize("flag", [1, [1], "good", [1, 9]])
@pytest.mark.parametrize("data", ["table", "dataset"])
def test_rows_with_good_flags_alone_are_used(data, flag):
    table = TABLE.assign(qc=[1, 1, 4, 9, 1])
    meant = {"flag_values": np.array([1, 4, 9]), "flag_meanings": "good bad missing"}
    if data == "dataset":
        table = table.rename_axis("obs").to_xarray()
        table["qc"].attrs = meant
    if data == "table" and flag == "good":
        with pytest.raises(ValueError, match=r"qc has no flags \['good'\]; it has \[1, 4, 9\]"):
            nk.grid(table, SYSTEM, dt=0.1, flag=flag)
        return
    obs = nk.grid(table, SYSTEM, dt=0.1, flag=flag, steps=4)
    kept = TABLE[[True, True, False, flag == [1, 9], True]]
    xr.testing.assert_identical(obs.drop_attrs(), nk.grid(kept, SYSTEM, dt=0.1, steps=4).drop_attrs())
    assert [obs.attrs[name] for name in ("rows", "missing", "flagged")] == [5, 1, 4 - len(kept.dropna())]
    assert f"left out by their flags     {obs.attrs['flagged']}" in obs.attrs["report"]


def test_flags_are_those_of_the_value_and_one_alone():
    table = TABLE.assign(depth_qc=[4, 4, 4, 4, 4], value_qc=[1, 1, 4, 1, 1])
    assert nk.grid(table, SYSTEM, dt=0.1, flag=1).attrs["flagged"] == 1
    with pytest.raises(ValueError, match=r"one variable of quality flags, and there are \['depth_qc', 'place_flag'\]"):
        nk.grid(table.rename(columns={"value_qc": "place_flag"}), SYSTEM, dt=0.1, flag=1)
    with pytest.raises(ValueError, match=r"no value left.*'value_qc' the flag 4"):
        nk.grid(table.assign(value=TABLE["value"].where(table["value_qc"] == 1)), SYSTEM, dt=0.1, flag=4)


def test_a_flag_is_of_each_value():
    dataset = TABLE.dropna().rename_axis("obs").to_xarray().assign(qc=("sensor", [1, 4]))
    with pytest.raises(ValueError, match=r"qc has the dims \['sensor'\] that value has not"):
        nk.grid(dataset, SYSTEM, dt=0.1, flag=1)


LOST = TABLE.assign(error=[0.5, np.nan, 0.5, 1, 1])
WIDE = pd.DataFrame({"time": [0.0, 1.0], "angle": [1.0, 2.0], "momentum": [1.0, 2.0]})
TWICE = pd.concat([TABLE, TABLE[["value"]]], axis=1)
BAD = {
    "no table": ([1, 2], {}, "DataFrame.*not list"),
    "wide": (WIDE, {}, r"no column 'value'; there are \['time', 'angle', 'momentum'\].*df\.melt"),
    "no time": (TABLE.drop(columns="time"), {}, "no column 'time'.*rename_axis"),
    "no error": (TABLE.drop(columns="error"), {}, "no column 'error'.*error=0.4"),
    "no such error": (TABLE, {"error": "sigma"}, "no column 'sigma'"),
    "an array as errors": (TABLE, {"error": np.ones(5)}, "A column has a name; ndarray is none"),
    "a list as times": (TABLE, {"time": [0, 1]}, "A column has a name; list is none"),
    "negative number": (TABLE, {"error": -1.0}, "error=-1.0 must be a positive"),
    "no what": (TABLE.drop(columns="what"), {}, "no column 'what'"),
    "two whats": (TABLE.assign(component="angle"), {}, "columns 'what' and 'component'"),
    "two values": (TWICE, {}, "more than one column 'value'"),
    "unknown": (TABLE.replace("momentum", "speed"), {}, r"names \['speed'\], unknown here.*isin"),
    "unsaid": (TABLE.replace("momentum", np.nan), {}, "1 value does not say what was measured"),
    "missing error": (LOST, {}, "holds nan beside a value, and 1 such.*fillna"),
    "no positive error": (TABLE.assign(error=0), {}, "holds 0 beside a value, and 4 such"),
    "infinite": (TABLE.assign(value=np.inf), {}, "5 infinite values"),
    "nothing": (TABLE.assign(value=np.nan), {}, "There is no value"),
    "texts": (TABLE.assign(value="1.0"), {}, "to_numeric"),
    "texts as times": (TABLE.assign(time="2001-01-01"), {}, "have dtype.*to_datetime"),
    "mixed times": (TABLE.assign(time=[0, "a", 1, 2, 3]), {}, "have dtype object.*one calendar"),
    "a zone": (TABLE.assign(time=pd.Timestamp("2001-01-01", tz="UTC")), {}, "time zone UTC.*tz_localize"),
    "no time of a value": (TABLE.assign(time=[0, np.nan, 1, 2, 3]), {}, "1 value has no time"),
    "beside the window": (
        TABLE,
        {"start": 10.0},
        r"Nothing lies on the grid: time.*0 to 0\.32.*of the grid 10 to 10;|time.*0 to 0\.32.*10",
    ),
    "no step": (TABLE, {"dt": None}, "no time step of its own.*dt=0.05"),
    "a duration": (TABLE, {"dt": "6h"}, "plain numbers"),
    "no positive step": (TABLE, {"dt": -1}, "dt=-1 must be"),
    "endless": (TABLE.assign(time=[0, 1, 2, 1e12, 3]), {}, "dt in the unit of the times"),
    "too large": (TABLE.assign(time=[0, 1, 2, 6e7, 3]), {}, "dt in the unit of the times"),
    "places": (TABLE, {"places": {"y": "lat"}}, "no dims of the grid.*no places"),
    "a time as window": (TABLE, {"window": "time"}, "cannot lie along 'time'"),
    "no window": (TABLE, {"window": "buoy"}, "no column 'buoy'"),
    "a window unsaid": (TABLE.assign(sample=[0, 1, np.nan, 1, 1]), {}, "1 row does not say the window"),
    "no state": (TABLE, {"like": 3}, "like=3 must be a method"),
    "no place": (TABLE, {"like": FIELD}, "no column 'y'.*places="),
    "two quantities": (field_table(2).assign(what=["t", "s"]), {"like": FIELD}, r"one quantity.*\['t', 's'\]"),
    "a lost place": (field_table(2).assign(x=[np.nan, 1]), {"like": FIELD}, "1 value has no place"),
    "no unit": (DATED, {"like": nk.Lorenz63(), "dt": 0.05}, "own, which has no name.*dt='6h'"),
    "no duration": (DATED, {"like": DAILY, "dt": "six hours"}, "dt='six hours' must be a positive duration"),
    "mid-month": (DATED, {"like": DAILY, "dt": "MS", "start": "2006-01-15"}, "first of a month.*start='2006-01-01'"),
    "months of durations": (DATED.assign(time=pd.to_timedelta([0, 1, 2], "D")), {"like": DAILY, "dt": "MS"}, "months"),
    "a number as date": (DATED, {"like": DAILY, "dt": "6h", "start": 3.5}, r"start=3\.5 must be a time"),
    "a date of either order": (
        DATED,
        {"like": DAILY, "dt": "6h", "start": "01.02.2006"},
        r"'01\.02\.2006' must be a time",
    ),
    "no date": (DATED, {"like": DAILY, "dt": "6h", "start": "today or so"}, "'today or so'.*start='2006-01-31'"),
    "no row": (TABLE[:0], {}, "There is no row: .*'error'"),
    "no rows of a dataset": (TABLE[:0].rename_axis("obs").to_xarray(), {}, "There is no row"),
    "several units": (
        TABLE.assign(unit=["rad", "degree", "rad", "", ""]),
        {},
        r"'angle' come in several units, \['rad'",
    ),
    "no whole months": (
        DATED,
        {"like": nk.StateLabels(("x", "y"), ("1",) * 2, ("x", "y"), "months"), "dt": 0.4},
        "whole",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_with_words(name):
    table, how, said = BAD[name]
    with pytest.raises(ValueError, match=said):
        nk.grid(table, **{"like": SYSTEM, "dt": 0.1} | how)


def test_a_method_s_step_is_not_overruled():
    method = nk.NeuralIncremental.pretrained("lorenz63_small")
    with pytest.raises(ValueError, match=r"another time step.*works with 0\.05: give dt=0\.05"):
        nk.grid(TABLE.assign(what="x"), method, dt=0.1)


def test_correlated_errors_are_not_combined():
    obs = nk.observe(SYSTEM.simulate(1, 4, 0.1), noise_covariance=np.eye(2))
    with pytest.raises(ValueError, match="correlated"):
        nk.grid(obs, SYSTEM, dt=0.1)


def test_windows_with_pairs_as_labels_are_refused():
    obs = nk.observe(SYSTEM.simulate(2, 4, 0.1), noise_std=0.1)
    obs = obs.assign_coords(run=("sample", [0, 1]), part=("sample", [0, 0])).set_index(sample=["run", "part"])
    with pytest.raises(ValueError, match="labelled by pairs"):
        nk.grid(obs, SYSTEM, dt=0.1)


def test_datasets_that_lack_something_are_told_so():
    obs = nk.observe(SYSTEM.simulate(1, 4, 0.1), noise_std=0.1)
    with pytest.raises(ValueError, match=r"no variable or coordinate 'time'.*assign_coords"):
        nk.grid(obs.drop_vars("time"), SYSTEM, dt=0.1)
    with pytest.raises(ValueError, match=r"no variable or coordinate 'what'.*to_array"):
        nk.grid(obs.drop_vars("component"), SYSTEM, dt=0.1)
    with pytest.raises(ValueError, match=r"no variable or coordinate 'value'.*to_array"):
        nk.grid(obs["value"].to_dataset("component"), SYSTEM, dt=0.1)


def test_a_mistyped_date_is_named_with_the_steps_that_it_makes():
    days = pd.date_range("2024-01-01", periods=60, freq="D").to_series().reset_index(drop=True)
    table = pd.DataFrame({"time": days, "what": "x", "value": 1.0, "error": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nk.grid(table, DAILY, dt="1D").sizes["time"] == 60
    table.loc[30, "time"] = pd.Timestamp("2204-01-31")
    with pytest.raises(ValueError, match=r"1 of 60 values .*2204-01-31.*2024-01-01.*to 2024-02-29.*65,774 steps") as no:
        nk.grid(table, DAILY, dt="1D")
    assert "steps=65774" in str(no.value)
    assert nk.grid(table, DAILY, dt="1D", steps=65774).sizes["time"] == 65774
    with pytest.warns(UserWarning) as said:  # who says how many steps knows
        nk.grid(table, DAILY, dt="1D", steps=60)
    assert len(said) == 1 and "outside the grid" in str(said[0].message)


def test_a_mistyped_time_of_a_field_is_named_even_if_its_steps_do_not_fit_in_memory():
    with pytest.raises(ValueError, match=r"1 of 40 values lies far from the others in time, at 400000000, where") as no:
        nk.grid(field_table(40).assign(time=[*np.arange(39.0), 4e8]), FIELD, dt=1)
    assert "steps=400000001" not in str(no.value)  # so many do not fit


def test_a_time_before_a_given_start_is_left_out_and_no_mistake():
    table = pd.DataFrame({"time": [-5e4, *np.arange(150.0)], "what": "x", "value": 1.0, "error": 0.5})
    with pytest.warns(UserWarning, match=r"1 of 151 rows lies outside"):
        assert nk.grid(table, DAILY, dt=1.0, start=0.0).sizes["time"] == 150


def test_a_misfit_of_values_that_were_moved_names_exact():
    truth = SYSTEM.simulate(samples=1, steps=400, dt=0.01, seed=0).isel(sample=0, time=slice(None, None, 13))
    obs = nk.observe(truth, noise_std=1e-3).drop_vars("units")
    method = nk.KalmanSmoother(SYSTEM, model_noise_std=1e-4)
    with pytest.warns(UserWarning, match=r"time by up to 0\.05: nk.grid\(..., exact=True\) keeps"):
        method.assimilate(nk.grid(obs, method, dt=0.1))
    exact, between = nk.grid(obs, method, dt=0.1, exact=True)
    assert "exact=True" not in method.assimilate(exact, operator=between).attrs.get("note", "")
