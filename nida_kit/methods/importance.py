"""The posterior of a system without model noise, by weighted start states.

Without model noise a trajectory is a function of its start, so start states are what is weighted. They come from a
density q that is adapted in rounds, beta rising from 0 to 1 so that a good share of them always matters:

    w^i ~ p(x_1^i) p(y | x_1^i)^beta / q(x_1^i),    next q: kernels on states drawn by w

The last weights, at beta = 1, are exact whatever q was. Whole trajectories are weighed, so an operator over the
window and errors that are correlated in time are taken like any others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.methods.particles import Simulations, covariance_of, effective, log_likelihood, pick, systematic, widened
from nida_kit.methods.sequential import CPU, DOUBLE, check_operator
from nida_kit.observing.observations import Observations
from nida_kit.systems.system import System


@dataclass(frozen=True)
class Weighted:
    """Trajectories, as observed, that stand for a posterior by their weights.

    Attributes:
        x: `(N, T, n)`.
        log_weights: log of p(x_1) p(y | x_1) / q(x_1), `(N,)`.
    """

    x: Float[Tensor, "N T n"]
    log_weights: Float[Tensor, " N"]


class ImportanceSampler(Simulations):
    """The exact posterior of a system without model noise, but for a Monte-Carlo error that it reports.

    >>> import nida_kit as nk
    >>> system = nk.Pendulum()
    >>> truth = system.simulate(samples=1, steps=20, dt=0.1, seed=0)
    >>> obs = nk.observe(truth, components=["angle"], every=5, noise_std=0.1, seed=1)
    >>> result = nk.ImportanceSampler(system, particles=500).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 0.2)
    True

    Start states are proposed in rounds (population Monte Carlo: Cappe et al. 2004, doi:10.1198/106186004X12803), with
    the likelihood raised to a power that rises to 1, each time as far as a fifth of the particles still counts; the
    last weights are exact. Its result holds `mean_error (..., time, component)`, the standard error of `mean` from
    those weights, which does not know of modes that no particle found; the `log_evidence` of each window, log p(y) in
    nats; and its `effective_particles`. It is for states of a few components. There is no first guess: one that is
    given is not used. Draws are among the particles.

    Args:
        system: an `nk.System` with `log_start`, the log density of its `start`.
        particles: of each round.
        kernels: the proposal of each round is a mixture of so many Gaussians.
        rounds: at most.
        seed: of all random numbers.

    Raises:
        ValueError: a count that is not positive, or a system without `log_start`.
    """

    def __init__(self, system: System, *, particles: int = 2000, kernels: int = 256, rounds: int = 50, seed: int = 0):
        self.particles, self.kernels = checks.count("particles", particles, 2), checks.count("kernels", kernels, 1)
        self.rounds = checks.count("rounds", rounds, 1)
        super().__init__(system, seed, particles=self.particles, kernels=self.kernels, rounds=self.rounds)
        system.log_start(system.start(1, torch.Generator(), DOUBLE, CPU))  # refuses now a system that has none

    def refuse(self, observations):
        check_operator(observations, self.system)

    def estimate(self, window, dt):
        found = self.weigh(window, dt)
        w = found.log_weights.softmax(0)[:, None, None]
        mean = (w * found.x).sum(0)
        away = found.x - mean
        # Particles are spread evenly over the kernels, in order, so the error is how much neighbours differ; for
        # independent ones it is the same (von Neumann 1941, doi:10.1214/aoms/1177731677).
        return {
            "mean": mean,
            "std": (w * away.square()).sum(0).sqrt(),
            "mean_error": ((w * away).diff(dim=0).square().sum(0) / 2).sqrt(),
            "log_evidence": found.log_weights.logsumexp(0) - math.log(self.particles),
            "effective_particles": effective(found.log_weights),
        }

    def draw_one(self, window, dt, uniform):
        found = self.weigh(window, dt)
        return found.x[pick(found.log_weights.repeat(len(uniform), 1), uniform[:, 0])]

    def weigh(self, window: Observations, dt: float) -> Weighted:
        """Trajectories and their weights, of one window."""
        generator = torch.Generator().manual_seed(self.seed)
        start = self.system.start(self.particles, generator, DOUBLE, CPU)
        inside = start[start.isfinite().all(-1)]
        start = inside[torch.arange(len(start)) % len(inside)]  # in the place of those outside the domain, copies
        log_q, beta, least = self.system.log_start(start), 0.0, 1e-9 * start.std(0)
        for _ in range(self.rounds):
            x = self.system.trajectories(start, len(window.value), dt, start_time=window.times[0])
            prior, log_p = self.system.log_start(start) - log_q, log_likelihood(window, x)
            sharp, beta = beta == 1, rise(prior, log_p, beta, self.particles / 5)
            log_weights = tempered(prior, log_p, beta)
            if sharp or (beta == 1 and effective(log_weights) > self.particles / 2):
                break
            uniform = torch.rand(1, generator=generator, dtype=DOUBLE)
            proposal = Kernels.on(start[systematic(log_weights, uniform, self.kernels)], least)
            start = proposal.sample(self.particles, generator)
            log_q = proposal.log_prob(start)
        log_weights = prior + log_p
        # What is not finite has no weight, but NaN times nothing would be NaN.
        x = self.system.as_observed(x).where((log_weights > -math.inf)[:, None, None], 0.0)
        return Weighted(x, log_weights)


def tempered(prior: Float[Tensor, " N"], log_p: Float[Tensor, " N"], beta: float) -> Float[Tensor, " N"]:
    """Log weights at beta."""
    return prior + beta * log_p if beta else prior


def rise(prior: Float[Tensor, " N"], log_p: Float[Tensor, " N"], beta: float, enough: float) -> float:
    """The next beta: as near to 1 as leaves `enough` effective particles, by bisection."""
    if effective(tempered(prior, log_p, 1.0)) >= enough:
        return 1.0
    low, high = beta, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(tempered(prior, log_p, middle)) >= enough else (low, middle)
    return low


@dataclass(frozen=True)
class Kernels:
    """A mixture of Gaussians, all weighted alike, in coordinates z in which particles have unit covariance.

    Attributes:
        mean: of the particles, `(n,)`.
        root: x = mean + root z, `(n, n)`, lower triangular.
        centres: in z, `(C, n)`.
        roots: Cholesky factors of the kernels' covariances in z, `(C, n, n)`.
    """

    mean: Float[Tensor, " n"]
    root: Float[Tensor, "n n"]
    centres: Float[Tensor, "C n"]
    roots: Float[Tensor, "C n n"]

    @classmethod
    def on(cls, x: Float[Tensor, "N n"], least: Float[Tensor, " n"]) -> Kernels:
        """On particles, each as wide as the eighth of them that is nearest to it, or the nearest 8 n if these are more.

        Local widths, rather than one for all, since a posterior may have several narrow modes far apart.

        Args:
            x: the particles, all weighted alike.
            least: a width that the whole has at least, also where one particle is left.
        """
        centres, mean = x.unique(dim=0), x.mean(0)
        root = torch.linalg.cholesky(widened(covariance_of(centres)) + least.square().diag())
        z = torch.linalg.solve_triangular(root, (centres - mean).mT, upper=False).mT
        near = min(len(z), max(8 * x.shape[1], len(x) // 8))
        local = covariance_of(z[torch.cdist(z, z).topk(near, largest=False).indices])
        roots = torch.linalg.cholesky(widened(local) + 1e-12 * torch.eye(x.shape[1], dtype=DOUBLE))
        return cls(mean, root, z, roots)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count n"]:
        """Draws, evenly spread over the kernels."""
        uniform = torch.rand(1, generator=generator, dtype=DOUBLE)
        index = systematic(torch.zeros(len(self.centres), dtype=DOUBLE), uniform, count)
        noise = torch.randn(count, len(self.mean), 1, generator=generator, dtype=DOUBLE)
        return self.mean + (self.centres[index] + (self.roots[index] @ noise).squeeze(-1)) @ self.root.mT

    def log_prob(self, x: Float[Tensor, "N n"]) -> Float[Tensor, " N"]:
        """Log density, in nats."""
        z = torch.linalg.solve_triangular(self.root, (x - self.mean).mT, upper=False)
        away = z - self.centres.unsqueeze(-1)  # (C, n, N)
        squared = torch.linalg.solve_triangular(self.roots, away, upper=False).square().sum(-2)
        logdet = self.roots.diagonal(dim1=-2, dim2=-1).log().sum(-1) + self.root.diagonal().log().sum()
        constant = math.log(len(self.centres)) + len(self.mean) / 2 * math.log(2 * math.pi)
        return (-squared / 2 - logdet[:, None]).logsumexp(0) - constant
