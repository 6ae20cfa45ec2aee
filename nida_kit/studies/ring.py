"""NIDA and the classical methods on Lorenz-96, half observed: `python -m nida_kit.studies.ring`.

The same test windows for all; ensemble methods get the inflation, the lag and the radius that are best on validation
windows. Strong-constraint methods neglect the model noise that is there. There is no particle limit: 40 chaotic sites
are beyond particles. And the same weights on rings of other sizes, beside weak 4D-Var, which knows the equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nida_kit import setups
from nida_kit.methods.compose import Chain, QuasiStatic
from nida_kit.methods.enkf import EnKF, EnKS
from nida_kit.methods.ienks import IEnKS
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.strong import StrongFourDVar
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.setups import Setup
from nida_kit.studies.classical import best, of_law
from nida_kit.studies.common import TEST, VALIDATION, command
from nida_kit.systems.lorenz import Lorenz96
from nida_kit.systems.wrapped import OnAttractor

LORENZ96 = "half-lorenz96"
SIZES = (20, 40, 80)
INFLATIONS = (1.0, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0)
LAGS = (1, 2)
RADII = (1.0, 2.0, 4.0)
MEMBERS = 40


def ring(sites: int) -> Setup:
    """The experiment with another number of sites, every second of which is seen."""
    setup = setups.load(LORENZ96)
    names = [f"x{i}" for i in range(0, sites, 2)]
    start = OnAttractor(Lorenz96(sites), setup.system.time)
    return replace(setup, system=start, law=setup.law | {"components": names})


def neural(setup: Setup, temperatures: int = 4) -> NeuralIncremental:
    """The shipped prior on a ring."""
    return NeuralIncremental.pretrained("lorenz96", temperatures, labels=setup.system.labels)


def fixed_methods(setup: Setup) -> dict[str, Method]:
    """Those without anything to tune."""
    system, network = setup.system, neural(setup)
    first = OptimalInterpolation(network.prior.climatology, network.labels, network.dt)
    weak, strong = WeakFourDVar(system, setup.model_noise_std), StrongFourDVar(system)
    return {
        "NIDA": network,
        "hybrid, 3 steps": Chain([network, WeakFourDVar(system, setup.model_noise_std, iterations=3)]),
        "hybrid": Chain([network, weak]),
        "optimal interpolation": first,
        "weak 4D-Var": Chain([first, weak]),
        "weak 4D-Var, quasi-static": Chain([first, QuasiStatic(weak)]),
        "strong 4D-Var": Chain([first, strong]),
    }


def candidates(setup: Setup, inflations: Sequence[float] = INFLATIONS) -> dict[str, list[Method]]:
    """Ensemble methods at all their settings."""
    system, noise = setup.system, setup.model_noise_std
    return {
        "EnKF": [EnKF(system, noise, members=MEMBERS, inflation=f) for f in inflations],
        "EnKS": [EnKS(system, noise, members=MEMBERS, inflation=f) for f in inflations],
        "iEnKS": [IEnKS(system, lag=k, members=MEMBERS, inflation=f) for k in LAGS for f in inflations],
        "LETKF": [LETKF(system, noise, members=MEMBERS, inflation=f, radius=r) for r in RADII for f in inflations],
    }


def on_sizes(samples: int, sizes: Sequence[int]) -> dict[str, Any]:
    """The prior, trained on 40 sites, on rings of others."""
    found = {}
    for sites in sizes:
        setup = ring(sites)
        truth = setup.windows(samples, TEST)
        rows = of_law(setup, fixed_methods(setup), truth, setup.observe(truth, TEST + 1))
        found[str(sites)] = {name: rows[name] for name in ("NIDA", "optimal interpolation", "weak 4D-Var")}
    return found


def measure(samples: int, folder: Path, sizes: Sequence[int] = SIZES, inflations: Sequence[float] = INFLATIONS) -> Any:
    """Everything."""
    setup = setups.load(LORENZ96)
    chosen = setup.windows(samples, VALIDATION)
    chosen = chosen, setup.observe(chosen, VALIDATION + 1)
    tuned = {name: best(setup, some, *chosen) for name, some in candidates(setup, inflations).items()}
    steps = {f"NIDA, {k} temperatures": neural(setup, k) for k in (1, 2, 8)}
    truth = setup.windows(samples, TEST)
    rows = of_law(setup, fixed_methods(setup) | steps | tuned, truth, setup.observe(truth, TEST + 1))
    print({name: row["mse"] for name, row in rows.items()}, flush=True)
    seeds = {"windows_seed": TEST, "validation_seed": VALIDATION}
    about = {"setup": LORENZ96, "windows": samples, **seeds, "members": MEMBERS}
    return {"methods": rows, "sites": on_sizes(max(samples // 4, 1), sizes)} | about


if __name__ == "__main__":
    command("ring", measure, samples=100)
