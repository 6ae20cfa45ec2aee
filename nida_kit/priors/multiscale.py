r"""The climatology of a field of millions of values: noise of several scales, each with a memory of its own.

    x_t = mu + spread * sum_k a_k B_k z_{k,t},    cov(z_{k,t}, z_{k,t+d}) = c_k(d),    z_{k,t} white in space

B_k are cubic B-splines with knots at every 2^k-th point (`linalg.pyramid`). So a dozen numbers, the share of each scale
in the variance and its correlation over time, say how all values vary together: alike everywhere and in all directions,
but for the mean and the spread, which are each point's own. Nothing is written down: conditioning is one run of
conjugate gradients, whose cost and memory grow as the number of values.

The spread of the answer comes from draws. With z a draw of the past and e what a solve leaves of it, x = m + e, e is a
draw of the answer's error and m is independent of it, so that Var e is both E e^2 and spread^2 - E m^2. The two are
weighted by how well they are known, which is exact where nothing was seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks, html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import Pyramid, Scaled, averaged
from nida_kit.linalg.pyramid import Shape, coarser, shapes
from nida_kit.linalg.rows import Diagonal, Sparse
from nida_kit.linalg.solvers import to_its_spread
from nida_kit.priors.drawn import of_rows
from nida_kit.priors.modes import STILL, OfField, departures, mask_of, pointwise
from nida_kit.priors.scales import (
    OCTAVES,
    axis_sizes,
    axis_variances,
    correlation_at,
    displacements,
    memories,
    root,
    scales,
)

_DOUBLE = ("shares", "tolerance", "wider", "unresolved", "largest")  # as files keep them
_FLOOR = 1e-3  # of each value's spread, below which no error is believed
_BLOCK = 64  # points along an axis whose noise is drawn together
_OF_OBSERVATIONS = 100  # the layer of their noise; those of scales are numbered by octave


@dataclass(frozen=True)
class MultiscaleClimatology(OfField):
    """Mean and covariance of the past of a field, by a few scales of noise: alike everywhere.

    `fit` makes one of records of the past, `of` one of a correlation length and time that are known. Then
    `nk.OptimalInterpolation(climatology, labels, dt)` reconstructs fields, in single precision.

    Attributes:
        finest: the octave of the first scale: its knots are 2^finest points apart.
        shares: of each scale in the variance, fine to coarse, in sum 1.
        memory: the correlation of each scale over time, at lags from 0 on, `(K, L)`.
        draws: of which the spread of an answer is made, beside the points around each,
            half a knot of the first scale to each side.
        tolerance: of conjugate gradients. The mean is off by about 60 times that, in posterior standard deviations,
            however exact the observations are: these take more iterations.
        seed: of the draws' noise.
        origin: of a part, where its first point lies in the whole field: noise goes by the place there.
        largest: of a part, the largest spread of the whole field; None if it is the whole.
    """

    finest: int
    shares: tuple[float, ...]
    memory: Float[Tensor, "K L"]
    draws: int = 8
    tolerance: float = 3e-3
    seed: int = 0
    origin: Shape = (0, 0)
    largest: float | None = None

    def __post_init__(self):
        checks.store(
            self,
            draws=checks.count("draws", self.draws, 1),
            tolerance=checks.within("tolerance", self.tolerance, 1e-6, 0.1, "Try tolerance=3e-3."),
            seed=checks.seed(self.seed),
        )

    def _repr_html_(self) -> str:
        shares = ", ".join(
            f"{share:.2g} of {2**octave}" for octave, share in zip(self.octaves, self.shares, strict=True)
        )
        about = {"grid": self.shape, "shares of scales, in points": shares, "longest window": self.memory.shape[-1]}
        return html.card("MultiscaleClimatology", about)

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        length: float,
        time: float,
        steps: SupportsIndex = 8,
        mean: float | Float[Tensor, "y x"] = 0.0,
        spread: float | Float[Tensor, "y x"] = 1.0,
        sea: Bool[Tensor, "y x"] | None = None,
        **settings,
    ) -> MultiscaleClimatology:
        """With the correlation exp(-(r / length)^2 / 2 - (d / time)^2 / 2), over distance to about 0.1 of it.

        >>> climatology = MultiscaleClimatology.of((65, 65), length=4.0, time=3.0, steps=5)
        >>> climatology.memory.shape
        torch.Size([2, 5])

        Args:
            shape: of the field.
            length: in grid points, 1 or more.
            time: in steps.
            steps: of the longest window.
            mean: one number, or one at each point.
            spread: the standard deviation, likewise.
            sea: where there is a field; None is everywhere.
            settings: draws, tolerance and seed, as above.

        Raises:
            ValueError: numbers out of range, a mask without sea.
        """
        shape = _plane(shape)
        steps = checks.count("steps", steps, 1)
        length = checks.within("length", length, 1.0, 1.5 * 2**OCTAVES, "In grid points: try length=4.0.")
        at = displacements(shape)
        finest, shares = scales(torch.exp(-((at / length) ** 2) / 2), at, shape)
        lags = torch.arange(steps, dtype=torch.float64) / checks.positive("time", time)
        memory = torch.exp(-lags.square() / 2).float().expand(len(shares), -1)
        mean, spread = _single(checks.vector("mean", mean, shape)), _single(checks.spread(spread, shape, "spread"))
        mask = None if sea is None else mask_of(sea, shape).flatten()
        if mask is not None:
            spread = torch.where(mask, spread, STILL * spread[mask].max())
        return cls(mean[None], spread, shape, finest, shares, memory, mask=mask, **settings)

    @classmethod
    def fit(
        cls,
        records: Float[Tensor, "N T y x"],
        steps: SupportsIndex = 8,
        sea: Bool[Tensor, "y x"] | None = None,
        **settings,
    ) -> MultiscaleClimatology:
        """From records of the past, at least twice as long as `steps`.

        The shares are those whose correlation over distance is nearest to the record's (least squares, none negative),
        and likewise at each lag.

        >>> import nida_kit as nk, torch
        >>> past = nk.QuasiGeostrophic(cells=33).simulate(samples=4, steps=12, dt=5.0, seed=0)
        >>> MultiscaleClimatology.fit(torch.from_numpy(past.values), steps=3).memory.shape
        torch.Size([2, 3])

        Args:
            records: without gaps at sea.
            steps: of the longest window to be reconstructed.
            sea: where there is a field; None is wherever there is a value at any time.
            settings: draws, tolerance and seed, as above.

        Raises:
            ValueError: records that are too short, have gaps, do not vary, or are in half precision; no sea.
        """
        steps = checks.count("steps", steps, 1)
        mean, away, spread, mask = departures(records, sea)
        length, shape = records.shape[1], _plane(records.shape[-2:])
        if length < 2 * steps:
            raise ValueError(
                f"The records have {checks.counted(length, 'step')}; windows of {steps} need records of {2 * steps} or "
                "more, for the correlation at each lag is a mean over time. Give the whole record, not windows of it."
            )
        inside = (spread > 1.1 * STILL * spread.max()).view(shape)
        away, at = torch.where(inside, away / spread.view(shape), 0.0), displacements(shape)
        found = torch.stack([correlation_at(away, inside, at, lag) for lag in range(steps)])
        finest, shares = scales(found[0] / found[0, 0], at, shape)
        memory = memories(found / found[0, 0], at, finest, shares)
        return cls(mean.float(), spread.float(), shape, finest, shares, memory, mask=mask, **settings)

    def packed(self) -> dict[str, Tensor]:
        """As a file keeps it."""
        own = {name: getattr(self, name) for name in ("mean", "spread", "memory", "mask")}
        known = {name: getattr(self, name) for name in _DOUBLE if getattr(self, name) is not None}
        own |= {name: torch.tensor(value, dtype=torch.float64) for name, value in known.items()}
        own |= {name: torch.tensor(getattr(self, name)) for name in ("shape", "finest", "draws", "seed", "origin")}
        return {name: x for name, x in own.items() if x is not None}

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor]) -> MultiscaleClimatology:
        """Of what `packed` gave.

        Raises:
            ValueError: tensors that do not fit each other.
        """
        numbers = ("finest", "tolerance", "draws", "seed", "wider", "unresolved", "largest")
        own = dict(tensors) | {name: tensors[name].tolist() for name in numbers if name in tensors}
        own |= {name: tuple(tensors[name].tolist()) for name in ("shares", "shape", "origin") if name in tensors}
        n, scales = math.prod(own["shape"]), len(own["shares"])
        sizes = {"mean": (1, n), "spread": (n,), "memory": (scales, own["memory"].shape[-1]), "mask": (n,)}
        for name, size in sizes.items():
            if name in own and tuple(own[name].shape) != size:
                raise ValueError(f"{name} has the shape {tuple(own[name].shape)} where {size} is needed")
        return cls(**own)

    # The field

    @property
    def octaves(self) -> range:
        """Of the scales: 2^octave points lie between the knots of one."""
        return range(self.finest, self.finest + len(self.shares))

    @property
    def coarsest(self) -> int:
        """How many points lie between the knots of the coarsest scale."""
        return 2 ** self.octaves[-1]

    @property
    def varies(self) -> Bool[Tensor, " n"]:
        """Where the field does, which it does not on land or along a wall."""
        return self.spread > 1.1 * STILL * (self.spread.max() if self.largest is None else self.largest)

    @property
    def noise_layers(self) -> int:
        """How many times the size of a window it takes for its z."""
        grids = shapes(self.shape, self.octaves[-1])
        return math.ceil(sum(math.prod(grids[octave]) for octave in self.octaves) / math.prod(self.shape))

    def part(self, y: slice, x: slice) -> MultiscaleClimatology:
        """That of a part of the field, which begins at multiples of the coarsest scale, so that knots stay in place.

        Raises:
            ValueError: it begins elsewhere.
        """
        if y.start % self.coarsest or x.start % self.coarsest:
            raise ValueError(
                f"A part begins at multiples of {self.coarsest} points, the coarsest scale; not at ({y.start}, "
                f"{x.start})."
            )
        mean, spread = (a.reshape(self.shape)[y, x] for a in (self.mean, self.spread))
        mask = None if self.mask is None else self.mask.view(self.shape)[y, x].reshape(-1)
        return replace(
            self,
            mean=mean.reshape(1, -1),
            spread=spread.reshape(-1),
            shape=tuple(mean.shape),
            mask=mask,
            origin=(self.origin[0] + y.start, self.origin[1] + x.start),
            largest=float(self.spread.max()) if self.largest is None else self.largest,
        )

    # What methods ask

    def generator(self, steps: int) -> Pyramid:
        """L, with x = mean + L z."""
        grids = shapes(self.shape, self.octaves[-1])
        like = {"dtype": self.spread.dtype, "device": self.spread.device}
        size, total, amplitude = axis_sizes(self.octaves), 0.0, []
        ny, nx = (axis_variances(n, self.octaves[-1]) for n in self.shape)
        for octave, share, one in zip(self.octaves, self.shares, size, strict=True):
            a = math.sqrt(share) / one
            total = total + a**2 * ny[octave][:, None] * nx[octave]
            amplitude.append(torch.tensor(a, **like).expand(steps, *grids[octave]))
        inside = self.spread.reshape(self.shape) * self.varies.reshape(self.shape) / total.sqrt().to(**like)
        return Pyramid(tuple(amplitude), tuple(root(c[:steps]).to(**like) for c in self.memory), inside)

    def drawn_before(self, steps: int, k: int) -> Float[Tensor, "T n"]:
        """A field before anything is observed, the k-th that its seed gives."""
        noise = torch.from_numpy(_of_scales(self, steps, k)).to(self.mean)
        return self.mean + self.generator(steps).push(noise)

    def given(self, statement: Gaussian) -> Gaussian:
        found = self.posterior(statement)
        return Gaussian.of(found.mean.to(statement.centre), Diagonal(1 / found.std.to(statement.centre)))

    def posterior(self, statement: Gaussian) -> MultiscalePosterior:
        """What is known of a window once it is known what a statement says: its moments, and draws.

        Args:
            statement: about values at points of the grid or between them, linearised at the climatological mean,
                `(..., T, n)`.

        Raises:
            ValueError: windows longer than the longest lag, values on land, or other statements.
        """
        steps = statement.centre.shape[-2]
        checks.within_reach(
            steps, self.memory.shape[-1], "the climatology knows correlations over", f"; or fit it with steps={steps}"
        )
        (part,) = statement.rows.parts
        part = pointwise(part)
        if self.mask is not None and (lost := _on_land(part, self.mask)).any():
            raise ValueError(
                f"{checks.counted(lost.sum(), 'observed value lies', 'observed values lie')} on land, where the "
                "climatology has no field: leave that out, obs.value.where(sea), or give another mask."
            )
        generator = self.generator(steps)
        scale = self._known(generator, part)
        prior = Gaussian.of(statement.centre, Diagonal(scale))
        solver = partial(to_its_spread, tolerance=self.tolerance)
        prior = replace(prior, generator=Scaled(generator, scale), solver=solver)
        return MultiscalePosterior(self, statement, prior.condition(statement))

    def _known(self, generator: Pyramid, part: Diagonal | Sparse) -> Float[Tensor, "*batch one N"]:
        """About the posterior standard deviation of each of the z, given all others.

        In units of these all z are known about equally well, and conjugate gradients take few steps. One over its
        square is 1 and what the observations say, summed over where the spline is (its square goes about as itself).
        """
        seen = part.squares() * self.spread.square()
        field, found = (seen * self.varies).unflatten(-1, self.shape), []
        above = 0
        for octave, share, mix in zip(self.octaves, self.shares, generator.mixing, strict=True):
            for _ in range(octave - above):
                field = coarser(field)
            above = octave
            found.append((1 + share * (mix.square().mT @ field.flatten(-2))).rsqrt().flatten(-2))
        return torch.cat(found, -1).unsqueeze(-2)


@dataclass(frozen=True)
class MultiscalePosterior:
    """What is known of a large field: its mean, a spread from draws, and the draws.

    Attributes:
        climatology: of which it was made.
        statement: which it was conditioned on.
        gaussian: known by its generator.
    """

    climatology: MultiscaleClimatology
    statement: Gaussian
    gaussian: Gaussian

    @property
    def mean(self) -> Float[Tensor, "*batch T n"]:
        """In double precision, as results are."""
        return self.gaussian.mean.double()

    @property
    def std(self) -> Float[Tensor, "*batch T n"]:
        """Marginal standard deviations; the same whichever windows are reconstructed together."""
        return self._drawn[0].double()

    @cached_property
    def _drawn(self) -> tuple[Float[Tensor, "*batch T n"], list[Tensor]]:
        return self.drawn(keep=0)

    def drawn(self, keep: int) -> tuple[Float[Tensor, "*batch T n"], list[Float[Tensor, "*batch T n"]]]:
        """Standard deviations, and so many of the draws that they are made of.

        Noise goes by the place in the whole field, so that parts of it agree on their draws where they overlap.
        """
        climatology, draws, left, found = self.climatology, [], 0.0, 0.0
        for k in range(climatology.draws):
            error, moved = self._draw(*self._noise(k))
            left, found = left + error.square(), found + moved.square()
            if k < keep:
                draws.append(self.gaussian.mean + self._wider * error)
        share, reach = 1 / (climatology.draws * climatology.spread.square()), max(1, 2**climatology.finest // 2)
        left, found = (averaged(x * share, climatology.sea, reach) for x in (left, found))
        std, part = _combined(left, found).sqrt() * climatology.spread, pointwise(self.statement.rows.parts[0])
        if isinstance(part, Diagonal):  # the average knows no single points, and none is worse than its own value
            std = torch.minimum(std, 1 / part.weight)
        return std, draws

    def _draw(self, of_prior: Tensor, of_observations: Tensor) -> tuple[Tensor, Tensor]:
        """A draw e of the error and, independent of it, m: of x = m + e the part that observations tell.

        That is the solve for observations of x, with errors. Its right-hand side is as smooth as that of the mean, so
        that it takes as few steps; one that perturbs all rows takes several times as many to the same accuracy.
        """
        x = self.gaussian.generator.generator.push(of_prior)
        moved = self.gaussian.mean - self.gaussian.perturbed([None, self.statement.rows.push(x)[0] + of_observations])
        return x - moved, moved

    def _noise(self, k: int) -> list[Tensor]:
        """Of each row, for draw k."""
        of_observations = self.gaussian.noise_shapes[1]
        climatology, (steps, n) = self.climatology, self.gaussian.centre.shape[-2:]
        own = _of_scales(climatology, steps, k)
        if tuple(of_observations[-2:]) == (steps, n):
            where = (climatology.seed, k), climatology.origin, steps, _OF_OBSERVATIONS
            theirs = _white(*where, 1, climatology.shape)
        else:  # between points of the grid, in the order that they have
            numbers = np.random.default_rng([climatology.seed, k, _OF_OBSERVATIONS])
            theirs = numbers.standard_normal(of_observations[-2:], dtype=np.float32)
        return [torch.from_numpy(x).to(self.gaussian.centre) for x in (own, theirs.reshape(of_observations[-2:]))]

    def sample(self, noise: Float[Tensor, "layers *draws T n"]) -> Float[Tensor, "*draws T n"]:
        """Draws from unit normal noise: as many layers as it takes for the prior, then for the observations."""
        error, _ = self._draw(*of_rows(self.gaussian, noise))
        return (self.gaussian.mean + self._wider * error).double()

    @property
    def _wider(self) -> Tensor | float:
        """By how much draws lie further from the mean than the solve says; not where a value was seen."""
        part, wider = pointwise(self.statement.rows.parts[0]), self.climatology.wider
        return wider if not isinstance(part, Diagonal) else torch.where(part.weight > 0, 1.0, wider)


def _combined(left: Tensor, found: Tensor) -> Tensor:
    """What is left of a variance of 1: v from E e^2 and 1 - E m^2, whose own variances go as v^2 and (1 - v)^2."""
    v = left / (left + found).clamp(min=1e-30)
    mine, theirs = (1 - v).square(), v.square()
    best = (mine * left + theirs * (1 - found)) / (mine + theirs)
    return best.clamp(min=0) + _FLOOR**2


def _of_scales(climatology: MultiscaleClimatology, steps: int, k: int) -> np.ndarray:
    """The k-th z of a seed, `(1, N)`."""
    grids, seed = shapes(climatology.shape, climatology.octaves[-1]), (climatology.seed, k)
    parts = [
        _white(seed, climatology.origin, steps, octave, 2**octave, grids[octave]) for octave in climatology.octaves
    ]
    return np.concatenate([part.reshape(1, -1) for part in parts], -1)


def _white(seed: Sequence[int], origin: Shape, steps: int, layer: int, apart: int, shape: Shape) -> np.ndarray:
    """Unit noise `(T, h, w)` on points that are `apart` within a large field, the same whoever asks."""
    (top, left), (h, w) = (o // apart for o in origin), shape
    rows, columns = (range(a // _BLOCK, (a + n - 1) // _BLOCK + 1) for a, n in ((top, h), (left, w)))
    out = np.empty((steps, len(rows) * _BLOCK, len(columns) * _BLOCK), np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            generator = np.random.default_rng([*seed, layer, row, column])
            block = generator.standard_normal((steps, _BLOCK, _BLOCK), dtype=np.float32)
            out[:, i * _BLOCK : (i + 1) * _BLOCK, j * _BLOCK : (j + 1) * _BLOCK] = block
    top, left = top - rows[0] * _BLOCK, left - columns[0] * _BLOCK
    return out[:, top : top + h, left : left + w]


# What is given


def _on_land(part: Diagonal | Sparse, sea: Bool[Tensor, " n"]) -> Bool[Tensor, "*batch M"]:
    """Which rows see points, and none of them at sea."""
    counts = part.weight != 0
    if isinstance(part, Diagonal):
        return counts & ~sea
    return counts.any(-1) & ~(counts & sea[part.index % len(sea)]).any(-1)


def _single(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The same in single precision; one number for all stays one, so that little is sent to workers."""
    return x.float() if x.stride(0) else x[:1].float().expand(len(x))


def _plane(shape: Sequence[int]) -> Shape:
    ny, nx = shape
    return checks.count("shape[0]", ny, 4), checks.count("shape[1]", nx, 4)
