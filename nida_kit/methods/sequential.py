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
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nida_kit import checks
from nida_kit.linalg.covariance import Covariance
from nida_kit.methods.method import Method
from nida_kit.notes import recorded
from nida_kit.observing.observations import Observations
from nida_kit.reconstruction import After, Moments, Reconstruction, moments_after
from nida_kit.state import Labels
from nida_kit.systems.system import System, as_system

CPU, DOUBLE = torch.device("cpu"), torch.float64
FEW = 3000  # numbers, for which a call costs more than what it computes
FAR = 100  # steps of them that are done at once


def by_times(observations: Observations) -> Iterator[tuple[Int[Tensor, " W"], Observations]]:
    """Windows `(W, T, p)` that are observed at the same times, and where they stand in the flattened batch."""
    flat = observations.flattened()
    patterns, which = flat.seen.any(-1).unique(dim=0, return_inverse=True)
    for k in range(len(patterns)):
        index = (which == k).nonzero().squeeze(-1)
        yield index, flat.select(index)


def observed_times(observations: Observations) -> list[int]:
    """The steps at which anything is observed."""
    return (~observations.value.isnan()).any(-1).flatten(0, -2).any(0).nonzero().squeeze(-1).tolist()


def stops(observations: Observations) -> list[tuple[int, bool]]:
    """The steps at which anything is observed, and the last one; and whether something is."""
    observed, last = observed_times(observations), observations.value.shape[-2] - 1
    return [(t, True) for t in observed] + [(last, False)] * (observed[-1:] != [last])


class Sequential(Method):
    """What such methods share. There is no first guess: one that is given is not used.

    A result's `mean` is the smoothed one where there is one; beside it are `forecast` and `analysis`
    and their `_std`.
    """

    template_steps = 2
    takes_first_guess = False

    def __init__(self, system: System, **settings):
        self.system, self.labels = as_system(system), system.labels
        self.settings = system_settings(system) | settings

    @abstractmethod
    def walk(self, observations: Observations, dt: float) -> dict[str, Moments]:
        """Of windows observed at the same times: `forecast` and `analysis`, as far as there are, and `smoothed`.

        The observations are `modelled`, and the moments are of states as they are observed.
        """

    def refuse(self, observations: Observations) -> None:
        """Raises ValueError for what the method cannot take, before anything is simulated."""
        refuse_whole_windows(observations, self.system)

    def reconstruct(self, observations, dt, first_guess):
        observations = modelled(self.system, observations)
        self.refuse(observations)
        lead = observations.value.shape[:-2]
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


def modelled(system: System, observations: Observations) -> Observations:
    """Observations as those of the model's own states."""
    return observations.after(system.as_observed) if system.transformed else observations


def reported(system: System, found: Reconstruction) -> Reconstruction:
    """A reconstruction of the model's own states as one of those that are observed."""
    if not system.transformed:
        return found
    posteriors = [After(posterior, system.as_observed) for posterior in found.posteriors]
    return replace(found, posteriors=posteriors, first_guess=system.as_observed(found.first_guess))


def reported_moments(system: System, found: dict[str, Moments]) -> dict[str, Moments]:
    """The same of means and spreads."""
    if not system.transformed:
        return found
    return {name: moments_after(x.mean, x.std, system.as_observed) for name, x in found.items()}


def refuse_whole_windows(observations: Observations, system: System) -> None:
    """Raises ValueError for what cannot be taken one time after the other, or an operator that does not fit."""
    check_operator(observations.at(slice(0, 2)), system)  # two times, of which it may mix one with the other


def check_operator(observations: Observations, system: System) -> None:
    """Raises ValueError for an operator that does not fit; it is tried on a state that stands still."""
    start = system.start(1, torch.Generator().manual_seed(0), DOUBLE, CPU)
    observations.predicted(start.expand(1, observations.value.shape[-2], -1))


def advance(system: System, dt: float, x: Float[Tensor, "*batch n"], t: Tensor) -> Float[Tensor, "*batch n"]:
    """M(x), from time t on; a system whose model knows no time is not told it."""
    return system.step(x, dt, t) if system.depends_on_time else system.step(x, dt)


def advance_without_slopes(
    system: System, dt: float, x: Float[Tensor, "*batch n"], times: Float[Tensor, " K"]
) -> Float[Tensor, "k *batch n"]:
    """The states one step after each of these times or only the first ones, all of them finite but for the last.

    Many numbers go one step. Few go on by NumPy, where the system takes its arrays, and nothing else is done meanwhile.
    """
    if x.numel() >= FEW or not system.steps_arrays:
        return advance(system, dt, x, times[0]).unsqueeze(0)
    state = np.asfortranarray(x.numpy())  # each component in one piece
    states = np.empty((min(len(times), FAR), *x.shape), state.dtype)
    with np.errstate(all="ignore"):  # as torch: methods see for themselves what is not finite
        for k in range(len(states)):
            states[k] = state = system.in_substeps(state, dt)
            if not math.isfinite(state.sum()) and not np.isfinite(state).all():
                return torch.from_numpy(states[: k + 1])
    return torch.from_numpy(states)


def for_members(observations: Observations) -> Observations:
    """Windows `(W, T, p)` as those of several states each, `(W, 1, T, p)`."""
    errors = observations.errors.windows(lambda x, own: x.unsqueeze(1))
    return replace(observations, value=observations.value.unsqueeze(1), errors=errors)


def system_settings(system: System) -> dict[str, Any]:
    """What the records say of a system."""
    return {"system": system.name} | {f"system_{name}": value for name, value in system.parameters().items()}


def all_finite(x: Tensor) -> bool:
    """Whether all numbers are; their sum tells, unless it overflows itself."""
    return math.isfinite(x.sum()) or bool(x.isfinite().all())


class LostTruth(ValueError):
    """Of a method whose states have run away from the truth, beyond double precision."""


def check_finite(*states: Tensor) -> None:
    """Raises LostTruth if any is not."""
    if not all(map(all_finite, states)):
        raise LostTruth(_OVERFLOW)


_OVERFLOW = (
    "The forecast overflowed: the filter has lost the truth, or the model is unstable at this time step. Try more "
    "inflation, more members, or a shorter longest_substep of the system. States that must be positive may have left "
    "their domain: keep them as their logarithm, nk.Transformed(system, torch.log, torch.exp)."
)


def survivors(fine: Bool[Tensor, "*batch N"], operator: bool = False) -> Int[Tensor, "*batch N"]:
    """Which member stands in each place: itself if it is fine, else one of the others, which take turns.

    Args:
        fine: which members are in the domain.
        operator: whether it is that of the operator, and not of the model.

    Raises:
        LostTruth: there are no others in the domain of the model.
        ValueError: there are no others in that of the operator.
    """
    if not fine.any(-1).all():
        if not operator:
            raise LostTruth(_OVERFLOW)
        raise ValueError(
            "The operator gives NaN or infinite values for every member, where something was observed: use one that "
            "is defined for all states (x.clamp(min=...) before a log)."
        )
    others = (~fine).long().argsort(dim=-1, stable=True)
    turn = ((~fine).cumsum(-1) - 1) % fine.sum(-1, keepdim=True)
    own = torch.arange(fine.shape[-1]).expand_as(others)
    return torch.where(fine, own, others.gather(-1, turn.clamp(min=0)))


def start_moments(system: System) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Mean and covariance of the system's start law; from 10,000 draws, unless it knows them."""
    known = system.start_moments()
    return system.drawn_moments if known is None else known


def model_noise(std, matrix, labels: Labels, what: str = "model_noise") -> Covariance:
    """The model's errors, from standard deviations or from a whole covariance in their place.

    Raises:
        ValueError: both, or what is none.
    """
    std, matrix = labels.ordered(f"{what}_std", std), labels.ordered(f"{what}_covariance", matrix)
    if matrix is None and std is None:
        raise ValueError(f"Say how large the errors are: {what}_std=, or {what}_covariance= if they are correlated.")
    if matrix is None:
        return Covariance.diagonal(checks.noise(std, labels.shape, f"{what}_std"))
    unsaid = what == "model_noise" and isinstance(std, Real) and std == 0
    if std is not None and not unsaid:
        raise ValueError(f"{what}_std= and {what}_covariance= both say how large the errors are: give one of them.")
    return Covariance.full(checks.covariance(matrix, labels.shape, f"{what}_covariance"))


def noise_settings(noise: Covariance, what: str = "model_noise") -> dict[str, Any]:
    """What the records say of errors."""
    if noise.independent:
        return {f"{what}_std": recorded(noise.std)}
    return {f"{what}_covariance": str(recorded(noise.matrix))}
