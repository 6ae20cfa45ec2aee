"""Observation operators and processes: y = h(x) + eta, eta ~ N(0, noise_std^2), at each time step.

h is `None` or a mask (the state's own components), a matrix `(p, n)`, or any torch callable from `(..., n)` to
`(..., p)`. Where nothing is observed there is NaN and nothing else: no method can see the truth through its input. The
noise is drawn as unit noise over the whole grid before anything is masked, so for one seed it only scales with
noise_std, and no value changes when another is observed as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.jacobian import linearise
from nida_kit.observing.operators import Operator, apply_matrix, apply_operator, identity


@runtime_checkable
class Observing(Protocol):
    """What the loop asks of observations, whatever they are of."""

    def linearise(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...

    def misfit(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Observations:
    """Observations of a batch of windows, as the methods see them.

    Attributes:
        value: y, `(..., T, p)`, NaN where not observed.
        noise_std: `(..., T, p)`, positive.
        operator: h.
    """

    value: Float[Tensor, "*batch T p"]
    noise_std: Float[Tensor, "*#batch T p"]
    operator: Operator = identity

    @property
    def direct(self) -> bool:
        """Whether they are values of the state's own components."""
        return self.operator is identity

    @property
    def linear(self) -> bool:
        """Whether h is known to be linear: none, a mask, or a matrix."""
        return self.direct or getattr(self.operator, "func", None) is apply_matrix

    def to(self, device: torch.device) -> Observations:
        """The same observations on another device."""
        return Observations(self.value.to(device), self.noise_std.to(device), self.operator)

    def at(self, t: int) -> Observations:
        """Those of one time step, T = 1."""
        return Observations(self.value[..., t : t + 1, :], self.noise_std[..., t : t + 1, :], self.operator)

    def predicted(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch p"]:
        """h(x).

        Raises:
            ValueError: an operator that cannot take such states, or makes another number of values than were observed.
        """
        value = apply_operator(self.operator, x)
        if value.shape[-1] != self.value.shape[-1]:
            raise ValueError(
                f"The operator gives {value.shape[-1]} values per time step, the observations have "
                f"{self.value.shape[-1]}: pass the operator they were made with."
            )
        return value

    def linearise(self, x: Float[Tensor, "*batch T n"]) -> tuple[Tensor, Tensor, Tensor]:
        """(H, R, y) for `Gaussian.condition`: h(x') = h(x) + H (x' - x), with y moved accordingly.

        Raises:
            ValueError: an operator that does not fit, or has no finite value or slope where something was observed.
        """
        if self.operator is identity:
            return torch.eye(x.shape[-1]).to(x).expand(*x.shape, -1), self.noise_std**2, self.value
        predicted, H = linearise(self.predicted, x)
        seen = ~self.value.isnan()
        bad = seen & ~(predicted.isfinite() & H.isfinite().all(-1))
        if bad.any():
            raise ValueError(
                f"At the current estimate, the operator gives NaN or infinite values or slopes for {int(bad.sum())} of "
                f"{int(seen.sum())} observed values. Estimates may leave the range of true states: use an operator "
                "that is smooth everywhere (x.clamp(min=...) before a log), or start from another first_guess."
            )
        H = H.where(seen.unsqueeze(-1), 0.0)  # NaN times no weight would be NaN
        return H, self.noise_std**2, self.value - predicted + (H @ x.unsqueeze(-1)).squeeze(-1)

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """1/2 (y - h(x))' R^-1 (y - h(x)) over what was observed; NaN where h(x) is."""
        error = (self.value - self.predicted(x)) / self.noise_std
        return error.where(~self.value.isnan(), 0.0).square().sum((-2, -1)) / 2
