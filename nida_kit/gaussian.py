r"""Gaussians over whole trajectories, and the one update that every method here repeats.

All that is known of a trajectory x (T time steps of n components) is written as whitened rows about a point c:

    r + J (x - c) ~ N(0, I),

whose precision is J' J and whose mean is c - (J' J)^-1 J' r. A prior is of this form, and so is a measurement (of which
J' J alone is singular): **to condition is to stack the rows of both**, r under r and J under J. That is exact however
far apart c and the mean lie: the linearised forecast of a chaotic model leaves every bound on a long window, but never
has to be computed. Asking for `mean` costs the one linear solve.

A large field is known by its generator, x = c + L z: J are then rows about z, and z ~ N(0, I) is the first of them.

The solve is differentiated implicitly. With A = J' J and lambda = A^-1 g, the gradient of <g, dx> is that of
-<lambda, J' (r + J dx)> at fixed lambda and dx, whatever solver gave dx.

>>> import torch
>>> x = Gaussian.of(torch.zeros(4, 1), Diagonal(torch.ones(4, 1)))  # N(0, 1) at each of four steps
>>> y = Gaussian.of(x.centre, Diagonal(torch.ones(4, 1)), -torch.ones(4, 1))  # each was measured as 1, error 1
>>> x.condition(y).mean.squeeze(-1)
tensor([0.5000, 0.5000, 0.5000, 0.5000])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.rows import Diagonal, Rows, Stack, Through
from nida_kit.linalg.solvers import Solver, after, by_size, coarse, failed


@dataclass(frozen=True)
class Gaussian:
    """r + J (x - c) ~ N(0, I): a Gaussian, or a linearised statement that becomes one beside others.

    Attributes:
        centre: c, `(..., T, n)`, in the state's units.
        rows: J.
        residual: r, of each of the stacked rows; None is zero, and if all are, the centre is the mean.
        generator: L, where J are rows about z and x = c + L z; None is the identity.
        solver: of the one linear system.
    """

    centre: Float[Tensor, "*#batch T n"]
    rows: Stack
    residual: tuple[Tensor | None, ...]
    generator: Rows | None = None
    solver: Callable[[Stack], Solver] = by_size

    @classmethod
    def of(cls, centre: Tensor, rows: Rows, residual: Tensor | None = None) -> Gaussian:
        """One statement."""
        return cls(centre, Stack((rows,)), (residual,))

    @classmethod
    def flat(cls, point: Tensor) -> Gaussian:
        """A guess of which nothing else is known: it has a mean, but no spread."""
        return cls(point, Stack(()), ())

    @classmethod
    def generated(cls, centre: Tensor, generator: Rows, shape: tuple[int, ...]) -> Gaussian:
        """The states c + L z for standard normal z of a shape `(..., a, b)`."""
        return cls(centre, Stack((Diagonal(torch.ones(shape).to(centre)),)), (None,), generator)

    def condition(self, other: Gaussian) -> Gaussian:
        """The posterior given another statement about x.

        Raises:
            ValueError: a statement that is linearised elsewhere, and so is about another x - c.
        """
        if other.centre is not self.centre and not torch.equal(*torch.broadcast_tensors(other.centre, self.centre)):
            raise ValueError("Statements are stacked about one centre: write the other one around(self.centre) first.")
        theirs = other.rows.parts
        if self.generator is not None:
            theirs = tuple(Through(part, self.generator) for part in theirs)
        rows = Stack((*self.rows.parts, *theirs))
        return replace(self, centre=other.centre, rows=rows, residual=(*self.residual, *other.residual))

    @cached_property
    def _solver(self) -> Solver:
        if not self.rows.parts:
            raise ValueError(
                "Nothing is known of this guess but itself (Gaussian.flat): it has no spread and no draws."
            )
        return self.solver(self.rows)

    @cached_property
    def mean(self) -> Float[Tensor, "*#batch T n"]:
        """The mean c - L (J' J)^-1 J' r, solved for when first asked.

        Raises:
            ValueError: it cannot be told to 1% of a posterior standard deviation.
        """
        mean = self._moved(lambda: self._solver.minimise(self.residual))
        if self._certifies and (bad := coarse(mean, self.std)).any():
            raise failed("the mean", bad)
        return mean

    @property
    def _certifies(self) -> bool:
        """Whether the spread is at hand against which a mean is held; in training nobody asks."""
        return self.generator is None and self._solver.closed and not torch.is_grad_enabled()

    @cached_property
    def estimate(self) -> Float[Tensor, "*#batch T n"]:
        """The mean by one plain solve: enough on the way, where a cost or a next step judges it."""
        return self._moved(lambda: self._solver.step(self.residual))

    def _moved(self, solution: Callable[[], Tensor]) -> Tensor:
        if all(r is None for r in self.residual):
            return self.centre
        self._solver.prepare()
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._solver.unrolled):
            dz = solution()
        if torch.is_grad_enabled() and not self._solver.unrolled:
            defect = self._solver.defect(self.residual, dz)
            dz = _Implicit.apply(defect, dz, self._solver.solve) if defect.requires_grad else dz
        return self.centre + (dz if self.generator is None else self.generator.push(dz))

    @property
    def reached(self) -> tuple[Tensor, Tensor] | None:
        """Of a mean by conjugate gradients, the residual over the right-hand side and the iterations, `(...)`."""
        return self._solver.reached

    @cached_property
    def precision(self) -> BlockBanded:
        """J' J, written down."""
        return getattr(self._solver, "matrix", None) or self.rows.gram()

    @property
    def variances(self) -> Float[Tensor, "*#batch T n"]:
        """Marginal variances; errors as for `mean`."""
        self._refuse_generated()
        return self._solver.variances.to(self.centre)

    def _refuse_generated(self) -> None:
        if self.generator is not None:
            raise ValueError(
                "A Gaussian that is known by its generator, x = c + L z, has no closed form of its spread or density, "
                "and no x tells its z: take draws (Gaussian.draw) and their spread."
            )

    @property
    def std(self) -> Float[Tensor, "*#batch T n"]:
        """Marginal standard deviations."""
        return self.variances.sqrt()

    def covariance_at(self, t: int) -> Float[Tensor, "*#batch n n"]:
        """How the values of one time vary together, by a solve for each of them.

        >>> x = Gaussian.of(torch.zeros(4, 2), Diagonal(torch.full((4, 2), 0.5)))
        >>> x.covariance_at(-1)
        tensor([[4., 0.],
                [0., 4.]])
        """
        self._refuse_generated()
        units = torch.eye(self.centre.shape[-1]).to(self.centre)
        columns = []
        for unit in units:
            b = torch.zeros_like(self.mean)
            b[..., t, :] = unit
            columns.append(self._solver.solve(b)[..., t, :])
        found = torch.stack(columns, -1)
        return (found + found.mT) / 2

    def at(self, point: Float[Tensor, "*#batch T n"]) -> Gaussian:
        """The same spread around another mean."""
        moved = replace(self, centre=point, residual=(None,) * len(self.rows.parts))
        if self.rows.parts:
            moved.__dict__["_solver"] = self._solver  # and what it has factorised
        return moved

    def around(self, x: Float[Tensor, "*#batch T n"]) -> Gaussian:
        """The same Gaussian, written about another point."""
        return replace(self, centre=x, residual=tuple(self._at(x)))

    def _at(self, x: Tensor) -> list[Tensor]:
        self._refuse_generated()
        return after(self.rows, self.residual, x - self.centre)

    def misfit(self, x: Float[Tensor, "*#batch T n"]) -> Float[Tensor, "*#batch"]:
        """Half the squared residuals at x: -log density up to a constant."""
        return sum(r.square().sum((-2, -1)) for r in self._at(x)) / 2

    def sample(self, noise: Float[Tensor, "*#draws T n"]) -> Float[Tensor, "*#draws T n"]:
        """Draws from unit normal `noise` of the state's shape, whose leading axes broadcast against the batch."""
        self._refuse_generated()
        noise = noise.expand(np.broadcast_shapes(noise.shape, self.mean.shape))
        return self.mean + self._solver.sample(noise)

    def draw(self, draws: int, generator: torch.Generator, *, alike: bool = False) -> Float[Tensor, "draws *batch T n"]:
        """Draws by any solver: every row is perturbed by unit noise, and the whole solved anew.

        Args:
            draws: how many.
            generator: of the noise.
            alike: all windows get the same noise, so that their draws do not depend on which are drawn together.
        """
        batch = np.broadcast_shapes(*(shape[:-2] for shape in self.noise_shapes))
        lead = (1,) * len(batch) if alike else batch
        like = {"dtype": self.centre.dtype}
        noise = [torch.randn(draws, *lead, *shape[-2:], generator=generator, **like) for shape in self.noise_shapes]
        return self.perturbed([each.to(self.centre.device) for each in noise])

    @property
    def noise_shapes(self) -> list[tuple[int, ...]]:
        """Of unit noise for each of the stacked rows."""
        like = self.centre if self.generator is None else self.rows.parts[0].weight
        return [tuple(row.shape) for row in self.rows.push(torch.zeros_like(like))]

    def perturbed(self, noise: Sequence[Tensor | None]) -> Float[Tensor, "*draws T n"]:
        """Draws, where each of the stacked rows is perturbed by its own unit noise, `(*draws, M, p)`; None is zero."""
        dz = self._solver.solve(-self.rows.pull(noise))
        return self.mean + (dz if self.generator is None else self.generator.push(dz))

    def log_prob(self, x: Float[Tensor, "*#batch T n"]) -> Float[Tensor, "*#batch"]:
        """Log N(x; mean, precision^-1), in nats."""
        size = x.shape[-1] * x.shape[-2]
        return (self._solver.logdet() - size * math.log(2 * math.pi)) / 2 - self.at(self.mean).misfit(x)


class _Implicit(torch.autograd.Function):
    """dz, where the defect -J'(r + J dz) vanishes; a change of the defect moves dz by A^-1."""

    @staticmethod
    def forward(ctx, defect, dz, solve):
        ctx.solve = solve
        return dz.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return ctx.solve(g), None, None
