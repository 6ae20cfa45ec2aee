"""Full covariances of observation and model errors, and times, in methods that step: against dense linear algebra."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import multivariate_normal

import nida_kit as nk
from nida_kit.edge import read_observations
from nida_kit.linalg.jacobian import linearise
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.methods.sequential import by_times
from nida_kit.observing.errors import errors_of
from nida_kit.observing.observations import Observations

STEPS, DT, BEGIN = 13, 0.2, 3.0
MEAN, ROOT = torch.tensor([1.0, -0.5]).double(), torch.tensor([[1.2, 0.0], [0.4, 0.7]]).double()
B = (ROOT @ ROOT.mT).numpy()
Q = np.array([[0.02, 0.012], [0.012, 0.03]])
SIZES = np.array([[0.5, 0.35], [0.35, 0.4]])
TIMES = BEGIN + DT * np.arange(STEPS)
R = np.stack([(1 + 0.5 * np.sin(t)) * SIZES for t in TIMES])  # of each time
FADING = np.exp(-np.abs(np.subtract.outer(TIMES, TIMES)))
OVER_TIME = np.einsum("st,ij->sitj", FADING, SIZES)  # of a window


class Forced(nk.LinearOscillator):
    """It is pushed to and fro, and any number of its start states has exactly the mean MEAN and the covariance B."""

    def tendency(self, x, t):
        return super().tendency(x) + torch.cat([torch.zeros_like(t), 2 * t.cos()], -1)

    def start(self, samples, generator, dtype, device):
        z = torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)
        if samples > 2:
            z = z - z.mean(0)
            z = torch.linalg.solve_triangular(torch.linalg.cholesky(z.mT.cov()), z.mT, upper=False).mT
        return MEAN + z @ ROOT.mT

    def log_start(self, x):
        return torch.distributions.MultivariateNormal(MEAN, scale_tril=ROOT).log_prob(x)

    def start_moments(self):
        return MEAN, ROOT @ ROOT.mT

    def distances(self):
        return torch.zeros(2, 2)


SYSTEM = Forced()


def h(x, t):
    t = t[..., 0]
    return torch.stack([x[..., 0] + x[..., 1], (2 + t.sin()) * x[..., 1] + t], -1)


def labelled(covariance):
    return xr.DataArray(covariance, dims=["time", "component", "other_component"])


def observed(noise_covariance, model_noise_covariance=None, **how):
    truth = SYSTEM.simulate(2, STEPS, DT, model_noise_covariance=model_noise_covariance, seed=4, start_time=BEGIN)
    obs = nk.observe(truth, every=3, offset=1, seed=5, noise_covariance=noise_covariance, operator=h, **how)
    obs["value"][0, 4, 1] = np.nan  # half of what is seen at one time is missing
    return obs


class Dense:
    """The joint Gaussian of all states and values, and what it says once some values are known."""

    def __init__(self, obs, errors, noise, G=None):
        zero = torch.zeros(STEPS, 2).double()
        shift, slopes = (x.numpy() for x in linearise(lambda x: SYSTEM.step(x, DT, torch.from_numpy(TIMES)), zero))
        self.mean, self.C = np.empty((STEPS, 2)), np.zeros((STEPS, 2, STEPS, 2))
        self.mean[0], self.C[0, :, 0] = MEAN.numpy(), B
        for t in range(1, STEPS):
            self.mean[t] = slopes[t - 1] @ self.mean[t - 1] + shift[t - 1]
            self.C[t, :, :t] = np.einsum("ij,jsk->isk", slopes[t - 1], self.C[t - 1, :, :t])
            self.C[:t, :, t] = np.moveaxis(self.C[t, :, :t], 0, 2)
            self.C[t, :, t] = slopes[t - 1] @ self.C[t - 1, :, t - 1] @ slopes[t - 1].T + noise
        self.value = obs["value"].values.reshape(len(obs["value"]), -1)
        flat = torch.zeros(STEPS * 2).double()
        function = self.values_of if G is None else G
        predicted, G = (x.numpy() for x in linearise(lambda x: function(x.unflatten(-1, (STEPS, 2))).flatten(-2), flat))
        self.predicted = predicted + G @ self.mean.flatten()
        self.cross = self.C.reshape(2 * STEPS, -1) @ G.T
        self.S = G @ self.cross + errors.reshape(2 * STEPS, -1)

    @staticmethod
    def values_of(x):
        return h(x, torch.from_numpy(TIMES)[:, None])

    def _seen(self, w, until):
        return np.flatnonzero(np.isfinite(self.value[w]) & (np.arange(STEPS).repeat(2) <= until))

    def at(self, w, t, until=STEPS):
        """Mean and standard deviation of a state, given what was observed up to a time step."""
        seen, here = self._seen(w, until), slice(2 * t, 2 * t + 2)
        gain = np.linalg.solve(self.S[np.ix_(seen, seen)], self.cross[here, seen].T).T
        spread = self.C[t, :, t] - gain @ self.cross[here, seen].T
        return self.mean[t] + gain @ (self.value[w] - self.predicted)[seen], np.sqrt(np.diag(spread))

    def log_evidence(self, w):
        seen = self._seen(w, STEPS)
        return multivariate_normal(self.predicted[seen], self.S[np.ix_(seen, seen)]).logpdf(self.value[w][seen])

    def table(self, filtered):
        """Means and standard deviations, `(W, T, 2)`; of a filter, or of a smoother."""
        found = [[self.at(w, t, t if filtered else STEPS) for t in range(STEPS)] for w in range(len(self.value))]
        return np.moveaxis(np.array(found), 2, 0)


def each_time(covariances):
    """Of the whole window."""
    return np.einsum("sij,st->sitj", covariances, np.eye(STEPS))


# Without model noise, ensembles of more members than components are exact.

EXACT = {
    "EnKF": (lambda: nk.EnKF(SYSTEM, members=6), True),
    "EnKS": (lambda: nk.EnKS(SYSTEM, members=6), False),
    "LETKF": (lambda: nk.LETKF(SYSTEM, members=6), True),
    "iEnKS": (lambda: nk.IEnKS(SYSTEM, members=6, lag=None), False),
    "extended Kalman filter": (lambda: nk.ExtendedKalmanFilter(SYSTEM), True),
    "strong 4D-Var": (lambda: nk.StrongFourDVar(SYSTEM, tolerance=1e-14), False),
}


@pytest.mark.parametrize("name", EXACT)
def test_full_covariances_and_times_are_those_of_dense_linear_algebra(name):
    obs = observed(labelled(R))
    make, filtered = EXACT[name]
    result, (mean, std) = make().assimilate(obs, operator=h), Dense(obs, each_time(R), 0.0).table(filtered)
    np.testing.assert_allclose(result["mean"], mean, atol=1e-8)
    np.testing.assert_allclose(result["std"], std, atol=1e-8)


@pytest.mark.parametrize("name", ["iEnKS", "strong 4D-Var"])
def test_whole_windows_take_errors_and_operators_over_time(name):
    smooth = lambda x: x.cumsum(-2) / STEPS  # noqa: E731
    function = lambda x, t: smooth(h(x, t))  # noqa: E731
    method = EXACT[name][0]()
    for operator, G in ((h, None), (nk.over_window(function), lambda x: smooth(Dense.values_of(x)))):
        truth = SYSTEM.simulate(2, STEPS, DT, seed=4, start_time=BEGIN)
        obs = nk.observe(truth, every=3, offset=1, seed=5, noise_covariance=OVER_TIME, operator=operator)
        obs["value"][0, 4, 1] = np.nan
        result, (mean, std) = method.assimilate(obs, operator=operator), Dense(obs, OVER_TIME, 0.0, G).table(False)
        np.testing.assert_allclose(result["mean"], mean, atol=1e-8)
        np.testing.assert_allclose(result["std"], std, atol=1e-8)


@pytest.mark.parametrize("lag", [1, 2])
def test_windows_with_a_lag_begin_at_their_own_times(lag):
    """Each is one dense analysis of its first state, from the steps of the model one by one."""
    obs, starts = observed(labelled(R)), [0] * lag + [1, 4, 7, 10]
    exact = Dense(obs, each_time(R), 0.0)
    ensemble = nk.IEnKS(SYSTEM, members=6, lag=lag).assimilate(obs, operator=h)
    strong = nk.StrongFourDVar(SYSTEM, lag=lag, tolerance=1e-14).assimilate(obs, operator=h)
    for w in range(2):
        mean = MEAN
        for k, t in enumerate((1, 4, 7, 10)):
            np.testing.assert_allclose(ensemble["analysis"][w, t], exact.at(w, t, t)[0], atol=1e-8)
            begin, y = starts[k], torch.from_numpy(obs["value"].values[w, t])

            def follow(x, until, begin=begin):
                for s in range(begin, until):
                    x = SYSTEM.step(x, DT, TIMES[s])
                return x

            def seen(x, t=t, follow=follow):
                return h(follow(x, t), torch.tensor([TIMES[t]]))

            forecast, slopes = linearise(seen, mean)
            known = ~y.isnan()
            J, gap, errors = slopes[known], (y - forecast)[known], torch.from_numpy(R[t])[known][:, known]
            spread = ROOT @ ROOT.mT
            gain = torch.linalg.solve(J @ spread @ J.mT + errors, J @ spread).mT
            np.testing.assert_allclose(strong["forecast"][w, t], follow(mean, t), atol=1e-8)
            mean = mean + gain @ gap
            np.testing.assert_allclose(strong["analysis"][w, t], follow(mean, t), atol=1e-8)
            if k < 3:
                mean = follow(mean, starts[k + 1])


# With model noise

NOISY = {
    "EnKF": (lambda **noise: nk.EnKF(SYSTEM, members=400, **noise), True, 400),
    "EnKF, perturbed": (lambda **noise: nk.EnKF(SYSTEM, members=400, perturbed=True, **noise), True, 150),
    "EnKS": (lambda **noise: nk.EnKS(SYSTEM, members=400, **noise), False, 400),
    "LETKF": (lambda **noise: nk.LETKF(SYSTEM, members=400, **noise), True, 400),
    "particle filter": (lambda **noise: nk.ParticleFilter(SYSTEM, particles=8000, jitter=0, **noise), True, 500),
    "particle smoother": (
        lambda **noise: nk.ParticleSmoother(SYSTEM, particles=2000, draws=128, repeats=8, **noise),
        False,
        500,
    ),
}


@pytest.mark.parametrize("name", NOISY)
def test_with_full_model_noise_many_members_come_to_dense_linear_algebra(name):
    obs = observed(labelled(R), Q)
    make, filtered, size = NOISY[name]
    result = make(model_noise_covariance=Q).assimilate(obs, operator=h)
    exact = Dense(obs, each_time(R), Q)
    mean, std = exact.table(filtered)
    assert np.abs((result["mean"] - mean) / std).max() < 5 / size**0.5
    assert np.abs(result["std"] / std - 1).max() < 5 / size**0.5
    if name == "particle smoother":
        assert 0.5 < float((((result["mean"] - mean) / result["mean_error"]) ** 2).mean()) ** 0.5 < 1.5
        np.testing.assert_allclose(result["log_evidence"], [exact.log_evidence(w) for w in range(2)], atol=0.1)


def test_members_are_moved_by_errors_of_the_full_covariance():
    generator = torch.Generator().manual_seed(0)
    method = nk.EnKF(SYSTEM, members=20_000, model_noise_covariance=Q)
    E = method.first(1, generator)
    forecast, _ = method.forecasts_inside(E, DT, torch.tensor([BEGIN, BEGIN + DT]), 1, 1, generator)
    errors = forecast[0] - SYSTEM.step(E, DT, BEGIN)
    np.testing.assert_allclose(np.cov(errors[0].numpy().T), Q, atol=5 * 0.03 / 20_000**0.5)


def test_each_square_root_analysis_is_kalmans_for_the_covariance_of_its_members():
    obs, method = observed(labelled(R), Q), nk.EnKF(SYSTEM, members=6, model_noise_covariance=Q)
    read = read_observations(obs, SYSTEM.labels, direct=False)
    observations = Observations(read.value, errors_of(read.noise_std, read.noise_covariance), h, read.times)
    for index, windows in by_times(observations):
        found = method.ensembles(windows, DT, lambda E: E)
        for w, window in enumerate(index):
            for t in (1, 4, 7, 10):
                before, after = (found[name][t][w].numpy() for name in ("forecast", "analysis"))
                y = obs["value"].values[window, t]
                known = np.isfinite(y)
                shift, H = (
                    x.numpy()[known] for x in linearise(lambda x, t=t: h(x, torch.tensor([TIMES[t]])), 0 * MEAN)
                )
                P, m = np.cov(before.T), before.mean(0)
                gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + R[t][np.ix_(known, known)])
                np.testing.assert_allclose(after.mean(0), m + gain @ (y[known] - shift - H @ m), atol=1e-10)
                np.testing.assert_allclose(np.cov(after.T), P - gain @ H @ P, atol=1e-10)


def test_errors_that_are_correlated_fade_out_as_one_with_distance():
    """A component's precision of the observations is sqrt(taper) R^-1 sqrt(taper), of what was measured."""
    system = nk.Started(nk.Lorenz96(sites=8), 8.0, 1.0)
    errors = np.exp(-0.3 * nk.Lorenz96(sites=8).distances().double().numpy())
    obs = nk.observe(system.simulate(1, 2, 0.05, seed=0), noise_covariance=errors, seed=1)
    obs["value"][0, 0, 2] = np.nan
    method = nk.LETKF(system, members=6, radius=1.5)
    result = method.assimilate(obs)
    blank = torch.full((1, 1, 8), math.nan).double()
    before = method.ensembles(Observations(blank, torch.ones(1, 1, 8).double()), 0.05, lambda E: E)["forecast"]
    E = before[0][0].numpy()
    y, taper = obs["value"].values[0, 0], gaspari_cohn(nk.Lorenz96(sites=8).distances().double(), 1.5).numpy()
    known = np.flatnonzero(np.isfinite(y))
    precision, S, m = np.linalg.inv(errors[np.ix_(known, known)]), (E - E.mean(0)) / 5**0.5, E.mean(0)
    for i in range(8):
        near = np.sqrt(taper[i, known])
        local = near[:, None] * precision * near
        A = np.eye(6) + S[:, known] @ local @ S[:, known].T  # of all members, whose sum adds nothing
        w = np.linalg.solve(A, S[:, known] @ local @ (y - m)[known])
        np.testing.assert_allclose(result["mean"][0, 0, i], m[i] + w @ S[:, i], atol=1e-9)
        np.testing.assert_allclose(result["std"][0, 0, i], (S[:, i] @ np.linalg.solve(A, S[:, i])) ** 0.5, atol=1e-9)


@pytest.mark.parametrize("over_time", ["errors", "operator"])
def test_weighted_start_states_take_what_sees_the_whole_window(over_time):
    G = lambda x: Dense.values_of(x).cumsum(-2) / STEPS  # noqa: E731
    whole = nk.over_window(lambda x, t: h(x, t).cumsum(-2) / STEPS)
    operator, errors = (h, OVER_TIME) if over_time == "errors" else (whole, each_time(R))
    truth = SYSTEM.simulate(2, STEPS, DT, seed=4, start_time=BEGIN)
    said = OVER_TIME if over_time == "errors" else labelled(R)
    obs = nk.observe(truth, every=3, offset=1, seed=5, noise_covariance=said, operator=operator)
    exact = Dense(obs, errors, 0.0, G if operator is whole else None)
    result, (mean, std) = nk.ImportanceSampler(SYSTEM).assimilate(obs, operator=operator), exact.table(False)
    assert float((((result["mean"] - mean) / result["mean_error"]) ** 2).mean()) ** 0.5 < 2
    np.testing.assert_allclose(result["std"], std, rtol=0.1)
    np.testing.assert_allclose(result["log_evidence"], [exact.log_evidence(w) for w in range(2)], atol=0.1)


# One law, said in two ways

SMALL = {
    "EnKF": lambda **noise: nk.EnKF(SYSTEM, members=8, **noise),
    "EnKF, perturbed": lambda **noise: nk.EnKF(SYSTEM, members=8, perturbed=True, **noise),
    "EnKF-N": lambda **noise: nk.EnKF(SYSTEM, members=8, finite_size=True, **noise),
    "EnKS": lambda **noise: nk.EnKS(SYSTEM, members=8, lag=1, **noise),
    "LETKF": lambda **noise: nk.LETKF(SYSTEM, members=8, distances=np.ones((2, 2)), **noise),
    "particle filter": lambda **noise: nk.ParticleFilter(SYSTEM, particles=50, **noise),
    "particle smoother": lambda **noise: nk.ParticleSmoother(SYSTEM, particles=100, draws=50, repeats=2, **noise),
}
EXACTLY = {
    "3D-Var": lambda: nk.ThreeDVar(SYSTEM, B),
    "extended Kalman filter": lambda: nk.ExtendedKalmanFilter(SYSTEM, 0.1),
    "iEnKS": lambda: nk.IEnKS(SYSTEM, members=8),
    "strong 4D-Var, lag 1": lambda: nk.StrongFourDVar(SYSTEM, lag=1),
}
WALKERS = {name: lambda make=make: make(model_noise_std=0.1) for name, make in SMALL.items()} | EXACTLY
WHOLE = {
    "iEnKS, whole window": lambda: nk.IEnKS(SYSTEM, members=8, lag=None),
    "strong 4D-Var": lambda: nk.StrongFourDVar(SYSTEM),
    "sampler": lambda: nk.ImportanceSampler(SYSTEM, particles=300, kernels=64),
}


def assert_same(one, two):
    for name in one.data_vars:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("ignore:.*ewer than 10 particles")
def test_diagonal_matrices_are_standard_deviations(name):
    std, make = [0.1, 0.2], SMALL[name]
    obs = observed(np.diag([0.09, 0.25]))
    plain = obs.drop_vars("noise_covariance").assign(noise_std=("component", [0.3, 0.5]))
    full = make(model_noise_covariance=np.diag(np.square(std))).assimilate(obs, operator=h)
    assert_same(full, make(model_noise_std=std).assimilate(plain, operator=h))
    assert "model_noise_covariance" in full.attrs and "model_noise_std" not in full.attrs
    with pytest.raises(ValueError, match="give one of them"):
        make(model_noise_std=0.1, model_noise_covariance=Q)


@pytest.mark.parametrize("name", WHOLE | EXACTLY)
def test_diagonal_errors_of_observations_are_standard_deviations(name):
    obs = observed(np.diag([0.09, 0.25]))
    plain = obs.drop_vars("noise_covariance").assign(noise_std=("component", [0.3, 0.5]))
    method = (WHOLE | EXACTLY)[name]()
    assert_same(method.assimilate(obs, operator=h), method.assimilate(plain, operator=h))


@pytest.mark.parametrize("name", WHOLE | WALKERS)
@pytest.mark.filterwarnings("ignore:.*ewer than 10 particles")
def test_lazy_windows_with_correlated_errors_are_the_eager_ones(name):
    obs, method = observed(labelled(R)), (WHOLE | WALKERS)[name]()
    assert_same(method.assimilate(obs, operator=h), method.assimilate(obs.chunk(sample=1), operator=h).compute())


# What cannot be taken


class Immovable(Forced):
    """Whoever asks for a step has begun to simulate."""

    def step(self, x, dt, t=None):
        raise AssertionError("A step was taken.")


@pytest.mark.parametrize("name", WALKERS)
def test_methods_that_go_through_time_refuse_what_sees_the_whole_window_at_once(name):
    truth = SYSTEM.simulate(2, STEPS, DT, seed=4, start_time=BEGIN)
    method, whole = WALKERS[name](), nk.over_window(h)
    method.system = Immovable()
    obs = nk.observe(truth, every=3, noise_covariance=OVER_TIME, operator=h)
    with pytest.raises(ValueError, match=r"correlated between times.*nk\.StrongFourDVar"):
        method.assimilate(obs, operator=h)
    obs = nk.observe(truth, every=3, noise_std=0.1, operator=whole)
    with pytest.raises(ValueError, match=r"sees the whole window.*nk\.StrongFourDVar"):
        method.assimilate(obs, operator=whole)
    if name in ("EnKF", "EnKS", "LETKF", "iEnKS", "particle smoother"):
        with pytest.raises(ValueError, match="sees the whole window"):
            method.sample(obs, 2, operator=whole)


def test_a_model_that_overrides_its_step_without_a_time_is_stepped():
    class Growing(nk.LinearOscillator):
        def step(self, x, dt):
            return 1.01 * x

    obs = nk.observe(Growing().simulate(1, 7, DT, seed=0), every=3, offset=2, noise_std=0.5)
    for method in (nk.ThreeDVar(Growing(), B), nk.EnKF(Growing()), nk.IEnKS(Growing()), nk.StrongFourDVar(Growing())):
        assert np.isfinite(method.assimilate(obs)["mean"]).all()
