"""How long a training takes to an error: `python -m nida_kit.studies.until`.

The small network of the shipped recipe is trained on 1,800 windows of the paper's law and their mirror images, that law
alone, on one thread. Every few batches the loop runs on validation windows; the seconds of the processor until their
mean squared error is first as small as each of two, for three seeds, looks included.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import torch
import xarray as xr

from nida_kit.studies.common import VALIDATION, command, lorenz63
from nida_kit.training.recipes import RECIPES, Recipe
from nida_kit.training.train import train

ERRORS = (0.15, 0.1)  # mean squared, in climatological variances
WINDOWS = 1800
HELD_OUT = 500
SEEDS = 3


def recipe(batches: int, seed: int, windows: int) -> Recipe:
    """The small network's, of so many windows, and their own law alone."""
    small = RECIPES["lorenz63_small"]
    settings = replace(small.settings, steps=batches, seed=seed, look=25)
    return replace(small, settings=settings, law=None, budget=windows, latest=0)


def reached(of: Recipe, held_out: torch.Tensor) -> dict[str, Any]:
    """Seconds until each of `ERRORS`, None where it is not reached, and the least error of all looks."""
    prior = of.begin()
    law, windows = of.observing(prior), of.windows()

    def drawn(batch: int, generator: torch.Generator) -> torch.Tensor:
        """Each window, or its mirror image."""
        x = windows(batch, generator)
        mirrored = torch.rand(batch, 1, 1, generator=generator) < 0.5
        return torch.where(mirrored, of.images(x)[1], x)

    began, found = process_time(), dict.fromkeys(map(str, ERRORS))

    def watch(history: xr.Dataset) -> bool:
        least = float(history["validation"].min())
        for error in ERRORS:
            if least <= error and found[str(error)] is None:
                found[str(error)] = float(f"{process_time() - began:.3g}")
        return None in found.values()

    history = train(prior, drawn, law, of.settings, validation=(held_out, law), watch=watch, progress=False)
    least = float(f"{float(history['validation'].min()):.4g}")
    return {"seconds": found, "batches": history.sizes["batch"], "least error": least}


def measure(batches: int, folder: Path, seeds: int = SEEDS, windows: int = WINDOWS, held_out: int = HELD_OUT) -> dict:
    """All seeds; so many batches at most."""
    validation = torch.from_numpy(lorenz63().windows(held_out, VALIDATION).values)
    about = {"windows": windows, "validation": f"{held_out} windows, seed {VALIDATION}", "most batches": batches}
    return about | {"seeds": [reached(recipe(batches, seed, windows), validation) for seed in range(seeds)]}


if __name__ == "__main__":
    command("until", measure, samples=600)
