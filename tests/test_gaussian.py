"""Conditioning, densities and draws against dense numpy and scipy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from statements import measured

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.jacobian import linearise
from nida_kit.linalg.rows import Banded, Whole
from nida_kit.linalg.solvers import Assembled, Bordered

STEPS, N, P = 5, 3, 2


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_gaussian(batch=(), width=1):
    factor = 0.3 * draw(*batch, STEPS, width + 1, N, N, seed=width)
    factor[..., 0, :, :] += 2 * torch.eye(N)
    return Gaussian.of(draw(*batch, STEPS, N, seed=2), Banded(factor))


def draw_observations(batch=(), seed=3):
    """(H, R, y), a third of y missing."""
    H, y = draw(*batch, STEPS, P, N, seed=seed), draw(*batch, STEPS, P, seed=seed + 10)
    missing = draw(*batch, STEPS, P, seed=seed + 20) > 0.4
    assert 0 < missing.sum() < missing.numel()
    return H, draw(*batch, STEPS, P, seed=seed + 30).square() + 0.1, y.where(~missing, torch.nan)


def condition(prior, H, R, y):
    return prior.condition(measured(prior.centre, H, R, y))


def assert_same(actual, expected, scale=1.0):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_condition_is_the_dense_formula_on_what_was_observed(width):
    prior, (H, R, y) = draw_gaussian(width=width), draw_observations()
    rows = np.zeros((STEPS, P, STEPS, N))
    for t in range(STEPS):
        rows[t, :, t, :] = H[t]
    seen = ~y.isnan().flatten().numpy()
    rows, error, y_seen = rows.reshape(-1, STEPS * N)[seen], R.flatten().numpy()[seen], y.flatten().numpy()[seen]
    mean, covariance = prior.mean.flatten().numpy(), np.linalg.inv(prior.precision.dense().numpy())
    # The gain form: nothing of it is shared with the precision form.
    gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T + np.diag(error))
    posterior = condition(prior, H, R, y)
    assert_same(posterior.mean.flatten(), mean + gain @ (y_seen - rows @ mean))
    assert_same(posterior.std.flatten() ** 2, (covariance - gain @ rows @ covariance).diagonal().copy())


def test_a_batch_is_conditioned_window_by_window():
    prior, (H, R, y) = draw_gaussian((2,)), draw_observations((2,))
    together = condition(prior, H, R, y)
    for i in range(2):
        alone = Gaussian.of(prior.centre[i], Banded(prior.rows.parts[0].factor[i]))
        alone = condition(alone, H[i], R[i], y[i])
        assert_same(together.mean[i], alone.mean)


def test_one_prior_serves_a_batch_of_observations():
    prior, (H, R, y) = draw_gaussian(), draw_observations((3,))
    posterior = condition(prior, H, R, y)
    for i in range(3):
        assert_same(posterior.mean[i], condition(prior, H[i], R[i], y[i]).mean)


def test_conditioning_in_two_parts_equals_conditioning_at_once():
    prior, (H, R, y) = draw_gaussian(), draw_observations()
    H2, R2, y2 = draw_observations(seed=4)
    parts = condition(condition(prior, H, R, y), H2, R2, y2)
    once = condition(prior, torch.cat([H, H2], -2), torch.cat([R, R2], -1), torch.cat([y, y2], -1))
    assert_same(parts.mean, once.mean)
    assert_same(parts.std, once.std)


def test_nothing_observed_changes_nothing():
    prior, (H, R, y) = draw_gaussian(), draw_observations()
    posterior = condition(prior, H, R, torch.full_like(y, torch.nan))
    assert torch.equal(posterior.mean, prior.mean)
    assert torch.equal(posterior.std, prior.std)


def test_the_centre_may_lie_far_from_the_mean():
    near, (H, R, y) = draw_gaussian(), draw_observations()
    centre = near.mean + 1e6
    (rows,) = near.rows.parts
    far = Gaussian.of(centre, rows, rows.push(centre - near.mean))
    for a, b in [(far, near), (condition(far, H, R, y), condition(near, H, R, y))]:
        assert_same(a.mean, b.mean, scale=1e6)


def test_at_moves_the_mean_and_keeps_the_spread():
    posterior = condition(draw_gaussian(), *draw_observations())
    moved = posterior.at(draw(STEPS, N, seed=9))
    assert torch.equal(moved.mean, draw(STEPS, N, seed=9))
    assert torch.equal(moved.std, posterior.std)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_log_prob_is_that_of_scipy(batch):
    posterior = condition(draw_gaussian(batch), *draw_observations(batch))
    x = draw(*batch, STEPS, N, seed=7)
    covariance = torch.linalg.inv(posterior.precision.dense()).numpy().reshape(-1, STEPS * N, STEPS * N)
    means, points = posterior.mean.reshape(-1, STEPS * N).numpy(), x.reshape(-1, STEPS * N).numpy()
    expected = [multivariate_normal(m, c).logpdf(p) for m, c, p in zip(means, covariance, points, strict=True)]
    assert_same(posterior.log_prob(x).flatten(), np.array(expected))


def test_samples_have_the_mean_and_the_covariance():
    posterior = condition(draw_gaussian(), *draw_observations())
    draws = posterior.sample(draw(20_000, STEPS, N, seed=8)).flatten(1)
    covariance = torch.linalg.inv(posterior.precision.dense())
    std = covariance.diagonal().sqrt()
    # Five standard errors: of a mean 1 / sqrt(draws), of a correlation at most as much.
    assert (((draws.mean(0) - posterior.mean.flatten()) / std).abs() < 5 / 20_000**0.5).all()
    assert (((draws.T.cov() - covariance) / torch.outer(std, std)).abs() < 5 * (2 / 20_000) ** 0.5).all()


@pytest.mark.parametrize("draws", [(4,), (4, 2), (1, 2)])
def test_draws_broadcast_against_the_batch(draws):
    gaussian = draw_gaussian((2,))
    noise = draw(*(draws if len(draws) > 1 else (4, 1)), STEPS, N)
    assert gaussian.sample(noise).shape == (draws[0], 2, STEPS, N)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_linearise_gives_value_and_jacobian(batch):
    def h(x):
        return torch.stack([x[..., 0] * x[..., 1], x[..., 2].sin()], -1)

    x, step = draw(*batch, 3), 1e-5
    value, jacobian = linearise(h, x)
    assert torch.equal(value, h(x))
    for i in range(3):
        e = step * torch.eye(3, dtype=torch.float64)[i]
        torch.testing.assert_close(jacobian[..., i], (h(x + e) - h(x - e)) / (2 * step), rtol=1e-8, atol=1e-8)


def generated(batch=()):
    """x = c + L z, z of three numbers, and the dense L."""
    L = draw(STEPS * N, 3, seed=11)
    rows = Whole(L.mT.reshape(3, STEPS, N))

    class Turned:
        def push(self, z):
            return rows.pull(z)

        def pull(self, x):
            return rows.push(x)

    return Gaussian.generated(draw(STEPS, N, seed=12), Turned(), (*batch, 1, 3)), L


def test_a_gaussian_known_by_its_generator_is_conditioned_as_the_dense_one():
    prior, L = generated()
    seen = measured(prior.centre, *draw_observations())
    J, r = seen.rows.dense(), seen.residual[0].flatten()
    z = -torch.linalg.solve(torch.eye(3).double() + (J @ L).mT @ J @ L, (J @ L).mT @ r)
    posterior = prior.condition(seen)
    assert_same(posterior.mean.flatten(), prior.centre.flatten() + L @ z)
    draws = posterior.draw(20_000, torch.Generator().manual_seed(0)).flatten(1)
    covariance = L @ torch.linalg.inv(torch.eye(3).double() + (J @ L).mT @ J @ L) @ L.mT
    std = covariance.diagonal().sqrt()
    assert (((draws.mean(0) - posterior.mean.flatten()) / std).abs() < 5 / 20_000**0.5).all()
    assert (((draws.T.cov() - covariance) / torch.outer(std, std)).abs() < 5 * (2 / 20_000) ** 0.5).all()
    for ask in (
        lambda g: g.std,
        lambda g: g.misfit(g.centre),
        lambda g: g.sample(g.centre),
        lambda g: g.around(g.mean),
    ):
        with pytest.raises(ValueError, match="known by its generator"):
            ask(posterior)


@pytest.mark.parametrize("draws", [3, 5])
def test_draws_by_perturbed_rows_have_the_batch_of_all_statements(draws):
    prior, (H, R, y) = draw_gaussian(), draw_observations((3,))
    found = condition(prior, H, R, y).draw(draws, torch.Generator().manual_seed(0))
    assert found.shape == (draws, 3, STEPS, N)
    assert (found[:, 0] - found[:, 1]).abs().min() > 0


@pytest.mark.parametrize("kind", [Assembled, Bordered])
@pytest.mark.parametrize("first", ["mean", "std"])
def test_spreads_have_the_same_slopes_whether_the_mean_was_asked_for_first(kind, first):
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    prior = draw_gaussian()
    whole = Gaussian.of(prior.centre, Whole(scale * draw(2, STEPS, N, seed=20)), draw(1, 2, seed=21))
    # The rows over the window come first: the order of statements must not matter.
    together = replace(whole.condition(prior), solver=lambda rows: kind(rows))
    getattr(together, first)
    (slope,) = torch.autograd.grad(together.std.sum() + together.mean.sum(), scale)

    def dense(s):
        rows = torch.cat([prior.rows.dense(), (s * draw(2, STEPS, N, seed=20)).flatten(1)])
        covariance = torch.linalg.inv(rows.mT @ rows)
        r = torch.cat([torch.zeros(STEPS * N).double(), draw(2, seed=21)])
        return covariance.diagonal().sqrt().sum() + (prior.centre.flatten() - covariance @ rows.mT @ r).sum()

    assert_same(together.std.sum() + together.mean.sum(), dense(scale).detach())
    assert_same(slope, torch.autograd.grad(dense(scale), scale)[0], scale=10)
