"""Systems whose model works in other variables than those that are observed."""

import warnings

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.reconstruction import moments_after
from nida_kit.systems.system import as_system

CPU = torch.device("cpu")


class Growth(nk.System):
    """x' = a x: its logarithm grows by a line, z' = a."""

    labels = nk.StateLabels(("x", "y"), ("kg", "kg"), ("x", "y"))
    longest_substep = 0.05
    rates = torch.tensor([0.3, -0.2], dtype=torch.float64)

    def tendency(self, x):
        return self.rates.to(x) * x

    def start(self, samples, generator, dtype, device):
        return torch.randn(samples, 2, generator=generator, dtype=dtype, device=device).exp()

    def log_start(self, x):
        return torch.distributions.LogNormal(0.0, 1.0, validate_args=False).log_prob(x).sum(-1)


class Line(nk.System):
    """The same for z."""

    labels, longest_substep = Growth.labels, Growth.longest_substep

    def tendency(self, x):
        return Growth.rates.to(x) + 0 * x

    def start(self, samples, generator, dtype, device):
        return torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)

    def log_start(self, x):
        return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1)


LOG = nk.Transformed(Growth(), torch.log, torch.exp)


def test_a_trajectory_is_in_the_units_of_its_user():
    inside, outside = (s.simulate(3, 9, 0.1, seed=2) for s in (LOG, Growth()))
    np.testing.assert_allclose(inside, outside, rtol=1e-6)
    assert inside.units.values.tolist() == ["kg", "kg"] and inside.attrs["forward"] == "log"
    noisy = LOG.simulate(50, 40, 0.1, model_noise_std=0.5, seed=2)
    assert (noisy > 0).all()
    logs = Line().simulate(50, 40, 0.1, model_noise_std=0.5, seed=2)
    np.testing.assert_allclose(np.log(noisy), logs, atol=1e-9)


def test_the_chain_rule_gives_slope_density_and_gradients():
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(LOG.tendency(z), Growth.rates.expand(5, 2))
    torch.testing.assert_close(LOG.log_start(z), Line().log_start(z))
    logit = nk.Transformed(_Logistic(), torch.logit, torch.sigmoid)
    torch.testing.assert_close(logit.tendency(z), torch.ones(5, 2).double())
    assert torch.autograd.gradcheck(lambda z: logit.step(z, 0.1), z[:2].requires_grad_())


class _Logistic(Line):
    """x' = x (1 - x), whose logit grows by 1."""

    def tendency(self, x):
        return x * (1 - x)

    def start(self, samples, generator, dtype, device):
        return torch.rand(samples, 2, generator=generator, dtype=dtype, device=device)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: nk.KalmanSmoother(s, 0.2, 0.0, 1.0),
        lambda s: nk.WeakFourDVar(s, 0.2, 0.0, 1.0),
        lambda s: nk.ExtendedKalmanFilter(s, 0.2),
        lambda s: nk.ThreeDVar(s, 0.1 * np.eye(2)),
        lambda s: nk.StrongFourDVar(s, np.eye(2)),
        lambda s: nk.StrongFourDVar(s, np.eye(2), lag=1),
        lambda s: nk.Chain([nk.KalmanSmoother(s, 0.2, 0.0, 1.0), nk.WeakFourDVar(s, 0.2, 0.0, 1.0)]),
    ],
    ids=["smoother", "weak", "extended", "three", "strong", "strong with lag", "chain"],
)
def test_gaussian_methods_report_the_lognormal_moments_of_their_gaussian(make):
    truth = LOG.simulate(2, 12, 0.2, seed=3)
    obs = nk.observe(truth, every=4, noise_std=0.1, operator=torch.log, seed=1)
    of_logs = obs.assign_coords(component=["x", "y"])
    found, z = make(LOG).assimilate(obs, operator=torch.log), make(Line()).assimilate(of_logs)
    mean = np.exp(z["mean"] + z["std"] ** 2 / 2)
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(found["std"], mean * np.sqrt(np.expm1(z["std"] ** 2)), rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: nk.EnKS(s, 0.2, members=40),
        lambda s: nk.IEnKS(s, members=10),
        lambda s: nk.WeakFourDVar(s, 0.2, 0.0, 1.0),
        lambda s: nk.StrongFourDVar(s),
        lambda s: nk.ParticleSmoother(s, 0.2, particles=500, draws=16, repeats=2),
        lambda s: nk.ImportanceSampler(s, particles=500),
    ],
    ids=["EnKS", "IEnKS", "weak", "strong", "particles", "importance"],
)
def test_draws_are_those_of_the_logarithm_taken_back(make):
    truth = LOG.simulate(2, 12, 0.2, seed=3)
    obs = nk.observe(truth, every=4, noise_std=0.2, operator=torch.log, seed=1)
    of_logs = obs.assign_coords(component=["x", "y"])
    found, z = make(LOG).sample(obs, 8, operator=torch.log), make(Line()).sample(of_logs, 8)
    np.testing.assert_allclose(found, np.exp(z), rtol=1e-5)


def test_ensembles_report_the_moments_of_their_members():
    truth = LOG.simulate(1, 12, 0.2, seed=3)
    obs = nk.observe(truth, every=4, noise_std=0.3, seed=1)
    filtered = nk.EnKF(LOG, 0.2, members=500)
    draws, found = filtered.sample(obs, 20_000), filtered.assimilate(obs)
    np.testing.assert_allclose(found["mean"], draws.mean("member"), rtol=0.05)
    np.testing.assert_allclose(found["std"], draws.std("member"), rtol=0.05)


def test_every_wrapper_passes_the_variables_on():
    class Field(Growth):
        labels = nk.GridLabels({"y": range(2), "x": range(3)}, "K")

        def tendency(self, x):
            return -0.1 * x

        def start(self, samples, generator, dtype, device):
            return torch.rand(samples, 2, 3, generator=generator, dtype=dtype, device=device) + 0.1

    field = nk.OnAttractor(nk.Transformed(Field(), torch.log, torch.exp), 0.5)
    truth = field.simulate(2, 8, 0.1, seed=0)
    found = nk.EnKF(field, members=30).assimilate(nk.observe(truth, every=2, noise_std=0.05, seed=1))
    assert float(nk.rmse(found["mean"], truth)) < 0.05
    x = as_system(field).as_modelled(torch.from_numpy(truth.values).flatten(-2))
    torch.testing.assert_close(as_system(field).as_observed(x), torch.from_numpy(truth.values).flatten(-2))
    started = nk.Started(LOG, 0.0, 0.1)
    np.testing.assert_allclose(np.log(started.simulate(4000, 2, 0.1).isel(time=0)).std(), 0.1, rtol=0.05)
    windows = nk.simulated(LOG, 4, 0.1)(3, torch.Generator().manual_seed(0))
    assert (windows > 0).all()


def test_a_scheme_of_ones_own_is_kept():
    class Exact(Growth):
        def step(self, x, dt, t=None):
            return x * (self.rates.to(x) * dt).exp()

    z = torch.zeros(1, 2, dtype=torch.float64)
    torch.testing.assert_close(nk.Transformed(Exact(), torch.log, torch.exp).step(z, 2.0), 2 * Growth.rates[None])


@pytest.mark.parametrize(
    ("forward", "inverse", "said"),
    [
        (torch.log, torch.sigmoid, "inverse does not undo forward"),
        (torch.logit, torch.sigmoid, "forward gives (nan|inf).*positive"),
        (lambda x: x.cumsum(-1), lambda z: z.diff(dim=-1), "forward mixes"),
        (lambda x: x - x.mean(0), lambda z: z, "inverse does not undo forward"),
        (lambda x: x.sum(-1), torch.exp, "forward gives torch.float64"),
        (torch.square, torch.sqrt, r"forward does not reach every number.*torch.log and torch.exp"),
        (torch.sqrt, torch.square, "forward does not reach every number"),
        (torch.reciprocal, torch.reciprocal, "forward does not reach every number"),
        (torch.atan, torch.tan, "forward does not reach every number"),
        (lambda x: x, torch.relu, "forward does not reach every number"),
        (lambda x: np.log(x["a"]), torch.exp, "forward fails"),
        ("log", "exp", "forward='log' must be a function"),
    ],
)
def test_what_is_no_bijection_of_components_is_refused(forward, inverse, said):
    with pytest.raises(ValueError, match=said):
        nk.Transformed(Growth(), forward, inverse)


def test_a_first_guess_is_positive_and_long_records_are_walked_through():
    truth = LOG.simulate(1, 12, 0.2, seed=3)
    obs = nk.observe(truth, every=4, noise_std=0.1, seed=1)
    method = nk.WeakFourDVar(LOG, 0.2)
    near = method.assimilate(obs, first_guess=truth, trace=True)
    np.testing.assert_allclose(near["first_guess"], truth)
    with pytest.raises(ValueError, match="12 numbers of a first guess lie outside"):
        method.assimilate(obs, first_guess=truth * [1.0, -1.0])
    with pytest.raises(ValueError, match=r"nk.Cycled hands a Gaussian"):
        nk.Cycled(method, 8)


class Wide(Growth):
    """It starts with logarithms that spread far."""

    def start(self, samples, generator, dtype, device):
        return (8 * torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)).exp()


@pytest.mark.parametrize(
    ("system", "forward", "inverse"),
    [
        (Wide(), torch.log, torch.exp),
        (Wide(), torch.log1p, torch.expm1),
        (Wide(), lambda x: x.expm1().log().where(x < 30, x), torch.nn.functional.softplus),
        (nk.Transformed(Wide(), torch.log, torch.exp), torch.asinh, torch.sinh),
        (_Logistic(), torch.logit, torch.sigmoid),
        (_Logistic(), lambda x: 100 * x.logit(), lambda z: (z / 100).sigmoid()),
    ],
)
def test_pairs_that_reach_every_number_are_taken_however_far_the_start_spreads(system, forward, inverse):
    nk.Transformed(system, forward, inverse)


NAMES = nk.StateLabels(("a", "b"), ("K", "K"), ("a", "b"))
LINEAR = nk.LinearModel([[0.9, 0.2], [-0.3, 0.7]], NAMES, 0.5, [20.0, 30.0], np.eye(2))
AROUND_LINEAR = {
    "OnAttractor": nk.OnAttractor(LINEAR, 1.0),
    "Started": nk.Started(LINEAR, 20.0, 0.5),
    "Continued": nk.Continued(LINEAR, LINEAR.simulate(20, 1, 0.5)[:, 0].rename(sample="member")),
    "Transformed": nk.Transformed(LINEAR, torch.log, torch.exp),
    "of a wrapped one": nk.OnAttractor(nk.Transformed(nk.Started(LINEAR, 20.0, 0.5), torch.log, torch.exp), 1.0),
}


@pytest.mark.parametrize("name", AROUND_LINEAR)
def test_wrappers_step_as_the_linear_model_does(name):
    system = AROUND_LINEAR[name]
    truth = system.simulate(2, 12, 0.5, seed=1)
    x = torch.from_numpy(truth.values)
    torch.testing.assert_close(x[:, 1:], LINEAR.step(x[:, :-1], 0.5))
    obs = nk.observe(truth, every=3, noise_std=0.1, seed=1)
    for method in (nk.EnKF(system, members=20), nk.KalmanSmoother(system, 1e-3)):
        assert float(nk.rmse(method.assimilate(obs)["mean"], truth)) < 0.15


def test_a_step_of_ones_own_without_slopes_is_refused_where_slopes_are_needed():
    class Detached(nk.LinearModel):
        def step(self, x, dt, t=None):
            return super().step(x.detach(), dt)

    system = nk.Transformed(Detached(LINEAR.matrix, NAMES, 0.5, LINEAR.mean, np.eye(2)), torch.log, torch.exp)
    nk.EnKF(system)
    with pytest.raises(ValueError, match="step of Detached in other variables"):
        nk.KalmanSmoother(system, 0.1)


def test_members_outside_the_domain_are_named():
    with pytest.raises(ValueError, match="2 numbers of the members lie outside the domain"):
        nk.Continued(LOG, [[1.0, 2.0], [-1.0, 2.0], [3.0, -0.5]])


@pytest.mark.parametrize("std", [1.0, 4.0, 6.0, 8.0])
def test_moments_of_wide_lognormal_laws_are_exact_or_a_note_says_not(std):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = moments_after(torch.zeros(1).double(), torch.full((1,), std).double(), torch.exp)
    exact = abs(float(found.std) / (np.exp(std**2 / 2) * np.sqrt(np.expm1(std**2))) - 1) < 2e-3
    assert exact == (std < 8) and bool(said) == (std == 8)
    np.testing.assert_allclose(found.mean, np.exp(std**2 / 2), rtol=1e-9)
