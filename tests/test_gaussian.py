"""Conditioning, densities and draws against dense numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.jacobian import linearise

STEPS, N, P = 5, 3, 2


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_gaussian(batch=(), width=1):
    factor = 0.3 * draw(*batch, STEPS, width + 1, N, N, seed=width)
    factor[..., 0, :, :] += 2 * torch.eye(N)
    return Gaussian(draw(*batch, STEPS, N, seed=2), BlockBanded.gram(factor))


def draw_observations(batch=(), seed=3):
    """(H, R, y), a third of y missing."""
    H, y = draw(*batch, STEPS, P, N, seed=seed), draw(*batch, STEPS, P, seed=seed + 10)
    missing = draw(*batch, STEPS, P, seed=seed + 20) > 0.4
    assert 0 < missing.sum() < missing.numel()
    return H, draw(*batch, STEPS, P, seed=seed + 30).square() + 0.1, y.where(~missing, torch.nan)


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
    posterior = prior.condition(H, R, y)
    assert_same(posterior.mean.flatten(), mean + gain @ (y_seen - rows @ mean))
    assert_same(posterior.std.flatten() ** 2, (covariance - gain @ rows @ covariance).diagonal().copy())


def test_a_batch_is_conditioned_window_by_window():
    prior, (H, R, y) = draw_gaussian((2,)), draw_observations((2,))
    together = prior.condition(H, R, y)
    for i in range(2):
        alone = Gaussian(prior.centre[i], BlockBanded(prior.precision.blocks[i])).condition(H[i], R[i], y[i])
        assert_same(together.mean[i], alone.mean)


def test_one_prior_serves_a_batch_of_observations():
    prior, (H, R, y) = draw_gaussian(), draw_observations((3,))
    posterior = prior.condition(H, R, y)
    for i in range(3):
        assert_same(posterior.mean[i], prior.condition(H[i], R[i], y[i]).mean)


def test_conditioning_in_two_parts_equals_conditioning_at_once():
    prior, (H, R, y) = draw_gaussian(), draw_observations()
    H2, R2, y2 = draw_observations(seed=4)
    parts = prior.condition(H, R, y).condition(H2, R2, y2)
    once = prior.condition(torch.cat([H, H2], -2), torch.cat([R, R2], -1), torch.cat([y, y2], -1))
    assert_same(parts.mean, once.mean)
    assert_same(parts.std, once.std)


def test_nothing_observed_changes_nothing():
    prior, (H, R, y) = draw_gaussian(), draw_observations()
    posterior = prior.condition(H, R, torch.full_like(y, torch.nan))
    assert torch.equal(posterior.mean, prior.mean)
    assert torch.equal(posterior.std, prior.std)


def test_the_centre_may_lie_far_from_the_mean():
    near, (H, R, y) = draw_gaussian(), draw_observations()
    centre = near.mean + 1e6
    far = Gaussian(centre, near.precision, near.precision.matvec(near.mean - centre))
    for a, b in [(far, near), (far.condition(H, R, y), near.condition(H, R, y))]:
        assert_same(a.mean, b.mean, scale=1e6)


def test_at_moves_the_mean_and_keeps_the_spread():
    posterior = draw_gaussian().condition(*draw_observations())
    moved = posterior.at(draw(STEPS, N, seed=9))
    assert torch.equal(moved.mean, draw(STEPS, N, seed=9))
    assert torch.equal(moved.std, posterior.std)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_log_prob_is_that_of_scipy(batch):
    posterior = draw_gaussian(batch).condition(*draw_observations(batch))
    x = draw(*batch, STEPS, N, seed=7)
    covariance = torch.linalg.inv(posterior.precision.dense()).numpy().reshape(-1, STEPS * N, STEPS * N)
    means, points = posterior.mean.reshape(-1, STEPS * N).numpy(), x.reshape(-1, STEPS * N).numpy()
    expected = [multivariate_normal(m, c).logpdf(p) for m, c, p in zip(means, covariance, points, strict=True)]
    assert_same(posterior.log_prob(x).flatten(), np.array(expected))


def test_samples_have_the_mean_and_the_covariance():
    posterior = draw_gaussian().condition(*draw_observations())
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
