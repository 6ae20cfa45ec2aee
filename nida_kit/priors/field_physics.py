"""Physics as a prior for fields: the model carries the climatology through time, and no covariance is written down.

    x_1 ~ N(b, B),    x_{t+1} ~ N(M(x_t), q^2 B)

Linearised at an estimate c these are known by their generator, x = c + L z: L makes errors e_1 = B^(1/2) z_1 and
e_{t+1} = q B^(1/2) z_{t+1}, and the slopes of M carry them on, d_{t+1} = M'_t d_t + e_{t+1}. The estimate itself is
made of errors too, and r is the shortest z that makes them: r + z ~ N(0, I). So z = 0 is the estimate, and few steps of
conjugate gradients stay near it. An answer's errors are then run through the model itself, `along`: between steps it
obeys the model as well as they say, however far it moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit import html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import Modes, Propagated
from nida_kit.linalg.rows import Diagonal, Differential, Stack
from nida_kit.linalg.solvers import Solver, to_a_tolerance
from nida_kit.priors.modes import FieldClimatology
from nida_kit.statement import Statement

# Climatological standard deviations by which a first state from elsewhere may be wrong: about those of NIDA's and of
# optimal interpolation's. On validation windows of the gyre 0.1 to 0.4 end alike.
_ROUGH = 0.2


@dataclass(frozen=True)
class FieldPhysics:
    """The dynamics of a field, linearised at the estimate.

    >>> import nida_kit as nk, torch
    >>> ocean = nk.QuasiGeostrophic(cells=17)
    >>> past = torch.from_numpy(ocean.simulate(samples=40, steps=12, dt=5.0, seed=0).values)
    >>> climatology = nk.FieldClimatology.fit(past, steps=3, modes=20)
    >>> still = nk.FieldPhysics(lambda x, t: x, climatology, model_error=0.1)  # a model in which nothing moves
    >>> still.around(past[0, :3].flatten(-2)).mean.shape
    torch.Size([3, 289])

    Attributes:
        advance: M, from states `(..., n)` at the t-th step to those one step later, torch: called with both.
        climatology: gives m and B.
        model_error: q, of each step, in climatological standard deviations.
        solver: of its posteriors.
    """

    advance: Callable[[Tensor, int], Tensor]
    climatology: FieldClimatology
    model_error: float
    solver: Callable[[Stack], Solver] = to_a_tolerance

    def _repr_html_(self) -> str:
        return html.card("FieldPhysics", {"grid": self.climatology.shape, "model_error": self.model_error})

    def _errors(self, steps: int) -> Modes:
        """What makes the start's and each step's."""
        scale = torch.full_like(self.climatology.mean[0, :1].expand(steps), self.model_error)
        scale[0] = 1
        return self.climatology.root(scale)

    def __call__(self, current: Gaussian, s: float | Tensor = 0.0) -> Gaussian:
        return self.around(current.estimate)

    def around(self, x: Float[Tensor, "*batch T n"]) -> Gaussian:
        """The statements about start and steps, linearised at x."""
        errors = self._errors(x.shape[-2])
        residual = self._residual(x, errors)
        model = tuple(
            Differential(lambda state, t=t: self.advance(state, t), state)
            for t, state in enumerate(x.split(1, -2)[:-1])
        )
        rows = Stack((Diagonal(torch.ones_like(residual)),))
        return Gaussian(x, rows, (residual,), Propagated(model, errors), self.solver)

    def _residual(self, x: Tensor, errors: Modes) -> Float[Tensor, "*batch 1 N"]:
        """The z of the estimate itself."""
        ahead = [self.advance(state, t) for t, state in enumerate(x.split(1, -2)[:-1])]
        expected = torch.cat([self.climatology.mean.expand_as(x[..., :1, :]), *ahead], -2)
        if not expected.isfinite().all():
            raise ValueError(
                "At the current estimate, the model gives NaN or infinite values: shorten longest_substep if it "
                "overflows, or start from another first_guess."
            )
        return errors.whiten(x - expected)

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """-log density up to a constant: half the squared whitened residuals."""
        return self._residual(x, self._errors(x.shape[-2])).square().sum((-2, -1)) / 2

    def update(self, local: Gaussian, observations: Statement) -> Gaussian:
        """The loop's update (`loop.incremental`): conditioned on the observations, and run through the model."""
        return self.along(local.condition(observations.around(local.centre)))

    def along(self, posterior: Gaussian) -> Gaussian:
        """A posterior whose mean has its errors run through the model, not through its slopes; differentiable.

        Each step's error is tiny beside the field. So what slopes have wrong, the square of a move, would pass for
        errors that the prior holds to be next to impossible.

        Args:
            posterior: of this prior around a trajectory and observations, `(..., T, n)`.
        """
        centre, mean = (x.split(1, -2) for x in torch.broadcast_tensors(posterior.centre, posterior.estimate))
        states = [mean[0]]
        for t, (before, after) in enumerate(pairwise(mean)):
            ahead, moved = torch.autograd.functional.jvp(
                lambda state, t=t: self.advance(state, t),
                centre[t],
                before - centre[t],
                create_graph=torch.is_grad_enabled(),
            )
            states.append(after - ahead - moved + self.advance(states[-1], t))
        return posterior.at(torch.cat(states, -2))

    def held(self, start: Float[Tensor, "*batch 1 n"]) -> Float[Tensor, "*batch 1 n"]:
        """A first state that another method found, as far as the climatology holds it.

        That is the mean of x_1, if the state is x_1 with an error of a fifth of the spread in each value. Of what no
        mode holds, the climatology allows a hundredth of the spread or little more. A tenth of it would cost more than
        all observations, and the search would be about how to lose it.

        Args:
            start: that state.
        """
        away = start - self.climatology.mean
        return self.climatology.mean + self._errors(1).nearest(away, _ROUGH * self.climatology.spread)

    def forecast(self, start: Float[Tensor, "*batch 1 n"], steps: int) -> Float[Tensor, "*batch T n"]:
        """The trajectory without errors from states of the first step on."""
        states = [start]
        for t in range(steps - 1):
            states.append(self.advance(states[-1], t))
        return torch.cat(states, -2)
