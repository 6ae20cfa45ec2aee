"""Weak-constraint 4D-Var of fields, against dense algebra where the model is linear, and its own cost where not."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from advection import NX, NY, Advection

import nida_kit as nk
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import averaged
from nida_kit.linalg.rows import Diagonal, Stack
from nida_kit.linalg.solvers import Iterative
from nida_kit.observing.observations import Observations
from nida_kit.priors.field_physics import FieldPhysics
from nida_kit.systems.system import as_system

N, STEPS, DT, Q = NY * NX, 4, 0.2, 0.3
PAST = Advection().simulate(samples=40, steps=16, dt=DT, model_noise_std=0.3, seed=0)
OI = nk.OptimalInterpolation.fit_field(PAST, steps=STEPS, modes=20)
TRUTH = Advection().simulate(samples=2, steps=STEPS, dt=DT, model_noise_std=0.1, seed=1)
OBS = nk.observe(TRUTH, fraction=0.4, noise_std=0.3, seed=2)
SYSTEM = as_system(Advection())


def advance(x, t):
    return SYSTEM.step(x, DT)


def physics(solver=Iterative):
    return FieldPhysics(advance, OI.climatology, Q, solver)


def tensors(obs=OBS):
    value = torch.from_numpy(obs["value"].values).flatten(-2)
    return Observations(value, torch.full_like(value, 0.3))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_prior():
    """Mean and covariance of a window, N = T n."""
    M = torch.func.jacrev(lambda x: advance(x, 0))(torch.zeros(N, dtype=torch.float64))
    root = OI.climatology.root(torch.ones(1, dtype=torch.float64))
    B = root.patterns @ root.patterns.mT + torch.diag(root.rest.square())
    mean, covariance = [OI.climatology.mean[0]], torch.zeros(STEPS, N, STEPS, N, dtype=torch.float64)
    own = B
    for t in range(STEPS):
        block = own
        for later in range(t, STEPS):
            covariance[later, :, t], covariance[t, :, later] = block, block.mT
            block = M @ block
        own = M @ own @ M.mT + Q**2 * B
        mean.append(M @ mean[-1])
    return torch.cat(mean[:-1]), covariance.reshape(STEPS * N, STEPS * N)


def dense():
    """Mean and standard deviations given the observations of each window."""
    mean, C = dense_prior()
    found = []
    for y in tensors().value.flatten(-2):
        seen = ~y.isnan()
        gain = torch.linalg.solve(C[seen][:, seen] + 0.09 * torch.eye(int(seen.sum())).double(), C[seen]).mT
        found.append((mean + gain @ (y - mean)[seen], (C - gain @ C[seen]).diagonal().sqrt()))
    return (torch.stack(x).view(2, STEPS, N) for x in zip(*found, strict=True))


@pytest.mark.parametrize("seed", [0, 1])
def test_of_a_linear_model_it_equals_dense_algebra_to_1e_8_wherever_it_is_linearised(seed):
    x = 3 * normal(2, STEPS, N, seed=seed)
    found = physics().around(x).condition(tensors().around(x)).mean
    expected, _ = dense()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_its_misfit_is_that_of_the_dense_prior():
    x = normal(2, STEPS, N, seed=3)
    mean, C = dense_prior()
    away = x.flatten(-2) - mean
    expected = (away * torch.linalg.solve(C, away.mT).mT).sum(-1) / 2
    torch.testing.assert_close(physics().misfit(x), expected, rtol=1e-8, atol=0)


def test_the_method_gives_the_mean_and_about_the_spread_of_dense_algebra():
    result = nk.FieldFourDVar(Advection(), OI, model_error=Q, draws=60).assimilate(OBS)
    mean, std = dense()
    assert result["mean"].dims == ("sample", "time", "y", "x") and result["converged"].all()
    off = (torch.from_numpy(result["mean"].values).flatten(-2) - mean) / std
    assert off.square().mean().sqrt() < 1e-2
    # Averaged over neighbours, though those of this field are hardly alike; 60 draws are off by 9% and more.
    expected = averaged(std.square(), torch.ones(NY, NX).double()).sqrt() + 0.005 * OI.climatology.spread
    found = torch.from_numpy(result["std"].values).flatten(-2)
    assert (found / expected - 1).square().mean().sqrt() < 0.16


def test_no_value_that_was_seen_is_known_worse_than_by_its_own_error():
    few = nk.observe(TRUTH, fraction=0.05, noise_std=0.05, seed=4)
    std = nk.FieldFourDVar(Advection(), OI, model_error=Q, draws=4).assimilate(few)["std"]
    seen = few["value"].notnull()
    assert float(std.where(seen).max()) <= 0.05 < float(std.where(~seen).min())


def test_draws_spread_as_dense_algebra_says():
    drawn = nk.FieldFourDVar(Advection(), OI, model_error=Q).sample(OBS, 100, seed=3)
    mean, std = dense()
    away = torch.from_numpy(drawn.values).flatten(-2) - mean
    assert (away.mean(0) / std).square().mean().sqrt() == pytest.approx(0.1, rel=0.3)
    assert (away.square().mean(0).sqrt() / std).mean() == pytest.approx(1, rel=0.03)


class Ocean:
    """A model that is not linear."""

    system = nk.QuasiGeostrophic(cells=17)
    past = system.simulate(samples=60, steps=12, dt=5.0, seed=0)
    interpolation = nk.OptimalInterpolation.fit_field(past, steps=3, modes=60)
    truth = system.simulate(samples=2, steps=3, dt=5.0, seed=1)
    obs = nk.observe(truth, fraction=0.3, noise_std=2.0, seed=2)

    observations = Observations(torch.from_numpy(obs["value"].values).flatten(-2), torch.full((3, 289), 2.0).double())

    @classmethod
    def method(cls, **options):
        return nk.FieldFourDVar(cls.system, cls.interpolation, **{"draws": 1, **options})


def path_of(**options):
    """The first guess and the estimate after each outer loop."""
    path, _ = Ocean.method(**options)._path(Ocean.observations, 5.0, None)
    return [each.centre for each in path]


def test_outer_loops_end_where_the_cost_has_no_slope():
    prior = Ocean.method()._prior(5.0, None)

    def slope(x):
        x = x.clone().requires_grad_()
        cost = prior.misfit(x).sum() + Ocean.observations.around(x).residual[0].square().sum() / 2
        return prior.around(x.detach()).generator.pull(torch.autograd.grad(cost, x)[0]).norm()

    path = path_of(outer=4)
    assert len(path) == 5
    assert slope(path[4]) < 1e-2 * slope(path[1])


def test_few_iterations_stay_near_the_first_guess():
    start, converged = path_of(outer=1)
    misfits = [
        Ocean.observations.misfit(x).sum() for x in (start, *(path_of(outer=1, iterations=k)[1] for k in (1, 4)))
    ]
    assert misfits[0] > misfits[1] > misfits[2]
    many = path_of(outer=1, iterations=100)[1]
    assert (many - converged).norm() < 1e-2 * (converged - start).norm()


def errors_of(x, prior):
    """What each step has beyond the model's, and the start beyond the climatology."""
    ahead = [prior.advance(state, t) for t, state in enumerate(x.split(1, -2)[:-1])]
    return x - torch.cat([prior.climatology.mean.expand_as(x[:, :1]), *ahead], -2)


def test_an_answer_has_the_errors_that_slopes_gave_it_however_far_it_moved():
    prior, x = Ocean.method()._prior(5.0, None), torch.from_numpy(Ocean.truth.values).flatten(-2)
    generator = prior.around(x).generator
    z = normal(2, *generator.noise, seed=6)
    moved = Gaussian(x, Stack((Diagonal(torch.ones_like(z)),)), (-z,), generator)  # its mean is z
    found = errors_of(prior.along(moved).estimate, prior) - errors_of(x, prior)
    torch.testing.assert_close(found, generator.errors.push(z), rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.estimate, x + generator.push(z), rtol=0, atol=1e-6)


def test_of_a_linear_model_errors_run_through_it_lead_to_the_mean_and_so_do_gradients():
    value = (torch.from_numpy(TRUTH.values).flatten(-2) + 0.1).where(tensors().seen, torch.nan).requires_grad_()
    observations = Observations(value, torch.full_like(value, 0.3).detach())
    x, weight = normal(2, STEPS, N, seed=8), normal(2, STEPS, N, seed=9)
    posterior = physics().around(x).condition(observations.around(x))
    found, expected = physics().along(posterior).estimate, posterior.estimate
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    slopes, right = (torch.autograd.grad((m * weight).sum(), value, retain_graph=True)[0] for m in (found, expected))
    torch.testing.assert_close(slopes, right, rtol=0, atol=1e-6 * float(right.nan_to_num().abs().max()))


def test_from_a_start_with_scales_that_the_climatology_never_has_the_cost_falls_with_the_iterations():
    rough = Ocean.truth + 0.5 * np.random.default_rng(0).normal(size=Ocean.truth.shape)
    prior, first = Ocean.method()._prior(5.0, None), torch.from_numpy(rough.values).flatten(-2)
    start = prior.forecast(prior.held(first[:, :1]), 3)
    costs = [(prior.misfit(start) + Ocean.observations.misfit(start)).sum()]
    for iterations in (1, 3, 10, 30):
        path, _ = Ocean.method(outer=1, iterations=iterations)._path(Ocean.observations, 5.0, first)
        costs.append((prior.misfit(path[-1].centre) + Ocean.observations.misfit(path[-1].centre)).sum())
    assert all(later < 1.001 * earlier for earlier, later in pairwise(costs)) and 10 * costs[-1] < costs[0]
    assert 100 * costs[0] < (prior.misfit(first) + Ocean.observations.misfit(first)).sum()


def test_it_beats_what_it_starts_from_and_says_what_has_not_converged():
    start = Ocean.interpolation.assimilate(Ocean.obs)
    with pytest.warns(UserWarning, match="has not converged"):
        result = Ocean.method(outer=1).assimilate(Ocean.obs, start["mean"] * 0 + 3.0, trace=True)
    assert not result["converged"].all() and result.sizes["step"] == 1
    assert nk.rmse(result["mean"][0], Ocean.truth) < nk.rmse(start["mean"], Ocean.truth)


def test_a_chunked_record_is_lazy_and_the_same_behind_another_method():
    method = nk.Chain([Ocean.interpolation, Ocean.method(outer=1, iterations=4)])
    eager, lazy = method.assimilate(Ocean.obs), method.assimilate(Ocean.obs.chunk(sample=1))
    assert lazy["mean"].chunks is not None
    xr.testing.assert_allclose(lazy["mean"].compute(), eager["mean"], rtol=1e-6, atol=1e-8)


def test_a_prior_of_physics_is_a_prior_of_the_loop():
    x = normal(2, STEPS, N, seed=5)
    local = physics()(Gaussian.flat(x), 0.0)
    assert torch.equal(local.centre, x)
    np.testing.assert_allclose(local.residual[0].square().sum((-2, -1)) / 2, physics().misfit(x))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nk.FieldFourDVar(nk.QuasiGeostrophic(cells=17), OI), "give one that was fitted to trajectories"),
        (lambda: nk.FieldFourDVar(Advection(), OI.climatology), "nk.OptimalInterpolation"),
        (
            lambda: nk.FieldFourDVar(Advection(), nk.OptimalInterpolation.fit(PAST, order=0, shrinkage="auto")),
            "by its modes",
        ),
        (lambda: nk.FieldFourDVar(Advection(), OI, model_error=0), "model_error"),
        (lambda: nk.FieldFourDVar(Advection(), OI, iterations=0), "iterations"),
        (lambda: nk.FieldFourDVar(Advection(), OI, outer=0), "outer"),
        (lambda: nk.FieldFourDVar(Advection(), OI, draws=0), "draws"),
    ],
)
def test_what_it_cannot_do_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_result_says_how_far_conjugate_gradients_came():
    few = nk.FieldFourDVar(Advection(), OI, outer=2, iterations=3, draws=1).assimilate(OBS)
    assert (few["solver_iterations"] == 6).all()  # of both outer loops
    many = nk.FieldFourDVar(Advection(), OI, outer=2, draws=1).assimilate(OBS)
    assert (many["solver_iterations"] > 6).all() and (many["solver_residual"] <= 1e-3).all()
    assert (few["solver_residual"] > many["solver_residual"]).all()
