"""Two processes train one prior as one process does with twice the batch."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.observing.laws import regular

WINDOWS = torch.from_numpy(nk.Lorenz63().simulate(samples=60, steps=6, dt=0.1, spinup=20, seed=0).values)
SETTINGS = nk.Settings(steps=6, batch=8, longest=3, one_step=0.4, look=3, seed=1)

# Run by each process. They begin with different weights, and the first one's count.
SCRIPT = """
import sys
import torch
from lightning_fabric import Fabric
from test_processes import SETTINGS, prior, run
from dataclasses import replace

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
mine = prior(seed=fabric.global_rank)
history = run(mine, replace(SETTINGS, batch=4), fabric=fabric, checkpoint=f"{sys.argv[1]}/c.ckpt")
torch.save(mine.state_dict(), f"{sys.argv[1]}/{fabric.global_rank}.pt")
torch.save(torch.tensor(history["loss"].values), f"{sys.argv[1]}/loss{fabric.global_rank}.pt")
"""


def law(shape, generator):
    """x at every second step."""
    return regular(shape, generator, components=[0], every=2, noise_std=0.5)


def prior(seed: int = 0) -> nk.NeuralPrior:
    torch.manual_seed(seed)
    return nk.NeuralPrior(nk.Climatology.fit(WINDOWS[:50]), width=8, dilations=(1, 2))


def run(prior, settings=SETTINGS, **how):
    return nk.train(prior, nk.fixed(WINDOWS[:50]), law, settings, validation=(WINDOWS[50:], law), progress=False, **how)


def test_two_processes_come_to_the_weights_of_one_with_twice_the_batch(tmp_path):
    pytest.importorskip("lightning_fabric")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    whole = prior()
    history = run(whole)
    for rank in (0, 1):
        for name, value in torch.load(tmp_path / f"{rank}.pt").items():
            torch.testing.assert_close(value, whole.state_dict()[name], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(torch.load(tmp_path / f"loss{rank}.pt"), history["loss"], rtol=1e-5)
    moved = torch.cat([(a - b).flatten().abs() for a, b in zip(whole.parameters(), prior().parameters(), strict=True)])
    assert moved.max() > 1e-3  # a hundred times what they may differ by
    assert (tmp_path / "c.ckpt").exists()


def test_a_fabric_of_one_process_changes_nothing_and_bfloat16_little():
    fabric = pytest.importorskip("lightning_fabric").Fabric
    alone, single, half = prior(), prior(), prior()
    run(alone)
    run(single, fabric=fabric(accelerator="cpu", devices=1))
    run(half, fabric=fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    for a, b, c in zip(alone.parameters(), single.parameters(), half.parameters(), strict=True):
        assert torch.equal(a, b) and c.dtype == torch.float32
        torch.testing.assert_close(a, c, rtol=0.1, atol=0.05)
    assert not all(map(torch.equal, alone.parameters(), half.parameters()))


class OfTwo:
    """What training asks of a fabric, before it was launched."""

    world_size = 2
    global_rank = 0
    device = torch.device("cpu")
    strategy = SimpleNamespace(precision=SimpleNamespace(precision="32-true"))
    all_reduce = broadcast = autocast = None


class Halves(OfTwo):
    world_size = 1
    strategy = SimpleNamespace(precision=SimpleNamespace(precision="16-true"))


@pytest.mark.parametrize(
    ("fabric", "match"), [("ddp", "no fabric"), (OfTwo(), "launched"), (Halves(), "the precision '16-true'")]
)
def test_a_fabric_that_cannot_be_used_is_a_value_error(fabric, match):
    with pytest.raises(ValueError, match=match):
        run(prior(), fabric=fabric)
