"""Weak-constraint 4D-Var: the model is a Gaussian guess of the next state, and so is everything else.

    cost(x) = 1/2 |x_1 - b|^2_B  +  1/2 sum_t |x_{t+1} - M(x_t)|^2_Q  +  1/2 sum_t |y_t - h(x_t)|^2_R

A Gauss-Newton step is one step of the loop (`loop.py`) with the prior `Physics`: the Kalman smoother of the model
linearised at the estimate. Damping (Levenberg-Marquardt) makes a descent of it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.methods.sequential import CPU, DOUBLE
from nida_kit.methods.smoothers import PhysicalMethod
from nida_kit.methods.starts import Search
from nida_kit.priors.physics import Physics
from nida_kit.systems.system import System


class WeakFourDVar(PhysicalMethod):
    """Weak-constraint 4D-Var by Gauss-Newton steps (incremental 4D-Var), with Levenberg-Marquardt damping.

    >>> import nida_kit as nk
    >>> system = nk.Pendulum()
    >>> truth = system.simulate(samples=1, steps=30, dt=0.1, seed=0)
    >>> obs = nk.observe(truth, components=["angle"], every=5, noise_std=0.1, seed=1)
    >>> result = nk.WeakFourDVar(system, model_noise_std=0.01).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 0.2)
    True

    Covariances and slopes are written down: for fields of thousands of values take `nk.FieldFourDVar`.

    Its result holds each window's `cost` (half the squared whitened residuals of start, model and observations),
    `iterations`, and whether it has `converged`: whether one more, undamped step would move no value by more than a
    tenth of its standard deviation (`distance` says how far it may). It finds a local minimum near the first guess; std
    is that of the linearised model there (Laplace).

    With several starts, it descends from the first guess and from trajectories of the system's own law, model noise
    included, and keeps what has the lowest cost in each window: all of the result is of that `start`, counted from
    0, the first guess. Every window has the same starts, so its result depends on no other, and fewer starts are the
    first of more.

    Args:
        system: an `nk.System`.
        model_noise_std: as for `KalmanSmoother`.
        start_mean, start_std, model_noise_covariance, start_covariance: as for `KalmanSmoother`.
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
        model_noise_std=None,
        start_mean=None,
        start_std=None,
        *,
        model_noise_covariance=None,
        start_covariance=None,
        iterations: int = 30,
        damping: float = 1e-2,
        tolerance: float = 1e-6,
        starts: int = 1,
        seed: int = 0,
    ):
        own = {"model_noise_covariance": model_noise_covariance, "start_covariance": start_covariance}
        super().__init__(system, model_noise_std, start_mean, start_std, **own)
        self.search = Search(iterations, damping, tolerance, starts, seed)
        self.settings |= self.search.settings

    def estimate(self, observations, dt, first_guess):
        physics, steps = self.physics(dt, observations.times), observations.value.shape[-2]
        first_guess = physics.forecast(steps) if first_guess is None else first_guess
        first_guess = first_guess.expand(*observations.value.shape[:-1], first_guess.shape[-1])
        starts = [first_guess, *(self.drawn(physics, steps) if self.search.starts > 1 else [])]
        return self.search.run(physics, observations, starts)

    def drawn(self, physics: Physics, steps: int) -> Float[Tensor, "starts T n"]:
        """Trajectories of the system's law, all starts but the first."""
        n = self.labels.size

        def one(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            start = self.system.start(1, generator, DOUBLE, CPU)
            return start, torch.randn(1, steps - 1, n, generator=generator, dtype=DOUBLE)

        start, noise = (torch.cat(x) for x in zip(*self.search.draw(one), strict=True))
        states = [start]
        for e in noise.unbind(1):
            states.append(physics.advanced(states[-1], len(states) - 1) + physics.noise.colour(e))
        return torch.stack(states, 1)
