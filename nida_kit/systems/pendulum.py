"""A damped pendulum, and its linear limit, for which the Kalman smoother is exact."""

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
    """The damped pendulum q'' = -stiffness sin q - damping q' (Blanke et al. 2024); time in seconds.

    >>> import nida_kit as nk
    >>> swing = nk.Pendulum(damping=0.0).simulate(samples=1, steps=50, dt=0.1, seed=0)
    >>> swing["component"].values.tolist()
    ['angle', 'momentum']
    """

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
    """The pendulum for small angles, q'' = -stiffness q - damping q': linear, so the Kalman smoother is exact.

    >>> import nida_kit as nk
    >>> nk.LinearOscillator(damping=0.0).simulate(samples=3, steps=50, dt=0.1, seed=0).sizes
    Frozen({'sample': 3, 'time': 50, 'component': 2})
    """

    stiffness: float = 2.0  # s-2
    damping: float = 0.1  # s-1
    longest_substep: float = 0.1

    labels = _SWING

    def tendency(self, x):
        angle, momentum = x.unbind(-1)
        return torch.stack([momentum, -self.stiffness * angle - self.damping * momentum], -1)

    start = staticmethod(_uniform_angle_and_momentum)
    log_start = staticmethod(_log_uniform_angle_and_momentum)
