"""The bootstrap particle filter: simulations weighted by what is observed, forward in time only.

    x_{t+1}^i = M(x_t^i) + e^i,  e^i ~ N(0, Q),    w_{t+1}^i ~ w_t^i p(y_{t+1} | x_{t+1}^i)

Nothing is linearised and nothing is Gaussian. Where few particles count, they are resampled by their weights. Windows
go side by side and meet the same random numbers.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.methods.method import stream
from nida_kit.methods.particles import check_some_count, effective, systematic, widened
from nida_kit.methods.sequential import (
    CPU,
    DOUBLE,
    Sequential,
    advance_without_slopes,
    all_finite,
    check_finite,
    for_members,
    model_noise,
    noise_settings,
    stops,
    survivors,
)
from nida_kit.reconstruction import Moments
from nida_kit.systems.system import System, as_system


class ParticleFilter(Sequential):
    """The bootstrap particle filter with adaptive, regularised resampling; it needs no model noise.

    >>> import nida_kit as nk
    >>> system = nk.Lorenz63()
    >>> truth = system.simulate(samples=1, steps=40, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=1.0, seed=1)
    >>> result = nk.ParticleFilter(system, model_noise_std=0.5, particles=500).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 5.0)  # the climatology has 8.6
    True

    Particles are resampled when few of them count, systematically; the copies are then moved by draws from a Gaussian
    kernel, since without model noise they would never part (Musso, Oudjane & Le Gland 2001). The kernel's covariance is
    the unbiased one of the particles times (jitter N^(-1/(n + 4)))^2, Scott's rule for jitter = 1: it does not vanish
    as one particle gets all the weight. The moves bias what is otherwise exact for many particles; with model noise,
    `nk.ParticleSmoother` needs none.

    Args:
        system: an `nk.System`; its `start` draws the first states.
        model_noise_std: of the model error per step, per component or one for all, in state units; may be 0.
        model_noise_covariance: Q `(n, n)`, in place of model_noise_std.
        particles: N.
        jitter: scale of the kernel; 0 is none.
        resample_below: share of N that the effective sample size must reach, else the particles are resampled.
        seed: of all random numbers.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        model_noise_covariance=None,
        particles: int = 1000,
        jitter: float = 1.0,
        resample_below: float = 0.3,
        seed: int = 0,
    ):
        self.noise = model_noise(model_noise_std, model_noise_covariance, as_system(system).labels)
        self.particles, self.seed = checks.count("particles", particles, 2), checks.seed(seed)
        self.jitter = checks.number("jitter", jitter)
        self.resample_below = checks.share("resample_below", resample_below)
        settings = {"particles": self.particles, "jitter": self.jitter, "resample_below": self.resample_below}
        super().__init__(system, **settings, seed=self.seed, **noise_settings(self.noise))

    def walk(self, observations, dt):
        generator = stream(self.seed)
        windows, times = len(observations.value), observations.times
        x = self.system.start(self.particles, generator, DOUBLE, CPU).expand(windows, -1, -1)
        x, log_weights = _without_strays(x, torch.zeros(windows, self.particles, dtype=DOUBLE))
        forecast, analysis = [self._moments(x, log_weights)], []
        for t, observed in stops(observations):
            while (k := len(forecast)) <= t:
                states = advance_without_slopes(self.system, dt, x, times[k - 1 : t if self.noise.zero else k])
                if not self.noise.zero:
                    states = states + self.noise.colour(torch.randn(x.shape[-2:], generator=generator, dtype=DOUBLE))
                states, kept = _without_strays(states, log_weights.expand(len(states), -1, -1))
                forecast += self._moments(states, kept)
                x, log_weights = states[-1], kept[-1]
            analysis += forecast[len(analysis) :]
            if observed:
                here = for_members(observations.at(t))
                misfit = here.misfit(x.unsqueeze(-2)).nan_to_num(nan=math.inf, posinf=math.inf)
                check_some_count(misfit - log_weights)
                log_weights = (log_weights - misfit).log_softmax(-1)
                analysis[-1] = self._moments(x, log_weights)
                x, log_weights = self._resampled(x, log_weights, generator)
        found = {"forecast": forecast, "analysis": analysis}
        return {name: Moments(*torch.stack(moments, 1).unbind(-2)) for name, moments in found.items()}

    def _moments(self, x: Float[Tensor, "*batch N n"], log_weights: Float[Tensor, "*batch N"]) -> Tensor:
        """Mean and standard deviation of particles as they are observed, `(..., 2, n)`."""
        x, w = self.system.as_observed(x), log_weights.softmax(-1).unsqueeze(-2)
        mean = w @ x
        return torch.cat([mean, (w @ (x - mean).square_()).sqrt_()], -2)

    def _resampled(self, x: Float[Tensor, "W N n"], log_weights: Float[Tensor, "W N"], generator: torch.Generator):
        """The windows where few particles count, resampled."""
        uniform = torch.rand(1, generator=generator, dtype=DOUBLE)
        kernel = torch.randn(x.shape[-2:], generator=generator, dtype=DOUBLE)  # always drawn, as elsewhere here
        poor = effective(log_weights) < self.resample_below * self.particles
        if not poor.any():
            return x, log_weights
        index = systematic(log_weights, uniform, self.particles)
        copies = torch.cat([torch.zeros_like(poor)[:, None], index[:, 1:] == index[:, :-1]], 1)
        spread = widened(unbiased_covariance(x, log_weights))
        root = torch.linalg.cholesky(spread + 1e-300 * torch.eye(x.shape[-1], dtype=DOUBLE))
        width = self.jitter * self.particles ** (-1 / (x.shape[-1] + 4))
        moved = x.take_along_dim(index.unsqueeze(-1), 1) + width * (kernel @ root.mT) * copies.unsqueeze(-1)
        return torch.where(poor[:, None, None], moved, x), log_weights.where(~poor[:, None], 0.0)


def _without_strays(x: Float[Tensor, "*batch N n"], log_weights: Float[Tensor, "*batch N"]) -> tuple[Tensor, Tensor]:
    """Particles that left the model's domain weigh nothing; another stands in their place, so that sums stay finite.

    Raises:
        ValueError: no other has any weight.
    """
    if all_finite(x):
        return x, log_weights
    fine = x.isfinite().all(-1)
    log_weights = log_weights.masked_fill(~fine, -math.inf)
    if (log_weights == -math.inf).all(-1).any():
        check_finite(x)
    return x.take_along_dim(survivors(fine).unsqueeze(-1), -2), log_weights


def unbiased_covariance(x: Float[Tensor, "W N n"], log_weights: Float[Tensor, "W N"]) -> Float[Tensor, "W n n"]:
    """Of weighted particles: their weighted covariance over 1 - sum w^2.

    Both vanish as one particle gets all the weight, and their ratio does not. So the share q that the others have is
    divided out of both, and their weights are taken among themselves.
    """
    largest, best = log_weights.softmax(-1).max(-1, keepdim=True)
    v = log_weights.scatter(-1, best, -math.inf).softmax(-1).nan_to_num(nan=1 / x.shape[-2])  # all impossible: alike
    middle = (v.unsqueeze(-2) @ x).squeeze(-2)
    away, ahead = x - middle.unsqueeze(-2), x.take_along_dim(best.unsqueeze(-1), -2).squeeze(-2) - middle
    covariance = away.mT @ (away * v.unsqueeze(-1))
    p = largest.unsqueeze(-1)
    scale = 1 + p - (1 - p) * v.square().sum(-1)[:, None, None]
    return (covariance + p * ahead.unsqueeze(-1) * ahead.unsqueeze(-2)) / scale
