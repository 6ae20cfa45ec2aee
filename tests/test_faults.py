"""Input that was admitted and crashed later, and state of the process that was touched."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
import nida_kit.plots as plots
from nida_kit.priors.paper import PaperPrior
from nida_kit.priors.parts import Seeded
from nida_kit.studies import common


def test_loading_a_prior_leaves_the_random_numbers_of_torch():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    nk.NeuralIncremental.pretrained("lorenz63")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("device", ["nope", 1.5, "meta:x", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match="device"):
        nk.Lorenz63().simulate(1, 3, 0.1, device=device)


def test_records_are_strict_json(tmp_path):
    plots.save(plots.figure(rows=1), tmp_path / "x.png", {"seed": 0, "error": float("nan"), "list": [float("inf")]})
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert found["error"] is None and found["list"] == [None]


def test_cards_and_studies_are_strict_json(tmp_path):
    prior = nk.NeuralPrior(nk.Climatology.fit(torch.randn(50, 4, 3, dtype=torch.float64), order=1), width=4)
    about = {"score": np.float32("nan"), "scores": np.array([1.0, np.inf])}
    nk.save(prior, tmp_path / "x.safetensors", nk.Card(nk.Lorenz63.labels, 0.05, about))
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert found["about"] == {"score": None, "scores": [1.0, None]} == nk.load(tmp_path / "x.safetensors")[1].about
    common.record(tmp_path / "y.json", "speed", {"seconds": float("inf")})
    assert json.loads((tmp_path / "y.json").read_text(), parse_constant=pytest.fail)["seconds"] is None


@pytest.mark.parametrize("kind", [nk.NeuralPrior, partial(PaperPrior, steps=4)])
def test_networks_are_seeded_in_their_own_thread(kind):
    climatology = nk.Climatology.fit(torch.randn(50, 4, 3, dtype=torch.float64), order=1)
    torch.manual_seed(3)
    expected, state = list(kind(climatology).parameters()), torch.get_rng_state()

    def made(seed):
        with Seeded(seed):
            return list(kind(climatology).parameters())

    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(made, [3] * 12))
    assert all(torch.equal(a, b) for each in many for a, b in zip(each, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_ranks_leave_the_random_numbers_of_numpy():
    draws = xr.DataArray(np.zeros((3, 4000)), dims=("member", "time"))
    np.random.seed(5)  # noqa: NPY002 (that others use it is the point)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    counts = nk.rank_histogram(draws, draws[0], seed=1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.testing.assert_allclose(counts, 1000, atol=150)  # all are tied
    assert counts.equals(nk.rank_histogram(draws, draws[0], seed=1))
    assert not counts.equals(nk.rank_histogram(draws, draws[0], seed=2))
    lazy = nk.rank_histogram(draws.chunk(time=1000), draws[0].chunk(time=1000), seed=1)
    assert lazy.compute().equals(counts)


OSCILLATOR = nk.LinearOscillator()
NEAR = 1e-9  # batches of other sizes round differently in float64, and how depends on the processor


@pytest.fixture(scope="module")
def windows():
    truth = OSCILLATOR.simulate(4, 20, 0.1, model_noise_std=0.05, seed=0)
    stacked = [("a", [0, 0, 1, 1]), ("b", [0, 1, 0, 1])]
    labelled = truth.rename(sample="window").assign_coords({name: ("window", x) for name, x in stacked})
    return nk.observe(labelled.set_index(window=["a", "b"]), every=4, noise_std=0.1, seed=1)


def test_windows_of_two_labels_are_reconstructed_lazily(windows):
    method = nk.KalmanSmoother(OSCILLATOR, 0.05)
    now, later = method.assimilate(windows), method.assimilate(windows.chunk(window=2))
    assert later.chunks
    xr.testing.assert_allclose(later.compute()["mean"], now["mean"], rtol=NEAR, atol=NEAR)
    assert now["mean"].unstack("window").sizes["b"] == 2
    drawn = method.sample(windows.chunk(window=2), 3).compute()
    xr.testing.assert_allclose(drawn, method.sample(windows, 3), rtol=NEAR, atol=NEAR)
    weak = nk.WeakFourDVar(OSCILLATOR, 0.05)
    again = weak.assimilate(windows.chunk(window=2), first_guess=now["mean"])
    whole = weak.assimilate(windows, first_guess=now["mean"])
    xr.testing.assert_allclose(again.compute()["mean"], whole["mean"], rtol=NEAR, atol=NEAR)


@pytest.mark.parametrize(
    "told",
    [
        lambda std, P: nk.KalmanSmoother(OSCILLATOR, std, std, std),
        lambda std, P: nk.KalmanSmoother(OSCILLATOR, model_noise_covariance=P, start_covariance=P),
        lambda std, P: nk.EnKF(OSCILLATOR, std),
        lambda std, P: nk.ThreeDVar(OSCILLATOR, P),
        lambda std, P: nk.StrongFourDVar(OSCILLATOR, P),
        lambda std, P: nk.EnKF(nk.Started(OSCILLATOR, std, std)),
        lambda std, P: nk.EnKF(nk.Started(OSCILLATOR, std, covariance=P)),
        lambda std, P: nk.KalmanSmoother(nk.LinearModel(np.eye(2), OSCILLATOR.labels, 0.1, std, P), 0.1),
    ],
)
def test_labelled_numbers_are_matched_by_their_labels(told):
    std = xr.DataArray([0.5, 0.25], {"component": ["angle", "momentum"]})
    rows = {"component": ["angle", "momentum"], "other_component": ["angle", "momentum"]}
    P = xr.DataArray([[0.04, 0.01], [0.01, 0.09]], rows)
    turned = std[::-1], P[::-1].T
    assert told(*turned).settings == told(std, P).settings == told(std.values, P.values).settings
    for wrong in ((std.assign_coords(component=["u", "v"]), P.assign_coords(component=["u", "v"])), (std[:1], P[:1])):
        with pytest.raises(ValueError, match=r"has the labels .* the state has"):
            told(*wrong)
    with pytest.raises(ValueError, match="has the dims"):
        told(std.rename(component="time"), P.rename(component="time"))


def test_labelled_matrices_are_matched_by_their_labels():
    names = list(OSCILLATOR.labels.components)
    matrix = xr.DataArray([[0.9, 0.2], [-0.3, 0.7]], {"component": names, "other_component": names})
    turned = matrix[::-1].T
    model = nk.LinearModel(turned, OSCILLATOR.labels, 0.1)
    np.testing.assert_array_equal(model.matrix, matrix)
    far = abs(matrix) * 9
    assert torch.equal(*(nk.LETKF(OSCILLATOR, distances=d).places.taper for d in (abs(turned) * 9, far.values)))
    for give in (
        partial(nk.LinearModel, labels=OSCILLATOR.labels, dt=0.1),
        lambda d: nk.LETKF(OSCILLATOR, distances=d),
    ):
        with pytest.raises(ValueError, match="has the dims"):
            give(far.rename(other_component="station"))
        with pytest.raises(ValueError, match=r"has the labels .* the state has"):
            give(far.assign_coords(component=["u", "v"]))


def test_labelled_noise_of_simulations():
    std = xr.DataArray([0.0, 0.5], {"component": ["momentum", "angle"]})
    found = OSCILLATOR.simulate(2, 3, 0.1, model_noise_std=std)
    assert found.equals(OSCILLATOR.simulate(2, 3, 0.1, model_noise_std=[0.5, 0.0]))
    draw = nk.simulated(OSCILLATOR, 3, 0.1, std)(2, torch.Generator().manual_seed(0))
    expected = nk.simulated(OSCILLATOR, 3, 0.1, [0.5, 0.0])(2, torch.Generator().manual_seed(0))
    assert torch.equal(draw, expected)


def test_masked_values_do_not_count_like_others():
    masked = np.ma.masked_array([0.1, 9e9], [False, True])
    truth = OSCILLATOR.simulate(1, 5, 0.1)
    for give in (
        lambda: nk.EnKF(OSCILLATOR, masked),
        lambda: nk.observe(truth, noise_std=masked),
        lambda: nk.observe(truth, noise_std=0.1, operator=masked[None]),
        lambda: nk.observe(truth, noise_std=0.1, operator=np.ma.masked_array([True, True], [False, True])),
        lambda: nk.observe(truth, noise_std=0.1, times=masked),
    ):
        with pytest.raises(ValueError, match="1 masked values"):
            give()
    whole = np.ma.masked_array([0.1, 0.2], [False, False])
    assert nk.EnKF(OSCILLATOR, whole).settings["model_noise_std"] == [0.1, 0.2]


def test_components_named_by_bytes(windows):
    method = nk.KalmanSmoother(OSCILLATOR, 0.05)
    of_bytes = windows.assign_coords(component=np.array([b"angle   ", b"momentum"]))
    assert method.assimilate(of_bytes)["mean"].equals(method.assimilate(windows)["mean"])


@pytest.mark.parametrize("seed", [2**63, 2**64, -1])
def test_seeds_that_no_generator_takes(seed):
    truth = OSCILLATOR.simulate(1, 5, 0.1, seed=2**63 - 1)
    obs = nk.observe(truth, noise_std=0.1, seed=2**63 - 1)
    method = nk.EnKF(OSCILLATOR, 0.1, seed=2**63 - 1)
    assert np.isfinite(method.sample(obs, 2, seed=2**63 - 1)).all()
    for give in (
        lambda: OSCILLATOR.simulate(1, 5, 0.1, seed=seed),
        lambda: nk.observe(truth, noise_std=0.1, seed=seed),
        lambda: nk.EnKF(OSCILLATOR, 0.1, seed=seed),
        lambda: method.sample(obs, 2, seed=seed),
        lambda: nk.rank_histogram(method.sample(obs, 2), truth, seed=seed),
        lambda: nk.Settings(seed=seed),
    ):
        with pytest.raises(ValueError, match=r"seed=.* below 2\^63"):
            give()


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
