r"""The loop: ask a prior for a Gaussian around the current estimate, condition it on the observations, move there.

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

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.banded import BlockBanded
from nida_kit.gaussian import Gaussian, linearise
from nida_kit.observe import Observations
from nida_kit.prior import Physics, Prior

Update = Callable[[Gaussian, Observations], Gaussian]
Move = Callable[[Gaussian], Gaussian]


def linearised(local: Gaussian, observations: Observations) -> Gaussian:
    """The local prior conditioned on the observations, h linearised at its centre: exact for a linear h."""
    return local.condition(*observations.linearise(local.centre))


def to_the_mean(posterior: Gaussian) -> Gaussian:
    """The usual move: the posterior's mean is the next estimate."""
    return posterior


def incremental(
    prior: Prior,
    schedule: Sequence[float | Tensor],
    observations: Observations,
    start: Gaussian,
    update: Update = linearised,
    move: Move = to_the_mean,
) -> Iterator[Gaussian]:
    """The posterior after each step.

    Args:
        prior: asked once per step.
        schedule: temperatures, each a number or one per window.
        observations: of the whole batch.
        start: the first guess and its spread.
        update: combines the local prior with the observations; `conditioned` if h may be nonlinear.
        move: where the next step starts from the posterior of this one; a draw from it instead of its mean makes the
            loop a sampler.

    Yields:
        One Gaussian per temperature; the last one is the answer.
    """
    current = start
    for s in schedule:
        blend = torch.as_tensor(s, dtype=start.mean.dtype, device=start.mean.device)[..., None, None]
        local = prior(current.at(blend * start.mean + (1 - blend) * current.mean), s)
        posterior = update(local, observations)
        yield posterior
        current = move(posterior)


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

    def descend(self, x: Float[Tensor, "*batch T n"], observations: Observations, steps: int) -> Iterator[Gaussian]:
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


def laplace(local: Gaussian, observations: Observations) -> Gaussian:
    """The posterior's spread around the prior's centre itself, not around the next Gauss-Newton point."""
    return linearised(local, observations).at(local.centre)


def descended(local: Gaussian, observations: Observations, steps: int = 20) -> Gaussian:
    """The update for a nonlinear h: the most probable trajectory under the local prior, by a damped descent.

    It is the same loop once more, with a prior that stands still. Its first step is undamped, so a linear h takes one.
    """

    def still(current: Gaussian, s: float | Tensor = 0.0) -> Gaussian:
        x = current.mean
        return Gaussian(x, local.precision, local.precision.matvec(local.mean - x))

    def cost(x: Tensor) -> Tensor:
        away = x - local.mean
        return (away * local.precision.matvec(away)).sum((-2, -1)) / 2 + observations.misfit(x)

    descent = LevenbergMarquardt(still, cost, damping=0.0)
    for _ in descent.descend(local.mean, observations, steps):
        pass
    return laplace(still(Gaussian.flat(descent.best)), observations)


def conditioned(local: Gaussian, observations: Observations) -> Gaussian:
    """The update for a prior that knows nothing of h, whatever h is."""
    return (linearised if observations.linear else descended)(local, observations)


def extended_kalman_filter(physics: Physics, observations: Observations, steps: int) -> Float[Tensor, "*batch T n"]:
    """The filtered means: each state given the observations up to its time, the model linearised at the state before.

    One loop over time of the same update, on windows of one step.
    """
    mean, covariance = physics.start_mean, torch.diag_embed(physics.start_std**2)
    means = []
    for t in range(steps):
        here = Observations(
            observations.value[..., t : t + 1, :], observations.noise_std[..., t : t + 1, :], observations.operator
        )
        if t:
            mean, J = linearise(physics.step, mean)
            covariance = J @ covariance @ J.mT + torch.diag_embed(physics.noise_std**2)
        forecast = Gaussian(
            mean.unsqueeze(-2).expand(*here.value.shape[:-1], -1),
            BlockBanded(torch.linalg.inv(covariance)[..., None, None, :, :]),
        )
        analysis = forecast.condition(*here.linearise(forecast.centre))
        mean = analysis.mean.squeeze(-2)
        covariance = analysis.precision.selected_inverse()[..., 0, 0, :, :]
        means.append(mean)
    return torch.stack(means, -2)
