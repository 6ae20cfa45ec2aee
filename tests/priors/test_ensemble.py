"""The climatology of a field by localised windows of its past, against dense algebra."""

import numpy as np
import pytest
import torch
from drifting import SIDE, drifting

import nida_kit as nk
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import averaged
from nida_kit.linalg.rows import Diagonal, Sparse, Whole
from nida_kit.priors import ensemble
from nida_kit.priors.ensemble import EnsembleClimatology

STEPS, N = 3, SIDE * SIDE
RECORDS = drifting(12, 20, seed=0)
CLIMATE = EnsembleClimatology.fit(torch.from_numpy(RECORDS.values), STEPS, members=60, octaves=2)


def covariance():
    """Dense, `(T n, T n)`."""
    generator = CLIMATE.prior(STEPS).generator
    size = generator.noise[-1]
    L = torch.cat([generator.push(u.view(-1, 1, size)).flatten(-2) for u in torch.eye(size).double().split(200)]).mT
    return L @ L.mT


def statement():
    generator = torch.Generator().manual_seed(5)
    weight = 2 * (torch.rand(2, STEPS, N, generator=generator) < 0.05).double()
    residual = weight * torch.randn(2, STEPS, N, generator=generator, dtype=torch.float64)
    return Gaussian.of(CLIMATE.mean.expand(2, STEPS, N), Diagonal(weight), residual)


def test_its_members_are_windows_of_the_past():
    away = torch.from_numpy(RECORDS.values).flatten(2) - CLIMATE.mean
    for k in (0, -1):
        record, first = (0, 0) if k == 0 else (11, 17)
        torch.testing.assert_close(CLIMATE.members[k], away[record, first : first + STEPS])
    torch.testing.assert_close(CLIMATE.spread, away.square().mean((0, 1)).sqrt())


def by_dense_algebra(b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a window of `statement()`: how far the mean moves, and the variances."""
    C, part, residual = (
        covariance(),
        statement().rows.parts[0].weight[b].flatten(),
        statement().residual[0][b].flatten(),
    )
    J = torch.diag(part)[part > 0]
    K = torch.linalg.solve(J @ C @ J.mT + torch.eye(len(J)).double(), J @ C).mT
    return -(K @ residual[part > 0]), (C - K @ J @ C).diagonal().view(STEPS, N)


def test_what_it_makes_of_observations_is_that_of_dense_algebra():
    mean, std, reached = CLIMATE.solved(statement())
    assert reached is None
    for b in range(2):
        move, variance = by_dense_algebra(b)
        torch.testing.assert_close((mean[b] - CLIMATE.mean).flatten(), move, rtol=0, atol=1e-9)
        least = 0.005 * CLIMATE.spread
        torch.testing.assert_close(std[b] - least, variance.clamp(min=0).sqrt(), rtol=0, atol=1e-6)


def test_of_many_values_conjugate_gradients_and_draws_find_the_same(monkeypatch):
    monkeypatch.setattr(ensemble, "_MOST_AT_ONCE", 0)
    given, (left, iterations) = CLIMATE.given(statement()), CLIMATE.solved(statement())[2]
    assert (iterations > 1).all()
    assert (left <= 1e-3).all()
    for b in range(2):
        move, variance = by_dense_algebra(b)
        std = averaged(variance, CLIMATE.sea).sqrt()
        off = ((given.mean[b] - CLIMATE.mean).flatten() - move).view(STEPS, N) / std
        assert off.square().mean().sqrt() < 0.01  # solved to a tolerance of 1e-3
        assert abs(float((given.std[b] / (std + 0.005 * CLIMATE.spread)).square().mean()) - 1) < 0.15  # of 16 draws


def test_where_nothing_was_seen_it_is_the_climatology():
    nowhere = torch.zeros(STEPS, N).double()
    none = Gaussian.of(CLIMATE.mean.expand(STEPS, N), Diagonal(nowhere), nowhere)
    given = CLIMATE.given(none)
    torch.testing.assert_close(given.mean, CLIMATE.mean.expand(STEPS, N), rtol=0, atol=0)
    torch.testing.assert_close(given.std, CLIMATE.members.square().mean(0).sqrt() + 0.005 * CLIMATE.spread)


def test_values_between_points_are_those_of_the_points_around():
    index, weight = torch.tensor([[20, 21, 37, 38]]), torch.tensor([[0.0, 3, 0, 0]]).double()
    centre, residual = CLIMATE.mean.expand(STEPS, N), torch.tensor([[-3.0]]).double()
    between = CLIMATE.given(Gaussian.of(centre, Sparse(index, weight, (STEPS, N)), residual))
    own = torch.zeros(STEPS, N).double()
    own[0, 21] = 3
    at_point = CLIMATE.given(Gaussian.of(centre, Diagonal(own), -own))
    torch.testing.assert_close(between.mean, at_point.mean, rtol=0, atol=1e-9)
    assert between.mean[0, 21] - CLIMATE.mean[0, 21] > 0.5


def test_optimal_interpolation_with_it_halves_the_error_of_the_climatology():
    truth = drifting(2, STEPS, seed=9)
    obs = nk.observe(truth, fraction=0.15, noise_std=0.3, seed=1)
    method = nk.OptimalInterpolation.fit_ensemble(RECORDS, steps=STEPS, members=60, octaves=2)
    result = method.assimilate(obs)
    assert "solver_residual" not in result  # few values are one system
    spread = float(np.sqrt(CLIMATE.spread.square().mean()))
    assert nk.rmse(result["mean"], truth) < 0.5 * spread
    short = method.assimilate(obs.isel(time=slice(2)))
    assert short.sizes["time"] == 2


def test_what_it_cannot_do_is_refused():
    records = torch.from_numpy(RECORDS.values)
    with pytest.raises(ValueError, match="can be cut into 1 window of 20, and a mixture takes two"):
        EnsembleClimatology.fit(records[:1], 20, 60)
    with pytest.raises(ValueError, match="without gaps"):
        EnsembleClimatology.fit(records.where(records < 4, torch.nan), STEPS, 60)
    with pytest.raises(ValueError, match="octaves"):
        EnsembleClimatology.fit(records, STEPS, 60, octaves=9)
    with pytest.raises(ValueError, match=r"nk.Cycled\(method, window=3\)"):
        CLIMATE.prior(4)
    rows = Whole(torch.ones(1, STEPS, N).double())
    with pytest.raises(ValueError, match="points of its grid or between them"):
        CLIMATE.given(Gaussian.of(CLIMATE.mean.expand(STEPS, N), rows, torch.zeros(1, 1).double()))


def test_past_windows_are_not_saved(tmp_path):
    method = nk.OptimalInterpolation.fit_ensemble(RECORDS, steps=STEPS, members=60, octaves=2)
    with pytest.raises(ValueError, match="not past windows"):
        nk.save(method, tmp_path / "mine.safetensors")


def test_a_short_past_gives_the_members_that_it_holds():
    method = nk.OptimalInterpolation.fit_ensemble(RECORDS[:2], steps=STEPS, octaves=2)
    assert method.settings["members"] == 2 * (RECORDS.sizes["time"] - STEPS + 1)
    with pytest.raises(ValueError, match="two or more"):
        nk.OptimalInterpolation.fit_ensemble(RECORDS[:1, :STEPS], steps=STEPS, octaves=2)
