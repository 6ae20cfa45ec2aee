"""The loop: ask a prior for a Gaussian around the current estimate, condition it on the observations, move there.

    for s in schedule:                        # temperatures, 1 = coarse ... 0 = sharp
        x_s     = s x_0 + (1 - s) x_hat       # what the prior sees: between the first guess and the estimate
        N(mu, P^-1) = prior(x_s, s)
        A       = P + H' R^-1 H
        x_hat   = mu + A^-1 H' R^-1 (y - H mu)

Optimal interpolation, the Kalman smoother, weak-constraint 4D-Var and neural incremental assimilation are this loop
with different priors (Blanke, Fablet and Lelarge 2024, arXiv:2406.15076). A nonlinear h is linearised anew at each
step, at the prior's centre; a prior that knows nothing of h takes several such steps, `descended`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.gaussian import Gaussian
from nida_kit.loop import incremental, linearised
from nida_kit.observing.observations import Observations, Observing
from nida_kit.priors.physics import Physics
from nida_kit.priors.prior import Prior
from nida_kit.reconstruction import Reconstruction


class LevenbergMarquardt:
    """A damped prior: one more Gaussian factor around the best estimate so far, with precision lambda D.

    Wrapping a prior of the loop makes a descent of it. Each time it is asked, it first judges the estimate that the
    last step led to: kept if the cost fell (lambda shrinks), else the loop goes back to the best one (lambda grows). D
    is the diagonal of the prior's precision (Marquardt 1963, doi:10.1137/0111030). Every window has its own lambda.

    Args:
        prior: with the precision of the linearised model.
        cost: of trajectories `(..., T, n)`, `(...)`.
        damping: the first lambda.
        tolerance: a change of the cost by less than this share of it ends the descent of a window.

    Attributes:
        best: the estimate of lowest cost, `(..., T, n)`.
        cost: its cost, `(...)`.
        local: the undamped prior around the estimate that was best when last asked.
        converged: whether the last step changed the cost by less than the tolerance, `(...)`.
        iterations: steps judged until then, `(...)`.
    """

    def __init__(self, prior: Prior, cost: Callable[[Tensor], Tensor], damping: float = 1e-2, tolerance: float = 1e-6):
        self.prior, self.objective, self.first_lambda, self.tolerance = prior, cost, damping, tolerance
        self.best: Tensor | None = None

    def _begin(self, x: Tensor, cost: Tensor) -> None:
        if not cost.isfinite().all():
            raise ValueError(
                "The first guess has no finite cost: the model or the operator fails there. Give another first_guess."
            )
        self.best, self.cost = x, cost
        self.lam = torch.full_like(cost, self.first_lambda)
        self.converged = torch.zeros_like(cost, dtype=torch.bool)
        self.iterations = torch.zeros_like(cost, dtype=torch.int64)

    @property
    def finished(self) -> Tensor:
        """Which windows are converged, or stuck where not even tiny steps gain, `(...)`."""
        return self.converged | (self.lam > 1e8)

    def judge(self, x: Float[Tensor, "*batch T n"]) -> None:
        """Keep x where its cost is lower than the best one's."""
        cost = self.objective(x)
        if self.best is None:
            self._begin(x, cost)
            return
        active = ~self.finished
        gain = self.cost - cost  # NaN where the step led out of the domain: no gain
        better = active & (gain > 0)
        self.iterations = self.iterations + active
        self.converged = self.converged | (active & (gain.abs() <= self.tolerance * (1 + self.cost)))
        self.best = torch.where(better[..., None, None], x, self.best)
        self.cost = torch.where(better, cost, self.cost)
        tried = torch.where(better, self.lam / 10, (self.lam * 5).clamp(min=1e-2))
        self.lam = torch.where(active, tried, self.lam)

    def __call__(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        self.judge(current.mean)
        self.local = self.prior(current.at(self.best), s)
        diagonal = self.local.precision.blocks[..., 0, :, :].diagonal(dim1=-2, dim2=-1)
        scale = self.lam[..., None, None] * diagonal
        identity = torch.eye(scale.shape[-1]).to(scale).expand(*scale.shape, -1)
        return self.local.condition(identity, 1 / scale, self.best)

    def descend(self, x: Float[Tensor, "*batch T n"], observations: Observing, steps: int) -> Iterator[Gaussian]:
        """Run the loop from x for at most `steps`; afterwards `best` is the answer.

        Yields:
            The undamped prior around each estimate on the way, x first.
        """
        for proposal in incremental(self, [0.0] * steps, observations, Gaussian.flat(x)):
            yield self.local
            reached = proposal.mean
            if self.finished.all():
                break
        self.judge(reached)


def laplace(local: Gaussian, observations: Observing) -> Gaussian:
    """The posterior's spread around the prior's centre itself, not around the next Gauss-Newton point."""
    return linearised(local, observations).at(local.centre)


@dataclass(frozen=True)
class Fixed:
    """A prior that stands still, whatever the estimate; it can be descended from like `Physics`.

    Attributes:
        prior: the Gaussian.
    """

    prior: Gaussian

    def __call__(self, current: Gaussian, s: float | Tensor = 0.0) -> Gaussian:
        return self.around(current.mean)

    def around(self, x: Float[Tensor, "*batch T n"]) -> Gaussian:
        """The same Gaussian, centred at x."""
        return Gaussian(x, self.prior.precision, self.prior.precision.matvec(self.prior.mean - x))

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """-log density up to a constant."""
        away = x - self.prior.mean
        return (away * self.prior.precision.matvec(away)).sum((-2, -1)) / 2


def descend(
    prior: Physics | Fixed, observations: Observing, x: Tensor, steps: int, damping: float, tolerance: float
) -> Reconstruction:
    """Damped Gauss-Newton steps from x, whose leading axes may be more than those of the windows.

    Returns:
        Laplace posteriors around each estimate on the way, the best one last; `cost`, `iterations` and `converged`.
    """
    descent = LevenbergMarquardt(prior, lambda x: prior.misfit(x) + observations.misfit(x), damping, tolerance)
    path = [laplace(local, observations) for local in descent.descend(x, observations, steps)]
    path = [*path[1:], laplace(prior.around(descent.best), observations)]
    diagnostics = {"cost": descent.cost, "iterations": descent.iterations, "converged": descent.converged}
    return Reconstruction(path, [0.0] * len(path), x, diagnostics)


def descended(local: Gaussian, observations: Observations, steps: int = 20) -> Gaussian:
    """The update for a nonlinear h: the most probable trajectory under the local prior, by a damped descent.

    It is the same loop once more, with a prior that stands still. Its first step is undamped, so a linear h takes one.
    """
    return descend(Fixed(local), observations, local.mean, steps, damping=0.0, tolerance=1e-6).posteriors[-1]


def conditioned(local: Gaussian, observations: Observations) -> Gaussian:
    """The update for a prior that knows nothing of h, whatever h is."""
    return (linearised if observations.linear else descended)(local, observations)
