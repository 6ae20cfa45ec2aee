"""What the shipped prior would gain by more training: `python -m nida_kit.studies.further`.

Two trainings go on from the shipped weights of Lorenz-63, alike but for what they see: the mixture that these were
trained on, and the same with linear combinations of the components in half of the batches. Scores are those of windows
that no other study draws. Rows are kept as they are found.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nida_kit.methods.neural import NeuralIncremental
from nida_kit.observing.laws import combinations
from nida_kit.priors.paper import Network
from nida_kit.setups import Setup
from nida_kit.studies.common import LAWS, Kept, command, lorenz63
from nida_kit.training.recipes import RECIPES, Recipe
from nida_kit.training.train import Settings, train

FRESH = 987654  # seed of the windows; observed with the next one
OWN, LATE = 0.15, 0.2  # shares of the paper's law, and of windows that start late
SHARES = {"as before": 0.0, "with combinations": 0.5}  # of batches that see these
BATCHES = 2500


def scores(setup: Setup, prior: Network, samples: int) -> dict[str, dict[str, float]]:
    """Of each law, with four temperatures."""
    method, truth = NeuralIncremental(prior, setup.system.labels, setup.dt, 4), setup.windows(samples, FRESH)
    found = {}
    for name, law in LAWS.items():
        obs = law.observe(setup, truth, FRESH + 1)
        result = method.assimilate(obs, operator=law.operator)
        found[name] = {k: float(f"{v:.4g}") for k, v in setup.scores(result, truth).items()}
    return found


def trained(recipe: Recipe, prior: Network, share: float, settings: Settings, checkpoint: Path | None) -> Network:
    """The prior after more batches, combinations in that share of them."""
    law = partial(
        combinations, law=recipe.observing(prior, OWN), scale=prior.climatology.spread.flatten().double(), share=share
    )
    train(prior, recipe.windows(LATE), law, settings, checkpoint=checkpoint, progress=False)
    return prior


def measure(samples: int, folder: Path, batches: int = BATCHES, weights: str = "lorenz63") -> dict[str, Any]:
    """The shipped prior, and both trainings; each leaves a checkpoint in the folder while it runs."""
    setup, recipe = lorenz63(), RECIPES[weights]
    settings = Settings(steps=batches, batch=64, rate=1.5e-3, log_score=0.1, seed=11)
    about = {"windows": f"{samples}, seed {FRESH}", "batches": batches, "weights": weights}
    found = Kept(folder, "further", about)

    def shipped() -> Network:
        return NeuralIncremental.pretrained(weights).prior

    found.row("laws", "shipped", make=lambda: scores(setup, shipped(), samples))
    for name, share in SHARES.items():
        path = folder / f"further {name}.ckpt"

        def make(share: float = share, path: Path = path) -> dict[str, dict[str, float]]:
            return scores(setup, trained(recipe, shipped(), share, settings, path), samples)

        found.row("laws", name, make=make)
        path.unlink(missing_ok=True)
    return found.found


if __name__ == "__main__":
    command("further", measure, samples=1000)
