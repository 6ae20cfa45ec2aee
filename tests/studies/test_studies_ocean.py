"""The study of the ocean gyre, on a tiny one."""

from functools import partial

import pytest
import torch
from drifting import drifting

import nida_kit as nk
from nida_kit.methods.sequential import LostTruth
from nida_kit.studies import ocean
from nida_kit.training.fields import FieldSettings, Interpolated
from nida_kit.training.ocean import windows

CELLS = 17
PAST = torch.from_numpy(drifting(20, 40, seed=0).values).float()
CLIMATE = nk.FieldClimatology.fit(PAST, ocean.STEPS, 60)


def test_the_laws_observe_as_many_values_as_they_say():
    truth = ocean.labelled(torch.zeros(2, ocean.STEPS, ocean.CELLS, ocean.CELLS))
    for law, counts in ocean.LAWS.items():
        seen = ocean.observed(truth, counts, 6.0, seed=1)["value"].notnull().sum(["y", "x"])
        expected = next(iter(counts.values()))[0]
        assert float(seen.mean()) == pytest.approx(expected, rel=0.35 if "swath" in law else 0.15), law


def test_scores_are_those_of_the_windows_whole():
    truth = ocean.labelled(torch.randn(3, ocean.STEPS, CELLS, CELLS, generator=torch.Generator().manual_seed(1)), CELLS)
    obs = ocean.observed(truth, {"random": (20, 20)}, 1.0, seed=2)
    known = nk.ClimatologicalForecast(CLIMATE, nk.QuasiGeostrophic(cells=CELLS).labels, ocean.DT)
    found = ocean.scored(known, truth, obs, scale=2.0, at_once=2)
    off = CLIMATE.mean.numpy().reshape(-1, CELLS, CELLS) - truth.values
    assert found["error"] == pytest.approx((off**2).mean() / 4, rel=2e-3)
    assert 0 < found["coverage"] < 1 and found["seconds"] > 0


def test_an_ensemble_that_runs_apart_is_said_to_and_other_errors_are_raised():
    class Fails(nk.ClimatologicalForecast):
        why = LostTruth()

        def reconstruct(self, *given):
            raise self.why

    truth = ocean.labelled(torch.zeros(2, ocean.STEPS, CELLS, CELLS), CELLS)
    obs = ocean.observed(truth, {"random": (20, 20)}, 1.0, seed=2)
    method = Fails(CLIMATE, nk.QuasiGeostrophic(cells=CELLS).labels, ocean.DT)
    assert ocean.scored(method, truth, obs, 1.0) == {"windows": 2, "runs apart": True}
    method.why = ValueError("Something else.")
    with pytest.raises(ValueError, match="Something else"):
        ocean.scored(method, truth, obs, 1.0)


def test_memory_is_that_of_the_method():
    class Hungry(nk.ClimatologicalForecast):
        def reconstruct(self, *given):
            held = torch.ones(100_000_000)  # 0.4 GB
            return super().reconstruct(*given) if held.sum() else None

    truth = ocean.labelled(torch.zeros(1, ocean.STEPS, CELLS, CELLS), CELLS)
    obs = ocean.observed(truth, {"random": (20, 20)}, 1.0, seed=2)
    labels = nk.QuasiGeostrophic(cells=CELLS).labels
    assert 0.35 < ocean.memory(Hungry(CLIMATE, labels, ocean.DT), obs) < 0.8


def test_errors_along_the_descent_are_those_of_4d_var_stopped_there(monkeypatch):
    monkeypatch.setattr(ocean, "ITERATIONS", (0, 1, 4))
    gyre = nk.QuasiGeostrophic(cells=CELLS)
    truth = gyre.simulate(samples=3, steps=ocean.STEPS, dt=ocean.DT, seed=1).astype(float)
    obs = ocean.observed(truth, {"random": (20, 20)}, 6.0, seed=2)
    first = nk.OptimalInterpolation(CLIMATE, gyre.labels, ocean.DT)
    found = ocean.along_the_descent(first, CLIMATE, truth, obs, scale=2.0, at_once=2)
    assert set(found) == {"0", "1", "4"} and found["0"] > found["4"]
    for n in (1, 4):
        method = nk.FieldFourDVar(gyre, first, model_error=ocean.MODEL_ERROR, outer=1, iterations=n, draws=1)
        mean = nk.Chain([first, method]).assimilate(obs)["mean"]
        assert found[str(n)] == pytest.approx(float(nk.mse(mean, truth)) / 4, rel=2e-3)


def test_runs_of_the_model_are_counted():
    gyre = ocean.Counted(cells=CELLS, longest_substep=2.5)
    ocean.Counted.count.clear()
    x = torch.zeros(3, CELLS, CELLS, requires_grad=True)
    gyre.trajectories(x, 2, ocean.DT).sum().backward()
    assert ocean.Counted.count == {"forth": 3 * ocean.TENDENCIES, "back": 3 * ocean.TENDENCIES}


def test_a_regression_corrects_its_first_guess_and_knows_how_well(tmp_path, monkeypatch):
    monkeypatch.setattr(ocean, "past", lambda: PAST)
    monkeypatch.setattr(ocean, "records", lambda *_, seed: torch.from_numpy(drifting(8, 40, seed=seed).values).float())
    monkeypatch.setattr(ocean, "CELLS", CELLS)
    settings = FieldSettings(regression=3, one=0, several=0, batch=4)
    method = ocean.regression(tmp_path, pool=8, settings=settings, modes=60)
    law = partial(nk.field_mixture, grid=(CELLS, CELLS), counts={"random": (20, 40)}, noise_std=0.3)
    test = Interpolated.of(CLIMATE, partial(windows, PAST), law, 16, torch.Generator().manual_seed(9), progress=False)
    x, observations, start = test.batch(torch.arange(16))
    with torch.no_grad():
        found = method.reconstruct(observations, ocean.DT, None).posteriors[0]
    assert (found.mean - x).square().mean() < 1.2 * (start.mean - x).square().mean()
    assert (found.mean - start.mean).square().mean() > 1e-6
    covered = ((found.mean - x).abs() < 1.645 * found.std).float()[..., CLIMATE.varies].mean()
    assert 0.8 < covered < 0.97
