"""What wrong physics does, to a prior trained on it and to 4D-Var: `python -m nida_kit.studies.model_error`.

The truth is always the paper's Lorenz-63. Somebody believes in something else, a *belief*: another parameter, or no
model noise. Everything that they build rests on it: the climatology, the simulations that a prior is trained on, the
model within 4D-Var. Instruments are known, so observations and their noise are the true ones.

Two ways out are tried. The model error can be said to be larger: Q in 4D-Var, at its best on validation windows of the
truth; model noise or an uncertain parameter in the simulations for NIDA. Or a few true trajectories are at hand: a
trained prior goes on training with them, and 4D-Var gets the Q that its model needs to explain their steps. Networks
are also trained on true trajectories alone. All trainings are short and alike, so compare them with the belief that is
right, not with the shipped priors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.methods.compose import Chain
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.strong import StrongFourDVar
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.parts import Seeded
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.setups import Setup
from nida_kit.studies import limit
from nida_kit.studies.classical import law, of_law
from nida_kit.studies.common import RECORDS, TEST, VALIDATION, Law, interpolation, lorenz63, observed, record
from nida_kit.systems.lorenz import Lorenz63
from nida_kit.training.recipes import RECIPES, Recipe
from nida_kit.training.train import Windows, fixed, simulated, train

NOISE = lorenz63().model_noise_std
LAWS = {"x every 8th step": law(8, 0.05), "x every 4th step": law(4, 0.05)}
NOISES = (NOISE, 0.4, 0.8, 1.6)  # candidates for sqrt(Q), per step and component, in state units
BATCHES, MORE = 500, 150  # of a training, and of its continuation with true trajectories
DATA, DATA_SEED = 100, 3  # true trajectories
STARTS = 16
CLIMATE = 10_000  # windows behind a climatology


@dataclass(frozen=True)
class Belief:
    """Physics that somebody takes for the truth.

    Attributes:
        system: the dynamics.
        model_noise_std: per step and component, state units.
        rho_std: of the Rayleigh numbers in the simulations, one for each window, around that of the system.
    """

    system: Lorenz63
    model_noise_std: float = NOISE
    rho_std: float = 0.0

    def setup(self) -> Setup:
        """The experiment as they imagine it."""
        return replace(lorenz63(), system=self.system, model_noise_std=self.model_noise_std)

    def windows(self, latest: int) -> Windows:
        """Their simulations; half of the windows start up to `latest` steps late."""
        setup = self.setup()

        def draw(batch: int, generator: torch.Generator) -> Tensor:
            system = self.system
            if self.rho_std:
                unit = torch.randn(batch, generator=generator, dtype=torch.float64)
                system = OneForEach(system.sigma, system.rho + self.rho_std * unit, system.beta, system.longest_substep)
            return simulated(system, setup.steps, setup.dt, self.model_noise_std, latest)(batch, generator)

        return draw


class OneForEach(Lorenz63):
    """Lorenz-63 with a rho of its own for each window of one batch."""

    def check(self):
        """It cannot be tried on fewer states."""


BELIEFS = {
    "right": Belief(Lorenz63()),
    "rho 10% low": Belief(Lorenz63(rho=25.2)),
    "rho 20% low": Belief(Lorenz63(rho=22.4)),
    "rho 20% high": Belief(Lorenz63(rho=33.6)),
    "sigma 20% low": Belief(Lorenz63(sigma=8.0)),
    "no model noise": Belief(Lorenz63(), model_noise_std=0.0),
}
SHIPPED = {BELIEFS["right"]: "lorenz63_small", BELIEFS["rho 20% low"]: "lorenz63_rho22"}
"""Weights that were trained three times as long, by belief."""
HEDGED = {
    "rho 20% low, uncertain": Belief(Lorenz63(rho=22.4), rho_std=0.2 * 22.4),
    "rho 20% low, more noise": Belief(Lorenz63(rho=22.4), model_noise_std=0.8),
}
"""The same wrong belief, held with doubt; these are trained only."""
ALONE = {"100 true trajectories alone": 100, "10 true trajectories alone": 10}
"""No belief at all: nothing but true trajectories."""
FEW = {"rho 20% low, mended with 10": ("rho 20% low", 10)}
"""A belief that is mended with fewer."""
AGAIN = {"right, a second training": 1, "right, a third training": 2}
"""Other seeds: what in these short trainings is chance."""
NAMES = [*BELIEFS, *HEDGED, *FEW, *ALONE, *AGAIN]


def recipe(batches: int, seed: int = 0) -> Recipe:
    """The training, the same for all."""
    small = RECIPES["lorenz63_small"]
    return replace(small, settings=replace(small.settings, steps=batches, seed=seed))


def true_windows(samples: int = DATA) -> Float[Tensor, "N T n"]:
    """The few true trajectories."""
    return torch.from_numpy(lorenz63().windows(samples, DATA_SEED).values)


def trained(
    windows: Windows, climate: Float[Tensor, "N T n"], batches: int, checkpoint: Path | None = None, seed: int = 0
) -> NeuralPrior:
    """A prior around the climatology of some windows, trained on others."""
    how = recipe(batches, seed)
    climatology = Climatology.fit(torch.cat(how.images(climate)), how.order)
    with Seeded(how.settings.seed):
        prior = NeuralPrior(climatology, **how.network)
    train(prior, windows, how.observing(prior), how.settings, checkpoint=checkpoint, progress=False)
    return prior


def believer(belief: Belief, batches: int, checkpoint: Path | None = None, seed: int = 0) -> NeuralPrior:
    """A prior trained on a belief."""
    windows = belief.windows(RECIPES["lorenz63_small"].latest)
    climate = windows(CLIMATE, torch.Generator().manual_seed(seed))
    return trained(windows, climate, batches, checkpoint, seed)


def network_of(belief: Belief, batches: int = 0) -> NeuralPrior:
    """The shipped network of a belief; with `batches`, one that is trained on it now.

    Raises:
        ValueError: there is none, and no batches are given.
    """
    if batches:
        return believer(belief, batches)
    if belief not in SHIPPED:
        known = [name for name, each in BELIEFS.items() if each in SHIPPED]
        raise ValueError(f"{belief} has no shipped network: give batches=500, say. Shipped are those of {known}.")
    return NeuralIncremental.pretrained(SHIPPED[belief]).prior


def empiricist(data: Float[Tensor, "N T n"], batches: int, checkpoint: Path | None = None) -> NeuralPrior:
    """A prior trained on the few true trajectories alone."""
    return trained(fixed(data), data, batches, checkpoint)


def mended(
    prior: NeuralPrior, data: Float[Tensor, "N T n"], batches: int, checkpoint: Path | None = None
) -> NeuralPrior:
    """A copy of a prior, trained on with the few true trajectories; its climatology stays as it was."""
    how = recipe(batches)
    settings = replace(how.settings, rate=how.settings.rate / 5, seed=how.settings.seed + 1)
    prior = deepcopy(prior)
    train(prior, fixed(data), how.observing(prior), settings, checkpoint=checkpoint, progress=False)
    return prior


# Who takes part


def four_d_var(belief: Belief, model_noise_std: float | Tensor, **how: int) -> Method:
    """4D-Var with a belief's model: weak, or strong if its model is to be without error."""
    if not torch.as_tensor(model_noise_std).any():
        return StrongFourDVar(belief.system, **how)
    return WeakFourDVar(belief.system, model_noise_std, **how)


def unexplained(belief: Belief, data: Float[Tensor, "N T n"]) -> Float[Tensor, " n"]:
    """Root mean square of what a belief's model leaves unexplained in each step of true trajectories."""
    forecast = belief.system.step(data[:, :-1], lorenz63().dt)
    return (data[:, 1:] - forecast).square().mean((0, 1)).sqrt()


Make = Callable[[float | Tensor], Method]
"""A method with a given sqrt(Q)."""


def with_physics(belief: Belief, neural: Method, mended: Method, starts: int = STARTS) -> dict[str, Make]:
    """Those that need a belief's model when they are used: their Q is still open."""
    first = interpolation(belief.setup())
    return {
        "4D-Var": lambda q: Chain([first, four_d_var(belief, q)]),
        f"4D-Var, {starts} starts": lambda q: Chain([first, four_d_var(belief, q, starts=starts)]),
        "NIDA, then 4D-Var": lambda q: Chain([neural, four_d_var(belief, q, iterations=3)]),
        "NIDA mended, then 4D-Var": lambda q: Chain([mended, four_d_var(belief, q, iterations=3)]),
    }


def by_window(make: Make, law: Law, samples: int, noises: Sequence[float]) -> pd.DataFrame:
    """Mean squared error of each validation window of the truth, a row each, with each sqrt(Q), a column each."""
    truth, obs = observed(lorenz63(), law, samples, VALIDATION)
    spread = lorenz63().spread
    errors = {}
    for q in noises:
        away = (make(q).assimilate(obs)["mean"] - truth) / spread
        errors[q] = (away**2).mean(("time", "component")).values
    return pd.DataFrame(errors).rename_axis("window").rename_axis("sqrt Q", axis=1)


def by_noise(make: Make, law: Law, samples: int, noises: Sequence[float]) -> list[tuple[float, float]]:
    """Pairs of sqrt(Q) and the mean squared error over validation windows of the truth."""
    return list(by_window(make, law, samples, noises).mean().items())


def beside(errors: pd.DataFrame, reference: float) -> pd.DataFrame:
    """What each sqrt(Q) is worth beside one of them, a row each, with standard errors over the windows.

    The difference is taken window by window, so that what makes a window hard for all of them cancels.

    >>> beside(pd.DataFrame({0.2: [1.0, 3.0], 0.4: [2.0, 4.0]}), 0.2)["difference"].tolist()
    [0.0, 1.0]

    Args:
        errors: as `by_window` gives them, two windows or more.
        reference: the sqrt(Q) that the others are compared with, one of the columns.

    Returns:
        `RMSE`, `RMSE_error`; the `difference` of the mean squared error from that of the reference, and
        `difference_error`.
    """
    root = len(errors) ** 0.5
    rmse = errors.mean() ** 0.5
    difference = errors.sub(errors[reference], axis=0)
    return pd.DataFrame(
        {
            "RMSE": rmse,
            "RMSE_error": errors.std() / root / (2 * rmse),  # of a root: half of that of the square, relative to it
            "difference": difference.mean(),
            "difference_error": difference.std() / root,
        }
    )


def of_priors(priors: dict[str, NeuralPrior], law: Law, samples: int) -> dict[str, dict[str, Any]]:
    """Scores of priors alone."""
    setup = lorenz63()
    methods = {name: NeuralIncremental(prior, setup.system.labels, setup.dt) for name, prior in priors.items()}
    return of_law(setup, methods, *observed(setup, law, samples))


def of_physics(
    belief: Belief, named: dict[str, Make], law: Law, data: Float[Tensor, "N T n"], samples: int, validation: int
) -> tuple[dict[str, dict[str, Any]], dict[str, list[tuple[float, float]]]]:
    """Scores with the believed, the best and the measured Q, and the errors that the best was chosen by."""
    setup, curves = lorenz63(), {name: by_noise(make, law, validation, NOISES) for name, make in named.items()}
    rows = {}
    for name, make in named.items():
        best = min(curves[name], key=lambda pair: pair[1])[0]
        known = {"": belief.model_noise_std, ", Q tuned": best, ", Q from data": unexplained(belief, data)}
        for suffix, q in known.items():
            row = of_law(setup, {name: make(q)}, *observed(setup, law, samples))[name]
            rows[name + suffix] = row | {"model_noise_std": torch.as_tensor(q, dtype=torch.float64).tolist()}
    return rows, curves


def exact(belief: Belief, neural: Method, samples: int, particles: int) -> dict[str, float]:
    """The error of the posterior mean under a belief, by particles, and NIDA's on the same windows of the first law."""
    setup = lorenz63()
    truth, obs = observed(setup, next(iter(LAWS.values())), samples)
    found = limit.limit(setup, limit.smoothers(belief.setup(), particles, 8 * particles), truth, obs)
    kept = {name: found[name] for name in ("windows", "mse", "monte_carlo_share", "posterior_variance")}
    return kept | {"NIDA": setup.score(neural.assimilate(obs)["mean"], truth)}


# Measuring


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


@dataclass(frozen=True)
class Sizes:
    """How large the study is.

    Attributes:
        batches: of each training.
        more: of its continuation with true trajectories.
        samples: test windows of each law.
        validation: windows that Q is chosen on.
        exact: windows that the posterior of a belief is computed on; 0 is none.
        particles: of that posterior.
        starts: of 4D-Var.
    """

    batches: int = BATCHES
    more: int = MORE
    samples: int = 200
    validation: int = 60
    exact: int = 60
    particles: int = 1024
    starts: int = STARTS


def measure_belief(name: str, sizes: Sizes, checkpoints: Path | None = None) -> dict[str, Any]:
    """Everyone who rests on one belief."""
    belief, setup, data = BELIEFS[name], lorenz63(), true_windows()
    prior = believer(belief, sizes.batches, checkpoints and checkpoints / f"{_slug(name)}.ckpt")
    mend = mended(prior, data, sizes.more, checkpoints and checkpoints / f"{_slug(name)}_mended.ckpt")
    neural, also = (NeuralIncremental(p, setup.system.labels, setup.dt) for p in (prior, mend))
    named = with_physics(belief, neural, also, sizes.starts)
    laws = {}
    for what, here in LAWS.items():
        first = {"optimal interpolation": interpolation(belief.setup())}
        rows = of_law(setup, first, *observed(setup, here, sizes.samples))
        rows |= of_priors({"NIDA": prior, "NIDA mended": mend}, here, sizes.samples)
        physical, curves = of_physics(belief, named, here, data, sizes.samples, sizes.validation)
        laws[what] = {"methods": rows | physical, "tuning": curves}
    found = {"belief": asdict(belief), "unexplained": unexplained(belief, data).tolist(), "laws": laws}
    if sizes.exact and belief.model_noise_std:
        found["posterior"] = exact(belief, neural, sizes.exact, sizes.particles)
    return found


def measure_training(name: str, sizes: Sizes, checkpoints: Path | None = None) -> dict[str, Any]:
    """A prior alone: of a belief held with doubt, mended with little or trained again, or of no belief at all."""

    def path(*parts: str) -> Path | None:
        return checkpoints and checkpoints / f"{'_'.join(_slug(part) for part in parts)}.ckpt"

    if name in ALONE:
        prior = empiricist(true_windows(ALONE[name]), sizes.batches, path(name))
    elif name in FEW:
        belief, count = FEW[name]
        before = believer(BELIEFS[belief], sizes.batches, path(belief))
        prior = mended(before, true_windows(count), sizes.more, path(name))
    elif name in AGAIN:
        prior = believer(BELIEFS["right"], sizes.batches, path(name), AGAIN[name])
    else:
        prior = believer(HEDGED[name], sizes.batches, path(name))
    laws = {what: {"methods": of_priors({"NIDA": prior}, here, sizes.samples)} for what, here in LAWS.items()}
    return {"laws": laws} | ({"belief": asdict(HEDGED[name])} if name in HEDGED else {})


def measure(name: str, sizes: Sizes, checkpoints: Path | None = None) -> dict[str, Any]:
    """One of `NAMES`."""
    return (measure_belief if name in BELIEFS else measure_training)(name, sizes, checkpoints)


def lines(findings: dict[str, Any], what: str, methods: Sequence[str], score: str = "mse") -> dict[str, dict]:
    """A score of some methods by belief, for `plots.by_case`: `{method: {belief: value}}`.

    Args:
        findings: as recorded.
        what: the law, one of `LAWS`.
        methods: names of rows; a belief that lacks one is left out of its line.
        score: as in a row, or "rmse", the root of its "mse".
    """
    key, power = ("mse", 0.5) if score == "rmse" else (score, 1)
    rows = {belief: found["laws"][what]["methods"] for belief, found in findings["beliefs"].items()}
    return {m: {belief: row[m][key] ** power for belief, row in rows.items() if m in row} for m in methods}


def other_seeds(findings: dict[str, Any], what: str, score: str) -> dict[str, dict]:
    """As `lines`: NIDA with the right physics, trained again from other seeds, a line each with the case "right"."""
    titles = dict(zip(AGAIN, ("NIDA, second seed", "NIDA, third seed"), strict=True))
    again = {name: findings["beliefs"][name] for name in AGAIN if name in findings["beliefs"]}
    found = lines({"beliefs": again}, what, ["NIDA"], score)["NIDA"]
    return {titles[name]: {"right": value} for name, value in found.items()}


def main() -> None:
    """The command: beliefs that the JSON file has already, of the same sizes, are not measured again."""
    parser = argparse.ArgumentParser(prog="python -m nida_kit.studies.model_error", description=__doc__)
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of model_error.json")
    parser.add_argument("--checkpoints", type=Path, help="folder of the trainings, to resume them from")
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--beliefs", nargs="*", default=NAMES, choices=NAMES, metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = Sizes(**{name: getattr(arguments, name) for name in asdict(Sizes())})
    how = recipe(sizes.batches)
    about = {"sizes": asdict(sizes), "true_trajectories": DATA, "windows_seed": TEST, "validation_seed": VALIDATION}
    about["recipe"] = asdict(how.settings) | how.network | how.law | {"order": how.order}
    about = json.loads(json.dumps(about))  # as a file gives it back
    path = arguments.out / "model_error.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    beliefs = found.get("beliefs", {}) if about.items() <= found.items() else {}
    for name in arguments.beliefs:
        if name not in beliefs:
            beliefs[name] = measure(name, sizes, arguments.checkpoints)
            print(name, lines({"beliefs": {name: beliefs[name]}}, next(iter(LAWS)), ["NIDA", "4D-Var"]), flush=True)
            record(path, "model_error", about | {"beliefs": {k: beliefs[k] for k in NAMES if k in beliefs}})


if __name__ == "__main__":
    main()
