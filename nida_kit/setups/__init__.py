"""Reference experiments: system, observation law, source and published scores, one short file each.

Some are of windows, `Setup`; others of filters that run for thousands of cycles, `Cycling`.

>>> import nida_kit as nk
>>> setup = nk.setups.load("blanke2024-lorenz63")
>>> truth = setup.windows(samples=2, seed=0)
>>> obs = setup.observe(truth, seed=1)
>>> int(obs["value"].notnull().sum())
8
>>> table = nk.setups.run("sakov2012-lorenz63", "EnKF, 10 members", samples=2, cycles=100)
>>> table[["analysis", "spread", "published"]].shape
(1, 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

import pandas as pd

from nida_kit import checks
from nida_kit.methods.method import Method
from nida_kit.reference.cycling import Cycling
from nida_kit.reference.score import Score
from nida_kit.reference.setup import Setup

__all__ = ["Cycling", "Score", "Setup", "list", "load", "names", "run"]


_HERE = ("cycling", "score", "setup", "static")  # modules that are no experiments


def names() -> Sequence[str]:
    """Of all reference experiments."""
    return sorted(m.name.replace("_", "-") for m in iter_modules(__path__) if m.name not in _HERE)


def load(name: str) -> Setup | Cycling:
    """One reference experiment.

    Raises:
        ValueError: no such name.
    """
    name = checks.one_of("name", name, names(), "nk.setups.list() says what each of them is.")
    return import_module(f"{__name__}.{name.replace('-', '_')}").setup


def run(
    name: str,
    method: str | Method | None = None,
    samples: int | None = None,
    seed: int = 0,
    cycles: int | None = None,
) -> pd.DataFrame:
    """The score table of a reference experiment.

    Args:
        name: of the experiment.
        method: a method, or the name of one with a published score; None is all of these that can be run here.
        samples: independent experiments, or windows; None is the setup's own number.
        seed: of truths; of observations, one more.
        cycles: of a `Cycling`, if not its own.

    Returns:
        A row per method: its scores (`Setup.scores` or `Cycling.scores`), seconds, and what was `published` for the
        analysis, or for windows as `mse`, in the paper's unit, climatological variances: its root is what figures show.

    Raises:
        ValueError: unknown names.
    """
    setup = load(name)
    known = {title: score for title, score in setup.published.items() if score.method}
    if method is None and not known:
        raise ValueError(f"{name} has no method on record that can be made here: pass one, nk.EnKS(...), say.")
    if isinstance(method, type):
        raise ValueError(
            f"method={method.__name__} is a class: give one for this system, {method.__name__}(system, ...)."
        )
    if isinstance(method, Method):
        rows = {type(method).__name__: setup.run(method, samples, seed, cycles)}
    else:
        asked = [*known] if method is None else [checks.one_of("method", method, known, "Or pass a method of yours.")]
        chosen = {title: known[title] for title in asked}
        rows = {
            title: setup.run(score.method(setup), samples, seed, cycles) | {"published": score.value}
            for title, score in chosen.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def list() -> pd.DataFrame:
    """What there is: a row per experiment."""
    rows = {}
    for name in names():
        setup = load(name)
        cycled = isinstance(setup, Cycling)
        rows[name] = {
            "system": setup.system.name,
            "steps": setup.every * setup.cycles + 1 if cycled else setup.steps,
            "dt": setup.dt,
            "observed every": setup.every if cycled else setup.law["every"],
            "model noise": setup.model_noise_std,
            "methods on record": "; ".join(setup.published),
            "source": setup.source,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("setup")
