"""Strong-constraint 4D-Var: the model is exact, so a trajectory is a function of its first state.

    cost(x_1) = 1/2 |x_1 - b|^2_B  +  1/2 sum_t |y_t - h(M_t(x_1))|^2_R

That is the loop (`loop.py`) again, on a window of one step: the prior N(b, B) stands still, and what is observed
of the first state is h(M_t(x_1)), linearised around the current one by the model's derivatives (automatic ones).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import checks
from nida_kit.descent import Laplace
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.covariance import Covariance
from nida_kit.linalg.jacobian import linearise
from nida_kit.linalg.rows import Banded, Whole
from nida_kit.linalg.square_root import triangle
from nida_kit.methods.cycling import Cycle, analyse_windows, cycles
from nida_kit.methods.sequential import (
    CPU,
    DOUBLE,
    Sequential,
    advance,
    modelled,
    observed_times,
    reported,
    reported_moments,
    start_moments,
)
from nida_kit.methods.starts import Search
from nida_kit.notes import recorded
from nida_kit.observing.observations import Observations
from nida_kit.reconstruction import Moments, Reconstruction
from nida_kit.systems.system import System, as_system, check_spread


@dataclass(frozen=True)
class Propagated:
    """Observations of a trajectory, as observations of its first state; it stands in for `Observations`.

    Attributes:
        observations: of the trajectory, `(..., T, p)`.
        step: M, of states `(..., n)` and their time.
    """

    observations: Observations
    step: Callable[[Tensor, Tensor], Tensor]

    @property
    def times(self) -> Float[Tensor, " T1"]:
        """From which the model steps."""
        return self.observations.times[:-1]

    def path(self, x: Float[Tensor, "*batch one n"]) -> Float[Tensor, "*batch T n"]:
        """The trajectory from x on."""
        states = [x.squeeze(-2)]
        for t in self.times:
            states.append(self.step(states[-1], t))
        return torch.stack(states, -2)

    def tangent(self, path: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T n n"]:
        """The derivative of each state by the first."""
        n = path.shape[-1]
        products = [torch.eye(n).to(path).expand(*path.shape[:-2], n, n)]
        if path.shape[-2] > 1:
            _, J = linearise(partial(self.step, t=self.times), path[..., :-1, :])
            for each in J.unbind(-3):
                products.append(each @ products[-1])
        return torch.stack(products, -3)

    def around(self, x: Float[Tensor, "*batch one n"]) -> Gaussian:
        """What they say of the first state; errors as in `Observations.around`."""
        path = self.path(x)
        seen = self.observations.around(path)
        (slopes,) = seen.rows.push(self.tangent(path).movedim(-1, 0))  # by each component of the first state
        rows = slopes.flatten(-2).movedim(0, -1).unsqueeze(-2)
        return Gaussian.of(x, Whole(rows), seen.residual[0].flatten(-2).unsqueeze(-2))

    def misfit(self, x: Float[Tensor, "*batch one n"]) -> Float[Tensor, "*batch"]:
        """As `Observations.misfit`."""
        return self.observations.misfit(self.path(x))

    def moments(self, first: Gaussian) -> Moments:
        """Mean and standard deviation along the trajectory, the model linearised there."""
        path = self.path(first.mean)
        upper = triangle(first.rows.dense()).unsqueeze(-3)
        root = torch.linalg.solve_triangular(upper, self.tangent(path), upper=True, left=False)
        return Moments(path, root.square().sum(-1).sqrt())


@dataclass(frozen=True)
class Followed:
    """The trajectory from an estimate of the first state on; the model follows it when it is first asked for.

    Attributes:
        first: the estimate.
        seen: the observations with their model.
    """

    first: Laplace
    seen: Propagated

    @cached_property
    def moments(self) -> Moments:
        """Of the trajectory."""
        return self.seen.moments(self.first.gaussian)

    @property
    def mean(self) -> Float[Tensor, "*batch T n"]:
        """The trajectory."""
        return self.moments.mean

    @property
    def std(self) -> Float[Tensor, "*batch T n"]:
        """Its standard deviations."""
        return self.moments.std


class StrongFourDVar(Sequential):
    """Strong-constraint 4D-Var by damped Gauss-Newton steps, over the whole window or cycled with a lag.

    >>> import nida_kit as nk
    >>> system = nk.Pendulum()
    >>> truth = system.simulate(samples=1, steps=30, dt=0.1, seed=0)
    >>> obs = nk.observe(truth, components=["angle"], every=5, noise_std=0.1, seed=1)
    >>> result = nk.StrongFourDVar(system).assimilate(obs)
    >>> bool(nk.rmse(result["mean"], truth) < 0.2)
    True

    Over the whole window it takes all observations at once, from the first guess on, and its result holds `cost`,
    `iterations` and `converged`; an operator may see the whole window, and errors be correlated in time. With several
    starts, it descends from the first guess and from draws of the system's `start`, the same for all windows, and keeps
    what has the lowest cost in each. With a lag, each window begins that many observed times before the one whose
    observations it uses, as for `nk.IEnKS`, but its background covariance is always the same; a first guess is not
    used. Model noise, if there is any, is neglected. std is that of the linearised model (Laplace).

    Args:
        system: an `nk.System`; the background of the first window has the mean of its `start`.
        background: covariance of the background, `(n, n)`, state units; None is that of the system's start.
        lag: in observed times; None is the whole window.
        iterations: at most.
        damping: the first lambda.
        tolerance: relative fall of the cost that counts as none.
        starts: how many, the first guess included; over the whole window only.
        seed: of the other starts.
    """

    def __init__(
        self,
        system: System,
        background=None,
        *,
        lag: int | None = None,
        iterations: int = 30,
        damping: float = 1e-2,
        tolerance: float = 1e-6,
        starts: int = 1,
        seed: int = 0,
    ):
        labels = as_system(system, slopes=True).labels
        shape, background = labels.shape, labels.ordered("background", background)
        self._mean, start_covariance = start_moments(system)
        self.background = start_covariance if background is None else checks.covariance(background, shape, "background")
        if background is None:
            check_spread(system, start_covariance, "Give background=, a positive definite covariance.")
        self.lag = None if lag is None else checks.count("lag", lag, 1)
        self.stops_early, self.template_steps = lag is None, None if lag is None else 2
        self.takes_first_guess = lag is None
        self.search = Search(iterations, damping, checks.positive("tolerance", tolerance), starts, seed)
        if self.search.starts > 1 and lag is not None:
            raise ValueError(f"{starts=} with {lag=}: several starts are for the whole window, lag=None.")
        settings = {"background": str(recorded(self.background)), "lag": "whole window" if lag is None else self.lag}
        super().__init__(system, **settings, **self.search.settings)

    def _around(self, x: Float[Tensor, "*batch n"]) -> Gaussian:
        """The background with mean x, a window of one step."""
        rows = Covariance.full(self.background).inverse_root[None, None].expand(*x.shape[:-1], -1, -1, -1, -1)
        return Gaussian.of(x.unsqueeze(-2), Banded(rows))

    def _search(
        self, seen: Propagated, background: Gaussian, starts: list[Float[Tensor, "*batch n"]]
    ) -> Reconstruction:
        """Estimates of the first state."""
        return self.search.run(background, seen, [x.unsqueeze(-2) for x in starts])

    def reconstruct(self, observations, dt, first_guess):
        if self.lag is not None:
            return super().reconstruct(observations, dt, first_guess)
        seen, x = self._whole(observations, dt, first_guess)
        found = self._first(seen, x)
        posteriors = [Followed(first, seen) for first in found.posteriors]
        first_guess = seen.path(x.unsqueeze(-2))
        return reported(self.system, Reconstruction(posteriors, found.temperatures, first_guess, found.diagnostics))

    def _whole(self, observations: Observations, dt: float, first_guess: Tensor | None) -> tuple[Propagated, Tensor]:
        """All observations, as those of the first state, and where to start."""
        x = self._mean if first_guess is None else self.system.as_modelled(first_guess[..., 0, :].to(self._mean))
        seen = Propagated(modelled(self.system, observations), partial(advance, self.system, dt))
        return seen, x.expand(*observations.value.shape[:-2], -1)

    def _first(self, seen: Propagated, x: Float[Tensor, "*batch n"]) -> Reconstruction:
        """The first state, given all observations, from x and from draws of the system's start."""
        others = self.search.draw(lambda generator: self.system.start(1, generator, DOUBLE, CPU)[0])
        return self._search(seen, self._around(self._mean.expand_as(x)), [x, *others])

    def walk(self, observations, dt):
        step, value = partial(advance, self.system, dt), observations.value
        x, steps = self._mean.expand(len(value), -1), value.shape[-2]

        def analyse(cycle: Cycle) -> tuple[list[Tensor], list[Tensor]]:
            nonlocal x
            use = torch.zeros(steps, 1, dtype=torch.bool)
            use[cycle.used] = True
            used = replace(observations, value=value.where(use, torch.nan))
            seen, background = Propagated(used.at(slice(cycle.begin, cycle.end + 1)), step), self._around(x)
            first = self._search(seen, background, [x]).posteriors[-1].gaussian
            moments = (seen.moments(g) for g in (background, first))
            before, path = (list(torch.stack([m.mean, m.std]).unbind(-2)) for m in moments)
            if cycle.following <= cycle.end:
                x = path[cycle.following - cycle.begin][0]
            return before, path

        found = analyse_windows(cycles(observed_times(observations), self.lag, steps), False, analyse)
        return reported_moments(self.system, {name: Moments(*torch.stack(x, -2)) for name, x in found.items()})

    def draw(self, observations, dt, first_guess, noise):
        """Draws of the first state, and where the model leads from there."""
        if self.lag is not None:
            return super().draw(observations, dt, first_guess, noise)
        seen, x = self._whole(observations, dt, first_guess)
        first = self._first(seen, x).posteriors[-1].gaussian
        return self.system.as_observed(seen.path(first.sample(noise[0, ..., :1, :].to(x))))
