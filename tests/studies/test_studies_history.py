"""The study of methods without localised ensembles, on a small ocean."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.methods.method import stream
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


def test_the_study_scores_every_method(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "ENSEMBLES", {10: 1.05})
    found = history.measure(1, tmp_path, small(), snapshots=8, tried=4)
    assert set(found["methods"]) == {"climatology", "optimal interpolation", "3D-Var", "EnKF, 10 members"}
    assert all(0 < row["analysis"] < 20 for row in found["methods"].values())
    assert found["share"] in history.SHARES and "forecast" in found["methods"]["3D-Var"]
