"""Methods of a cycled experiment that carry nothing from one observation to the next; a filter must beat them."""

from __future__ import annotations

import torch

from nida_kit.methods.interpolation import ClimatologicalForecast, OptimalInterpolation
from nida_kit.priors.climatology import Climatology
from nida_kit.reference.cycling import Cycling


def _fitted(setup: Cycling, kind: type[OptimalInterpolation]) -> OptimalInterpolation:
    states = torch.from_numpy(setup.states)
    one = Climatology.from_covariance(states.mean(0, keepdim=True), states.mT.cov(), states.std(0))
    return kind(one, setup.system.labels, setup.dt)


def climatology(setup: Cycling) -> ClimatologicalForecast:
    """The attractor's mean and covariance."""
    return _fitted(setup, ClimatologicalForecast)


def interpolation(setup: Cycling) -> OptimalInterpolation:
    """Optimal interpolation of each time by itself, as in 3D."""
    return _fitted(setup, OptimalInterpolation)
