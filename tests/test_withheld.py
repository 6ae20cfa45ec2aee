"""What is withheld from a method: nothing of it leaks, and its scores are those of plain numpy."""

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import xarray as xr

import nida_kit as nk
from nida_kit.withheld import Parameters, hide, read, run

TRUTH = nk.Lorenz63().simulate(samples=3, steps=32, dt=0.05, seed=0)
OBS = nk.observe(TRUTH, components=["x", "z"], every=2, noise_std=0.8, seed=1)
RECORD = read(OBS, prior="lorenz63")


def hidden_of(**params) -> xr.DataArray:
    return hide(RECORD.window(0)[0]["value"], Parameters(**params))


def test_values_are_hidden_at_random_by_component_and_in_a_block():
    value = RECORD.window(0)[0]["value"]
    assert int(value.notnull().sum()) == 32
    assert not hidden_of(share=0.0).any()
    assert int(hidden_of(share=0.25).sum()) == 8
    of_z = hidden_of(share=0.0, component="z")
    assert of_z.sel(component="z").equals(value.sel(component="z").notnull()) and not of_z.sel(component="x").any()
    block = hidden_of(share=0.0, begin=10, length=6)
    assert np.flatnonzero(block.any("component")).tolist() == [10, 12, 14]
    both = hidden_of(share=0.25, component="z", begin=10, length=6)
    assert both.equals(of_z | block | hidden_of(share=0.25))


def test_what_is_hidden_of_a_smaller_share_is_hidden_of_a_larger_one():
    few, many, others = hidden_of(share=0.2), hidden_of(share=0.6), hidden_of(share=0.2, seed=1)
    assert (many | ~few).all() and int(many.sum()) > int(few.sum())
    assert not few.equals(others)


@pytest.mark.parametrize("method", ["neural", "optimal interpolation", "climatology"])
@pytest.mark.parametrize("robust", ["none", "student"])
def test_no_method_sees_what_is_hidden(method, robust):
    p = Parameters(method=method, robust=robust, share=0.3, begin=8, length=6)
    before = run(RECORD, p)
    wrong = OBS.copy(deep=True)
    hidden = hide(RECORD.window(0)[0]["value"], p).sel(component=OBS["component"])
    wrong["value"][0] = wrong["value"][0].where(~hidden, 1e3)
    after = run(read(wrong, prior="lorenz63"), p)
    for name in ("mean", "std", "first_guess", "value"):
        assert after[name].equals(before[name])
    assert after.attrs.get("note") == before.attrs.get("note")
    assert after.attrs["rmse"] != before.attrs["rmse"]


def test_scores_are_those_of_the_hidden_values_in_units_of_the_record():
    p = Parameters(window=1, share=0.4, seed=3, noise=2.0, beside=("climatology",))
    found = run(RECORD, p)
    names = ["x", "z"]
    value = OBS["value"].sel(component=names).values
    unit = np.nanstd(value, axis=(0, 1))
    hidden = found["hidden"].sel(component=names).values
    off = found["mean"].isel(step=-1).sel(component=names).values - hidden
    assert found.attrs["rmse"] == pytest.approx(np.sqrt(np.nanmean((off / unit) ** 2)))
    assert np.isfinite(hidden).sum() == found.attrs["withheld"] == 13
    assert found.attrs["shown"] == 32 - 13
    spread = np.sqrt(found["std"].isel(step=-1).sel(component=names).values ** 2 + 1.6**2)
    inside = np.abs(off) <= NormalDist().inv_cdf(0.95) * spread
    assert found.attrs["coverage_90"] == pytest.approx(inside[np.isfinite(hidden)].mean())
    noise = np.broadcast_to((1.6 / unit) ** 2, hidden.shape)[np.isfinite(hidden)]
    assert found.attrs["noise_rmse"] == pytest.approx(np.sqrt(noise.mean()))
    assert float(found["beside_rmse"][0]) > found.attrs["rmse"]


def test_the_method_is_told_errors_as_large_as_is_said():
    said = nk.OptimalInterpolation.load("lorenz63").assimilate(
        OBS.isel(sample=0).assign(noise_std=OBS["noise_std"] * 3)
    )
    found = run(RECORD, Parameters(method="optimal interpolation", share=0.0, noise=3.0))
    np.testing.assert_allclose(found["mean"].isel(step=-1), said["mean"])


def test_where_nothing_is_hidden_there_is_no_score():
    found = run(RECORD, Parameters(share=0.0))
    assert found.attrs["withheld"] == 0 and np.isnan(found.attrs["rmse"]) and np.isnan(found.attrs["coverage_90"])
    np.testing.assert_allclose(
        found["mean"].isel(step=-1), nk.NeuralIncremental.pretrained("lorenz63").assimilate(OBS.isel(sample=0))["mean"]
    )


def test_a_long_record_is_cut_into_windows_of_which_the_last_one_ends_it():
    long = nk.observe(nk.Lorenz63().simulate(2, 100, 0.05, seed=0), every=4, noise_std=0.5, seed=1)
    record = read(long, prior="lorenz63", steps=40)
    assert record.windows == 6
    times = [record.window(k)[0]["time"].values[[0, -1]] / 0.05 for k in range(3)]
    np.testing.assert_allclose(times, [[0, 39], [40, 79], [60, 99]])
    np.testing.assert_allclose(
        record.window(4)[0]["value"], long["value"][1, 40:80].sel(component=["x", "y", "z"]), equal_nan=True
    )
    assert read(long, prior="lorenz63").windows == 2
    with pytest.raises(ValueError, match="window=6 must be a whole number from 0 to 5"):
        run(record, Parameters(window=6))


def test_other_units_are_converted_before_anything_is_compared():
    truth = nk.Pendulum().simulate(samples=1, steps=40, dt=0.1, seed=0)
    obs = nk.observe(truth, every=4, noise_std=0.05, seed=1)
    degrees = obs.assign_coords(units=("component", ["degree", "degree/s"]))
    degrees = degrees.assign(value=np.rad2deg(obs["value"]), noise_std=np.rad2deg(obs["noise_std"]))
    p = Parameters(share=0.3)
    mine, theirs = (run(read(each, prior="pendulum"), p) for each in (obs, degrees))
    np.testing.assert_allclose(theirs["mean"], mine["mean"], atol=1e-9)
    assert theirs.attrs["rmse"] == pytest.approx(mine.attrs["rmse"])


def test_correlated_errors_and_fields_go_in():
    rng, where = np.random.default_rng(0), {"y": np.arange(3.0), "x": np.arange(4.0) * 0.1}
    walk = rng.normal(size=(40, 6, 3, 4)).cumsum(1)
    past = xr.DataArray(walk, dims=("sample", "time", "y", "x"), coords={"time": np.arange(6.0), **where})
    oi = nk.OptimalInterpolation.fit(past, order=1, shrinkage="auto")
    obs = nk.observe(past[:1] + 0.0, noise_std=0.1, seed=1)
    moved = obs.assign_coords(x=obs["x"] * (1 + 1e-12))
    found = run(read(moved, methods={"oi": oi}), Parameters(method="oi", share=0.5))
    assert found.attrs["withheld"] == 36 and found.attrs["rmse"] < 1
    correlated = nk.observe(TRUTH, every=2, noise_covariance=np.diag([1.0, 2.0, 3.0]) + 0.2, seed=1)
    record = read(correlated, prior="lorenz63")
    found = run(record, Parameters(share=0.3, noise=2.0))
    hidden = found["hidden"].notnull()
    noise = (xr.DataArray(np.sqrt([1.2, 2.2, 3.2]), dims="component") * 2 / record.spread).broadcast_like(hidden)
    assert found.attrs["noise_rmse"] == pytest.approx(float(np.sqrt((noise**2).where(hidden).mean())))


def test_a_component_that_never_varies_counts_in_its_errors():
    obs = OBS.assign(value=OBS["value"].where(OBS["component"] == "x", 3.0))
    assert float(read(obs, prior="lorenz63").spread.sel(component="z")) == pytest.approx(0.8)


def test_weights_serve_all_methods_that_they_hold(tmp_path):
    assert list(RECORD.methods) == ["neural", "optimal interpolation", "climatology"]
    nk.save(nk.OptimalInterpolation.load("lorenz63"), tmp_path / "oi.safetensors")
    record = read(OBS, prior=tmp_path / "oi.safetensors", methods={"smoother": nk.EnKS(nk.Lorenz63(), 0.1)})
    assert list(record.methods) == ["optimal interpolation", "climatology", "smoother"]
    assert run(record, Parameters(method="smoother", share=0.3)).attrs["rmse"] < 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "Nothing can reconstruct"),
        ({"prior": "lorenz"}, "no weight file"),
        ({"prior": Path("none.safetensors")}, "no weight file"),
        ({"prior": "pendulum"}, "Cannot convert"),
        ({"prior": "lorenz63", "steps": 33}, "steps=33 must be"),
        ({"methods": nk.EnKS(nk.Lorenz63(), 0.1)}, "a mapping"),
        ({"methods": {"a": 3}}, "must be a method"),
        ({"methods": {1: nk.EnKS(nk.Lorenz63(), 0.1)}}, "must be a text"),
        ({"prior": "lorenz63", "methods": {"p": nk.EnKS(nk.Pendulum(), 0.1)}}, "methods of one state"),
    ],
)
def test_what_does_not_fit_is_said(how, said):
    with pytest.raises(ValueError, match=said):
        read(OBS, **how)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "kriging"}, "must be one of"),
        ({"beside": ("kriging",)}, "must be one of"),
        ({"method": "neural", "beside": ("neural",)}, "twice"),
        ({"component": "y"}, "must be one of"),
        ({"begin": 32}, "from 0 to 31"),
        ({"length": 33}, "from 0 to 32"),
        ({"moment": 32}, "from 0 to 31"),
        ({"window": 3}, "from 0 to 2"),
    ],
)
def test_parameters_that_the_record_has_not_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        run(RECORD, replace(Parameters(), **change))


@pytest.mark.parametrize(
    "wrong", [{"share": 0.95}, {"share": "all"}, {"noise": 0.0}, {"robust": "cauchy"}, {"seed": -1}, {"window": 1.5}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Parameters(**wrong)
