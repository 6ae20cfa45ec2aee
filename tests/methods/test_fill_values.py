"""Fill values that no file decoded are refused, where they are the past of a field or observations."""

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
from nida_kit import checks

PAST = nk.QuasiGeostrophic(cells=9).simulate(samples=30, steps=12, dt=5.0, seed=0)
SEA = xr.ones_like(PAST[0, 0], bool)
SEA[:3, :4] = False
WAYS = {
    "by patterns": lambda past: nk.OptimalInterpolation.fit_field(past, steps=3, modes=20),
    "by mixtures": lambda past: nk.OptimalInterpolation.fit_ensemble(past, steps=3, members=30, octaves=1),
    "by scales": lambda past: nk.OptimalInterpolation.fit_scales(past, steps=3),
    "whole": lambda past: nk.OptimalInterpolation.fit(past, order=1, shrinkage="auto"),
    "by a model": lambda past: nk.KalmanSmoother.fit(past, shrinkage="auto"),
    "as a tensor": lambda past: nk.FieldClimatology.fit(torch.from_numpy(past.values), steps=3, modes=20),
    "as a season": lambda past: nk.Season.fit(
        past[0].assign_coords(time=xr.date_range("2000-01-01", periods=12, freq="MS"))
    ),
}


@pytest.mark.parametrize("fill", [-999.0, 1e20, 9.969209968386869e36])
@pytest.mark.parametrize("way", WAYS)
def test_a_constant_far_from_all_else_is_named_and_what_to_do(way, fill):
    with pytest.raises(ValueError, match=r"at all times at 12 points of 81") as error:
        WAYS[way](PAST.where(SEA, fill))
    assert float(str(error.value).split("!= ")[1].split(")")[0]) == fill


@pytest.mark.parametrize("fill", [-999.0, 1e20])
@pytest.mark.parametrize("gap", [-999.0, 1e20])
def test_gaps_at_sea_hide_no_fill_value_of_land(fill, gap):
    past = PAST.where(SEA, fill)
    past[::4, :, 5, 5] = gap
    for way in ("by patterns", "by a model"):
        with pytest.raises(ValueError, match=r"at all times at 12 points of 81"):
            WAYS[way](past)


def test_a_fill_value_is_found_where_most_of_a_field_is_zero():
    rain = np.where(np.random.default_rng(0).random((200, 30)) < 0.1, 5.0, 0.0)
    checks.no_constant("rain", rain)
    rain[:, :3] = -999.0
    with pytest.raises(ValueError, match="holds -999 at all times at 3 points of 30"):
        checks.no_constant("rain", rain)


def test_land_that_is_told_beside_the_past_may_hold_any_number():
    nk.OptimalInterpolation.fit_scales(PAST.where(SEA, -999.0), steps=3, sea=SEA)


def test_a_wall_and_what_varies_are_no_fill_values():
    assert float(PAST[..., 0].std()) == 0.0
    nk.OptimalInterpolation.fit_field(PAST + 20.0, steps=3, modes=20)


@pytest.mark.parametrize("name", ["_FillValue", "missing_value"])
def test_values_that_are_declared_missing_are_refused_wherever_they_come_in(name):
    fill = np.float32(9.969209968386869e36)
    past = PAST.astype("float32").where(SEA, fill).assign_attrs({name: fill})
    said = rf"{name}=9.969209968386869e\+36, and 4,320 of 29,160 values are that"
    for way in ("by patterns", "whole", "by a model"):
        with pytest.raises(ValueError, match=said):
            WAYS[way](past)
    with pytest.raises(ValueError, match=r"xr\.open_dataset"):
        nk.windows(past[0], steps=3)
    method = WAYS["by patterns"](PAST)
    value = PAST[:2, :3].copy()
    value[0, 0, 4, 4] = -1.0
    obs = xr.Dataset({"value": value.assign_attrs({name: [-1.0]}), "noise_std": 0.1})
    with pytest.raises(ValueError, match=rf"obs.value declares {name}=-1, and 1 of 486 values is that"):
        method.assimilate(obs)
    points = xr.Dataset(
        {"value": ("obs", [1.0, -1.0], {name: -1.0}), "noise_std": 0.1},
        {"time": ("obs", [0.0, 5.0]), "y": ("obs", [0.5, 0.5]), "x": ("obs", [0.5, 0.5])},
    )
    with pytest.raises(ValueError, match=rf"{name}=-1, and 1 of 2 values is that"):
        nk.grid(points, method)
    lost = points.assign(noise_std=("obs", np.float32([0.1, 1e20]), {name: 1e20})).drop_attrs()
    lost["noise_std"].attrs[name] = 1e20
    with pytest.raises(ValueError, match=rf"'noise_std'\] declares {name}=1e\+20, and 1 of 2 values is that"):
        nk.grid(lost, method)
    good = method.assimilate(obs.assign(value=obs["value"].where(obs["value"] != -1.0)))
    assert np.isfinite(good["mean"]).all()


def test_no_truth_is_observed_or_scored_with_values_that_it_declares_missing():
    truth = PAST[:2, :3].where(SEA, -999.0).assign_attrs(missing_value=-999.0)
    said = "truth declares missing_value=-999, and 72 of 486 values are that"
    with pytest.raises(ValueError, match=said):
        nk.observe(truth, noise_std=0.1)
    draws = truth.expand_dims(member=2)
    for score in (nk.rmse, nk.resolved_scales, lambda x, y: nk.crps_ensemble(draws.drop_attrs(), y)):
        with pytest.raises(ValueError, match=said):
            score(truth.drop_attrs(), truth.rename("truth"))
    with pytest.raises(ValueError, match=said):
        nk.rmse(truth.drop_attrs(), truth.rename("truth").chunk(sample=1))
    sea = truth.where(SEA)
    assert nk.rmse(0 * sea, sea) > 0


def test_what_a_file_decodes_goes_in(tmp_path):
    past = PAST.where(SEA).rename("psi")
    past.to_netcdf(tmp_path / "past.nc", encoding={"psi": {"_FillValue": -999.0}})
    raw = xr.load_dataset(tmp_path / "past.nc", mask_and_scale=False)["psi"]
    with pytest.raises(ValueError, match="_FillValue=-999"):
        WAYS["by patterns"](raw)
    method = WAYS["by patterns"](xr.load_dataset(tmp_path / "past.nc")["psi"])
    assert np.array_equal(method.land.numpy(), ~SEA.values.ravel())
