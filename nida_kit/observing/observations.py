r"""Observations of a batch of windows, as statements about their trajectories: R^-1/2 (h(x) - y) ~ N(0, I).

Here a measurement becomes part of a Gaussian: `around(x)` gives a row for each value that was measured, none for those
that were not. Measured components cost one weight each, h at each time its slopes, and what sees the whole window (a
declared operator, or errors that are correlated in time) a row over all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nida_kit import checks
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.jacobian import AT_ONCE, linearise, pulled_at_once
from nida_kit.linalg.rows import Diagonal, Sparse, Whole
from nida_kit.observing.errors import Errors, Independent, root_of, solve_lower
from nida_kit.observing.operators import (
    OfFields,
    Operator,
    OverWindow,
    after,
    apply_operator,
    check_operator_slopes,
    identity,
    is_linear,
)
from nida_kit.observing.points import Between


@dataclass(frozen=True)
class Observations:
    """Observations of a batch of windows.

    Attributes:
        value: y, `(..., T, p)`, NaN where not observed.
        errors: their law; a tensor `(..., T, p)` is the standard deviations of independent ones.
        operator: h, from `as_operator`.
        times: of the steps, `(T,)`; None is not known.
    """

    value: Float[Tensor, "*batch T p"]
    errors: Errors
    operator: Operator = identity
    times: Float[Tensor, " T"] | None = None

    def __post_init__(self):
        if isinstance(self.errors, Tensor):
            object.__setattr__(self, "errors", Independent(self.errors))

    @property
    def seen(self) -> Bool[Tensor, "*batch T p"]:
        """Where there is a value."""
        return ~self.value.isnan()

    @property
    def noise_std(self) -> Float[Tensor, "*#batch T p"]:
        """Marginal standard deviations of the errors."""
        return self.errors.std

    @property
    def direct(self) -> bool:
        """Whether they are values of the state's own components."""
        return self.operator is identity

    @property
    def linear(self) -> bool:
        """Whether h is known to be linear."""
        return is_linear(self.operator)

    def on_land(self, land: Bool[Tensor, " n"]) -> Bool[Tensor, "*batch T p"]:
        """Which values are of points on land alone; behind an operator other than interpolation none is known to be."""
        if self.direct:
            return self.seen & land
        if (between := self._between) is None:
            return torch.zeros_like(self.seen)
        counts = between.weight != 0
        at_sea = counts & ~land[between.index % len(land)]
        return self.seen & counts.any(-1) & ~at_sea.any(-1)

    # Which observations: of other variables, another device, time, or windows

    def after(self, change: Callable[[Tensor], Tensor]) -> Observations:
        """The same observations of states in other variables z, which are change(z)."""
        return replace(self, operator=after(self.operator, change))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Observations:
        """The same observations on another device, and their values and errors in another precision."""
        times = None if self.times is None else self.times.to(device)
        errors = self.errors.windows(lambda x, own: x.to(device, dtype))
        return Observations(self.value.to(device, dtype), errors, self.operator, times)

    def at(self, t: int | slice | Int[Tensor, " C"]) -> Observations:
        """Those of one time step, T = 1, or of some.

        Raises:
            ValueError: what is observed, or its errors, cannot be taken one time after the other.
        """
        if isinstance(self.operator, OverWindow):
            raise ValueError(
                "The operator sees the whole window (nk.over_window), and this method takes one time after the other: "
                "use one of whole windows, nk.OptimalInterpolation, nk.KalmanSmoother, nk.WeakFourDVar, "
                "nk.StrongFourDVar or nk.IEnKS (lag=None), nk.ImportanceSampler or nk.NeuralIncremental."
            )
        t = slice(t, t + 1) if isinstance(t, int) else t
        times = None if self.times is None else self.times[t]
        return Observations(self.value[..., t, :], self.errors.at(t), self.operator, times)

    def flattened(self) -> Observations:
        """The same, with one leading axis of windows, `(W, T, p)`."""
        lead = self.value.shape[:-2]

        def flat(x: Tensor, own: int) -> Tensor:
            return x.expand(*lead, *x.shape[-own:]).reshape(-1, *x.shape[-own:])

        return replace(self, value=flat(self.value, 2), errors=self.errors.windows(flat))

    def select(self, index: Int[Tensor, " W"] | int) -> Observations:
        """Some of the windows of flattened ones."""
        return replace(self, value=self.value[index], errors=self.errors.windows(lambda x, own: x[index]))

    def widened(self, std: Float[Tensor, " n"]) -> Observations:
        """The same with errors that also hold this spread of the state, independent at each point.

        Errors that are correlated, and those behind an operator other than interpolation, stay as they are.
        """
        if not isinstance(self.errors, Independent) or not (self.direct or self._between is not None):
            return self
        more = self.predicted(std.to(self.value).expand(self.value.shape[-2], -1))
        return replace(self, errors=Independent((self.noise_std.square() + more.square()).sqrt()))

    # What they say

    def whiten(self, v: Float[Tensor, "*batch T p"]) -> Float[Tensor, "*batch T p"]:
        """R^-1/2 v of what was measured, and 0 elsewhere; v broadcasts against the values."""
        return self.errors.whiten(v, self.seen)

    def colour(self, noise: Float[Tensor, "*batch T p"]) -> Float[Tensor, "*batch T p"]:
        """Errors made of unit noise."""
        return self.errors.colour(noise)

    def log_normaliser(self) -> Float[Tensor, "*batch"]:
        """Log of sqrt(det 2 pi R), of what was measured: the log density of y given x is -misfit(x) less this."""
        return (self.errors.logdet(self.seen) + self.seen.to(self.value).sum((-2, -1)) * math.log(2 * math.pi)) / 2

    def predicted(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch p"]:
        """h(x).

        Raises:
            ValueError: an operator that cannot take such states, or makes another number of values than were observed.
        """
        value = apply_operator(self.operator, x, self.times)
        if value.shape[-1] != self.value.shape[-1]:
            raise ValueError(
                f"The operator gives {checks.counted(value.shape[-1], 'value')} per time step, the observations have "
                f"{self.value.shape[-1]}: pass the operator they were made with."
            )
        return value

    def around(self, x: Float[Tensor, "*batch T n"]) -> Gaussian:
        """The statement that they make, h linearised at x.

        Raises:
            ValueError: an operator that does not fit, or has no finite value or slope where something was observed.
        """
        seen = self.seen
        if self.direct and isinstance(self.errors, Independent):
            weight = torch.where(seen, 1 / self.errors.std, 0.0)
            return Gaussian.of(x, Diagonal(weight), weight * (x - self.value.nan_to_num(nan=0.0)))
        if (between := self._between) is not None and (steps_back := self.errors.steps_back(seen)) is not None:
            return self._at_points(x, between, *steps_back)
        check_operator_slopes(self.operator, x, self.times)
        if isinstance(self.operator, OverWindow) or self.errors.correlated_in_time:
            return self._over_window(x)
        predicted, slopes = self._linearised(x)
        residual = self.whiten(torch.where(seen, predicted - self.value, 0.0))
        return Gaussian.of(x, self.errors.rows(slopes, seen), residual)

    def _linearised(self, x: Tensor) -> tuple[Float[Tensor, "*batch T p"], Float[Tensor, "*batch T p n"]]:
        """h(x) at each time and its slopes, 0 where nothing was seen."""
        if self.direct:
            return x, torch.eye(x.shape[-1]).to(x).expand(*x.shape, -1)
        predicted, slopes = linearise(self.predicted, x)
        self._check_finite(predicted, slopes.isfinite().all(-1), self.seen)
        return predicted, slopes.where(self.seen.unsqueeze(-1), 0.0)  # NaN times no weight would be NaN

    @property
    def _between(self) -> Between | None:
        """The operator, if it interpolates."""
        inner = getattr(self.operator, "function", None)
        inner = inner.function if isinstance(inner, OfFields) else inner
        return inner if isinstance(inner, Between) else None

    def _at_points(
        self, x: Tensor, between: Between, own: Tensor, before: Tensor | None, back: Tensor | None
    ) -> Gaussian:
        """A row for each value that there could be, which sees the points of the grid around it and no others.

        Where nothing was measured its weights are 0: so rows, and draws by them, do not depend on what other windows
        have. Errors that drift along tracks add those around the value before it.

        Args:
            x: the trajectories.
            between: the operator.
            own: with before and back, the errors' `steps_back`.
            before: the place of the value before each.
            back: its weight.
        """
        residual = self.whiten(torch.where(self.seen, self.predicted(x) - self.value, 0.0)).flatten(-2)
        index, weight = between.index.flatten(0, 1).to(x.device), between.weight.flatten(0, 1).to(x)
        index_here, weight_here = index, own.flatten(-2).unsqueeze(-1) * weight
        if before is not None:
            index_here = torch.cat([index.expand(*before.shape, -1), index[before]], -1)
            weight_here = torch.cat([weight_here, -back.unsqueeze(-1) * weight[before]], -1)
        rows = Sparse(index_here, weight_here, tuple(x.shape[-2:]))
        return Gaussian.of(x, rows, residual.unsqueeze(-2))

    def _over_window(self, x: Tensor) -> Gaussian:
        """A row over the whole window for each value that any window has."""
        where = self.seen.reshape(-1, *self.value.shape[-2:]).any(0).nonzero().unbind(-1)
        predicted, slopes = self._slopes_over_window(x, *where)
        y = self.value[(..., *where)]
        seen = ~y.isnan()
        self._check_finite(predicted, slopes.isfinite().all(-1).all(-1), seen)
        root = root_of(self.errors.among(*where), seen)
        error = torch.where(seen, predicted - y, 0.0).unsqueeze(-1)
        rows = solve_lower(root, slopes.where(seen[..., None, None], 0.0).flatten(-2)).unflatten(-1, slopes.shape[-2:])
        return Gaussian.of(x, Whole(rows), solve_lower(root, error).mT)

    def _slopes_over_window(self, x: Tensor, steps: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Some values of h(x), `(..., M)`, and their slopes by the whole trajectory, `(..., M, T, n)`."""
        if not isinstance(self.operator, OverWindow):
            predicted, slopes = self._linearised(x)
            whole = slopes.new_zeros(*slopes.shape[:-3], len(steps), *x.shape[-2:])
            whole[..., torch.arange(len(steps)), steps, :] = slopes[..., steps, values, :]
            return predicted[..., steps, values], whole
        predicted = self.predicted(x)
        units = predicted.new_zeros(len(steps), *predicted.shape[-2:])
        units[torch.arange(len(steps)), steps, values] = 1
        units = units.view(-1, *[1] * (predicted.ndim - 2), *predicted.shape[-2:])
        some = units.split(max(1, AT_ONCE // x.numel()))
        slopes = torch.cat([pulled_at_once(self.predicted, x, each) for each in some]).movedim(0, -3)
        return predicted[..., steps, values], slopes

    @staticmethod
    def _check_finite(predicted: Tensor, slopes: Tensor, seen: Tensor) -> None:
        bad = seen & ~(predicted.isfinite() & slopes)
        if bad.any():
            raise ValueError(
                f"At the current estimate, the operator gives NaN or infinite values or slopes for {int(bad.sum())} of "
                f"{int(seen.sum())} observed values. Estimates may leave the range of true states: use an operator "
                "that is smooth everywhere (x.clamp(min=...) before a log), or start from another first_guess."
            )

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """1/2 (y - h(x))' R^-1 (y - h(x)) over what was observed; NaN where h(x) is."""
        return self.whiten(self.value - self.predicted(x)).square().sum((-2, -1)) / 2
