r"""Physics as a prior: x_1 ~ N(start_mean, B) and x_{t+1} ~ N(M(x_t), Q), linearised at the estimate.

Its residuals are B^(-1/2) (x_1 - start_mean) and Q^(-1/2) (x_{t+1} - M(x_t)). With the slopes J_t of M, the rows of
step t + 1 see x_{t+1} by Q^(-1/2) and x_t by -Q^(-1/2) J_t: the Gauss-Newton view of weak-constraint 4D-Var.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from nida_kit import html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.banded import apply
from nida_kit.linalg.covariance import Covariance
from nida_kit.linalg.jacobian import linearise
from nida_kit.linalg.rows import Banded


@dataclass(frozen=True)
class Physics:
    """The dynamics, linearised at the estimate.

    >>> import nida_kit as nk, torch
    >>> one = torch.ones(1).double()
    >>> prior = nk.Physics(lambda x: 0.9 * x, noise=0.1 * one, start_mean=one, start=one)
    >>> prior.around(torch.zeros(3, 1).double()).mean.squeeze(-1)
    tensor([1.0000, 0.9000, 0.8100], dtype=torch.float64)

    Attributes:
        step: M, from `(..., n)` to `(..., n)`, torch, one time step; of the time too, M(x, t), if `times` are given.
        noise: Q of the model error per step; a tensor `(n,)` is standard deviations of independent errors.
        start_mean: `(n,)`.
        start: B; a tensor `(n,)` likewise.
        times: of the window's steps, `(T,)`.

    Raises:
        ValueError: standard deviations that are not positive.
    """

    step: Callable[..., Tensor]
    noise: Covariance | Float[Tensor, " n"]
    start_mean: Float[Tensor, " n"]
    start: Covariance | Float[Tensor, " n"]
    times: Float[Tensor, " T"] | None = None

    def __post_init__(self):
        for name in ("noise", "start"):
            given = getattr(self, name)
            covariance = Covariance.diagonal(given) if isinstance(given, Tensor) else given
            object.__setattr__(self, name, covariance)
            if not (covariance.std.isfinite() & (covariance.std > 0)).all():
                exact = (
                    "with an exact model the trajectory's precision is infinite. Give a small model noise, or use a "
                )
                exact += "strong-constraint method."
                why = (
                    exact if name == "noise" else "a start that is known exactly has no precision. Give it a small one."
                )
                raise ValueError(
                    f"{name} has the standard deviations {covariance.std.tolist()}, which must be positive: {why}"
                )

    def _repr_html_(self) -> str:
        about = {"noise_std": self.noise.std.tolist(), "start_mean": self.start_mean.tolist()}
        return html.card("Physics", about | {"start_std": self.start.std.tolist()})

    def _forecast(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T1 n"]:
        """M of every state but the last."""
        return self._moved(x[..., :-1, :])

    def _moved(self, x: Float[Tensor, "*batch T1 n"]) -> Float[Tensor, "*batch T1 n"]:
        return self.step(x) if self.times is None else self.step(x, self.times[: x.shape[-2]])

    def _residual(self, x: Tensor, forecast: Tensor) -> Float[Tensor, "*batch T n"]:
        """Of the start and of each step, whitened."""
        first = self.start.whiten(x[..., :1, :] - self.start_mean)
        return torch.cat([first, self.noise.whiten(x[..., 1:, :] - forecast)], -2)

    def __call__(self, current: Gaussian, s: float | Tensor = 0.0) -> Gaussian:
        return self.around(current.estimate)

    def around(self, x: Float[Tensor, "*batch T n"]) -> Gaussian:
        """The statements about start and steps, linearised at x."""
        forecast, J = linearise(self._moved, x[..., :-1, :])
        if not (forecast.isfinite().all() and J.isfinite().all()):
            raise ValueError(
                "At the current estimate, the model gives NaN or infinite values or slopes. Estimates may leave the "
                "range of true states: use a tendency with a value everywhere (x.clamp(min=...) before a log), keep "
                "positive states as their logarithm (nk.Transformed(system, torch.log, torch.exp)), start from another "
                "first_guess, or shorten longest_substep if it overflows."
            )
        n, later = x.shape[-1], x.shape[-2] - 1
        whiteners = torch.cat([self.start.inverse_root.unsqueeze(0), self.noise.inverse_root.expand(later, n, n)])
        before = pad(self.noise.whiten_rows(-J), (0, 0, 0, 0, 1, 0))
        factor = torch.stack([whiteners.expand_as(before), before], -3)
        return Gaussian.of(x, Banded(factor), self._residual(x, forecast))

    def looks_linear(self) -> bool:
        """Whether M has the same slopes at several states around the start."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(8, len(self.start_mean), generator=generator, dtype=self.start_mean.dtype)
        x = self.start_mean + self.start.colour(noise.to(self.start_mean))
        _, J = linearise(lambda x: self.advanced(x, 0), x)
        return bool(((J - J[:1]).abs() <= 1e-12 * J.abs().amax(0)).all())

    def is_linear_between(self, a: Float[Tensor, "*#batch T n"], b: Float[Tensor, "*#batch T n"]) -> bool:
        """Whether M is its own linearisation at one trajectory as far as the other."""
        forecast, J = linearise(self._moved, a[..., :-1, :])
        expected = forecast + apply(J, b[..., :-1, :] - a[..., :-1, :])
        scale = (b - a).abs().amax(-2, keepdim=True) + b.abs().amax(-2, keepdim=True)  # each component in its own unit
        return bool(((self._forecast(b) - expected).abs() <= 1e-10 * scale).all())

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """-log density up to a constant: half the squared whitened residuals."""
        return self._residual(x, self._forecast(x)).square().sum((-2, -1)) / 2

    def forecast(self, steps: int) -> Float[Tensor, "T n"]:
        """The noise-free trajectory from the start's mean: a first guess that needs no data."""
        states = [self.start_mean]
        for t in range(steps - 1):
            states.append(self.advanced(states[-1], t))
        return torch.stack(states)

    def advanced(self, x: Float[Tensor, "*batch n"], t: int | Int[Tensor, " C"]) -> Float[Tensor, "*batch n"]:
        """M of states at the t-th step, or of C states `(..., C, n)` each at its own."""
        return self.step(x) if self.times is None else self.step(x, self.times[t])
