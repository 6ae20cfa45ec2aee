"""What an answer leaves of the observations: standardised residuals, warnings that go by chance, robust errors."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk

LORENZ = nk.NeuralIncremental.pretrained("lorenz63")


def rmse(result, truth):
    return float(((result["mean"] - truth) ** 2).mean() ** 0.5)


def spoilt(obs, by, seed=0):
    """One value in each window off by that many standard deviations, and where it is."""
    random, value, where = np.random.default_rng(seed), obs["value"].values.copy(), []
    for window in range(len(value)):
        seen = np.argwhere(np.isfinite(value[window]))
        where.append((window, *seen[random.integers(len(seen))]))
        value[where[-1]] += by * float(obs["noise_std"]) * random.choice([-1, 1])
    return obs.assign(value=(obs["value"].dims, value)), where


@pytest.fixture(scope="module")
def clean():
    truth = nk.Lorenz63().simulate(20, 32, 0.05, seed=5, spinup=100)
    return truth, nk.observe(truth, ["x"], every=4, noise_std=0.4, seed=3)


def test_a_residual_is_the_distance_to_what_the_others_say():
    """Of a linear method: reconstructed without the value, in the spread of that answer and the value's own error."""
    past = nk.LinearOscillator().simulate(400, 8, 0.2, model_noise_std=0.1, seed=1)
    method = nk.OptimalInterpolation.fit(past, order=1)
    obs = nk.observe(past.isel(sample=slice(3)), every=3, noise_std=0.3, seed=2)
    found = method.assimilate(obs)["residual"]
    assert found.dims == ("sample", "time", "component")
    assert (found.notnull() == obs["value"].notnull()).all()
    for at in np.argwhere(np.isfinite(obs["value"].values)):
        others = obs["value"].values.copy()
        others[tuple(at)] = np.nan
        without = method.assimilate(obs.assign(value=(obs["value"].dims, others)))
        away = obs["value"].values[tuple(at)] - without["mean"].values[tuple(at)]
        expected = away / np.hypot(0.3, without["std"].values[tuple(at)])
        assert found.values[tuple(at)] == pytest.approx(expected, abs=1e-6)


def test_residuals_are_unit_normal_where_all_is_as_it_is_said():
    system = nk.Started(nk.LinearOscillator(), [0.0, 0.0], 1.0)
    obs = nk.observe(system.simulate(500, 10, 0.2, model_noise_std=0.1, seed=1), every=2, noise_std=0.5, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nk.KalmanSmoother(system, 0.1, start_mean=0.0, start_std=1.0).assimilate(obs)["residual"]
    count = int(found.count())
    assert float(found.mean()) == pytest.approx(0, abs=5 / count**0.5)
    assert float((found**2).mean()) == pytest.approx(1, abs=5 * (2 / count) ** 0.5)


def test_behind_an_operator_residuals_lie_along_what_was_observed(clean):
    truth, _ = clean
    operator = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    obs = nk.observe(truth, every=8, noise_std=1.0, operator=operator, seed=1)
    for given in (obs, obs.chunk(sample=10)):
        result = LORENZ.assimilate(given, operator=operator)
        assert result["residual"].dims == ("sample", "time", "obs_component")
        expected = (obs["value"].values - result["mean"].values @ operator.T) / 1.0
        np.testing.assert_allclose(result["residual"], expected, atol=1e-9)
    np.testing.assert_array_equal(result["obs_component"], obs["component"])


def test_a_gross_error_and_a_bias_are_noticed_and_the_worst_value_is_named(clean):
    truth, obs = clean
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LORENZ.assimilate(obs)
    wrong, _ = spoilt(obs, 60)
    named = r"more than chance would. .* Furthest off, by .*, is sample \d+, time .*, comp"
    with pytest.warns(UserWarning, match=named):
        note = LORENZ.assimilate(wrong).attrs["note"]
    assert int(note.split(" of 20 windows")[0].split()[-1]) >= 12
    every = nk.observe(truth, every=4, noise_std=0.4, seed=3)
    with pytest.warns(UserWarning, match="20 of 20 windows the answer misses.* a bias"):
        LORENZ.assimilate(every.assign(value=every["value"] + 3 * 0.4))


@pytest.mark.parametrize("robust", ["student", "huber"])
def test_robust_reconstruction_is_as_good_as_without_the_gross_error(clean, robust):
    truth, obs = clean
    wrong, where = spoilt(obs, 60)
    gone = wrong["value"].values.copy()
    for at in where:
        gone[at] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, found = LORENZ.assimilate(wrong), LORENZ.assimilate(wrong, robust=robust)
    without = LORENZ.assimilate(wrong.assign(value=(wrong["value"].dims, gone)))
    assert rmse(plain, truth) > 4
    assert rmse(found, truth) < 0.6
    assert rmse(found, truth) < 1.2 * rmse(without, truth)
    weight = found["weight"].values
    assert all(weight[at] == 0 for at in where)
    assert "20 observed values were taken as gross errors" in found.attrs["note"]
    assert np.nanmedian(weight) > 0.9
    lazy = LORENZ.assimilate(wrong.isel(sample=slice(4)).chunk(sample=2), robust=robust)
    np.testing.assert_allclose(lazy["mean"], found["mean"][:4], atol=1e-3)


def test_robust_costs_little_where_nothing_is_wrong(clean):
    truth, obs = clean
    assert rmse(LORENZ.assimilate(obs, robust="student"), truth) < 1.1 * rmse(LORENZ.assimilate(obs), truth)


def test_robust_smoother_is_the_minimum_of_students_cost():
    """A constant seen five times, once wrongly: the answer is where the slope of the whole cost vanishes."""
    system = nk.Started(nk.LinearOscillator(), [0.0, 0.0], 1.0)
    method = nk.KalmanSmoother(system, 0.05, start_mean=0.0, start_std=1.0)
    obs = nk.observe(system.simulate(1, 9, 0.1, seed=3), every=2, noise_std=0.2, seed=4)
    obs["value"][0, 4, 0] += 0.7
    result = method.assimilate(obs, robust="student")
    w = torch.from_numpy(result["weight"].fillna(1.0).values)
    assert 0 < w[0, 4, 0] < 0.6
    again = obs.assign(noise_std=0.2 / xr.DataArray(w.numpy() ** 0.5, dims=obs["value"].dims))
    xr.testing.assert_allclose(method.assimilate(again)["mean"], result["mean"], atol=1e-8)
    draws = method.sample(obs, 400, seed=1, robust="student")
    np.testing.assert_allclose(draws.std("member"), result["std"], rtol=0.2)


def test_a_law_of_ones_own_serves_and_what_is_none_is_refused(clean):
    _, obs = clean
    plain = LORENZ.assimilate(obs)
    own = LORENZ.assimilate(obs, robust=torch.ones_like)
    np.testing.assert_allclose(own["mean"], plain["mean"], atol=1e-9)
    with pytest.raises(ValueError, match="robust='cauchy' must be one of"):
        LORENZ.assimilate(obs, robust="cauchy")
    R = xr.DataArray(np.eye(3) * 0.16, dims=("component", "other_component"))
    correlated = obs.drop_vars("noise_std").assign(noise_covariance=R)
    with pytest.raises(ValueError, match=r"correlated \(noise_covariance, or noise_length\)"):
        LORENZ.assimilate(correlated, robust="huber")


def test_what_is_not_used_is_said(clean):
    _, obs = clean
    some = obs.isel(sample=slice(2))
    with pytest.warns(UserWarning, match=r"obs holds \['depth'\], which are not used"):
        LORENZ.assimilate(some.assign(depth=3.0))
    flags = xr.ones_like(some["value"], dtype=int)
    with pytest.warns(UserWarning, match=r"quality flags \['value_qc'\] were not looked at: nk.load_observations"):
        LORENZ.assimilate(some.assign(value_qc=flags))
    smoother = nk.EnKS(nk.Lorenz63(), 0.2, members=8)
    guess = LORENZ.assimilate(some)["mean"]
    with pytest.warns(UserWarning, match="first_guess was not used"):
        note = smoother.assimilate(some, guess).attrs["note"]
    assert "first_guess" in note
    with pytest.warns(UserWarning, match="In the chain, EnKS has one answer wherever it starts"):
        nk.Chain([LORENZ, smoother]).assimilate(some)
    with pytest.raises(ValueError, match="starts from a first guess"):
        nk.QuasiStatic(smoother)


def test_windows_without_observations_contradict_nothing():
    truth = nk.Lorenz63().simulate(samples=3, steps=32, dt=0.05, seed=0)
    obs = nk.observe(truth, every=4, noise_std=0.5, seed=1)
    value = obs["value"].copy()
    value[0] = np.nan
    method = nk.NeuralIncremental.pretrained("lorenz63")
    with pytest.warns(UserWarning, match="nothing is observed"):
        note = method.assimilate(obs.assign(value=value)).attrs["note"]
    assert "misses" not in note and "nan" not in note
    value[1, 8, 0] += 60
    with pytest.warns(UserWarning, match="In 1 of 3 windows the answer misses"):
        assert "nan" not in method.assimilate(obs.assign(value=value)).attrs["note"]
    with pytest.warns(UserWarning, match="^The answer misses"):
        method.assimilate(obs.assign(value=value).isel(sample=1))
