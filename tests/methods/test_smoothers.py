"""Methods against exact referees, and the promises that every method makes at its labelled face."""

import dataclasses
import warnings
from contextlib import nullcontext
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import nida_kit as nk
from nida_kit.loop import incremental
from nida_kit.methods.interpolation import first_guess_of
from nida_kit.methods.starts import Search
from nida_kit.observing.observations import Observations
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.studies.sampling import LastGaussian

T, DT, NOISE = 12, 0.1, 0.05
OSCILLATOR = nk.LinearOscillator()
START = {"start_mean": [0.3, -0.2], "start_std": [1.0, 0.7]}


@pytest.fixture(scope="module")
def obs():
    truth = OSCILLATOR.simulate(samples=3, steps=T, dt=DT, model_noise_std=NOISE, seed=1)
    return nk.observe(truth, components=["angle"], every=4, noise_std=0.1, seed=2)


def linear_gaussian_referee(obs):
    """Mean and std of the smoother, by dense numpy algebra alone."""
    # RK4 of a linear system is the exponential's Taylor series to fourth order.
    L = np.array([[0.0, 1.0], [-2.0, -0.1]]) * DT
    A = np.eye(2) + L + L @ L / 2 + L @ L @ L / 6 + L @ L @ L @ L / 24
    mean, covariance = [np.array(START["start_mean"])], np.zeros((2 * T, 2 * T))
    covariance[:2, :2] = np.diag(np.square(START["start_std"]))
    for t in range(1, T):
        mean.append(A @ mean[-1])
        now, before = slice(2 * t, 2 * t + 2), slice(2 * t - 2, 2 * t)
        covariance[now, : 2 * t] = A @ covariance[before, : 2 * t]
        covariance[: 2 * t, now] = covariance[now, : 2 * t].T
        covariance[now, now] = A @ covariance[before, before] @ A.T + NOISE**2 * np.eye(2)
    mean = np.concatenate(mean)
    means, stds = [], []
    for y in obs["value"].values.reshape(-1, 2 * T):
        seen = np.flatnonzero(~np.isnan(y))
        gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)] + 0.01 * np.eye(len(seen)))
        means.append(mean + gain @ (y[seen] - mean[seen]))
        stds.append(np.sqrt(np.diag(covariance - gain @ covariance[seen])))
    return mean, covariance, np.reshape(means, (-1, T, 2)), np.reshape(stds, (-1, T, 2))


def exact_interpolation(obs):
    mean, covariance, *_ = linear_gaussian_referee(obs)
    climatology = Climatology.from_covariance(
        torch.from_numpy(mean).view(T, 2), torch.from_numpy(covariance), torch.ones(2, dtype=torch.float64)
    )
    return nk.OptimalInterpolation(climatology, OSCILLATOR.labels, DT)


EXACT = {
    "optimal interpolation": exact_interpolation,
    "Kalman smoother": lambda obs: nk.KalmanSmoother(OSCILLATOR, NOISE, **START),
    "one 4D-Var step": lambda obs: nk.WeakFourDVar(OSCILLATOR, NOISE, **START, iterations=1, damping=0.0),
    "4D-Var": lambda obs: nk.WeakFourDVar(OSCILLATOR, NOISE, **START, iterations=30, tolerance=1e-15),
}


@pytest.mark.parametrize("name", EXACT)
def test_on_a_linear_system_each_method_equals_the_dense_smoother(obs, name):
    result = EXACT[name](obs).assimilate(obs)
    *_, mean, std = linear_gaussian_referee(obs)
    # A descent ends where chance decides whether a step is kept, as its gain is less than a few roundings of the cost.
    flat = 1 + float(result["cost"].max()) if name == "4D-Var" else 0
    np.testing.assert_allclose(result["mean"], mean, atol=1e-8 + std.max() * (8 * np.finfo(float).eps * flat) ** 0.5)
    np.testing.assert_allclose(result["std"], std, atol=1e-8)


def cube(x):
    return x[..., :1] ** 3


@pytest.fixture(scope="module")
def lorenz():
    truth = nk.Lorenz63().simulate(samples=2, steps=10, dt=0.05, model_noise_std=0.2, seed=3)
    return truth, nk.observe(truth, every=3, noise_std=1.0, seed=4, operator=cube)


@pytest.mark.parametrize("count", [1, 3])
def test_a_linear_model_is_smoothed_whatever_number_of_values_is_seen(count):
    system = nk.LinearOscillator()
    operator = np.random.default_rng(0).normal(size=(count, 2))
    truth = system.simulate(samples=3, steps=9, dt=0.2, model_noise_std=0.1, seed=0)
    obs = nk.observe(truth, every=2, noise_std=0.1, seed=1, operator=operator)
    method = nk.KalmanSmoother(system, model_noise_std=0.1)
    found = method.assimilate(obs, operator=operator)
    walked = method.assimilate(obs, 0 * truth, operator=operator)  # linearised around zero, which is exact as well
    for name in ("mean", "std"):
        np.testing.assert_allclose(found[name], walked[name], rtol=1e-8, atol=1e-10)
    first_guess = method.assimilate(obs, operator=operator, trace=True)["first_guess"]
    assert {"time": 9, "component": 2}.items() <= first_guess.sizes.items()


def test_4d_var_ends_where_the_gradient_of_its_cost_vanishes_also_for_a_nonlinear_operator(lorenz):
    _, obs = lorenz
    method = nk.WeakFourDVar(nk.Lorenz63(), 0.2, iterations=100, tolerance=1e-14)
    result = method.assimilate(obs, operator=cube)
    assert result["converged"].all()
    x = torch.from_numpy(result["mean"].values).requires_grad_()
    y = torch.from_numpy(obs["value"].values)
    physics = method.physics(0.05, None)
    residual = torch.cat([(x[:, :1] - physics.start_mean) / physics.start.std,
                          (x[:, 1:] - nk.Lorenz63().step(x[:, :-1], 0.05)) / 0.2], 1)  # fmt: skip
    cost = residual.square().sum((1, 2)) / 2 + (cube(x) - y).nan_to_num().square().sum((1, 2)) / 2
    np.testing.assert_allclose(cost.detach(), result["cost"], rtol=1e-10)
    (gradient,) = torch.autograd.grad(cost.sum(), x)
    sharpness = physics.around(x.detach()).precision.blocks[:, :, 0].diagonal(dim1=-2, dim2=-1)
    assert (gradient / sharpness).abs().max() < 1e-6  # how far a Newton step per value would still go


def test_4d_var_never_raises_its_cost_and_reports_each_window(lorenz):
    _, obs = lorenz
    costs = [
        nk.WeakFourDVar(nk.Lorenz63(), 0.2, iterations=k).assimilate(obs, operator=cube)["cost"] for k in (1, 3, 9, 27)
    ]
    assert all((after <= before).all() for before, after in pairwise(costs))
    assert (costs[-1] < 0.1 * costs[0]).all()


@pytest.mark.parametrize("noise", [1e-1, 1e-5, 1e-8])
def test_a_step_held_back_by_its_damping_is_no_convergence(noise):
    """A nearly exact model has precisions so large that the first damping allows hardly a step; this one is linear."""
    system = nk.Started(nk.LinearOscillator(), [1.0, -0.5], 1.0)
    obs = nk.observe(system.simulate(2, 20, 0.2, seed=1), every=3, noise_std=0.1, seed=2)
    found = nk.WeakFourDVar(system, noise).assimilate(obs)
    exact = nk.KalmanSmoother(system, noise).assimilate(obs)
    assert found["converged"].all()
    assert (abs(found["mean"] - exact["mean"]) < 1e-2 * exact["std"]).all()


def test_a_trace_of_4d_var_shows_the_undamped_spread_also_where_it_has_converged():
    truth = nk.Lorenz63().simulate(samples=6, steps=12, dt=0.05, model_noise_std=0.2, seed=13)
    obs = nk.observe(truth, every=2, noise_std=0.5, seed=14)
    trace = nk.WeakFourDVar(nk.Lorenz63(), 0.2, iterations=60).assimilate(obs, truth, trace=True)
    assert trace["converged"].all()
    assert trace.sizes["step"] > int(trace["iterations"].min()) + 1
    np.testing.assert_allclose(trace["std"][-2], trace["std"][-1], rtol=0.02)


def test_windows_that_leave_the_domain_of_the_operator_are_no_gain():
    truth = nk.Lorenz63().simulate(samples=4, steps=12, dt=0.05, model_noise_std=0.2, seed=15, spinup=100)
    shifted = truth.where(truth["component"] != "z", truth + 5)
    obs = nk.observe(shifted, operator=lambda x: x[..., 2:].log(), every=3, noise_std=0.1, seed=16)
    result = nk.WeakFourDVar(nk.Lorenz63(), 0.2).assimilate(obs, shifted, operator=lambda x: x[..., 2:].log())
    assert np.isfinite(result["cost"]).all()
    assert (result["mean"].sel(component="z").where(obs["value"].notnull().any("component")) > 0).sum() == 16
    with pytest.raises(ValueError, match="no finite cost"):
        nk.WeakFourDVar(nk.Lorenz63(), 0.2).assimilate(obs, -shifted, operator=lambda x: x[..., 2:].log())


def test_records_keep_the_physics_and_the_method_apart(tmp_path):
    obs = nk.observe(nk.Pendulum().simulate(1, 4, 0.1), noise_std=0.1)
    result = nk.WeakFourDVar(nk.Pendulum(), torch.tensor([0.1, 0.2])).assimilate(obs)
    assert (result.attrs["system_damping"], result.attrs["first_lambda"]) == (0.1, 1e-2)
    np.testing.assert_allclose(result.attrs["model_noise_std"], [0.1, 0.2])
    result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")


def test_one_step_is_not_enough_for_a_nonlinear_operator_which_is_linearised_anew():
    # One state, seen through its cube: Gauss-Newton from 1 towards the root of the posterior's cost.
    climatology = Climatology(*(torch.ones(s, dtype=torch.float64) for s in ((1, 1), (1, 1, 1, 1), (1,))))
    y = torch.tensor([[8.0]], dtype=torch.float64)
    observations = Observations(y, torch.full_like(y, 0.01), lambda x: x**3)

    def around(current, s):
        return climatology.over(1).around(current.mean)

    start = climatology.over(1)
    path = [float(g.mean) for g in incremental(around, [0.0] * 12, observations, start)]
    assert abs(path[0] - 2) > 0.5
    assert abs(path[-1] - 2) < 1e-3


def test_weak_and_kalman_refuse_an_exact_model_and_say_what_to_try():
    for method in (nk.WeakFourDVar, nk.KalmanSmoother):
        for noise in (0.0, [0.1, 0.0]):
            with pytest.raises(ValueError, match="small model noise"):
                method(OSCILLATOR, noise)
        for noise in (-1.0, "a", [0.1, 0.1, 0.1]):
            with pytest.raises(ValueError, match="a number or 2 of them, one per component, finite and not negative"):
                method(OSCILLATOR, noise)


@pytest.fixture(scope="module")
def methods():
    """One of each, all for Lorenz-63 at dt 0.05; the network has random weights."""
    system = nk.Lorenz63()
    windows = system.simulate(200, 12, 0.05, model_noise_std=0.2, seed=5)
    torch.manual_seed(0)
    interpolation = nk.OptimalInterpolation.fit(windows, order=2)
    prior = NeuralPrior(interpolation.climatology, width=8, dilations=(1, 2))
    torch.nn.init.normal_(prior.outside.maps[0].weight, std=0.1)
    neural = nk.NeuralIncremental(prior, system.labels, 0.05, temperatures=3)
    descent = nk.WeakFourDVar(system, 0.2, iterations=4)
    kalman = nk.KalmanSmoother(system, 0.2)
    return [interpolation, neural, descent, kalman, nk.Chain([neural, descent])]


@pytest.fixture(scope="module")
def some():
    truth = nk.Lorenz63().simulate(samples=6, steps=12, dt=0.05, model_noise_std=0.2, seed=6)
    return nk.observe(truth, every=2, noise_std=0.5, seed=7, fraction=0.7)


def test_results_are_labelled_like_the_observations_and_say_where_they_come_from(methods, some):
    for method in methods:
        result = method.assimilate(some.assign_coords(sample=list("abcdef")))
        assert result["mean"].dims == result["std"].dims == ("sample", "time", "component")
        assert result["sample"].values.tolist() == list("abcdef")
        assert result["component"].values.tolist() == ["x", "y", "z"]
        assert np.isfinite(result["mean"]).all()
        assert (result["std"] > 0).all()
        assert {"method", "iterations", "seconds", "versions", "seed"} <= set(result.attrs)


def test_results_survive_a_netcdf_file(methods, some, tmp_path):
    for method in methods:
        result = method.assimilate(some, trace=True)
        result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as read:
            xr.testing.assert_equal(read.load(), result)


def test_a_trace_ends_with_the_answer_and_names_its_temperatures(methods, some):
    for method in methods:
        result, trace = method.assimilate(some), method.assimilate(some, trace=True)
        xr.testing.assert_allclose(trace["mean"].isel(step=-1, drop=True), result["mean"])
        xr.testing.assert_allclose(trace["std"].isel(step=-1, drop=True), result["std"])
        assert trace.sizes["step"] == result.attrs["iterations"]
        assert trace["first_guess"].dims == ("sample", "time", "component")
    assert methods[1].assimilate(some, trace=True)["temperature"].values.tolist() == [1.0, 1 - 1 / 3, 1 - 2 / 3]


def test_windows_do_not_influence_each_other(methods, some):
    for method in methods:
        together = method.assimilate(some)
        for i in (0, 4):
            alone = method.assimilate(some.isel(sample=i))
            np.testing.assert_allclose(together["mean"].isel(sample=i), alone["mean"], rtol=1e-4, atol=1e-4)


def test_dask_samples_stay_lazy_and_equal_the_eager_result(methods, some):
    for method in methods:
        lazy = method.assimilate(some.chunk(sample=2))
        assert lazy["mean"].chunks is not None
        eager = method.assimilate(some)
        xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-4, atol=1e-4)
        assert lazy["mean"].dims == eager["mean"].dims
        if method.stops_early:
            with pytest.raises(ValueError, match="known number of steps"):
                method.assimilate(some.chunk(sample=3), trace=True)
            continue
        trace = method.assimilate(some.chunk(sample=3), eager["mean"], trace=True)
        assert trace["mean"].chunks is not None
        xr.testing.assert_allclose(
            trace["mean"].compute(), method.assimilate(some, eager["mean"], trace=True)["mean"], rtol=1e-4, atol=1e-4
        )


def test_dask_samples_run_on_a_cluster_of_two_workers(methods, some):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        for method in methods[:2]:
            result = method.assimilate(some.chunk(sample=3)).compute()
            xr.testing.assert_allclose(result, method.assimilate(some), rtol=1e-4, atol=1e-4)


def test_a_window_without_observations_shows_the_prior_and_says_so(methods, some):
    blank = some.assign(value=some["value"].where(some["sample"] > 0))
    interpolation = methods[0]
    with pytest.warns(UserWarning, match="1 of 6 windows nothing is observed"):
        result = interpolation.assimilate(blank)
    assert "nothing is observed" in result.attrs["note"]
    assert result["observed"][0] == 0
    assert (result["observed"][1:] > 0).all()
    np.testing.assert_allclose(result["mean"].isel(sample=0), interpolation.climatology.over(12).mean, atol=1e-8)


def test_windows_to_interpolate_from_must_be_usable():
    windows = nk.Lorenz63().simulate(60, 4, 0.05)
    for wrong, why in (
        (windows.to_dataset(name="x"), r"not Dataset: one of its variables, windows\['x'\]"),
        (windows.rename(time="t"), r"none of them is 'time': .*rename\(t='time'\)"),
        (windows.rename(component="what").transpose("what", "time", "sample"), "after 'time' come those of the state"),
        (windows.drop_vars("time"), "no coordinates along"),
        (windows[0], "needs a leading one"),
        (windows.where(windows["sample"] > 0, np.inf), "infinite values: make them NaN"),
        (windows.where(windows["component"] != "y"), "seen together in 0 of 60 stretches"),
        (windows[:5], "more windows, a smaller order, or shrinkage="),
    ):
        with pytest.raises(ValueError, match=why):
            nk.OptimalInterpolation.fit(wrong)


def test_an_interpolation_keeps_the_names_and_units_of_its_windows():
    windows = nk.Pendulum().simulate(200, 6, 0.1, seed=1)
    labels = nk.OptimalInterpolation.fit(windows, order=1).labels
    assert labels == nk.Pendulum().labels and labels.time_units == "s"


def test_any_leading_dims_pass_through(methods, some):
    two = some["value"].values.reshape(2, 3, 12, 3)
    many = xr.Dataset(
        {"value": (("site", "run", "time", "component"), two), "noise_std": 0.5},
        {"time": some["time"], "component": some["component"], "site": ["north", "south"]},
    )
    for method in methods:
        result = method.assimilate(many.transpose("component", "run", "time", "site"))
        assert set(result["mean"].dims) == {"site", "run", "time", "component"}
        flat = method.assimilate(some)["mean"].values.reshape(2, 3, 12, 3)
        np.testing.assert_allclose(
            result["mean"].transpose("site", "run", "time", "component"), flat, rtol=1e-4, atol=1e-4
        )


def test_a_first_guess_is_where_the_method_starts(methods, some):
    guess = xr.full_like(some["value"], 3.0).transpose("component", "time", "sample")
    for method in methods:
        trace = method.assimilate(some, guess, trace=True)
        assert (trace["first_guess"] == 3.0).all()
    with pytest.raises(ValueError, match="first_guess has other times"):
        methods[0].assimilate(some, guess.isel(time=slice(3)))


def test_draws_have_the_posterior_mean_and_spread(methods, some):
    for method in (methods[0], methods[1].with_temperatures(1)):
        result = method.assimilate(some)
        draws = method.sample(some, samples=2000, seed=3)
        assert draws.dims[0] == "member"
        z = (draws.mean("member") - result["mean"]) / result["std"] * 2000**0.5
        assert abs(float((z**2).mean()) - 1) < 0.2
        np.testing.assert_allclose(draws.std("member") / result["std"], 1, atol=0.1)
        xr.testing.assert_equal(draws, method.sample(some, samples=2000, seed=3))
        lazy = method.sample(some.chunk(sample=4), samples=2000, seed=3)
        assert lazy.chunks is not None
        xr.testing.assert_allclose(lazy.compute(), draws, rtol=1e-4, atol=1e-4)


def test_draws_and_first_guesses_pass_dask_behind_an_operator_of_other_size(methods):
    truth = nk.Lorenz63().simulate(samples=3, steps=12, dt=0.05, seed=8)
    H = np.array([[1.0, 0.0, 1.0]])
    obs = nk.observe(truth, operator=H, every=3, noise_std=0.3, seed=9)
    lazy = obs.chunk(sample=1)
    for method in methods[:2]:
        drawn = method.sample(lazy, 4, seed=1, operator=H)
        xr.testing.assert_allclose(drawn.compute(), method.sample(obs, 4, seed=1, operator=H), rtol=1e-4)
        found = method.assimilate(lazy, truth + 1, operator=H)["mean"]
        xr.testing.assert_allclose(found.compute(), method.assimilate(obs, truth + 1, operator=H)["mean"], rtol=1e-4)


def test_incremental_draws_move_from_draw_to_draw(methods, some):
    neural = methods[1].with_temperatures([1.0, 0.4, 0.1])
    obs = some.isel(sample=slice(2))
    read = torch.tensor(obs["value"].values)
    observations = Observations(read, torch.full_like(read, 0.5))
    start = first_guess_of(neural.prior.climatology, observations)
    noise = torch.randn(3, 5, 2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        current = start
        for s, layer in zip(neural.temperatures, noise, strict=True):  # the loop, spelt out
            seen = start.at(s * start.estimate + (1 - s) * current.estimate)
            local = neural.prior(seen, s)
            current = start.at(local.condition(observations.around(local.centre)).sample(layer))
        draws = neural.draw(observations, 0.05, None, noise)
    torch.testing.assert_close(draws, current.mean)
    assert neural.noise_layers == 3
    sampled = neural.sample(obs, 4, seed=1)
    assert sampled.sizes["member"] == 4
    xr.testing.assert_allclose(neural.sample(obs.chunk(sample=1), 4, seed=1).compute(), sampled, rtol=1e-4)


def test_where_the_posterior_has_two_modes_incremental_draws_fall_into_both():
    setup = nk.setups.load("blanke2024-lorenz63")
    truth = setup.windows(20, seed=5)
    obs = nk.observe(truth, components=["z"], every=8, noise_std=0.05 * setup.spread, seed=6)
    neural = nk.NeuralIncremental.pretrained("lorenz63")
    neural = neural.with_temperatures(8)
    incremental_draws, gaussian_draws = (
        method.sample(obs, 100, seed=0).sel(component="x") for method in (neural, LastGaussian(neural))
    )

    def between(x):
        """The share of draws near 0 where |x| is largest: of a Gaussian, 38% within half a standard deviation."""
        spread = (x**2).mean("member") ** 0.5
        return float((abs(x) < spread / 2).mean("member").isel(time=spread.argmax("time")).mean())

    assert 0.4 < float((incremental_draws.mean("time") > 0).mean()) < 0.6
    assert between(incremental_draws) < 0.15 < 0.3 < between(gaussian_draws)
    # Mirrored by construction, from a symmetric first guess: the mean cannot choose a side.
    assert float(abs(neural.assimilate(obs)["mean"].sel(component=["x", "y"])).max()) < 1e-2


def test_a_matrix_and_the_same_callable_give_the_same_answer(methods):
    truth = nk.Lorenz63().simulate(samples=2, steps=12, dt=0.05, seed=8)
    H = np.array([[1.0, -1.0, 0.0], [0.0, 0.5, 0.5]])
    M = torch.from_numpy(H)
    obs = nk.observe(truth, operator=H, every=3, noise_std=0.3, seed=9)
    # The two answers differ by the rounding of a descent, which a float32 network may make 1e-6 of.
    interpolation, neural, descent, kalman, _ = methods
    exact = nk.NeuralIncremental(deepcopy(neural.prior).double(), neural.labels, neural.dt, neural.temperatures)
    for method in (interpolation, exact, descent, kalman, nk.Chain([exact, descent])):
        a, b = method.assimilate(obs, operator=H), method.assimilate(obs, operator=lambda x: x @ M.T)
        np.testing.assert_allclose(a["mean"], b["mean"], rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match="pass the operator they were made with"):
        methods[0].assimilate(obs, operator=H[:1])


def test_a_chain_goes_on_from_the_mean_before(methods, some):
    _, neural, descent, _, chain = methods
    step = descent.assimilate(some, neural.assimilate(some)["mean"])
    np.testing.assert_allclose(chain.assimilate(some)["mean"], step["mean"], rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="different states"):
        nk.Chain([neural, nk.WeakFourDVar(OSCILLATOR, 0.1)])
    for wrong in ([], [neural, "4D-Var"]):
        with pytest.raises(ValueError, match="at least one"):
            nk.Chain(wrong)


def test_foreign_observations_are_refused_with_advice(methods, some):
    neural = methods[1]
    with pytest.raises(ValueError, match=r"time step is 0\.1, the method works with 0\.05"):
        neural.assimilate(some.isel(time=slice(None, None, 2)))
    with pytest.raises(ValueError, match=r"\['u'\] are unknown here"):
        neural.assimilate(some.assign_coords(component=["u", "y", "z"]))
    with pytest.raises(ValueError, match="empty"):
        neural.assimilate(some.isel(time=slice(0)))
    with pytest.raises(ValueError, match="must be positive"):
        neural.assimilate(some.assign(noise_std=0.0))
    with pytest.raises(ValueError, match="infinite"):
        neural.assimilate(some.assign(value=some["value"].where(some["value"].isnull(), np.inf)))
    with pytest.raises(ValueError, match="whole number of at least 1"):
        neural.with_temperatures(0)
    with pytest.raises(ValueError, match="non-rising"):
        neural.with_temperatures([0.5, 1.0])


@given(
    lead=st.lists(st.integers(1, 2), max_size=2),
    steps=st.integers(1, 9),
    share=st.floats(0, 1),
    dtype=st.sampled_from([np.float32, np.float64, np.int32]),
    seed=st.integers(0, 9),
)
def test_every_method_takes_every_shape_mask_and_dtype(methods, lead, steps, share, dtype, seed):
    generator = np.random.default_rng(seed)
    value = np.round(5 * generator.standard_normal((*lead, steps, 3))).astype(dtype)
    if dtype is not np.int32:
        value[generator.random(value.shape) < share] = np.nan
    dims = [f"lead{i}" for i in range(len(lead))] + ["time", "component"]
    obs = xr.Dataset(
        {"value": (dims, value), "noise_std": 1.0}, {"time": np.arange(steps) * 0.05, "component": ["x", "y", "z"]}
    )
    for method in methods[:2] + (methods[2:] if steps > 1 else []):
        with pytest.warns() if np.isnan(value).all((-2, -1)).any() else nullcontext():
            result = method.assimilate(obs)
        assert result["mean"].shape == value.shape
        assert np.isfinite(result["mean"]).all()
        assert (result["std"] > 0).all()


@pytest.mark.parametrize(
    ("name", "law", "lengths", "most"),
    [
        (
            "lorenz63",
            {"components": ["x"], "every": 8, "offset": 4, "noise_std": 0.4, "spinup": 100},
            (16, 32, 100),
            0.1,
        ),
        ("pendulum", {"components": ["angle"], "every": 20, "offset": 10, "noise_std": 1e-3}, (50, 100, 200), 0.002),
    ],
)
def test_the_shipped_priors_serve_windows_of_any_length(name, law, lengths, most):
    setup, method = nk.setups.load(f"blanke2024-{name}"), nk.NeuralIncremental.pretrained(name)
    spinup = {"spinup": law.get("spinup", 0), "model_noise_std": setup.model_noise_std}
    errors = []
    for steps in lengths:
        truth = setup.system.simulate(100, steps, setup.dt, seed=77, **spinup)
        obs = nk.observe(truth, seed=78, **{k: v for k, v in law.items() if k != "spinup"})
        error = method.assimilate(obs)["mean"] - truth
        errors.append(float((error**2).mean() / ((truth - truth.mean(("sample", "time"))) ** 2).mean()))
    assert errors[0] > errors[1]
    assert max(errors[1:]) < most


def test_fill_values_are_pointed_out(methods, some):
    filled = some.assign(value=some["value"].fillna(-9999.0))
    for method in methods[:2]:
        with pytest.warns(UserWarning, match=r"-9999 among them.*make them NaN"):
            method.assimilate(filled)


def test_a_nonlinear_operator_leads_nowhere_far(methods):
    truth = nk.Lorenz63().simulate(samples=6, steps=12, dt=0.05, model_noise_std=0.2, seed=17)
    for operator in (lambda x: x[..., :1] ** 2, lambda x: x[..., :1] * x[..., 1:2]):
        obs = nk.observe(truth, every=3, noise_std=0.4, seed=18, operator=operator)
        for method in methods[:2]:
            result = method.assimilate(obs, operator=operator)
            assert abs(result["mean"]).max() < 100
            fit = operator(torch.from_numpy(result["mean"].values)).numpy() - obs["value"]
            assert (
                float((fit**2).mean()) ** 0.5 < 20
            )  # values of some hundreds; one linearisation misses them by as much


def test_labels_of_another_state_are_refused(methods):
    interpolation, neural = methods[:2]
    for labels, dt, why in ((OSCILLATOR.labels, 0.05, "has 3 components"), (neural.labels, -1.0, "dt=-1.0")):
        with pytest.raises(ValueError, match=why):
            nk.NeuralIncremental(neural.prior, labels, dt)
        with pytest.raises(ValueError, match=why):
            nk.OptimalInterpolation(interpolation.climatology, labels, dt)


# Several starts


@pytest.fixture(scope="module")
def ambiguous():
    """Windows whose cost has many local minima."""
    truth = nk.Lorenz63().simulate(samples=5, steps=32, dt=0.05, model_noise_std=0.2, seed=21)
    return nk.observe(truth, components=["x"], every=8, offset=3, noise_std=0.4, seed=22)


def several(starts, **how):
    return nk.WeakFourDVar(nk.Lorenz63(), 0.2, starts=starts, **how)


def test_more_starts_never_raise_the_cost_and_soon_lower_it(ambiguous):
    costs = [several(n).assimilate(ambiguous)["cost"] for n in (1, 2, 5, 9)]
    assert all((more <= fewer * (1 + 1e-9)).all() for fewer, more in pairwise(costs))
    assert costs[-1].mean() < 0.5 * costs[0].mean()
    others = [several(2, seed=seed).assimilate(ambiguous)["cost"] for seed in (1, 2)]
    assert any((abs(other - costs[1]) > 1e-3).any() for other in others)


def test_the_result_is_that_of_a_descent_from_the_winning_start_alone(ambiguous):
    trace = several(4).assimilate(ambiguous, trace=True)
    assert len(set(trace["start"].values)) > 1
    for i in range(5):
        window = trace.isel(sample=i)
        alone = nk.WeakFourDVar(nk.Lorenz63(), 0.2).assimilate(ambiguous.isel(sample=i), window["first_guess"])
        for name in ("cost", "iterations", "converged"):
            np.testing.assert_allclose(window[name], alone[name], rtol=1e-6)
        for name in ("mean", "std"):
            np.testing.assert_allclose(window[name][-1], alone[name], rtol=1e-4, atol=1e-4)
    first = trace["start"] == 0
    default = nk.WeakFourDVar(nk.Lorenz63(), 0.2).assimilate(ambiguous, trace=True)["first_guess"]
    np.testing.assert_allclose(trace["first_guess"].where(first, default), default)


def test_a_given_first_guess_is_the_first_start(ambiguous):
    guess = several(9).assimilate(ambiguous)["mean"]
    again = several(3).assimilate(ambiguous, guess)
    assert (again["start"] == 0).sum() >= 3
    assert (again["cost"] <= several(1).assimilate(ambiguous, guess)["cost"] * (1 + 1e-9)).all()


def test_with_several_starts_windows_do_not_influence_each_other(ambiguous, monkeypatch):
    together = several(6).assimilate(ambiguous)
    for alone in (several(6).assimilate(ambiguous.isel(sample=[3])), several(6).assimilate(ambiguous.isel(sample=3))):
        np.testing.assert_allclose(together["mean"][3], np.squeeze(alone["mean"]), rtol=1e-4, atol=1e-4)
    xr.testing.assert_allclose(several(6).assimilate(ambiguous.chunk(sample=2)).compute(), together, rtol=1e-4)
    monkeypatch.setattr(Search, "_at_once", lambda self, x: 2)  # as where memory is short
    xr.testing.assert_allclose(several(6).assimilate(ambiguous), together, rtol=1e-4)


class Explosion(nk.System):
    """x' = x^2: from a positive start, x leaves every bound in a finite time."""

    labels = nk.StateLabels(("x",), ("1",), ("x",))
    longest_substep = 0.1

    def tendency(self, x):
        return x**2

    def start(self, samples, generator, dtype, device):
        return -1 + 3 * torch.randn(samples, 1, generator=generator, dtype=dtype, device=device)


def test_starts_that_leave_every_bound_lose():
    truth = Explosion().trajectories(torch.tensor([[-2.0], [-0.5]], dtype=torch.float64), 20, 0.1)
    value = truth.where(torch.arange(20)[:, None] % 5 == 0, torch.nan).numpy()
    obs = xr.Dataset(
        {"value": (("sample", "time", "component"), value), "noise_std": 0.1},
        {"time": np.arange(20) * 0.1, "component": ["x"]},
    )
    method = nk.WeakFourDVar(Explosion(), 0.05, starts=12)
    assert not method.drawn(method.physics(0.1, None), 20).isfinite().all()
    result = method.assimilate(obs)
    assert result["converged"].all()
    np.testing.assert_allclose(result["mean"], truth, atol=0.2)


def test_starts_and_seed_are_whole_numbers_and_on_record(ambiguous):
    for wrong in ({"starts": 0}, {"starts": 1.5}, {"starts": "2"}, {"starts": 2, "seed": 0.5}):
        with pytest.raises(ValueError, match="whole number"):
            nk.WeakFourDVar(nk.Lorenz63(), 0.2, **wrong)
    result = several(2, seed=7, iterations=1).assimilate(ambiguous)
    assert (result.attrs["starts"], result.attrs["seed"]) == (2, 7)
    assert several(1).assimilate(ambiguous).attrs["seed"] == "none"


def test_the_misfit_is_the_distance_to_the_observations_in_their_errors(methods, some):
    for method in methods:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = method.assimilate(some)
        away = (some["value"] - result["mean"]) / some["noise_std"]
        np.testing.assert_allclose(result["misfit"], (away**2).mean(("time", "component")) ** 0.5)
    blind = some.isel(sample=slice(2)).copy(deep=True)
    blind["value"][1] = np.nan
    with pytest.warns(UserWarning, match="nothing is observed"):
        found = methods[0].assimilate(blind)["misfit"]
    assert np.isnan(found[1]) and np.isfinite(found[0])


def test_an_answer_that_contradicts_the_observations_is_warned_of_and_on_record():
    other = nk.Pendulum(stiffness=9.81, damping=0.0).simulate(4, 100, 0.1, seed=0)
    obs = nk.observe(other, components=["angle"], every=20, noise_std=0.05, seed=1)
    with pytest.warns(UserWarning, match="misses what was observed.*another system"):
        result = nk.NeuralIncremental.pretrained("pendulum").assimilate(obs)
    assert "misses what was observed" in result.attrs["note"] and float(result["misfit"].max()) > 2
    own = nk.observe(
        nk.Pendulum().simulate(4, 100, 0.1, seed=0), components=["angle"], every=20, noise_std=0.05, seed=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "note" not in nk.NeuralIncremental.pretrained("pendulum").assimilate(own).attrs


def test_a_search_that_has_not_ended_is_told_what_to_do_if_it_misses_the_observations(methods, some):
    one_step = nk.WeakFourDVar(nk.Lorenz63(), 0.2, iterations=1)
    with pytest.warns(UserWarning, match="misses what was observed.*In 6 of them the search has not converged.*Chain"):
        assert "not converged" in one_step.assimilate(some).attrs["note"]
    with pytest.warns(UserWarning, match=r"In 6 of 6 windows the search has not converged.*lead up to \d.* away"):
        refined = nk.Chain([methods[0], one_step]).assimilate(some)
    assert not refined["converged"].any()
    assert refined.attrs["note"].endswith(nk.Chain.remedy) and "nk.Chain" not in refined.attrs["note"]


def test_converged_is_where_one_more_undamped_step_leads_nowhere(methods, some):
    """Also where damping, not the minimum, made the steps short: an almost exact model, descended from a good guess."""
    guess = methods[0].assimilate(some)["mean"]
    for noise, iterations in ((0.2, 30), (1e-3, 3), (1e-6, 30)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            method = nk.WeakFourDVar(nk.Lorenz63(), noise, iterations=iterations)
            found = method.assimilate(some, guess)
            step = nk.KalmanSmoother(nk.Lorenz63(), noise).assimilate(some, found["mean"])
        moved = (abs(step["mean"] - found["mean"]) / found["std"]).max(("time", "component"))
        assert (moved <= found["distance"] + 1e-3).all()  # it bounds every value's move, in its own standard deviations
        np.testing.assert_array_equal(found["converged"], found["distance"] < 0.1)
        assert found["converged"].all() == (noise == 0.2)


def test_an_answer_that_is_not_meant_to_fit_or_is_none(methods, some):
    forecast = nk.ClimatologicalForecast(methods[0].climatology, methods[0].labels, methods[0].dt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(forecast.assimilate(some)["misfit"].max()) > 3
    with pytest.warns(UserWarning, match="ClimatologicalForecast has one answer wherever it starts"):
        chained = nk.Chain([methods[0], forecast]).assimilate(some)
    xr.testing.assert_equal(chained["mean"], forecast.assimilate(some)["mean"])

    class Lost(nk.OptimalInterpolation):
        def reconstruct(self, observations, dt, first_guess):
            found = super().reconstruct(observations, dt, first_guess)
            lost = found.posteriors[-1].at(found.posteriors[-1].mean * torch.tensor([1.0, torch.nan, 1.0]))
            return dataclasses.replace(found, posteriors=[lost])

    with pytest.warns(UserWarning, match="6 of 6 windows the answer is not finite"):
        Lost(methods[0].climatology, methods[0].labels, methods[0].dt).assimilate(some)


def test_fill_values_are_warned_of_and_on_record(methods, some):
    filled = some.assign(value=some["value"].fillna(-9999.0))
    for method in (methods[0], methods[1], nk.Chain(methods[:2])):
        with pytest.warns(UserWarning, match="fill values"):
            note = method.assimilate(filled).attrs["note"]
        assert note.count("fill values") == 1
        with pytest.warns(UserWarning, match="fill values"):
            method.sample(filled, 1)


def test_a_method_prints_what_it_is(methods):
    assert repr(methods[1]).startswith("NeuralIncremental(temperatures=[1.0, ")
