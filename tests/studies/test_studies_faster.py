"""The ways to a faster NIDA, on few windows, nothing compiled."""

import numpy as np
import pytest
import torch
import xarray as xr

from nida_kit.methods.neural import NeuralIncremental
from nida_kit.studies import faster
from nida_kit.studies.common import LAWS


def traced(moves):
    """Windows of one value that move by so many standard deviations at each step after the first."""
    mean = np.cumsum([[0.0] * len(moves), *np.transpose(moves)], 0)[..., None, None]
    dims, steps = ("step", "sample", "time", "component"), np.arange(1, len(mean) + 1)
    return xr.Dataset({"mean": (dims, 2 * mean), "std": (dims, np.full_like(mean, 2.0))}, {"step": steps})


def test_a_window_stops_before_the_first_step_that_would_hardly_move_it():
    mean, saved = faster.stopped(traced([[0.05, 1, 1], [1, -0.09, 1], [1, 1, 0.05], [1, 1, 0.11]]))
    assert mean.dims == ("sample", "time", "component")
    np.testing.assert_allclose(mean.values.ravel(), [0, 2, 4, 4.22])
    assert saved == pytest.approx((3 + 2 + 1 + 0) / 16)


def test_bfloat16_is_of_a_copy_and_of_the_network_alone():
    method = NeuralIncremental.pretrained("lorenz63_small", 2)
    half = faster.changed(method, faster.in_bfloat16)
    assert {x.dtype for x in half.prior.parameters()} == {torch.bfloat16}
    assert half.prior.climatology.mean.dtype == torch.float64
    assert {x.dtype for x in method.prior.parameters()} == {torch.float32}
    assert half.temperatures == method.temperatures


def test_every_way_has_its_time_and_its_error(monkeypatch, tmp_path):
    monkeypatch.setattr(faster.shutil, "which", lambda name: None)
    monkeypatch.setattr(faster, "LAWS", {name: LAWS[name] for name in ("paper", "sum")})
    monkeypatch.setattr(faster, "ALONE", 1)
    found = faster.measure(3, tmp_path, turns=1)
    rows = found["ways"]
    assert len(rows) == 6 and faster.COMPILED not in rows and found["compiler"] != "g++"
    assert {key: rows[faster.SHIPPED][key] for key in ("batch", "alone", "rmse", "worst")} == dict.fromkeys(
        ("batch", "alone", "rmse", "worst"), 1.0
    )
    assert 0 <= rows[faster.STOPPED]["steps_saved"] < 0.75
    for name, row in rows.items():
        assert 0.5 < row["rmse"] <= row["worst"] < 5
        assert name == faster.STOPPED or min(row["batch"], row["alone"]) > 0
    rows[faster.COMPILED] = rows[faster.HALF] | {"startup_seconds": 41.7}
    lines = faster.table(found).splitlines()
    assert len(lines) == 9 and len({line.count("|") for line in lines}) == 1
    assert "| torch.compile, after 42 s to compile |" in lines[-1] and "at least" in lines[-2]
