"""Climatologies of windows with gaps, or of few: against what is known, and against complete cases."""

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.methods.interpolation import first_guess_of
from nida_kit.observing.observations import Observations
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.moments import Seen, amount, intensity, moments, stretches_of

STEPS, N = 4, 2
D = STEPS * N
GENERATOR = torch.Generator().manual_seed(0)
ROOT = torch.randn(D, D, generator=GENERATOR, dtype=torch.float64) / D**0.5 + 0.5 * torch.eye(D)
COVARIANCE, MEAN = ROOT @ ROOT.mT, torch.linspace(-3, 40, D).double()


def draw(windows, seed):
    noise = torch.randn(windows, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (MEAN + noise @ ROOT.mT).view(-1, STEPS, N)


def with_gaps(windows, share=0.3, seed=1):
    keep = torch.rand(windows.shape, generator=torch.Generator().manual_seed(seed)) >= share
    return windows.where(keep, torch.nan)


def covariance_of(climatology):
    return torch.linalg.inv(climatology.over(len(climatology.mean)).precision.dense())


def wrong(mean, covariance):
    """Kullback-Leibler divergence of the true Gaussian from another."""
    precision, error = torch.linalg.inv(covariance), mean.flatten() - MEAN
    traces = (precision @ COVARIANCE).trace() - D + error @ precision @ error
    return float(traces + covariance.logdet() - COVARIANCE.logdet()) / 2


def test_gaps_cost_less_than_leaving_out_all_windows_that_have_any():
    windows = draw(600, 0)
    gappy = with_gaps(windows)
    complete = gappy[~gappy.isnan().flatten(1).any(1)]
    assert len(complete) < 60
    found, alone, whole = (Climatology.fit(x) for x in (gappy, complete, windows))
    errors = [wrong(c.mean, covariance_of(c)) for c in (found, alone, whole)]
    assert errors[2] < errors[0] < errors[1] / 5
    torch.testing.assert_close(found.mean.flatten(), MEAN, rtol=0, atol=0.3)
    torch.testing.assert_close(covariance_of(found), COVARIANCE, rtol=0, atol=0.3)
    torch.testing.assert_close(found.spread, whole.spread, rtol=0.02, atol=0)


def test_the_likelihood_of_what_was_seen_never_falls_and_is_that_of_scipy():
    from scipy.stats import multivariate_normal

    z = with_gaps(draw(40, 2)).flatten(1)
    seen, mean, covariance = Seen.of(z), z.nanmean(0), torch.eye(D).double()
    keep = ~z.isnan()
    first = sum(
        multivariate_normal(mean[k], covariance[k][:, k]).logpdf(row[k]) for row, k in zip(z, keep, strict=True)
    )
    likelihoods = []
    for _ in range(80):
        mean, covariance, likelihood = seen.maximise(mean, covariance)
        likelihoods.append(likelihood)
    assert likelihoods[0] == pytest.approx(float(first), rel=1e-10)
    assert (np.diff(likelihoods) >= -1e-9 * abs(likelihoods[-1])).all()
    assert likelihoods[-1] > likelihoods[0] + 10


def test_where_it_ends_the_likelihood_has_no_slope():
    z = with_gaps(draw(200, 3)).flatten(1)
    found, covariance = moments(z, 0.0)
    mean, covariance = found, covariance * (199 / 200)
    for _ in range(1000):
        mean, covariance, _ = Seen.of(z).maximise(mean, covariance)
    torch.testing.assert_close(mean, found, rtol=0, atol=1e-4)
    mean, covariance = mean.requires_grad_(), covariance.requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for row in z:
        k = ~row.isnan()
        total = total + torch.distributions.MultivariateNormal(mean[k], covariance[k][:, k]).log_prob(row[k])
    slopes = torch.autograd.grad(total, (mean, covariance))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-4


def test_one_step_on_what_has_no_gaps_is_the_plain_fit():
    """However far off it begins."""
    windows = draw(50, 4)
    mean, covariance, _ = Seen.of(windows.flatten(1)).maximise(torch.zeros(D).double(), 3 * torch.eye(D).double())
    plain = Climatology.fit(windows)
    torch.testing.assert_close(mean, plain.mean.flatten(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(covariance * (50 / 49), covariance_of(plain), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, None])
def test_windows_of_which_nothing_is_seen_count_for_nothing(order):
    windows = draw(60, 5)
    blank = torch.cat([windows, torch.full_like(windows[:5], torch.nan)])
    for a, b in zip(
        vars(Climatology.fit(windows, order)).values(), vars(Climatology.fit(blank, order)).values(), strict=True
    ):
        if a.shape != (N,):  # of the spread, which gaps make that of all steps
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_filled_gap_is_what_interpolation_says():
    """The two ways to condition agree: dense here, by rows in the loop."""
    z = draw(1, 6).flatten(1).index_fill(1, torch.tensor([1, 5]), torch.nan)
    mean, _, _ = Seen.of(z).maximise(MEAN, COVARIANCE)
    climatology = Climatology.from_covariance(MEAN.view(STEPS, N), COVARIANCE, torch.ones(N).double())
    observations = Observations(z.view(1, STEPS, N), torch.full((1, STEPS, N), 1e-5).double())
    expected = first_guess_of(climatology, observations).mean.flatten()
    torch.testing.assert_close(mean, expected, rtol=1e-6, atol=1e-6)


def interpolated(climatology, truth):
    """Root mean squared error where half of the values are hidden."""
    seen = with_gaps(truth, 0.5, seed=9)
    mean = first_guess_of(climatology, Observations(seen, torch.full_like(truth, 0.1))).mean
    return float((mean - truth)[seen.isnan()].square().mean().sqrt())


def test_shrinkage_makes_few_windows_serve():
    truth = draw(500, 7)
    for few in (draw(6, 8), with_gaps(draw(10, 8), 0.1)):
        with pytest.raises(ValueError, match="shrinkage="):
            Climatology.fit(few)
        assert interpolated(Climatology.fit(few, shrinkage="auto"), truth) < 1.5
    barely = [draw(D + 2, seed) for seed in range(10, 20)]
    plain, shrunk = (
        np.mean([interpolated(Climatology.fit(x, shrinkage=a), truth) for x in barely]) for a in (0.0, "auto")
    )
    assert shrunk < 0.97 * plain


def test_shrinkage_goes_to_the_diagonal_and_keeps_variances():
    windows = draw(30, 11)
    plain = np.cov(windows.flatten(1).numpy().T)
    for a in (0.3, 1.0):
        expected = (1 - a) * plain + a * np.diag(np.diag(plain))
        np.testing.assert_allclose(
            covariance_of(Climatology.fit(windows, shrinkage=a)), expected, rtol=1e-8, atol=1e-10
        )


def test_its_intensity_is_the_published_one_and_knows_no_units():
    """Schaefer and Strimmer's, written out for independent vectors."""
    windows = draw(15, 12)
    z = windows.flatten(1).numpy()
    z = (z - z.mean(0)) / z.std(0)
    w = z[:, :, None] * z[:, None]
    off = ~np.eye(D, dtype=bool)
    variance = w.var(0, ddof=1) / len(z)
    expected = variance[off].sum() / (w.mean(0)[off] ** 2).sum()
    assert intensity(stretches_of(windows, STEPS - 1)) == pytest.approx(expected, rel=1e-10)
    other = stretches_of(windows * torch.tensor([1.0, 1000.0]), STEPS - 1)
    assert intensity(other) == pytest.approx(expected, rel=1e-9)


def test_more_windows_are_shrunk_less_and_stretches_of_one_window_are_not_taken_for_independent():
    few, many = (amount("auto", draw(n, 13), STEPS - 1) for n in (10, 1000))
    assert many < few / 5
    still = draw(20, 14)[:, :1].expand(-1, STEPS, -1)  # each window says one thing, four times
    assert amount("auto", still, 0) == pytest.approx(amount("auto", still[:, :1], 0), rel=1e-9)
    with pytest.raises(ValueError, match="compares windows, and there are 1"):
        amount("auto", draw(1, 0), 0)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, "auto"])
@pytest.mark.parametrize("gaps", [False, True])
def test_a_constant_component_is_refused_in_words(shrinkage, gaps):
    windows = draw(50, 15) * torch.tensor([1.0, 0.0]) + 0.1
    with pytest.raises(ValueError, match=r"number 1 and 3 others are constant.*Leave a constant component out"):
        Climatology.fit(with_gaps(windows) if gaps else windows, shrinkage=shrinkage)


def test_values_never_seen_together_are_refused():
    windows = draw(100, 16)
    apart = torch.arange(100)[:, None, None] % 2 == torch.arange(N)
    with pytest.raises(
        ValueError, match=r"Numbers 0 and 1 of 2 .* seen together in 0 of 400 stretches, and it takes 3"
    ):
        Climatology.fit(windows.where(apart, torch.nan), order=0)


def test_a_fit_that_has_not_ended_says_so(monkeypatch):
    monkeypatch.setattr("nida_kit.priors.moments.STEPS", 3)
    with pytest.warns(UserWarning, match="still changed by"):
        Climatology.fit(with_gaps(draw(100, 17)))


def test_a_fitted_interpolation_takes_gaps_and_records_how_it_was_fitted(tmp_path):
    past = nk.Pendulum().simulate(60, 4, 0.1, model_noise_std=0.1, seed=0)
    holes = past.where(np.random.default_rng(0).random(past.shape) > 0.2)
    method = nk.OptimalInterpolation.fit(holes, order=1)
    assert method.settings == {"order": 1, "shrinkage": 0.0}
    few = nk.OptimalInterpolation.fit(holes[:6], shrinkage="auto")
    obs = nk.observe(past[:2], components=["angle"], every=2, noise_std=0.1)
    assert few.assimilate(obs).attrs["shrinkage"] == few.settings["shrinkage"] > 0
    assert nk.OptimalInterpolation.fit(holes[:6], shrinkage=0.25).settings["shrinkage"] == 0.25
    nk.save(few, tmp_path / "few.safetensors")
    again = nk.OptimalInterpolation.load(tmp_path / "few.safetensors")
    assert again.settings["shrinkage"] == few.settings["shrinkage"]


@pytest.mark.parametrize("gaps", [False, True])
def test_one_component_has_a_climatology_of_order_0(gaps):
    windows = torch.randn(50, 4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    windows = windows.where(windows < 1, torch.nan) if gaps else windows
    found, seen = Climatology.fit(windows, order=0), windows[~windows.isnan()]
    torch.testing.assert_close(found.mean.flatten(), seen.mean()[None])
    torch.testing.assert_close(found.factor.flatten(), 1 / seen.std()[None], rtol=0.02, atol=0)
