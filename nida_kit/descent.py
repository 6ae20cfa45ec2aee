r"""Descents: the loop once more, with one more statement that keeps each step short.

Levenberg-Marquardt's damping says that the next estimate is near the best one so far, (lambda D)^(1/2) (x - x_best) ~
N(0, I). Stacked under the prior and the observations it makes the loop a descent of the cost, half the squared
residuals of both. What is known in the end is Laplace's Gaussian: the best estimate, and the spread of all statements
linearised there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Diagonal
from nida_kit.linalg.solvers import coarse, failed
from nida_kit.loop import incremental, linearised
from nida_kit.observing.observations import Observations
from nida_kit.statement import Statement


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
        nearness: the damping, as a statement about the next estimate.
        converged: whether a step that was free to move changed the cost by less than the tolerance, `(...)`.
        iterations: steps judged until then, `(...)`.
    """

    def __init__(
        self, prior: Statement, cost: Callable[[Tensor], Tensor], damping: float = 1e-2, tolerance: float = 1e-6
    ):
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
        # A short step gains little far from any minimum too: there damping takes the larger share of what it could.
        held = better & (4 * self.nearness.misfit(x) > gain)
        self.converged = self.converged | (active & (gain.abs() <= self.tolerance * (1 + self.cost)) & ~held)
        self.best = torch.where(better[..., None, None], x, self.best)
        self.cost = torch.where(better, cost, self.cost)
        tried = torch.where(better, self.lam / 10, (self.lam * 5).clamp(min=1e-2))
        self.lam = torch.where(active, tried, self.lam)

    def __call__(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        self.judge(current.estimate)
        self.local = self.prior.around(self.best)
        scale = self.lam[..., None, None] * self.local.rows.squares()
        self.nearness = Gaussian.of(self.best, Diagonal(scale.sqrt()))
        return self.local.condition(self.nearness)

    def descend(self, x: Float[Tensor, "*batch T n"], observations: Statement, steps: int) -> Iterator[Gaussian]:
        """Run the loop from x for at most `steps`; afterwards `best` is the answer.

        Yields:
            The undamped prior around each estimate on the way, x first.
        """
        for proposal in incremental(self, [0.0] * steps, observations, Gaussian.flat(x)):
            yield self.local
            reached = proposal.estimate  # the cost judges it
            if self.finished.all():
                break
        self.judge(reached)


@dataclass(frozen=True)
class Laplace:
    """What is known at an estimate: it, and the spread of all statements linearised there, worked out when asked for.

    Attributes:
        prior: that can be linearised.
        observations: of the whole batch.
        mean: the estimate, `(..., T, n)`.
    """

    prior: Statement
    observations: Statement
    mean: Float[Tensor, "*batch T n"]

    @cached_property
    def _linearised(self) -> Gaussian:
        return linearised(self.prior.around(self.mean), self.observations)

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian itself."""
        return self._linearised.at(self.mean)

    @cached_property
    def distance(self) -> Float[Tensor, "*batch"]:
        """How far an undamped step would lead from the estimate: no value moves by more of its standard deviations."""
        local = self._linearised
        step = local.rows.push(local.estimate - self.mean)
        return sum(each.square().sum((-2, -1)) for each in step).sqrt()

    @property
    def std(self) -> Float[Tensor, "*batch T n"]:
        """Marginal standard deviations; a ValueError where the estimate has not as many digits."""
        std = self.gaussian.std
        if (bad := coarse(self.mean, std)).any():
            raise failed("the mean", bad)
        return std

    def covariance_at(self, t: int) -> Float[Tensor, "*batch n n"]:
        """Of the values of one time."""
        return self.gaussian.covariance_at(t)

    def sample(self, noise: Float[Tensor, "*draws T n"]) -> Float[Tensor, "*draws T n"]:
        """Draws from unit normal noise."""
        return self.gaussian.sample(noise)


def descend(
    prior: Statement, observations: Statement, x: Tensor, steps: int, damping: float, tolerance: float
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Damped Gauss-Newton steps from x, whose leading axes may be more than those of the windows.

    Returns:
        The estimate after each step, the best one last; its `cost`, and the `iterations` until it stood still.
    """
    descent = LevenbergMarquardt(prior, lambda x: prior.misfit(x) + observations.misfit(x), damping, tolerance)
    path = [local.centre for local in descent.descend(x, observations, steps)]
    diagnostics = {"cost": descent.cost, "iterations": descent.iterations}
    return [*path[1:], descent.best], diagnostics


def descended(local: Gaussian, observations: Observations, steps: int = 20) -> Gaussian:
    """The update for a nonlinear h: the most probable trajectory under the local prior, by a damped descent.

    It is the same loop once more, with a prior that stands still. Its first step is undamped, so a linear h takes one.
    """
    path, _ = descend(local, observations, local.mean, steps, damping=0.0, tolerance=1e-6)
    return Laplace(local, observations, path[-1]).gaussian


def conditioned(local: Gaussian, observations: Observations) -> Gaussian:
    """The update for a prior that knows nothing of h, whatever h is."""
    return (linearised if observations.linear else descended)(local, observations)
