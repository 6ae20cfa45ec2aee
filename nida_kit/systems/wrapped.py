"""Systems made of others: with another start, or with a field's states folded to vectors.

A wrapper passes on what it does not change: the dynamics, with their time if they depend on it, distances, the check.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch.distributions import MultivariateNormal

from nida_kit import checks
from nida_kit.edge import fold, unfold
from nida_kit.systems.system import System, checked, log_normal


class _Wrapped(System):
    """Another system's dynamics."""

    def __init__(self, system: System):
        self.system = checked(system)
        self.labels, self.longest_substep = system.labels, system.longest_substep
        self.depends_on_time = system.depends_on_time

    @property
    def name(self):
        return self.system.name

    @property
    def shape(self):
        return self.system.shape

    def tendency(self, x, *t):
        return self.system.tendency(x, *t)

    def step(self, x, dt, t=None):
        return self.system.step(x, dt, t) if self.depends_on_time else self.system.step(x, dt)

    def distances(self):
        return self.system.distances()

    def check(self):
        self.system.check()

    def check_slopes(self):
        self.system.check_slopes()

    def parameters(self):
        return self.system.parameters()


class Folded(_Wrapped):
    """A field as a system of vectors, `(..., n)`."""

    @property
    def shape(self):
        return (self.labels.size,)

    def _unfold(self, x):
        return unfold(x, self.labels.shape)

    def _fold(self, x):
        return fold(x, self.labels.shape)

    def tendency(self, x, *t):
        # The time has an axis for each one of the state.
        t = [each[(..., *[None] * (len(self.labels.shape) - 1))] for each in t]
        return self._fold(self.system.tendency(self._unfold(x), *t))

    def step(self, x, dt, t=None):
        return self._fold(super().step(self._unfold(x), dt, t))

    def start(self, samples, generator, dtype, device):
        return self._fold(self.system.start(samples, generator, dtype, device))

    def log_start(self, x):
        return self.system.log_start(self._unfold(x))

    def start_moments(self):
        return self.system.start_moments()

    def distances(self):
        found = torch.as_tensor(self.system.distances())
        n = self.labels.size
        return found if found.shape == (n, n) else found.reshape(n, n)


class OnAttractor(_Wrapped):
    """A system whose trajectories start where others have long been under way.

    Args:
        system: any.
        time: how long its own start is run first and dropped, in the system's time unit; positive. A tendency that
            depends on time starts that long before 0.
    """

    def __init__(self, system: System, time: float):
        super().__init__(system)
        if not isinstance(time, Real) or not 0 < time < math.inf:
            raise ValueError(f"{time=} must be positive and finite, in the system's time unit.")
        self.time = float(time)

    def start(self, samples, generator, dtype, device):
        return self.step(self.system.start(samples, generator, dtype, device), self.time, -self.time)

    def parameters(self):
        return self.system.parameters() | {"on_attractor_after": self.time}


class Started(_Wrapped):
    """A system whose trajectories start from a normal law instead.

    Args:
        system: any.
        mean: of the start, per component or one for all, in state units; of a field, also an array of its shape.
        std: its standard deviation, likewise, the components being independent; positive.
        covariance: instead of std, of all components, `(n, n)`, n numbers making a state.

    Raises:
        ValueError: both std and covariance, or neither, or what is no mean, standard deviation or covariance.
    """

    def __init__(self, system: System, mean, std=None, covariance=None):
        super().__init__(system)
        if (std is None) == (covariance is None):
            raise ValueError("The start needs std= or covariance=, and not both: each says how far it spreads.")
        labels, full = self.labels, covariance is not None
        if full:
            self.covariance = checks.covariance(covariance, labels.shape, "covariance")
            std = self.covariance.diagonal().sqrt()
        self.mean, self.std = checks.vector("mean", mean, labels.shape), checks.spread(std, labels.shape, "std")
        self.root = torch.linalg.cholesky(self.covariance) if full else None

    def start(self, samples, generator, dtype, device):
        noise = torch.randn(samples, len(self.mean), generator=generator, dtype=dtype, device=device)
        moved = self.std.to(noise) * noise if self.root is None else noise @ self.root.to(noise).mT
        return unfold(self.mean.to(noise) + moved, self.shape)

    def log_start(self, x):
        x = fold(x, self.shape)
        if self.root is None:
            return log_normal(x, self.mean.to(x), self.std.to(x))
        return MultivariateNormal(self.mean.to(x), scale_tril=self.root.to(x), validate_args=False).log_prob(x)

    def start_moments(self):
        return self.mean, torch.diag(self.std.square()) if self.root is None else self.covariance

    def parameters(self):
        own = {"start_mean": self.mean.tolist(), "start_std": self.std.tolist()}
        return self.system.parameters() | own
