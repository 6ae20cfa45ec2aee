"""Priors against the covariances, dynamics and symmetries that they stand for."""

import inspect

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import multivariate_normal

import nida_kit as nk
from nida_kit.gaussian import Gaussian
from nida_kit.linalg import solvers
from nida_kit.linalg.rows import Diagonal
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.paper import PaperPrior
from nida_kit.priors.physics import Physics
from nida_kit.priors.ring import RingPrior
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.statement import Prior

N = 2


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=1e-8, atol=1e-8)


def with_moments(mean, covariance, windows=200):
    """Windows `(windows, T, N)` whose sample mean and covariance are exactly these."""
    x = draw(windows, len(mean))
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T.cov()), (x - x.mean(0)).T, upper=False)
    return (mean + (torch.linalg.cholesky(covariance) @ x).T).view(windows, -1, N)


def autoregression(order, steps):
    """Covariance of `steps` states of a stationary vector autoregression, by its companion form."""
    rng = np.random.default_rng(order)
    A = np.zeros((N * order, N * order))
    A[:N] = rng.normal(size=(N, N * order)) * 0.4 / order
    A[N:, :-N] = np.eye(N * (order - 1))
    Q = np.zeros_like(A)
    Q[:N, :N] = [[1.0, 0.3], [0.3, 0.5]]
    now = solve_discrete_lyapunov(A, Q)
    lags = [(np.linalg.matrix_power(A, k) @ now)[:N, :N] for k in range(steps)]
    blocks = [[lags[i - j] if i >= j else lags[j - i].T for j in range(steps)] for i in range(steps)]
    return torch.from_numpy(np.block(blocks))


# Climatology


def test_the_full_climatology_inverts_the_sample_covariance():
    windows = draw(300, 4, N).cumsum(1)
    prior = Climatology.fit(windows).over(4)
    assert_same(prior.mean, windows.mean(0))
    assert_same(prior.precision.dense(), np.linalg.inv(np.cov(windows.flatten(1).numpy().T)))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10])
def test_a_markov_climatology_is_the_autoregression_over_any_window(order, steps):
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64).repeat(order + 1)
    climatology = Climatology.fit(with_moments(mean, autoregression(order, order + 1)), order)
    prior = climatology.over(steps)
    assert_same(prior.precision.dense(), torch.linalg.inv(autoregression(order, steps)))
    assert_same(prior.mean, mean[:2].expand(steps, 2))


def test_smaller_orders_pool_all_stretches():
    windows = draw(50, 6, N)
    stretches = torch.cat([windows[:, t : t + 2] for t in range(5)])
    again = Climatology.fit(stretches, 1)
    for a, b in zip(vars(Climatology.fit(windows, 1)).values(), vars(again).values(), strict=True):
        if a.shape != (N,):
            torch.testing.assert_close(a, b)


def test_the_climatology_knows_each_components_spread():
    windows = draw(100, 5, N) * torch.tensor([1.0, 30.0])
    assert_same(Climatology.fit(windows).spread, windows.numpy().std((0, 1), ddof=1))


@pytest.mark.parametrize(
    ("windows", "order", "said"),
    [
        (draw(8, 4, N), None, "8 stretches cannot.*8 numbers.*shrinkage="),
        (draw(50, 4, N), 4, "order=4 must be a whole number from 0 to 3"),
        (draw(50, 4, N), -1, "order=-1"),
        (draw(50, 4, N) * torch.tensor([1.0, 0.0]), None, "singular.*constant"),
        (draw(50, 1, N).expand(-1, 4, -1), None, "singular.*smaller order.*shrinkage="),
        (draw(50, 4, N) * torch.tensor([1.0, float("nan")]), None, "seen together in 0 of 50 stretches"),
        (draw(50, 4, N) * torch.tensor([1.0, float("inf")]), None, "infinite values: make them NaN"),
    ],
)
def test_a_climatology_without_an_inverse_is_an_error(windows, order, said):
    with pytest.raises(ValueError, match=said):
        Climatology.fit(windows, order)


def test_a_climatology_may_be_given_by_its_moments():
    mean, covariance = draw(3, N), autoregression(2, 3)
    prior = Climatology.from_covariance(mean, covariance, torch.ones(N).double()).over(3)
    assert_same(prior.mean, mean)
    assert_same(torch.linalg.inv(prior.precision.dense()), covariance)
    with pytest.raises(ValueError, match="singular"):
        Climatology.from_covariance(mean, 0 * covariance, torch.ones(N).double())


# Physics


def physics(system=None, dt=0.1):
    system = system or nk.Pendulum()

    def step(x):
        return system.step(x, dt)

    return Physics(step, *torch.tensor([[0.1, 0.2], [0.5, -0.3], [1.0, 2.0]], dtype=torch.float64))


def residuals_by_hand(prior, x):
    """Start and model errors, each over its standard deviation, one step after the other."""
    rows = [(x[0] - prior.start_mean) / prior.start.std]
    rows += [(x[t + 1] - prior.step(x[t])) / prior.noise.std for t in range(len(x) - 1)]
    return torch.stack(rows).flatten()


def slope(f, x, step=1e-5):
    """Central differences of f along every entry of x, as the last axis."""
    units = step * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    return torch.stack([(f(x + e) - f(x - e)) / (2 * step) for e in units], -1)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_physics_is_the_gauss_newton_view_of_its_misfit(steps):
    prior, x = physics(), draw(steps, N)
    local = prior.around(x)
    J = slope(lambda x: residuals_by_hand(prior, x), x)
    torch.testing.assert_close(prior.misfit(x), residuals_by_hand(prior, x).square().sum() / 2)
    torch.testing.assert_close(local.precision.dense(), J.T @ J, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        -local.rows.pull(local.residual).flatten(), -slope(prior.misfit, x), rtol=1e-7, atol=1e-6
    )


def test_the_misfit_is_the_log_density_of_a_forecast():
    prior, x = physics(), draw(4, N)
    expected = multivariate_normal(prior.start_mean, np.diag(prior.start.std**2)).logpdf(x[0])
    for t in range(3):
        expected += multivariate_normal(prior.step(x[t]), np.diag(prior.noise.std**2)).logpdf(x[t + 1])
    stds = torch.cat([prior.start.std, *[prior.noise.std] * 3])
    constant = -(stds.log().sum() + 4 * np.log(2 * np.pi))
    assert float(constant - prior.misfit(x)) == pytest.approx(expected, rel=1e-12)


def test_linear_physics_is_the_same_gaussian_from_everywhere():
    prior = physics(nk.LinearOscillator())
    for seed in (1, 2):
        local = prior.around(10 * draw(6, N, seed=seed))
        assert_same(local.mean, prior.forecast(6))
        # A quadratic's second differences are exact at any distance.
        hessian = slope(lambda x: slope(prior.misfit, x, 1.0), torch.zeros(6, N, dtype=torch.float64), 1.0)
        assert_same(local.precision.dense(), hessian)


def test_a_batch_is_linearised_window_by_window():
    prior, x = physics(), draw(2, 3, 4, N)
    together = prior.around(x)
    assert_same(together.precision.dense()[1, 2], prior.around(x[1, 2]).precision.dense())
    assert_same(together.mean[1, 2], prior.around(x[1, 2]).mean)


def test_physics_looks_at_the_current_mean_alone():
    prior, x = physics(), draw(4, N)
    for std in (0.1, 10.0):
        assert torch.equal(prior(around(x, std)).mean, prior.around(x).mean)


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize("std", [0.0, -1.0, np.nan, np.inf])
def test_physics_needs_positive_errors(which, std):
    vectors = torch.ones(3, N)
    vectors[which, 1] = std
    with pytest.raises(ValueError, match=("noise has the", "", "start has the")[which]):
        Physics(lambda x: x, *vectors)


# Networks


def climatology(steps=4, order=None):
    return Climatology.fit(draw(200, steps, N).cumsum(1) * torch.tensor([1.0, 20.0]), order)


def wake(prior):
    """Weights that are not the untrained ones, so that every input matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in prior.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return prior


def neural():
    return wake(NeuralPrior(climatology(), width=8, dilations=(1, 2)))


def paper():
    return wake(PaperPrior(climatology(), steps=4, rank=3, width=8))


def around(estimate, std=1.0):
    """A current Gaussian: an estimate with this spread everywhere."""
    return Gaussian.of(estimate, Diagonal(torch.full_like(estimate, 1 / std)))


def mirrored():
    return wake(NeuralPrior(climatology(), width=8, dilations=(1, 2), odd=(1,)))


def anchored():
    return wake(NeuralPrior(climatology(), width=8, dilations=(1, 2), anchored=True))


def ring():
    return wake(RingPrior(climatology(), width=8, dilations=(1, 2), reach=0))


every_network = pytest.mark.parametrize("make", [neural, mirrored, anchored, ring, paper])


@pytest.mark.parametrize("steps", [1, 16, 32, 100])
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_the_neural_prior_takes_any_window(steps, batch):
    local = neural()(around(draw(*batch, steps, N)), 0.5)
    assert local.mean.shape == (*batch, steps, N)
    assert local.mean.dtype == local.precision.blocks.dtype == torch.float64
    assert (torch.linalg.eigvalsh(local.precision.dense()) > 0).all()


@pytest.mark.parametrize("batch", [(), (3,)])
def test_the_papers_prior_takes_its_own_window_only(batch):
    local = paper()(around(draw(*batch, 4, N)), 0.5)
    assert local.mean.shape == (*batch, 4, N)
    assert local.mean.dtype == local.precision.blocks.dtype == torch.float64
    assert (torch.linalg.eigvalsh(local.precision.dense()) > 0).all()
    with pytest.raises(ValueError, match=r"5 steps, and .* exactly 4: nk.Cycled\(method, window=4\)"):
        paper()(around(draw(5, N)), 0.5)
    with pytest.raises(ValueError, match=r"windows of 4 steps only, not 3: nk.extend\(obs, 1\)"):
        paper()(around(draw(3, N)), 0.5)


def test_the_papers_precision_is_the_identity_plus_a_low_rank():
    base = climatology().over(4)
    scale = base.std.flatten()
    whitened = paper()(around(draw(4, N)), 0.5).precision.dense() * torch.outer(scale, scale)
    rest = torch.linalg.eigvalsh(whitened) - 1
    assert (rest[:-3].abs() < 1e-10).all()
    assert (rest[-3:] > 1e-3).all()


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("remembers", [0, 1, 4])
def test_an_untrained_anchored_prior_is_the_climatology_wherever_it_is_asked(steps, order, remembers):
    base = climatology(order=order)
    prior = NeuralPrior(base, width=8, dilations=(1,), order=remembers, anchored=True)
    local = prior(around(draw(3, steps, N), 0.3), 0.5)
    torch.testing.assert_close(local.mean, base.over(steps).mean.expand(3, -1, -1), rtol=0, atol=1e-5)
    torch.testing.assert_close(local.precision.dense(), base.over(steps).precision.dense().expand(3, -1, -1))


def test_the_loop_of_an_untrained_anchored_prior_is_optimal_interpolation():
    past = nk.Lorenz63().simulate(200, 8, 0.05, seed=0)
    first = nk.OptimalInterpolation.fit(past, order=2)
    prior = NeuralPrior(first.climatology, width=8, anchored=True)
    obs = nk.observe(past[:5], components=["x"], every=3, noise_std=0.5, seed=1)
    found = nk.NeuralIncremental(prior, first.labels, first.dt, 3).assimilate(obs)
    expected = first.assimilate(obs)
    for name in ("mean", "std"):
        np.testing.assert_allclose(found[name].isel(temperature=-1, missing_dims="ignore"), expected[name], atol=1e-4)


def test_an_anchored_prior_is_saved_as_one(tmp_path):
    prior = anchored()
    nk.save(prior, tmp_path / "a.safetensors", nk.Card(nk.Pendulum().labels, 0.1))
    again, _ = nk.load(tmp_path / "a.safetensors")
    x = draw(3, 5, N)
    assert_same(again(around(x), 0.5).mean, prior(around(x), 0.5).mean)


def test_an_untrained_neural_prior_keeps_the_estimate():
    prior, x = NeuralPrior(climatology(), width=8, dilations=(1,)), draw(6, N)
    local = prior(around(x), 0.5)
    assert_same(local.mean, x)
    assert_same(local.std, prior.climatology.spread.expand(6, N))


@every_network
def test_a_network_sees_neither_values_nor_operators(make):
    assert list(inspect.signature(make().forward).parameters) == ["current", "s"]
    assert isinstance(make(), Prior)
    # Two posteriors of equal mean and spread, from other observations: the answer is the same.
    x = draw(4, N)
    half = Diagonal(torch.full_like(x, 0.5**0.5))
    first, second = (Gaussian.of(x - 3, half, half.push(torch.full_like(x, r))) for r in (-2.0, -4.0))
    prior = make().double()  # in float32 it may round two means that are equal but for float64's rounding apart
    assert_same(prior(first.condition(second), 0.5).mean, prior(around(x), 0.5).mean)


@every_network
def test_the_temperature_acts_continuously(make):
    prior, current = make(), around(draw(4, N))

    def answer(s):
        local = prior.double()(current, s)
        return torch.cat([local.mean.flatten(), local.precision.blocks.flatten()])

    for s in (0.0, 0.3, 1.0):
        near, nearer = ((answer(s + h) - answer(s)).norm() for h in (1e-4, 1e-6))
        assert 0 < nearer < 0.02 * near
    assert (answer(0.0) - answer(1.0)).norm() > 1e-2


@every_network
def test_each_window_may_have_its_own_temperature(make):
    prior, x, s = make(), draw(3, 4, N), torch.tensor([1.0, 0.4, 0.0], dtype=torch.float64)
    together = prior(around(x), s)
    for i in range(3):
        alone = prior(around(x[i]), float(s[i]))
        torch.testing.assert_close(together.mean[i], alone.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.precision.blocks[i], alone.precision.blocks, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [neural, mirrored, anchored, ring])
def test_a_large_batch_is_looked_at_a_few_windows_at_a_time(make, monkeypatch):
    prior, x, s = make().double(), draw(2, 3, 4, N), draw(2, 3).sigmoid()
    with torch.no_grad():
        whole = [prior(around(x), at) for at in (0.3, s)]
        monkeypatch.setattr("nida_kit.priors.parts.PART", 2 * 4 * N)
        asked = []
        monkeypatch.setattr(
            prior, "local_model", lambda *seen: asked.append(len(seen[0])) or type(prior).local_model(prior, *seen)
        )
        parts = [prior(around(x), at) for at in (0.3, s)]
    assert asked == [2] * 6
    for one, other in zip(parts, whole, strict=True):
        assert_same(one.centre, other.centre)
        assert_same(one.precision.blocks, other.precision.blocks)
    prior(around(x), 0.3)  # training keeps all of a batch's features for its gradient anyway
    assert len(asked) == 7


@pytest.mark.parametrize("odd", [(0,), (1,), (0, 1)])
def test_a_mirrored_prior_says_of_the_mirror_image_what_it_says_of_the_estimate(odd):
    prior = wake(NeuralPrior(climatology(), width=8, dilations=(1, 2), odd=odd)).double()
    sign = torch.tensor([-1.0 if i in odd else 1.0 for i in range(N)], dtype=torch.float64)
    middle = prior.climatology.mean[-1]

    def mirror(x):
        return middle + sign * (x - middle)

    x = draw(3, 6, N)
    here, there = prior(around(x), 0.5), prior(around(mirror(x)), 0.5)
    assert (here.mean - x).norm() > 1e-3
    assert_same(there.mean, mirror(here.mean))
    signs = sign.repeat(6)
    assert_same(there.precision.dense(), signs[:, None] * here.precision.dense() * signs)


@pytest.mark.parametrize("order", [0, 1, 2, 5])
@pytest.mark.parametrize("odd", [(), (1,)])
def test_the_order_is_the_bandwidth_of_the_precision(order, odd):
    prior = wake(NeuralPrior(climatology(), width=8, dilations=(1, 2), odd=odd, order=order))
    local = prior(around(draw(7, N)), 0.5)
    blocks = local.precision.dense().view(7, N, 7, N).transpose(1, 2).abs().amax((-2, -1))
    apart = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    assert (blocks[apart <= order] > 0).all() and (blocks[apart > order] == 0).all()


def waves(sites, order=1):
    """A climatology of like sites: a wave that travels around the ring, and noise."""
    x = draw(300, 4, sites, seed=3)
    for t in range(1, 4):
        x[:, t] = 0.8 * x[:, t - 1].roll(1, -1) + 0.4 * x[:, t]
    return Climatology.fit(torch.cat([3 + x.roll(k, -1) for k in range(sites)]), order)


def covariance_of(climatology):
    """Of consecutive states, `(w + 1, sites, w + 1, sites)`."""
    length, sites = climatology.mean.shape
    return climatology.over(length).precision.dense().inverse().view(length, sites, length, sites)


def around_ring(x):
    return Gaussian.of(x, Diagonal(torch.ones_like(x)))


def test_a_ring_turns_its_answer_with_the_estimate():
    prior, x = wake(RingPrior(waves(9), width=8, dilations=(1, 2), reach=3)).double(), draw(2, 6, 9)
    here, there = prior(around_ring(x), 0.5), prior(around_ring(x.roll(4, -1)), 0.5)
    assert (here.mean - x).norm() > 1e-2
    assert_same(there.mean, here.mean.roll(4, -1))
    assert_same(there.precision.blocks, here.precision.blocks.roll((4, 4), (-2, -1)))


def test_a_site_of_the_ring_is_told_of_those_within_reach_one_step_before():
    local = wake(RingPrior(waves(9), width=8, dilations=(1,), reach=2))(around_ring(draw(5, 9)), 0.5)
    blocks = local.precision.dense().view(5, 9, 5, 9).transpose(1, 2).abs()
    away = nk.Lorenz96(sites=9).distances()
    assert (blocks[2, 1][away <= 2] > 0).all() and (blocks[2, 1][away > 2] == 0).all()
    assert (blocks[2, 2].diagonal() > 0).all() and (blocks[2, 0] == 0).all()
    assert (blocks[4, 4][away > 0] == 0).all()  # nothing after the last step: independent errors


def test_a_wave_that_fits_twice_around_a_larger_ring_gets_the_same_answer_twice():
    small = wake(RingPrior(waves(7), width=8, dilations=(1, 2), reach=2)).double()
    large, x = small.on(14).double(), draw(6, 7)
    once, twice = small(around_ring(x), 0.5), large(around_ring(x.repeat(1, 2)), 0.5)
    assert_same(twice.mean, once.mean.repeat(1, 2))
    assert large.settings == small.settings and not small.eval().on(14).training


def test_the_climatology_of_as_many_sites_is_the_same():
    found = waves(9).on_ring(9)
    assert_same(found.mean, waves(9).mean)
    assert_same(covariance_of(found), covariance_of(waves(9)))


def test_fewer_sites_see_the_covariance_folded_around_the_ring():
    ten = waves(10)
    folded = covariance_of(ten).unflatten(1, (2, 5)).sum(1).unflatten(-1, (2, 5)).sum(-2) / 2
    assert_same(covariance_of(ten.on_ring(5)), folded)


def test_more_sites_keep_the_variance_and_taper_the_covariance():
    ten, found = waves(10), covariance_of(waves(10).on_ring(16))
    before, offset = covariance_of(ten), torch.arange(16) - 8
    taper = gaspari_cohn(offset.abs().double(), 2.5 / np.sqrt(10 / 3))
    for lag in (0, 1):
        expected = before[lag, 0, 0, offset % 10] * taper
        assert_same(found[lag, 0, 0, offset % 16], expected)
    assert taper[offset.abs() < 5].min() > 0 == taper[offset.abs() >= 5].max()


def test_many_sites_have_the_same_climatology_by_fourier_transforms(monkeypatch):
    ten, x, steps = waves(10, order=2), draw(2, 5, 16), 5
    written = ten.on_ring(16).over(steps)
    monkeypatch.setattr(solvers, "FEW", 15)
    many = ten.on_ring(16)
    assert many.factor.shape == (3, 3, 16)
    assert_same(many.mean, ten.on_ring(16).mean)
    assert_same(many.misfit(x), written.misfit(x))
    seen = Gaussian.of(written.centre, Diagonal((draw(steps, 16, seed=5) > 0).double()), draw(steps, 16, seed=6))
    torch.testing.assert_close(
        many.over(steps).condition(seen).mean, written.condition(seen).mean, rtol=1e-8, atol=1e-8
    )
    assert_same(covariance_of(many.on_ring(8)), covariance_of(ten.on_ring(16).on_ring(8)))
    monkeypatch.setattr(solvers, "MANY", 15)
    with pytest.raises(ValueError, match="one of few"):
        many.on_ring(8)


def test_many_sites_get_the_answer_of_few(monkeypatch, tmp_path):
    """The whole loop: a first guess, a network, its posterior; and the network comes back from its file."""
    n, labels = 36, nk.Lorenz96(36).labels
    prior = wake(RingPrior(waves(10), width=8, dilations=(1,), reach=2)).eval()
    truth = nk.Lorenz96(n).simulate(samples=2, steps=5, dt=0.05, seed=0)
    obs = nk.observe(truth, components=labels.components[::2], noise_std=0.5, seed=1)
    few = nk.NeuralIncremental(prior.on(n), labels, 0.05, temperatures=1).assimilate(obs)
    monkeypatch.setattr(solvers, "FEW", n - 1)
    many = nk.NeuralIncremental(prior.on(n), labels, 0.05, temperatures=1)
    nk.save(many.prior, tmp_path / "many.safetensors", nk.Card(labels, 0.05))
    for method in (many, nk.NeuralIncremental.pretrained(tmp_path / "many.safetensors", temperatures=1)):
        found = method.assimilate(obs)
        np.testing.assert_allclose(found["std"], few["std"], rtol=0.01)
        assert float(abs(found["mean"] - few["mean"]).max()) < 0.01 * float(few["std"].min())


def test_a_large_ring_is_looked_at_piece_by_piece(monkeypatch):
    prior, x = wake(RingPrior(waves(10), width=8, dilations=(1, 2), reach=3)).double().on(24), draw(2, 5, 24)
    with torch.no_grad():
        whole = prior(around_ring(x), 0.5)
        monkeypatch.setattr("nida_kit.priors.ring.PIECE", 5)
        pieces = prior(around_ring(x), torch.tensor([0.5, 0.5]))
    assert_same(pieces.centre, whole.centre)
    assert_same(pieces.precision.blocks, whole.precision.blocks)


def test_sites_that_differ_have_no_climatology_elsewhere():
    with pytest.raises(ValueError, match="sites differ"):
        climatology().on_ring(4)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"reach": -1}])
def test_sizes_that_no_ring_has_are_an_error(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.* must be a whole number"):
        RingPrior(waves(10), **wrong)


@pytest.mark.parametrize("sites", [1, 3, 4, 6, 7, 9, 11, 15, 24])
def test_any_number_of_sites_has_a_climatology_that_turns(sites):
    found = covariance_of(waves(10).on_ring(sites))
    assert_same(found, found.roll((1, 1), (1, 3)))
    prior = wake(RingPrior(waves(10), width=8, dilations=(1,), reach=4)).double().on(sites)
    assert prior(around_ring(draw(4, sites)), 0.5).mean.dtype == torch.float64


@pytest.mark.parametrize("sites", [0, -2])
def test_a_ring_has_a_whole_number_of_sites(sites):
    with pytest.raises(ValueError, match="whole number"):
        waves(6).on_ring(sites)


def test_a_mirror_costs_half_the_weights_between_features():
    def matrices(**how):
        return sum(p.numel() for p in NeuralPrior(climatology(), width=16, **how).blocks.parameters() if p.ndim == 2)

    assert matrices(odd=(0,)) * 2 == matrices()


@pytest.mark.parametrize("wrong", [{"width": 9, "odd": (0,)}, {"width": 1, "odd": (0,)}, {"width": 0}, {"order": -1}])
def test_sizes_that_no_network_has_are_an_error(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.* must be"):
        NeuralPrior(climatology(), **wrong)


@pytest.mark.parametrize("odd", [(2,), (-1,), (0, 7)])
def test_components_that_there_are_not_cannot_be_odd(odd):
    with pytest.raises(ValueError, match=r"^odd=.* must be a whole number from 0 to 1\."):
        NeuralPrior(climatology(), odd=odd)


def test_the_neural_prior_sees_the_current_spread():
    prior, x = neural(), draw(6, N)
    assert (prior(around(x, 1.0), 0.5).mean - prior(around(x, 0.1), 0.5).mean).norm() > 1e-3


def test_within_a_window_the_neural_prior_does_not_know_where_it_is():
    prior, x = neural().double(), draw(60, N)
    long, short = prior(around(x), 0.5), prior(around(x[10:40]), 0.5)
    inner = slice(4, 26)  # further than its reach of 3 from either edge, and one more for a row's block
    assert_same(short.mean[inner], long.mean[10:40][inner])
    assert_same(short.precision.blocks[inner], long.precision.blocks[10:40][inner])
    assert (short.mean[0] - long.mean[10]).norm() > 1e-3


@every_network
def test_gradients_reach_every_weight(make):
    prior = make()
    local = prior(around(draw(3, 4, N)), 0.5)
    (local.mean.square().sum() + local.precision.logdet().sum()).backward()
    assert all(weights.grad is not None and weights.grad.norm() > 0 for weights in prior.parameters())


@every_network
def test_the_climatology_travels_with_the_weights(make):
    prior = make()
    for name, value in vars(climatology()).items():
        assert torch.equal(prior.state_dict()[f"climate.{name}"], value)
        assert torch.equal(getattr(prior.climatology, name), value)
    assert not any("climate" in name for name, _ in prior.named_parameters())
