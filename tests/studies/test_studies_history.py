"""The study of methods without localised ensembles, on a small ocean."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.methods.method import stream
from nida_kit.methods.sequential import LostTruth
from nida_kit.reference.score import Score
from nida_kit.studies import history


def small(cycles=8):
    ocean = nk.OnAttractor(nk.QuasiGeostrophic(cells=17), time=200.0, snapshots=14, apart=50.0)
    return replace(nk.setups.load("sakov2008-qg"), system=ocean, cycles=cycles, burn_in=10)


def analysed(mean, S, obs, i):
    """Cell i of the mean after 3D-Var with the localised covariance S'S, in dense numpy."""
    y, cells = obs.ravel(), np.argwhere(np.ones(obs.shape))
    known = np.flatnonzero(np.isfinite(y))
    middle = np.minimum(cells[i] // 2 * 2 + 0.5, 16)  # of blocks of 2 x 2; the last have one cell
    taper = gaspari_cohn(torch.from_numpy(np.linalg.norm(middle - cells[known], axis=-1)), 10.0).numpy()
    near = known[taper > 0]
    R = np.diag(4.0 / taper[taper > 0])
    gain = np.linalg.solve(S[:, near].T @ S[:, near] + R, y[near] - mean[near])
    return mean[i] + S[:, i] @ S[:, near] @ gain


def test_optimal_interpolation_and_3d_var_are_those_of_snapshots():
    setup = small()
    truth = setup.windows(1, 0)
    obs = setup.observe(truth, 1)
    states = setup.system.start(8, stream(0), torch.float64, torch.device("cpu")).flatten(1).numpy()
    mean, S = states.mean(0), (states - states.mean(0)) / 7**0.5
    found = history.at_each_time(setup, obs, 8, at_once=3)["mean"].values[0]
    seen = obs["value"].values[0]
    for t, i in ((1, 40), (4, 150), (8, 288)):
        assert found[t].ravel()[i] == pytest.approx(analysed(mean, S, seen[t], i), abs=1e-9)
    result = history.LocalThreeDVar(setup.system, 0.5, members=8, **history.LOCAL).assimilate(obs)
    for t, i in ((1, 40), (4, 150), (8, 288)):
        forecast = result["forecast"].values[0, t].ravel()
        expected = analysed(forecast, 0.5 * S, seen[t], i)
        assert result["mean"].values[0, t].ravel()[i] == pytest.approx(expected, abs=1e-9)


def neural(setup):
    """What stands for the shipped prior on a small grid."""
    return nk.OptimalInterpolation.fit_field(setup.system.simulate(10, 40, 5.0, seed=3), 8, 20)


def test_estimates_of_windows_carry_history():
    setup = small(cycles=31)
    truth = setup.windows(1, 0)
    estimates = history.neural_windows(neural(setup), setup.observe(truth, 1), 8)
    found = history.with_history(setup, estimates, 0.3)
    assert found["time"].values.tolist() == [5.0 * t for w in range(0, 32, 8) for t in (w + 4, w + 7)]

    def ahead(x, steps):
        system = nk.Continued(setup.system, np.stack([x, x]))  # starts there
        return system.simulate(1, steps + 1, 5.0).values[0, -1]

    forecast = ahead(estimates.values[0, 4], 8)
    middle = 0.7 * forecast + 0.3 * estimates.values[0, 12]
    assert found.values[0, 2] == pytest.approx(middle, abs=1e-4)
    assert found.values[0, 3] == pytest.approx(ahead(middle, 3), abs=1e-4)
    alone, carried = (history.scores_of_windows(setup, x, truth, k) for x, k in ((estimates, 8), (found, 2)))
    assert carried["analysis"] < 0.8 * alone["analysis"] and carried["middle"] < alone["middle"]


def test_the_background_is_what_is_left_after_seeing_every_cell():
    setup = small()
    flat = history.background(setup, 1e3, modes=12)  # of an error so large that nothing was learnt
    known = history.background(setup, 2.0, modes=12)
    E, B = flat.patterns.double(), known.patterns.double() @ known.patterns.double().mT
    # in the span of orthogonal patterns (B^-1 + I/4)^-1 is B - B (B + 4 I)^-1 B
    prior = E @ E.mT
    expected = prior - prior @ torch.linalg.solve(prior + 4 * torch.eye(len(prior)), prior)
    assert (B.trace() - expected.trace()).abs() < 0.05 * expected.trace()
    assert (known.spread.square() - known.rest - B.diagonal()).abs().max() < 1e-3 * known.spread.square().max()


def test_the_hybrid_is_4d_var_from_a_forecast():
    setup = small(cycles=2)
    obs = setup.observe(setup.windows(1, 0), 1)
    B = history.background(setup, 3.0, modes=12)
    method = history.Hybrid(setup, B, model_error=1e-3, iterations=25)
    value = torch.from_numpy(obs["value"].values[0]).float().flatten(1)
    start = setup.system.start(1, stream(3), torch.float32, torch.device("cpu")).flatten(1)
    seen = nk.FieldFourDVar(
        setup.system, nk.OptimalInterpolation(B, setup.system.labels, 5.0), outer=1, iterations=25, draws=1
    )
    seen.climatology = replace(B, mean=start)
    seen.model_error = 1e-3
    guess = obs["value"].isel(sample=0).copy(data=np.broadcast_to(start.view(17, 17), obs["value"].shape[1:]))
    expected = seen.assimilate(obs.isel(sample=0), guess)["mean"].values
    with torch.no_grad():
        found = method.window(start, history.Observations(value, torch.full_like(value, 2.0)))
    assert found.view(3, 17, 17).numpy() == pytest.approx(expected, abs=0.02)


@pytest.mark.filterwarnings("ignore:The (answer|search)")
def test_the_study_scores_every_method(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "ENSEMBLES", {10: 1.05})
    setup = small(cycles=12)
    setup = replace(setup, published={"LETKF": Score(0.6, 300, "", method=lambda s: nk.LETKF(s.system, radius=5.0))})
    how = history.HYBRID | {"window": 2, "iterations": 3}
    found = history.measure(1, tmp_path, setup, snapshots=8, tried=4, neural=neural(setup), how=how)
    filters = {"climatology", "optimal interpolation", "3D-Var", "EnKF, 10 members", "LETKF"}
    assert set(found["methods"]) == filters | {"NIDA", "NIDA with history", "hybrid"}
    assert all(0 < row["analysis"] < 20 for row in found["methods"].values())
    assert found["share"] in history.SHARES and "forecast" in found["methods"]["3D-Var"]


def test_an_ensemble_that_runs_apart_is_said_to():
    def lost():
        raise LostTruth

    assert history.timed(lost) == {"runs apart": True}
    assert history.timed(lambda: {"analysis": 1.23456})["analysis"] == 1.235

    def wrong():
        raise ValueError("seed=-1")

    with pytest.raises(ValueError, match="seed"):
        history.timed(wrong)


def test_a_hybrid_that_has_lost_the_truth_says_so():
    setup = small(cycles=4)
    method = history.Hybrid(setup, history.background(setup, 3.0, modes=12), 0.1, 2)
    value = torch.full((4, 17 * 17), float("nan"), dtype=torch.float32)
    with pytest.raises(LostTruth, match="overflowed"):
        method.window(torch.full((1, 17 * 17), 1e30), history.Observations(value, torch.ones_like(value)))
