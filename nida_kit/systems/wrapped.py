"""Systems made of others: with another start, or with a field's states folded to vectors.

A wrapper passes on what it does not change: the dynamics, with their time if they depend on it, distances, the check.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
import xarray as xr
from torch.distributions import MultivariateNormal

from nida_kit import checks
from nida_kit.edge import fold, unfold
from nida_kit.state import MEMBER, Labels
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


class Continued(_Wrapped):
    """A system whose trajectories start from members of an ensemble, as those that another one ended with.

    So an ensemble goes on when new data come; its members can be kept in a file meanwhile:

    >>> import nida_kit as nk
    >>> system = nk.Lorenz63()
    >>> truth = system.simulate(samples=1, steps=80, dt=0.05, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=1.0, seed=1)
    >>> old, new = obs.isel(sample=0, time=slice(40)), obs.isel(sample=0, time=slice(40, None))
    >>> last = nk.EnKF(system, members=20).sample(nk.extend(old, 1), samples=20).isel(time=-1)
    >>> going_on = nk.EnKF(nk.Continued(system, last), members=20).assimilate(new)
    >>> float(nk.rmse(going_on["mean"], truth[0, 40:])) < 1.5
    True

    Args:
        system: any.
        members: `(member, component)`, or those of a field, in state units. As many trajectories as there are members
            start from each of them once, others from members picked at random.

    Raises:
        ValueError: members of another state, fewer than two, or values that are not finite.
    """

    def __init__(self, system: System, members):
        super().__init__(system)
        labels = self.labels
        shape = f"(member, {', '.join(labels.dims)}), which is (N, {', '.join(map(str, labels.shape))})"
        if isinstance(members, xr.DataArray):
            members = _of_members(members, labels, shape)
        found = checks.numbers("members", members, shape)
        if found.ndim != 1 + len(labels.shape) or found.shape[1:] != labels.shape or len(found) < 2:
            raise checks.refused("members", members, f"two or more states, {shape}", "Try method.sample(obs, 20).")
        if not found.isfinite().all():
            raise ValueError("members hold NaN or infinite values: drop these members.")
        self.members = found

    def start(self, samples, generator, dtype, device):
        N = len(self.members)
        picked = torch.randint(N, (samples,), generator=generator, device=device).cpu()
        return self.members[slice(None) if samples == N else picked].to(device, dtype)

    def log_start(self, x):
        raise ValueError("Members of an ensemble have no density: give the start as nk.Started(system, mean, std=).")

    def start_moments(self):
        states = fold(self.members, self.shape)
        return states.mean(0), torch.atleast_2d(states.mT.cov())

    def parameters(self):
        return self.system.parameters() | {"start_members": len(self.members)}


def _of_members(members: xr.DataArray, labels: Labels, shape: str) -> xr.DataArray:
    """The members in the state's order."""
    if set(members.dims) != {MEMBER, *labels.dims}:
        raise ValueError(f"members has the dims {members.dims}; select one record and one time, so that it is {shape}.")
    members = members.transpose(MEMBER, *labels.dims)
    for dim, known in labels.indexes.items():
        if dim in members.coords and members[dim].values.tolist() != list(known):
            raise ValueError(f"members has {members[dim].values.tolist()} along {dim!r}; the state has {list(known)}.")
    return members
