"""The posterior itself, by weighted simulations: nothing is linearised, nothing is Gaussian.

With model noise, the states x_{t+1} = M(x_t) + e, e ~ N(0, Q), are filtered and then drawn backwards:

    x_0^i ~ start,    w_t^i ~ p(y_t | x_t^i),    x_{t+1}^i = M(x_t^a) + e^i,  a drawn by w_t
    x_T^m drawn by w_T,    x_t^m = x_t^i with probability ~ w_t^i N(x_{t+1}^m; M(x_t^i), Q)

Particles are kept as they are weighted, before the resampling, which only adds noise. Backwards, every particle of a
time may join any of the next, so trajectories differ at all times although few ancestors survive the filter.

Without model noise, a trajectory is a function of its start, so start states are what is weighted. They come from a
density q that is adapted in rounds, beta rising from 0 to 1 so that a good share of them always matters:

    w^i ~ p(x_0^i) p(y | x_0^i)^beta / q(x_0^i),    next q: kernels on states drawn by w

The last weights, at beta = 1, are exact whatever q was.

These two smoothers do one window at a time, and each meets the same random numbers: results depend neither on the other
windows nor on how Dask cuts them, and windows are compared on equal terms. The filter, `ParticleFilter`, only goes
forward; it resamples where few particles count, windows side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit.checks import noise
from nida_kit.methods.particles import Simulations, effective, log_likelihood, pick, systematic
from nida_kit.methods.sequential import CPU, DOUBLE
from nida_kit.observing.observations import Observations
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

    A bootstrap particle filter (Gordon, Salmond & Smith 1993, doi:10.1049/ip-f-2.1993.0015) and backward simulation
    (Godsill, Doucet & West 2004, doi:10.1198/016214504000000151). Its result holds `mean_error (..., time,
    component)`, the standard error of `mean` from the spread between the repeats (to about 40% for four of them; left
    out for one); the `log_evidence` of each window, log p(y) in nats; and `effective_particles`, the smallest
    effective sample size over times and repeats. It is for states of a few components: the particles that are needed
    rise steeply with their number. There is no first guess: one that is given is not used.

    Args:
        system: an `nk.System`; its `start` draws the first states.
        model_noise_std: of the model error per step, per component or one for all, in state units; positive.
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
        model_noise_std,
        *,
        particles: int = 16384,
        draws: int = 128,
        repeats: int = 4,
        seed: int = 0,
    ):
        super().__init__(system, seed, particles=(particles, 2), draws=(draws, 2), repeats=(repeats, 1))
        self.particles, self.draws, self.repeats = particles, draws, repeats
        self.noise_std = _read_noise(model_noise_std, len(self.labels.components))
        self.settings |= {"model_noise_std": self.noise_std.tolist()}

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
            draws.append(backward(filters[-1], self.noise_std, uniform))
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
        drawn = torch.empty(*uniform.shape, len(self.labels.components), dtype=DOUBLE)
        for r, generator in enumerate(self.generators()[: len(uniform)]):
            filtered = self.filter(window, dt, generator)
            drawn[r :: self.repeats] = backward(filtered, self.noise_std, uniform[r :: self.repeats])
        return drawn

    def filter(self, window: Observations, dt: float, generator: torch.Generator) -> Filtered:
        """The bootstrap particle filter of one window.

        Raises:
            ValueError: particles that overflow, or are all outside the operator's domain.
        """
        x = self.system.start(self.particles, generator, DOUBLE, CPU)
        states, forecasts, log_weights, log_evidence = [], [], [], torch.zeros((), dtype=DOUBLE)
        for y, std in zip(window.value.split(1), window.noise_std.split(1), strict=True):
            _check_finite(x)
            log_p = log_likelihood(Observations(y, std, window.operator), x.unsqueeze(-2))
            log_evidence = log_evidence + log_p.logsumexp(0) - math.log(len(x))
            states.append(x)
            log_weights.append(log_p.log_softmax(0))
            forecasts.append(self.system.step(x, dt))
            # Drawn at all times, so that windows observed at different times meet the same numbers.
            uniform = torch.rand(1, generator=generator, dtype=DOUBLE)
            noise = torch.randn(x.shape, generator=generator, dtype=DOUBLE)
            x = forecasts[-1][systematic(log_weights[-1], uniform, len(x))] + self.noise_std * noise
        return Filtered(torch.stack(states), torch.stack(forecasts), torch.stack(log_weights), log_evidence)


def _read_noise(model_noise_std, n: int) -> Float[Tensor, " n"]:
    """As `noise`, but none may be 0."""
    std = noise(model_noise_std, n)
    if (std == 0).any():
        raise ValueError(
            f"model_noise_std={model_noise_std!r}: a particle smoother does not apply to a system without noise. "
            "p(x_{t+1} | x_t) is no density there, and all draws collapse onto the few start states that survive: use "
            "nk.ImportanceSampler, or give a small model noise."
        )
    return std


def _check_finite(x: Tensor) -> None:
    if not x.isfinite().all():
        raise ValueError("Particles overflow: try observations with a smaller time step, or a shorter longest_substep.")


def backward(
    filtered: Filtered, noise_std: Float[Tensor, " n"], uniform: Float[Tensor, "M T"]
) -> Float[Tensor, "M T n"]:
    """Trajectories drawn from the posterior, from the last state to the first, made of uniform numbers."""
    index = pick(filtered.log_weights[-1].repeat(len(uniform), 1), uniform[:, -1])
    path = [filtered.states[-1, index]]
    for t in reversed(range(uniform.shape[1] - 1)):
        centre = filtered.forecasts[t].mean(0)  # taken off first, since squares of large numbers lose digits
        forecasts, reached = (filtered.forecasts[t] - centre) / noise_std, (path[-1] - centre) / noise_std
        index = _parents(forecasts, filtered.log_weights[t], reached, uniform[:, t])
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
    order, turn = forecasts[:, c].argsort(), reached[:, c].argsort()
    forecasts, reached = forecasts[order], reached[turn]
    # log w - |x - f|^2 / 2 without |x|^2, which is the same for all forecasts
    offset = log_weights[order] - forecasts.square().sum(-1) / 2
    first, last = reached[::rows, c] - margin, torch.cat([reached[rows - 1 :: rows, c], reached[-1:, c]]) + margin
    along = forecasts[:, c].contiguous()
    low, high = torch.searchsorted(along, first).tolist(), torch.searchsorted(along, last).tolist()
    picked = [
        i + pick(torch.addmm(offset[i:j], x, forecasts[i:j].mT), u)
        for x, u, i, j in zip(reached.split(rows), uniform[turn].split(rows), low, high, strict=False)
    ]
    return order[torch.cat(picked)][turn.argsort()]
