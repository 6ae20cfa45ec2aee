"""How the shipped prior of the ocean gyre is made: its past, its windows, how they are observed, and its training.

`python -m nida_kit.pretrained ocean --checkpoint ocean.ckpt` does it all, in some three hours and a half of one core.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
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
from nida_kit.training.fields import FieldSettings, Interpolated, calibrate, train_field

CELLS, STEPS, DT = 65, 8, 5.0
FORGOTTEN = 300  # steps of 5 time units until a trajectory has forgotten its start
SETTINGS = FieldSettings()
FIRST_TURN = 1_000_000  # seed of the first fresh windows
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


@dataclass(frozen=True)
class Drawing:
    """Windows of records, observed and interpolated, as many as are asked for.

    Attributes:
        climatology: gives their first guess.
        past: the records.
    """

    climatology: FieldClimatology
    past: Float[Tensor, "N T y x"]

    def __call__(self, count: int, seed: int, progress: bool = True) -> Interpolated:
        """So many, of one seed."""
        scale = float(self.climatology.spread.square().mean().sqrt())
        drawn, observed = partial(windows, self.past), law(scale, self.past.shape[-1])
        generator = torch.Generator().manual_seed(seed)
        return Interpolated.of(self.climatology, drawn, observed, count, generator, progress=progress)

    def fresh(self, turn: int) -> Interpolated:
        """Those that are alike, of that turn."""
        return self(8, FIRST_TURN + turn, progress=False)


def make(
    checkpoint: Path,
    out: Path,
    cells: int = CELLS,
    trajectories: int = 1000,
    length: int = 160,
    modes: int = 360,
    radius: float | None = 25.0,
    pool: int = 4000,
    settings: FieldSettings = SETTINGS,
    temperatures: int = 3,
    **network: int,
) -> None:
    """Train the prior and write it to `out` with its card.

    Args:
        checkpoint: file to resume from.
        out: folder of the weights and the card.
        cells: points along a side.
        trajectories: of the past.
        length: of each, in steps.
        modes: of the climatology.
        radius: of the climatology's taper.
        pool: windows that it has at one time; they are renewed.
        settings: of the training.
        temperatures: that the network is for.
        **network: settings of `nk.FieldPrior`.
    """
    past = records(trajectories, length, seed=1, cells=cells)
    climatology = FieldClimatology.fit(past, STEPS, modes, radius)
    drawing = Drawing(climatology, past)
    with Seeded(settings.seed):
        prior = FieldPrior(climatology, STEPS, temperatures=temperatures, **network)
    history = train_field(prior, drawing(pool, seed=2), settings, fresh=drawing.fresh, checkpoint=checkpoint)
    others = Drawing(climatology, records(8, length, seed=3, cells=cells))
    wider = calibrate(prior, others(64, seed=4))
    seen = pool + 8 * math.ceil(settings.batches / settings.renewal)
    about = {
        "command": "python -m nida_kit.pretrained ocean --checkpoint ocean.ckpt",
        "data": f"{seen} windows of {trajectories} trajectories of {length} steps, nk.QuasiGeostrophic({cells})",
        "law": law.__doc__,
        "settings": history.attrs,
        "wider": round(wider, 3),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores",
    }
    labels = QuasiGeostrophic(cells=cells).labels
    save(prior, out / "ocean.safetensors", Card(labels, DT, about))
