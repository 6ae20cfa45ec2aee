"""The posterior of a system with model noise, by particles that are filtered and then drawn backwards.

    x_1^i ~ start,    w_t^i ~ p(y_t | x_t^i),    x_{t+1}^i = M(x_t^a) + e^i,  a drawn by w_t
    x_T^m drawn by w_T,    x_t^m = x_t^i with probability ~ w_t^i N(x_{t+1}^m; M(x_t^i), Q)

Particles are kept as they are weighted, before the resampling, which only adds noise. Backwards, every particle of a
time may join any of the next, so trajectories differ at all times although few ancestors survive the filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit import checks
from nida_kit.linalg.covariance import Covariance
from nida_kit.methods.particles import Simulations, effective, log_likelihood, pick, systematic
from nida_kit.methods.sequential import (
    CPU,
    DOUBLE,
    advance_without_slopes,
    model_noise,
    noise_settings,
    refuse_whole_windows,
)
from nida_kit.observing.observations import Observations
from nida_kit.state import Labels
from nida_kit.systems.system import System


@dataclass(frozen=True)
class Filtered:
    """What a particle filter leaves to the smoother.

    Attributes:
        states: particles before the resampling, `(T, N, n)`.
        forecasts: M of each, `(T, N, n)`.
        log_weights: normalised, `(T, N)`.
        log_evidence: log p(y) in nats, estimated without bias in p(y), `()`.
    """

    states: Float[Tensor, "T N n"]
    forecasts: Float[Tensor, "T N n"]
    log_weights: Float[Tensor, "T N"]
    log_evidence: Float[Tensor, ""]


class ParticleSmoother(Simulations):
    """The exact posterior of a system with model noise, but for a Monte-Carlo error that it reports.

    >>> import nida_kit as nk
    >>> system = nk.LinearOscillator()
    >>> truth = system.simulate(samples=1, steps=20, dt=0.1, model_noise_std=0.1, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=0.3, seed=1)
    >>> particles = nk.ParticleSmoother(system, model_noise_std=0.1, particles=1000).assimilate(obs)
    >>> exact = nk.KalmanSmoother(system, model_noise_std=0.1).assimilate(obs)
    >>> bool(nk.rmse(particles["mean"], exact["mean"]) < 0.1)
    True

    A bootstrap particle filter (Gordon, Salmond & Smith 1993, doi:10.1049/ip-f-2.1993.0015) and backward simulation
    (Godsill, Doucet & West 2004, doi:10.1198/016214504000000151). Its result holds `mean_error (..., time,
    component)`, the standard error of `mean` from the spread between the repeats (to about 40% for four of them; left
    out for one); the `log_evidence` of each window, log p(y) in nats; and `effective_particles`, the smallest
    effective sample size over times and repeats. It is for states of a few components: the particles that are needed
    rise steeply with their number. There is no first guess: one that is given is not used.

    Args:
        system: an `nk.System`; its `start` draws the first states.
        model_noise_std: of the model error per step, per component or one for all, in state units; positive.
        model_noise_covariance: Q `(n, n)`, in place of model_noise_std.
        particles: of each filter. The time taken is proportional to particles * draws * repeats.
        draws: trajectories drawn from each repeat, for mean and std.
        repeats: independent filters.
        seed: of all random numbers.

    Raises:
        ValueError: a count or a noise that is not positive.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=None,
        *,
        model_noise_covariance=None,
        particles: int = 16384,
        draws: int = 128,
        repeats: int = 4,
        seed: int = 0,
    ):
        self.particles, self.draws = checks.count("particles", particles, 2), checks.count("draws", draws, 2)
        self.repeats = checks.count("repeats", repeats, 1)
        super().__init__(system, seed, particles=self.particles, draws=self.draws, repeats=self.repeats)
        self.noise = _positive_noise(model_noise_std, model_noise_covariance, self.labels)
        self.settings |= noise_settings(self.noise)

    def refuse(self, observations):
        refuse_whole_windows(observations, self.system)

    def generators(self) -> list[torch.Generator]:
        """Of each repeat, anew for each window."""
        seeds = torch.randint(2**62, (self.repeats,), generator=torch.Generator().manual_seed(self.seed))
        return [torch.Generator().manual_seed(s) for s in seeds.tolist()]

    def estimate(self, window, dt):
        filters, draws = [], []
        for generator in self.generators():
            filters.append(self.filter(window, dt, generator))
            uniform = torch.rand(self.draws, len(window.value), generator=generator, dtype=DOUBLE)
            uniform[:, -1] = (torch.arange(self.draws) + uniform[:, -1]) / self.draws  # evenly, for a lower variance
            draws.append(self.system.as_observed(backward(filters[-1], self.noise, uniform)))
        # Repeats count alike, not by their evidence: so their spread is the error of their average, and one filter
        # that was lucky does not hide that the others disagree.
        means = torch.stack([x.mean(0) for x in draws])
        evidence = torch.stack([f.log_evidence for f in filters])
        found = {
            "mean": means.mean(0),
            "std": torch.cat(draws).std(0),
            "log_evidence": evidence.logsumexp(0) - math.log(self.repeats),
            "effective_particles": torch.stack([effective(f.log_weights).min() for f in filters]).min(),
        }
        return found | ({"mean_error": means.std(0) / self.repeats**0.5} if self.repeats > 1 else {})

    def draw_one(self, window, dt, uniform):
        drawn = torch.empty(*uniform.shape, self.labels.size, dtype=DOUBLE)
        for r, generator in enumerate(self.generators()[: len(uniform)]):
            filtered = self.filter(window, dt, generator)
            drawn[r :: self.repeats] = backward(filtered, self.noise, uniform[r :: self.repeats])
        return self.system.as_observed(drawn)

    def filter(self, window: Observations, dt: float, generator: torch.Generator) -> Filtered:
        """The bootstrap particle filter of one window.

        Raises:
            ValueError: particles that are all outside the domain of the model or of the operator.
        """
        x = self.system.start(self.particles, generator, DOUBLE, CPU)
        states, forecasts, log_weights, log_evidence = [], [], [], torch.zeros((), dtype=DOUBLE)
        for t in range(len(window.value)):
            log_p = log_likelihood(window.at(t), x.unsqueeze(-2))
            log_evidence = log_evidence + log_p.logsumexp(0) - math.log(len(x))
            states.append(x)
            log_weights.append(log_p.log_softmax(0))
            forecasts.append(advance_without_slopes(self.system, dt, x, window.times[t : t + 1])[0])
            # Drawn at all times, so that windows observed at different times meet the same numbers.
            uniform = torch.rand(1, generator=generator, dtype=DOUBLE)
            noise = torch.randn(x.shape, generator=generator, dtype=DOUBLE)
            x = forecasts[-1][systematic(log_weights[-1], uniform, len(x))] + self.noise.colour(noise)
        return Filtered(torch.stack(states), torch.stack(forecasts), torch.stack(log_weights), log_evidence)


def _positive_noise(std, matrix, labels: Labels) -> Covariance:
    """As `model_noise`, but none may be 0."""
    noise = model_noise(std, matrix, labels)
    if (noise.std == 0).any():
        advice = (
            "Without noise p(x_{t+1} | x_t) is no density there, and all draws collapse onto the few start states that "
            "survive: use nk.ImportanceSampler, or give a small model noise."
        )
        raise checks.refused("model_noise_std", std, "positive for each component", advice)
    return noise


def backward(filtered: Filtered, noise: Covariance, uniform: Float[Tensor, "M T"]) -> Float[Tensor, "M T n"]:
    """Trajectories drawn from the posterior, from the last state to the first, made of uniform numbers."""
    index = pick(filtered.log_weights[-1].repeat(len(uniform), 1), uniform[:, -1])
    path = [filtered.states[-1, index]]
    for t in reversed(range(uniform.shape[1] - 1)):
        # What left the model's domain leads nowhere: it weighs nothing, and stands anywhere.
        inside = filtered.forecasts[t].isfinite().all(-1)
        log_weights = filtered.log_weights[t].masked_fill(~inside, -math.inf)
        centre = filtered.forecasts[t][inside].mean(0)  # taken off first, since squares of large numbers lose digits
        forecasts = noise.whiten(filtered.forecasts[t].where(inside[:, None], centre) - centre)
        index = _parents(forecasts, log_weights, noise.whiten(path[-1] - centre), uniform[:, t])
        path.append(filtered.states[t, index])
    return torch.stack(path[::-1], 1)


def _parents(
    forecasts: Float[Tensor, "N n"],
    log_weights: Float[Tensor, " N"],
    reached: Float[Tensor, "M n"],
    uniform: Float[Tensor, " M"],
    rows: int = 16,
) -> Int[Tensor, " M"]:
    """For each state that was reached, one i drawn by w^i N(reached; forecasts^i, I).

    Draws and forecasts are sorted along the component in which the forecasts spread most, so that some `rows`
    neighbouring draws need only the forecasts around them. Those left out, over `margin` standard deviations away,
    hold less than 1e-6 of the weight: whatever was reached came from a forecast about sqrt(n) away.
    """
    margin = forecasts.shape[1] ** 0.5 + 9
    c = forecasts.std(0).argmax()
    order, sorting = forecasts[:, c].argsort(), reached[:, c].argsort()
    forecasts, reached = forecasts[order], reached[sorting]
    # log w - |x - f|^2 / 2 without |x|^2, which is the same for all forecasts
    offset = log_weights[order] - forecasts.square().sum(-1) / 2
    first, last = reached[::rows, c] - margin, torch.cat([reached[rows - 1 :: rows, c], reached[-1:, c]]) + margin
    along = forecasts[:, c].contiguous()
    low, high = torch.searchsorted(along, first).tolist(), torch.searchsorted(along, last).tolist()
    picked = [
        i + pick(torch.addmm(offset[i:j], x, forecasts[i:j].mT), u)
        for x, u, i, j in zip(reached.split(rows), uniform[sorting].split(rows), low, high, strict=False)
    ]
    return order[torch.cat(picked)][sorting.argsort()]
