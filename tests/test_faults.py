"""Input that was admitted and crashed later, and state of the process that was touched."""

import json

import numpy as np
import pytest
import torch

import nida_kit as nk
import nida_kit.plots as plots


def test_loading_a_prior_leaves_the_random_numbers_of_torch():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    nk.NeuralIncremental.pretrained("lorenz63")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("device", ["nope", 1.5, "meta:x"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match="device"):
        nk.Lorenz63().simulate(1, 3, 0.1, device=device)


def test_records_are_strict_json(tmp_path):
    plots.save(plots.figure(rows=1), tmp_path / "x.png", {"seed": 0, "error": float("nan"), "list": [float("inf")]})
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert found["error"] is None and found["list"] == [None]


def test_noise_per_component_of_windows():
    draw = nk.simulated(nk.Lorenz63(), 4, 0.01, model_noise_std=[0.0, 0.0, 5.0])
    quiet = nk.simulated(nk.Lorenz63(), 4, 0.01)
    away = draw(3, torch.Generator().manual_seed(0))[:, 1] - quiet(3, torch.Generator().manual_seed(0))[:, 1]
    assert (away[:, :2] == 0).all() and (away[:, 2].abs() > 0.01).all()


def test_a_start_that_does_not_spread_is_named():
    covariance = np.diag([1.0, 1.0, 1.0])

    class Still(nk.Lorenz63):
        def start(self, samples, generator, dtype, device):
            return super().start(samples, generator, dtype, device) * torch.tensor([1.0, 1.0, 0.0]).to(dtype)

    with pytest.raises(ValueError, match="background="):
        nk.StrongFourDVar(Still())
    nk.StrongFourDVar(Still(), covariance)


def test_a_law_that_is_not_made_yet():
    prior = nk.NeuralPrior(nk.Climatology.fit(torch.randn(50, 4, 2, dtype=torch.float64), order=1), width=4)
    with pytest.raises(ValueError, match="partial"):
        nk.train(prior, nk.fixed(torch.randn(50, 4, 2, dtype=torch.float64)), nk.mixture, progress=False)


def test_times_that_differ_by_rounding_are_the_same():
    truth = nk.Lorenz63().simulate(1, 7, 0.1)
    rounded = truth.assign_coords(time=truth["time"] * (1 + 3e-16) + 1e-12)
    assert nk.rmse(rounded, truth) == 0
    with pytest.raises(ValueError, match="coordinates"):
        nk.rmse(truth.assign_coords(time=truth["time"] + 1e-3), truth)


@pytest.mark.parametrize("pad", ["\0", " "])
def test_names_as_arrays_of_characters(tmp_path, pad):
    from scipy.io import netcdf_file

    with netcdf_file(tmp_path / "c.nc", "w", version=2) as d:
        for name, n in (("time", 4), ("component", 2), ("length", 4)):
            d.createDimension(name, n)
        d.createVariable("component", "c", ("component", "length"))[:] = [list(s.ljust(4, pad)) for s in "xz"]
        d.createVariable("time", "d", ("time",))[:] = np.arange(4) * 0.05
        d.createVariable("value", "d", ("time", "component"))[:] = np.ones((4, 2))
        d.createVariable("noise_std", "d", ("component",))[:] = 1.0
    assert nk.load_observations(tmp_path / "c.nc")["component"].values.tolist() == ["x", "z"]
