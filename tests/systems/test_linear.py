"""A linear model of given steps, and the Kalman smoother that is fitted to past trajectories."""

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk

LABELS = nk.StateLabels(("a", "b"), ("K", "K"), ("a", "b"), "months")
A = np.array([[0.9, 0.2], [-0.3, 0.7]])
MEAN, B = [1.0, -2.0], [[1.0, 0.3], [0.3, 0.5]]
Q = np.array([[0.2, 0.05], [0.05, 0.1]])
MODEL = nk.LinearModel(A, LABELS, 1.0, MEAN, B)


def trajectories(samples=4000, steps=6):
    return MODEL.simulate(samples, steps, 1.0, model_noise_covariance=Q, seed=1)


def test_steps_are_powers_of_the_matrix_about_the_mean():
    x = torch.randn(3, 2, dtype=torch.float64)
    expected = MEAN + (x.numpy() - MEAN) @ np.linalg.matrix_power(A, 3).T
    np.testing.assert_allclose(MODEL.step(x, 3.0), expected)
    np.testing.assert_allclose(MODEL.trajectories(x, 4, 1.0)[:, -1], expected)


def test_it_starts_from_its_normal_law():
    draws = MODEL.start(100_000, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
    np.testing.assert_allclose(draws.mean(0), MEAN, atol=0.02)
    np.testing.assert_allclose(draws.T.cov(), B, atol=0.02)
    mean, covariance = MODEL.start_moments()
    law = torch.distributions.MultivariateNormal(mean, covariance)
    torch.testing.assert_close(MODEL.log_start(draws[:5]), law.log_prob(draws[:5]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"matrix": np.eye(3)}, r"matrix=.* must be a matrix \(2, 2\) of finite numbers. Its shape is \(3, 3\)"),
        ({"matrix": A * np.nan}, "finite"),
        ({"matrix": 1j * A}, "matrix=.* finite numbers"),
        ({"matrix": A > 0}, "matrix=.* finite numbers"),
        ({"matrix": "abc"}, "matrix='abc'"),
        ({"matrix": None}, "matrix=None"),
        ({"matrix": [[1.0], [0.0, 1.0]]}, "matrix=.* finite numbers"),
        ({"matrix": np.ma.masked_array(A, A < 0)}, "matrix has 1 masked values"),
        ({"labels": "x"}, "labels='x' must be nk.StateLabels"),
        ({"dt": 0.0}, "dt"),
        ({"covariance": [[1.0, 2.0], [2.0, 1.0]]}, "covariance"),
    ],
)
def test_what_is_no_model_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        nk.LinearModel(**({"matrix": A, "labels": LABELS, "dt": 1.0} | given))


def test_it_knows_whole_steps_only():
    with pytest.raises(ValueError, match="no whole multiple"):
        MODEL.step(torch.zeros(2, dtype=torch.float64), 1.5)
    with pytest.raises(ValueError, match="has no tendency"):
        MODEL.tendency(torch.zeros(2))


def test_a_fit_finds_the_model_that_made_its_windows():
    found = nk.KalmanSmoother.fit(trajectories(20_000))
    np.testing.assert_allclose(found.system.matrix, A, atol=0.02)
    np.testing.assert_allclose(found._noise.matrix, Q, atol=0.01)
    np.testing.assert_allclose(found.system.mean, MEAN, atol=0.05)


def test_with_all_modes_it_is_optimal_interpolation_of_order_one():
    """About one mean: each window is there with its mirror image about it."""
    past = trajectories(300)
    past = xr.concat([past, 2 * past.mean(("sample", "time")) - past], "sample")
    obs = nk.observe(trajectories(2, 12), ["a"], every=3, noise_std=0.2, seed=3)
    smoother, interpolation = nk.KalmanSmoother.fit(past), nk.OptimalInterpolation.fit(past, order=1)
    for name in ("mean", "std"):
        np.testing.assert_allclose(smoother.assimilate(obs)[name], interpolation.assimilate(obs)[name], atol=1e-8)


def test_through_few_modes_the_rest_is_forgotten():
    past = trajectories(500)
    found = nk.KalmanSmoother.fit(past, modes=1)
    matrix = found.system.matrix.numpy()
    assert np.linalg.matrix_rank(matrix) == 1 and found.settings["modes"] == 1
    pairs = past.values - np.array(found.system.mean)
    errors = (pairs[:, 1:] - pairs[:, :-1] @ matrix.T).reshape(-1, 2)
    np.testing.assert_allclose(found._noise.matrix, np.cov(errors.T), rtol=0.02, atol=0.01)


def test_few_windows_of_a_field_with_gaps_do_with_shrinkage():
    field = nk.GridLabels({"y": range(3), "x": range(5)}, "K")
    values = np.random.default_rng(0).normal(size=(8, 6, 3, 5)).cumsum(1)
    values[0, 2, 1, 1] = np.nan
    past = xr.DataArray(values, {"time": np.arange(6.0)} | field.coordinates(), ("sample", "time", "y", "x"))
    method = nk.KalmanSmoother.fit(past, modes=2, shrinkage="auto")
    obs = nk.observe(past[1:2], operator=np.eye(3, 5, dtype=bool), noise_std=0.3)
    assert method.assimilate(obs)["mean"].dims == ("sample", "time", "y", "x")
    assert method.settings["shrinkage"] > 0


@pytest.mark.parametrize(("how", "said"), [({"modes": 3}, "modes"), ({"shrinkage": 2.0}, "shrinkage")])
def test_what_cannot_be_fitted_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        nk.KalmanSmoother.fit(trajectories(20), **how)
    with pytest.raises(ValueError, match="one time"):
        nk.KalmanSmoother.fit(trajectories(20).isel(time=[0]))


def test_too_few_windows_are_a_named_value_error_that_shrinkage_cures():
    rng = np.random.default_rng(0)
    past = xr.DataArray(
        rng.normal(size=(20, 3, 36)).cumsum(1),
        {"time": np.arange(3.0), "component": [f"c{k}" for k in range(36)]},
        ("sample", "time", "component"),
    )
    with pytest.raises(ValueError, match='shrinkage="auto"'):
        nk.KalmanSmoother.fit(past, modes=3)
    nk.KalmanSmoother.fit(past, modes=3, shrinkage="auto")
