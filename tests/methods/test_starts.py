"""Descents from several starts: each window has a winner of its own, and is linearised there alone."""

import json

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.edge import trajectory
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Diagonal
from nida_kit.methods.starts import Descents, Search, lowest
from nida_kit.observing.observations import Observations


def test_each_window_keeps_what_has_the_lowest_cost_and_the_first_of_equal_ones():
    cost = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 5.0], [2.0, 9.0, 1.0]], dtype=torch.float64)
    number = torch.arange(3)[:, None].expand(3, 3)
    path = [10.0 * (k + 1) + number.double()[..., None, None] for k in range(4)]
    one = Descents(path[:2], path[0], {"cost": cost[:2], "start": number[:2]})
    one = Descents([x[:2] for x in path[:2]], path[0][:2], one.diagnostics)
    two = Descents([x[2:] for x in path], path[0][2:], {"cost": cost[2:], "start": number[2:]})
    found = lowest(lowest(one), two)
    assert found.diagnostics["start"].tolist() == [[1, 0, 2]]
    assert found.diagnostics["cost"].tolist() == [[1.0, 1.0, 1.0]]
    assert found.start.flatten().tolist() == [11, 10, 12]
    # The shorter paths stand still at their ends.
    assert [x.flatten().tolist() for x in found.path] == [[11, 10, 12], [21, 20, 22], [21, 20, 32], [21, 20, 42]]


def cubes():
    """Two windows of one number seen through x^2, whose cost has a minimum on either side of 0."""
    y = torch.tensor([[[4.0]], [[9.0]]], dtype=torch.float64)
    seen = Observations(y, torch.full_like(y, 0.1), torch.square)
    prior = Gaussian.of(torch.tensor([[[1.0]], [[-1.0]]], dtype=torch.float64), Diagonal(torch.ones_like(y)))
    return prior, seen


def test_the_winner_is_the_better_minimum_and_the_posterior_is_linearised_there():
    prior, seen = cubes()
    starts = [torch.full((2, 1, 1), x, dtype=torch.float64) for x in (0.5, -0.5)]
    found = Search(30, 1e-2, 1e-12, 2, 0).run(prior, seen, starts)
    last = found.posteriors[-1]
    assert found.diagnostics["start"].tolist() == [0, 1]
    np.testing.assert_allclose(last.mean.flatten(), [2, -3], rtol=1e-2)
    slope = 2 * last.mean
    np.testing.assert_allclose(last.std, (1 + slope**2 / 0.01) ** -0.5, rtol=1e-12)
    assert last.gaussian is last.gaussian
    alone = Search(30, 1e-2, 1e-12, 1, 0).run(prior, seen, [found.first_guess])
    assert "start" not in alone.diagnostics
    for name in ("cost", "iterations", "converged"):
        assert torch.equal(alone.diagnostics[name], found.diagnostics[name])
    assert torch.equal(alone.posteriors[-1].mean, last.mean)


def test_few_starts_at_once_find_the_same(monkeypatch):
    prior, seen = cubes()
    starts = [torch.full((2, 1, 1), x, dtype=torch.float64) for x in (0.5, -0.5, 3.0, -7.0, 1.0)]
    together = Search(30, 1e-2, 1e-12, 5, 0).run(prior, seen, starts)
    monkeypatch.setattr(Search, "_at_once", lambda self, x: 2)
    apart = Search(30, 1e-2, 1e-12, 5, 0).run(prior, seen, starts)
    assert torch.equal(together.posteriors[-1].mean, apart.posteriors[-1].mean)
    assert torch.equal(together.diagnostics["start"], apart.diagnostics["start"])


def test_fewer_starts_are_the_first_of_more_and_are_on_record():
    few, many = (Search(3, 0.0, 0.0, n, 7).draw(lambda g: torch.rand((), generator=g).item()) for n in (3, 6))
    assert len(few) == 2 and few == many[:2]
    assert Search(3, 0.0, 0.0, 1, 7).draw(None) == []
    assert json.loads(json.dumps(Search(3, 0.0, 0.0, 2, 7).settings))["starts"] == 2
    assert "seed" not in Search(3, 0.0, 0.0, 1, 7).settings


class Explosion(nk.System):
    """x' = x^2: from a positive start, x leaves every bound in a finite time."""

    labels = nk.StateLabels(("x",), ("1",), ("x",))
    longest_substep = 0.1

    def tendency(self, x):
        return x**2

    def start(self, samples, generator, dtype, device):
        return -1 + 3 * torch.randn(samples, 1, generator=generator, dtype=dtype, device=device)


def test_a_start_from_which_the_model_overflows_loses_in_strong_4d_var_too():
    truth = Explosion().trajectories(torch.tensor([[-2.0]], dtype=torch.float64), 20, 0.1)
    obs = nk.observe(trajectory(truth, Explosion.labels, 0.1), every=5, noise_std=0.1, seed=0)
    method = nk.StrongFourDVar(Explosion(), starts=12)
    others = method.search.draw(lambda g: Explosion().start(1, g, torch.float64, torch.device("cpu"))[0])
    assert not Explosion().trajectories(torch.stack(others), 20, 0.1).isfinite().all()
    result = method.assimilate(obs, trajectory(truth + 0.1, Explosion.labels, 0.1))
    assert result["converged"].all() and np.isfinite(result["mean"]).all()
    assert abs(result["mean"][0, 0] + 2).item() < 0.3


@pytest.mark.parametrize("make", [nk.WeakFourDVar, nk.StrongFourDVar])
def test_a_trace_leads_to_the_answer_of_the_winning_start(make):
    noise = [0.2] if make is nk.WeakFourDVar else []
    truth = nk.Lorenz63().simulate(2, 16, 0.05, seed=3, spinup=100)
    obs = nk.observe(truth, components=["x"], every=4, noise_std=0.4, seed=4)
    method = make(nk.Lorenz63(), *noise, starts=3, iterations=6)
    plain, trace = method.assimilate(obs), method.assimilate(obs, trace=True)
    assert trace.sizes["step"] == plain.attrs["iterations"] > 1
    for name in ("mean", "std"):
        np.testing.assert_array_equal(trace[name][-1], plain[name])
        assert np.isfinite(trace[name]).all()


def test_a_method_around_others_promises_what_they_promise():
    system = nk.Lorenz63()
    weak, filtered, still = nk.WeakFourDVar(system, 0.1), nk.EnKF(system), nk.KalmanSmoother(system, 0.1)
    climatology = nk.ClimatologicalForecast.fit(system.simulate(200, 4, 0.05, seed=1), order=0)
    neural = nk.NeuralIncremental.pretrained("lorenz63_small", temperatures=3)
    assert nk.Chain([weak, filtered]).stops_early and not nk.Chain([filtered, still]).stops_early
    assert nk.QuasiStatic(weak).stops_early and not nk.QuasiStatic(still).stops_early
    assert not nk.Chain([weak, climatology]).fits and nk.Chain([climatology, weak]).fits
    assert nk.Chain([weak, neural]).noise_layers == 3 == nk.QuasiStatic(neural).noise_layers
    assert nk.Chain([weak, neural]).dt == neural.dt and nk.Chain([weak, still]).dt is None
    with pytest.raises(ValueError, match="different time steps"):
        other = nk.OptimalInterpolation.fit(system.simulate(200, 4, 0.1, seed=1), order=0)
        nk.Chain([neural, other])
