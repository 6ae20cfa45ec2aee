"""Methods that walk through time: exact where theory is, and what batches, gaps and bad input do."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import optimize
from statements import measured

import nida_kit as nk
from nida_kit.linalg.jacobian import linearise
from nida_kit.linalg.rows import Diagonal
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.methods import cycling, enkf, ensemble, filters, sequential
from nida_kit.methods.filters import gaussian_filter
from nida_kit.observing.observations import Observations
from nida_kit.state import StateLabels


@dataclass(frozen=True)
class Oscillator(nk.LinearOscillator):
    """Linear, and any number of its start states has exactly the mean (1, -0.5) and the covariance ROOT ROOT'."""

    def start(self, samples, generator, dtype, device):
        z = torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)
        if samples > 2:
            z = z - z.mean(0)
            z = torch.linalg.solve_triangular(torch.linalg.cholesky(z.mT.cov()), z.mT, upper=False).mT
        return MEAN + z @ ROOT.mT


MEAN, ROOT = torch.tensor([1.0, -0.5], dtype=torch.float64), torch.tensor([[1.2, 0.0], [0.4, 0.7]], dtype=torch.float64)
TWICE = lambda x: torch.stack([x[..., 0] + x[..., 1], 2 * x[..., 1]], -1)  # noqa: E731


@pytest.fixture(scope="module")
def linear():
    truth = Oscillator().simulate(3, 25, 0.2, seed=4)
    obs = nk.observe(truth, every=4, offset=2, noise_std=0.5, seed=5, operator=TWICE)
    obs["value"][0, 6, 1] = np.nan  # half of what is seen at one time is missing
    return truth, obs


def exact(obs, steps=25, dt=0.2):
    """Kalman filter statistics, and the strong-constraint smoother's, by dense linear algebra."""
    M = linearise(partial(Oscillator().step, dt=dt), torch.zeros(2, dtype=torch.float64))[1].numpy()
    H = np.array([[1.0, 1.0], [0.0, 2.0]])
    B = (ROOT @ ROOT.mT).numpy()
    powers = [np.linalg.matrix_power(M, t) for t in range(steps)]
    value = obs["value"].values

    def start_given(w, until):
        """Mean and covariance of the first state, given what was observed up to a time."""
        precision, pull = np.linalg.inv(B), np.linalg.inv(B) @ MEAN.numpy()
        for t in range(until + 1):
            for row, y in zip(H, value[w, t], strict=True):
                if np.isfinite(y):
                    h = row @ powers[t]
                    precision, pull = precision + np.outer(h, h) / 0.25, pull + h * y / 0.25
        return np.linalg.solve(precision, pull), np.linalg.inv(precision)

    def at(w, t, until):
        mean, spread = start_given(w, until)
        return powers[t] @ mean, np.sqrt(np.diag(powers[t] @ spread @ powers[t].T))

    return at


METHODS = {
    "EnKF": lambda: nk.EnKF(Oscillator(), members=6),
    "EnKS": lambda: nk.EnKS(Oscillator(), members=6),
    "EnKS, lag 1": lambda: nk.EnKS(Oscillator(), members=6, lag=1),
    "iEnKS, lag 1": lambda: nk.IEnKS(Oscillator(), members=6, lag=1),
    "iEnKS, lag 3": lambda: nk.IEnKS(Oscillator(), members=6, lag=3),
    "iEnKS, whole window": lambda: nk.IEnKS(Oscillator(), members=6, lag=None),
    "extended Kalman filter": lambda: nk.ExtendedKalmanFilter(Oscillator()),
    "LETKF, everything near": lambda: nk.LETKF(Oscillator(), members=6, distances=np.zeros((2, 2))),
    "strong 4D-Var": lambda: nk.StrongFourDVar(Oscillator(), tolerance=1e-14),
}
TIMES = (2, 6, 10, 14, 18, 22)


FILTERS = ("EnKF", "extended Kalman filter", "LETKF, everything near")


def known(name, t):
    """The last time whose observations the smoothed state at t knows."""
    if name.startswith("iEnKS, lag"):  # windows begin at observed times
        first, lag = next((i for i, k in enumerate(TIMES) if k > t), len(TIMES)), int(name[-1])
        return TIMES[min(first + lag, len(TIMES)) - 1]
    if name == "EnKS, lag 1":  # its own analysis, or the next one, and one more
        return TIMES[min(next((i for i, k in enumerate(TIMES) if k >= t), len(TIMES)) + 1, len(TIMES) - 1)]
    return TIMES[-1]


def resolved(std, cost):
    """How near to a minimum a comparison of costs leads, in state units.

    A step of d standard deviations lowers the cost by d^2 / 2, and where that is less than a few of its roundings
    chance decides whether it is kept.
    """
    return float(np.max(std) * (8 * np.finfo(float).eps * (1 + np.max(cost))) ** 0.5)


@pytest.mark.parametrize("name", METHODS)
def test_on_a_linear_model_every_method_is_exact(linear, name):
    _, obs = linear
    at = exact(obs)
    result = METHODS[name]().assimilate(obs, operator=TWICE)
    near = 1e-8 + (resolved(result["std"], result["cost"]) if name == "strong 4D-Var" else 0)
    assert near < 1e-7
    cycled = name not in ("iEnKS, whole window", "strong 4D-Var")
    for w in range(3):
        for t in range(25):
            now, before = (max((k for k in TIMES if k <= u), default=-1) for u in (t, t - 1))
            mean, std = at(w, t, now if name in FILTERS else known(name, t))
            np.testing.assert_allclose(result["mean"][w, t], mean, atol=near)
            np.testing.assert_allclose(result["std"][w, t], std, atol=1e-8)
            if cycled:
                np.testing.assert_allclose(result["forecast"][w, t], at(w, t, before)[0], atol=1e-8)
                if name not in FILTERS:
                    np.testing.assert_allclose(result["analysis"][w, t], at(w, t, now)[0], atol=1e-8)


def test_cycled_strong_4d_var_is_one_dense_analysis_after_the_other(linear):
    """Each cycle starts from the mean that the one before left at its first step, with the same covariance anew."""
    _, obs = linear
    M = linearise(partial(Oscillator().step, dt=0.2), torch.zeros(2, dtype=torch.float64))[1].numpy()
    H, B, value = np.array([[1.0, 1.0], [0.0, 2.0]]), (ROOT @ ROOT.mT).numpy(), obs["value"].values
    result = nk.StrongFourDVar(Oscillator(), lag=2, tolerance=1e-14).assimilate(obs, operator=TWICE)
    starts = [0, 0, *TIMES]
    near = 1e-8 + resolved(result["analysis_std"][:, list(TIMES)], 2.0)  # cycles report no cost; here it is less
    assert near < 1e-7
    for w in range(3):
        mean = MEAN.numpy()
        for k, t in enumerate(TIMES):
            begin = starts[k]
            step = np.linalg.matrix_power(M, t - begin)
            seen = np.isfinite(value[w, t])
            h = (H @ step)[seen]
            precision = np.linalg.inv(B) + h.T @ h / 0.25
            forecast = step @ mean
            mean = mean + np.linalg.solve(precision, h.T @ (value[w, t][seen] - h @ mean) / 0.25)
            np.testing.assert_allclose(result["forecast"][w, t], forecast, atol=near)
            np.testing.assert_allclose(result["analysis"][w, t], step @ mean, atol=near)
            spread = np.sqrt(np.diag(step @ np.linalg.inv(precision) @ step.T))
            np.testing.assert_allclose(result["analysis_std"][w, t], spread, atol=1e-8)
            if t < TIMES[-1]:
                if starts[k + 1] > begin:  # then no later window touches that time
                    np.testing.assert_allclose(result["mean"][w, begin], mean, atol=near)
                mean = np.linalg.matrix_power(M, starts[k + 1] - begin) @ mean


def test_gaussian_filters_are_their_formulas(linear):
    """Kalman's with model noise and inflation, and 3D-Var's, in dense algebra, from the first step to the last."""
    truth, _ = linear
    obs = nk.observe(truth, every=8, noise_std=0.5, seed=5, operator=TWICE)
    M = linearise(partial(Oscillator().step, dt=0.2), torch.zeros(2, dtype=torch.float64))[1].numpy()
    H, B, Q = np.array([[1.0, 1.0], [0.0, 2.0]]), (ROOT @ ROOT.mT).numpy(), np.diag([0.01, 0.04])
    kalman = nk.ExtendedKalmanFilter(Oscillator(), [0.1, 0.2], inflation=3.0).assimilate(obs, operator=TWICE)
    static = nk.ThreeDVar(Oscillator(), 0.3 * B).assimilate(obs, operator=TWICE)
    for result, P, grow in (
        (kalman, B, lambda P: 3.0**0.2 * M @ P @ M.T + Q),
        (static, 0.3 * B, lambda P: 0.3 * B),
    ):
        mean = MEAN.numpy()
        for t in range(25):
            if t:
                mean, P = M @ mean, grow(P)
            np.testing.assert_allclose(result["forecast"][0, t], mean, atol=1e-8)
            np.testing.assert_allclose(result["forecast_std"][0, t], np.sqrt(np.diag(P)), atol=1e-8)
            if t % 8 == 0:
                gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + 0.25 * np.eye(2))
                mean, P = mean + gain @ (obs["value"].values[0, t] - H @ mean), P - gain @ H @ P
            np.testing.assert_allclose(result["mean"][0, t], mean, atol=1e-8)
            np.testing.assert_allclose(result["std"][0, t], np.sqrt(np.diag(P)), atol=1e-8)


@dataclass(frozen=True)
class Growing(nk.System):
    """x_t = a^t x_0, started from N(0, 1)."""

    labels = StateLabels(("x",), ("1",), ("x",))
    longest_substep = 1.0

    def tendency(self, x):
        return 0.0 * x

    def step(self, x, dt):
        return 1.1 * x

    def start(self, samples, generator, dtype, device):
        x = torch.randn(samples, 1, generator=generator, dtype=dtype, device=device)
        return (x - x.mean()) / x.std() if samples > 2 else x


def test_strong_4d_var_of_growth_has_its_closed_form():
    """With B = R = 1 and exact observations of x_t = a^t x_0, x_0 is S / (1 + S) of the truth, S the sum of a^2t."""
    truth = Growing().simulate(4, 12, 1.0, seed=0)
    obs = nk.observe(truth, noise_std=1.0, seed=0)
    obs["value"][:] = truth
    result = nk.StrongFourDVar(Growing(), tolerance=1e-14).assimilate(obs)
    S = float(sum(1.1 ** (2 * t) for t in range(12)))
    near = 1e-10 + resolved(result["std"], result["cost"])
    np.testing.assert_allclose(result["mean"][:, 0], S / (1 + S) * truth[:, 0], atol=near)
    np.testing.assert_allclose(result["std"][:, 0], (1 / (1 + S)) ** 0.5, atol=1e-10)


def test_the_answer_of_strong_4d_var_is_a_minimum_of_its_cost():
    system = nk.Started(nk.Lorenz63(), [1.5, -1.5, 25.0], 1.0)
    truth = system.simulate(3, 12, 0.05, seed=1)
    obs = nk.observe(truth, every=3, offset=2, noise_std=1.0, seed=2)
    method = nk.StrongFourDVar(system, tolerance=1e-14)
    result = method.assimilate(obs)
    x = torch.from_numpy(result["mean"][:, 0].values.copy()).requires_grad_()
    path = system.trajectories(x, 12, 0.05)
    seen = Observations(torch.from_numpy(obs["value"].values), torch.tensor(1.0))
    away = x - method._mean
    cost = (away * torch.linalg.solve(method.background, away.mT).mT).sum(-1) / 2 + seen.misfit(path)
    np.testing.assert_allclose(result["cost"], cost.detach(), rtol=1e-9)
    (gradient,) = torch.autograd.grad(cost.sum(), x)
    assert gradient.abs().max() < 1e-4 and result["converged"].all()


def test_analysis_weights_are_a_gaussian_conditioned_on_the_observations():
    generator = torch.Generator().manual_seed(0)
    Y = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    y, R = torch.randn(2, 1, 3, generator=generator, dtype=torch.float64), torch.tensor([[0.5, 1.0, 2.0]]).double()
    y[0, 0, 1] = torch.nan
    here = Observations(y, R.sqrt())
    mean, lower = ensemble.weights(here.whiten(Y), here.whiten(y))
    prior = nk.Gaussian.of(torch.zeros(2, 1, 5).double(), Diagonal(torch.ones(2, 1, 5).double()))
    posterior = prior.condition(measured(prior.centre, Y.mT.unsqueeze(1), R, y))
    torch.testing.assert_close(mean, posterior.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(lower @ lower.mT, posterior.precision.blocks[:, 0, 0], rtol=1e-10, atol=1e-12)


def test_turned_noise_is_exactly_centred_and_uncorrelated_and_new_each_time():
    generator = torch.Generator().manual_seed(0)
    one, two = (ensemble.rotated_noise(7, generator) for _ in range(2))
    for noise in (one, two):
        torch.testing.assert_close(noise.mean(0), torch.zeros(6).double(), rtol=0, atol=1e-12)
        torch.testing.assert_close(noise.mT.cov(), torch.eye(6).double(), rtol=0, atol=1e-12)
    assert (one - two).abs().max() > 0.1


def test_perturbed_observations_come_to_the_kalman_filter_with_many_members(linear):
    _, obs = linear
    at = exact(obs)
    result = nk.EnKF(Oscillator(), members=300, perturbed=True).assimilate(obs, operator=TWICE)
    for w in range(3):
        mean, std = at(w, 24, 22)
        assert np.abs(result["mean"][w, 24] - mean).max() < 5 * std.max() / 300**0.5
        np.testing.assert_allclose(result["std"][w, 24], std, rtol=0.2)


@pytest.mark.parametrize("hyperprior", [1.0, 2.0])
def test_finite_size_inflation_minimises_its_cost(hyperprior):
    generator = torch.Generator().manual_seed(3)
    Y = torch.randn(4, 6, 3, generator=generator, dtype=torch.float64)
    R, d = torch.full((1, 3), 0.5).double(), 3 * torch.randn(4, 1, 3, generator=generator, dtype=torch.float64)
    found = enkf.finite_size_inflation((Y / R) @ Y.mT, (Y / R @ d.mT).squeeze(-1), 7, hyperprior).flatten()
    for w in range(4):

        def cost(log_factor, w=w):
            factor = math.exp(log_factor)
            C = factor**2 * (Y[w].mT @ Y[w]) + R[0].diag()
            fit = float(d[w, 0] @ torch.linalg.solve(C, d[w, 0]))
            return fit + hyperprior * (8 * 6 / 7 / factor**2 + 14 * log_factor)

        best = optimize.minimize_scalar(cost, bounds=(-0.7, 3.0), method="bounded")
        assert math.log(found[w]) == pytest.approx(best.x, abs=0.011)


def test_the_taper_is_one_here_and_nothing_far_away_and_like_a_gaussian_between():
    x = torch.linspace(0, 20, 2001).double()
    taper = gaspari_cohn(x, 4.0)
    assert taper[0] == 1 and (taper[x > 4 * 3.652] == 0).all() and (taper.diff() <= 1e-12).all()
    assert (taper - (-(x**2) / 32).exp()).abs().max() < 0.035


def test_localisation_does_not_see_what_is_far_away():
    system = nk.Started(nk.Lorenz96(), 8.0, 1.0)
    truth = system.simulate(1, 2, 0.05, seed=0)
    obs = nk.observe(truth, components=["x0"], noise_std=0.1, seed=1, every=1, offset=1)
    result = nk.LETKF(system, members=5, radius=2.0).assimilate(obs)
    change = abs(result["mean"] - result["forecast"])[0, 1]
    assert change[0] > 0.1 and (change[8:33] < 1e-12).all()


WALKERS = {
    "3D-Var": lambda: nk.ThreeDVar(nk.Lorenz63(), 5 * np.eye(3)),
    "extended Kalman filter": lambda: nk.ExtendedKalmanFilter(nk.Lorenz63(), 0.2, inflation=2.0),
    "EnKF": lambda: nk.EnKF(nk.Lorenz63(), 0.2, members=12, inflation=1.02),
    "EnKF, perturbed": lambda: nk.EnKF(nk.Lorenz63(), 0.2, members=12, perturbed=True),
    "EnKF-N": lambda: nk.EnKF(nk.Lorenz63(), members=12, finite_size=True),
    "EnKS": lambda: nk.EnKS(nk.Lorenz63(), 0.2, members=12, lag=2),
    "LETKF": lambda: nk.LETKF(nk.Lorenz63(), 0.2, members=6, distances=np.ones((3, 3))),
    "iEnKS": lambda: nk.IEnKS(nk.Lorenz63(), members=12, lag=2),
    "strong 4D-Var": lambda: nk.StrongFourDVar(nk.Lorenz63(), 5 * np.eye(3), lag=2, iterations=4),
    "particle filter": lambda: nk.ParticleFilter(nk.Lorenz63(), 0.2, particles=1500),
}
every_walker = pytest.mark.parametrize("name", WALKERS)


@pytest.fixture(scope="module")
def irregular():
    """Observed so often that the iterative smoother converges: where it does not, it makes whole units of rounding."""
    truth = nk.Lorenz63().simulate(5, 20, 0.05, model_noise_std=0.2, seed=1)
    obs = nk.observe(truth, fraction=0.5, noise_std=1.0, seed=2)
    obs["value"][4] = np.nan  # a window in which nothing is observed
    return truth, obs


@every_walker
@pytest.mark.filterwarnings("ignore:1 of 5 windows")
def test_windows_and_chunks_do_not_change_each_other(irregular, name):
    _, obs = irregular
    method = WALKERS[name]()
    together = method.assimilate(obs)
    assert set(together["mean"].dims) == {"sample", "time", "component"}
    for i in range(5):
        with np.testing.suppress_warnings() as quiet:
            quiet.filter(UserWarning)
            alone = method.assimilate(obs.isel(sample=i))
        for variable in set(together.data_vars) - {"observed"}:
            np.testing.assert_allclose(together[variable][i], alone[variable], rtol=1e-7, atol=1e-8)
    lazy = method.assimilate(obs.chunk(sample=2)).compute()
    np.testing.assert_allclose(lazy["mean"], together["mean"], rtol=1e-7, atol=1e-8)
    for variable in ("std", "forecast"):
        np.testing.assert_allclose(lazy[variable], together[variable], rtol=1e-7, atol=1e-8)
    deeper = method.assimilate(obs.isel(sample=slice(4)).coarsen(sample=2).construct(sample=("a", "b")))
    np.testing.assert_allclose(deeper["mean"].values.reshape(4, 20, 3), together["mean"][:4], rtol=1e-7, atol=1e-8)


@every_walker
def test_results_are_kept_in_netcdf(irregular, name, tmp_path):
    _, obs = irregular
    result = WALKERS[name]().assimilate(obs.isel(sample=slice(2)))
    result.to_netcdf(tmp_path / "result.nc")
    xr.testing.assert_equal(xr.load_dataset(tmp_path / "result.nc"), result)


def test_a_whole_window_of_the_iterative_smoother_is_lazy_and_drawn_from_too(irregular):
    _, obs = irregular
    obs = obs.isel(sample=slice(3), time=slice(8))
    method = nk.IEnKS(nk.Started(nk.Lorenz63(), [0.0, 0.0, 25.0], 3.0), lag=None, members=12)
    result = method.assimilate(obs)
    assert set(result.data_vars) == {"mean", "std", "observed", "misfit", "residual"}
    np.testing.assert_allclose(method.assimilate(obs.chunk(sample=1))["mean"], result["mean"], rtol=1e-7, atol=1e-8)
    assert len(np.unique(method.sample(obs, 500, seed=1)[:, 0, 3, 0])) == 12


@every_walker
def test_observations_help(name):
    truth = nk.Lorenz63().simulate(40, 41, 0.05, model_noise_std=0.0, seed=3, spinup=100)
    obs = nk.observe(truth, every=4, offset=4, noise_std=1.0, seed=4)
    result = WALKERS[name]().assimilate(obs)
    late = {"time": slice(20, None, 4)}
    error = nk.rmse(result["mean"].isel(late), truth.isel(late))
    assert error < 0.95  # of the observations: 1
    assert error < nk.rmse(result["forecast"].isel(late), truth.isel(late)) < 3


@every_walker
def test_what_is_observed_later_changes_no_filter(irregular, name):
    _, obs = irregular
    cut = obs.copy(deep=True)
    cut["value"][:4, 12:] = np.nan
    method = WALKERS[name]()
    full, before = method.assimilate(obs.isel(sample=slice(4))), method.assimilate(cut.isel(sample=slice(4)))
    variable = "analysis" if "analysis" in full else "mean"
    np.testing.assert_allclose(full[variable][:, :12], before[variable][:, :12], rtol=1e-6, atol=1e-7)
    assert abs(full[variable][:, 12:] - before[variable][:, 12:]).max() > 0.01


@every_walker
def test_no_random_state_of_a_method_is_a_true_one(name):
    """For one seed, a system's true trajectories and a method's own states come from different numbers."""

    class Noted(nk.Lorenz63):
        drawn = ()

        def start(self, samples, generator, dtype, device):
            x = super().start(samples, generator, dtype, device)
            object.__setattr__(self, "drawn", (*self.drawn, *(x if samples < 5000 else ())))
            return x

    system = Noted()
    method = WALKERS[name]()
    own = type(method)(
        system,
        *([5 * np.eye(3)] if name in ("3D-Var", "strong 4D-Var") else []),
        **({"distances": np.ones((3, 3))} if name == "LETKF" else {}),
    )
    truth = nk.Lorenz63().simulate(12, 5, 0.05, seed=0)
    obs = nk.observe(truth, every=2, noise_std=1.0, seed=0)
    own.assimilate(obs)
    starts = torch.from_numpy(truth.isel(time=0).values)
    for x in system.drawn[1:] if system.drawn else ():  # the first is only asked whether the operator fits
        assert (starts - x).abs().amax(-1).min() > 1e-6


def test_methods_without_joint_spread_say_so_when_asked_for_draws():
    truth = nk.Lorenz63().simulate(2, 12, 0.05, seed=1)
    obs = nk.observe(truth, every=4, noise_std=1.0, seed=2)
    for name in ("3D-Var", "extended Kalman filter", "strong 4D-Var", "particle filter"):
        with pytest.raises(ValueError, match="draw from a smoother"):
            WALKERS[name]().sample(obs, 3)


def test_draws_of_strong_4d_var_are_trajectories_of_its_posterior(linear):
    _, obs = linear
    for method in (nk.StrongFourDVar(Oscillator()), nk.QuasiStatic(nk.StrongFourDVar(Oscillator()), 2)):
        result, draws = method.assimilate(obs, operator=TWICE), method.sample(obs, 4000, seed=3, operator=TWICE)
        assert (abs(draws.mean("member") - result["mean"]) < 5 * result["std"] / 4000**0.5).all()
        np.testing.assert_allclose(draws.std("member"), result["std"], rtol=0.1)
        follow = Oscillator().step(torch.from_numpy(draws.values[..., :-1, :].copy()), 0.2)
        np.testing.assert_allclose(follow, draws.values[..., 1:, :], atol=1e-9)


def test_an_operator_is_never_asked_about_what_nobody_saw():
    """The logarithm of a negative state is NaN; where it was not observed, that must not matter."""
    system = nk.Started(nk.Lorenz63(), [1.5, -1.5, 25.0], 1.0)
    truth = system.simulate(2, 9, 0.05, seed=1)

    def logarithms(x):
        return x.log()

    z = nk.observe(truth[..., 2:], every=4, offset=4, noise_std=0.05, seed=2, operator=logarithms)
    value = np.full((2, 9, 3), np.nan)
    value[..., 2] = z["value"].values[..., 0]
    obs = xr.Dataset(
        {"value": (("sample", "time", "component"), value), "noise_std": 0.05},
        {"time": truth["time"], "component": ["hx", "hy", "hz"]},
    )
    for name in ("EnKF", "EnKF, perturbed", "EnKF-N", "EnKS", "LETKF", "iEnKS", "particle filter", "strong 4D-Var"):
        kind = type(WALKERS[name]())
        method = kind(system, distances=np.ones((3, 3))) if name == "LETKF" else kind(system)
        result = method.assimilate(obs, operator=logarithms)
        assert np.isfinite(result["mean"]).all()
    value[..., 0] = value[..., 2]
    seen = obs.assign(value=(("sample", "time", "component"), value))
    for method in (nk.EnKF(system), nk.LETKF(system, distances=np.ones((3, 3)))):
        # Those whose x is negative are strays, for this instrument.
        with pytest.warns(UserWarning, match="Members of the ensemble left"):
            assert np.isfinite(method.assimilate(seen, operator=logarithms)["mean"]).all()
    with pytest.raises(ValueError, match="defined for all states"):
        nk.EnKF(nk.Started(system, [-9.0, -9.0, 25.0], 1.0)).assimilate(seen, operator=logarithms)


@pytest.mark.parametrize("name", ["EnKF", "EnKS", "LETKF", "iEnKS"])
def test_draws_are_members_and_have_their_moments(name):
    truth = nk.Lorenz63().simulate(2, 12, 0.05, seed=1)
    obs = nk.observe(truth, every=4, noise_std=1.0, seed=2)
    method = WALKERS[name]()
    result, draws = method.assimilate(obs), method.sample(obs, 3000, seed=1)
    error = result["std"] / 3000**0.5
    assert (abs(draws.mean("member") - result["mean"]) < 5 * error + 1e-9).all()
    assert len(np.unique(draws[:, 0, 5, 0])) == method.members


WRONG = {
    "one member": lambda: nk.EnKF(nk.Lorenz63(), members=1),
    "half a member": lambda: nk.EnKF(nk.Lorenz63(), members=2.5),
    "no inflation": lambda: nk.EnKF(nk.Lorenz63(), inflation=0.0),
    "two inflations": lambda: nk.EnKF(nk.Lorenz63(), inflation=1.1, finite_size=True),
    "a hyperprior of nothing": lambda: nk.EnKF(nk.Lorenz63(), hyperprior=2.0),
    "negative noise": lambda: nk.EnKF(nk.Lorenz63(), -0.1),
    "noise of another state": lambda: nk.EnKF(nk.Lorenz63(), [0.1, 0.2]),
    "no lag": lambda: nk.IEnKS(nk.Lorenz63(), lag=0),
    "negative lag": lambda: nk.EnKS(nk.Lorenz63(), lag=-1),
    "no places": lambda: nk.LETKF(nk.Lorenz63()),
    "distances of another state": lambda: nk.LETKF(nk.Lorenz63(), distances=np.ones((2, 3))),
    "no radius": lambda: nk.LETKF(nk.Lorenz96(), radius=0.0),
    "a covariance of another state": lambda: nk.ThreeDVar(nk.Lorenz63(), np.eye(2)),
    "a covariance that is none": lambda: nk.StrongFourDVar(nk.Lorenz63(), np.ones((3, 3))),
    "no iterations": lambda: nk.StrongFourDVar(nk.Lorenz63(), iterations=0),
    "negative damping": lambda: nk.StrongFourDVar(nk.Lorenz63(), damping=-1.0),
    "one particle": lambda: nk.ParticleFilter(nk.Lorenz63(), particles=1),
    "negative jitter": lambda: nk.ParticleFilter(nk.Lorenz63(), jitter=-1.0),
    "a start that does not vary": lambda: nk.Started(nk.Lorenz63(), 0.0, 0.0),
    "a covariance that is a word": lambda: nk.ThreeDVar(nk.Lorenz63(), "a"),
    "an infinite covariance": lambda: nk.ThreeDVar(nk.Lorenz63(), np.diag([np.inf, 1, 1])),
    "distances that are a word": lambda: nk.LETKF(nk.Lorenz63(), distances="a"),
    "damping that is a word": lambda: nk.StrongFourDVar(nk.Lorenz63(), damping="a"),
    "jitter that is a word": lambda: nk.ParticleFilter(nk.Lorenz63(), jitter="a"),
    "nothing to lengthen": lambda: nk.QuasiStatic(None),
    "a system's name": lambda: nk.EnKF("lorenz63"),
    "a system's class": lambda: nk.ParticleFilter(nk.Lorenz63),
    "no system": lambda: nk.StrongFourDVar(None),
    "a name for 4D-Var": lambda: nk.WeakFourDVar("lorenz63", 0.1),
    "a name for a smoother": lambda: nk.ParticleSmoother("lorenz63", 0.1),
    "a word for yes": lambda: nk.EnKF(nk.Lorenz63(), perturbed="no"),
    "too large a seed": lambda: nk.EnKF(nk.Lorenz63(), seed=2**70),
    "distances that are NaN": lambda: nk.LETKF(nk.Lorenz63(), distances=np.full((3, 3), np.nan)),
    "a covariance that is NaN": lambda: nk.ThreeDVar(nk.Lorenz63(), np.full((3, 3), np.nan)),
    "a time step that is a word": lambda: nk.Lorenz63().simulate(2, 3, "a"),
    "a time step in another unit": lambda: nk.Lorenz63().simulate(2, 3, 1e9),
    "a seed that is a word": lambda: nk.Lorenz63().simulate(2, 3, 0.05, seed="a"),
    "a seed of observations that is a word": lambda: nk.observe(
        nk.Lorenz63().simulate(1, 3, 0.05), noise_std=1.0, seed="a"
    ),
    "half a window": lambda: nk.Lorenz63().simulate(2.5, 3, 0.05),
    "a fraction that is a word": lambda: nk.observe(nk.Lorenz63().simulate(1, 3, 0.05), fraction="a", noise_std=1.0),
    "a start of another state": lambda: nk.Started(nk.Lorenz63(), [0.0, 1.0], 1.0),
}


@pytest.mark.parametrize("which", WRONG)
def test_settings_that_cannot_be_used_are_refused(which):
    with pytest.raises(ValueError):
        WRONG[which]()


@every_walker
def test_an_operator_that_does_not_fit_is_told(irregular, name):
    _, obs = irregular
    with pytest.raises(ValueError, match="The operator gives 2 values per time step, the observations have 3"):
        WALKERS[name]().assimilate(obs.isel(sample=slice(4)), operator=np.eye(2, 3))


def test_members_that_run_apart_are_told():
    truth = nk.Lorenz63().simulate(1, 200, 0.05, seed=0)
    obs = nk.observe(truth, every=20, noise_std=1e-6, seed=1)
    with pytest.raises(ValueError, match="Try a shorter lag, more members"):
        nk.IEnKS(nk.Lorenz63(), lag=None, members=10).assimilate(obs)


def test_cycles_use_every_observed_time_once_and_cover_all():
    for lag in (1, 2, 5, 9, None):
        cycles = cycling.cycles([2, 5, 6, 9], lag, 12)
        assert [t for c in cycles for t in c.used] == [2, 5, 6, 9]
        assert cycles[0].begin == 0 and cycles[-1].end == 11 and cycles[-1].following == 12
        assert all(a.following == b.begin for a, b in pairwise(cycles))


def test_by_times_puts_every_window_back():
    value = torch.full((2, 3, 4, 1), torch.nan).double()
    value[0, :, 1], value[1, 0, 2], value[1, 1, 1] = 1.0, 2.0, 3.0
    groups = list(sequential.by_times(Observations(value, torch.ones(4, 1).double())))
    assert sorted(i for index, _ in groups for i in index.tolist()) == list(range(6))
    assert sorted(len(index) for index, _ in groups) == [1, 1, 4]
    for index, group in groups:
        assert torch.equal(group.value.nan_to_num(), value.flatten(0, 1)[index].nan_to_num())


def test_a_start_of_its_own_has_its_moments_and_the_model_of_its_system():
    system = nk.Started(Growing(), 3.0, 0.5)
    x = system.start(4000, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
    assert x.mean() == pytest.approx(3, abs=0.04) and x.std() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(system.step(x, 1.0), 1.1 * x) and system.name == "Growing"
    log_p = torch.distributions.Normal(3.0, 0.5).log_prob(x).sum(-1)
    torch.testing.assert_close(system.log_start(x), log_p)
    assert system.parameters()["start_mean"] == [3.0]


def test_sites_lie_on_a_ring():
    distances = nk.Lorenz96(sites=7).distances()
    assert torch.equal(distances, distances.mT) and distances.max() == 3
    assert distances[0].tolist() == [0, 1, 2, 3, 3, 2, 1]


def test_the_climatological_forecast_does_not_look_at_observations(linear):
    truth, obs = linear
    method = nk.ClimatologicalForecast.fit(Oscillator().simulate(300, 25, 0.2, seed=9), order=0)
    one, two = method.assimilate(obs, operator=TWICE), method.assimilate(obs * 0 + 5.0, operator=np.ones((2, 2)))
    np.testing.assert_array_equal(one["mean"], two["mean"])
    assert one["mean"].shape == truth.shape and (one["mean"][0] == one["mean"][1]).all()


def test_a_long_lazy_experiment_needs_no_long_empty_window():
    system = nk.Started(nk.Lorenz63(), [1.5, -1.5, 25.0], 1.0)
    truth = system.simulate(2, 161, 0.05, seed=1)
    obs = nk.observe(truth, every=4, offset=4, noise_std=1.0, seed=2)
    method = nk.ExtendedKalmanFilter(system, inflation=1e8)  # overflows unobserved
    np.testing.assert_allclose(method.assimilate(obs.chunk(sample=1))["mean"], method.assimilate(obs)["mean"])


def test_a_gaussian_filter_of_a_flat_forecast_is_one_analysis():
    value = torch.tensor([[[1.0], [torch.nan]]]).double()
    before, after = gaussian_filter(
        lambda m, P, t: (m, P),
        torch.zeros(1).double(),
        torch.eye(1).double(),
        Observations(value, torch.ones(1, 2, 1).double()),
    )
    assert after.mean[0, :, 0].tolist() == pytest.approx([0.5, 0.5])
    assert after.std[0, :, 0].square().tolist() == pytest.approx([0.5, 0.5])
    assert before.mean[0, :, 0].tolist() == pytest.approx([0.0, 0.5])
    assert before.std[0, :, 0].square().tolist() == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize(("every", "most"), [(4, 500), (1100, 1150)])
def test_a_long_window_is_filtered_in_segments_as_in_one_walk(every, most, monkeypatch):
    """Where the filter forgets its start, in far fewer calls; where it does not, in hardly more."""
    calls = []

    class Pulled(nk.Lorenz63):
        """Its tendency depends on time, so that each segment needs its own times."""

        def tendency(self, x, t):
            calls.append(x.shape)
            return super().tendency(x) + torch.sin(t)

    obs = nk.observe(Pulled().simulate(1, 1100, 0.02, seed=1), every=every, noise_std=0.5, seed=2)
    method = nk.ExtendedKalmanFilter(Pulled(), 0.2)
    results = []
    for long, fewest, largest in ((filters.LONG, 0, most), (math.inf, 1099, 1150)):
        monkeypatch.setattr(filters, "LONG", long)
        calls.clear()
        results.append(method.assimilate(obs))
        assert fewest <= len(calls) / 4 <= largest  # a step of Runge-Kutta asks four times
    found, expected = results
    for name, spread in (("forecast", "forecast_std"), ("mean", "std")):
        # What is never observed grows as chaos does, and so does the last digit.
        until, near = (1100, 1e-9) if every == 4 else (200, 1e-6)
        std = expected[spread][:, :until]
        assert (abs(found[name] - expected[name])[:, :until] <= near * std).all()
        np.testing.assert_allclose(found[spread][:, :until], std, rtol=near)


def test_more_starts_never_raise_the_cost_of_strong_4d_var():
    setup = nk.setups.load("blanke2024-lorenz63")
    obs = setup.observe(setup.windows(6, seed=0), seed=1)
    few, many = (nk.StrongFourDVar(setup.system, starts=n, iterations=8).assimilate(obs) for n in (4, 8))
    assert (many["cost"] <= few["cost"] * (1 + 1e-9)).all() and (many["cost"] < 0.9 * few["cost"]).any()
    assert set(np.unique(many["start"])) <= set(range(8)) and len(np.unique(many["start"])) > 1
    seen = Observations(
        torch.from_numpy(obs["value"].values), torch.from_numpy(obs["noise_std"].broadcast_like(obs["value"]).values)
    )
    own = seen.misfit(torch.from_numpy(many["mean"].values))
    assert (own.numpy() <= many["cost"] + 1e-9).all()  # mean and cost are of the same start
    with pytest.raises(ValueError, match="several starts are for the whole window"):
        nk.StrongFourDVar(setup.system, starts=2, lag=1)


def test_a_window_in_one_piece_is_the_method_itself_and_more_pieces_find_lower_minima():
    setup = nk.setups.load("blanke2024-lorenz63")
    obs = setup.observe(setup.windows(40, seed=0), seed=1)
    first = nk.OptimalInterpolation.fit(setup.windows(2000, seed=2)).assimilate(obs)["mean"]
    method = nk.WeakFourDVar(setup.system, setup.model_noise_std, iterations=15)
    plain, one, four = (
        m.assimilate(obs, first) for m in (method, nk.QuasiStatic(method, 1), nk.QuasiStatic(method, 4))
    )
    np.testing.assert_array_equal(plain["mean"], one["mean"])
    assert four["cost"].mean() < 0.9 * plain["cost"].mean()
    with pytest.raises(ValueError, match="pieces=0"):
        nk.QuasiStatic(method, 0)


def test_a_long_window_behind_an_operator_with_a_domain_is_filtered_where_it_is():
    """Segments that start from a guess could ask the logarithm of states that are never there."""

    class Decay(nk.System):
        labels = StateLabels(("x",), ("1",), ("x",))
        longest_substep = 1.0

        def tendency(self, x):
            return -0.002 * x

        def start(self, samples, generator, dtype, device):
            return 10 + torch.randn(samples, 1, generator=generator, dtype=dtype, device=device)

    logarithm = lambda x: x.log()  # noqa: E731
    truth = Decay().simulate(1, 1200, 1.0, model_noise_std=0.001, seed=0)
    obs = nk.observe(truth, noise_std=0.01, operator=logarithm, seed=1)
    for method in (nk.ExtendedKalmanFilter(Decay(), 0.001), nk.KalmanSmoother(Decay(), 0.001)):
        assert abs(method.assimilate(obs, operator=logarithm)["mean"] - truth).max() < 0.2


def test_an_operator_that_mixes_times_is_found_before_anything_is_simulated():
    obs = nk.observe(nk.Lorenz63().simulate(1, 8, 0.05), noise_std=1.0)
    mixed = lambda x: x - x.mean(-2, keepdim=True) + 1e-3 * x  # noqa: E731
    with pytest.raises(ValueError, match="mixes times"):
        nk.ParticleSmoother(nk.Lorenz63(), particles=50, model_noise_std=0.5).sample(obs, 2, operator=mixed)
