"""Trajectories against scipy, against their order, and against closed forms."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from advection import NX, NY, Advection
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.stats import multivariate_normal
from torch.autograd import gradcheck

import nida_kit as nk
from nida_kit.methods.sequential import advance, advance_without_slopes
from nida_kit.systems.system import AT_ONCE, as_system, runge_kutta

SYSTEMS = [nk.Lorenz63, nk.Pendulum, nk.LinearOscillator, lambda **how: nk.Lorenz96(sites=6, **how)]
every_system = pytest.mark.parametrize("make", SYSTEMS, ids=["Lorenz63", "Pendulum", "LinearOscillator", "Lorenz96"])


class Still(nk.System):
    """A system of one's own: nothing moves."""

    labels = nk.StateLabels(("a", "b"), ("m", "s"), ("first", "second"))
    longest_substep = 1.0

    def tendency(self, x):
        return torch.zeros_like(x)

    def start(self, samples, generator, dtype, device):
        return torch.zeros(samples, 2, dtype=dtype, device=device)


def starts(system, samples=3):
    return system.start(samples, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))


def integrate_with_scipy(system, x, times):
    """The same equations by an adaptive method of order eight."""

    def tendency(_, state):
        return system.tendency(torch.from_numpy(state)).numpy()

    return solve_ivp(tendency, (0, times[-1]), x.numpy(), "DOP853", times, rtol=1e-13, atol=1e-13).y.T


@every_system
def test_trajectories_equal_those_of_scipy(make):
    system = make(longest_substep=5e-4)
    x = starts(system, 1)[0]
    found = system.trajectories(x, 6, 0.1)
    np.testing.assert_allclose(found, integrate_with_scipy(system, x, 0.1 * np.arange(6)), rtol=1e-8, atol=1e-8)


@every_system
def test_halving_the_step_divides_the_error_by_sixteen(make):
    system = make(longest_substep=10.0)
    x, end = starts(system, 1)[0], 0.2
    exact = integrate_with_scipy(system, x, np.array([0, end]))[-1]
    errors = [np.abs(system.trajectories(x, k + 1, end / k)[-1].numpy() - exact).max() for k in (20, 40)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.1)


def test_the_linear_oscillator_follows_the_matrix_exponential():
    system = nk.LinearOscillator(longest_substep=0.002)
    x = starts(system)
    M = expm(0.1 * np.array([[0, 1], [-system.stiffness, -system.damping]]))
    np.testing.assert_allclose(system.step(x, 0.1), x.numpy() @ M.T, rtol=1e-10)


def test_lorenz96_is_its_equation_on_every_site():
    x = starts(nk.Lorenz96(sites=7, forcing=5.0), 1)[0]
    expected = [(x[(i + 1) % 7] - x[i - 2]) * x[i - 1] - x[i] + 5.0 for i in range(7)]
    torch.testing.assert_close(nk.Lorenz96(sites=7, forcing=5.0).tendency(x), torch.stack(expected))


@pytest.mark.parametrize(("dt", "substeps"), [(0.01, 1), (0.025, 1), (0.03, 2), (0.05, 2), (0.075, 3)])
def test_a_step_is_cut_into_the_fewest_equal_substeps(dt, substeps):
    system = nk.Lorenz63(longest_substep=0.025)
    x = expected = starts(system)
    for _ in range(substeps):
        expected = runge_kutta(system.tendency, expected, dt / substeps)
    assert torch.equal(system.step(x, dt), expected)


@every_system
def test_a_seed_says_everything(make):
    def simulate(seed):
        return make().simulate(3, 5, 0.05, model_noise_std=0.1, seed=seed)

    assert simulate(1).identical(simulate(1))
    assert not np.isclose(simulate(1), simulate(2)).any()


def test_model_noise_is_added_once_per_step_with_its_standard_deviation():
    steps = np.diff(Still().simulate(2000, 26, 0.5, model_noise_std=0.3).values, axis=1)
    draws = steps.reshape(-1)
    assert draws.std() == pytest.approx(0.3, rel=5 / math.sqrt(2 * draws.size))
    assert draws.mean() == pytest.approx(0, abs=5 * 0.3 / math.sqrt(draws.size))
    off_diagonal = np.corrcoef(steps.reshape(2000, -1).T)[~np.eye(50, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(2000)


@every_system
def test_spinup_drops_the_first_steps(make):
    whole = make().simulate(2, 8, 0.05, seed=3)
    late = make().simulate(2, 5, 0.05, seed=3, spinup=3)
    np.testing.assert_array_equal(late, whole[:, 3:])
    assert late["time"][0] == 0


@every_system
def test_trajectories_are_differentiable_in_the_initial_state(make):
    system = make()
    assert gradcheck(lambda x: system.trajectories(x, 3, 0.1), starts(system, 2).requires_grad_())


@every_system
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_leading_dimensions_batch(make, batch):
    system = make()
    x = starts(system, math.prod(batch)).view(*batch, -1)
    found = system.trajectories(x, 4, 0.05)
    one_by_one = [system.trajectories(row, 4, 0.05) for row in x.reshape(-1, x.shape[-1])]
    torch.testing.assert_close(found, torch.stack(one_by_one).view(found.shape))


@every_system
def test_float32_computes_in_float32(make):
    truth = make().simulate(2, 4, 0.05, dtype=torch.float32)
    assert truth.dtype == np.float32
    again = make().trajectories(torch.from_numpy(truth.values[:, 0]).double(), 4, 0.05)
    np.testing.assert_allclose(truth, again, rtol=1e-5, atol=1e-4)
    assert np.abs(truth - again.numpy()).max() > 0


@every_system
def test_trajectories_are_labelled(make):
    system = make()
    truth = system.simulate(2, 4, 0.05, model_noise_std=0.1, seed=5)
    assert truth.dims == ("sample", "time", "component")
    assert truth["component"].values.tolist() == list(system.labels.components)
    assert truth["units"].values.tolist() == list(system.labels.units)
    np.testing.assert_allclose(truth["time"], [0, 0.05, 0.1, 0.15])
    assert truth.attrs | system.parameters() == truth.attrs
    assert (truth.attrs["dt"], truth.attrs["model_noise_std"], truth.attrs["seed"]) == (0.05, 0.1, 5)


def test_a_system_of_ones_own_simulates():
    truth = Still().simulate(samples=2, steps=3, dt=1.0)
    assert truth.sizes == {"sample": 2, "time": 3, "component": 2}
    assert truth["long_name"].values.tolist() == ["first", "second"]
    assert not truth.any()


GOOD = {"samples": 2, "steps": 3, "dt": 0.05}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": 0}, "samples=0"),
        ({"samples": -2}, "samples=-2"),
        ({"steps": 0}, "steps=0"),
        ({"spinup": -1}, "spinup=-1"),
        ({"dt": 0.0}, "dt=0"),
        ({"dt": -0.1}, "dt=-0.1"),
        ({"dt": math.nan}, "dt=nan"),
        ({"dt": math.inf}, "dt=inf"),
        ({"model_noise_std": -1.0}, "model_noise_std=-1"),
        ({"model_noise_std": math.inf}, "model_noise_std=inf"),
        ({"model_noise_std": math.nan}, "model_noise_std=nan"),
    ],
)
def test_what_cannot_be_simulated_is_a_named_value_error(wrong, said):
    with pytest.raises(ValueError, match=said):
        nk.Lorenz63().simulate(**(GOOD | wrong))


@pytest.mark.parametrize("longest", [0.0, -0.1, math.nan, math.inf])
def test_a_longest_substep_must_be_positive_and_finite(longest):
    with pytest.raises(ValueError, match=f"longest_substep={longest} must be positive and finite"):
        nk.Lorenz63(longest_substep=longest).simulate(**GOOD)


def test_an_overflow_is_an_error_that_names_the_step():
    with pytest.raises(ValueError, match=r"overflows with dt=5.*smaller dt"):
        nk.Lorenz63(longest_substep=5.0).simulate(samples=2, steps=20, dt=5.0)


def test_lorenz96_needs_four_sites():
    with pytest.raises(ValueError, match="sites=3"):
        nk.Lorenz96(sites=3)


def test_on_the_attractor_a_start_is_a_state_long_under_way():
    system = nk.OnAttractor(nk.Lorenz96(sites=5), time=0.4)
    x = system.simulate(2, 3, 0.05, seed=7)
    longer = nk.Lorenz96(sites=5).simulate(2, 11, 0.05, seed=7)
    np.testing.assert_allclose(x, longer.isel(time=slice(8, None)), rtol=1e-10)
    assert x.attrs["system"] == "Lorenz96" and x.attrs["on_attractor_after"] == 0.4 and x.attrs["sites"] == 5
    assert torch.equal(system.distances(), nk.Lorenz96(sites=5).distances())
    with pytest.raises(ValueError, match="log_start"):
        system.log_start(torch.zeros(5))


def test_snapshots_are_of_one_run_and_each_starts_once():
    ring = nk.Lorenz96(sites=5)
    system = nk.OnAttractor(ring, time=0.4, snapshots=6, apart=0.1)
    run = ring.simulate(1, 6, 0.1, seed=0, spinup=4).values[0]
    drawn = starts(system, 8)
    np.testing.assert_allclose(np.unique(drawn[:6], axis=0), np.unique(run, axis=0), rtol=1e-10)
    assert torch.equal(drawn[6:], drawn[:2])  # there are no more
    other = system.start(2, torch.Generator().manual_seed(1), torch.float64, torch.device("cpu"))
    assert not torch.equal(other, drawn[:2])
    assert system.simulate(1, 2, 0.1).attrs["snapshots"] == 6
    assert nk.OnAttractor(ring, time=0.4, snapshots=6).apart == 0.4
    with pytest.raises(ValueError, match="say how many"):
        nk.OnAttractor(ring, time=0.4, apart=0.1)
    with pytest.raises(ValueError, match="depends on time"):
        nk.OnAttractor(Forced(), time=0.4, snapshots=6)


@pytest.mark.parametrize("time", [0.0, -1.0, math.inf, "long"])
def test_the_way_to_the_attractor_takes_a_positive_time(time):
    with pytest.raises(ValueError, match="time="):
        nk.OnAttractor(nk.Lorenz96(), time)


def own_system(tendency, components=("x", "y"), **more):
    """A system as its user would write it."""

    def start(self, samples, generator, dtype, device):
        return torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)

    labels = nk.StateLabels(components, ("1",) * len(components), components)
    parts = {"labels": labels, "longest_substep": 0.1, "tendency": tendency, "start": start} | more
    return type("Mine", (nk.System,), parts)()


@pytest.mark.parametrize(
    ("tendency", "more", "why"),
    [
        (lambda self, x: -x[..., :1], {}, r"gives torch.float64 \(2, 1\).*last axis"),
        (lambda self, x: torch.stack([x[1], -x[0]]), {}, "last axis"),
        (lambda self, x: x[0] - x, {}, "mixes the states"),
        (lambda self, x: x.cumsum(0), {}, "mixes the states"),
        (lambda self, x: [x[..., 1], -x[..., 0]], {}, "gives list.*last axis"),
        (lambda self, x: x > 0, {}, "gives torch.bool"),
        (lambda self, x: torch.stack([x[..., 1], -x[..., 2]], -1), {}, "fails.*last axis"),
        (lambda self, x: x.neg_(), {}, "changes the states that it is given.*clone"),
        (lambda self, x, t: -x * t.squeeze(-1), {}, r"last axis.*t\[..., 0\]"),
        (lambda self, x: -x, {"components": ("x", "y", "z")}, r"start.*\(2, 2\).*\(2, 3\)"),
        (lambda self, x: -x, {"longest_substep": float("nan")}, "longest_substep"),
    ],
)
def test_a_system_that_does_not_fit_together_says_what_is_wrong(tendency, more, why):
    own_system(lambda self, x: -x).simulate(2, 3, 0.1)
    with pytest.raises(ValueError, match=why):
        own_system(tendency, **more).simulate(2, 3, 0.1)
    if "longest_substep" not in more:
        with pytest.raises(ValueError, match=why):
            nk.EnKF(own_system(tendency, **more), members=5)


def test_a_system_is_tried_once():
    calls = []
    system = own_system(lambda self, x: calls.append(x) or -x)
    for _ in range(3):
        nk.EnKF(system, members=5)
    assert len(calls) == 2
    with pytest.raises(ValueError, match="is no nk"):
        as_system(nk.Lorenz63)


def test_a_system_without_a_longest_substep_is_asked_for_one():
    system = own_system(lambda self, x: -x)
    del type(system).longest_substep
    with pytest.raises(ValueError, match="longest_substep"):
        system.simulate(2, 3, 0.1)


# Noise of any covariance

Q = np.array([[0.5, -0.2], [-0.2, 0.3]])


def test_model_noise_has_the_covariance_that_is_given():
    steps = np.diff(Still().simulate(4000, 2, 0.5, model_noise_covariance=Q, seed=1).values, axis=1)[:, 0]
    error = np.cov(steps.T) - Q
    deviation = np.sqrt((np.outer(np.diag(Q), np.diag(Q)) + Q**2) / 4000)  # of a sample covariance (Isserlis)
    assert (np.abs(error) < 5 * deviation).all()


@pytest.mark.parametrize("system", [nk.LinearOscillator(), Advection()], ids=["names", "field"])
def test_a_vector_and_a_diagonal_covariance_of_model_noise_are_the_same(system):
    std = 0.1 + np.arange(system.labels.size) / system.labels.size
    how = {"samples": 2, "steps": 4, "dt": 0.1, "seed": 2}
    one = system.simulate(model_noise_std=std, **how)
    other = system.simulate(model_noise_covariance=np.diag(std**2), **how)
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    said, as_well = one.attrs["model_noise_std"], other.attrs["model_noise_std"]
    assert said == (as_well if isinstance(said, str) else pytest.approx(as_well))  # of many numbers the range
    shaped = system.simulate(model_noise_std=std.reshape(system.shape), **how)
    np.testing.assert_array_equal(one, shaped)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model_noise_std": [0.1, 0.2]}, "model_noise_std=.* must be a number or 3 of them"),
        ({"model_noise_std": "much"}, "model_noise_std='much' must be a number"),
        ({"model_noise_covariance": np.eye(2)}, r"model_noise_covariance=.* must be a matrix \(3, 3\)"),
        ({"model_noise_covariance": -np.eye(3)}, "model_noise_covariance=.* symmetric and positive definite"),
        ({"model_noise_covariance": np.eye(3), "model_noise_std": 0.1}, "give one"),
        ({"start_time": math.nan}, "start_time=nan"),
        ({"start_time": "now"}, "start_time='now'"),
    ],
)
def test_a_noise_that_cannot_be_is_a_named_value_error(wrong, said):
    with pytest.raises(ValueError, match=said):
        nk.Lorenz63().simulate(**(GOOD | wrong))


# Starts


@pytest.mark.parametrize("system", [Still(), Advection()], ids=["names", "field"])
def test_a_start_of_any_covariance_has_it_and_its_density(system):
    n = system.labels.size
    root = np.random.default_rng(0).normal(size=(n, n)) / n**0.5 + np.eye(n)
    B, mean = root @ root.T, np.arange(n) / 5
    started = nk.Started(system, mean.reshape(system.shape), covariance=B)
    np.testing.assert_allclose(started.start_moments()[1], B, rtol=1e-12)
    x = starts(started, 20000)
    assert x.shape == (20000, *system.shape)
    deviation = np.sqrt((np.outer(np.diag(B), np.diag(B)) + B**2) / 20000)
    assert (np.abs(np.cov(x.reshape(20000, n).T) - B) < 5.5 * deviation).all()
    expected = multivariate_normal(mean, B).logpdf(x[:7].reshape(7, n))
    np.testing.assert_allclose(started.log_start(x[:7]), expected, rtol=1e-9)
    np.testing.assert_allclose(as_system(started).log_start(x[:7].reshape(7, n)), expected, rtol=1e-9)


def test_a_diagonal_covariance_of_the_start_is_its_standard_deviations():
    by_std, by_covariance = (
        nk.Started(Still(), 1.0, [2.0, 3.0]),
        nk.Started(Still(), 1.0, covariance=np.diag([4.0, 9.0])),
    )
    torch.testing.assert_close(starts(by_std), starts(by_covariance))
    torch.testing.assert_close(by_std.log_start(starts(by_std)), by_covariance.log_start(starts(by_std)))
    assert by_std.parameters() == by_covariance.parameters()
    assert Still().start_moments() is None and nk.OnAttractor(by_covariance, 1.0).start_moments() is None


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "std= or covariance="),
        ({"std": 1.0, "covariance": np.eye(2)}, "std= or covariance="),
        ({"covariance": np.eye(3)}, r"covariance=.* must be a matrix \(2, 2\)"),
        ({"covariance": np.ones((2, 2))}, "covariance=.* symmetric and positive definite"),
        ({"std": [1.0, -1.0]}, "finite and positive"),
    ],
)
def test_a_start_that_cannot_be_is_a_named_value_error(how, said):
    with pytest.raises(ValueError, match=said):
        nk.Started(Still(), 0.0, **how)


# Time


class Forced(nk.System):
    """An oscillator that is driven: x'' = -2 x - 0.1 x' + 1.5 cos 1.3 t."""

    labels = nk.StateLabels(("x", "v"), ("m", "m s-1"), ("place", "speed"), time_units="s")
    longest_substep = 0.01

    def tendency(self, x, t):
        place, speed = x.unbind(-1)
        return torch.stack([speed, -2 * place - 0.1 * speed + 1.5 * torch.cos(1.3 * t[..., 0])], -1)

    def start(self, samples, generator, dtype, device):
        return torch.randn(samples, 2, generator=generator, dtype=dtype, device=device)


def driven(x, times):
    """The same by scipy, from the first time on."""

    def tendency(t, x):
        return [x[1], -2 * x[0] - 0.1 * x[1] + 1.5 * np.cos(1.3 * t)]

    return solve_ivp(tendency, (times[0], times[-1]), x, "DOP853", times, rtol=1e-12, atol=1e-12).y.T


@pytest.mark.parametrize("spinup", [0, 4])
def test_a_driven_oscillator_follows_scipy_from_its_start_time_on(spinup):
    truth = Forced().simulate(2, 8, 0.25, seed=0, start_time=2.0, spinup=spinup)
    np.testing.assert_allclose(truth["time"], 2 + 0.25 * np.arange(8))
    assert truth.attrs["start_time"] == 2.0
    for x, first in zip(truth.values, starts(Forced(), 2), strict=True):
        times = 2 + 0.25 * np.arange(-spinup, 8)
        np.testing.assert_allclose(x, driven(first, times)[spinup:], atol=1e-8)


def test_halving_the_step_of_a_driven_oscillator_divides_its_error_by_sixteen():
    x, system = starts(Forced(), 1)[0], Forced()
    system.longest_substep = 10.0
    exact = driven(x, np.array([1.0, 3.0]))[-1]
    errors = [np.abs(system.trajectories(x, k + 1, 2 / k, start_time=1.0)[-1].numpy() - exact).max() for k in (10, 20)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)


def test_each_state_of_a_batch_has_its_own_time():
    x = starts(Forced(), 6).view(2, 3, 2)
    t = torch.arange(6).view(2, 3) / 3
    found = Forced().step(x, 0.5, t)
    for one, when, y in zip(x.view(6, 2), t.flatten(), found.view(6, 2), strict=True):
        torch.testing.assert_close(y, Forced().step(one, 0.5, float(when)))
    torch.testing.assert_close(found[0], Forced().step(x, 0.5, t[0])[0])
    with pytest.raises(ValueError, match=r"t has the shape \(5,\).*\(2, 3\)"):
        Forced().step(x, 0.5, torch.arange(5))


def test_wrapped_systems_pass_the_time_on():
    x = starts(Forced(), 3)
    expected = Forced().step(x, 0.5, 7.0)
    for system in (nk.Started(Forced(), 0.0, 1.0), nk.OnAttractor(Forced(), 2.0)):
        assert system.depends_on_time and torch.equal(system.step(x, 0.5, 7.0), expected)
    torch.testing.assert_close(
        starts(nk.OnAttractor(Forced(), 2.0)),
        torch.from_numpy(np.stack([driven(s, [-2, 0])[-1] for s in x])),
        atol=1e-7,
        rtol=0,
    )


def test_a_field_with_a_time_is_that_of_its_points():
    class Heated(Advection):
        def tendency(self, x, t):
            return super().tendency(x) + torch.sin(t)

    x, t = starts(Heated(), 3), torch.tensor([0.0, 1.0, 2.0])
    found = Heated().step(x, 0.3, t)
    # The heating is the same everywhere: it adds its integral.
    added = (t.cos() - (t + 0.3).cos()).double()[:, None, None]
    torch.testing.assert_close(found, Advection().step(x, 0.3) + added, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(as_system(Heated()).step(x.flatten(-2), 0.3, t), found.flatten(-2))


def test_a_time_that_is_needed_is_asked_for():
    x = starts(Forced())
    with pytest.raises(ValueError, match=r"tendency of Forced depends on time.*step\(x, dt, t\)"):
        Forced().step(x, 0.1)
    torch.testing.assert_close(
        nk.Lorenz63().step(starts(nk.Lorenz63()), 0.1, 3.0), nk.Lorenz63().step(starts(nk.Lorenz63()), 0.1)
    )


# Fields


def test_a_field_follows_its_fourier_modes():
    system = Advection()
    system.longest_substep = 0.005
    truth = system.simulate(2, 4, 0.25, seed=1)
    assert truth.dims == ("sample", "time", "y", "x") and truth.attrs["units"] == "K"
    assert truth["y"].attrs["units"] == "km" and truth["time"].attrs["units"] == "1"
    ky, kx = 2 * np.pi * np.fft.fftfreq(NY)[:, None], 2 * np.pi * np.fft.fftfreq(NX)
    growth = -0.7j * np.sin(kx) + 0.4j * np.sin(ky) + 0.4 * (np.cos(kx) + np.cos(ky) - 2)
    for t in range(4):
        expected = np.fft.ifft2(np.fft.fft2(truth.values[:, 0]) * np.exp(growth * 0.25 * t))
        np.testing.assert_allclose(truth[:, t], expected.real, atol=1e-8)


def test_a_folded_field_is_the_same_system():
    system, folded = Advection(), as_system(Advection())
    x = starts(system)
    assert folded.shape == (72,) and as_system(folded) is folded and folded.labels is system.labels
    assert torch.equal(starts(folded), x.flatten(-2))
    assert torch.equal(folded.step(x.flatten(-2), 0.3), system.step(x, 0.3).flatten(-2))
    assert torch.equal(folded.tendency(x.flatten(-2)), system.tendency(x).flatten(-2))
    assert torch.equal(folded.log_start(x.flatten(-2)), system.log_start(x))
    assert torch.equal(folded.distances(), system.distances().reshape(72, 72))
    assert folded.simulate(2, 3, 0.1, model_noise_std=0.1).identical(system.simulate(2, 3, 0.1, model_noise_std=0.1))


def test_a_field_that_does_not_fit_together_says_what_is_wrong():
    def changed(**parts):
        return type("Mine", (Advection,), parts)()

    for parts, why in (
        ({"start": lambda self, n, *_: torch.zeros(n, 72)}, r"start.*\(2, 72\).*\(samples, y, x\).*\(2, 8, 9\)"),
        ({"tendency": lambda self, x: x.mean(-1)}, r"last axes, \(y, x\)"),
        ({"tendency": lambda self, x: x.cumsum(0)}, "mixes the states"),
    ):
        with pytest.raises(ValueError, match=why):
            nk.EnKF(changed(**parts), members=5)


def test_a_start_that_is_given_is_known_exactly():
    system = nk.Started(nk.Lorenz63(), [1.0, 2.0, 3.0], std=[2.0, 1.0, 0.5])
    mean, covariance = system.start_moments()
    assert mean.tolist() == [1, 2, 3] and covariance.tolist() == np.diag([4.0, 1.0, 0.25]).tolist()
    assert nk.KalmanSmoother(system, 0.1).settings["start_mean"] == [1.0, 2.0, 3.0]


def test_components_have_names_that_tell_them_apart():
    with pytest.raises(ValueError, match=r"\['a', 'a'\] need different names"):
        nk.StateLabels(("a", "a"), ("1", "1"), ("a", "b"))
    with pytest.raises(ValueError, match="components=None must be a list"):
        nk.StateLabels(None, None, None)


TEXTS = {
    "start of Mine gives NoneType": {"start": lambda self, *_: None},
    "start of Mine gives ndarray": {"start": lambda self, samples, *_: np.zeros((samples, 2))},
    "start of Mine fails: TypeError.*takes 2 positional": {"start": lambda self, samples: torch.zeros(samples, 2)},
    "start of Mine fails: KeyError 'a'": {"start": lambda self, *_: {}["a"]},
    "start of Mine gives torch.float32.*torch.float64": {"start": lambda self, samples, *_: torch.zeros(samples, 2)},
    "start of Mine gives NaN": {
        "start": lambda self, samples, *_: torch.full((samples, 2), np.nan, dtype=torch.float64)
    },
    "labels=.* must be nk.StateLabels": {"labels": ("x", "y")},
    "longest_substep='a' must be positive": {"longest_substep": "a"},
    "longest_substep=None must be positive": {"longest_substep": None},
    "tendency of Mine fails.*KeyError 'a'": {"tendency": lambda self, x: {}["a"]},
    "tendency of Mine fails.*ZeroDivisionError division": {"tendency": lambda self, x: 1 / 0},
    "tendency of Mine gives torch.float32": {"tendency": lambda self, x: -x.float()},
    "tendency=3 must be a function": {"tendency": 3},
}


@pytest.mark.parametrize("said", TEXTS)
def test_what_a_system_is_made_of_is_told_from_its_faults(said):
    parts = {"tendency": lambda self, x: -x} | TEXTS[said]
    with pytest.raises(ValueError, match=said):
        own_system(**parts).simulate(2, 3, 0.1)
    if "longest_substep" not in parts:
        with pytest.raises(ValueError, match=said):
            nk.EnKF(own_system(**parts), members=5)


def test_moments_of_a_start_are_a_mean_and_a_covariance():
    with pytest.raises(ValueError, match=r"start_moments of Mine gives.*\(2,\).*\(2, 2\)"):
        nk.KalmanSmoother(own_system(lambda self, x: -x, start_moments=lambda self: (0.0, 1.0)), 0.1)


def by_numpy(self, x):
    return torch.from_numpy(-x.numpy())


@pytest.mark.parametrize("tendency", [lambda self, x: -x.detach(), by_numpy], ids=["detached", "numpy"])
def test_a_tendency_without_slopes_serves_ensembles_only(tendency):
    system, known = own_system(tendency), own_system(lambda self, x: -x)
    obs = nk.observe(known.simulate(2, 5, 0.1), noise_std=0.3)
    same = nk.EnKF(system, 0.1, members=5).assimilate(obs), nk.EnKF(known, 0.1, members=5).assimilate(obs)
    xr.testing.assert_allclose(same[0]["mean"], same[1]["mean"])
    for method in (nk.KalmanSmoother, nk.WeakFourDVar, nk.ExtendedKalmanFilter):
        with pytest.raises(ValueError, match=r"tendency of Mine.*nk.EnKF"):
            method(system, 0.1)
    for wrapped in (system, nk.Started(system, 0.0, 1.0), nk.OnAttractor(system, 0.1)):
        with pytest.raises(ValueError, match=r"tendency of Mine.*nk.EnKF"):
            nk.StrongFourDVar(wrapped)


def test_a_tendency_without_a_value_is_not_said_to_overflow_alone():
    system = own_system(lambda self, x: x.log())
    with pytest.raises(ValueError, match="no value"):
        system.simulate(2, 3, 0.1)
    obs = nk.observe(own_system(lambda self, x: -x).simulate(2, 5, 0.1), noise_std=0.3)
    with pytest.raises(ValueError, match="the model gives NaN"):
        nk.KalmanSmoother(system, 0.1).assimilate(obs)


@pytest.mark.parametrize(
    "dtype", ["float64", np.float64, float, None, torch.int32, torch.bfloat16, torch.float16, torch.complex64]
)
def test_a_dtype_is_one_of_real_numbers(dtype):
    with pytest.raises(ValueError, match=r"dtype=.*torch.float64"):
        nk.Lorenz63().simulate(**GOOD, dtype=dtype)


def test_an_ensemble_that_goes_on_from_its_members_ends_where_the_whole_one_does(tmp_path):
    """Of a linear system neither mean nor spread depends on how the members are turned at random."""
    system = nk.LinearOscillator()
    truth = system.simulate(samples=1, steps=61, dt=0.1, seed=0)
    obs = nk.observe(truth, every=5, noise_std=0.3, seed=1).isel(sample=0)
    enkf = {"members": 8, "inflation": 1.0}
    whole = nk.EnKF(system, **enkf).assimilate(obs)
    old, new = obs.isel(time=slice(30)), obs.isel(time=slice(30, None))
    last = nk.EnKF(system, **enkf).sample(nk.extend(old, 1), samples=8).isel(time=-1)
    last.to_netcdf(tmp_path / "last.nc")
    last = xr.load_dataarray(tmp_path / "last.nc")
    going_on = nk.EnKF(nk.Continued(system, last), **enkf).assimilate(new)
    for name in ("mean", "std"):
        np.testing.assert_allclose(going_on[name], whole[name][30:], atol=1e-9)
    assert going_on.attrs["system_start_members"] == 8


def test_members_of_positive_states_are_those_that_are_observed():
    growth = nk.Transformed(nk.Started(nk.LinearOscillator(), [5.0, 4.0], std=0.1), torch.log, torch.exp)
    members = xr.DataArray([[2.0, 1.0], [4.0, 3.0]], {"component": ["momentum", "angle"]}, ("member", "component"))
    start = nk.Continued(growth, members).start(2, torch.Generator(), torch.float64, "cpu")
    torch.testing.assert_close(start, torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64).log())


def test_members_are_drawn_from_where_more_or_fewer_trajectories_are_wanted():
    members = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = nk.Continued(nk.Lorenz63(), members)
    assert torch.equal(system.start(5, torch.Generator(), torch.float64, "cpu"), members)
    drawn = system.start(4000, torch.Generator().manual_seed(1), torch.float64, "cpu")
    counts = (drawn[:, None] == members).all(-1).sum(0)
    assert counts.sum() == 4000 and (counts - 800).abs().max() < 130  # five standard deviations
    mean, covariance = system.start_moments()
    torch.testing.assert_close(mean, members.mean(0))
    np.testing.assert_allclose(covariance, np.cov(members.T))
    with pytest.raises(ValueError, match="no density"):
        system.log_start(members)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", [lambda s, **known: nk.KalmanSmoother(s, 0.1, **known), nk.WeakFourDVar])
def test_few_members_need_a_spread_of_the_start(count, method):
    members = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = nk.Continued(nk.Lorenz63(), members)
    known = {} if method is not nk.WeakFourDVar else {"model_noise_std": 0.1}
    with pytest.raises(ValueError, match=r"does not spread in every direction.*nk.Continued.*start_std="):
        method(system, **known)
    with pytest.raises(ValueError, match=r"does not spread in every direction.*background="):
        nk.StrongFourDVar(system)
    assert method(system, start_std=1.0, **known).settings["start_mean"] == members.mean(0).tolist()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (torch.zeros(4, 2), "two or more states"),
        (torch.zeros(1, 3), "two or more states"),
        (torch.full((4, 3), torch.nan), "NaN or infinite"),
        (xr.DataArray(np.zeros((4, 2, 3)), dims=("member", "time", "component")), "select one record and one time"),
        (xr.DataArray(np.zeros((4, 3)), {"component": ["x", "z", "w"]}, ("member", "component")), "along 'component'"),
        ("many", "two or more|must be"),
    ],
)
def test_members_of_another_kind_are_a_named_value_error(members, said):
    with pytest.raises(ValueError, match=said):
        nk.Continued(nk.Lorenz63(), members)


def test_a_parameter_that_is_set_anew_counts_everywhere():
    class Spread(nk.Lorenz63):
        def __init__(self, width):
            super().__init__()
            self.width = width

        def start(self, samples, generator, dtype, device):
            return self.width * torch.randn(samples, 3, generator=generator, dtype=dtype, device=device)

        def start_moments(self):
            return None

    system = Spread(1.0)
    before = system.drawn_moments[1]
    system.width = 3.0
    torch.testing.assert_close(system.drawn_moments[1], 9 * before)
    assert system.drawn_moments is system.drawn_moments  # a start may be a long run


def test_arrays_step_as_tensors_do_to_the_last_bit():
    system = nk.Started(nk.Lorenz63(), [1.5, -1.5, 25.0], 2.0)
    x = system.start(7, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu")).expand(2, -1, -1)
    assert system.steps_arrays
    object.__setattr__(system.system, "longest_substep", 0.01)  # it counts, not the one that was wrapped
    for dtype in (torch.float64, torch.float32):
        few = advance_without_slopes(system, 0.05, x.to(dtype), torch.zeros(3))
        one = advance(system, 0.05, x.to(dtype), torch.zeros(()))
        two = advance(system, 0.05, one, torch.zeros(()))
        assert few.dtype == dtype and torch.equal(few[:2], torch.stack([one, two])) and len(few) == 3


def test_many_states_are_stepped_as_each_alone_each_at_its_time():
    class Driven(nk.System):
        labels = nk.GridLabels({"y": range(120), "x": range(130)}, units="K")
        longest_substep = 0.05

        def tendency(self, x, t):
            return t.sin() - x.roll(1, -1)

        def start(self, samples, generator, dtype, device):
            return torch.randn(samples, *self.shape, generator=generator, dtype=dtype, device=device)

    system = Driven()
    x = system.start(10, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu")).unflatten(0, (5, 2))
    t = torch.linspace(0, 3, 5, dtype=torch.float64)[:, None]
    assert x.numel() > 2 * AT_ONCE
    alone = [system.step(each, 0.1, its) for each, its in zip(x.flatten(0, 1), t.expand(5, 2).flatten(), strict=True)]
    torch.testing.assert_close(system.step(x, 0.1, t).flatten(0, 1), torch.stack(alone))


def test_groups_of_states_are_alike():
    made = []

    class Counting(Still):
        def tendency(self, x):
            made.append(len(x))
            return torch.zeros_like(x)

    most = AT_ONCE * torch.get_num_threads() // 2
    Counting().step(torch.zeros(2 * most + 1, 2), 1.0)
    assert max(made) - min(made) <= 3  # a last group of one would cost as much as one of many
    assert sum(made) == 4 * (2 * most + 1)


def test_arrays_are_stepped_as_far_as_all_are_finite():
    system, times = nk.Lorenz63(), torch.zeros(9)
    x = torch.tensor([[1.0, 1.0, 1.0], [400.0, 400.0, 400.0]], dtype=torch.float64)
    found = advance_without_slopes(system, 0.05, x, times)
    assert 1 < len(found) < len(times)
    assert found[:-1].isfinite().all() and found[-1, 0].isfinite().all() and not found[-1, 1].isfinite().all()


def test_no_step_is_made_beyond_the_first_that_is_not_finite(monkeypatch):
    system, made = nk.Lorenz63(), []
    monkeypatch.setattr(nk.Lorenz63, "in_substeps", lambda self, x, dt, t=None: made.append(0) or x * np.inf)
    found = advance_without_slopes(system, 0.05, torch.ones(1, 3, dtype=torch.float64), torch.zeros(9))
    assert len(found) == len(made) == 1


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
def test_many_states_with_parameters_of_their_own_or_as_arrays_are_stepped_at_once(kind):
    count = AT_ONCE // 3 * torch.get_num_threads() + 10
    x = kind(np.ones((count, 3)))
    system = nk.Lorenz63(rho=torch.linspace(20, 30, count).double()) if kind is torch.as_tensor else nk.Lorenz63()
    found = system.step(x, 0.05)
    assert found.shape == x.shape and type(found) is type(x)
    alone = nk.Lorenz63(rho=30.0 if kind is torch.as_tensor else 28.0).step(x[-1:], 0.05)
    np.testing.assert_allclose(found[-1:], alone, rtol=1e-12)


def test_a_folded_field_takes_the_same_substeps_as_steps():
    field = as_system(Advection(), slopes=False)
    x = field.start(2, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
    assert x.shape[-1] == NX * NY
    assert torch.equal(field.in_substeps(x, 0.1), field.step(x, 0.1))


def test_a_tendency_of_ones_own_and_parameters_that_are_tensors_are_stepped_as_tensors():
    class Own(nk.Lorenz63):
        def tendency(self, x):
            return -x.clamp(min=0.0)  # NumPy knows no such method

    class OwnStep(nk.Lorenz63):
        def step(self, x, dt, t=None):
            return x.clamp(min=0.0)

    logarithm = nk.Transformed(nk.Started(nk.Lorenz63(), [9.0, 9.0, 25.0], 0.1), torch.log, torch.exp)
    x = torch.full((1, 3), 2.0, dtype=torch.float64)
    for system in (Own(), OwnStep(), nk.Lorenz63(rho=torch.tensor(28.0)), nk.Lorenz63(rho=np.float64(28)), logarithm):
        assert not system.steps_arrays
        assert torch.equal(advance_without_slopes(system, 0.05, x, torch.zeros(3)), system.step(x, 0.05)[None])
