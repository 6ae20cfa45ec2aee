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
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.assimilate.method import Reconstruction
from nida_kit.gaussian import Gaussian, linearise
from nida_kit.observe import Observations, Observing
from nida_kit.prior import Physics, Prior

Update = Callable[[Gaussian, Observing], Gaussian]
Move = Callable[[Gaussian], Gaussian]


def linearised(local: Gaussian, observations: Observing) -> Gaussian:
    """The local prior conditioned on the observations, h linearised at its centre: exact for a linear h."""
    return local.condition(*observations.linearise(local.centre))


def to_the_mean(posterior: Gaussian) -> Gaussian:
    """The usual move: the posterior's mean is the next estimate."""
    return posterior


def incremental(
    prior: Prior,
    schedule: Sequence[float | Tensor],
    observations: Observing,
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


def gaussian_filter(
    forecast: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    mean: Float[Tensor, "*batch n"],
    covariance: Float[Tensor, "*batch n n"],
    observations: Observations,
) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Mean and covariance of each state before and after the analysis of what was observed at its time.

    A walk through time by the same update on windows of one step, but by covariances: without model noise, they become
    singular as directions contract.

    Args:
        forecast: mean and covariance of the next state, from those of this one.
        mean: of the first state.
        covariance: of the first state.
        observations: of the whole batch.
    """
    value = observations.value
    mean = mean.expand(*value.shape[:-2], -1)
    covariance = covariance.expand(*mean.shape, -1)
    for t in range(value.shape[-2]):
        if t:
            mean, covariance = forecast(mean, covariance)
            covariance = covariance.expand(*mean.shape, -1)
        before, here = (mean, covariance), observations.at(t)
        if not here.value.isnan().all():
            H, R, y = here.linearise(mean.unsqueeze(-2))
            mean, covariance = _analysis(mean, covariance, H.squeeze(-3), R.squeeze(-2), y.squeeze(-2))
        yield before, (mean, covariance)


def _analysis(mean: Tensor, covariance: Tensor, H: Tensor, R: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`Gaussian.condition` of one state `(..., n)`, by its covariance."""
    seen = ~y.isnan()
    H = H * seen.unsqueeze(-1)
    innovation = torch.where(seen, y, 0.0) - (H @ mean.unsqueeze(-1)).squeeze(-1)
    cross = H @ covariance
    gain = torch.linalg.solve(cross @ H.mT + torch.diag_embed(R.expand_as(y)), cross).mT
    mean = mean + (gain @ innovation.unsqueeze(-1)).squeeze(-1)
    shrink = torch.eye(mean.shape[-1]).to(mean) - gain @ H
    return mean, shrink @ covariance @ shrink.mT + gain * R.unsqueeze(-2) @ gain.mT  # Joseph's form stays positive


def extended_kalman_filter(physics: Physics, observations: Observations) -> Float[Tensor, "*batch T n"]:
    """The filtered means, given the observations up to each time; the model is linearised at the state before."""

    def forecast(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        mean, J = linearise(physics.step, mean)
        return mean, J @ covariance @ J.mT + torch.diag_embed(physics.noise_std**2)

    start = physics.start_mean, torch.diag_embed(physics.start_std**2)
    return torch.stack([mean for _, (mean, _) in gaussian_filter(forecast, *start, observations)], -2)
