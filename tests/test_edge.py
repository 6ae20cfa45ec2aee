"""The edge between labelled arrays and tensors: what comes in as it should, and what is refused."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import nida_kit as nk
from nida_kit import edge

STATE = nk.Lorenz63().labels
TRUTH = nk.Lorenz63().simulate(samples=2, steps=5, dt=0.1, seed=0)
OBS = nk.observe(TRUTH, components=["x", "z"], every=2, noise_std=0.5, seed=1)


def read(obs=OBS, **how):
    return edge.read_observations(obs, STATE, **how)


# Observations


@given(st.permutations(["sample", "run", "time", "component"]), st.permutations(["x", "y", "z"]))
def test_the_order_of_dimensions_and_components_does_not_matter(dims, components):
    obs = OBS.expand_dims(run=3)
    shuffled = obs.transpose(*dims).sel(component=list(components))
    lead = [d for d in dims if d in ("sample", "run")]
    found = read(shuffled)
    assert found.dims == tuple(lead)
    expected = obs["value"].transpose(*lead, "time", "component").values
    np.testing.assert_array_equal(found.value, expected)


@pytest.mark.parametrize("lead", [(), ("sample",), ("run", "sample")])
def test_any_leading_dimensions_come_through_with_their_coordinates(lead):
    obs = OBS.assign_coords(sample=["a", "b"])
    obs = obs.isel(sample=0) if "sample" not in lead else obs
    obs = obs.expand_dims(run=[7, 8]) if "run" in lead else obs
    found = read(obs)
    assert found.dims == lead
    assert found.value.shape == (*[2] * len(lead), 5, 3)
    assert set(found.coords) >= {"time", "component", "units", "long_name", *lead}
    assert found.dt == pytest.approx(0.1)


def test_components_that_were_not_measured_become_nan():
    found = read(OBS.sel(component=["z"]))
    assert found.value[..., :2].isnan().all()
    np.testing.assert_array_equal(found.value[..., 2], OBS["value"].sel(component="z"))


def test_values_through_an_operator_keep_their_own_components():
    obs = OBS.assign_coords(component=["h0", "h1", "h2"])
    found = read(obs, direct=False)
    np.testing.assert_array_equal(found.value, obs["value"])
    assert found.coords["component"] == list(STATE.components)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_of_any_kind_become_float64(dtype):
    whole = OBS.assign(value=(TRUTH * 10).round().astype(dtype), noise_std=xr.DataArray(np.array(2, dtype)))
    found = read(whole)
    assert found.value.dtype == found.noise_std.dtype == torch.float64
    np.testing.assert_array_equal(found.value, whole["value"])


@pytest.mark.parametrize("dims", [(), ("component",), ("time",), ("sample", "component"), ("component", "time")])
def test_noise_std_broadcasts_by_name(dims):
    std = (1 + abs(TRUTH)).isel({d: 0 for d in TRUTH.dims if d not in dims}, drop=True).transpose(*dims)
    found = read(OBS.assign(noise_std=std))
    seen = ~found.value.isnan()
    expected = std.broadcast_like(TRUTH).transpose(*TRUTH.dims).values
    np.testing.assert_array_equal(found.noise_std[seen], expected[seen.numpy()])
    assert (found.noise_std[~seen] == 1).all()


def test_noise_std_only_matters_where_something_was_measured():
    found = read(OBS.assign(noise_std=OBS["value"] * 0 + 0.5))
    assert torch.equal(found.noise_std, read().noise_std.where(~found.value.isnan(), 1.0))


def test_reading_does_not_touch_the_observations():
    before = OBS.copy(deep=True)
    read().value.fill_(0.0)
    xr.testing.assert_identical(OBS, before)


def with_value(change):
    return OBS.assign(value=change(OBS["value"]))


TIMES = {
    "dates": (np.array(["2020-01-01"], "M8[ns]") + np.arange(5), "dtype datetime64.*timedelta64"),
    "uneven": ([0, 0.1, 0.2, 0.3, 0.5], r"not evenly increasing.*nk\.grid\(obs, method"),
    "falling": ([0.4, 0.3, 0.2, 0.1, 0], "not evenly increasing"),
    "repeated": ([0, 0, 0, 0, 0], "not evenly increasing"),
    "missing": ([0, 0.1, np.nan, 0.3, 0.4], "NaN or infinite"),
    "another step": ([0, 0.2, 0.4, 0.6, 0.8], r"time step is 0.2, the method works with 0.1.*nk\.grid\(obs, method"),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_that_do_not_fit_are_refused(name):
    times, said = TIMES[name]
    with pytest.raises(ValueError, match=said):
        read(OBS.assign_coords(time=times), dt=0.1)


def test_one_single_time_needs_a_method_that_knows_its_step():
    assert read(OBS.isel(time=[0]), dt=0.1).value.shape == (2, 1, 3)
    with pytest.raises(ValueError, match=r"single time.*obs.reindex\(time=\[t, t \+ dt\]\)"):
        read(OBS.isel(time=[0]))


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (OBS.drop_vars("noise_std"), "no variable 'noise_std', only"),
        (OBS.drop_vars("value"), "no variable 'value', only"),
        (OBS.rename(time="t"), "needs 'time': rename"),
        (OBS.isel(component=0), "needs 'component'"),
        (OBS.drop_vars("time"), "no coordinate 'time'"),
        (OBS.drop_vars("component"), "no coordinate 'component'"),
        (with_value(lambda v: v.astype(complex)), "dtype complex128"),
        (with_value(lambda v: v.astype(str)), "dtype <U"),
        (OBS.assign(noise_std=xr.DataArray("0.5")), "noise_std has dtype"),
        (OBS.assign(noise_std=xr.DataArray([0.5, 1], dims="run")), r"\['run'\] that obs.value"),
        (OBS.assign_coords(component=["x", "x", "z"]), "repeats itself"),
        (OBS.assign_coords(component=["x", "y", "w"]), r"\['w'\] are unknown.*\['x', 'y', 'z'\].*operator="),
        (OBS.rename(sample="member"), "'member', a name that results use themselves: rename it"),
        (OBS.rename(sample="step"), "'step'"),
        (OBS.assign_coords(step=3), "'step'"),
        (OBS.assign_coords(temperature=("time", np.zeros(5))), "'temperature'"),
        (OBS.isel(sample=[]), "empty"),
        (OBS.isel(time=[]), "empty"),
        (with_value(lambda v: v.where(v.isnull(), np.inf)), "12 infinite values"),
        (OBS.assign(noise_std=xr.DataArray(0.0)), "positive and finite wherever.*holds 0"),
        (OBS.assign(noise_std=xr.DataArray(-1.0)), "positive and finite wherever.*holds -1"),
        (OBS.assign(noise_std=xr.DataArray(np.nan)), "positive and finite wherever.*holds nan"),
        (OBS.assign(noise_std=xr.DataArray(np.inf)), "positive and finite wherever.*holds inf"),
    ],
)
def test_observations_that_cannot_be_used_are_a_named_value_error(obs, said):
    with pytest.raises(ValueError, match=said):
        read(obs)


@pytest.mark.parametrize("wrong", [OBS["value"], OBS["value"].values, None])
def test_what_is_no_dataset_is_a_value_error(wrong):
    with pytest.raises(ValueError, match=f"not a {type(wrong).__name__}"):
        edge.read_observations(wrong, STATE)


def test_both_that_an_exact_grid_gives_are_told_apart():
    with pytest.raises(ValueError, match=r"obs, operator = nk\.grid"):
        edge.read_observations((OBS, None), STATE)


# Trajectories

NAMED = OBS.assign_coords(sample=["a", "b"])


@pytest.mark.parametrize("sample", [["b", "a"], ["a", "c"]])
def test_windows_of_other_names_are_not_paired_by_position(sample):
    with pytest.raises(ValueError, match=r"other coordinates along 'sample'.*\.sel\(sample=obs\.sample\)"):
        edge.read_trajectory(TRUTH.assign_coords(sample=sample), read(NAMED), STATE, "x")


def test_windows_of_the_same_names_or_of_none_are_paired():
    for x in (TRUTH, TRUTH.assign_coords(sample=["a", "b"])):
        np.testing.assert_array_equal(edge.read_trajectory(x, read(NAMED), STATE, "x"), TRUTH)


def test_a_trajectory_is_read_by_name():
    shuffled = TRUTH.transpose("component", "time", "sample").sel(component=["z", "x", "y"])
    np.testing.assert_array_equal(edge.read_trajectory(shuffled, read(), STATE, "x"), TRUTH)


def test_a_trajectory_without_the_leading_dimensions_serves_all_windows():
    found = edge.read_trajectory(TRUTH[0], read(), STATE, "x")
    np.testing.assert_array_equal(found, np.broadcast_to(TRUTH[0], (2, 5, 3)))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (TRUTH.rename(time="t"), "needs the dim and coordinate 'time'"),
        (TRUTH.drop_vars("time"), "needs the dim and coordinate 'time'"),
        (TRUTH.isel(component=0), "needs the dim and coordinate 'component'"),
        (TRUTH.expand_dims(member=2), r"dims \['member'\]"),
        (TRUTH.isel(component=[0, 1]), r"components \['x', 'y'\]; needed"),
        (TRUTH.isel(component=[0, 1, 2, 0]), r"components \['x', 'y', 'z', 'x'\]; needed"),
        (TRUTH.isel(time=slice(3)), "other times"),
        (TRUTH.assign_coords(time=TRUTH["time"] + 1), "other times"),
        (TRUTH.isel(sample=[0, 1, 1]), "3 along 'sample', the observations 2"),
        (TRUTH.where(TRUTH["time"] > 0), "NaN or infinite values; every time and component is"),
    ],
)
def test_trajectories_that_do_not_fit_are_a_named_value_error(x, said):
    with pytest.raises(ValueError, match=f"^first_guess.*{said}"):
        edge.read_trajectory(x, read(), STATE, "first_guess")


def test_what_is_no_dataarray_is_a_value_error():
    with pytest.raises(ValueError, match=r"^first_guess.*not a ndarray"):
        edge.read_trajectory(TRUTH.values, read(), STATE, "first_guess")


def test_a_tensor_becomes_a_labelled_trajectory_and_returns():
    x = torch.from_numpy(TRUTH.values)
    labelled = edge.trajectory(x, STATE, 0.1, attrs={"seed": 3})
    xr.testing.assert_equal(labelled, TRUTH)
    assert labelled.attrs == {"seed": 3}
    assert torch.equal(edge.read_trajectory(labelled, read(), STATE, "x"), x)


def test_labels_need_a_unit_and_a_name_for_every_component():
    with pytest.raises(ValueError, match=r"2 components.*1 unit and"):
        nk.StateLabels(("x", "y"), ("1",), ("x", "y"))


def test_a_missing_error_is_explained():
    obs = xr.Dataset({"value": (("time", "component"), np.zeros((2, 1)))}, {"time": [0, 1], "component": ["x"]})
    with pytest.raises(ValueError, match=r"standard deviation of the measurement error.*assign"):
        edge.check_observations(obs)


def test_observations_are_loaded_from_a_file_or_it_says_why_not(tmp_path):
    coords = {"time": np.arange(4) * 0.05, "component": ["x"]}
    obs = xr.Dataset({"value": (("time", "component"), np.ones((4, 1))), "noise_std": 0.1}, coords)
    path = tmp_path / "obs.nc"
    obs.to_netcdf(path)
    xr.testing.assert_identical(nk.load_observations(path), obs.assign_attrs(observations_file=str(path)))

    (tmp_path / "table.csv").write_text("time,x\n0,1\n")
    (tmp_path / "cut.nc").write_bytes((tmp_path / "obs.nc").read_bytes()[:2000])
    obs.drop_vars("noise_std").to_netcdf(tmp_path / "half.nc")
    for name, why in (
        ("none.nc", "is no file"),
        ("table.csv", "table.csv.*cannot be read as NetCDF"),
        ("cut.nc", "cut.nc.*cannot be read as NetCDF"),
        ("half.nc", "noise_std"),
    ):
        with pytest.raises(ValueError, match=why):
            nk.load_observations(tmp_path / name)


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (np.arange(4) * 0.1, "s"),
        (xr.DataArray(np.arange(4) * 100.0, dims="time", attrs={"units": "ms"}), "ms"),
        (
            xr.DataArray(np.arange(4) * 0.1, dims="time", attrs={"units": "seconds since 1970-01-01"}),
            "seconds since 1970-01-01",
        ),
        (xr.date_range("1970-01-01", periods=4, freq="100ms"), None),
        (xr.date_range("1970-01-01", periods=4, freq="100ms", use_cftime=True, calendar="360_day"), None),
        (np.arange(4) * np.timedelta64(100, "ms"), None),
    ],
    ids=["numbers", "other unit", "since", "dates", "360 days", "spans"],
)
def test_time_is_counted_in_the_states_unit_and_comes_back_as_it_was(time, shown, tmp_path):
    pendulum = nk.Pendulum()
    obs = xr.Dataset(
        {"value": (("time", "component"), np.ones((4, 1))), "noise_std": 0.1}, {"time": time, "component": ["angle"]}
    )
    before = obs.copy(deep=True)
    read = edge.read_observations(obs, pendulum.labels, 0.1)
    np.testing.assert_allclose(read.times, np.arange(4) * 0.1, atol=1e-12)
    assert read.dt == pytest.approx(0.1)
    assert read.coords["time"].attrs.get("units") == shown
    xr.testing.assert_identical(obs, before)
    result = nk.KalmanSmoother(pendulum, 0.1).assimilate(obs)
    assert (result["time"].values == obs["time"].values).all()
    result.to_netcdf(tmp_path / "dated.nc")
    again = nk.KalmanSmoother(pendulum, 0.1).assimilate(obs, first_guess=result["mean"])
    assert again["mean"].shape == (4, 2)
    with pytest.raises(ValueError, match=r"time step is 0.1, the method works with 0.2"):
        edge.read_observations(obs, pendulum.labels, 0.2)


def test_months_are_even_wherever_in_their_month_the_dates_lie():
    labels = nk.StateLabels(("sst",), ("degC",), ("temperature",), time_units="months")
    for freq in ("MS", "ME"):
        dates = xr.date_range("2000-01-01", periods=14, freq=freq)
        obs = xr.Dataset(
            {"value": (("time", "component"), np.ones((14, 1))), "noise_std": 0.1},
            {"time": dates, "component": ["sst"]},
        )
        read = edge.read_observations(obs, labels)
        assert read.dt == 1 and read.times[0] == 360


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (xr.date_range("2000-01-01", periods=4, freq="D"), "own, which has no name"),
        (np.array(["a", "b", "c", "d"]), "dates or plain numbers are needed"),
        (xr.DataArray(np.arange(4.0), dims="time", attrs={"units": "days since noon"}), "cannot be read as dates"),
        (
            xr.DataArray(np.arange(4.0), dims="time", attrs={"units": "s"}),
            "'s', and '1' is needed",
        ),
    ],
)
def test_times_that_the_method_cannot_count_are_refused(time, said):
    obs = xr.Dataset(
        {"value": (("time", "component"), np.ones((4, 1))), "noise_std": 0.1}, {"time": time, "component": ["x"]}
    )
    with pytest.raises(ValueError, match=said):
        edge.read_observations(obs, nk.Lorenz63().labels)


def test_declared_units_are_converted_exactly_and_put_on_record():
    """Degrees and turns a second, of values, errors, covariances and first guesses, in any order of components."""
    truth = nk.Pendulum().simulate(2, 32, 0.1, seed=3)
    obs = nk.observe(truth, every=4, noise_std=xr.DataArray([0.02, 0.05], dims="component"), seed=1)
    method = nk.NeuralIncremental.pretrained("pendulum")
    factor = xr.DataArray([180 / np.pi, 1 / (2 * np.pi)], {"component": ["angle", "momentum"]}, "component")
    declared = {"units": ("component", ["degrees", "turn s-1"])}
    other = (obs * factor).assign_coords(declared).isel(component=[1, 0])
    found, expected = method.assimilate(other), method.assimilate(obs)
    np.testing.assert_allclose(found["mean"], expected["mean"], atol=1e-4)
    assert found["units"].values.tolist() == ["rad", "rad s-1"]
    assert found.attrs["converted"] == "momentum: turn s-1 to rad s-1, angle: degrees to rad"
    assert "converted" not in expected.attrs
    guess = (truth * factor).assign_coords(declared)
    np.testing.assert_allclose(method.assimilate(obs, guess, trace=True)["first_guess"], truth, rtol=1e-12, atol=1e-12)
    R = xr.DataArray(np.array([[4e-4, 1e-4], [1e-4, 25e-4]]), dims=("component", "other_component"))
    scaled = R * factor * factor.rename(component="other_component").drop_vars("other_component")
    pair = [
        o.drop_vars("noise_std").assign(noise_covariance=c.transpose("component", "other_component"))
        for o, c in ((obs, R), ((obs * factor).assign_coords(declared), scaled))
    ]
    one, two = (edge.read_observations(o, nk.Pendulum().labels).noise_covariance for o in pair)
    torch.testing.assert_close(one, two, rtol=1e-9, atol=0)


def test_units_with_an_offset_move_values_and_not_their_errors():
    labels = nk.GridLabels({"y": (0.0, 1.0)}, "K", "temperature")
    value = xr.DataArray(
        [[10.0, 20.0], [np.nan, 0.0]], {"time": [0.0, 1.0], "y": [0.0, 1.0]}, ("time", "y"), attrs={"units": "degC"}
    )
    read = edge.read_observations(xr.Dataset({"value": value, "noise_std": 0.5}), labels)
    np.testing.assert_allclose(read.value, [[283.15, 293.15], [np.nan, 273.15]])
    assert (read.noise_std[~read.value.isnan()] == 0.5).all() and read.converted == "degC to K"


@pytest.mark.parametrize(("unit", "factor"), [("mK", 1e-3), ("degC", 1.0), ("K", 1.0)])
def test_errors_are_converted_by_the_unit_that_they_declare_themselves(unit, factor):
    labels = nk.GridLabels({"y": (0.0, 1.0)}, "K", "temperature")
    value = xr.DataArray([[10.0, 20.0]], {"time": [0.0], "y": [0.0, 1.0]}, ("time", "y"), attrs={"units": "degC"})
    obs = xr.Dataset({"value": value, "noise_std": ("y", [300.0, 500.0], {"units": unit})})
    read = edge.read_observations(obs, labels, 1.0)
    np.testing.assert_allclose(read.value, [[283.15, 293.15]])
    np.testing.assert_allclose(read.noise_std, np.array([[300.0, 500.0]]) * factor)
    again = edge.read_observations(edge.in_state_units(obs, labels), labels, 1.0)
    torch.testing.assert_close(again.noise_std, read.noise_std)
    with pytest.raises(ValueError, match=r"obs\.noise_std is declared in 'm', and 'K' is needed"):
        edge.read_observations(obs.assign(noise_std=obs["noise_std"].assign_attrs(units="m")), labels, 1.0)


@pytest.mark.parametrize(
    ("unit", "said"), [("kg", "angle, is declared in 'kg', and 'rad' is"), ("bananas", "'bananas'")]
)
def test_units_of_something_else_are_refused(unit, said):
    obs = nk.observe(nk.Pendulum().simulate(1, 8, 0.1), ["angle"], every=2, noise_std=0.1)
    with pytest.raises(ValueError, match=said):
        nk.NeuralIncremental.pretrained("pendulum").assimilate(
            obs.assign_coords(units=("component", [unit, "rad s-1"]))
        )


def flagged(**attrs):
    """Values 0 to 5 of two components and their quality flags."""
    value = xr.DataArray(
        np.arange(6.0).reshape(3, 2),
        {"time": [0.0, 0.1, 0.2], "component": ["x", "z"]},
        ("time", "component"),
        attrs={"ancillary_variables": "quality"} if attrs else {},
    )
    flags = value.copy(data=np.array([[1, 2], [4, 1], [9, 2]]))
    flags.attrs = attrs
    return xr.Dataset({"value": value, "noise_std": 0.1, "quality" if attrs else "value_qc": flags})


MEANT = {"flag_values": np.array([1, 2, 4, 9]), "flag_meanings": "good probably_good bad missing"}


@pytest.mark.parametrize(
    ("obs", "flag", "kept"),
    [
        (flagged(), 1, [0, 3]),
        (flagged(), [1, 2], [0, 1, 3, 5]),
        (flagged(**MEANT), "good", [0, 3]),
        (flagged(**MEANT), ["good", "probably_good"], [0, 1, 3, 5]),
        (flagged(**MEANT), [1, "bad"], [0, 2, 3]),
    ],
)
def test_only_values_with_good_flags_are_kept(tmp_path, obs, flag, kept):
    obs.to_netcdf(tmp_path / "flagged.nc")
    for source in (obs, tmp_path / "flagged.nc"):
        found = nk.load_observations(source, flag=flag)
        assert set(found.data_vars) == {"value", "noise_std"}
        assert found["value"].values[found["value"].notnull()].tolist() == kept


@pytest.mark.parametrize(
    ("obs", "flag", "said"),
    [
        (flagged(), 3, r"value_qc has no flags \[3\]; it has \[1, 2, 4, 9\]"),
        (flagged(**MEANT), "fine", r"quality has no flags \['fine'\]; it has \{'good': 1"),
        (
            flagged(flag_masks=np.array([1, 2]), flag_meanings="land rain"),
            1,
            r"quality holds bits \(flag_masks\).*not supported.*obs\.quality & bit\) == 0.*\{'land': 1, 'rain': 2\}",
        ),
        (flagged().drop_vars("value_qc"), 1, r"needs one variable of quality flags, and there are \[\]"),
    ],
)
def test_flags_that_are_not_there_are_refused(obs, flag, said):
    with pytest.raises(ValueError, match=said):
        nk.load_observations(obs, flag=flag)


@pytest.mark.parametrize("name", ["start", "cost", "converged", "distance", "forecast", "log_evidence", "residual"])
def test_no_coordinate_takes_the_place_of_what_methods_say(name):
    obs = nk.observe(nk.Lorenz63().simulate(2, 8, 0.05), every=4, noise_std=1.0)
    with pytest.raises(ValueError, match=f"'{name}', a name that results use themselves: rename it"):
        nk.KalmanSmoother(nk.Lorenz63(), 0.2).assimilate(obs.assign_coords({name: ("sample", [1.0, 2.0])}))
    with pytest.raises(ValueError, match="that observations or results use"):
        nk.GridLabels({name: range(3)})


def test_units_of_windows_are_not_those_of_components():
    obs = nk.observe(nk.Lorenz63().simulate(2, 8, 0.05), every=4, noise_std=1.0)
    with pytest.raises(ValueError, match=r"'units' along \('sample',\)"):
        nk.KalmanSmoother(nk.Lorenz63(), 0.2).assimilate(obs.assign_coords(units=("sample", ["m", "m"])))


@pytest.mark.parametrize("name", ["value", "noise_std", "noise_covariance", "_layer", "start", "analysis_std", "units"])
def test_windows_lie_along_no_name_that_observations_or_results_have(name):
    with pytest.raises(ValueError, match=f"'{name}'.*rename"):
        nk.KalmanSmoother(nk.Lorenz63(), 0.1).sample(OBS.rename(sample=name), 2)


def test_a_dim_that_comes_twice_is_named():
    with pytest.raises(ValueError, match="one of them twice"):
        nk.KalmanSmoother(nk.Lorenz63(), 0.1).assimilate(OBS.rename(sample="time"))


@pytest.mark.parametrize("kind", [complex, str, bool, object])
def test_a_first_guess_is_of_real_numbers(kind):
    with pytest.raises(ValueError, match=r"first_guess has dtype.*real numbers are needed"):
        nk.WeakFourDVar(nk.Lorenz63(), 0.1).assimilate(OBS, first_guess=TRUTH.astype(kind))


def test_a_mask_has_the_shape_of_the_states():
    method = nk.KalmanSmoother(nk.Lorenz63(), 0.1)
    for mask in (np.array([True, False]), np.ones((3, 5), bool)):
        with pytest.raises(ValueError, match="The mask has the shape"):
            method.assimilate(OBS, operator=mask)
    for mask in (True, np.array([True, False, True]), np.ones((5, 3), bool), np.ones((2, 5, 1), bool)):
        xr.testing.assert_equal(method.assimilate(OBS, operator=mask)["mean"], method.assimilate(OBS)["mean"])
