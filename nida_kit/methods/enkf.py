"""The ensemble Kalman filter and smoother: every analysis gives each member weights of its own.

    forecast    x_t^i = M(x_{t-1}^i) + e^i,  e^i ~ N(0, Q)
    analysis    x^i   = m + w^i S,  the w^i draws from N(A^-1 Y d, A^-1),  A = I + Y Y',  d = R^-1/2 (y - h(m))

m and S are mean and deviations of the forecast, Y the whitened deviations of what is observed of it (see `ensemble`).
The draws are deterministic up to a random rotation, or stochastic, by perturbed observations. The smoother applies the
same weights to the members' past.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.methods.ensemble import (
    Ensemble,
    combined,
    deviations,
    directions,
    inflated,
    rotated_noise,
    weights,
    whitened,
)
from nida_kit.methods.method import stream
from nida_kit.methods.sequential import DOUBLE, stops
from nida_kit.observing.observations import Observations
from nida_kit.systems.system import System


class EnKF(Ensemble):
    """The ensemble Kalman filter (Evensen 1994, doi:10.1029/94JC00572).

    >>> import nida_kit as nk
    >>> system = nk.Lorenz63()
    >>> truth = system.simulate(samples=1, steps=40, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=1.0, seed=1)
    >>> result = nk.EnKF(system, members=20).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 3.0)  # the climatology has 8.6
    True

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        model_noise_std: of the model error per step, per component or one for all, in state units; may be 0.
        model_noise_covariance: Q `(n, n)`, in place of model_noise_std.
        members: N.
        inflation: factor on the deviations after each analysis, against the sampling error of few members.
        perturbed: whether members are analysed one by one, each with an observation error of its own drawn for it
            (Burgers, van Leeuwen & Evensen 1998); otherwise by the square root with a random rotation.
        finite_size: whether inflation is found in each analysis instead, as the most probable one if the forecast's
            mean and covariance are only known from N members (EnKF-N, Bocquet, Raanes & Hannart 2015,
            doi:10.5194/npg-22-645-2015); to 1%.
        hyperprior: how many times as sure as theirs the prior of that inflation is that none is needed; 1.5 or 2 suits
            members of a deterministic model, which have less sampling error than random ones.
        seed: of all random numbers.
        dtype: in which the model runs, torch.float64 or torch.float32, which may take half the time; all else is in
            float64.

    Raises:
        ValueError: counts or factors out of range, or both ways of inflation.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        model_noise_covariance=None,
        members: int = 20,
        inflation: float = 1.0,
        perturbed: bool = False,
        finite_size: bool = False,
        hyperprior: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = DOUBLE,
    ):
        self.perturbed, self.finite_size = checks.flag("perturbed", perturbed), checks.flag("finite_size", finite_size)
        self.hyperprior = checks.positive("hyperprior", hyperprior)
        settings = {"perturbed": int(self.perturbed), "finite_size": int(self.finite_size)}  # NetCDF knows no booleans
        settings |= {"hyperprior": self.hyperprior} if self.finite_size else {}
        Q = model_noise_std, model_noise_covariance
        super().__init__(system, members, inflation, seed, dtype, Q, **settings)
        if self.finite_size and (self.inflation != 1 or self.perturbed):
            raise ValueError(
                f"finite_size=True finds the inflation of a square root filter, but {inflation=} and {perturbed=} are "
                "given: leave them out, or finite_size."
            )
        if self.hyperprior != 1 and not self.finite_size:
            raise ValueError(f"{hyperprior=} is of the inflation that finite_size=True finds: give that, too.")

    def ensembles(self, observations, dt, keep):
        generator = stream(self.seed)
        E = self.first_inside(observations, dt, generator)
        forecast, analysis = [*keep(E.unsqueeze(0))], []
        for t, observed in stops(observations):
            while len(forecast) <= t:
                states, _ = self.forecasts_inside(E, dt, observations.times, len(forecast), t, generator)
                forecast += keep(states)
                E = states[-1]
            analysis += forecast[len(analysis) :]
            if observed:
                here = observations.at(t)
                E, _ = self.seen_inside(E, here, t)
                E = self.analysed(E, here, generator)
                analysis[-1:] = keep(E.unsqueeze(0))
        return {"forecast": forecast, "analysis": analysis}

    def analysed(self, E: Float[Tensor, "W N n"], here: Observations, generator: torch.Generator) -> Tensor:
        """The members after the analysis."""
        return inflated(combined(self.weights(E, here, generator), E), self.inflation)

    def weights(
        self, E: Float[Tensor, "W N n"], here: Observations, generator: torch.Generator
    ) -> Float[Tensor, "W N m"]:
        """Of the members after the analysis, before inflation."""
        seen, y = whitened(E, here)
        Y, innovation = deviations(seen), y - seen.mean(-2, keepdim=True)
        if self.perturbed:
            errors = torch.randn(self.members, y.shape[-1], generator=generator, dtype=DOUBLE)
            # What is missing takes its errors with it, so they are whitened again.
            errors = here.whiten(here.colour(errors - errors.mean(0)))
            return math.sqrt(self.members - 1) * directions(self.members) + weights(Y, y + errors - seen)[0]
        factor = 1.0
        if self.finite_size:
            factor = finite_size_inflation(Y @ Y.mT, (Y @ innovation.mT).squeeze(-1), self.members, self.hyperprior)
            factor = factor[..., None]
        mean, lower = weights(factor * Y, innovation)
        around = torch.linalg.solve_triangular(lower, rotated_noise(self.members, generator), upper=False, left=False)
        return factor * (mean + around)


def finite_size_inflation(
    products: Float[Tensor, "*batch m m"], pull: Float[Tensor, "*batch m"], members: int, hyperprior: float = 1.0
) -> Float[Tensor, "*batch one"]:
    """The factor l on the deviations that minimises the dual cost of EnKF-N, for whitened Y and innovation d.

        d' (l^2 Y' Y + I)^-1 d + h ((N + 1) (N - 1) / (N l^2) + 2 N log l)

    The first term is computed in the eigenvectors of Y Y', the minimum on a grid of steps of 10%, from 0.5 to 20, then
    of 1% about it.

    Args:
        products: Y Y'.
        pull: Y d.
        members: N.
        hyperprior: h.
    """
    values, vectors = torch.linalg.eigh(products)
    values, seen = values.clamp(min=0), (vectors.mT @ pull.unsqueeze(-1)).squeeze(-1).square()

    def best(logs: Float[Tensor, "*#batch K"]) -> Float[Tensor, "*batch one"]:
        """The one of least cost."""
        shrunk = torch.exp(-2 * logs).unsqueeze(-1)
        # d' (1 + l^2 Y' Y)^-1 d = d' d - sum seen / (1 / l^2 + values), of each eigenvector
        gained = (seen.unsqueeze(-2) / (shrunk + values.unsqueeze(-2))).sum(-1)
        doubt = (members + 1) * (members - 1) / members * shrunk.squeeze(-1) + 2 * members * logs
        cost = hyperprior * doubt - gained
        return logs.expand_as(cost).gather(-1, cost.argmin(-1, keepdim=True))

    steps = torch.arange(10, dtype=DOUBLE) / 100
    coarse = best(torch.arange(-7, 31, dtype=DOUBLE) / 10)
    return best(torch.cat([coarse - steps.flip(-1), coarse + steps[1:]], -1)).exp()


class EnKS(EnKF):
    """The ensemble Kalman smoother: each analysis' weights act on the members' past as well (Evensen 2003).

    >>> import nida_kit as nk
    >>> system = nk.Lorenz63()
    >>> truth = system.simulate(samples=1, steps=40, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=1.0, seed=1)
    >>> result = nk.EnKS(system, members=20).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 3.0)  # the climatology has 8.6
    True

    Args:
        lag: how many analyses act on a time, its own (or between two, the next) not counted; None is all, 0 the filter.
        others: as for `EnKF`, whose results `forecast` and `analysis` are part of its own.
    """

    def __init__(
        self,
        system: System,
        model_noise_std=0.0,
        *,
        model_noise_covariance=None,
        lag: int | None = None,
        members: int = 20,
        inflation: float = 1.0,
        perturbed: bool = False,
        finite_size: bool = False,
        hyperprior: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = DOUBLE,
    ):
        super().__init__(
            system,
            model_noise_std,
            model_noise_covariance=model_noise_covariance,
            members=members,
            inflation=inflation,
            perturbed=perturbed,
            finite_size=finite_size,
            hyperprior=hyperprior,
            seed=seed,
            dtype=dtype,
        )
        self.lag = None if lag is None else checks.count("lag", lag, 0)
        self.settings["lag"] = "all" if lag is None else self.lag

    def ensembles(self, observations, dt, keep):
        generator = stream(self.seed)
        E = self.first_inside(observations, dt, generator)

        def kept(past: list[Tensor]) -> Sequence:
            return keep(torch.stack(past)) if past else []

        forecast, analysis, smoothed = [*keep(E.unsqueeze(0))], [], []
        past = [E]  # ensembles that may still change, up to this one
        starts: list[int] = []  # how many of them are from before each recent analysis
        for t, observed in stops(observations):
            while len(forecast) <= t:
                states, changed = self.forecasts_inside(E, dt, observations.times, len(forecast), t, generator)
                forecast += keep(states)
                E = states[-1]
                past = [*_followed([*past, *states[:-1]], changed), E]
            analysis += forecast[len(analysis) :]
            if not observed:
                continue
            here, past = observations.at(t), past[:-1]
            if self.lag == 0:  # the filter: no analysis acts on earlier times
                smoothed += kept(past)
                past, starts = [], []
            elif self.lag is not None and len(starts) > self.lag:
                done = starts.pop(0)
                smoothed += kept(past[:done])
                past, starts = past[done:], [s - done for s in starts]
            E, changed = self.seen_inside(E, here, t)
            past = _followed(past, changed)
            W = self.weights(E, here, generator)
            if past:
                past = list(combined(W, torch.stack(past)))
            E = combined(W, E)
            past.append(E)
            starts.append(len(past))
            E = inflated(E, self.inflation)
            analysis[-1:] = keep(E.unsqueeze(0))
        return {"forecast": forecast, "analysis": analysis, "smoothed": [*smoothed, *kept(past)]}


def _followed(past: list[Float[Tensor, "W N n"]], W: Float[Tensor, "W N N"] | None) -> list[Float[Tensor, "W N n"]]:
    """The past of members that were redrawn is made of the others' pasts in the same way."""
    return past if W is None else [W @ x for x in past]
