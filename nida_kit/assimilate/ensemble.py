r"""Ensemble methods: the covariance is that of N states, which the full model carries along.

With the mean m of the ensemble and its N - 1 independent deviations S (their rows; the covariance is S' S), every
analysis looks among the states x = m + w S for *weights* w, which are N(0, I) beforehand. Observations of h see

    y = h(m) + w Y + eta,      Y: the deviations of h of the members,

so their posterior is again a Gaussian conditioned on observations, in N - 1 dimensions whatever the size of the state:

    A = I + Y R^-1 Y',      w_mean = A^-1 Y R^-1 (y - h(m)),      covariance A^-1.

The square root filter takes as its members draws from it, of noise that is exactly centred, uncorrelated and of unit
variance, turned at random (Sakov & Oke 2008, doi:10.1175/2007MWR2021.1): so mean and covariance are met exactly. With a
random turn any square root of A^-1 gives the same law of ensembles, and that of Cholesky is fastest.

Windows that are observed at the same times meet the same random numbers: results depend neither on the other windows
nor on how Dask cuts them, and windows are compared on equal terms.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.assimilate.method import Moments, stream
from nida_kit.assimilate.sequential import (
    CPU,
    DOUBLE,
    Cycle,
    Sequential,
    by_times,
    check_finite,
    count,
    cycles,
    noise,
    observed_times,
    positive,
    through,
)
from nida_kit.gaussian import gaspari_cohn
from nida_kit.observe import Observations
from nida_kit.simulate import System, as_system

Keep = Callable[[Float[Tensor, "W N n"]], Tensor]
"""What is kept of an ensemble."""


def moments_of(E: Float[Tensor, "W N n"]) -> Float[Tensor, "W two n"]:
    """Mean and standard deviation."""
    return torch.stack([E.mean(-2), deviations(E).square().sum(-2).sqrt()], -2)


@lru_cache
def directions(members: int) -> Float[Tensor, "N m"]:
    """Orthonormal columns, m = N - 1, each of sum 0: what N members can differ by."""
    ones = torch.ones(members, 1, dtype=DOUBLE)
    return torch.linalg.qr(torch.cat([ones, torch.eye(members, dtype=DOUBLE)[:, 1:]], 1)).Q[:, 1:].contiguous()


def deviations(E: Float[Tensor, "*batch N n"]) -> Float[Tensor, "*batch m n"]:
    """S, with S' S the sample covariance."""
    return directions(E.shape[-2]).mT @ E / math.sqrt(E.shape[-2] - 1)


def turned(members: int, generator: torch.Generator) -> Float[Tensor, "N m"]:
    """Noise of N members with mean exactly 0 and covariance exactly I, turned at random (Haar)."""
    Q, R = torch.linalg.qr(torch.randn(members - 1, members - 1, generator=generator, dtype=DOUBLE))
    return math.sqrt(members - 1) * directions(members) @ (Q * R.diagonal().sign())


def weights(
    Y: Float[Tensor, "*batch m p"], R: Float[Tensor, "*#batch one p"], innovation: Float[Tensor, "*batch r p"]
) -> tuple[Float[Tensor, "*batch r m"], Float[Tensor, "*batch m m"]]:
    """Mean of the weights for each of r innovations, NaN where not observed, and the lower Cholesky factor of A."""
    weighted = Y * torch.where(innovation[..., :1, :].isnan(), 0.0, 1 / R)
    lower = _root(torch.eye(Y.shape[-2]).to(Y) + weighted @ Y.mT)
    pull = weighted @ innovation.nan_to_num(nan=0.0).mT
    return torch.cholesky_solve(pull, lower).mT, lower


def _root(A: Float[Tensor, "*batch m m"]) -> Float[Tensor, "*batch m m"]:
    """Lower Cholesky factor.

    Raises:
        ValueError: members so far apart that double precision cannot tell A from a singular matrix.
    """
    lower, info = torch.linalg.cholesky_ex(A)
    if info.any():  # also where A holds NaN
        raise ValueError(
            "The members of an ensemble have run apart beyond double precision: the method has lost the truth there. "
            "Try a shorter lag, more members, another inflation, or a shorter longest_substep of the system."
        )
    return lower


def seen_by(E: Float[Tensor, "*batch N n"], here: Observations) -> Float[Tensor, "*batch N p"]:
    """H of each member, 0 where nothing was observed.

    Raises:
        ValueError: an operator that does not fit, or has no finite value where something was observed.
    """
    seen = here.predicted(E).where(~here.value.isnan(), 0.0)
    if not seen.isfinite().all():
        raise ValueError(
            "The operator gives NaN or infinite values for some members, where something was observed: use one that is "
            "defined for all states (x.clamp(min=...) before a log). Or the members have run apart: try more of them, "
            "another inflation, or a shorter longest_substep of the system."
        )
    return seen


def combined(W: Float[Tensor, "*#batch N m"], E: Float[Tensor, "*batch N n"]) -> Float[Tensor, "*batch N n"]:
    """The ensemble whose members have these weights in another one."""
    return E.mean(-2, keepdim=True) + W @ deviations(E)


def inflated(E: Float[Tensor, "*batch N n"], factor: float) -> Float[Tensor, "*batch N n"]:
    """The same mean, and deviations larger by a factor."""
    return E if factor == 1 else torch.lerp(E.mean(-2, keepdim=True).expand_as(E), E, factor)


class _Ensemble(Sequential):
    """What ensemble methods share: their members, and their walk through time."""

    def __init__(self, system: System, members: int, inflation: float, seed: int, model_noise_std=0.0, **settings):
        self.members, self.inflation = count("members", members, 2), positive("inflation", inflation)
        self.noise_std = noise(model_noise_std, len(as_system(system).labels.components))
        self.seed = count("seed", seed, 0)
        own = {"members": self.members, "inflation": self.inflation, "seed": self.seed}
        super().__init__(system, **own, model_noise_std=self.noise_std.tolist(), **settings)

    @abstractmethod
    def ensembles(self, observations: Observations, dt: float, keep: Keep) -> dict[str, list[Tensor]]:
        """What is kept of each time's ensembles: of the `forecast`, the `analysis`, and what is `smoothed`, if any."""

    def walk(self, observations, dt):
        kept = {name: torch.stack(x, 1) for name, x in self.ensembles(observations, dt, moments_of).items()}
        return {name: Moments(*x.unbind(-2)) for name, x in kept.items()}

    def draw(self, observations, dt, first_guess, noise):
        """Members picked at random, with replacement; of a filter, those of each time's analysis."""
        size, (lead, T, n) = noise.shape[1], (noise.shape[2:-2], *noise.shape[-2:])
        uniform = torch.special.ndtr(noise[0, ..., 0, 0]).reshape(size, -1)
        picked = (uniform * self.members).long().clamp(max=self.members - 1)
        drawn = noise.new_empty(size, math.prod(lead), T, n)
        for index, windows in by_times(observations):
            found = self.ensembles(windows, dt, lambda E: E)
            members = torch.stack(found.get("smoothed") or found["analysis"], 2)  # (W, N, T, n)
            which = picked[:, index].mT[..., None, None].expand(-1, -1, T, n)
            drawn[:, index] = members.take_along_dim(which, 1).transpose(0, 1)
        check_finite(drawn)
        return drawn.reshape(noise.shape[1:])

    def first(self, windows: int, generator: torch.Generator) -> Float[Tensor, "W N n"]:
        """Members of the system's start law, the same for all windows."""
        return self.system.start(self.members, generator, DOUBLE, CPU).expand(windows, -1, -1)

    def forecast(self, E: Float[Tensor, "W N n"], dt: float, generator: torch.Generator) -> Float[Tensor, "W N n"]:
        """The members one time step later."""
        E = self.system.step(E, dt)
        if self.noise_std.any():
            E = E + self.noise_std * torch.randn(E.shape[-2:], generator=generator, dtype=DOUBLE)
        return E


class EnKF(_Ensemble):
    """The ensemble Kalman filter (Evensen 1994, doi:10.1029/94JC00572).

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        model_noise_std: of the model error per step, per component or one for all, in state units; may be 0.
        members: N.
        inflation: factor on the deviations after each analysis, against the sampling error of few members.
        perturbed: whether members are analysed one by one, each with an observation error of its own drawn for it
            (Burgers, van Leeuwen & Evensen 1998); otherwise by the square root with a random turn.
        finite_size: whether inflation is found in each analysis instead, as the most probable one if the forecast's
            mean and covariance are only known from N members (EnKF-N, Bocquet, Raanes & Hannart 2015,
            doi:10.5194/npg-22-645-2015); to 1%.
        seed: of all random numbers.

    Raises:
        ValueError: counts or factors out of range, or both ways of inflation.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        members: int = 20,
        inflation: float = 1.0,
        perturbed: bool = False,
        finite_size: bool = False,
        seed: int = 0,
    ):
        if not isinstance(perturbed, bool) or not isinstance(finite_size, bool):
            raise ValueError(f"{perturbed=} and {finite_size=} must be True or False.")
        if finite_size and (inflation != 1 or perturbed):
            raise ValueError(f"finite_size finds the inflation of a square root filter: {inflation=}, {perturbed=}.")
        self.perturbed, self.finite_size = perturbed, finite_size
        own = {"perturbed": int(perturbed), "finite_size": int(finite_size)}  # NetCDF knows no booleans
        super().__init__(system, members, inflation, seed, model_noise_std, **own)

    def ensembles(self, observations, dt, keep):
        generator = stream(self.seed)
        E, forecast, analysis = self.first(len(observations.value), generator), [], []
        for t in range(observations.value.shape[-2]):
            if t:
                E = self.forecast(E, dt, generator)
            forecast.append(keep(E))
            here = observations.at(t)
            if not here.value.isnan().all():
                E = self.analysed(E, here, generator)
            analysis.append(keep(E))
        return {"forecast": forecast, "analysis": analysis}

    def analysed(self, E: Float[Tensor, "W N n"], here: Observations, generator: torch.Generator) -> Tensor:
        """The members after the analysis."""
        return inflated(combined(self.weights(E, here, generator), E), self.inflation)

    def weights(
        self, E: Float[Tensor, "W N n"], here: Observations, generator: torch.Generator
    ) -> Float[Tensor, "W N m"]:
        """Of the members after the analysis, before inflation."""
        seen, y, R = seen_by(E, here), here.value, here.noise_std.square()
        Y, innovation = deviations(seen), y - seen.mean(-2, keepdim=True)
        if self.perturbed:
            errors = torch.randn(self.members, y.shape[-1], generator=generator, dtype=DOUBLE)
            errors = (errors - errors.mean(0)) * here.noise_std
            return math.sqrt(self.members - 1) * directions(self.members) + weights(Y, R, y + errors - seen)[0]
        factor = finite_size_inflation(Y, R, innovation, self.members) if self.finite_size else 1.0
        mean, lower = weights(factor * Y, R, innovation)
        around = torch.linalg.solve_triangular(lower, turned(self.members, generator), upper=False, left=False)
        return factor * (mean + around)


def finite_size_inflation(
    Y: Float[Tensor, "W m p"], R: Float[Tensor, "W one p"], innovation: Float[Tensor, "W one p"], members: int
) -> Float[Tensor, "W one one"]:
    """The factor l on the deviations that minimises the dual cost of EnKF-N.

        d' (l^2 Y' Y + R)^-1 d + (N + 1) (N - 1) / (N l^2) + 2 N log l

    The first term is computed in the eigenvectors of Y R^-1 Y', the minimum on a grid of steps of 1%, from
    0.5 to 20.
    """
    weighted = Y * torch.where(innovation.isnan(), 0.0, R.rsqrt())
    d = torch.where(innovation.isnan(), 0.0, innovation * R.rsqrt())
    values, vectors = torch.linalg.eigh(weighted @ weighted.mT)
    seen = (vectors.mT @ weighted @ d.mT).square()  # (d' of each eigenvector)^2 times its value
    factor = torch.exp(torch.arange(-0.7, 3.0, 0.01, dtype=DOUBLE))
    # d' (1 + l^2 Y' Y)^-1 d = d' d - sum l^2 seen / (1 + l^2 values)
    gained = (factor**2 * seen / (1 + factor**2 * values.clamp(min=0).unsqueeze(-1))).sum(-2)
    cost = -gained + (members + 1) * (members - 1) / members / factor**2 + 2 * members * factor.log()
    return factor[cost.argmin(-1)][..., None, None]


class EnKS(EnKF):
    """The ensemble Kalman smoother: each analysis' weights act on the members' past as well (Evensen 2003).

    Args:
        lag: how many analyses act on a time, its own not counted; None is all.
        system, model_noise_std, members, inflation, perturbed, finite_size, seed: as for `EnKF`, whose results
            `forecast` and `analysis` are part of its own.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        lag: int | None = None,
        members: int = 20,
        inflation: float = 1.0,
        perturbed: bool = False,
        finite_size: bool = False,
        seed: int = 0,
    ):
        own = {"members": members, "inflation": inflation, "perturbed": perturbed, "finite_size": finite_size}
        super().__init__(system, model_noise_std, **own, seed=seed)
        self.lag = None if lag is None else count("lag", lag, 0)
        self.settings["lag"] = "all" if lag is None else self.lag

    def ensembles(self, observations, dt, keep):
        generator = stream(self.seed)
        E = self.first(len(observations.value), generator)
        found: dict[str, list[Tensor]] = {"forecast": [], "analysis": [], "smoothed": []}
        past: list[Tensor] = []  # ensembles that may still change
        starts: list[int] = []  # how many of them are from before each recent analysis
        for t in range(observations.value.shape[-2]):
            if t:
                E = self.forecast(E, dt, generator)
            found["forecast"].append(keep(E))
            here = observations.at(t)
            if not here.value.isnan().all():
                if self.lag is not None and len(starts) > self.lag:
                    done = starts.pop(0)
                    found["smoothed"] += [keep(x) for x in past[:done]]
                    past, starts = past[done:], [s - done for s in starts]
                W = self.weights(E, here, generator)
                if past:
                    past = list(combined(W, torch.stack(past)))
                E = combined(W, E)
                past.append(E)
                starts.append(len(past))
                E = inflated(E, self.inflation)
            else:
                past.append(E)
            found["analysis"].append(keep(E))
        found["smoothed"] += [keep(x) for x in past]
        return found


class LETKF(EnKF):
    """The local ensemble transform Kalman filter (Hunt, Kostelich & Szunyogh 2007, doi:10.1016/j.physd.2006.11.008).

    Every component has weights of its own, from observations that count the less the farther away they are: as if
    their error variance grew by 1 / taper. So few members do for a large state. The random turn is the same
    everywhere, and the weights change smoothly from component to component.

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        model_noise_std: as for `EnKF`.
        radius: of localisation: the taper of `gaspari_cohn`, in units of `distances`.
        distances: from each component to each observed value, `(n, p)`; None asks the system, which `nk.Lorenz96`
            answers: sites along the ring.
        members, inflation, seed: as for `EnKF`.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        radius: float = 4.0,
        distances=None,
        members: int = 10,
        inflation: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(system, model_noise_std, members=members, inflation=inflation, seed=seed)
        try:
            distances = system.distances() if distances is None else torch.as_tensor(distances, dtype=DOUBLE)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"distances={distances!r} must be a matrix of numbers: {error}") from error
        n = len(self.labels.components)
        if distances.ndim != 2 or len(distances) != n:
            raise ValueError(
                f"distances must be a matrix (component, observed value) of {n} rows, not {tuple(distances.shape)}."
            )
        if not (distances >= 0).all():
            raise ValueError("distances holds NaN or negative values: give how far apart things are.")
        self.taper = gaspari_cohn(distances, positive("radius", radius))
        self.settings["radius"] = float(radius)

    def analysed(self, E, here, generator):
        seen, R = seen_by(E, here), here.noise_std.square()
        if seen.shape[-1] != self.taper.shape[-1]:
            raise ValueError(
                f"There are {seen.shape[-1]} observed values per time and distances to {self.taper.shape[-1]}: give "
                "distances= (component, observed value) for this operator."
            )
        innovation = here.value - seen.mean(-2, keepdim=True)
        weight = torch.where(innovation.isnan(), 0.0, 1 / R).mT
        Y, m = deviations(seen).mT, self.members - 1  # (W, p, m)
        # Products of all pairs of deviations, summed over the observations by every taper at once.
        pairs = (Y.unsqueeze(-1) * (Y * weight).unsqueeze(-2)).flatten(-2)
        lower = _root((self.taper @ pairs).unflatten(-1, (m, m)) + torch.eye(m, dtype=DOUBLE))
        pull = self.taper @ (Y * (weight * innovation.nan_to_num(nan=0.0).mT))
        # Members are mean + (turn + z') v with z = L^-1 pull and v = L^-1 S of each component.
        z, v = torch.linalg.solve_triangular(lower, torch.stack([pull, deviations(E).mT], -1), upper=False).unbind(-1)
        moved = (v @ turned(self.members, generator).mT + (z * v).sum(-1, keepdim=True)).mT
        return inflated(E.mean(-2, keepdim=True) + moved, self.inflation)


class IEnKS(_Ensemble):
    """The iterative ensemble Kalman smoother (Bocquet & Sakov 2014, doi:10.1002/qj.2236): 4D-Var by an ensemble.

    Gauss-Newton steps in the weights of the ensemble at the start of a window, from which the full, noise-free model
    leads to the observations; each is the loop's update, linearised by the ensemble around the current estimate. A
    window begins `lag` observed times before the one whose observations it uses, and ends there, so all are used once.

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        lag: of the windows, in observed times; None takes all observations at once, from the first state on.
        members, inflation, seed: as for `EnKF`.
        iterations: Gauss-Newton steps at most.
        tolerance: a window whose weights change by less has converged.
    """

    def __init__(
        self,
        system: System,
        *,
        lag: int | None = 1,
        members: int = 20,
        inflation: float = 1.0,
        iterations: int = 10,
        tolerance: float = 1e-3,
        seed: int = 0,
    ):
        self.lag = None if lag is None else count("lag", lag, 1)
        self.iterations, self.tolerance = count("iterations", iterations, 1), positive("tolerance", tolerance)
        own = {"lag": "all" if lag is None else self.lag, "max_iterations": self.iterations}
        super().__init__(system, members, inflation, seed, **own, tolerance=self.tolerance)

    def ensembles(self, observations, dt, keep):
        generator = stream(self.seed)
        E = self.first(len(observations.value), generator)

        def analyse(cycle: Cycle) -> tuple[list[Tensor], list[Tensor]]:
            nonlocal E
            before = path = self.path(E, cycle.end - cycle.begin, dt)
            if cycle.used:
                W = self.solved(E, before, cycle, observations, dt, generator)
                path = self.path(combined(W, E), cycle.end - cycle.begin, dt)
            if cycle.following <= cycle.end:
                E = inflated(path[cycle.following - cycle.begin], self.inflation)
            return [keep(x) for x in before], [keep(x) for x in path]

        windows = cycles(observed_times(observations), self.lag, observations.value.shape[-2])
        return through(windows, self.lag is None, analyse)

    def path(self, E: Float[Tensor, "W N n"], steps: int, dt: float) -> list[Float[Tensor, "W N n"]]:
        """The members now and at each of the next steps."""
        states = [E]
        for _ in range(steps):
            states.append(self.system.step(states[-1], dt))
        return states

    def solved(
        self,
        E: Float[Tensor, "W N n"],
        path: list[Float[Tensor, "W N n"]],
        cycle: Cycle,
        observations: Observations,
        dt: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "W N m"]:
        """Weights of the members at the window's start, given what is observed later; `path` is where E leads."""
        here = [observations.at(t) for t in cycle.used]
        y = torch.cat([o.value for o in here], -1)
        R = torch.cat([o.noise_std.square() for o in here], -1)
        m, one = self.members - 1, torch.eye(self.members - 1, dtype=DOUBLE)
        mean, lower = E.new_zeros(len(E), 1, m), one.expand(len(E), m, m)
        moving = torch.ones(len(E), dtype=torch.bool)
        still = math.sqrt(m) * directions(self.members)
        for step in range(self.iterations):
            if step:
                around = torch.linalg.solve_triangular(lower, still, upper=False, left=False)
                path = self.path(combined(mean + around, E), cycle.used[-1] - cycle.begin, dt)
            seen = [seen_by(path[t - cycle.begin], o) for o, t in zip(here, cycle.used, strict=True)]
            seen = torch.cat(seen, -1)
            Y = lower @ deviations(seen)  # as if the deviations had not shrunk
            to, root = weights(Y, R, y - seen.mean(-2, keepdim=True) + mean @ Y)
            change = (to - mean).abs().amax((-2, -1))
            # Each window stops by itself, so that its result does not depend on the others.
            stays = ~moving[:, None, None]
            mean, lower = mean.where(stays, to), lower.where(stays, root)
            moving = moving & (change > self.tolerance)
            if not moving.any():
                break
        turn = turned(self.members, generator)
        return mean + torch.linalg.solve_triangular(lower, turn, upper=False, left=False)
