"""Train, score and save a shipped prior: `python -m nida_kit.pretrained lorenz63 --checkpoint lorenz63.ckpt`."""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from nida_kit import setups
from nida_kit.assimilate.method import Method
from nida_kit.assimilate.methods import NeuralIncremental, OptimalInterpolation
from nida_kit.observe import mixture
from nida_kit.pretrained.scores import SAMPLES, SEED, table
from nida_kit.prior import Climatology, NeuralPrior
from nida_kit.train import Settings, simulated, train
from nida_kit.weights import Card, save


@dataclass(frozen=True)
class Recipe:
    """How a shipped prior is made.

    Attributes:
        setup: gives system, window and the law it is scored on.
        order: of the climatology.
        latest: windows start up to this many steps after their trajectory.
        law: keywords of the mixture of observation laws that it is trained on.
        network: keywords of `NeuralPrior`.
        settings: of the training.
    """

    setup: str
    order: int
    latest: int
    law: dict
    network: dict
    settings: Settings


RECIPES = {
    "lorenz63": Recipe(
        "blanke2024-lorenz63",
        order=4,
        latest=16,
        law={"noise": (0.02, 0.2), "spacing": (2, 12), "count": (4, 20)},
        network={"width": 96, "dilations": (1, 2, 4, 8, 1, 2)},
        settings=Settings(steps=6000, batch=64, bfloat16=True),
    ),
    "pendulum": Recipe(
        "blanke2024-pendulum",
        order=1,
        latest=40,
        law={"noise": (1e-3, 0.1), "spacing": (5, 30), "count": (4, 20)},
        network={"width": 64, "dilations": (1, 2, 4, 8, 16, 4, 1)},
        settings=Settings(steps=3000, batch=32, rate=1e-3, bfloat16=True),
    ),
}


def make(name: str, checkpoint: Path | None, out: Path, device: str) -> None:
    """Train one shipped prior and write it to `out` with its card."""
    recipe = RECIPES[name]
    setup = setups.load(recipe.setup)
    windows = simulated(setup.system, setup.steps, setup.dt, setup.model_noise_std, recipe.latest)
    torch.manual_seed(recipe.settings.seed)
    climatology = Climatology.fit(windows(10_000, torch.Generator().manual_seed(recipe.settings.seed)), recipe.order)
    prior = NeuralPrior(climatology, **recipe.network)
    law = partial(mixture, scale=climatology.spread, **recipe.law)
    history = train(prior, windows, law, recipe.settings, device=device, checkpoint=checkpoint)

    prior.cpu()
    labels = setup.system.labels
    methods: dict[str, Method] = {"first guess": OptimalInterpolation(climatology, labels, setup.dt)}
    for temperatures in (1, 2, 4, 8):
        methods[f"{temperatures} temperatures"] = NeuralIncremental(prior, labels, setup.dt, temperatures)
    scores = table(setup, methods)
    about = {
        "setup": recipe.setup,
        "command": f"python -m nida_kit.pretrained {name}",
        "data": f"fresh simulations, half of them starting up to {recipe.latest} steps late",
        "law": {"name": "nida_kit.observe.mixture", **recipe.law},
        "settings": asdict(recipe.settings),
        "minutes": round(history.attrs["seconds"] / 60, 1),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, {device}",
        "scored_on": f"{SAMPLES} fresh windows of {recipe.setup}, seed {SEED}, observed with seed {SEED + 1}",
        "scores": scores,
    }
    save(prior, out / f"{name}.safetensors", Card(labels, setup.dt, about))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--checkpoint", type=Path, help="file to resume from, written every 100 batches")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the weights and the card")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    make(arguments.name, arguments.checkpoint, arguments.out, arguments.device)


if __name__ == "__main__":
    main()
