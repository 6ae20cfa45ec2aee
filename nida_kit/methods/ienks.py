"""The iterative ensemble Kalman smoother: 4D-Var whose derivatives are differences between members.

    cost(w) = 1/2 |w|^2 + 1/2 sum_t |y_t - h(M_t(m + w S))|^2_R

Gauss-Newton steps in the weights w of the ensemble at the start of a window; the members, moved to the current
estimate, say how what is observed depends on w. The model is exact. Each time is whitened by itself; a whole window
(no lag) at once, so that its errors may be correlated in time, and its operator may be one over the window. For w, S
and m see `ensemble` (also for members that leave the domain within a window), for windows with a lag `cycling`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks, notes
from nida_kit.methods.cycling import Cycle, analyse_windows, cycles
from nida_kit.methods.ensemble import (
    STRAYS,
    Ensemble,
    combined,
    deviations,
    directions,
    inflated,
    rotated_noise,
    weights,
)
from nida_kit.methods.method import stream
from nida_kit.methods.sequential import (
    DOUBLE,
    check_finite,
    check_operator,
    for_members,
    observed_times,
    refuse_whole_windows,
)
from nida_kit.observing.observations import Observations
from nida_kit.systems.system import System


class IEnKS(Ensemble):
    """The iterative ensemble Kalman smoother (Bocquet & Sakov 2014, doi:10.1002/qj.2236): 4D-Var by an ensemble.

    >>> import nida_kit as nk
    >>> system = nk.Lorenz63()
    >>> truth = system.simulate(samples=1, steps=40, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=1.0, seed=1)
    >>> result = nk.IEnKS(system, members=10).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 3.0)  # the climatology has 8.6
    True

    Gauss-Newton steps in the weights of the ensemble at the start of a window, from which the full, noise-free model
    leads to the observations; each is the loop's update, linearised by the ensemble around the current estimate. A
    window begins `lag` observed times before the one whose observations it uses, and ends there, so all are used once.

    Args:
        system: an `nk.System`; the first members are draws of its `start`.
        lag: of the windows, in observed times; None takes all observations at once, from the first state on.
        members, inflation, seed, dtype: as for `EnKF`.
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
        dtype: torch.dtype = DOUBLE,
    ):
        self.lag = None if lag is None else checks.count("lag", lag, 1)
        self.iterations = checks.count("iterations", iterations, 1)
        self.tolerance = checks.positive("tolerance", tolerance)
        settings = {"lag": "all" if lag is None else self.lag, "max_iterations": self.iterations}
        super().__init__(system, members, inflation, seed, dtype, **settings, tolerance=self.tolerance)

    def ensembles(self, observations, dt, keep):
        generator = stream(self.seed)
        E = self.first(len(observations.value), generator)

        def analyse(cycle: Cycle) -> tuple[list[Tensor], list[Tensor]]:
            nonlocal E
            E, before = self.led(E, cycle, observations, dt, 2 * cycle.begin)
            path = before
            if cycle.used:
                W = self.solved(E, before, cycle, observations, dt, generator)
                _, path = self.led(combined(W, E), cycle, observations, dt, 2 * cycle.begin + 1)
            if cycle.following <= cycle.end:
                E = inflated(path[cycle.following - cycle.begin], self.inflation)
            return keep(before), keep(path)

        windows = cycles(observed_times(observations), self.lag, observations.value.shape[-2])
        return analyse_windows(windows, self.lag is None, analyse)

    def refuse(self, observations):
        (check_operator if self.lag is None else refuse_whole_windows)(observations, self.system)

    def led(
        self, E: Float[Tensor, "W N n"], cycle: Cycle, observations: Observations, dt: float, k: int
    ) -> tuple[Float[Tensor, "W N n"], Float[Tensor, "T W N n"]]:
        """The members now and one step after each time of a window, those that leave the domain on the way redrawn.

        Args:
            E: the members at the window's start.
            cycle: the window.
            observations: whose domain counts, too, where they are used.
            dt: time step.
            k: for random numbers, as in `redrawn`.
        """
        times = observations.times[cycle.begin : cycle.end]

        def stays(path: Tensor) -> Tensor:
            fine = path.isfinite().all(-1).all(0)
            return fine & self.predicted(path, cycle, observations).isfinite().all(-1) if cycle.used else fine

        path = self.path(E, times, dt)
        E, changed = self.redrawn(E, stays(path), lambda E: stays(self.path(E, times, dt)), k)
        return E, path if changed is None else self.path(E, times, dt)

    def path(self, E: Float[Tensor, "W N n"], times: Float[Tensor, " T1"], dt: float) -> Float[Tensor, "T W N n"]:
        """The members now and one step after each of these times."""
        states = [E]
        while len(states) <= len(times):
            states += self.advanced(states[-1], dt, times[len(states) - 1 :])
        return torch.stack(states)

    def used(
        self, path: Float[Tensor, "T W N n"], cycle: Cycle, observations: Observations
    ) -> list[tuple[Tensor, Observations]]:
        """The states of the members at the times whose observations a window uses, and these."""
        if self.lag is None:
            return [(path.movedim(0, -2), for_members(observations))]
        return [(path[t - cycle.begin], observations.at(t)) for t in cycle.used]

    def predicted(
        self, path: Float[Tensor, "T W N n"], cycle: Cycle, observations: Observations
    ) -> Float[Tensor, "W N p"]:
        """What each member says of the observations that a window uses, 0 where there is none."""
        parts = [here.predicted(x).where(here.seen, 0.0) for x, here in self.used(path, cycle, observations)]
        return torch.cat([part.flatten(2) for part in parts], -1)

    def seen(self, path: Float[Tensor, "T W N n"], cycle: Cycle, observations: Observations) -> tuple[Tensor, Tensor]:
        """What each member says of the observations that a window uses, and they themselves, whitened.

        A member that left the domain says what the others say on average, so that it does not count.
        """
        x, y = [], []
        for states, here in self.used(path, cycle, observations):
            h = here.predicted(states).where(here.seen, 0.0)
            fine = h.isfinite().flatten(2).all(-1)
            if not fine.any(-1).all():
                check_finite(h)
            if not fine.all():
                notes.warn(STRAYS, stacklevel=6)
            fine = fine.view(*fine.shape, *[1] * (h.ndim - 2))
            others = h.where(fine, 0.0).sum(1, keepdim=True) / fine.sum(1, keepdim=True)
            x.append(here.whiten(h.where(fine, others)).flatten(2))
            y.append(here.whiten(here.value).flatten(2))
        return torch.cat(x, -1), torch.cat(y, -1)

    def solved(
        self,
        E: Float[Tensor, "W N n"],
        path: Float[Tensor, "T W N n"],
        cycle: Cycle,
        observations: Observations,
        dt: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "W N m"]:
        """Weights of the members at the window's start, given what is observed later; `path` is where E leads."""
        m, one = self.members - 1, torch.eye(self.members - 1, dtype=DOUBLE)
        mean, lower = E.new_zeros(len(E), 1, m), one.expand(len(E), m, m)
        moving = torch.ones(len(E), dtype=torch.bool)
        until = cycle.end if self.lag is None else cycle.used[-1]
        still = math.sqrt(m) * directions(self.members)
        for step in range(self.iterations):
            if step:
                around = torch.linalg.solve_triangular(lower, still, upper=False, left=False)
                path = self.path(combined(mean + around, E), observations.times[cycle.begin : until], dt)
            seen, y = self.seen(path, cycle, observations)
            Y = lower @ deviations(seen)  # as if the deviations had not shrunk
            to, root = weights(Y, y - seen.mean(-2, keepdim=True) + mean @ Y)
            change = (to - mean).abs().amax((-2, -1))
            # Each window stops by itself, so that its result does not depend on the others.
            stays = ~moving[:, None, None]
            mean, lower = mean.where(stays, to), lower.where(stays, root)
            moving = moving & (change > self.tolerance)
            if not moving.any():
                break
        noise = rotated_noise(self.members, generator)
        return mean + torch.linalg.solve_triangular(lower, noise, upper=False, left=False)
