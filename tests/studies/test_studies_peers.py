"""The comparison with other packages, small, and without them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.studies import peers


@pytest.fixture(scope="module")
def smoother():
    return peers.Task("Kalman smoother", peers.linear(40), ("window", 1), ("smoother", (1, 3)), {})


def test_contenders_work_in_turns_on_the_same_arrays(smoother, tmp_path):
    alone, batch = peers.contest(smoother, sys.executable, tmp_path, turns=2)["contenders"]
    assert alone["turns"] == batch["turns"] == 2
    observed = smoother.data(1)
    errors = observed["value"] - observed["truth"]
    assert 0 < alone["rmse"] < 0.7 * (errors[errors == errors] ** 2).mean() ** 0.5
    assert 0 < batch["milliseconds_per_unit"] < alone["milliseconds_per_unit"]


def test_a_field_is_interpolated_from_the_points_that_everyone_gets(monkeypatch, tmp_path):
    def records(samples, steps, seed):
        generator, like = torch.Generator().manual_seed(seed), (torch.float32, torch.device("cpu"))
        fields = nk.QuasiGeostrophic(cells=65).start(samples * steps, generator, *like)
        return fields.unflatten(0, (samples, steps))

    monkeypatch.setattr(peers, "records", records)
    task = peers.Task("a field", peers.fields(4), ("field", 1), ("interpolation", (1, 2)), {})
    rows = peers.contest(task, sys.executable, tmp_path, turns=1)["contenders"]
    data = task.data(2)
    assert (np.isfinite(data["value"]).sum(-1) == 600).all()
    assert all(0 < row["rmse"] < 0.5 * data["truth"].std() for row in rows)


def test_an_ocean_goes_on_from_states_and_from_members_that_everyone_gets(monkeypatch, tmp_path):
    def snapshots(count):
        generator, like = torch.Generator().manual_seed(0), (torch.float64, torch.device("cpu"))
        return nk.QuasiGeostrophic(cells=129).start(count, generator, *like)

    monkeypatch.setattr(peers, "snapshots", snapshots)
    steps = peers.Task("its model", peers.gyre_steps, ("time", 1), ("gyre", (1,)), {})
    (row,) = peers.contest(steps, sys.executable, tmp_path, turns=1)["contenders"]
    moved = np.abs(steps.data(1)["truth"][:, 0] - steps.data(1)["value"]).max()
    assert 0 < row["rmse"] < 1e-2 * moved  # of the time step
    make = peers.gyre_cycles(1, 25)
    data = make(1)
    assert (np.isfinite(data["value"]).sum(-1) == [0, 300]).all()
    filtered = peers.Task("its filter", make, ("cycle", 1), ("gyre_letkf", (1,)), {})
    (row,) = peers.contest(filtered, sys.executable, tmp_path, turns=0)["contenders"]
    assert 0 < row["rmse"] < data["truth"][0, 1].std()


def test_an_environment_without_the_packages_has_no_compiled_ocean():
    assert not peers.compiled(Path(sys.executable))


def test_a_contender_that_takes_long_has_one_turn(monkeypatch, smoother, tmp_path):
    monkeypatch.setattr(peers, "LONG", 0.0)
    only = peers.Task("alone", smoother.data, ("window", 1), ("smoother", (1,)), {})
    (row,) = peers.contest(only, sys.executable, tmp_path, turns=2)["contenders"]
    assert row["turns"] == 0 and row["milliseconds_per_unit"] == pytest.approx(
        1e3 * row["first_call_seconds"], rel=1e-3
    )


def test_a_contender_that_fails_says_how_to_run_it(smoother, tmp_path):
    data = tmp_path / "nothing.npz"
    contender = peers.Contender(sys.executable, peers.HERE / "peers_ours.py", "smoother", data, tmp_path / "answer.npy")
    with pytest.raises(RuntimeError, match="by hand"):
        contender.work()
    contender.end()


def test_lines_are_those_that_run_with_the_helpers_they_call(tmp_path):
    file = tmp_path / "contenders.py"
    file.write_text(
        "def a(data):\n    # why\n    x = 1\n\n    return b(x)\n\n\ndef b(x):\n    return x\n\n\ndef c():\n    pass\n"
    )
    assert peers.lines_of(file, "a") == 3
    tasks = peers.tasks(10, 10, 2)
    functions = {"ours": {task.ours[0] for task in tasks}, "theirs": {name for task in tasks for name in task.theirs}}
    for whose, names in functions.items():
        assert all(3 <= peers.lines_of(peers.HERE / f"peers_{whose}.py", name) <= 30 for name in names)
