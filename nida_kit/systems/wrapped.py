"""Systems made of others: with another start, in other variables, or with a field's states folded to vectors.

A wrapper passes on what it does not change: the dynamics, with their time if they depend on it, distances, the check.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from numbers import Real

import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from nida_kit import checks, notes
from nida_kit.edge import fold, unfold
from nida_kit.linalg.jacobian import check_slopes, pullback
from nida_kit.notes import recorded
from nida_kit.state import MEMBER, Labels
from nida_kit.systems.system import System, checked, log_normal

TRIED = 1000  # start states on which the functions of other variables are tried
PAIRS = "Give a pair such as torch.log and torch.exp, or torch.logit and torch.sigmoid."


class _Wrapped(System):
    """Another system's dynamics."""

    def __init__(self, system: System):
        self.system = checked(system)
        self.labels, self.longest_substep = system.labels, system.longest_substep

    @property
    def depends_on_time(self):
        return self.system.depends_on_time

    @property
    def steps_arrays(self):
        return self.system.steps_arrays and type(self).step is _Wrapped.step

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

    def in_substeps(self, x, dt, t=None):
        return self.system.in_substeps(x, dt, t)

    def as_observed(self, x):
        return self.system.as_observed(x)

    def as_modelled(self, x, what="a first guess"):
        return self.system.as_modelled(x, what)

    @property
    def transformed(self):
        return self.system.transformed

    @property
    def ring(self):
        return self.system.ring

    def distances(self):
        return self.system.distances()

    def check(self):
        self.system.check()

    def check_slopes(self):
        self.system.check_slopes()

    def _try_tendency(self, x):
        self.system._try_tendency(x)

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

    def in_substeps(self, x, dt, t=None):
        return self._fold(super().in_substeps(self._unfold(x), dt, t))

    def start(self, samples, generator, dtype, device):
        return self._fold(self.system.start(samples, generator, dtype, device))

    def log_start(self, x):
        return self.system.log_start(self._unfold(x))

    def start_moments(self):
        return self.system.start_moments()

    @property
    def drawn_moments(self):  # kept where they last
        return self.system.drawn_moments

    def as_observed(self, x):
        return self._fold(self.system.as_observed(self._unfold(x)))

    def as_modelled(self, x, what="a first guess"):
        return self._fold(self.system.as_modelled(self._unfold(x), what))

    def _try_tendency(self, x):
        self.system._try_tendency(self._unfold(x))

    def distances(self):
        found, n = self.system.distances(), self.labels.size
        if found is None:
            return None
        found = torch.as_tensor(found)
        return found if found.shape == (n, n) else found.reshape(n, n)


class OnAttractor(_Wrapped):
    """A system whose trajectories start where others have long been under way.

    >>> import nida_kit as nk
    >>> system = nk.OnAttractor(nk.Lorenz63(), time=5.0)
    >>> first = system.simulate(samples=200, steps=1, dt=0.05, seed=0).sel(component="z")
    >>> bool(first.min() > 0)  # of its own, the system would start from anywhere within N(25, 10^2)
    True

    Args:
        system: any.
        time: how long its own start is run first and dropped, in the system's time unit; positive. A tendency that
            depends on time starts that long before 0.
        snapshots: of one such run that goes on; starts are picked among them, each once while there are enough. So
            many members of a model that takes long share one run. None runs each start by itself.
        apart: time between two snapshots; None is `time`.

    Raises:
        ValueError: times that are not positive, or snapshots of a tendency that depends on time, which begin at others.
    """

    def __init__(self, system: System, time: float, *, snapshots: int | None = None, apart: float | None = None):
        super().__init__(system)
        if not isinstance(time, Real) or not 0 < time < math.inf:
            raise ValueError(f"{time=} must be positive and finite, in the system's time unit.")
        self.time = float(time)
        self.snapshots = None if snapshots is None else checks.count("snapshots", snapshots, 1)
        self.apart = self.time if apart is None else checks.positive("apart", apart)
        if self.snapshots is None and apart is not None:
            raise ValueError(f"{apart=} is the time between snapshots: say how many, snapshots=100.")
        if self.snapshots is not None and self.depends_on_time:
            raise ValueError(
                f"{snapshots=} of one run are of different times, and the tendency of {self.name} depends on time: "
                "leave snapshots out, so that each start is run by itself."
            )

    def start(self, samples, generator, dtype, device):
        if self.snapshots is None:
            return self.step(self.system.start(samples, generator, dtype, device), self.time, -self.time)
        shuffled = torch.randperm(self.snapshots, generator=generator, device=device).cpu()
        picked = shuffled[torch.arange(samples) % self.snapshots]
        return self._run[picked].to(device, dtype)

    @cached_property
    def _run(self) -> Float[Tensor, "snapshots n"]:
        """The snapshots, the same in each process."""
        with torch.no_grad():
            x = self.system.start(1, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))
            found = [self.step(x, self.time)]
            for _ in range(self.snapshots - 1):
                found.append(self.step(found[-1], self.apart))
        return torch.cat(found)

    def start_moments(self):
        return _moments_inside(self) if self.transformed else None

    def parameters(self):
        own = {"on_attractor_after": self.time}
        own |= {} if self.snapshots is None else {"snapshots": self.snapshots, "snapshots_apart": self.apart}
        return self.system.parameters() | own


class Started(_Wrapped):
    """A system whose trajectories start from a normal law instead.

    >>> import nida_kit as nk
    >>> system = nk.Started(nk.Pendulum(), mean=[1.0, 0.0], std=0.1)
    >>> first = system.simulate(samples=500, steps=1, dt=0.1, seed=0).sel(component="angle")
    >>> round(float(first.mean()), 1)
    1.0

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
        given = {"mean": mean, "std": std, "covariance": covariance}
        mean, std, covariance = (labels.ordered(name, value) for name, value in given.items())
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
        own = {"start_mean": recorded(self.mean), "start_std": recorded(self.std)}
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
        members: `(member, component)`, or those of a field, in state units, as observed. As many trajectories as there
            are members start from each of them once, others from members picked at random.

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
        self.members = self.system.as_modelled(found, "the members")

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
        given = members[dim].values.tolist() if dim in members.coords else list(known)
        if sorted(given) != sorted(known):
            raise ValueError(f"members has {given} along {dim!r}; the state has {list(known)}.")
        members = members.sel({dim: list(known)}) if dim in members.coords else members
    return members


class Transformed(_Wrapped):
    """A system whose model works in z = forward(x), while x is what is observed and reported.

    States that must stay positive are modelled as their logarithm, shares between 0 and 1 as their logit. There every
    number is a state, so that no analysis and no noise leads out of the domain, and errors that grow with the state
    are as in a Gaussian:

        z = log x,    z' = x' / x

    >>> import nida_kit as nk, torch
    >>> class LotkaVolterra(nk.System):
    ...     labels = nk.StateLabels(("hares", "lynxes"), ("1", "1"), ("hares", "lynxes"))
    ...     longest_substep = 0.05
    ...     def tendency(self, x):
    ...         hares, lynxes = x.unbind(-1)
    ...         return torch.stack([hares - 0.5 * hares * lynxes, 0.5 * hares * lynxes - lynxes], -1)
    ...     def start(self, samples, generator, dtype, device):
    ...         return 1 + 2 * torch.rand(samples, 2, generator=generator, dtype=dtype, device=device)
    >>> system = nk.Transformed(LotkaVolterra(), torch.log, torch.exp)
    >>> truth = system.simulate(samples=1, steps=60, dt=0.1, seed=0)  # hares and lynxes, not their logarithms
    >>> obs = nk.observe(truth, every=5, noise_std=0.2, seed=1)
    >>> result = nk.EnKF(system, model_noise_std=0.02, members=50).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 0.1)
    True

    What has to do with observations is in units of x: truth, observations and their errors, operators, first guesses,
    results and draws. What has to do with the model is in units of z: its noise, a method's `background`, `start_mean`
    and `start_std`, the mean and std of `nk.Started` around it. Under a logarithm a model noise of 0.1 is one of a
    tenth of the state.

    A result's `mean` and `std` are those of x. Where a method knows a Gaussian of z (4D-Var, the Kalman smoother and
    filters), they are the moments of the law of x that it makes, value by value: of a logarithm the lognormal law. Of
    ensembles and particles they are those of the members, each taken to x. These laws are not symmetric: intervals are
    better made of draws, `method.sample(obs, 200).quantile([0.05, 0.95], "member")`.

    Args:
        system: any.
        forward: z of x, a torch function with slopes that takes each number of a state by itself.
        inverse: x of z.

    Start states outside the domain of forward are redrawn in ensembles, and weigh nothing as particles; mean and
    covariance of the start are those of the others. A note says how many there are.

    Raises:
        ValueError: functions that fail on most of the system's start states, mix components, do not undo one another,
            or do not reach every number.
    """

    def __init__(self, system: System, forward: Callable[[Tensor], Tensor], inverse: Callable[[Tensor], Tensor]):
        super().__init__(system)
        advice = "Try nk.Transformed(system, torch.log, torch.exp)."
        self.forward = checks.function("forward", forward, advice)
        self.inverse = checks.function("inverse", inverse, advice)
        self._check_functions()

    def _check_functions(self) -> None:
        """Raises ValueError where the functions are no bijection of each component, as far as is seen."""
        x = _draws(self.system, TRIED)
        z = self._tried("forward", self.forward, x, "start states")
        inside = fold(z, self.shape).isfinite().all(-1)
        self._say_outside(x, z, inside)
        x, z = x[inside], z[inside]
        self._check_apart("forward", self.forward, x, z)
        again = self._tried("inverse", self.inverse, z, "forward(x)")
        self._check_apart("inverse", self.inverse, z, again)
        off = ~((again - x).abs() <= 1e-6 * (x.abs() + x.abs().mean()))
        if off.any():
            k = tuple(off.nonzero()[0].tolist())
            raise ValueError(
                f"inverse does not undo forward: of the start state {x[k]:.6g} it makes {again[k]:.6g} (forward gives "
                f"{z[k]:.6g}). {PAIRS}"
            )
        self._check_range(z)
        self._inside = z[:2].clone()

    def _say_outside(self, x: Tensor, z: Tensor, inside: Bool[Tensor, " samples"]) -> None:
        """A note where some start states are outside the domain of forward; a ValueError where most of them are."""
        if inside.all():
            return
        k = tuple((~z.isfinite()).nonzero()[0].tolist())
        share = 1 - inside.double().mean().item()
        found = f"forward gives {z[k]} for {share:.1%} of {TRIED:,} start states of {self.name}, first for {x[k]:.6g}"
        domain = "a logarithm needs states that are positive, a logit those between 0 and 1"
        if share > 0.5:
            raise ValueError(
                f"{found} at {k[1:]} of a state: {domain}. Give the system another start law, or leave other "
                "components as they are: torch.stack([hares.log(), wind], -1)."
            )
        notes.warn(
            f"{found}: {domain}. Members that start there are redrawn, and particles weigh nothing. A start law inside "
            "the domain is better: nk.Started(nk.Transformed(...), mean, std), in units of forward(x).",
            stacklevel=4,
        )

    def _check_range(self, z: Float[Tensor, "samples n"]) -> None:
        """Raises ValueError where numbers beyond those of the start states are not reached by forward.

        Beyond 30 double precision tells a sigmoid from 1 no better than to a thousandth.
        """
        mean, std = z.mean(0), z.std(0)
        far = torch.stack([0 * mean, -mean, *(mean + k * std for k in (-6, -3, 3, 6))]).clamp(-30, 30)
        x = self._tried("inverse", self.inverse, far, "numbers beyond those of the start")
        again = self._tried("forward", self.forward, x, "inverse(z)")
        off = ~(((again - far).abs() <= 2e-3 * (far.abs() + std)) & x.isfinite())
        if off.any():
            k = tuple(off.nonzero()[0].tolist())
            raise ValueError(
                f"forward does not reach every number: inverse makes {x[k]:.6g} of {far[k]:.6g}, and forward makes "
                f"{again[k]:.6g} of that. Noise and analyses lead to any number. {PAIRS}"
            )

    def _tried(self, name: str, function: Callable[[Tensor], Tensor], x: Tensor, what: str) -> Tensor:
        """What a function makes of some states; a ValueError where these are none."""
        advice = f"{name} takes and gives tensors of states, (..., {', '.join(self.labels.dims)})."
        y = checks.called(f"{name} fails for {what}", function, x.clone(), advice=advice)
        if not isinstance(y, Tensor) or y.shape != x.shape or y.dtype != x.dtype:
            got = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"{name} gives {got} for {what} {tuple(x.shape)} of {x.dtype}. {advice}")
        return y

    def _check_apart(self, name: str, function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> None:
        """Raises ValueError where y = function(x) does not take each number by itself."""
        # Numbers of another state in some places must leave the others alone.
        mask = torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.5
        for swapped in (mask, ~mask):
            mixed = checks.called(f"{name} fails", function, torch.where(swapped, x.roll(1, 0), x))
            if (mixed - torch.where(swapped, y.roll(1, 0), y)).abs().max() > 1e-9 * y.abs().max():
                raise ValueError(
                    f"{name} mixes numbers: what it makes of one component depends on others. It must take each by "
                    "itself, as torch.log does; a rotation of the state belongs into a system of your own."
                )

    @property
    def transformed(self):
        return True

    def as_observed(self, x):
        return self.system.as_observed(self.inverse(x))

    def as_modelled(self, x, what="a first guess"):
        x = self.system.as_modelled(x, what)
        z = self.forward(x)
        if not z.isfinite().all():
            bad = x[~z.isfinite()]
            raise ValueError(
                f"{checks.counted(len(bad), 'number')} of {what} {'lies' if len(bad) == 1 else 'lie'} outside the "
                f"domain of forward, the first of them {bad[0]:.6g}: the "
                "states of nk.Transformed(system, torch.log, torch.exp) are positive. Clamp them, .clip(min=...), drop "
                "such members, or in nk.Chain leave out the method that leads there."
            )
        return z

    def tendency(self, x, *t):
        x = self.inverse(x)
        return _slope(self.forward, x) * self.system.tendency(x, *t)

    def step(self, x, dt, t=None):
        if _has_own_step(self.system):
            return self.forward(super().step(self.inverse(x), dt, t))
        return System.step(self, x, dt, t)

    in_substeps = System.in_substeps  # of its own tendency

    def start(self, samples, generator, dtype, device):
        return self.forward(self.system.start(samples, generator, dtype, device))

    def start_moments(self):
        return _moments_inside(self)

    def log_start(self, x):
        stretched = _slope(self.inverse, x).abs().log()
        return self.system.log_start(self.inverse(x)) + fold(stretched, self.shape).sum(-1)

    def check_slopes(self):
        if not _has_own_step(self.system):
            System.check_slopes(self)
        elif "_has_slopes" not in vars(self):
            dt = self.longest_substep if math.isfinite(self.longest_substep) else 1.0
            t = (torch.arange(len(self._inside)),) if self.depends_on_time else ()
            what = f"step of {self.name} in other variables"

            def step(z: Tensor) -> Tensor:
                return checks.called(f"{what} fails where its slopes are asked for", self.step, z, dt, *t)

            check_slopes(what, step, self._inside)
            vars(self)["_has_slopes"] = True

    def _try_tendency(self, z):
        self.system._try_tendency(self.inverse(z))

    def _two_states(self):
        return self._inside

    def parameters(self):
        own = {
            name: getattr(f, "__name__", str(f)) for name, f in (("forward", self.forward), ("inverse", self.inverse))
        }
        return self.system.parameters() | own


def _draws(system: System, samples: int) -> Float[Tensor, "samples n"]:
    """Start states."""
    return system.start(samples, torch.Generator().manual_seed(0), torch.float64, torch.device("cpu"))


def _moments_inside(system: System) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]] | None:
    """Mean and covariance of those start states that are finite, as vectors; None where all of them are."""
    draws = fold(_draws(system, 10_000), system.shape)
    inside = draws.isfinite().all(-1)
    return None if inside.all() else (draws[inside].mean(0), torch.atleast_2d(draws[inside].mT.cov()))


def _slope(function: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """The derivative of a function that takes each number by itself."""
    _, pull = pullback(function, x)
    return pull(torch.ones_like(x))


def _has_own_step(system: System) -> bool:
    """Whether a system has a scheme of its own in the place of Runge-Kutta's."""
    while isinstance(system, _Wrapped):
        system = system.system
    return type(system).step is not System.step
