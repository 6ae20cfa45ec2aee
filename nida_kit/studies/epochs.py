"""Error against training epoch, a line per temperature: `python -m nida_kit.studies.epochs`.

The figure of Blanke, Fablet and Lelarge (2024), for the shipped recipe, cut to few epochs. An epoch is as many windows
as theirs has; here they are fresh ones. Before each epoch, and after the last one, the network reconstructs the same
validation windows of the paper's law, and the estimate after each of its temperatures is scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nida_kit import schedule as schedules
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.priors.paper import Network
from nida_kit.studies.common import LAWS, VALIDATION, command, lorenz63, observed
from nida_kit.training.recipes import RECIPES, Recipe
from nida_kit.training.train import Windows, train

EPOCH = 1800  # windows, as in the paper
EPOCHS = 30
TEMPERATURES = 4


def watched(windows: Windows, every: int, look: Callable[[], None]) -> Windows:
    """The same windows; `look` is called before each batch that begins an epoch of `every` batches."""
    drawn = 0

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        nonlocal drawn
        if drawn % every == 0:
            look()
        drawn += 1
        return windows(batch, generator)

    return draw


def measure(
    samples: int, folder: Path, epochs: int = EPOCHS, epoch: int = EPOCH, recipe: Recipe | None = None
) -> dict[str, Any]:
    """Errors `mse`, a list along the epochs for each temperature, of a network that the recipe trains.

    Args:
        samples: validation windows.
        folder: nothing is written there.
        epochs: of the training.
        epoch: windows of each.
        recipe: None is that of the shipped prior.
    """
    recipe = RECIPES["lorenz63"] if recipe is None else recipe
    setup, law = lorenz63(), LAWS["paper"]
    truth, obs = observed(setup, law, samples, VALIDATION)
    batches = max(1, epoch // recipe.settings.batch)
    recipe = replace(recipe, settings=replace(recipe.settings, steps=epochs * batches))
    prior: Network = recipe.begin()
    method = NeuralIncremental(prior, setup.system.labels, setup.dt, TEMPERATURES)
    first_guess = OptimalInterpolation(prior.climatology, setup.system.labels, setup.dt).assimilate(obs)["mean"]
    falls = schedules.linear(TEMPERATURES)
    errors: list[list[float]] = [[] for _ in falls]

    def look() -> None:
        prior.eval()
        found = method.assimilate(obs, trace=True)["mean"]
        prior.train()
        for k, line in enumerate(errors):
            line.append(float(f"{setup.score(found.isel(step=k), truth):.4g}"))

    windows = watched(recipe.windows(), batches, look)
    train(prior, windows, recipe.observing(prior), recipe.settings, progress=False)
    look()
    return {
        "temperatures": falls,
        "mse": errors,
        "first_guess_mse": float(f"{setup.score(first_guess, truth):.4g}"),
        "epochs": epochs,
        "windows of an epoch": batches * recipe.settings.batch,
        "validation": f"{samples} windows, {law.what}; seed {VALIDATION}, observed with seed {VALIDATION + 1}",
        "seed": recipe.settings.seed,
    }


if __name__ == "__main__":
    command("epochs", measure, samples=500)
