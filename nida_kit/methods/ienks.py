"""Ensemble methods: the covariance is that of N states, which the full model carries along.

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

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.checks import count, positive
from nida_kit.methods.cycling import Cycle, cycles, through
from nida_kit.methods.ensemble import (
    Ensemble,
    combined,
    deviations,
    directions,
    inflated,
    rotated_noise,
    seen_by,
    weights,
)
from nida_kit.methods.method import stream
from nida_kit.methods.sequential import DOUBLE, observed_times
from nida_kit.observing.observations import Observations
from nida_kit.systems.system import System


class IEnKS(Ensemble):
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
        turn = rotated_noise(self.members, generator)
        return mean + torch.linalg.solve_triangular(lower, turn, upper=False, left=False)
