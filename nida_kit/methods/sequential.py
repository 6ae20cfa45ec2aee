"""Methods that walk through time: forecast to the next step, analyse what was observed there, go on.

    forecast    x_t^f = M(x_{t-1}^a)
    analysis    x_t^a = x_t^f conditioned on y_t

A *filter* stops there: its mean at a time knows the observations up to that time only. So it serves any length of
window, and experiments of thousands of cycles are one long window. Windows of a batch that are observed at the same
times walk together.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit.methods.method import Method
from nida_kit.observing.observations import Observations
from nida_kit.reconstruction import Moments, Reconstruction
from nida_kit.systems.system import System, as_system

CPU, DOUBLE = torch.device("cpu"), torch.float64


def by_times(observations: Observations) -> Iterator[tuple[Int[Tensor, " W"], Observations]]:
    """Windows `(W, T, p)` that are observed at the same times, and where they stand in the flattened batch."""
    value = observations.value
    size = value.shape[-2:]
    noise_std = observations.noise_std.expand_as(value).reshape(-1, *size)
    value = value.reshape(-1, *size)
    patterns, which = (~value.isnan()).any(-1).unique(dim=0, return_inverse=True)
    for k in range(len(patterns)):
        index = (which == k).nonzero().squeeze(-1)
        yield index, Observations(value[index], noise_std[index], observations.operator)


def observed_times(observations: Observations) -> list[int]:
    """The steps at which anything is observed."""
    return (~observations.value.isnan()).any(-1).flatten(0, -2).any(0).nonzero().squeeze(-1).tolist()


class Sequential(Method):
    """What such methods share. There is no first guess: one that is given is not used.

    A result's `mean` is the smoothed one where there is one; beside it are `forecast` and `analysis`
    and their `_std`.
    """

    template_steps = 2

    def __init__(self, system: System, **settings):
        self.system, self.labels = as_system(system), system.labels
        self.settings = {"system": system.name}
        self.settings |= {f"system_{name}": value for name, value in system.parameters().items()} | settings

    @abstractmethod
    def walk(self, observations: Observations, dt: float) -> dict[str, Moments]:
        """Of windows observed at the same times: `forecast` and `analysis`, as far as there are, and `smoothed`."""

    def reconstruct(self, observations, dt, first_guess):
        lead = observations.value.shape[:-2]
        start = self.system.start(1, torch.Generator().manual_seed(0), DOUBLE, CPU)
        observations.predicted(start)  # says now what does not fit, before anything is simulated
        found: dict[str, Tensor] = {}
        for index, windows in by_times(observations):
            for name, moments in self.walk(windows, dt).items():
                both = torch.stack([moments.mean, moments.std])
                whole = found.setdefault(name, both.new_empty(2, math.prod(lead), *both.shape[2:]))
                whole[:, index] = both
        check_finite(*found.values())
        moments = {name: Moments(*x.reshape(2, *lead, *x.shape[2:])) for name, x in found.items()}
        answer = moments.pop("smoothed", None) or moments.pop("analysis")
        start = moments.get("forecast", answer).mean
        before = {name: x.mean for name, x in moments.items()} | {f"{k}_std": x.std for k, x in moments.items()}
        return Reconstruction([answer], [math.nan], start, before)


def check_finite(*states: Tensor) -> None:
    """Raises a ValueError if any is not."""
    if not all(x.isfinite().all() for x in states):
        raise ValueError(
            "The forecast overflowed: the filter has lost the truth, or the model is unstable at this time step. Try "
            "more inflation, more members, or a shorter longest_substep of the system."
        )


def start_moments(system: System) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Mean and covariance of the system's start law, from 10,000 draws."""
    draws = as_system(system).start(10_000, torch.Generator().manual_seed(0), DOUBLE, CPU)
    return draws.mean(0), torch.atleast_2d(draws.mT.cov())
