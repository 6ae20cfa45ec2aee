"""The ocean of the lab: who sees what, and who maps it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
from nida_kit.ocean import INSTRUMENTS, METHODS, OceanParameters, observed, passes, run, simulated, spread

SHORT = OceanParameters(spinup=20, method="optimal interpolation")


def test_the_window_is_that_of_the_model_after_its_spinup():
    system = nk.QuasiGeostrophic(cells=65)
    whole = system.simulate(samples=1, steps=28, dt=5.0, seed=3, dtype=torch.float32)
    found = simulated(3, 20)
    assert found.dims == ("time", "y", "x") and found["time"].values.tolist() == [5.0 * k for k in range(8)]
    np.testing.assert_allclose(found, whole[0, 20:], atol=1e-4)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_each_instrument_sees_the_truth_with_its_error(instrument):
    p = replace(SHORT, instrument=instrument, noise_std=0.05)
    obs = observed(p)
    error = (obs["value"] - simulated(p.seed, p.spinup)).values
    error = error[np.isfinite(error)]
    assert 150 < error.size < 1000
    said = obs["noise_std"].broadcast_like(obs["value"]).values[np.isfinite(obs["value"].values)]
    # The mean size of a standard normal number, within four standard errors.
    assert abs(error / said).mean() == pytest.approx((2 / np.pi) ** 0.5, abs=4 * 0.6 / error.size**0.5)
    assert np.median(said) == pytest.approx(0.05 * spread())


def test_more_satellites_see_more_and_more_clouds_hide_more():
    def count(**changes) -> int:
        return int(observed(replace(SHORT, **changes))["value"].notnull().sum())

    assert count(satellites=1) < count(satellites=2) < count(satellites=4)
    clear, cloudy = (count(instrument="image under clouds", cover=cover) for cover in (0.0, 0.8))
    assert clear == 8 * 13**2 and 0.05 < cloudy / clear < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_the_method_and_are_scored(method):
    found = run(replace(SHORT, method=method))
    prior = nk.NeuralIncremental.pretrained("ocean")
    past = prior.prior.climatology, prior.labels, prior.dt
    prior.draws = 8
    same = {"climatology": nk.ClimatologicalForecast, "optimal interpolation": nk.OptimalInterpolation}
    again = (same[method](*past) if method in same else prior).assimilate(observed(SHORT))
    for name in ("mean", "std"):
        np.testing.assert_array_equal(found[name], again[name])
    assert found.attrs["rmse"] == pytest.approx(float(nk.rmse(again["mean"], found["truth"])) / spread())
    assert found.attrs["coverage_90"] == float(nk.coverage(again["mean"], again["std"], found["truth"]))
    assert found.attrs["observed"] == int(found["value"].notnull().sum())


@pytest.mark.parametrize(
    "wrong", [{"satellites": 0}, {"satellites": 5}, {"instrument": "sonar"}, {"cover": 1.0}, {"noise_std": 0.0}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OceanParameters(**wrong)


def test_passes_over_several_windows_are_those_over_each():
    one, other = (simulated(seed, 20) for seed in (0, 1))
    both = xr.concat([one, other], "sample")
    found = passes(both, "swath", satellites=2, noise_std=1e-9, seed=0)["value"]
    assert found.sizes["sample"] == 2
    for window, truth in zip(found, (one, other), strict=True):
        assert 150 < window.notnull().sum() < 1000
        assert abs(window - truth).max() < 1e-7
    with pytest.raises(ValueError, match="radar"):
        passes(both, "radar", satellites=2, noise_std=1e-9, seed=0)
    coarse = one.isel(y=slice(None, None, 2), x=slice(None, None, 2))
    for foreign in (coarse, one.assign_coords(x=one["x"] + 0.1), one.drop_vars("x"), one.values):
        with pytest.raises(ValueError, match=r"other points along '[yx]' than the methods.*cells=65"):
            passes(foreign, "swath", satellites=2, noise_std=1e-9, seed=0)
