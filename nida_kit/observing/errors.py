r"""Errors of observations, eta ~ N(0, R): independent, correlated at each time, over the window, or along tracks.

Each kind knows how to *whiten* (R^-1/2 v of what was measured, 0 elsewhere) and how to *colour* (errors from unit
noise). A missing value takes its row and column out of R, exactly: its row and column of the root become those of the
identity, so it is left out of everything else.

A new kind is one class with the methods of `Errors`, and a line in `errors_of`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nida_kit.linalg.banded import apply
from nida_kit.linalg.rows import Banded


class Errors(ABC):
    """The law of the errors of values `(..., T, p)`.

    Attributes:
        correlated_in_time: whether errors at different times depend on one another.
    """

    correlated_in_time: bool

    @property
    @abstractmethod
    def std(self) -> Float[Tensor, "*batch T p"]:
        """Marginal standard deviations."""

    @abstractmethod
    def whiten(self, v: Float[Tensor, "*batch T p"], seen: Bool[Tensor, "*batch T p"]) -> Float[Tensor, "*batch T p"]:
        """R^-1/2 v of what was seen, and 0 elsewhere."""

    @abstractmethod
    def colour(self, noise: Float[Tensor, "*batch T p"]) -> Float[Tensor, "*batch T p"]:
        """R^1/2 noise."""

    @abstractmethod
    def logdet(self, seen: Bool[Tensor, "*batch T p"]) -> Float[Tensor, "*batch"]:
        """Log det R of what was seen."""

    @abstractmethod
    def among(self, steps: Int[Tensor, " M"], values: Int[Tensor, " M"]) -> Float[Tensor, "*batch M M"]:
        """The covariance of some of the errors, by time step and place."""

    @abstractmethod
    def at(self, t: slice | Int[Tensor, " C"]) -> Errors:
        """Those of some time steps."""

    @abstractmethod
    def windows(self, function: Callable[[Tensor, int], Tensor]) -> Errors:
        """The same law of other windows: each tensor x in it is replaced by function(x, k).

        The last k axes of x are the law's own, those before count windows.
        """

    def steps_back(self, seen: Bool[Tensor, "*batch T p"]) -> tuple[Tensor, Tensor | None, Tensor | None] | None:
        """R^-1/2 of what was seen, where each whitened value depends on one other at most; None where on more.

        Returns:
            A weight of each value, `(..., T, p)`, 0 where not seen; and None twice, or of the value before it the place
            among all of the window, `(..., T * p)`, and what to subtract of it, `(..., T * p)`.
        """
        return None

    def rows(self, slopes: Float[Tensor, "*batch T p n"], seen: Bool[Tensor, "*batch T p"]) -> Banded:
        """R^-1/2 H, for slopes H by the state of the same time; asked only if errors do not depend on other times."""
        columns = [self.whiten(column, seen) for column in slopes.unbind(-1)]
        return Banded(torch.stack(columns, -1).unsqueeze(-3))


@dataclass(frozen=True)
class Independent(Errors):
    """Errors that know nothing of one another.

    Attributes:
        deviations: standard deviations, `(..., T, p)`.
    """

    deviations: Float[Tensor, "*batch T p"]
    correlated_in_time = False

    @property
    def std(self):
        return self.deviations

    def at(self, t):
        return Independent(self.std[..., t, :])

    def windows(self, function):
        return Independent(function(self.std, 2))

    def whiten(self, v, seen):
        return torch.where(seen, v / self.std, 0.0)

    def colour(self, noise):
        return noise * self.std

    def logdet(self, seen):
        return 2 * torch.where(seen, self.std.log(), 0.0).sum((-2, -1))

    def among(self, steps, values):
        return torch.diag_embed(self.std[..., steps, values].square())

    def steps_back(self, seen):
        return torch.where(seen, 1 / self.std, 0.0), None, None

    def rows(self, slopes, seen):
        return Banded((torch.where(seen, 1 / self.std, 0.0).unsqueeze(-1) * slopes).unsqueeze(-3))


@dataclass(frozen=True)
class AtEachTime(Errors):
    """Errors that depend on those at the same time.

    Attributes:
        covariance: R of each time, `(..., T, p, p)`.
    """

    covariance: Float[Tensor, "*batch T p p"]
    correlated_in_time = False

    def at(self, t):
        return AtEachTime(self.covariance[..., t, :, :])

    def windows(self, function):
        return AtEachTime(function(self.covariance, 3))

    @property
    def std(self):
        return self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()

    def _root(self, seen: Tensor) -> Tensor:
        return root_of(self.covariance, seen)

    def whiten(self, v, seen):
        return solve_lower(self._root(seen), torch.where(seen, v, 0.0).unsqueeze(-1)).squeeze(-1)

    def colour(self, noise):
        return apply(torch.linalg.cholesky(self.covariance), noise)

    def logdet(self, seen):
        return 2 * self._root(seen).diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))

    def among(self, steps, values):
        together = self.covariance[..., steps[:, None], values[:, None], values]
        return together * (steps[:, None] == steps)

    def rows(self, slopes, seen):
        return Banded(solve_lower(self._root(seen), slopes * seen.unsqueeze(-1)).unsqueeze(-3))


_BETWEEN_TIMES = (
    "The errors of the observations are correlated between times (noise_covariance with other_time, or noise_length), "
    "and this method takes one time after the other: use one of whole windows, nk.OptimalInterpolation, "
    "nk.KalmanSmoother, nk.WeakFourDVar, nk.StrongFourDVar or nk.IEnKS (lag=None), nk.ImportanceSampler or "
    "nk.NeuralIncremental."
)


@dataclass(frozen=True)
class OverTheWindow(Errors):
    """Errors that depend on those at other times: instrument drifts, a bias that lasts, products of overlapping data.

    Attributes:
        covariance: R of all values of a window, `(..., T, p, T, p)`.
    """

    covariance: Float[Tensor, "*batch T p T p"]
    correlated_in_time = True

    def at(self, t):
        raise ValueError(_BETWEEN_TIMES)

    def windows(self, function):
        return OverTheWindow(function(self.covariance, 4))

    @property
    def _flat(self) -> Tensor:
        return self.covariance.flatten(-2).flatten(-3, -2)

    @property
    def std(self):
        return self._flat.diagonal(dim1=-2, dim2=-1).sqrt().unflatten(-1, self.covariance.shape[-2:])

    def whiten(self, v, seen):
        flat = torch.where(seen, v, 0.0).flatten(-2).unsqueeze(-1)
        return solve_lower(root_of(self._flat, seen.flatten(-2)), flat).squeeze(-1).unflatten(-1, v.shape[-2:])

    def colour(self, noise):
        return apply(torch.linalg.cholesky(self._flat), noise.flatten(-2)).unflatten(-1, noise.shape[-2:])

    def logdet(self, seen):
        return 2 * root_of(self._flat, seen.flatten(-2)).diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def among(self, steps, values):
        return self.covariance[..., steps[:, None], values[:, None], steps, values]


@dataclass(frozen=True)
class AlongTracks(Errors):
    r"""Errors that drift along the track of an instrument: R_ij = s_i s_j exp(-|d_i - d_j| / length) within a track.

    Between tracks it is 0. Along a track the errors are a Markov chain, so with a_i = exp(-(d_i - d_{i-1}) / length),

        (R^-1/2 v)_i = (v_i / s_i - a_i v_{i-1} / s_{i-1}) / sqrt(1 - a_i^2),

    where i - 1 is the value before it that was seen: whitening costs as much as what was measured, and is exact where
    values are missing.

    Attributes:
        deviations: s, `(..., T, p)`.
        track: which track, `(..., T, p)`; NaN has errors of its own.
        distance: d, along the track, `(..., T, p)`.
        length: in its unit.
    """

    deviations: Float[Tensor, "*batch T p"]
    track: Float[Tensor, "*batch T p"]
    distance: Float[Tensor, "*batch T p"]
    length: float
    correlated_in_time = True

    @property
    def std(self):
        return self.deviations

    def at(self, t):
        raise ValueError(_BETWEEN_TIMES)

    def windows(self, function):
        moved = (function(x, 2) for x in (self.deviations, self.track, self.distance))
        return AlongTracks(*moved, self.length)

    def _chain(self, seen: Bool[Tensor, "*batch T p"]) -> tuple[Tensor, Tensor, Tensor]:
        """Of all values `(..., T * p)`: their order along tracks, the one before each, and how far; inf if none is."""
        track, distance, seen = (x.expand(seen.shape).flatten(-2) for x in (self.track, self.distance, seen))
        order = distance.argsort(-1)
        order = order.gather(-1, track.gather(-1, order).argsort(dim=-1, stable=True))
        track, distance, seen = (x.gather(-1, order) for x in (track, distance, seen))
        place = torch.arange(order.shape[-1]).to(order).expand(order.shape)
        last = torch.where(seen, place, -1).cummax(-1).values.roll(1, -1)
        last[..., 0] = -1
        before = torch.where(last < 0, place, last)
        follows = seen & (last >= 0) & (track.gather(-1, before) == track)
        apart = torch.where(follows, (distance - distance.gather(-1, before)) / self.length, math.inf)
        back = torch.empty_like(order).scatter(-1, order, order.gather(-1, before))
        return order, back, torch.empty_like(apart).scatter(-1, order, apart)

    def steps_back(self, seen):
        _, before, apart = self._chain(seen)
        weight, fresh = torch.where(seen, 1 / self.std, 0.0).flatten(-2), _fresh(apart)
        own, back = weight / fresh, weight.gather(-1, before) * torch.exp(-apart) / fresh
        return own.unflatten(-1, seen.shape[-2:]), before, back

    def whiten(self, v, seen):
        own, before, back = self.steps_back(seen)
        v = torch.where(seen, v, 0.0)
        flat = v.flatten(-2)
        before, back = (x.expand(flat.shape) for x in (before, back))
        return own * v - (back * flat.gather(-1, before)).unflatten(-1, v.shape[-2:])

    def colour(self, noise):
        order, _, apart = self._chain(torch.ones_like(self.std, dtype=torch.bool))
        v = noise.flatten(-2) * _fresh(apart)
        order, a = (x.expand(v.shape) for x in (order, torch.exp(-apart)))
        v, a, reach = v.gather(-1, order), a.gather(-1, order), 1
        while reach < v.shape[-1]:  # v_i = v_i + a_i v_{i-1}, of twice as many terms each time
            v = torch.cat([v[..., :reach], v[..., reach:] + a[..., reach:] * v[..., :-reach]], -1)
            a = torch.cat([a[..., :reach], a[..., reach:] * a[..., :-reach]], -1)
            reach *= 2
        return torch.empty_like(v).scatter(-1, order, v).unflatten(-1, noise.shape[-2:]) * self.std

    def logdet(self, seen):
        _, _, apart = self._chain(seen)
        return 2 * (torch.where(seen, self.std.log(), 0.0).flatten(-2) + _fresh(apart).log()).sum(-1)

    def among(self, steps, values):
        std, track, distance = (x[..., steps, values] for x in (self.std, self.track, self.distance))
        apart = (distance.unsqueeze(-1) - distance.unsqueeze(-2)).abs()
        together = torch.where(track.unsqueeze(-1) == track.unsqueeze(-2), torch.exp(-apart / self.length), 0.0)
        alone = torch.eye(len(steps), dtype=torch.bool, device=std.device)
        return torch.where(alone, 1.0, together) * std.unsqueeze(-1) * std.unsqueeze(-2)


def _fresh(apart: Tensor) -> Tensor:
    """The share sqrt(1 - a^2) of an error that the one before it does not explain, a = exp(-apart)."""
    return (-torch.expm1(-2 * apart)).sqrt()


def root_of(R: Float[Tensor, "*batch p p"], seen: Bool[Tensor, "*batch p"]) -> Float[Tensor, "*batch p p"]:
    """The Cholesky factor of what was seen; of what was not, the identity's."""
    both = seen.unsqueeze(-1) & seen.unsqueeze(-2)
    return torch.linalg.cholesky(torch.where(both, R, torch.eye(R.shape[-1]).to(R)))


def solve_lower(root: Float[Tensor, "*#batch p p"], v: Float[Tensor, "*#batch p m"]) -> Float[Tensor, "*#batch p m"]:
    """L^-1 v, whose batches broadcast; leading axes that only v has are more columns of it, not copies of L."""
    if (extra := v.ndim - root.ndim) > 0:
        columns = v.flatten(0, extra - 1).movedim(0, -1)
        solved = solve_lower(root, columns.flatten(-2)).unflatten(-1, columns.shape[-2:])
        return solved.movedim(-1, 0).unflatten(0, v.shape[:extra])
    batch = np.broadcast_shapes(root.shape[:-2], v.shape[:-2])
    root, v = root.expand(*batch, *root.shape[-2:]), v.expand(*batch, *v.shape[-2:])
    return torch.linalg.solve_triangular(root, v, upper=False)


def errors_of(
    noise_std: Float[Tensor, "*batch T p"],
    noise_covariance: Tensor | None = None,
    tracks: tuple[Tensor, Tensor, float] | None = None,
) -> Errors:
    """The law that observations come with.

    Args:
        noise_std: marginal standard deviations.
        noise_covariance: None, or R of each time `(..., T, p, p)`, or of the window `(..., T, p, T, p)`.
        tracks: None, or track, distance and length of errors along tracks, as `AlongTracks` has them.
    """
    if tracks is not None:
        return AlongTracks(noise_std, *tracks)
    if noise_covariance is None:
        return Independent(noise_std)
    kind = AtEachTime if noise_covariance.ndim == noise_std.ndim + 1 else OverTheWindow
    return kind(noise_covariance)
