"""Reference experiments: system, window, observation law, source and published scores, one short file each.

>>> import nida_kit as nk
>>> setup = nk.setups.load("blanke2024-lorenz63")
>>> truth = setup.windows(samples=2, seed=0)
>>> obs = setup.observe(truth, seed=1)
>>> int(obs["value"].notnull().sum())
8
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from nida_kit.setups.setup import Score, Setup

__all__ = ["Score", "Setup", "load", "names"]


def names() -> list[str]:
    """Of all reference experiments."""
    return sorted(m.name.replace("_", "-") for m in iter_modules(__path__) if m.name != "setup")


def load(name: str) -> Setup:
    """One reference experiment.

    Raises:
        ValueError: no such name.
    """
    if name not in names():
        raise ValueError(f"There is no setup {name!r}; there are {names()}.")
    return import_module(f"{__name__}.{name.replace('-', '_')}").setup
