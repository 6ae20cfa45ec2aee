"""What matters in training: `python -m nida_kit.studies.training`.

Each variant changes one thing of the shipped recipe, trains for the same few batches, and is scored on validation
windows of the paper's law; nothing is ever chosen on test windows. Short trainings rank variants well where the
differences are larger than those between seeds of one recipe, and say nothing about the last percent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from nida_kit import schedule as schedules
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.observing.laws import Law, regular
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.studies.common import LAWS, RECORDS, TEST, VALIDATION, lorenz63, observed, record
from nida_kit.training.recipes import RECIPES
from nida_kit.training.train import Windows, train

BUDGET = 1800  # windows, as in the paper


class _Blind(NeuralPrior):
    """A network that is never told how sure the current estimate is."""

    def forward(self, current, s):
        return super().forward(self.climatology.over(current.mean.shape[-2]).at(current.mean), s)


def _mirrored_at_random(windows: Windows) -> Windows:
    """Augmentation: each window or its mirror image."""
    mirror = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        flip = torch.rand(batch, 1, 1, generator=generator) < 0.5
        x = windows(batch, generator)
        return torch.where(flip, mirror * x, x)

    return draw


def _two(prior: NeuralPrior) -> Law:
    """The law 'two' alone."""
    noise_std = LAWS["two"].noise * torch.from_numpy(lorenz63().spread.values)
    return partial(regular, components=[0, 2], every=8, noise_std=noise_std)


@dataclass(frozen=True)
class Variant:
    """One change of the recipe.

    Attributes:
        settings: of the training.
        network: keywords of the network.
        recipe: anything else of the recipe.
        windows: what becomes of the recipe's windows; None leaves them.
        law: how they are observed; None is the recipe's.
        length: of the training, in units of the others'.
    """

    settings: dict = field(default_factory=dict)
    network: dict = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)
    windows: Callable[[Windows], Windows] | None = None
    law: Callable[[NeuralPrior], Law] | None = None
    length: int = 1


VARIANTS = {
    "the recipe": Variant(),
    "the recipe, another seed": Variant({"seed": 1}),
    "the recipe, a third seed": Variant({"seed": 2}),
    "one step from a random temperature only": Variant({"one_step": 1.0}),
    "unrolled only": Variant({"one_step": 0.0}),
    "no log score": Variant({"log_score": 0.0}),
    "unrolled at most 2 temperatures": Variant({"longest": 2}),
    "unrolled at most 8 temperatures": Variant({"longest": 8}),
    "not told the current spread": Variant(recipe={"kind": _Blind}),
    "block-diagonal precision": Variant(network={"order": 0}),
    "precision of order 2": Variant(network={"order": 2}),
    "width 48": Variant(network={"width": 48}),
    "no symmetry": Variant(network={"odd": ()}),
    "1,800 windows, symmetric by construction": Variant(recipe={"budget": BUDGET}),
    "1,800 windows, mirrored at random": Variant(
        network={"odd": ()}, recipe={"budget": BUDGET}, windows=_mirrored_at_random
    ),
    "1,800 windows, no symmetry": Variant(network={"odd": ()}, recipe={"budget": BUDGET}),
    "the recipe, four times as long": Variant(length=4),
    "specialist of the law 'paper'": Variant(recipe={"law": None}, length=4),
    "specialist of the law 'two'": Variant(law=_two, length=4),
    "1,800 windows, eight times as long": Variant({"decay": 0.1}, recipe={"budget": BUDGET}, length=8),
}


def trained(variant: Variant, batches: int) -> tuple[NeuralPrior, float]:
    """The variant's network after its training, and the minutes that took."""
    recipe = RECIPES["lorenz63"]
    settings = replace(recipe.settings, **{"steps": batches * variant.length} | variant.settings)
    recipe = replace(recipe, settings=settings, network=recipe.network | variant.network, **variant.recipe)
    prior = recipe.begin()
    law = (variant.law or recipe.observing)(prior)
    windows = variant.windows(recipe.windows()) if variant.windows else recipe.windows()
    history = train(prior, windows, law, settings, progress=False)
    return prior, history.attrs["seconds"] / 60


def measure(variant: Variant, batches: int, samples: int) -> dict[str, float]:
    """Scores of a variant on validation windows; of the longer trainings, which choose nothing, on test windows too."""
    prior, minutes = trained(variant, batches)
    setup = lorenz63()
    method = NeuralIncremental(prior, setup.system.labels, setup.dt)

    def mse(name: str, temperatures: int, seed: int = VALIDATION, schedule: schedules.Schedule = schedules.linear):
        truth, obs = observed(setup, LAWS[name], samples, seed)
        return round(setup.score(method.with_temperatures(temperatures, schedule).assimilate(obs)["mean"], truth), 4)

    scores = {f"paper, {k} temperatures": mse("paper", k) for k in (1, 2, 4, 6)}
    for schedule in (schedules.cosine, schedules.geometric):
        scores[f"paper, 4 temperatures, {schedule.__name__}"] = mse("paper", 4, schedule=schedule)
    scores["two, 4 temperatures"] = mse("two", 4)
    if variant.length > 1:
        scores |= {f"test windows of {name}, 4 temperatures": mse(name, 4, TEST) for name in ("paper", "two")}
    return scores | {
        "length": variant.length,
        "minutes": round(minutes, 1),
        "weights": sum(p.numel() for p in prior.parameters()),
    }


def main() -> None:
    """The command: variants that the JSON file has already, of the same recipe and sizes, are not trained again."""
    parser = argparse.ArgumentParser(prog="python -m nida_kit.studies.training", description=__doc__)
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of training.json")
    parser.add_argument("--samples", type=int, default=1000, help="validation windows of each law")
    parser.add_argument("--batches", type=int, default=240, help="of the short trainings")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.out / "training.json"
    recipe = RECIPES["lorenz63"]
    sizes = {"batches": arguments.batches, "validation_windows": arguments.samples, "validation_seed": VALIDATION}
    sizes["recipe"] = asdict(recipe.settings) | recipe.network | recipe.law | {"order": recipe.order}
    sizes = json.loads(json.dumps(sizes))  # as a file gives it back
    found = json.loads(path.read_text()) if path.exists() else {}
    variants = found.get("variants", {}) if sizes.items() <= found.items() else {}
    for name in arguments.variants:
        if name not in variants:
            variants[name] = measure(VARIANTS[name], arguments.batches, arguments.samples)
            print(name, variants[name], flush=True)
            record(path, "training", sizes | {"variants": variants})


if __name__ == "__main__":
    main()
