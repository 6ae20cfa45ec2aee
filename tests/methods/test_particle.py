"""The Bayes-optimal references against exact smoothers, brute-force weights and a fine grid of start states."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
from nida_kit.methods.particle_filter import unbiased_covariance

DT, NOISE = 0.1, [0.05, 0.1]
CENTRE, WIDTH = [0.3, -0.2], [1.0, 0.7]


class GaussianOscillator(nk.LinearOscillator):
    """It starts where the Kalman smoother assumes it to."""

    def start(self, samples, generator, dtype, device):
        unit = torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)
        return torch.tensor(CENTRE, dtype=dtype) + torch.tensor(WIDTH, dtype=dtype) * unit

    def log_start(self, x):
        return torch.distributions.Normal(torch.tensor(CENTRE).to(x), torch.tensor(WIDTH).to(x)).log_prob(x).sum(-1)


OSCILLATOR = GaussianOscillator()


@pytest.fixture(scope="module")
def swings():
    truth = OSCILLATOR.simulate(3, 16, DT, model_noise_std=0.07, seed=1)
    return nk.observe(truth, components=["angle"], every=5, offset=3, noise_std=0.1, seed=2)


@pytest.fixture(scope="module")
def lorenz():
    setup = nk.setups.load("blanke2024-lorenz63")
    return setup, setup.observe(setup.windows(2, seed=35), seed=36)  # where simulations come near


@pytest.fixture(scope="module")
def pendulum():
    setup = nk.setups.load("blanke2024-pendulum")
    return setup, setup.observe(setup.windows(2, seed=13), seed=14)


def small(system=None, noise=0.2, **changes):
    counts = {"particles": 300, "draws": 30, "repeats": 2} | changes
    return nk.ParticleSmoother(nk.Lorenz63() if system is None else system, noise, **counts)


@pytest.fixture(scope="module")
def some():
    truth = nk.Lorenz63().simulate(5, 8, 0.05, model_noise_std=0.2, seed=6)
    return nk.observe(truth, every=2, noise_std=6.0, seed=7, fraction=0.6)


def z_score(result, mean):
    return float((((result["mean"] - mean) / result["mean_error"]) ** 2).mean() ** 0.5)


def test_on_a_linear_gaussian_system_the_smoother_is_the_kalman_smoother_within_its_error(swings):
    exact = nk.KalmanSmoother(OSCILLATOR, NOISE, CENTRE, WIDTH).assimilate(swings)
    result = nk.ParticleSmoother(OSCILLATOR, NOISE, particles=4000, draws=128, repeats=8).assimilate(swings)
    assert 0.5 < z_score(result, exact["mean"]) < 1.5
    assert float((result["mean_error"] / exact["std"]).max()) < 0.1
    np.testing.assert_allclose(result["std"], exact["std"], rtol=0.1)


def evidence_of_swings(obs, noise):
    """Log p(y) of the angles of each window, by the covariance of 16 steps."""
    L = np.array([[0.0, 1.0], [-2.0, -0.1]]) * DT
    A = np.eye(2) + L + L @ L / 2 + L @ L @ L / 6 + L @ L @ L @ L / 24
    mean, joint = np.array(CENTRE), {(0, 0): np.diag(np.square(WIDTH))}
    means = [mean]
    for t in range(1, 16):
        means.append(A @ means[-1])
        for s in range(t):
            joint[t, s] = A @ joint[t - 1, s] if s < t - 1 else A @ joint[t - 1, t - 1]
        joint[t, t] = A @ joint[t - 1, t - 1] @ A.T + np.diag(np.square(noise))
    when = [3, 8, 13]
    covariance = np.array([[joint[max(s, t), min(s, t)][0, 0] for s in when] for t in when]) + 0.01 * np.eye(3)
    law = torch.distributions.MultivariateNormal(torch.tensor([means[t][0] for t in when]), torch.tensor(covariance))
    return law.log_prob(torch.from_numpy(obs["value"].sel(component="angle").values[:, when]))


def test_the_evidence_is_that_of_the_linear_gaussian_system(swings):
    smoother = nk.ParticleSmoother(OSCILLATOR, NOISE, particles=4096, draws=2).assimilate(swings)
    np.testing.assert_allclose(smoother["log_evidence"], evidence_of_swings(swings, NOISE), atol=0.08)
    sampler = nk.ImportanceSampler(OSCILLATOR).assimilate(swings)
    np.testing.assert_allclose(sampler["log_evidence"], evidence_of_swings(swings, [0, 0]), atol=0.08)


def test_on_lorenz_63_the_smoother_is_the_mean_of_many_weighted_simulations(lorenz):
    setup, obs = lorenz
    result = nk.ParticleSmoother(setup.system, setup.model_noise_std, particles=4096).assimilate(obs)
    x = setup.system.simulate(
        200_000, 32, 0.05, model_noise_std=setup.model_noise_std, seed=15, dtype=torch.float32
    ).values
    for i in range(obs.sizes["sample"]):
        error = (obs["value"][i].values - x) / obs["noise_std"].values
        log_w = -np.nansum(error**2, axis=(1, 2)) / 2
        w = np.exp(log_w - log_w.max())
        evidence = (
            math.log(w.mean())
            + log_w.max()
            - np.log((obs["noise_std"] * (2 * np.pi) ** 0.5).broadcast_like(obs["value"][i]).values)[
                obs["value"][i].notnull().values
            ].sum()
        )
        w = w / w.sum()
        mean = np.einsum("s,stn->tn", w, x)
        own = np.einsum("s,stn->tn", w**2, (x - mean) ** 2)
        assert (w**2).sum() < 1 / 30
        z = (result["mean"][i] - mean) / (result["mean_error"][i] ** 2 + own) ** 0.5
        assert float((z**2).mean()) ** 0.5 < 2
        assert abs(float(result["log_evidence"][i]) - evidence) < 0.5
        std = np.einsum("s,stn->tn", w, (x - mean) ** 2) ** 0.5
        assert abs(float((result["std"][i] / std).mean()) - 1) < 0.2


def test_the_reported_errors_are_those_between_seeds(swings):
    one = swings.isel(sample=[1])
    for make in (
        lambda seed: small(OSCILLATOR, NOISE, repeats=4, seed=seed),
        lambda seed: nk.ImportanceSampler(OSCILLATOR, particles=300, kernels=64, seed=seed),
    ):
        runs = [make(seed).assimilate(one)[["mean", "mean_error"]] for seed in range(25)]
        runs = xr.concat(runs, "seed")
        ratio = (runs["mean_error"] ** 2).mean("seed") / runs["mean"].var("seed")
        assert 0.6 < float(ratio.mean()) < 1.7


def grid_of_pendulum(obs, system, steps):
    """Mean and std by sums over start states on a grid that is refined around what counts."""
    seen = np.flatnonzero(obs["value"].notnull().any("component").values)
    y = obs["value"].sel(component="angle").values[seen]
    low, high = np.array([-0.75 * np.pi, -1.0]), np.array([0.75 * np.pi, 1.0])
    for inflation in (100, 30, 10, 3, 1, 1):
        axes = [np.linspace(a, b, 101) for a, b in zip(low, high, strict=True)]
        start = torch.tensor(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
        x = system.trajectories(start, steps, DT)
        log_w = -(((x[:, seen, 0].numpy() - y) / (1e-3 * inflation)) ** 2).sum(-1) / 2
        w = np.exp(log_w - log_w.max())
        # Only where nothing is known yet does the box's edge matter; else the grid covers all that counts.
        kept = start.numpy()[w > 1e-8]
        cell = np.array([axis[1] - axis[0] for axis in axes])
        low, high = (np.maximum(kept.min(0) - cell, low), np.minimum(kept.max(0) + cell, high))
    w = w / w.sum()
    mean = np.einsum("s,stn->tn", w, x.numpy())
    return mean, np.einsum("s,stn->tn", w, (x.numpy() - mean) ** 2) ** 0.5


def test_on_the_pendulum_the_sampler_is_a_fine_grid_of_start_states(pendulum):
    setup, obs = pendulum
    result = nk.ImportanceSampler(setup.system).assimilate(obs)
    assert (result["effective_particles"] > 500).all()
    for i in (0, 1):
        mean, std = grid_of_pendulum(obs.isel(sample=i), setup.system, setup.steps)
        np.testing.assert_allclose(result["std"][i], std, rtol=0.12)
        assert z_score(result.isel(sample=i), mean) < 2.5
        assert float(result["mean_error"][i].max()) < 0.05 * std.max()


def test_the_sampler_is_the_kalman_smoother_of_nearly_no_noise(swings):
    exact = nk.KalmanSmoother(OSCILLATOR, 1e-7, CENTRE, WIDTH).assimilate(swings)
    result = nk.ImportanceSampler(OSCILLATOR).assimilate(swings)
    assert z_score(result, exact["mean"]) < 2
    np.testing.assert_allclose(result["std"], exact["std"], rtol=0.1)


def test_the_sampler_keeps_narrow_modes_that_lie_far_apart():
    truth = nk.Pendulum().simulate(1, 30, DT, seed=3)
    obs = nk.observe(truth, operator=lambda x: x**2, every=5, noise_std=1e-4, seed=4)
    result = nk.ImportanceSampler(nk.Pendulum()).assimilate(obs, operator=lambda x: x**2)
    assert float(result["effective_particles"].min()) > 500
    assert float(abs(result["mean"] / result["std"]).max()) < 0.2  # x and -x are seen alike
    np.testing.assert_allclose(result["std"][0, ::5], abs(truth[0, ::5]), atol=2e-2)


METHODS = {
    "smoother": small,
    "sampler": lambda: nk.ImportanceSampler(nk.Lorenz63(), particles=300, kernels=64, rounds=10),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_window_does_not_depend_on_the_others_nor_on_dask(some, name):
    method = METHODS[name]()
    together = method.assimilate(some)
    for i in (0, 3):
        xr.testing.assert_equal(together.isel(sample=[i]), method.assimilate(some.isel(sample=[i])))
    lazy = method.assimilate(some.chunk(sample=2))
    assert lazy["mean_error"].chunks is not None
    xr.testing.assert_equal(lazy.compute(), together)
    draws = method.sample(some, 7, seed=1)
    xr.testing.assert_equal(method.sample(some.chunk(sample=2), 7, seed=1).compute(), draws)


@pytest.mark.parametrize("name", METHODS)
def test_results_are_labelled_traced_and_on_record(some, name, tmp_path):
    method = METHODS[name]()
    result = method.assimilate(some.expand_dims(site=["north"]), trace=True)
    assert result["mean"].dims == ("step", "site", "sample", "time", "component")
    assert result["mean_error"].dims == ("site", "sample", "time", "component")
    assert result["effective_particles"].dims == result["log_evidence"].dims == ("site", "sample")
    assert result.attrs["seed"] == 0
    assert result.attrs["system_rho"] == 28.0
    result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    draws = method.sample(some.isel(sample=0), 5, seed=3)
    assert draws.dims == ("member", "time", "component")
    assert (draws.attrs["seed"], draws.attrs["method_seed"]) == (3, 0)


def test_draws_have_the_posterior_mean_and_spread(swings, pendulum):
    setup, seen = pendulum
    for method, obs in (
        (small(OSCILLATOR, NOISE, particles=1000, draws=1000), swings.isel(sample=[0])),
        (nk.ImportanceSampler(setup.system), seen.isel(sample=[0])),
    ):
        result, draws = method.assimilate(obs), method.sample(obs, 1500, seed=5)
        z = (draws.mean("member") - result["mean"]) / result["std"]
        assert float(abs(z).max()) < 5 * (1 / 1500 + 1 / 2000) ** 0.5
        np.testing.assert_allclose(draws.std("member") / result["std"], 1, atol=0.12)


def test_draws_follow_the_dynamics():
    truth = nk.Lorenz63().simulate(1, 10, 0.05, model_noise_std=0.1, seed=8)
    obs = nk.observe(truth, components=["x"], every=4, noise_std=1.0, seed=9)
    draws = torch.from_numpy(small(noise=0.1, particles=2000).sample(obs, 200)[:, 0].values)
    error = (draws[:, 1:] - nk.Lorenz63().step(draws[:, :-1], 0.05)) / 0.1
    assert abs(float(error.square().mean()) - 1) < 0.15


def test_a_chain_draws_with_its_last_method(some):
    smoother = small()
    chain = nk.Chain([nk.KalmanSmoother(nk.Lorenz63(), 0.2), smoother])
    xr.testing.assert_equal(chain.sample(some, 4, seed=2), smoother.sample(some, 4, seed=2))


def test_nonlinear_operators_and_missing_values_are_seen_as_they_are():
    """One step: the posterior of the start alone, by a sum over a fine grid."""
    y, std = 4.0, 0.5
    obs = xr.Dataset(
        {"value": (("time", "component"), [[np.nan, y], [np.nan, np.nan]]), "noise_std": std},
        {"time": [0.0, DT], "component": ["h0", "h1"]},
    )
    grid = np.linspace(-8, 8, 20_001)
    w = np.exp(-(((grid - CENTRE[0]) / WIDTH[0]) ** 2 + ((y - np.exp(grid)) / std) ** 2) / 2)
    mean = (w * grid).sum() / w.sum()
    spread = ((w * (grid - mean) ** 2).sum() / w.sum()) ** 0.5

    def operator(x):
        return torch.stack([x[..., 1].log(), x[..., 0].exp()], -1)  # NaN where nothing is seen

    smoother = nk.ParticleSmoother(OSCILLATOR, NOISE, particles=4096, draws=1000)
    for method in (smoother, nk.ImportanceSampler(OSCILLATOR)):
        result = method.assimilate(obs, operator=operator)
        assert abs(float(result["mean"][0, 0]) - mean) < 0.1 * spread
        assert abs(float(result["std"][0, 0]) / spread - 1) < 0.1
        assert abs(float(result["mean"][0, 1]) - CENTRE[1]) < 0.1
        with pytest.raises(ValueError, match="for every particle"):
            method.assimilate(obs, operator=lambda x: x.square().neg().log())
        with pytest.raises(ValueError, match="pass the operator they were made with"):
            method.assimilate(obs, operator=lambda x: x[..., :1].exp())
        with pytest.raises(ValueError, match="must act on the last axis alone"):
            method.sample(obs, 2, operator=lambda x: x[..., 0].exp())


def test_the_start_laws_have_the_density_of_their_draws():
    for system in (nk.Lorenz63(), nk.Lorenz96(sites=4), nk.Pendulum(), nk.LinearOscillator()):
        x = system.start(20_000, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
        wide = torch.distributions.Normal(x.mean(0), 0.8 * x.std(0))
        ratio = (wide.log_prob(x).sum(-1) - system.log_start(x)).exp()
        inside = wide.sample((20_000,))
        share = system.log_start(inside).isfinite().double().mean()
        assert abs(float(ratio.mean() - share)) < 0.03
    assert nk.Pendulum().log_start(torch.tensor([3.0, 0.0])) == -math.inf


def test_observations_out_of_reach_are_told(some):
    far = some.assign(value=some["value"] + 500, noise_std=0.01)
    for make in METHODS.values():
        with pytest.warns(UserWarning, match="particles count"):
            result = make().assimilate(far)
        assert np.isfinite(result["mean"]).all()
        assert np.isfinite(result["log_evidence"]).all()


def test_windows_without_observations_show_the_prior(some):
    blank = some.assign(value=some["value"].where(some["sample"] > 0))
    for make in METHODS.values():
        with pytest.warns(UserWarning, match="nothing is observed"):
            result = make().assimilate(blank)
        assert abs(float(result["log_evidence"][0])) < 1e-9
        assert float(result["effective_particles"][0]) == pytest.approx(300)
        np.testing.assert_allclose(result["mean"][0, 0], [0, 0, 25], atol=3)


def test_one_repeat_leaves_its_error_out(some):
    result = small(repeats=1).assimilate(some)
    assert "mean_error" not in result
    assert (result["std"] > 0).all()


def test_a_system_without_noise_is_sent_to_the_sampler():
    for noise in (0.0, [0.1, 0.0, 0.1]):
        with pytest.raises(ValueError, match=r"no density there.*nk\.ImportanceSampler"):
            nk.ParticleSmoother(nk.Lorenz63(), noise)


def test_what_cannot_be_used_is_refused_with_advice(some):
    for noise, why in ((-1.0, "finite and not negative"), (math.nan, "finite"), ("a", "number or 3"), ([1, 1], "3 of")):
        with pytest.raises(ValueError, match=why):
            nk.ParticleSmoother(nk.Lorenz63(), noise)
    for wrong in ({"particles": 1}, {"draws": 0}, {"repeats": 2.5}):
        with pytest.raises(ValueError, match="must be a whole number of at least"):
            small(**wrong)
    with pytest.raises(ValueError, match="seed='a'"):
        small(seed="a")
    with pytest.raises(ValueError, match="kernels=0"):
        nk.ImportanceSampler(nk.Lorenz63(), kernels=0)

    class Silent(nk.Lorenz63):
        log_start = nk.System.log_start

    with pytest.raises(ValueError, match=r"Silent does not say.*log_start"):
        nk.ImportanceSampler(Silent())
    with pytest.raises(ValueError, match="overflow"):
        small(nk.Lorenz63(longest_substep=9.0)).assimilate(some.assign_coords(time=some["time"] * 10))


def test_the_covariance_of_weighted_particles_is_the_unbiased_one_even_if_one_has_all_the_weight():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 7, 2, generator=generator, dtype=torch.float64)
    log_weights = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    for one, weights, found in zip(x, log_weights.exp(), unbiased_covariance(x, log_weights), strict=True):
        np.testing.assert_allclose(found, np.cov(one.T, aweights=weights), rtol=1e-10)
    alone = torch.full((1, 7), -1e5, dtype=torch.float64)
    alone[0, 2], alone[0, 4] = 0.0, -5000.0  # beyond the smallest double
    apart = x[0, 2] - x[0, 4]
    np.testing.assert_allclose(unbiased_covariance(x[:1], alone)[0], apart.outer(apart) / 2, rtol=1e-10)
    alone[0, [0, 1, 3, 4, 5, 6]] = -torch.inf
    assert (torch.linalg.eigvalsh(unbiased_covariance(x[:1], alone)[0]) > 0).all()
