"""Land, where the past of a field is NaN at all times: results are NaN there, and nothing else changes."""

from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk

STEPS, DT = 4, 5.0
PAST = nk.QuasiGeostrophic(cells=17).simulate(samples=30, steps=16, dt=DT, seed=0) + 100.0  # far from what 0 means
SEA = xr.ones_like(PAST[0, 0], bool)
SEA[:6, :5] = False
TRUTH = (nk.QuasiGeostrophic(cells=17).simulate(samples=2, steps=STEPS, dt=DT, seed=1) + 100.0).where(SEA)
OBS = nk.observe(TRUTH, operator=SEA, fraction=0.3, noise_std=1.0, seed=2)
FITS = {
    "fit_field": {"modes": 60, "radius": 4.0},
    "fit_ensemble": {"members": 60, "octaves": 2},
    "fit_scales": {},
}


@cache
def fitted(name):
    return getattr(nk.OptimalInterpolation, name)(PAST.where(SEA), steps=STEPS, **FITS[name])


@pytest.mark.parametrize("name", FITS)
def test_land_is_nan_in_all_that_a_method_of_fields_says_and_nowhere_else(name):
    method = fitted(name)
    result = method.assimilate(OBS, trace=True).isel(step=-1, drop=True)
    for variable in ("mean", "std", "first_guess"):
        xr.testing.assert_equal(result[variable].notnull(), TRUTH.notnull())
    assert nk.rmse(result["mean"], TRUTH) < nk.rmse(0 * TRUTH + PAST.mean(("sample", "time")), TRUTH)
    lazy = method.assimilate(OBS.chunk(sample=1)).compute()
    xr.testing.assert_allclose(lazy["mean"], result["mean"], rtol=1e-4)
    cycled = nk.Cycled(method, window=STEPS - 1, overlap=1).assimilate(OBS)
    xr.testing.assert_equal(cycled["mean"].notnull(), TRUTH.notnull())
    if name == "fit_scales":
        assert (method.sample(OBS, 2).notnull() == SEA).all()


@pytest.mark.parametrize("name", FITS)
def test_values_on_land_are_refused_and_counted(name):
    value = OBS["value"].copy()
    value[0, 1, 0, :3] = 100.0
    with pytest.raises(ValueError, match=r"3 of \d+ observed values lie on land.*obs.value.where\(sea\)"):
        fitted(name).assimilate(OBS.assign(value=value))


def test_points_on_land_are_refused_and_those_at_the_coast_are_read_as_at_sea():
    method = fitted("fit_field")
    x, y = (PAST[dim].values for dim in ("x", "y"))
    at = {"time": ("obs", [0.0, 0.0]), "y": ("obs", [y[3], y[10]]), "x": ("obs", [(x[4] + x[5]) / 2, x[10]])}
    seen = xr.Dataset({"value": ("obs", [100.0, 100.0]), "noise_std": 0.1}, at)
    obs, operator = nk.grid(seen, method, exact=True)
    result = method.assimilate(obs, operator=operator)
    # Half of it lies on land: it is a measurement of the point at sea beside it.
    assert abs(float(result["mean"][0, 3, 5]) - 100.0) < 0.3
    lost = seen.assign_coords(x=("obs", [x[2], x[10]]))
    obs, operator = nk.grid(lost, method.labels, dt=DT, exact=True)  # which know of no land
    with pytest.raises(ValueError, match="1 of 2 observed values lie on land"):
        method.assimilate(obs, operator=operator)


@pytest.mark.parametrize("exact", [False, True])
def test_a_grid_that_knows_land_leaves_what_lies_there_out_and_says_so(exact):
    method = fitted("fit_field")
    x, y = (PAST[dim].values for dim in ("x", "y"))
    at = {"time": ("obs", [0.0, 5.0, 0.0]), "y": ("obs", y[[3, 3, 10]]), "x": ("obs", x[[2, 10, 10]])}
    seen = xr.Dataset({"value": ("obs", [1e3, 101.0, 102.0]), "noise_std": 0.1}, at)
    with pytest.warns(UserWarning, match=r"1 of 3 rows lies on land.*\(time, y, x\) = \(0, 0.1875, 0.125\)\. If"):
        obs = nk.grid(seen, method, exact=exact)
    obs, operator = obs if exact else (obs, None)
    assert np.sort(obs["value"].values[obs["value"].notnull()]).tolist() == [101.0, 102.0]
    assert obs.attrs["on_land"] == 1 and "on land" in obs.attrs["report"]
    method.assimilate(obs, operator=operator)
    with pytest.raises(ValueError, match="All values lie on land"):
        nk.grid(seen.isel(obs=[0]), method, exact=exact)


def test_a_past_with_land_or_without_says_the_same_of_the_sea():
    with_land, without = (
        nk.OptimalInterpolation.fit_field(past, steps=STEPS, modes=40).assimilate(OBS)
        for past in (PAST.where(SEA), PAST.where(SEA, 0.0))
    )
    assert float(without["mean"][0, 0, 0, 0]) == 0.0  # a constant is known, as along a wall
    xr.testing.assert_allclose(with_land["mean"], without["mean"].where(SEA), rtol=1e-9)
    xr.testing.assert_allclose(with_land["std"], without["std"].where(SEA), rtol=1e-6)


def test_a_gap_at_sea_is_no_land():
    past = PAST.where(SEA).copy()
    past[0, 3, 10, 10] = np.nan
    with pytest.raises(ValueError, match="1 of 289 points have a gap"):
        nk.OptimalInterpolation.fit_field(past, steps=STEPS)


def with_gaps(past, *where):
    past = past.where(SEA).copy()
    for at in where:
        past.loc[at] = np.nan
    return past


Y, X, TIMES = PAST["y"][10], PAST["x"][10], PAST["time"]
GAPPY = {
    "inside": with_gaps(PAST, {"sample": 3, "y": Y, "x": X, "time": TIMES[3:6]}),
    "at both ends": with_gaps(PAST, {"sample": 3, "y": Y, "x": X, "time": TIMES[[0, 1, 5, -1]]}),
    "a whole record": with_gaps(PAST, {"sample": 3, "y": Y, "x": X}),
    "one record": with_gaps(PAST, {"sample": 3, "y": Y, "x": X, "time": TIMES[[0, 5]]})[3],
    "infinite": PAST.where(SEA).where(TIMES.isin(TIMES[3:]) | (PAST["y"] != Y) | (PAST["x"] != X), np.inf),
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("gap", GAPPY)
def test_what_records_with_gaps_are_told_leaves_none(gap, name):
    fit, records = getattr(nk.OptimalInterpolation, name), GAPPY[gap]
    with pytest.raises(ValueError, match="without gaps; 1 of 289 points have a gap") as error:
        fit(records, steps=STEPS, **FITS[name])
    names = {"np": np, "records": records}
    *fill, land = (
        f"records.{each.split(', or make')[0].rstrip('.')}" for each in str(error.value).split(" records.")[1:]
    )
    assert bool(fill) == (gap not in ("a whole record", "infinite"))
    for line in fill:
        filled = eval(line, names)
        assert (np.isfinite(filled) == SEA).all() and filled.where(records.notnull()).equals(records)
        assert filled.max() <= records.max()  # nothing runs away at the ends
    without = eval(land, names)
    assert (np.isfinite(without).any("time") == np.isfinite(without).all("time")).all()
    assert fit(without, steps=STEPS, **FITS[name]).land.sum() == (~SEA).sum() + 1


def test_a_gap_within_a_given_mask_of_the_sea_is_told_a_smaller_one():
    records = GAPPY["a whole record"]
    with pytest.raises(ValueError, match=r"Make such points land, sea=sea & np.isfinite\(records\).all\(") as error:
        nk.OptimalInterpolation.fit_scales(records, steps=STEPS, sea=SEA)
    sea = eval(str(error.value).split("sea=")[1].rstrip("."), {"np": np, "records": records, "sea": SEA})
    assert nk.OptimalInterpolation.fit_scales(records, steps=STEPS, sea=sea).land.sum() == (~SEA).sum() + 1


def test_a_mask_without_any_sea_is_told_that_it_may_be_that_of_land():
    of, sea = nk.MultiscaleClimatology.of, torch.zeros(9, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="sea= is False everywhere: there is no field") as error:
        of(sea.shape, 3.0, 2.0, steps=2, sea=sea)
    turned = eval(str(error.value).split("Is it the mask of land, ")[1].rstrip("?"), {"sea": sea})
    assert of(sea.shape, 3.0, 2.0, steps=2, sea=turned).varies.all()


@pytest.mark.parametrize("truth", [TRUTH, TRUTH[0], TRUTH.where(TRUTH["y"] > 0, np.inf)])
def test_a_truth_with_land_is_told_a_mask_that_leaves_it_out(truth):
    with pytest.raises(ValueError, match="by times= or a mask, as of a field with land") as error:
        nk.observe(truth, noise_std=1.0)
    operator = str(error.value).split("operator=")[1].rstrip(".")
    obs = nk.observe(truth, noise_std=1.0, operator=eval(operator, {"np": np, "truth": truth}))
    assert obs["value"].notnull().equals(np.isfinite(truth))


def test_a_truth_with_land_under_a_mask_or_an_operator_is_told_another_way_out():
    mask = xr.ones_like(SEA)
    with pytest.raises(ValueError, match=r"of the mask: operator=np.isfinite\(truth\) & mask, a labelled one"):
        nk.observe(TRUTH, noise_std=1.0, operator=mask)
    assert nk.observe(TRUTH, noise_std=1.0, operator=np.isfinite(TRUTH) & mask)["value"].notnull().any()
    sea = torch.from_numpy(np.isfinite(TRUTH.values))[0, 0]
    with pytest.raises(ValueError, match="an operator that reads none of them"):
        nk.observe(TRUTH, noise_std=1.0, operator=lambda x: x[..., ~sea])
    assert nk.observe(TRUTH, noise_std=1.0, operator=lambda x: x[..., sea])["value"].notnull().all()


def test_a_first_guess_with_gaps_is_told_of_times_and_points():
    of = fitted("fit_field")
    method = nk.NeuralIncremental(nk.FieldPrior(of.climatology, steps=STEPS, width=8, deep=8), of.labels, DT)
    first = of.assimilate(OBS)["mean"]
    with pytest.raises(ValueError, match="every time and point at sea is needed"):
        method.assimilate(OBS, first_guess=first.where(first["x"] > 0.5))


def test_land_comes_back_from_a_file(tmp_path):
    for name in ("fit_field", "fit_scales"):
        method = fitted(name)
        nk.save(method, tmp_path / "mine.safetensors")
        again = nk.OptimalInterpolation.load(tmp_path / "mine.safetensors")
        assert torch.equal(again.land, method.land)


def test_a_network_of_a_field_knows_the_land_of_its_climatology(tmp_path):
    method = fitted("fit_field")
    prior = nk.FieldPrior(method.climatology, steps=STEPS, width=8, deep=8)
    neural = nk.NeuralIncremental(prior, method.labels, DT)
    first = neural.assimilate(OBS)["mean"]
    assert (first.notnull() == SEA).all()
    assert (neural.assimilate(OBS, first_guess=first)["mean"].notnull() == SEA).all()
    nk.save(prior, tmp_path / "mine.safetensors", nk.Card(method.labels, DT))
    again = nk.NeuralIncremental.pretrained(tmp_path / "mine.safetensors")
    assert torch.equal(again.land, method.land)


def test_a_kalman_smoother_of_a_field_leaves_land_out_and_keeps_its_time_step():
    rough = np.random.default_rng(0).normal(size=(200, 6, 4, 5)).cumsum(1)
    own = {"time": np.arange(6) * 2.0, "y": np.arange(4.0), "x": np.arange(5.0)}
    past = xr.DataArray(rough, own, ("sample", "time", "y", "x"))
    sea = xr.DataArray(np.arange(20).reshape(4, 5) > 6, dims=("y", "x"))
    method = nk.KalmanSmoother.fit(past.where(sea), modes=6)
    obs = nk.observe(past[:3].where(sea), operator=sea, fraction=0.5, noise_std=0.1, seed=0)
    result = method.assimilate(obs)
    assert (result["mean"].notnull() == sea).all() and (result["std"].notnull() == sea).all()
    named = past.stack(component=("y", "x")).isel(component=sea.values.ravel()).reset_index("component")
    named = named.drop_vars(("y", "x")).assign_coords(component=[f"c{k}" for k in range(sea.values.sum())])
    value = obs["value"].stack(component=("y", "x")).isel(component=sea.values.ravel()).values
    alone = nk.KalmanSmoother.fit(named, modes=6)
    wanted = alone.assimilate(xr.Dataset({"value": named[:3].copy(data=value), "noise_std": 0.1}))
    np.testing.assert_allclose(result["mean"].values[..., sea.values], wanted["mean"], rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="time step is 4, the method works with 2"):
        method.assimilate(obs.isel(time=slice(None, None, 2)))
