"""Weighted simulations: nothing is linearised, nothing is Gaussian.

    p(x | y)  is approximated by  sum_i w^i delta(x - x^i),      N_eff = (sum w)^2 / sum w^2

What the particle smoother and the importance sampler share. Both do one window at a time, and each meets the same
random numbers: results depend neither on the other windows nor on how Dask cuts them, and windows are compared on equal
terms.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit import checks, notes
from nida_kit.methods.method import Method
from nida_kit.methods.sequential import CPU, DOUBLE, check_finite, modelled, system_settings
from nida_kit.observing.observations import Observations
from nida_kit.reconstruction import Moments, Reconstruction
from nida_kit.systems.system import System, as_system

TOO_FEW = 10  # effective particles: below, averages over them are left to chance


class Simulations(Method):
    """What both methods share: the system, one window at a time, warnings."""

    takes_first_guess = False

    def __init__(self, system: System, seed: int, **settings: int):
        self.system, self.labels, self.seed = as_system(system), system.labels, checks.seed(seed)
        self.settings = system_settings(system) | {"seed": self.seed} | settings

    @abstractmethod
    def estimate(self, window: Observations, dt: float) -> dict[str, Tensor]:
        """Of one window, `modelled`: `mean` and `std (T, n)` as observed, and what else there is to say about it."""

    @abstractmethod
    def draw_one(self, window: Observations, dt: float, uniform: Float[Tensor, "M T"]) -> Float[Tensor, "M T n"]:
        """Draws from the posterior of one window, as observed, made of uniform numbers."""

    @abstractmethod
    def refuse(self, observations: Observations) -> None:
        """Raises ValueError for what the method cannot take, before anything is simulated."""

    def reconstruct(self, observations, dt, first_guess):
        observations = modelled(self.system, observations)
        self.refuse(observations)
        lead, steps = observations.value.shape[:-2], observations.value.shape[-2]
        estimates = [self.estimate(window, dt) for window in each_window(observations)]
        found = {k: torch.stack([e[k] for e in estimates]).reshape((*lead, *v.shape)) for k, v in estimates[0].items()}
        posterior = Moments(found.pop("mean"), found.pop("std"))
        warn_of_few(found["effective_particles"])
        if first_guess is None:
            start = self.system.start(1000, torch.Generator().manual_seed(self.seed), DOUBLE, CPU)
            middle = start[start.isfinite().all(-1)].mean(0)  # others are outside the domain, and weigh nothing
            first_guess = self.system.as_observed(
                self.system.trajectories(middle, steps, dt, start_time=observations.times[0])
            )
        return Reconstruction([posterior], [math.nan], first_guess, found)

    def draw(self, observations, dt, first_guess, noise):
        observations = modelled(self.system, observations)
        self.refuse(observations)
        uniform = torch.special.ndtr(noise[0, ..., 0]).reshape(noise.shape[1], -1, noise.shape[-2])
        drawn = [
            self.draw_one(window, dt, u) for window, u in zip(each_window(observations), uniform.unbind(1), strict=True)
        ]
        return torch.stack(drawn, 1).reshape(noise.shape[1:])


def each_window(observations: Observations) -> Iterator[Observations]:
    """One after the other, `(T, p)` each."""
    flat = observations.flattened()
    return (flat.select(i) for i in range(len(flat.value)))


def warn_of_few(effective: Tensor) -> None:
    """Warns where an effective sample size is too small for averages to mean anything."""
    few = effective < TOO_FEW
    if few.any():
        notes.warn(
            checks.in_windows(
                few,
                f"fewer than {TOO_FEW} particles count (effective_particles, at least {float(effective.min()):.2g}): "
                "mean and std are left to chance there. Simulations seldom come near such exact or many observations: "
                "give more particles=.",
            ),
            stacklevel=6,
        )


def log_likelihood(window: Observations, x: Float[Tensor, "N T n"]) -> Float[Tensor, " N"]:
    """Log p(y | x) in nats; -inf where h(x) is NaN, or x itself is not finite.

    Raises:
        ValueError: it is -inf everywhere.
    """
    inside = x.isfinite().all(-1).all(-1)
    if not inside.any():
        check_finite(x)
    log_p = -(window.misfit(x) + window.log_normaliser()).nan_to_num(nan=math.inf, posinf=math.inf)
    log_p = log_p.masked_fill(~inside, -math.inf)
    check_some_count(-log_p)
    return log_p


def check_some_count(misfit: Float[Tensor, "*batch N"]) -> None:
    """Raises ValueError where no particle has a finite misfit."""
    if (misfit == math.inf).all(-1).any():
        raise ValueError(
            "The operator gives NaN or infinite values for every particle: use one that is defined for all states "
            "that the system may take."
        )


def effective(log_weights: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
    """Effective sample size, (sum w)^2 / sum w^2 (Kong, Liu & Wong 1994, doi:10.1080/01621459.1994.10476469)."""
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def systematic(log_weights: Float[Tensor, "*batch N"], uniform: Tensor, count: int) -> Int[Tensor, "*batch count"]:
    """Indices drawn by the weights, evenly spread (Kitagawa 1996, doi:10.1080/10618600.1996.10474692)."""
    cumulative = log_weights.softmax(-1).cumsum(-1)
    points = (torch.arange(count, dtype=DOUBLE) + uniform) / count * cumulative[..., -1:]
    return torch.searchsorted(cumulative, points, right=True).clamp(max=cumulative.shape[-1] - 1)


def pick(log_weights: Float[Tensor, "M N"], uniform: Float[Tensor, " M"]) -> Int[Tensor, " M"]:
    """One index per row, drawn by the weights of that row, which it overwrites."""
    cumulative = log_weights.sub_(log_weights.amax(-1, keepdim=True)).exp_().cumsum(-1)
    points = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True).squeeze(-1).clamp(max=log_weights.shape[-1] - 1)


def covariance_of(x: Float[Tensor, "*batch N n"]) -> Float[Tensor, "*batch n n"]:
    """Of particles that all count alike."""
    away = x - x.mean(-2, keepdim=True)
    return away.mT @ away / x.shape[-2]


def widened(covariance: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """By a share that rounding cannot eat up, should the points lie in a plane."""
    return covariance + 1e-12 * torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
