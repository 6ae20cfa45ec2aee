"""How the shipped prior of the ocean gyre is made: its past, its windows, how they are observed, and its training.

`python -m nida_kit.pretrained ocean --checkpoint ocean.ckpt` does it all, in about an hour and a half of one core.
Windows are kept beside the checkpoint, 5 GB; nothing of them is needed later.
"""

from __future__ import annotations

import os
import platform
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.observing.laws import either, field_mixture
from nida_kit.priors.field import FieldPrior
from nida_kit.priors.modes import FieldClimatology
from nida_kit.priors.parts import Seeded
from nida_kit.priors.weights import Card, save
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic
from nida_kit.training.checkpoint import read_checkpoint, write_checkpoint
from nida_kit.training.fields import FieldSettings, Interpolated, calibrate, train_field

CELLS, STEPS, DT = 65, 8, 5.0
FORGOTTEN = 300  # steps of 5 time units until a trajectory has forgotten its start
SETTINGS = FieldSettings()
NOISE = 0.1  # of the errors, in standard deviations of the field


def records(samples: int, steps: int, seed: int, cells: int = CELLS) -> Float[Tensor, "N T y x"]:
    """Trajectories of the turbulent gyre, of which every second one is mirrored: y -> 1 - y, psi -> -psi."""
    ocean = QuasiGeostrophic(cells=cells)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for some in torch.arange(samples).split(20):  # as many as a processor's memory is quick for
        x = ocean.start(len(some), generator, torch.float32, torch.device("cpu"))
        with torch.no_grad():
            found.append(ocean.trajectories(x, FORGOTTEN + steps, DT)[:, FORGOTTEN:].clone())
    x = torch.cat(found)
    x[1::2] = -x[1::2].flip(-2)
    return x


def law(scale: float, cells: int = CELLS):
    """Half of the windows as they are reported on, half of any number of values and noise; never a swath."""
    grid, some, few = (cells, cells), cells**2 // 56, cells**2 // 140
    noise = NOISE * scale
    published = partial(
        either,
        law=partial(field_mixture, grid=grid, counts={"tracks": (some, some), "random": (some, some)}, noise_std=noise),
        other=partial(field_mixture, grid=grid, counts={"tracks": (few, few)}, noise_std=noise),
        share=2 / 3,
    )
    any_number = partial(
        field_mixture,
        grid=grid,
        counts={"tracks": (cells**2 // 211, 2 * some), "random": (cells**2 // 211, 2 * some)},
        noise_std=(noise / 2, 2 * noise),
    )
    return partial(either, law=published, other=any_number, share=0.5)


def windows(x: Float[Tensor, "N T y x"], batch: int, generator: torch.Generator) -> Float[Tensor, "B S n"]:
    """Random windows of records, half of them mirrored."""
    which = torch.randint(len(x), (batch,), generator=generator)
    begin = torch.randint(x.shape[1] - STEPS + 1, (batch,), generator=generator)
    drawn = torch.stack([x[i, t : t + STEPS] for i, t in zip(which.tolist(), begin.tolist(), strict=True)])
    mirrored = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, -drawn.flip(-2), drawn).flatten(2)


def first_guesses(
    kept: Path, climatology: FieldClimatology, past: Float[Tensor, "N T y x"], count: int
) -> Interpolated:
    """So many windows of the past, observed and interpolated: those of a file, which is made if there is none.

    Raises:
        ValueError: a file of other windows.
    """
    cells = past.shape[-1]
    made = {"cells": cells, "trajectories": len(past), "length": past.shape[1], "modes": len(climatology.modes)}
    made["pool"] = count
    if not kept.exists():
        scale = float(climatology.spread.square().mean().sqrt())
        generator = torch.Generator().manual_seed(2)
        drawn = Interpolated.of(climatology, partial(windows, past), law(scale, cells), count, generator)
        write_checkpoint(kept, vars(drawn) | made)
    read = read_checkpoint(kept, "cpu", made, mmap=True)
    return Interpolated(**{name: value for name, value in read.items() if name not in made})


def make(
    checkpoint: Path,
    out: Path,
    cells: int = CELLS,
    trajectories: int = 500,
    length: int = 160,
    modes: int = 280,
    pool: int = 20_000,
    settings: FieldSettings = SETTINGS,
    **network: int,
) -> None:
    """Train the prior and write it to `out` with its card.

    Args:
        checkpoint: file to resume from; beside it first guesses are kept.
        out: folder of the weights and the card.
        cells: points along a side.
        trajectories: of the past.
        length: of each, in steps.
        modes: of the climatology.
        pool: windows that it is trained on.
        settings: of the training.
        **network: settings of `nk.FieldPrior`.
    """
    past = records(trajectories, length, seed=1, cells=cells)
    climatology = FieldClimatology.fit(past, STEPS, modes)
    scale = float(climatology.spread.square().mean().sqrt())
    drawn = first_guesses(checkpoint.with_suffix(".windows.pt"), climatology, past, pool)
    with Seeded(settings.seed):
        prior = FieldPrior(climatology, STEPS, **network)
    history = train_field(prior, drawn, settings, checkpoint=checkpoint)
    others = partial(windows, records(8, length, seed=3, cells=cells))
    generator = torch.Generator().manual_seed(4)
    wider = calibrate(prior, Interpolated.of(climatology, others, law(scale, cells), 64, generator))
    about = {
        "command": "python -m nida_kit.pretrained ocean --checkpoint ocean.ckpt",
        "data": f"{pool} windows of {trajectories} trajectories of {length} steps, nk.QuasiGeostrophic({cells})",
        "law": law.__doc__,
        "settings": history.attrs,
        "wider": round(wider, 3),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores",
    }
    labels = QuasiGeostrophic(cells=cells).labels
    save(prior, out / "ocean.safetensors", Card(labels, DT, about))
