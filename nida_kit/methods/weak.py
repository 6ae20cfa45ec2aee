"""The methods that are the loop of `incremental` with one prior each."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.descent import descend
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.banded import BlockBanded
from nida_kit.methods.method import stream
from nida_kit.methods.smoothers import PhysicalMethod
from nida_kit.observing.observations import Observations
from nida_kit.priors.physics import Physics
from nida_kit.reconstruction import Reconstruction
from nida_kit.systems.system import System


class WeakFourDVar(PhysicalMethod):
    """Weak-constraint 4D-Var by Gauss-Newton steps (incremental 4D-Var), with Levenberg-Marquardt damping.

    Its result holds each window's `cost` (half the squared whitened residuals of start, model and observations),
    `iterations` and `converged`. It finds a local minimum near the first guess; std is that of the linearised model
    there (Laplace).

    With several starts, it descends from the first guess and from trajectories of the system's own law, model noise
    included, and keeps what has the lowest cost in each window: all of the result is of that `start`, counted from
    0, the first guess. Every window has the same starts, so its result depends on no other, and fewer starts are the
    first of more.

    Args:
        system: an `nk.System`.
        model_noise_std: as for `KalmanSmoother`.
        start_mean, start_std: as for `KalmanSmoother`.
        iterations: at most, from each start.
        damping: the first lambda.
        tolerance: relative fall of the cost that counts as none.
        starts: how many, the first guess included.
        seed: of the other starts.
    """

    stops_early = True

    def __init__(
        self,
        system: System,
        model_noise_std,
        start_mean=None,
        start_std=None,
        *,
        iterations: int = 30,
        damping: float = 1e-2,
        tolerance: float = 1e-6,
        starts: int = 1,
        seed: int = 0,
    ):
        super().__init__(system, model_noise_std, start_mean, start_std)
        if iterations < 1 or damping < 0 or tolerance < 0:
            raise ValueError(f"{iterations=} must be at least 1; {damping=} and {tolerance=} not negative.")
        if not isinstance(starts, Integral) or starts < 1 or not isinstance(seed, Integral):
            raise ValueError(f"{starts=} must be a whole number of at least 1, and {seed=} a whole number.")
        self.steps, self.damping, self.tolerance = iterations, damping, tolerance
        self.settings |= {"max_iterations": iterations, "first_lambda": damping, "tolerance": tolerance}
        self.starts, self.seed = int(starts), int(seed)
        if starts > 1:
            self.settings |= {"starts": self.starts, "seed": self.seed}

    def reconstruct(self, observations, dt, first_guess):
        physics, steps = self.physics(dt), observations.value.shape[-2]
        first_guess = physics.forecast(steps) if first_guess is None else first_guess.to(observations.value)
        first_guess = first_guess.expand(*observations.value.shape[:-1], first_guess.shape[-1])
        if self.starts == 1:
            return descend(physics, observations, first_guess, self.steps, self.damping, self.tolerance)
        starts = [first_guess, *self._drawn(physics, steps)]
        at_once = self._at_once(first_guess)
        best: list[Reconstruction] = []
        for i in range(0, self.starts, at_once):
            some = self._hopeful(starts[i : i + at_once], first_guess, physics, observations)
            found = descend(physics, observations, some, self.steps, self.damping, self.tolerance)
            number = torch.arange(i, i + len(some)).view(-1, *[1] * (some.ndim - 3))
            found.diagnostics["start"] = number.expand_as(found.diagnostics["cost"])
            best = [_lowest(*best, found)]
        return _combined(lambda x: x[0], best[0])

    def _drawn(self, physics: Physics, steps: int) -> Float[Tensor, "starts T n"]:
        """Trajectories of the system's law, all but the first start."""
        generator = stream(self.seed)
        cpu, n = torch.device("cpu"), len(self.labels.components)
        # Each draws its numbers before the next does: fewer starts are the first of more.
        drawn = [
            (
                self.system.start(1, generator, torch.float64, cpu),
                torch.randn(1, steps - 1, n, generator=generator, dtype=torch.float64),
            )
            for _ in range(self.starts - 1)
        ]
        start, noise = (torch.cat(x) for x in zip(*drawn, strict=True))
        states = [start]
        for e in noise.unbind(1):
            states.append(physics.step(states[-1]) + physics.noise_std * e)
        return torch.stack(states, 1)

    def _at_once(self, first_guess: Float[Tensor, "*batch T n"]) -> int:
        """How many starts descend as one batch: all their steps, whose precisions are kept, are to fit in memory."""
        kept = self.steps * first_guess.numel() * 2 * first_guess.shape[-1]
        return max(1, 2**25 // max(1, kept))  # 256 MiB

    def _hopeful(
        self, starts: list[Tensor], first_guess: Tensor, physics: Physics, observations: Observations
    ) -> Float[Tensor, "starts *batch T n"]:
        """Starts for every window; the first guess instead of those that left every bound, which it ties with."""
        x = torch.stack([start.expand_as(first_guess) for start in starts])
        cost, reachable = (physics.misfit(z) + observations.misfit(z) for z in (x, first_guess))
        # Beyond that, double precision cannot tell the linearised model from a singular one.
        lost = ~(cost <= 1e12 * (1 + reachable))
        return torch.where(lost[..., None, None], first_guess, x)


def _combined(function: Callable[..., Tensor], *found: Reconstruction) -> Reconstruction:
    """The reconstruction whose tensors are a function of theirs; a shorter path stands still at its end."""
    longest = max(found, key=lambda f: len(f.posteriors))
    steps = [[f.posteriors[min(k, len(f.posteriors) - 1)] for f in found] for k in range(len(longest.posteriors))]
    return Reconstruction(
        [
            Gaussian(function(*(g.mean for g in step)), BlockBanded(function(*(g.precision.blocks for g in step))))
            for step in steps
        ],
        longest.temperatures,
        function(*(f.first_guess for f in found)),
        {name: function(*(f.diagnostics[name] for f in found)) for name in longest.diagnostics},
    )


def _lowest(*tries: Reconstruction) -> Reconstruction:
    """In each window the one of lowest cost, of several starts along the first axis of each; that axis is kept."""
    winner = torch.cat([t.diagnostics["cost"] for t in tries]).argmin(0, keepdim=True)  # the first of equal ones

    def pick(*x: Tensor) -> Tensor:
        together = torch.cat(x)
        return together.take_along_dim(winner[(..., *[None] * (together.ndim - winner.ndim))], 0)

    return _combined(pick, *tries)
