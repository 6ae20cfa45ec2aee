r"""The posterior itself, by weighted simulations: nothing is linearised, nothing is Gaussian.

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
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nida_kit.assimilate.method import Method, Moments, Reconstruction, stream
from nida_kit.assimilate.sequential import CPU, DOUBLE, Sequential, check_finite, count, noise, number
from nida_kit.observe import Observations
from nida_kit.simulate import System, as_system

TOO_FEW = 10  # effective particles: below, averages over them are left to chance


class _Simulations(Method):
    """What both methods share: the system, one window at a time, warnings."""

    def __init__(self, system: System, seed: int, **counts: int):
        found = {name: count(name, number, least) for name, (number, least) in counts.items()}
        if not isinstance(seed, Integral):
            raise ValueError(f"seed={seed!r} must be a whole number.")
        self.system, self.labels, self.seed = as_system(system), system.labels, int(seed)
        self.settings = {"system": system.name, "seed": self.seed}
        self.settings |= {f"system_{name}": value for name, value in system.parameters().items()}
        self.settings |= found

    @abstractmethod
    def estimate(self, window: Observations, dt: float) -> dict[str, Tensor]:
        """Of one window: `mean` and `std (T, n)`, and what else there is to say about it."""

    @abstractmethod
    def draw_one(self, window: Observations, dt: float, uniform: Float[Tensor, "M T"]) -> Float[Tensor, "M T n"]:
        """Draws from the posterior of one window, made of uniform numbers."""

    def reconstruct(self, observations, dt, first_guess):
        lead, steps = observations.value.shape[:-2], observations.value.shape[-2]
        start = self.system.start(1000, torch.Generator().manual_seed(self.seed), DOUBLE, CPU)
        observations.predicted(start)  # says now what does not fit, before anything is simulated
        estimates = [self.estimate(window, dt) for window in _windows(observations)]
        found = {k: torch.stack([e[k] for e in estimates]).reshape((*lead, *v.shape)) for k, v in estimates[0].items()}
        posterior = Moments(found.pop("mean"), found.pop("std"))
        _warn_of_few(found["effective_particles"])
        if first_guess is None:
            first_guess = self.system.trajectories(start.mean(0), steps, dt)
        return Reconstruction([posterior], [math.nan], first_guess, found)

    def draw(self, observations, dt, first_guess, noise):
        observations.predicted(self.system.start(1, torch.Generator().manual_seed(self.seed), DOUBLE, CPU))
        uniform = torch.special.ndtr(noise[0, ..., 0]).reshape(noise.shape[1], -1, noise.shape[-2])
        drawn = [
            self.draw_one(window, dt, u) for window, u in zip(_windows(observations), uniform.unbind(1), strict=True)
        ]
        return torch.stack(drawn, 1).reshape(noise.shape[1:])


def _windows(observations: Observations) -> Iterator[Observations]:
    """One after the other, `(T, p)` each."""
    value = observations.value
    noise_std = observations.noise_std.expand_as(value)
    size = value.shape[-2:]
    for y, std in zip(value.reshape(-1, *size), noise_std.reshape(-1, *size), strict=True):
        yield Observations(y, std, observations.operator)


def _warn_of_few(effective: Tensor) -> None:
    few = effective < TOO_FEW
    if few.any():
        warnings.warn(
            f"In {int(few.sum())} of {few.numel()} windows fewer than {TOO_FEW} particles count (effective_particles, "
            f"at least {float(effective.min()):.2g}): mean and std are left to chance there. Simulations seldom come "
            "near such exact or many observations: give more particles=.",
            stacklevel=6,
        )


def log_likelihood(window: Observations, x: Float[Tensor, "N T n"]) -> Float[Tensor, " N"]:
    """Log p(y | x) in nats; -inf where h(x) is NaN.

    Raises:
        ValueError: it is -inf everywhere.
    """
    seen = ~window.value.isnan()
    constant = (window.noise_std[seen] * math.sqrt(2 * math.pi)).log().sum()
    log_p = -(window.misfit(x) + constant).nan_to_num(nan=math.inf, posinf=math.inf)
    _check_some_count(-log_p)
    return log_p


def _check_some_count(misfit: Float[Tensor, "*batch N"]) -> None:
    if (misfit == math.inf).all(-1).any():
        raise ValueError(
            "The operator gives NaN or infinite values for every particle: use one that is defined for all states "
            "that the system may take."
        )


def effective(log_weights: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
    """Effective sample size, (sum w)^2 / sum w^2 (Kong, Liu & Wong 1994, doi:10.1080/01621459.1994.10476469)."""
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def systematic(log_weights: Float[Tensor, "*batch N"], uniform: Tensor, count: int) -> Int[Tensor, "*batch count"]:
    """Indices drawn by the weights, evenly spread (Kitagawa 1996, doi:10.1080/10618600.1996.10474692)."""
    cumulative = log_weights.softmax(-1).cumsum(-1)
    points = (torch.arange(count, dtype=DOUBLE) + uniform) / count * cumulative[..., -1:]
    return torch.searchsorted(cumulative, points, right=True).clamp(max=cumulative.shape[-1] - 1)


def pick(log_weights: Float[Tensor, "M N"], uniform: Float[Tensor, " M"]) -> Int[Tensor, " M"]:
    """One index per row, drawn by the weights of that row, which it overwrites."""
    cumulative = log_weights.sub_(log_weights.amax(-1, keepdim=True)).exp_().cumsum(-1)
    points = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True).squeeze(-1).clamp(max=log_weights.shape[-1] - 1)


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


class ParticleFilter(Sequential):
    """The bootstrap particle filter with adaptive, regularised resampling; it needs no model noise.

    Particles are resampled when few of them count, systematically; the copies are then moved by draws from a Gaussian
    kernel, since without model noise they would never part (Musso, Oudjane & Le Gland 2001). The kernel's covariance is
    the unbiased one of the particles times (jitter N^(-1/(n + 4)))^2, Scott's rule for jitter = 1: it does not vanish
    as one particle gets all the weight. The moves bias what is otherwise exact for many particles; with model noise,
    `nk.ParticleSmoother` needs none.

    Args:
        system: an `nk.System`; its `start` draws the first states.
        model_noise_std: of the model error per step, per component or one for all, in state units; may be 0.
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
        particles: int = 1000,
        jitter: float = 1.0,
        resample_below: float = 0.3,
        seed: int = 0,
    ):
        self.particles, self.seed = count("particles", particles, 2), count("seed", seed, 0)
        self.noise_std = noise(model_noise_std, len(as_system(system).labels.components))
        self.jitter, self.resample_below = number("jitter", jitter), number("resample_below", resample_below)
        if self.resample_below > 1:
            raise ValueError(f"{resample_below=} must be a share from 0 to 1.")
        own = {"particles": self.particles, "jitter": self.jitter, "resample_below": self.resample_below}
        super().__init__(system, **own, seed=self.seed, model_noise_std=self.noise_std.tolist())

    def walk(self, observations, dt):
        generator = stream(self.seed)
        windows, steps = len(observations.value), observations.value.shape[-2]
        x = self.system.start(self.particles, generator, DOUBLE, CPU).expand(windows, -1, -1)
        log_weights = torch.zeros(windows, self.particles, dtype=DOUBLE)
        found: dict[str, list[Tensor]] = {"forecast": [], "analysis": []}
        for t in range(steps):
            if t:
                x = self.system.step(x, dt)
                if self.noise_std.any():
                    x = x + self.noise_std * torch.randn(x.shape[-2:], generator=generator, dtype=DOUBLE)
            found["forecast"].append(_weighted_moments(x, log_weights))
            here = observations.at(t)
            seen = not here.value.isnan().all()
            if seen:
                check_finite(x)
                each = Observations(here.value.unsqueeze(1), here.noise_std.unsqueeze(1), here.operator)
                misfit = each.misfit(x.unsqueeze(-2)).nan_to_num(nan=math.inf, posinf=math.inf)
                _check_some_count(misfit)
                log_weights = (log_weights - misfit).log_softmax(-1)
            found["analysis"].append(_weighted_moments(x, log_weights))
            if seen:
                x, log_weights = self._resampled(x, log_weights, generator)
        return {name: Moments(*torch.stack(moments, 2)) for name, moments in found.items()}

    def _resampled(self, x: Float[Tensor, "W N n"], log_weights: Float[Tensor, "W N"], generator: torch.Generator):
        """The windows where few particles count, resampled."""
        uniform = torch.rand(1, generator=generator, dtype=DOUBLE)
        kernel = torch.randn(x.shape[-2:], generator=generator, dtype=DOUBLE)  # always drawn, as elsewhere here
        poor = effective(log_weights) < self.resample_below * self.particles
        if not poor.any():
            return x, log_weights
        index = systematic(log_weights, uniform, self.particles)
        copies = torch.cat([torch.zeros_like(poor)[:, None], index[:, 1:] == index[:, :-1]], 1)
        spread = _widened(unbiased_covariance(x, log_weights))
        root = torch.linalg.cholesky(spread + 1e-300 * torch.eye(x.shape[-1], dtype=DOUBLE))
        width = self.jitter * self.particles ** (-1 / (x.shape[-1] + 4))
        moved = x.take_along_dim(index.unsqueeze(-1), 1) + width * (kernel @ root.mT) * copies.unsqueeze(-1)
        return torch.where(poor[:, None, None], moved, x), log_weights.where(~poor[:, None], 0.0)


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


def _weighted_moments(x: Float[Tensor, "W N n"], log_weights: Float[Tensor, "W N"]) -> Float[Tensor, "two W n"]:
    """Mean and standard deviation."""
    w = log_weights.softmax(-1).unsqueeze(-1)
    mean = (w * x).sum(-2)
    return torch.stack([mean, (w * (x - mean.unsqueeze(-2)).square()).sum(-2).sqrt()])


class ParticleSmoother(_Simulations):
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


@dataclass(frozen=True)
class Weighted:
    """Trajectories that stand for a posterior by their weights.

    Attributes:
        x: `(N, T, n)`.
        log_weights: log of p(x_0) p(y | x_0) / q(x_0), `(N,)`.
    """

    x: Float[Tensor, "N T n"]
    log_weights: Float[Tensor, " N"]


class ImportanceSampler(_Simulations):
    """The exact posterior of a system without model noise, but for a Monte-Carlo error that it reports.

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
        super().__init__(system, seed, particles=(particles, 2), kernels=(kernels, 1), rounds=(rounds, 1))
        self.particles, self.kernels, self.rounds = particles, kernels, rounds
        system.log_start(system.start(1, torch.Generator(), DOUBLE, CPU))  # says now if there is none

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
        log_q, beta, least = self.system.log_start(start), 0.0, 1e-9 * start.std(0)
        for _ in range(self.rounds):
            x = self.system.trajectories(start, len(window.value), dt)
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
        return Weighted(x.where((log_weights > -math.inf)[:, None, None], 0.0), log_weights)


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
        root = torch.linalg.cholesky(_widened(_covariance(centres)) + least.square().diag())
        z = torch.linalg.solve_triangular(root, (centres - mean).mT, upper=False).mT
        near = min(len(z), max(8 * x.shape[1], len(x) // 8))
        local = _covariance(z[torch.cdist(z, z).topk(near, largest=False).indices])
        roots = torch.linalg.cholesky(_widened(local) + 1e-12 * torch.eye(x.shape[1], dtype=DOUBLE))
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


def _covariance(x: Float[Tensor, "*batch N n"]) -> Float[Tensor, "*batch n n"]:
    away = x - x.mean(-2, keepdim=True)
    return away.mT @ away / x.shape[-2]


def _widened(covariance: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """By a share that rounding cannot eat up, should the points lie in a plane."""
    return covariance + 1e-12 * torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
