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
from numbers import Real

import torch

from nida_kit.systems.system import System, as_system, log_normal


class _Restarted(System):
    """Another system's dynamics, with a start of its own."""

    def __init__(self, system: System):
        self.system, self.labels, self.longest_substep = as_system(system), system.labels, system.longest_substep

    @property
    def name(self):
        return self.system.name

    def tendency(self, x):
        return self.system.tendency(x)

    def step(self, x, dt):
        return self.system.step(x, dt)

    def distances(self):
        return self.system.distances()


class OnAttractor(_Restarted):
    """A system whose trajectories start where others have long been under way.

    Args:
        system: any.
        time: how long its own start is run first and dropped, in the system's time unit; positive.
    """

    def __init__(self, system: System, time: float):
        super().__init__(system)
        if not isinstance(time, Real) or not 0 < time < math.inf:
            raise ValueError(f"{time=} must be positive and finite, in the system's time unit.")
        self.time = float(time)

    def start(self, samples, generator, dtype, device):
        return self.system.step(self.system.start(samples, generator, dtype, device), self.time)

    def parameters(self):
        return self.system.parameters() | {"on_attractor_after": self.time}


class Started(_Restarted):
    """A system whose trajectories start from independent normal components instead.

    Args:
        system: any.
        mean: of the start, per component or one for all, in state units.
        std: its standard deviation, likewise; positive.
    """

    def __init__(self, system: System, mean, std):
        super().__init__(system)
        n = len(self.labels.components)
        try:
            self.mean, self.std = (torch.as_tensor(x, dtype=torch.float64).expand(n) for x in (mean, std))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{mean=} and {std=} must be a number or {n} of them: {error}") from error
        if not (self.mean.isfinite() & self.std.isfinite() & (self.std > 0)).all():
            raise ValueError(f"{mean=} must be finite, and {std=} positive and finite.")

    def start(self, samples, generator, dtype, device):
        noise = torch.randn(samples, len(self.mean), generator=generator, dtype=dtype, device=device)
        return self.mean.to(noise) + self.std.to(noise) * noise

    def log_start(self, x):
        return log_normal(x, self.mean.to(x), self.std.to(x))

    def parameters(self):
        return self.system.parameters() | {"start_mean": self.mean.tolist(), "start_std": self.std.tolist()}
