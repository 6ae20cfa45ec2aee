"""Ensembles: the covariance is that of N states, which the full model carries along.

With the mean m of the ensemble and its N - 1 independent deviations S (their rows; the covariance is S' S), every
analysis looks among the states x = m + w S for *weights* w, which are N(0, I) beforehand. Observations of h see

    y = h(m) + w Y + eta,      Y: the deviations of h of the members,

so their posterior is again a Gaussian conditioned on observations, in N - 1 dimensions whatever the size of the state:

    A = I + Y Y',      w_mean = A^-1 Y d,      d = y - h(m),      covariance A^-1,

where h, y and with them Y and d are *whitened*: multiplied by R^-1/2, and 0 where nothing was measured.

The square root filter takes as its members draws from it, of noise that is exactly centred, uncorrelated and of unit
variance, rotated at random (Sakov & Oke 2008, doi:10.1175/2007MWR2021.1): so mean and covariance are met exactly. With
a random rotation any square root of A^-1 gives the same law of ensembles, and that of Cholesky is fastest.

A member that leaves the domain of the model or of the operator, where one of its values is not finite any more, is
redrawn: in its place comes a draw from the Gaussian of the others, of whose states, and their pasts, it is a weighted
sum. Positive states lead there often; as their logarithm (`nk.Transformed`) they do not.

Windows that are observed at the same times meet the same random numbers: results depend neither on the other windows
nor on how Dask cuts them, and windows are compared on equal terms.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks, notes
from nida_kit.methods.method import stream
from nida_kit.methods.sequential import (
    CPU,
    DOUBLE,
    LostTruth,
    Sequential,
    advance_without_slopes,
    all_finite,
    by_times,
    check_finite,
    model_noise,
    modelled,
    noise_settings,
    survivors,
)
from nida_kit.observing.observations import Observations
from nida_kit.reconstruction import Moments
from nida_kit.systems.system import System, as_system

TRIES = 3  # of a draw in the place of a member that left the domain

STRAYS = (
    "Members of the ensemble left the domain of the model or of the operator (NaN or infinite); they were redrawn from "
    "the others, or left out. States that must be positive are better kept as their logarithm: "
    "nk.Transformed(system, torch.log, torch.exp)."
)

Keep = Callable[[Float[Tensor, "K W N n"]], Sequence]
"""What is kept of each of K times' ensembles."""


@lru_cache
def directions(members: int) -> Float[Tensor, "N m"]:
    """Orthonormal columns, m = N - 1, each of sum 0: what N members can differ by."""
    ones = torch.ones(members, 1, dtype=DOUBLE)
    return torch.linalg.qr(torch.cat([ones, torch.eye(members, dtype=DOUBLE)[:, 1:]], 1)).Q[:, 1:].contiguous()


def deviations(E: Float[Tensor, "*batch N n"]) -> Float[Tensor, "*batch m n"]:
    """S, with S' S the sample covariance."""
    return directions(E.shape[-2]).mT @ E / math.sqrt(E.shape[-2] - 1)


def rotated_noise(members: int, generator: torch.Generator) -> Float[Tensor, "N m"]:
    """Noise of N members with mean exactly 0 and covariance exactly I, rotated at random (Haar)."""
    Q, R = torch.linalg.qr(torch.randn(members - 1, members - 1, generator=generator, dtype=DOUBLE))
    return math.sqrt(members - 1) * directions(members) @ (Q * R.diagonal().sign())


def weights(
    Y: Float[Tensor, "*batch m p"], innovation: Float[Tensor, "*batch r p"]
) -> tuple[Float[Tensor, "*batch r m"], Float[Tensor, "*batch m m"]]:
    """Mean of the weights for each of r innovations, and the lower Cholesky factor of A; all of it is whitened."""
    lower = root_of(torch.eye(Y.shape[-2]).to(Y) + Y @ Y.mT)
    return torch.cholesky_solve(Y @ innovation.mT, lower).mT, lower


def root_of(A: Float[Tensor, "*batch m m"]) -> Float[Tensor, "*batch m m"]:
    """Lower Cholesky factor.

    Raises:
        LostTruth: members so far apart that double precision cannot tell A from a singular matrix.
    """
    lower, info = torch.linalg.cholesky_ex(A)
    if info.any():  # also where A holds NaN
        raise LostTruth(
            "The members of an ensemble have run apart beyond double precision: the method has lost the truth there. "
            "Try a shorter lag, more members, another inflation, or a shorter longest_substep of the system."
        )
    return lower


def seen_by(E: Float[Tensor, "*batch N n"], here: Observations) -> Float[Tensor, "*batch N p"]:
    """H of each member, 0 where nothing was observed.

    Raises:
        ValueError: an operator that does not fit, or has no finite value where something was observed.
    """
    seen = here.predicted(E).where(~here.value.isnan(), 0.0)
    if not seen.isfinite().all():
        raise ValueError(
            "The operator gives NaN or infinite values for some members, where something was observed: use one that is "
            "defined for all states (x.clamp(min=...) before a log). Or the members have run apart: try more of them, "
            "another inflation, or a shorter longest_substep of the system."
        )
    return seen


def whitened(E: Float[Tensor, "*batch N n"], here: Observations) -> tuple[Tensor, Tensor]:
    """R^-1/2 h of each member, and R^-1/2 y; 0 where nothing was observed; errors as for `seen_by`."""
    return here.whiten(seen_by(E, here)), here.whiten(here.value)


def combined(W: Float[Tensor, "*#batch N m"], E: Float[Tensor, "*batch N n"]) -> Float[Tensor, "*batch N n"]:
    """The ensemble whose members have these weights in another one."""
    return E.mean(-2, keepdim=True) + W @ deviations(E)


def inflated(E: Float[Tensor, "*batch N n"], factor: float) -> Float[Tensor, "*batch N n"]:
    """The same mean, and deviations larger by a factor."""
    return E if factor == 1 else torch.lerp(E.mean(-2, keepdim=True).expand_as(E), E, factor)


class Ensemble(Sequential):
    """What ensemble methods share: their members, and their walk through time."""

    def __init__(
        self,
        system: System,
        members: int,
        inflation: float,
        seed: int,
        dtype: torch.dtype,
        Q: tuple[Any, Any] = (0.0, None),
        **settings,
    ):
        self.noise = model_noise(*Q, as_system(system).labels)  # standard deviations or a covariance
        self.members, self.inflation = checks.count("members", members, 2), checks.positive("inflation", inflation)
        self.seed, self.dtype = checks.seed(seed), checks.dtype(dtype)
        settings |= {"dtype": str(self.dtype).removeprefix("torch.")}
        settings |= {"members": self.members, "inflation": self.inflation, "seed": self.seed}
        super().__init__(system, **settings, **noise_settings(self.noise))

    @abstractmethod
    def ensembles(self, observations: Observations, dt: float, keep: Keep) -> dict[str, list]:
        """What is kept of each time's ensembles: of the `forecast`, the `analysis`, and what is `smoothed`, if any."""

    def walk(self, observations, dt):
        def keep(E: Tensor) -> list[tuple[Tensor, Tensor]]:
            return list(zip(*torch.std_mean(self.system.as_observed(E), -2), strict=True))

        kept = {name: zip(*x, strict=True) for name, x in self.ensembles(observations, dt, keep).items()}
        return {name: Moments(torch.stack(mean, 1), torch.stack(std, 1)) for name, (std, mean) in kept.items()}

    def draw(self, observations, dt, first_guess, noise):
        """Members of each window: as many as there are, each once, other numbers picked at random, with replacement.

        Those of a filter are of each time's analysis.
        """
        observations = modelled(self.system, observations)
        self.refuse(observations)
        size, (lead, T, n) = noise.shape[1], (noise.shape[2:-2], *noise.shape[-2:])
        uniform = torch.special.ndtr(noise[0, ..., 0, 0]).reshape(size, -1)
        picked = (uniform * self.members).long().clamp(max=self.members - 1)
        if size == self.members:
            picked = uniform.argsort(0)
        drawn = noise.new_empty(size, math.prod(lead), T, n)
        for index, windows in by_times(observations):
            found = self.ensembles(windows, dt, self.system.as_observed)
            members = torch.stack(found.get("smoothed") or found["analysis"], 2)  # (W, N, T, n)
            which = picked[:, index].mT[..., None, None].expand(-1, -1, T, n)
            drawn[:, index] = members.take_along_dim(which, 1).transpose(0, 1)
        check_finite(drawn)
        return drawn.reshape(noise.shape[1:])

    def first(self, windows: int, generator: torch.Generator) -> Float[Tensor, "W N n"]:
        """Members of the system's start law, the same for all windows."""
        return self.system.start(self.members, generator, DOUBLE, CPU).expand(windows, -1, -1)

    def first_inside(self, observations: Observations, dt: float, generator: torch.Generator) -> Float[Tensor, "W N n"]:
        """The same, of which those outside the domain of the model are redrawn.

        Raises:
            ValueError: all of them are.
        """
        E = self.first(len(observations.value), generator)
        fine = E.isfinite().all(-1)
        if not fine.any():
            raise ValueError(
                f"None of {self.members} start states of {self.system.name} is finite: give more members=, or another "
                "start law, nk.Started(system, mean, std)."
            )
        return self.redrawn(E, fine, lambda E: self._goes_on(E, dt, observations.times), 0)[0]

    def advanced(self, E: Float[Tensor, "W N n"], dt: float, times: Float[Tensor, " K"]) -> Float[Tensor, "k W N n"]:
        """M of each member, in the model's dtype, one step after the first of these times, or after more of them."""
        if self.dtype == DOUBLE:
            return advance_without_slopes(self.system, dt, E, times)
        what, advice = f"The model fails in {self.dtype}", "Its own numbers must follow those of x, numbers.to(x)."
        return checks.called(what, advance_without_slopes, self.system, dt, E.to(self.dtype), times, advice=advice).to(
            DOUBLE
        )

    def forecasts_inside(
        self,
        E: Float[Tensor, "W N n"],
        dt: float,
        times: Float[Tensor, " T"],
        t: int,
        until: int,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "k W N n"], Float[Tensor, "W N N"] | None]:
        """The members at the t-th time and, as far as that takes no more than the model, at those up to another.

        Those that left the domain at the last of them are redrawn; and of which members, as `redrawn` says.
        """
        if self.noise.zero:
            found = self.advanced(E, dt, times[t - 1 : until])
        else:
            found = self.advanced(E, dt, times[t - 1 : t])
            found = found + self.noise.colour(torch.randn(E.shape[-2:], generator=generator, dtype=DOUBLE))
        if all_finite(found):
            return found, None
        last, t = found[-1], t + len(found) - 1
        last, changed = self.redrawn(last, last.isfinite().all(-1), lambda E: self._goes_on(E, dt, times[t:]), 2 * t)
        return torch.cat([found[:-1], last.unsqueeze(0)]), changed

    def _goes_on(self, E: Float[Tensor, "W N n"], dt: float, times: Float[Tensor, " K"]) -> Bool[Tensor, "W N"]:
        """Whether members are in the domain of the model still one step after the first of these times."""
        return self.advanced(E, dt, times[:1])[0].isfinite().all(-1)

    def seen_inside(
        self, E: Float[Tensor, "W N n"], here: Observations, t: int
    ) -> tuple[Float[Tensor, "W N n"], Float[Tensor, "W N N"] | None]:
        """The same of members that left the domain of the operator, where something is observed."""

        def is_seen(E: Tensor) -> Tensor:
            return here.predicted(E).where(~here.value.isnan(), 0.0).isfinite().all(-1)

        return self.redrawn(E, is_seen(E), is_seen, 2 * t + 1, operator=True)

    def redrawn(
        self,
        E: Float[Tensor, "W N n"],
        fine: Bool[Tensor, "W N"],
        inside: Callable[[Float[Tensor, "W N n"]], Bool[Tensor, "W N"]],
        k: int,
        *,
        operator: bool = False,
    ) -> tuple[Float[Tensor, "W N n"], Float[Tensor, "W N N"] | None]:
        """Members in the places of those that left the domain, drawn from the Gaussian of the others.

        A draw that is outside itself is tried again; after that it is one of the others.

        Args:
            E: the members.
            fine: those that did not leave it.
            inside: whether such members would be in it.
            k: for random numbers, which depend on the seed and on it alone: another each time.
            operator: whether it is the operator's domain.

        Returns:
            The members, and the weights of the old ones that each of them is made of; None if nothing has changed.

        Raises:
            ValueError: there are no others.
        """
        if fine.all():
            return E, None
        notes.warn(STRAYS, stacklevel=6)
        copies = survivors(fine, operator)
        others = E.take_along_dim(copies.unsqueeze(-1), -2)  # finite, and without weight where it is a copy
        W, done = torch.eye(self.members, dtype=DOUBLE)[copies], fine
        generator = stream((self.seed + 1 + k) % 2**63)
        for noise in torch.randn(TRIES, self.members, self.members, generator=generator, dtype=DOUBLE):
            tried = draws_among(fine, noise)
            good = ~done & inside(torch.where(done.unsqueeze(-1), others, tried @ others))
            W, done = torch.where(good.unsqueeze(-1), tried, W), done | good
            if done.all():
                break
        return torch.where(fine.unsqueeze(-1), E, W @ others), W


def draws_among(fine: Bool[Tensor, "W N"], noise: Float[Tensor, "N N"]) -> Float[Tensor, "W N N"]:
    """The weights of members in draws from the Gaussian with their mean and covariance; those not fine have none."""
    among = fine.unsqueeze(-2).to(noise)
    count = among.sum(-1, keepdim=True)
    noise = noise * among
    away = noise - noise.sum(-1, keepdim=True) / count * among
    return among / count + away / (count - 1).clamp(min=1).sqrt()
