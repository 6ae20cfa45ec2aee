"""The shipped priors on windows that no other study draws: `python -m nida_kit.studies.fresh`.

Priors, temperatures and recipes were chosen while the other studies were looked at. These windows were drawn when all
that was settled: the laws of Lorenz-63, and of the pendulum those that its lab offers. Rows are kept as they are found.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nida_kit import pretrained, setups
from nida_kit.methods.importance import ImportanceSampler
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.setups import Setup
from nida_kit.studies.common import LAWS, PENDULUM, Z_ONLY, Kept, Law, command, lorenz63
from nida_kit.studies.limit import MORE, PARTICLES, posterior, smoothers

FRESH = 20261129  # seed of the windows; observed with the next one
LIMITED = 40  # windows, the first ones, whose posterior is found
EXACT = 0.001270212532  # of its spread, the error of the angle in the paper's experiment; a test holds it to the setup

SWINGS = {
    "paper": Law("angle at 5 of 100 steps", True, EXACT, {"components": ["angle"], "every": 20}),
    "sparse": Law("angle at 3 steps", True, EXACT, {"components": ["angle"], "every": 40}),
    "dense": Law("both at every 5th step", True, EXACT, {"components": ["angle", "momentum"], "every": 5}),
    "noisy": Law("angle at 5 steps, very noisy", True, 0.5, {"components": ["angle"], "every": 20}),
}
"""The pendulum, as its lab offers to observe it."""


def scores(setup: Setup, neural: Method, exact: list[Method], law: Law, samples: int, limited: int) -> dict[str, float]:
    """Of the prior with four temperatures, and how far it is from the limit.

    Given the observations, the truth is a draw from the posterior. So what the posterior expects an estimate to err by
    is known without the truth, whose luck it does not share: see `laws.beyond`.

    Args:
        setup: of the windows.
        neural: the prior.
        exact: the posterior itself, see `limit.posterior`.
        law: of the observations.
        samples: windows.
        limited: windows, the first ones, whose posterior is found.
    """
    truth = setup.windows(samples, FRESH)
    obs = law.observe(setup, truth, FRESH + 1)
    result = neural.assimilate(obs, operator=law.operator)
    first = {"sample": slice(limited)}
    known = posterior(exact, obs.isel(first), law.operator)
    variance, chance = (float(((known[name] / setup.spread) ** 2).mean()) for name in ("std", "mean_error"))
    away = setup.score(result["mean"].isel(first), known["mean"]) - chance
    found = setup.scores(result, truth) | {"limit": variance, "expected_over_limit": 1 + away / variance}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def measure(
    samples: int, folder: Path, limited: int = LIMITED, particles: Sequence[int] = (PARTICLES, MORE)
) -> dict[str, Any]:
    """Every law of both systems."""
    lorenz, pendulum = lorenz63(), setups.load(PENDULUM)
    systems = {
        "lorenz63": (lorenz, LAWS | {"z only": Z_ONLY}, smoothers(lorenz, *particles)),
        "pendulum": (pendulum, SWINGS, [ImportanceSampler(pendulum.system)]),
    }
    weights = {name: (Path(pretrained.__file__).parent / f"{name}.safetensors").read_bytes() for name in systems}
    about = {"windows": f"{samples}, seed {FRESH}; the posterior of the first {limited}"}
    about |= {f"weights of {name}": f"{zlib.crc32(content):08x}" for name, content in weights.items()}
    found = Kept(folder, "fresh", about)
    for name, (setup, laws, exact) in systems.items():
        neural = NeuralIncremental.pretrained(name, 4)
        for title, law in laws.items():
            found.row(name, title, make=partial(scores, setup, neural, exact, law, samples, limited))
    return found.found


if __name__ == "__main__":
    command("fresh", measure, samples=1000)
