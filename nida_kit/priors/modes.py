r"""The climatology of a large field: a few hundred spatial modes, and how their coefficients vary together in time.

    x_t = mu + E z_t + rest,    cov(z_t, z_{t + d}) = C_d

The columns of E are the leading eigenvectors of the fields' covariance (empirical orthogonal functions, Lorenz 1956).
What they leave over is taken to be independent. So conditioning is small and dense: one system among the values that
were seen.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from nida_kit import checks, html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import Modes, nearest_at_sea
from nida_kit.linalg.pyramid import Shape
from nida_kit.linalg.rows import Diagonal, Rows, Sparse
from nida_kit.linalg.taper import gaspari_cohn

_MOST_BETWEEN = 10_000  # values of a window, one system among which is solved densely
_ENOUGH = 8  # snapshots per point, of which the modes are found
_KEPT = 2**23  # values of what is kept for the next windows, 64 megabytes
_POINTS, _MODES = 512, 60  # whose products stay in the processor's cache
TOO_EXACT = (
    "Observations of the field are so exact that double precision cannot tell their errors beside the field's spread: "
    "raise noise_std, a millionth of the spread is as good as exact."
)
STILL = 1e-3  # of the largest spread: what a field has where it does not vary


@dataclass(frozen=True)
class OfField(ABC):
    """What is known of a field from its past, stationary in time.

    Attributes:
        mean: `(1, n)`, of the flattened field, as of other climatologies.
        spread: standard deviations, `(n,)`; at least a thousandth of the largest.
        shape: of the field.
        mask: of the sea, `(n,)`; elsewhere is land, where there never is a field. None is sea everywhere.
        wider: by how much answers lie further from the truth than `given` says.
        unresolved: standard deviation of what it cannot hold, in units of the spread; both as `priors.calibration`
            finds them.
    """

    mean: Float[Tensor, "one n"]
    spread: Float[Tensor, " n"]
    shape: Shape
    mask: Bool[Tensor, " n"] | None = field(default=None, kw_only=True)
    wider: float = field(default=1.0, kw_only=True)
    unresolved: float = field(default=0.0, kw_only=True)

    @property
    def varies(self) -> Bool[Tensor, " n"]:
        """Where the field does, which it does not on land or along a wall."""
        return self.spread > 1.1 * STILL * self.spread.max()

    @property
    def sea(self) -> Float[Tensor, "y x"]:
        """1 where it varies, 0 elsewhere."""
        return self.varies.to(self.spread).view(self.shape)

    def over(self, steps: int) -> Gaussian:
        """Mean and spread of each value over a window of that many steps, and nothing of how values vary together."""
        return Gaussian.of(self.mean.expand(steps, -1), Diagonal((1 / self.spread).expand(steps, -1)))

    def told(
        self,
        std: Float[Tensor, "*batch T n"],
        mean: Float[Tensor, "*batch T n"],
        value: Float[Tensor, "*#batch T n"],
        noise_std: Float[Tensor, "*#batch T n"],
    ) -> Float[Tensor, "*batch T n"]:
        """Standard deviations as a user is told them: those that `given` says, calibrated.

        No point is known worse than before anything was seen. Where a value was seen, the mean is off the truth by its
        distance from that value and by the value's own error, and by no more.

        Args:
            std: those.
            mean: the answer.
            value: what was seen at each point, NaN where nothing was.
            noise_std: of its error.
        """
        found = ((self.wider * std).square() + (self.unresolved * self.spread).square()).sqrt()
        own = (noise_std.square() + (value - mean).square()).sqrt().nan_to_num(nan=math.inf)
        return torch.maximum(std, torch.minimum(found, torch.minimum(own, self.spread.to(own))))

    @abstractmethod
    def given(self, statement: Gaussian) -> Gaussian:
        """Mean and spread of each value once it is known what a statement says, window by window.

        Args:
            statement: linearised at the climatological mean, `(..., T, n)`.
        """


@dataclass(frozen=True)
class FieldClimatology(OfField):
    """Mean and covariance of the past of a field, by its leading modes.

    Attributes:
        modes: E, on the grid of the past, `(r, h, w)`.
        lags: C_d of the modes' coefficients, whose variances are about 1, `(L, r, r)`.
    """

    modes: Float[Tensor, "r h w"]
    lags: Float[Tensor, "L r r"]

    def __getstate__(self) -> dict:
        """What a worker is sent: not what is made of it, and kept."""
        return {name: vars(self)[name] for name in self.__dataclass_fields__}

    def _repr_html_(self) -> str:
        about = {"grid": self.shape, "modes": len(self.modes), "longest window": len(self.lags)}
        return html.card("FieldClimatology", about)

    @classmethod
    def fit(
        cls,
        records: Float[Tensor, "N T y x"],
        steps: SupportsIndex = 8,
        modes: SupportsIndex = 300,
        radius: float | None = None,
    ) -> FieldClimatology:
        """From records of the past, each much longer than `steps`.

        Covariances at each lag are means over the records. Those of different lags come from somewhat different times,
        so that together they may say of some sums of values that their variance is negative. The nearest ones that do
        not are taken (alternating projections, Higham 2002, doi:10.1093/imanum/22.3.329).

        >>> import nida_kit as nk, torch
        >>> past = nk.QuasiGeostrophic(cells=17).simulate(samples=40, steps=12, dt=5.0, seed=0)
        >>> FieldClimatology.fit(torch.from_numpy(past.values), steps=3, modes=20).lags.shape
        torch.Size([3, 20, 20])

        Args:
            records: without gaps at sea; on land they are NaN at all times.
            steps: of the longest window to be reconstructed.
            modes: how many; fewer where the others would be rounding errors.
            radius: of the Gaspari-Cohn taper of all covariances, in grid points; None is no taper.

        Raises:
            ValueError: records that are too short, have gaps, or do not vary.
        """
        steps, modes = checks.count("steps", steps, 1), checks.count("modes", modes, 1)
        mean, away, spread, mask = departures(records)
        _, length, *shape = records.shape
        if length < 4 * steps:
            raise ValueError(
                f"The records have {checks.counted(length, 'step')}; windows of {steps} need records of {4 * steps} or "
                "more, for the covariance at each lag is a mean over time. Give the whole record, not windows of it."
            )
        x, taper = away.flatten(2), 1.0
        if radius is not None:
            taper = gaspari_cohn(_apart(*shape).to(away), checks.positive("radius", radius))

        def covariance(of: Tensor, lag: int, every: int = 1) -> Tensor:
            first, second = (part[:, ::every].flatten(0, 1) for part in (of[:, : length - lag], of[:, lag:]))
            return first.mT @ second / len(first)

        every = max(1, len(x) * length // (_ENOUGH * x.shape[-1]))  # snapshots of all points; of modes all are taken
        C = covariance(x, 0, every)
        values, vectors = torch.linalg.eigh(C * taper)
        modes = min(modes, int((values > 1e-6 * values[-1]).sum()))
        root, vectors = values[-modes:].flip(0).sqrt(), vectors[:, -modes:].flip(1)
        inwards = vectors / root
        if radius is None:
            z = x @ inwards
            lags = torch.stack([covariance(z, lag) for lag in range(steps)])
        else:
            lags = torch.stack([inwards.mT @ (covariance(x, lag, every) * taper) @ inwards for lag in range(steps)])
        lags = positive(lags)
        outwards = (vectors * root).mT
        return cls(mean, spread, tuple(shape), outwards.unflatten(1, tuple(shape)).contiguous(), lags, mask=mask)

    @property
    def served(self) -> list[Shape]:
        """Its own grid and those some octaves finer, which `on` takes."""
        return [tuple((n - 1) * 2**octaves + 1 for n in self.shape) for octaves in range(6)]

    def on(self, shape: Shape) -> FieldClimatology:
        """The same on a grid some octaves finer, of which every second (fourth, ...) point is one of its own.

        Raises:
            ValueError: any other grid.
        """
        if tuple(shape) not in self.served:
            raise ValueError(
                f"The climatology is that of a field of {self.shape} points, and serves {self.served[1:4]} and so on, "
                f"of which every second (fourth, eighth) is one of them; not {tuple(shape)}."
            )
        fields = torch.stack([self.mean[0], self.spread]).unflatten(1, self.shape)
        mean, spread = interpolate(fields[None], shape, mode="bicubic", align_corners=True)[0].flatten(1)
        spread = spread.clamp(min=float(self.spread.min()))
        mask = self.mask
        if mask is not None:
            sea = mask.to(fields).view(1, 1, *self.shape)
            mask = (interpolate(sea, shape, mode="bilinear", align_corners=True) >= 0.5).flatten()
        told = {"wider": self.wider, "unresolved": self.unresolved}
        return FieldClimatology(mean[None], spread, tuple(shape), self.modes, self.lags, mask=mask, **told)

    @cached_property
    def patterns(self) -> Float[Tensor, "n r"]:
        """E on the grid."""
        fine = interpolate(self.modes[None], self.shape, mode="bicubic", align_corners=True)[0]
        return fine.flatten(1).mT.contiguous()

    def packed(self) -> dict[str, Tensor]:
        """As a file keeps it.

        Raises:
            ValueError: on a finer grid than that of the past.
        """
        own = tuple(self.modes.shape[-2:])
        if self.shape != own:
            raise ValueError(
                f"A file keeps the grid of the past, {own}, and this prior was taken to {self.shape}: save the one it "
                "came from, and take that to the finer grid when it is read, pretrained(path, labels=...)."
            )
        kept = {name: getattr(self, name) for name in ("mean", "spread", "modes", "lags")}
        kept |= {"told": torch.tensor([self.wider, self.unresolved], dtype=torch.float64)}
        return kept | ({} if self.mask is None else {"mask": self.mask})

    def in_bytes(self) -> dict[str, Tensor]:
        """The same in an eighth of the size, beside a network: modes in bytes, lags in half precision; others single.

        What that loses is far below what the modes leave over. A 500th of each mode's variance is taken to have no
        memory, so that rounding never leaves a negative variance. Where errors are told as a hundredth of the spread,
        it changes answers.

        Raises:
            ValueError: on a finer grid than that of the past.
        """
        amplitude = self.modes.abs().amax((1, 2)) / 127
        lags = self.lags.clone()
        if not torch.equal(lags, lags.half().to(lags)):  # which those of a file are already
            lags[0] += 2e-3 * torch.eye(len(amplitude)).to(lags)
        return self.packed() | {
            "mean": self.mean.float(),
            "spread": self.spread.float(),
            "modes": (self.modes / amplitude[:, None, None]).round().to(torch.int8),
            "amplitude": amplitude.float(),
            "lags": lags.half(),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor]) -> FieldClimatology:
        """Of what `packed` or `in_bytes` gave.

        Raises:
            ValueError: tensors that do not fit each other.
        """
        mean, spread, modes, lags = (tensors[k] for k in ("mean", "spread", "modes", "lags"))
        r, *shape = modes.shape
        n = math.prod(shape)
        wanted = {"mean": (1, n), "spread": (n,), "lags": (len(lags), r, r)}
        wanted |= {name: size for name, size in (("amplitude", (r,)), ("mask", (n,))) if name in tensors}
        for name, own in wanted.items():
            if tuple(tensors[name].shape) != own or len(shape) != 2:
                raise ValueError(f"{name} has the shape {tuple(tensors[name].shape)} where {own} is needed")
        if "amplitude" in tensors:
            modes, lags = modes.float() * tensors["amplitude"].float()[:, None, None], lags.float()
        return cls(mean, spread, tuple(shape), modes, lags, **_kept(tensors))

    @cached_property
    def rest(self) -> Float[Tensor, " n"]:
        """The variance that the modes leave over."""
        E = self.patterns
        return (self.spread.square() - ((E @ self.lags[0]) * E).sum(1)).clamp(min=0)

    @cached_property
    def side_by_side(self) -> Float[Tensor, "r M"]:
        """C_d of all lags, from the earliest to the latest, as `over_window` needs them; in double precision."""
        return _side_by_side(self.lags.double())

    @cached_property
    def left_over(self) -> Float[Tensor, " n"]:
        """The variance of past fields that their modes did not hold.

        Where they are many, `rest` is less: what was added to the modes' own variances, for covariances that no window
        contradicts, is taken from it, and little is left where the field is strong.
        """
        return (self.spread.square() - self.patterns.square().sum(1)).clamp(min=0)

    def root(self, scale: Float[Tensor, " T"]) -> Modes:
        """What makes independent steps of the field's covariance, a step's in units of its `scale`.

        What the modes leave over is never taken to be less than a hundredth of the spread.
        """
        rest = self.rest.sqrt().maximum(self.spread / 100)
        return Modes(self.patterns @ torch.linalg.cholesky(self.lags[0]), rest, scale)

    def given(self, statement: Gaussian) -> Gaussian:
        """Mean and spread of each value once it is known what a statement says, window by window.

        Windows that have seen the same places as the one before, with the same errors, share the work for them, and so
        does the next call.

        Args:
            statement: about values at points of the grid or between them, linearised at the climatological mean,
                `(..., T, n)`.

        Raises:
            ValueError: windows longer than the longest lag, or other statements.
        """
        lead, steps = statement.centre.shape[:-2], statement.centre.shape[-2]
        checks.within_reach(
            steps, len(self.lags), "the climatology knows covariances over", f"; or fit it with steps={steps}"
        )
        found, gain = [], self.__dict__.get("_gain")
        for window in np.ndindex(lead):
            index, weight, residual = seen_of(statement, window)
            if gain is None or not gain.serves(steps, index, weight):
                gain = _gain(self, steps, index, weight)
            found.append((gain.mean(residual), gain.std))
        self.__dict__["_gain"] = gain if gain is not None and gain.size < _KEPT else None
        mean, std = (torch.stack(x).unflatten(0, lead) if lead else x[0] for x in zip(*found, strict=True))
        return Gaussian.of(mean.to(statement.centre), Diagonal(1 / std.to(statement.centre)))


def _kept(tensors: Mapping[str, Tensor]) -> dict:
    """What files hold beside a covariance; older ones say nothing of it."""
    wider, unresolved = tensors["told"].tolist() if "told" in tensors else (1.0, 0.0)
    return {"mask": tensors.get("mask"), "wider": wider, "unresolved": unresolved}


def departures(
    records: Tensor, sea: Bool[Tensor, "y x"] | None = None
) -> tuple[Float[Tensor, "one n"], Float[Tensor, "N T y x"], Float[Tensor, " n"], Bool[Tensor, " n"] | None]:
    """Mean, departures from it, spread, and the mask of the sea, of records of a field, `(N, T, y, x)`.

    On land the mean is that of the nearest point at sea, so that what lies between both is read as what lies at sea.

    Args:
        records: without gaps at sea.
        sea: where there is a field; None is wherever there is a value at any time.

    Raises:
        ValueError: no such tensor of real numbers, in half precision, gaps, fill values, or a field that does not vary;
            no sea.
    """
    if not isinstance(records, Tensor) or records.ndim != 4 or not records.is_floating_point():
        if isinstance(records, Tensor):
            advice = f"It has the shape {tuple(records.shape)}: one record of a field (time, y, x) is records[None]."
        else:
            advice = (
                "nk.OptimalInterpolation.fit_field(past).climatology takes a labelled array, and likewise fit_ensemble "
                "and fit_scales; of its numbers (records, time, y, x) it is torch.from_numpy(past.values)."
            )
        raise checks.refused("records", records, "a tensor (records, time, y, x) of floating point", advice)
    checks.unhalved("records", records.dtype)
    mask = sea_of(records) if sea is None else mask_of(sea, records.shape[-2:])
    at_sea = records.flatten(-2) if mask is None else records[..., mask]
    checks.no_constant("records", at_sea.numpy(force=True))
    if mask is not None:
        records = torch.where(mask, records, 0.0)
    mean = records.mean((0, 1))
    away = records - mean
    if not away.isfinite().all():
        gaps = int((~away.isfinite()).flatten(0, 1).any(0).sum())
        raise ValueError(
            f"Records of a field must be finite and without gaps; {gaps} of {away[0, 0].numel()} points have a gap. "
            "Land is NaN at all times. Fill gaps at sea, records.interpolate_na('time'), or make such points land, "
            "records.where(records.notnull().all('time'))."
        )
    if not away.any():
        raise ValueError("Records of a field must vary: these hold the same at all times.")
    spread = away.square().mean((0, 1)).sqrt().flatten()
    if mask is not None:
        mask = mask.flatten()
        mean = mean.flatten()[nearest_at_sea(mask, away.shape[-2:])]
    return mean.reshape(1, -1), away, spread.clamp(min=STILL * spread.max()), mask


def sea_of(records: Float[Tensor, "*times y x"]) -> Bool[Tensor, "y x"] | None:
    """Where there is a value at any time; None if that is everywhere, or nowhere."""
    sea = (~records.isnan()).flatten(0, -3).any(0)
    return None if sea.all() or not sea.any() else sea


def mask_of(sea, shape: Sequence[int]) -> Bool[Tensor, "y x"]:
    """A mask of the sea, as it was given.

    Raises:
        ValueError: another shape, numbers, or no sea at all.
    """
    found = torch.as_tensor(np.ascontiguousarray(sea))
    if found.dtype != torch.bool or tuple(found.shape) != tuple(shape):
        raise ValueError(
            f"sea= is a mask of {tuple(shape)} points, True where there is a field; not {found.dtype} of "
            f"{tuple(found.shape)}: temperature.notnull().values, say."
        )
    if not found.any():
        raise ValueError("sea= is False everywhere: there is no field to reconstruct. Is it the mask of land, ~sea?")
    return found


def _gain(
    climatology: FieldClimatology, steps: int, index: Int[Tensor, "p k"], weight: Float[Tensor, "p k"]
) -> _Gain | _GainOfModes:
    """By what is smaller, the values or the modes' coefficients; arguments as of `_Gain`."""
    if index.shape[1] == 1 and len(index) > steps * len(climatology.modes):
        return _GainOfModes(climatology, steps, index, weight)
    if len(index) > _MOST_BETWEEN:
        raise ValueError(
            f"A window has {len(index)} values between points of the grid, or whose errors drift along tracks, and up "
            f"to {_MOST_BETWEEN} are taken: nk.grid without exact=True puts them at the nearest points and combines "
            "those that share one; or thin them, obs.isel(obs=slice(None, None, 4))."
        )
    return _Gain(climatology, steps, index, weight)


class _OfPlaces:
    """What is known of a window once it is said where it is seen, and with what errors."""

    steps: int
    index: Int[Tensor, "p k"]
    weight: Float[Tensor, "p k"]

    def serves(self, steps: int, index: Tensor, weight: Tensor) -> bool:
        """Whether these are the same places and errors."""
        return steps == self.steps and torch.equal(index, self.index) and torch.equal(weight, self.weight)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(each.numel() for each in vars(self).values() if isinstance(each, Tensor))


class _Gain(_OfPlaces):
    """Optimal interpolation of windows whose rows see the same places, with the same errors.

    Errors are often far smaller than the field's spread: so all but the last products are in double precision.

    Args:
        climatology: of the field.
        steps: of a window.
        index: the values of the flattened window that a row sums, `(p, k)`.
        weight: of each, over the standard deviation of the row's error, `(p, k)`.
    """

    def __init__(
        self, climatology: FieldClimatology, steps: int, index: Int[Tensor, "p k"], weight: Float[Tensor, "p k"]
    ):
        self.steps, self.index, self.weight = steps, index, weight
        self.average, self.patterns = climatology.mean, climatology.patterns
        E, rest, lags = climatology.patterns, climatology.rest.double(), climatology.lags[:steps].double()
        weight, at, when = weight.double(), index % len(E), index // len(E)
        rows = torch.arange(len(index), device=index.device)
        G = weight.new_zeros(len(index), steps, E.shape[1])
        for k in range(index.shape[1]):
            G.index_put_((rows, when[:, k]), E[at[:, k]] * weight[:, k, None], accumulate=True)
        GC, covariances = torch.zeros_like(G).flatten(1), _rows_of(climatology.side_by_side, steps)
        at_step = [((when == t) & (weight != 0)).any(-1).nonzero().squeeze(1) for t in range(steps)]
        for t, seen in enumerate(at_step):
            GC.index_add_(0, seen, G[seen, t] @ covariances[t])
        # What the modes leave over is known only where it was seen.
        self.places, own = index.unique(return_inverse=True)
        self.left_over = weight.new_zeros(len(index), len(self.places))
        for k in range(index.shape[1]):
            self.left_over.index_put_((rows, own[:, k]), weight[:, k] * rest[at[:, k]], accumulate=True)
        A = sum(self.left_over[:, own[:, k]] * weight[:, k] for k in range(index.shape[1]))
        for t, seen in enumerate(at_step):  # a row sees few steps: the others' products are zero
            first = int(seen.min()) if len(seen) else 0  # what lies below is that above
            A[:, first:].index_add_(0, seen, G[seen, t] @ GC.unflatten(1, G.shape[1:])[first:, t].mT)
        A.diagonal().add_(1)
        self.root, failed = torch.linalg.cholesky_ex(A.mT)
        if failed:
            raise ValueError(TOO_EXACT)
        # Transposed, as the numbers lie in memory: then none are copied.
        self.half = torch.linalg.solve_triangular(self.root.mT, GC.mT, upper=True, left=False).mT
        known = self.half.unflatten(1, G.shape[1:]).movedim(0, 1)
        now = (lags[0] + lags[0].mT) / 2  # symmetric to the last digit
        variance = _variances(E, lambda i, j: now[i, j] - known[..., i].mT @ known[..., j])
        variance = (variance + rest).flatten()
        variance[self.places] = self._variance_between(known, now, rest)
        least = STILL * float(climatology.spread.max())
        self.std = variance.clamp(min=0).sqrt().clamp(min=least).view(steps, -1)

    def _variance_between(
        self, known: Float[Tensor, "T p r"], now: Float[Tensor, "r r"], rest: Float[Tensor, " n"]
    ) -> Float[Tensor, " m"]:
        """Of the points around what was seen, what the modes leave over included."""
        E, j = self.patterns, self.places % len(self.patterns)
        said = torch.linalg.solve_triangular(self.root, self.left_over, upper=False)
        each_step = (self.places // len(E)).bincount(minlength=self.steps).tolist()  # for places are in order
        for half, part, here in zip(known, said.split(each_step, 1), j.split(each_step), strict=True):
            part += half @ E[here].double().mT
        here = E[j].double()
        return (here @ now * here).sum(-1) + rest[j] - said.square().sum(0)

    def mean(self, residual: Float[Tensor, " p"]) -> Float[Tensor, "T n"]:
        """The mean that a residual leads to."""
        whitened = torch.linalg.solve_triangular(self.root, residual.to(self.half).unsqueeze(-1), upper=False)
        z = (self.half.mT @ whitened).view(self.steps, -1)
        move = z @ self.patterns.double().mT
        weights = torch.linalg.solve_triangular(self.root.mT, whitened, upper=True)
        move.view(-1).index_add_(0, self.places, (self.left_over.mT @ weights).squeeze(-1))
        return self.average - move


class _GainOfModes(_OfPlaces):
    r"""The same of more values than there are coefficients of modes, each at a point of its own: solved for these.

        z = C^(1/2) M^-1 C^(1/2)' sum_i E_i' s_i d_i,    M = I + C^(1/2)' (sum_i E_i' s_i E_i) C^(1/2)

    d_i is what was seen less the mean, and 1 / s_i its variance once z is known: that of its error and what the modes
    leave over. No matrix has a row for each value.
    """

    def __init__(
        self, climatology: FieldClimatology, steps: int, index: Int[Tensor, "p one"], weight: Float[Tensor, "p one"]
    ):
        self.steps, self.index, self.weight = steps, index, weight
        self.average, self.patterns = climatology.mean, climatology.patterns
        E, rest = climatology.patterns, climatology.rest.double()
        lags = climatology.lags[:steps].double()
        self.places, w = index.squeeze(1), weight.squeeze(1).double()
        at, when = self.places % len(E), self.places // len(E)
        left_over = rest[at]
        self.scale = w / (1 + w.square() * left_over)
        self.share = w * self.scale * left_over  # of what the modes leave over there, how much is known
        root = torch.linalg.cholesky(over_window(lags))
        M = torch.eye(len(root)).to(root)
        for t, part in enumerate(root.view(steps, -1, len(root))):
            here, upto = E[at[when == t]].double(), (t + 1) * E.shape[1]
            part = part[:, :upto]  # the rest is zero
            M[:upto, :upto] += part.mT @ (here.mT @ (here * (w * self.scale)[when == t, None])) @ part
        self.half = torch.linalg.solve_triangular(torch.linalg.cholesky(M), root.mT, upper=False)
        known = self.half.view(len(root), steps, -1).movedim(1, 0)
        variance = _variances(E, lambda i, j: known[..., i].mT @ known[..., j]).flatten()
        unseen = rest.repeat(steps)
        unseen[self.places] = left_over * (1 - self.share)
        variance[self.places] *= (1 - self.share).square()
        least = 1e-3 * float(climatology.spread.max())
        self.std = (variance + unseen).clamp(min=0).sqrt().clamp(min=least).view(steps, -1)

    def mean(self, residual: Float[Tensor, " p"]) -> Float[Tensor, "T n"]:
        """The mean that a residual leads to."""
        E, r = self.patterns.double(), residual.double()
        seen = torch.zeros(self.steps * len(E)).to(r)
        seen[self.places] = -self.scale * r
        z = self.half.mT @ (self.half @ (seen.view(self.steps, -1) @ E).flatten())
        move = (z.view(self.steps, -1) @ E.mT).flatten()
        own = -r / self.weight.squeeze(1).double() - move[self.places]
        move[self.places] += self.share * own
        return self.average + move.view(self.steps, -1)


def _variances(E: Float[Tensor, "n r"], part: Callable[[slice, slice], Float[Tensor, "T a b"]]) -> Float[Tensor, "T n"]:
    """The diagonal of E S_t E' at each step, in double precision of products in that of E.

    S_t is symmetric, and so nearly half of the products need not be made. Those that are made for some points after
    another stay in the processor's cache.

    Args:
        E: modes.
        part: rows and columns of all S_t.
    """
    r, blocks = E.shape[1], []
    for a in range(0, r, _MODES):
        S = part(slice(a, r), slice(a, a + _MODES))
        S[:, _MODES:] *= 2  # what lies below counts for what lies beside, too
        blocks.append((slice(a, r), slice(a, a + _MODES), S.to(E).movedim(0, 1).flatten(1), len(S)))
    found = []
    for some in E.split(_POINTS):
        products = [((some[:, i] @ S).unflatten(1, (steps, -1)) @ some[:, j, None]) for i, j, S, steps in blocks]
        found.append(sum(product.squeeze(2).double() for product in products))
    return torch.cat(found).mT


def seen_of(statement: Gaussian, window: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Of one window: which values each row sums, their weights, and its residual."""
    (part,), (residual,) = statement.rows.parts, statement.residual
    part, lead = pointwise(part), statement.centre.shape[:-2]
    weight = part.weight.expand(*lead, *part.weight.shape[-2:])[window]
    if isinstance(part, Diagonal):
        weight = weight.flatten().unsqueeze(-1)
        index = torch.arange(len(weight), device=weight.device).unsqueeze(-1)
    else:
        index = part.index.expand(*lead, *part.index.shape[-2:])[window]
    some = (weight != 0).any(-1)
    residual = residual.expand(*lead, *residual.shape[-2:])[window].flatten()
    return index[some], weight[some], residual[some]


def pointwise(rows: Rows) -> Diagonal | Sparse:
    """Rows that see values at points of the grid or between them.

    Raises:
        ValueError: they are of another kind.
    """
    if not isinstance(rows, Diagonal | Sparse):
        raise ValueError(
            "The climatology of a field takes values at points of its grid or between them, with errors that are "
            "independent or drift along tracks; not an operator or another covariance. Take nk.EnKS or nk.LETKF."
        )
    return rows


def positive(lags: Float[Tensor, "L r r"], least: float = 4e-3, most: int = 20) -> Float[Tensor, "L r r"]:
    """The nearest covariances at each lag that give no sum over a window a variance near zero or below.

    Args:
        lags: of variables of unit variance.
        least: such variances are raised to it.
        most: projections; what is still missing in the end is added to all.
    """
    steps, r, _ = lags.shape
    for _ in range(most):
        values, vectors = torch.linalg.eigh(over_window(lags))
        low = values < least
        if values[0] > least / 4:
            return lags
        raised = over_window(lags) + vectors[:, low] * (least - values[low]) @ vectors[:, low].mT
        blocks = raised.view(steps, r, steps, r)
        lags = torch.stack([sum(blocks[t, :, t + d] for t in range(steps - d)) / (steps - d) for d in range(steps)])
    lags[0] += (least / 4 - torch.linalg.eigvalsh(over_window(lags))[0]).clamp(min=0) * torch.eye(r).to(lags)
    return lags


def over_window(lags: Float[Tensor, "L r r"]) -> Float[Tensor, "N N"]:
    """The covariance over a window, N = L r, of covariances at each lag."""
    return torch.cat(_rows_of(_side_by_side(lags), len(lags)))


def _side_by_side(lags: Float[Tensor, "L r r"]) -> Float[Tensor, "r M"]:
    """C_d from the earliest lag, 1 - L, to the latest, L - 1."""
    return torch.cat([lags[1:].flip(0).mT, lags]).movedim(0, 1).flatten(1)


def _rows_of(lags: Float[Tensor, "r M"], steps: int) -> list[Float[Tensor, "r N"]]:
    """Of each step of a window, how it varies together with all of them: a part of what lies side by side."""
    r, size = len(lags), lags.shape[1]
    now = (size - r) // 2  # where lag 0 is
    return [lags[:, now - t * r :][:, : steps * r] for t in range(steps)]


def _apart(h: int, w: int) -> Float[Tensor, "N N"]:
    """Distances between the points of a grid."""
    at = torch.cartesian_prod(torch.arange(h), torch.arange(w)).double()
    return torch.cdist(at, at)
