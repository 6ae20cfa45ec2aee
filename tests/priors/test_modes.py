import pickle
from dataclasses import replace

import pytest
import torch

import nida_kit as nk
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Diagonal, Sparse, Whole
from nida_kit.priors import modes
from nida_kit.priors.modes import FieldClimatology

SHAPE, STEPS = (7, 8), 3
N = 56


def records(samples=30, length=40, seed=0):
    """Smooth fields that drift, of unequal variance."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, length, *SHAPE, generator=generator, dtype=torch.float64)
    smooth = torch.exp(-0.3 * (torch.arange(8)[:, None] - torch.arange(8)).square().double())
    x = smooth[:7, :7] @ noise @ smooth
    for t in range(1, length):
        x[:, t] = 0.9 * x[:, t - 1].roll(1, -1) + 0.4 * x[:, t]
    return x * torch.linspace(0.5, 2, 8) + 3


CLIMATE = FieldClimatology.fit(records(), STEPS, 30)


def covariance(climate):
    """Of a window, N = T n, dense."""
    E, C, n = climate.patterns, climate.lags, len(climate.spread)
    blocks = [[E @ (C[u - t] if u >= t else C[t - u].mT) @ E.mT for u in range(STEPS)] for t in range(STEPS)]
    return torch.cat([torch.cat(row, 1) for row in blocks]) + torch.diag(climate.rest.repeat(STEPS)) * (n > 0)


def dense(climate, J, residual):
    C = covariance(climate)
    K = torch.linalg.solve(J @ C @ J.mT + torch.eye(len(J), dtype=J.dtype), J @ C).mT
    return -(K @ residual), (C - K @ J @ C).diagonal().sqrt()


def statement(lead=(2,), share=0.2):
    generator = torch.Generator().manual_seed(5)
    weight = 2 * (torch.rand(*lead, STEPS, N, generator=generator) < share).double()
    residual = weight * torch.randn(*lead, STEPS, N, generator=generator, dtype=torch.float64)
    return Gaussian.of(CLIMATE.mean.expand(*lead, STEPS, N), Diagonal(weight), residual)


def test_its_covariances_are_those_of_the_past():
    x = records()
    away = (x - x.mean((0, 1))).flatten(2)
    all_modes = FieldClimatology.fit(x, STEPS, N)
    for lag in range(STEPS):
        first, second = away[:, : 40 - lag].flatten(0, 1), away[:, lag:].flatten(0, 1)
        found = covariance(all_modes)[:N, lag * N : (lag + 1) * N]
        # Variances near zero are raised by 4e-3 of those of a mode, 20.
        torch.testing.assert_close(found, first.mT @ second / len(first), rtol=0, atol=0.3)


def test_no_sum_of_values_has_a_negative_variance():
    for some in (records(), records(3, 13), torch.randn(1, 12, *SHAPE).double()):
        assert torch.linalg.eigvalsh(covariance(FieldClimatology.fit(some, STEPS, 20))).min() > -1e-9


@pytest.mark.parametrize("share", [0.2, 0.8])  # fewer and more values than the modes have coefficients
def test_what_it_makes_of_observations_equals_dense_algebra(share):
    seen = statement(share=share)
    assert (seen.rows.parts[0].weight[0].count_nonzero() > STEPS * len(CLIMATE.modes)) == (share > 0.5)
    given = CLIMATE.given(seen)
    for b in range(2):
        part, residual = seen.rows.parts[0], seen.residual[0]
        some = part.weight[b].flatten() > 0
        move, std = dense(CLIMATE, torch.diag(part.weight[b].flatten())[some], residual[b].flatten()[some])
        torch.testing.assert_close((given.mean[b] - CLIMATE.mean).flatten(), move, rtol=0, atol=1e-9)
        torch.testing.assert_close(given.std[b].flatten(), std, rtol=1e-8, atol=1e-9)


def test_values_between_points_of_some_leading_dims():
    index = torch.tensor([[0, 1, 8, 9], [60, 61, 68, 69]])
    weight = torch.tensor([[1.0, 1, 1, 1], [2, 0, 2, 1]], dtype=torch.float64)
    centre = CLIMATE.mean.expand(2, 1, STEPS, N)
    residual = torch.tensor([0.5, -1.0], dtype=torch.float64).expand(2, 1, 1, 2)
    rows = Sparse(index, weight, (STEPS, N))
    given = CLIMATE.given(Gaussian.of(centre, rows, residual))
    J = rows.flat
    move, std = dense(CLIMATE, J, residual[0, 0, 0])
    torch.testing.assert_close((given.mean[1, 0] - CLIMATE.mean).flatten(), move, rtol=0, atol=1e-9)
    torch.testing.assert_close(given.std[0, 0].flatten(), std, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_what_is_kept_serves_the_same_places_and_errors_alone(share, monkeypatch):
    made, make = [], modes._gain
    monkeypatch.setattr(modes, "_gain", lambda *of: made.append(of) or make(*of))
    seen, other = statement((), share), statement((), share / 2)
    shorter = Gaussian.of(seen.centre[:2], Diagonal(seen.rows.parts[0].weight[:2]), seen.residual[0][:2])
    CLIMATE.given(other)
    before = CLIMATE.given(seen)
    made.clear()
    again = CLIMATE.given(replace(seen, residual=(2 * seen.residual[0],)))
    assert made == [] and again.std.equal(before.std)
    torch.testing.assert_close(again.mean - CLIMATE.mean, 2 * (before.mean - CLIMATE.mean), rtol=1e-12, atol=1e-12)
    for some in (other, seen, shorter):
        fresh = pickle.loads(pickle.dumps(CLIMATE))
        assert "_gain" not in vars(fresh)
        torch.testing.assert_close(CLIMATE.given(some).mean, fresh.given(some).mean, rtol=0, atol=0)
    assert len(made) == 6


def test_what_the_modes_leave_over_is_that_of_the_past():
    x = records()
    away = (x - x.mean((0, 1))).flatten(2)
    some = away[:, ::2].flatten(0, 1)  # of which the modes are found
    _, _, patterns = torch.linalg.svd(some, full_matrices=False)
    held = (some @ patterns[:30].mT @ patterns[:30]).square().mean(0)
    left = (away.square().mean((0, 1)) - held).clamp(min=0)
    torch.testing.assert_close(CLIMATE.left_over, left, rtol=1e-6, atol=1e-9)


def test_a_taper_keeps_far_places_apart():
    x = records(samples=2, length=20)
    tapered = FieldClimatology.fit(x, STEPS, N, radius=1.0)
    C = covariance(tapered)[:N, :N]
    places = torch.cartesian_prod(torch.arange(7), torch.arange(8)).double()
    apart = torch.cdist(places, places)
    assert C[apart > 3.7].abs().max() < 1e-3 * C.abs().max()
    away = (x - x.mean((0, 1))).flatten(2).flatten(0, 1)
    torch.testing.assert_close(C.diagonal(), away.square().mean(0), rtol=1e-3, atol=1e-3)


def test_a_file_keeps_it_bit_for_bit(tmp_path):
    labels = nk.GridLabels({"y": range(7), "x": range(8)})
    told = replace(CLIMATE, wider=1.3, unresolved=0.1)
    nk.save(nk.OptimalInterpolation(told, labels, 1.0), tmp_path / "field.safetensors")
    again = nk.OptimalInterpolation.load(tmp_path / "field.safetensors")
    for name in ("mean", "spread", "modes", "lags"):
        assert torch.equal(getattr(again.climatology, name), getattr(told, name))
    assert (again.climatology.wider, again.climatology.unresolved) == (1.3, 0.1)
    assert again.settings["longest_window"] == STEPS


def test_in_bytes_it_loses_little_and_but_once():
    once = FieldClimatology.unpacked(CLIMATE.in_bytes())
    torch.testing.assert_close(once.mean.double(), CLIMATE.mean, rtol=1e-6, atol=1e-6)
    before, after = CLIMATE.given(statement()).mean, once.given(statement()).mean
    assert (before - after).abs().max() < 0.04 * CLIMATE.spread.max()
    twice = FieldClimatology.unpacked(once.in_bytes())
    torch.testing.assert_close(twice.lags, once.lags, rtol=0, atol=0)
    torch.testing.assert_close(twice.modes, once.modes, rtol=1e-6, atol=0)


def test_finer_grids_are_those_of_which_it_knows_some_points():
    fine = CLIMATE.on((13, 15))
    torch.testing.assert_close(fine.mean.view(13, 15)[::2, ::2].flatten(), CLIMATE.mean[0])
    torch.testing.assert_close(fine.patterns.view(13, 15, -1)[::2, ::2].flatten(0, 1), CLIMATE.patterns)
    with pytest.raises(ValueError, match=r"serves \[\(13, 15\)"):
        CLIMATE.on((14, 16))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match=r"records of 40 or more"):
        FieldClimatology.fit(records(2, 39), 10, 5)
    with pytest.raises(ValueError, match="without gaps"):
        FieldClimatology.fit(records(2, 20).where(records(2, 20) < 4, torch.nan), 3, 5)
    long = Gaussian.of(
        CLIMATE.mean.expand(1, 4, N), Diagonal(torch.ones(1, 4, N).double()), torch.zeros(1, 4, N).double()
    )
    with pytest.raises(ValueError, match=r"nk.Cycled\(method, window=3\)"):
        CLIMATE.given(long)
    whole = Gaussian.of(
        CLIMATE.mean.expand(1, 3, N), Whole(torch.ones(1, 1, 3, N).double()), torch.zeros(1, 1, 1).double()
    )
    with pytest.raises(ValueError, match="points of its grid or between them"):
        CLIMATE.given(whole)
    many = torch.randint(STEPS * N, (10_001, 4), generator=torch.Generator().manual_seed(0))
    between = Sparse(many, torch.ones(10_001, 4).double(), (STEPS, N))
    with pytest.raises(ValueError, match=r"has 10001 values between points .* up to 10000 are taken.*exact=True"):
        CLIMATE.given(Gaussian.of(CLIMATE.mean.expand(1, STEPS, N), between, torch.zeros(1, 1, 10_001).double()))
    past = nk.Lorenz63().simulate(3, 40, 0.05)
    with pytest.raises(ValueError, match="two dims"):
        nk.OptimalInterpolation.fit_field(past)
