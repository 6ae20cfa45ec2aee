"""What the loop asks for: statements about a trajectory, and priors that make them around an estimate."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from nida_kit.gaussian import Gaussian


@runtime_checkable
class Statement(Protocol):
    """A whitened statement about trajectories x, r(x) ~ N(0, I).

    Observations are one, and so are climatology, physics, the start, what a network says, a damping: whatever can be
    linearised at a point. A `Gaussian` is one that is linear already.
    """

    def around(self, x: Tensor) -> Gaussian:
        """The statement linearised at x `(..., T, n)`, which is its centre."""

    def misfit(self, x: Tensor) -> Tensor:
        """Half the squared residual at x, `(...)`: -log density up to a constant."""


@runtime_checkable
class Prior(Protocol):
    """What is known before observing, which may depend on the estimate and the temperature."""

    def __call__(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        """The local Gaussian around the current estimate at temperature s (a number, or one per window)."""
