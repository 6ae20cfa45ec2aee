"""Systems and their trajectories.

A system is a tendency f in x' = f(x), the labels of its state, and where its trajectories start. A step of length dt is
the classical fourth-order Runge-Kutta scheme (Kutta 1901), cut into equal substeps; model noise, if any, is added
once per step:

    x_{t+1} = M(x_t) + model_noise_std * e_t,    e_t ~ N(0, I).

A system of your own takes ten lines:

>>> import torch, nida_kit as nk
>>> class Rossler(nk.System):
...     labels = nk.StateLabels(("x", "y", "z"), ("1",) * 3, ("x", "y", "z"))
...     longest_substep = 0.05
...     def tendency(self, x):
...         x, y, z = x.unbind(-1)
...         return torch.stack([-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)], -1)
...     def start(self, samples, generator, dtype, device):
...         return torch.randn(samples, 3, generator=generator, dtype=dtype, device=device)
>>> Rossler().simulate(samples=2, steps=10, dt=0.1, seed=0).sizes
Frozen({'sample': 2, 'time': 10, 'component': 3})
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from nida_kit.state import StateLabels
from nida_kit.systems.system import System


def _uniform_angle_and_momentum(samples, generator, dtype, device):
    """Angle within +-3 pi / 4, momentum within +-1 (Blanke et al. 2024)."""
    unit = 2 * torch.rand(samples, 2, generator=generator, dtype=dtype, device=device) - 1
    return unit * torch.tensor([0.75 * math.pi, 1.0], dtype=dtype, device=device)


def _log_uniform_angle_and_momentum(x):
    """Its log density."""
    widest = torch.tensor([0.75 * math.pi, 1.0]).to(x)
    inside = (x.abs() <= widest).all(-1)
    return torch.where(inside, -(2 * widest).log().sum(), -math.inf)


_SWING = StateLabels(("angle", "momentum"), ("rad", "rad s-1"), ("angle", "momentum"), time_units="s")


@dataclass(frozen=True)
class Pendulum(System):
    """The damped pendulum q'' = -stiffness sin q - damping q' (Blanke et al. 2024); time in seconds."""

    stiffness: float = 2.0  # s-2
    damping: float = 0.1  # s-1
    longest_substep: float = 0.1

    labels = _SWING

    def tendency(self, x):
        angle, momentum = x.unbind(-1)
        return torch.stack([momentum, -self.stiffness * angle.sin() - self.damping * momentum], -1)

    start = staticmethod(_uniform_angle_and_momentum)
    log_start = staticmethod(_log_uniform_angle_and_momentum)


@dataclass(frozen=True)
class LinearOscillator(System):
    """The pendulum for small angles, q'' = -stiffness q - damping q': linear, so the Kalman smoother is exact."""

    stiffness: float = 2.0  # s-2
    damping: float = 0.1  # s-1
    longest_substep: float = 0.1

    labels = _SWING

    def tendency(self, x):
        angle, momentum = x.unbind(-1)
        return torch.stack([momentum, -self.stiffness * angle - self.damping * momentum], -1)

    start = staticmethod(_uniform_angle_and_momentum)
    log_start = staticmethod(_log_uniform_angle_and_momentum)
