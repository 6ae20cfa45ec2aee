"""The climatology of a field by localised windows of its past, against dense algebra."""

import numpy as np
import pytest
import torch
import xarray as xr
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


def by_dense_algebra(J: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far what is said, J x + residual ~ N(0, I), moves the mean, and the variances."""
    C = covariance()
    K = torch.linalg.solve(J @ C @ J.mT + torch.eye(len(J)).double(), J @ C).mT
    return -(K @ residual).view(STEPS, N), (C - K @ J @ C).diagonal().view(STEPS, N)


def of_window(b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """J and residual of a window of `statement()`."""
    weight, residual = statement().rows.parts[0].weight[b].flatten(), statement().residual[0][b].flatten()
    return torch.diag(weight)[weight > 0], residual[weight > 0]


def check_exact(mean: torch.Tensor, std: torch.Tensor, J: torch.Tensor, residual: torch.Tensor) -> None:
    move, variance = by_dense_algebra(J, residual)
    torch.testing.assert_close(mean - CLIMATE.mean, move, rtol=0, atol=1e-9)
    torch.testing.assert_close(std - 0.005 * CLIMATE.spread, variance.clamp(min=0).sqrt(), rtol=0, atol=1e-6)


def test_its_covariance_is_that_of_its_generator():
    generator, at = CLIMATE.prior(STEPS).generator, torch.tensor([0, 20, N, STEPS * N - 1])
    torch.testing.assert_close(generator.covariance(at, torch.arange(STEPS * N)), covariance()[at])


@pytest.mark.parametrize("points", [100, 10_000])  # in several parts, and in one
def test_what_it_makes_of_observations_is_that_of_dense_algebra(points, monkeypatch):
    monkeypatch.setattr(ensemble, "_POINTS", points)
    mean, std, (left, iterations) = CLIMATE.solved(statement())
    assert left.tolist() == iterations.tolist() == [0, 0]
    for b in range(2):
        check_exact(mean[b], std[b], *of_window(b))


def test_of_very_many_values_conjugate_gradients_and_draws_find_the_same(monkeypatch):
    more, fewer = (len(of_window(b)[0]) for b in range(2))
    assert fewer < more
    monkeypatch.setattr(ensemble, "_MOST_AT_ONCE", fewer**2)
    mean, std, (left, iterations) = CLIMATE.solved(statement())
    check_exact(mean[1], std[1], *of_window(1))  # as without the other one
    assert iterations[1] == 0
    assert iterations[0] > 1
    assert 0 < left[0] <= 1e-3
    move, variance = by_dense_algebra(*of_window(0))
    rough = averaged(variance, CLIMATE.sea).sqrt()
    assert ((mean[0] - CLIMATE.mean - move) / rough).square().mean().sqrt() < 0.01  # solved to a tolerance of 1e-3
    assert abs(float((std[0] / (rough + 0.005 * CLIMATE.spread)).square().mean()) - 1) < 0.15  # of 16 draws


def test_rows_between_points_and_steps_are_those_of_dense_algebra():
    index = torch.tensor([[20, 21, 37, N + 38], [100, 101, N + 100, N + 101]])
    weight = torch.tensor([[0.5, 1.0, 0.25, 2.0], [1.0, 0.0, 3.0, 0.5]]).double()
    residual = torch.tensor([-3.0, 1.0]).double()
    rows = Sparse(index, weight, (STEPS, N))
    mean, std, _ = CLIMATE.solved(Gaussian.of(CLIMATE.mean.expand(STEPS, N), rows, residual[None]))
    check_exact(mean, std, rows.matrix.flatten(1), residual)


def test_too_exact_observations_are_refused():
    same = Sparse(torch.full((40, 1), 20), torch.full((40, 1), 1e12).double(), (STEPS, N))
    residual = torch.arange(40.0).double()[None]  # forty values of one place, none of which may be wrong
    with pytest.raises(ValueError, match="raise noise_std"):
        CLIMATE.given(Gaussian.of(CLIMATE.mean.expand(STEPS, N), same, residual))


def test_lazy_windows_of_both_ways_are_those_in_memory(monkeypatch):
    monkeypatch.setattr(ensemble, "_MOST_AT_ONCE", 50**2)
    method = nk.OptimalInterpolation.fit_ensemble(RECORDS.astype("float32"), steps=STEPS, members=60, octaves=2)
    few = nk.observe(drifting(2, STEPS, seed=9), fraction=0.02, noise_std=0.3, seed=1)
    many = nk.observe(drifting(2, STEPS, seed=9), fraction=0.1, noise_std=0.3, seed=1)
    obs = xr.concat([few, many], "sample")
    eager, lazy = method.assimilate(obs), method.assimilate(obs.chunk(sample=2)).compute()
    assert (eager["solver_iterations"] > 0).values.tolist() == [False, False, True, True]
    for name in ("mean", "std", "solver_iterations"):
        xr.testing.assert_allclose(lazy[name].variable, eager[name].variable)


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
    assert (result["solver_iterations"] == 0).all()  # few values are one system
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
