"""Strong-constraint 4D-Var: the model is exact, so a trajectory is a function of its first state.

    cost(x_0) = 1/2 |x_0 - x_b|^2_B  +  1/2 sum_t |y_t - h(M_t(x_0))|^2_R

That is the loop of `incremental` again, on a window of one step: the prior N(x_b, B) stands still, and what is observed
of the first state is h(M_t(x_0)), linearised around the current one by the model's derivatives (automatic ones).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.checks import count, covariance, number, positive
from nida_kit.descent import Fixed, descend
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.jacobian import linearise
from nida_kit.methods.cycling import Cycle, cycles, through
from nida_kit.methods.method import stream
from nida_kit.methods.sequential import Sequential, observed_times, start_moments
from nida_kit.observing.observations import Observations
from nida_kit.reconstruction import Moments, Reconstruction
from nida_kit.systems.system import System


@dataclass(frozen=True)
class Propagated:
    """Observations of a trajectory, as observations of its first state; it stands in for `Observations`.

    Attributes:
        observations: of the trajectory, `(..., T, p)`.
        step: M, from `(..., n)` to `(..., n)`.
    """

    observations: Observations
    step: Callable[[Tensor], Tensor]

    def path(self, x: Float[Tensor, "*batch one n"]) -> Float[Tensor, "*batch T n"]:
        """The trajectory from x on."""
        states = [x.squeeze(-2)]
        for _ in range(self.observations.value.shape[-2] - 1):
            states.append(self.step(states[-1]))
        return torch.stack(states, -2)

    def tangent(self, path: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch T n n"]:
        """The derivative of each state by the first."""
        n = path.shape[-1]
        products = [torch.eye(n).to(path).expand(*path.shape[:-2], n, n)]
        if path.shape[-2] > 1:
            _, J = linearise(self.step, path[..., :-1, :])
            for each in J.unbind(-3):
                products.append(each @ products[-1])
        return torch.stack(products, -3)

    def linearise(self, x: Float[Tensor, "*batch one n"]) -> tuple[Tensor, Tensor, Tensor]:
        """(H, R, y) of the first state, for `Gaussian.condition`; errors as in `Observations.linearise`."""
        path = self.path(x)
        H, R, y = self.observations.linearise(path)
        whole = H @ self.tangent(path)
        y = y - (H @ path.unsqueeze(-1) - whole @ x.unsqueeze(-3).mT).squeeze(-1)
        flat = whole.flatten(-3, -2).unsqueeze(-3)
        return flat, R.expand_as(y).flatten(-2).unsqueeze(-2), y.flatten(-2).unsqueeze(-2)

    def misfit(self, x: Float[Tensor, "*batch one n"]) -> Float[Tensor, "*batch"]:
        """As `Observations.misfit`."""
        return self.observations.misfit(self.path(x))

    def moments(self, first: Gaussian) -> tuple[Float[Tensor, "*batch T n"], Float[Tensor, "*batch T n"]]:
        """Mean and standard deviation along the trajectory, the model linearised there."""
        path = self.path(first.mean)
        lower = torch.linalg.cholesky(first.precision.blocks[..., 0, 0, :, :]).unsqueeze(-3)
        root = torch.linalg.solve_triangular(lower.mT, self.tangent(path), upper=True, left=False)
        return path, root.square().sum(-1).sqrt()


class StrongFourDVar(Sequential):
    """Strong-constraint 4D-Var by damped Gauss-Newton steps, over the whole window or cycled with a lag.

    Over the whole window it takes all observations at once, from the first guess on, and its result holds `cost`,
    `iterations` and `converged`. With several starts, it descends from the first guess and from draws of the system's
    `start`, the same for all windows, and keeps what has the lowest cost in each. With a lag, each window begins that
    many observed times before the one whose observations it uses, as for `nk.IEnKS`, but its background covariance is
    always the same; a first guess is not used. Model noise, if there is any, is neglected. std is that of the
    linearised model (Laplace).

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
        self._mean, own = start_moments(system)
        self.background = own if background is None else covariance(background, len(self._mean))
        self.lag = None if lag is None else count("lag", lag, 1)
        self.stops_early, self.template_steps = lag is None, None if lag is None else 2
        self.steps, self.tolerance = count("iterations", iterations, 1), positive("tolerance", tolerance)
        self.damping = number("damping", damping)
        self.starts, self.seed = count("starts", starts, 1), count("seed", seed, 0)
        if starts > 1 and lag is not None:
            raise ValueError(f"{starts=} with {lag=}: several starts are for the whole window, lag=None.")
        own = {"lag": "whole window" if lag is None else self.lag, "max_iterations": self.steps}
        super().__init__(system, background=str(self.background.tolist()), **own, first_lambda=self.damping)
        self.settings |= {"tolerance": self.tolerance}
        self.settings |= {"starts": self.starts, "seed": self.seed} if starts > 1 else {}

    def _around(self, x: Float[Tensor, "*batch n"]) -> Gaussian:
        """The background with mean x, a window of one step."""
        precision = torch.linalg.inv(self.background)[None, None].expand(*x.shape[:-1], -1, -1, -1, -1)
        return Gaussian(x.unsqueeze(-2), BlockBanded(precision))

    def _solve(self, background: Gaussian, seen: Propagated, x: Float[Tensor, "*batch n"]) -> Reconstruction:
        """From x on: posteriors of the first state."""
        return descend(Fixed(background), seen, x.unsqueeze(-2), self.steps, self.damping, self.tolerance)

    def reconstruct(self, observations, dt, first_guess):
        if self.lag is not None:
            return super().reconstruct(observations, dt, first_guess)
        seen, x = self._whole(observations, dt, first_guess)
        found = self._chosen(self._solve(self._around(self._mean.expand_as(x)), seen, self._starts(x)))
        posteriors = [Moments(*seen.moments(first)) for first in found.posteriors]
        return Reconstruction(posteriors, found.temperatures, seen.path(x.unsqueeze(-2)), found.diagnostics)

    def _whole(self, observations: Observations, dt: float, first_guess: Tensor | None) -> tuple[Propagated, Tensor]:
        """All observations, as those of the first state, and where to start."""
        x = self._mean if first_guess is None else first_guess[..., 0, :].to(self._mean)
        seen = Propagated(observations, partial(self.system.step, dt=dt))
        return seen, x.expand(*observations.value.shape[:-2], -1)

    def _chosen(self, found: Reconstruction) -> Reconstruction:
        """Of several starts along the leading axis, in each window the one of lowest cost."""
        if self.starts == 1:
            return found
        best = found.diagnostics["cost"].argmin(0, keepdim=True)
        diagnostics = {k: x.take_along_dim(best, 0)[0] for k, x in found.diagnostics.items()} | {"start": best[0]}
        first = found.posteriors[-1]
        mean = first.mean.take_along_dim(best[..., None, None], 0)[0]
        blocks = first.precision.blocks.take_along_dim(best[..., None, None, None, None], 0)[0]
        return Reconstruction([Gaussian(mean, BlockBanded(blocks))], [0.0], found.first_guess[0], diagnostics)

    def _starts(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*starts n"]:
        """The first guess itself, or beside others along a new leading axis."""
        if self.starts == 1:
            return x
        own = stream(self.seed)
        # One after the other, so that fewer starts are the first of more.
        others = torch.cat([self.system.start(1, own, x.dtype, x.device) for _ in range(self.starts - 1)])
        others = others.view(-1, *[1] * (x.ndim - 1), x.shape[-1]).expand(-1, *x.shape)
        return torch.cat([x.unsqueeze(0), others])

    def walk(self, observations, dt):
        step, value = partial(self.system.step, dt=dt), observations.value
        x, steps = self._mean.expand(len(value), -1), value.shape[-2]

        def analyse(cycle: Cycle) -> tuple[list[Tensor], list[Tensor]]:
            nonlocal x
            here, use = slice(cycle.begin, cycle.end + 1), torch.zeros(steps, 1, dtype=torch.bool)
            use[cycle.used] = True
            window = value.where(use, torch.nan)[:, here], observations.noise_std[:, here], observations.operator
            seen, background = Propagated(Observations(*window), step), self._around(x)
            first = self._solve(background, seen, x).posteriors[-1]
            before, path = (list(torch.stack(seen.moments(g)).unbind(-2)) for g in (background, first))
            if cycle.following <= cycle.end:
                x = path[cycle.following - cycle.begin][0]
            return before, path

        found = through(cycles(observed_times(observations), self.lag, steps), False, analyse)
        return {name: Moments(*torch.stack(x, -2)) for name, x in found.items()}

    def draw(self, observations, dt, first_guess, noise):
        """Draws of the first state, and where the model leads from there."""
        if self.lag is not None:
            return super().draw(observations, dt, first_guess, noise)
        seen, x = self._whole(observations, dt, first_guess)
        first = self._chosen(self._solve(self._around(self._mean.expand_as(x)), seen, self._starts(x))).posteriors[-1]
        return seen.path(first.sample(noise[0, ..., :1, :].to(x)))
