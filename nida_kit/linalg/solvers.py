"""What can be solved with whitened rows J, and by which of the ways to do it.

`by_size` chooses. *Assembled*: J' J by its blocks in time, checked against the rows and replaced by their square root
where it has lost too many digits. *Bordered*: a band, and beside it a few rows that see the whole of a long window.
*Separate*: each value by itself. *Iterative*: conjugate gradients, where nothing can be written down. *By arcs*: the
many sites of a ring, near ones together. Fields known by a generator bring their own way: *approximate*, to a
tolerance, and *truncated*, some steps that gradients follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nida_kit.linalg.arcs import Arcs, Cover
from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.cg import ConjugateGradients, dot, warn_unless
from nida_kit.linalg.rows import Banded, Circulant, Diagonal, Ring, Stack
from nida_kit.linalg.square_root import SINGULAR, SquareRoot

Residual = Sequence[Tensor | None]
"""Of each of the stacked rows; None is zero."""

MOST = 0.01  # standard deviations that a mean, and share of itself that a standard deviation may be wrong by
TINY = 1e-30  # in place of zero, of windows that are solved already
EPS = torch.finfo(torch.float64).eps
LONG = 1000  # values of a window: above, rows that see all of it are kept beside the band
SAMPLE = 32  # numbers of a site that tell how much of its variance is cut off
FEW = 64  # sites of a ring: above, they are solved for by arcs
MANY = 512  # sites of a ring: above, nothing is written down that ties all of them


class Solver(ABC):
    """What is done with rows J.

    Attributes:
        rows: J.
        closed: whether it has variances, and exact ones.
        unrolled: whether gradients follow its own steps, and not the solution's.
        reached: of a mean by conjugate gradients, the error that is left (`linalg.cg`) and the iterations, `(...)`.
    """

    rows: Stack
    reached: tuple[Tensor, Tensor] | None = None
    closed: bool = True
    unrolled: bool = False

    def prepare(self) -> None:
        """Make what gradients need, within the graph."""
        return

    @abstractmethod
    def solve(self, b: Tensor) -> Tensor:
        """(J' J)^-1 b, without gradients."""

    @abstractmethod
    def minimise(self, residual: Residual) -> Tensor:
        """Argmin |r + J dx|, without gradients, and right to `MOST` standard deviations; or a ValueError."""

    @abstractmethod
    def step(self, residual: Residual) -> Tensor:
        """About the same by one solve: enough where something else judges it."""

    def defect(self, residual: Residual, dx: Tensor) -> Tensor:
        """-J' (r + J dx), which vanishes at the minimum; differentiable."""
        return -self.rows.pull(after(self.rows, residual, dx))

    @property
    def variances(self) -> Tensor:
        """The diagonal of (J' J)^-1, differentiable, right to `MOST` of its root; or a ValueError."""
        raise ValueError(_ITERATIVE)

    def sample(self, noise: Tensor) -> Tensor:
        """Draws with covariance (J' J)^-1 from unit noise of the state's shape."""
        raise ValueError(_ITERATIVE)

    def logdet(self) -> Tensor:
        """Log det J' J."""
        raise ValueError(_ITERATIVE)


_ITERATIVE = (
    "What is too large to be written down, or known by its generator, has no closed form of its spread or density: "
    "take draws (Gaussian.draw) and their spread."
)


def by_size(rows: Stack) -> Solver:
    """The way that fits the rows."""
    if all(isinstance(part, Diagonal) for part in rows.parts):
        return Separate(rows)
    sites = max([part.sites for part in rows.parts if isinstance(part, Ring | Circulant)], default=0)
    if sites > FEW and rows.has_arcs and (sites > MANY or not rows.requires_grad):
        return ByArcs(rows)
    if sites > MANY or not rows.assembles:
        return Iterative(rows)
    band, whole = rows.split()
    if whole is not None and any(isinstance(part, Banded | Circulant | Ring) for part in band.parts):
        few, values = whole.flat.shape[-2:]
        if values > LONG and 4 * few < values:
            return Bordered(rows)
    return Assembled(rows)


def after(rows: Stack, residual: Residual, dx: Tensor) -> list[Tensor]:
    """Of each part, r + J dx."""
    return [p if r is None else r + p for p, r in zip(rows.push(dx), residual, strict=True)]


def refined(rows: Stack, residual: Residual, solve: Callable[[Tensor], Tensor], dx: Tensor) -> tuple[Tensor, Tensor]:
    """A better dx = argmin |r + J dx|, and how much it moved in posterior standard deviations, `(...)`.

    The second solve, for what is left of the gradient as the rows themselves give it, mends most of what J' J lost. No
    component of a step c is more than |J c| of its own standard deviations.
    """
    step = solve(-rows.pull(after(rows, residual, dx)))
    return dx + step, sum(p.square().sum((-2, -1)) for p in rows.push(step)).sqrt()


def converged(rows: Stack, residual: Residual, solve: Callable[[Tensor], Tensor], most: int) -> tuple[Tensor, Tensor]:
    """Refine dx until it stands still; in which windows it never does, `(...)`."""
    dx = solve(-rows.pull(residual))
    for _ in range(most):
        dx, moved = refined(rows, residual, solve, dx)
        # A step mends what is left but for a small share: so this, too, is far below what is allowed.
        restless = ~(moved <= MOST / 10)
        if not restless.any():
            break
    return dx, restless | blurred(residual)


def blurred(residual: Residual) -> Tensor:
    """In which windows the residuals' own last digits say more than is allowed, `(...)`.

    No error e of the residuals moves the mean by more than |e| of its standard deviations.
    """
    squares = sum(r.detach().double().square().sum((-2, -1)) for r in residual if r is not None)
    return ~(EPS * torch.as_tensor(squares).sqrt() <= MOST)


def coarse(mean: Tensor, std: Tensor) -> Tensor:
    """In which windows a number of double precision is too coarse for the mean, `(...)`; NaN is left to who looks."""
    return (EPS * mean.detach().abs() > MOST * std.detach()).flatten(-2).any(-1)


def failed(what: str, where: Tensor) -> ValueError:
    """Too many digits are lost in these windows, `(...)`."""
    windows = where.flatten().nonzero().flatten().tolist()
    if windows and where.numel() > 1:
        what = f"In {len(windows)} of {where.numel()} windows, first in window {windows[0]} counted from 0, {what}"
    else:
        what = f"{what[0].upper()}{what[1:]}"
    return ValueError(
        f"{what} cannot be told to 1% of a standard deviation in double precision: start, model and measurement errors "
        "differ by too much in scale. Check units, noise_std and model_noise_std, or raise the smallest of them: what "
        "is a millionth of the others is as good as exact."
    )


class Separate(Solver):
    """Of rows that see one value each: nothing has to be solved.

    Args:
        rows: all of them `Diagonal`.
    """

    def __init__(self, rows: Stack):
        self.rows = rows

    @cached_property
    def _squares(self) -> Float[Tensor, "*batch T n"]:
        squares = self.rows.squares().double()
        if not (squares > 0).all():
            raise ValueError(SINGULAR)
        return squares

    def solve(self, b: Tensor) -> Tensor:
        return (b / self._squares).to(b)

    def step(self, residual: Residual) -> Tensor:
        return self.solve(-self.rows.pull(residual))

    def minimise(self, residual: Residual) -> Tensor:
        return self.step(residual)

    @property
    def variances(self) -> Float[Tensor, "*batch T n"]:
        return 1 / self._squares

    def sample(self, noise: Tensor) -> Tensor:
        return noise / self._squares.sqrt()

    def logdet(self) -> Tensor:
        return self._squares.log().sum((-2, -1))


class Assembled(Solver):
    """By the blocks of J' J, or by the square root of J' J where those lose too many digits.

    Args:
        rows: all of a window.
    """

    def __init__(self, rows: Stack):
        self.rows = rows

    @cached_property
    def matrix(self) -> BlockBanded:
        """J' J."""
        return self.rows.gram()

    def prepare(self) -> None:
        if self.matrix.blocks.requires_grad and self.loses:  # asked within the graph
            self._root  # noqa: B018 (made there, too)

    def defect(self, residual: Residual, dx: Tensor) -> Tensor:
        if self.loses:
            return super().defect(residual, dx)
        # J' J is in the graph already, for the variances: so its slopes are followed once for both.
        return -(self.rows.pull(residual) + self.matrix.matvec(dx.double())).to(dx)

    @cached_property
    def _factor(self) -> Callable[[Tensor], Tensor]:
        return self.matrix.solver()

    @cached_property
    def _root(self) -> SquareRoot:
        return SquareRoot(self.rows)

    @cached_property
    def _root_loses(self) -> Tensor:
        """In which windows even the square root has, `(...)`."""
        return self._root.lost(self.rows.squares()) > MOST

    @cached_property
    def lost(self) -> Tensor:
        """In which windows J' J has lost too many digits, `(...)`; one True if it is not even positive definite."""
        try:
            return self.matrix.lost() > MOST  # of a variance: half as much of its root
        except ValueError:
            return torch.tensor(True)

    @cached_property
    def loses(self) -> bool:
        """Whether it has in any."""
        return bool(self.lost.any())

    def solve(self, b: Tensor) -> Tensor:
        return self._root.solve(b) if self.loses else self._factor(b)

    def step(self, residual: Residual) -> Tensor:
        try:
            return self._factor(-self.rows.pull(residual))
        except ValueError:  # not positive definite to its last digit
            self.loses = True
            return self.solve(-self.rows.pull(residual))

    def minimise(self, residual: Residual) -> Tensor:
        dx, bad = converged(self.rows, residual, self.solve, most=3)
        if bad.any() and not self.loses:
            self.loses = True
            dx, bad = converged(self.rows, residual, self.solve, most=6)
        if self.loses:
            bad = bad | self._root_loses
        if bad.any():
            raise failed("the mean", bad)
        return dx

    @property
    def variances(self) -> Float[Tensor, "*batch T n"]:
        if not self.loses:
            return self.matrix.variances
        if self._root_loses.any():
            raise failed("the standard deviation", self._root_loses)
        return self._root.variances

    def sample(self, noise: Tensor) -> Tensor:
        return self._root.sample(noise) if self.loses else self.matrix.sample(noise)

    def logdet(self) -> Tensor:
        return self._root.logdet if self.loses else self.matrix.logdet()


class Bordered(Solver):
    r"""A band and a few rows W that see the whole window (Woodbury's identity): linear in T for each of them.

        A = A_0 + W' W,    A^-1 = A_0^-1 - B C^-1 B',    B = A_0^-1 W',    C = I + W B

    Args:
        rows: of which those banded in time determine the state by themselves; the others are W.
    """

    def __init__(self, rows: Stack):
        band, self.whole = rows.split()
        self.band, self.rows = Assembled(band), rows

    def prepare(self) -> None:
        self.band.prepare()
        if self.band.matrix.blocks.requires_grad or self.whole.matrix.requires_grad:
            self._border  # noqa: B018 (within the graph)

    @cached_property
    def _border(self) -> tuple[Tensor, Tensor]:
        """B, `(..., M, T, n)`, and C; a ValueError where the band alone has lost digits, which B would pass on."""
        if self.band.loses:
            raise failed("a window that is seen as a whole", self.band.lost)
        W = self.whole.matrix.double()
        B = torch.stack([self.band.matrix.solve(row) for row in W.unbind(-3)], -3)
        C = torch.eye(W.shape[-3]).to(W) + W.flatten(-2) @ B.flatten(-2).mT
        return B, C

    def solve(self, b: Tensor) -> Tensor:
        with torch.no_grad():
            B, C = self._border
            x = self.band.solve(b.double())
            seen = (self.whole.flat.double() @ x.flatten(-2).unsqueeze(-1)).squeeze(-1)
            weights = torch.linalg.solve(C, seen)
            return (x - (B * weights[..., None, None]).sum(-3)).to(b)

    def step(self, residual: Residual) -> Tensor:
        return self.solve(-self.rows.pull(residual))

    def minimise(self, residual: Residual) -> Tensor:
        dx, bad = converged(self.rows, residual, self.solve, most=3)
        if bad.any():
            raise failed("the mean", bad)
        return dx

    @property
    def variances(self) -> Float[Tensor, "*batch T n"]:
        B, C = self._border
        flat = B.flatten(-2)
        gained = (flat * torch.linalg.solve(C, flat)).sum(-2).unflatten(-1, B.shape[-2:])
        before = self.band.variances
        well = (before * 1e-13 <= (before - gained) * MOST).flatten(-2).all(-1)
        if not well.all():
            raise failed("the standard deviation", ~well)
        return before - gained

    def sample(self, noise: Tensor) -> Tensor:
        """Draws of the band's, moved by the square root filter's gain: the covariance is met without more noise."""
        B, C = self._border
        values, vectors = torch.linalg.eigh(C)
        root = values.sqrt()
        gain = vectors @ torch.diag_embed(1 / (root * (root + 1))) @ vectors.mT
        x = self.band.sample(noise)
        seen = (self.whole.flat.double() @ x.flatten(-2).unsqueeze(-1)).squeeze(-1)
        weights = (gain @ seen.unsqueeze(-1)).squeeze(-1)
        return x - (B * weights[..., None, None]).sum(-3)

    def logdet(self) -> Tensor:
        return self.band.logdet() + self._border[1].logdet()


class Iterative(Solver):
    """By conjugate gradients: the rows only push and pull.

    Args:
        rows: about x, or about the z of a generator.
        tolerance: of the residual.
        most: iterations.
    """

    closed = False

    def __init__(self, rows: Stack, tolerance: float = 1e-10, most: int = 1000):
        self.rows, scale = rows, 1.0
        if all(hasattr(part, "squares") for part in rows.parts):
            squares = rows.squares()
            if not (squares > 0).all():
                raise ValueError(SINGULAR)
            scale = 1 / squares
        self._solve = ConjugateGradients(rows, tolerance, most, lambda r: r * scale).solve

    def solve(self, b: Tensor) -> Tensor:
        return self._solve(b)

    def step(self, residual: Residual) -> Tensor:
        return self.solve(-self.rows.pull(residual))

    def minimise(self, residual: Residual) -> Tensor:
        dx, bad = converged(self.rows, residual, self.solve, most=3)
        if bad.any():
            raise failed("the mean", bad)
        return dx


class Approximate(Solver):
    """To a tolerance, and no better: for fields, whose draws are rougher than that.

    In the precision of the rows, and once more in double for windows that do not converge there: where observations are
    very exact, single precision does not tell their errors beside the field.

    Args:
        rows: about the z of a generator: first those of its prior, then those of what was observed.
        tolerance: of the residual.
        most: iterations, and 25 times as many in double precision.
        near: the distance to the answer, in posterior spreads, is held to the tolerance too (`linalg.cg`).
    """

    closed = False

    def __init__(self, rows: Stack, tolerance: float, most: int, near: bool = False):
        self.rows, self.tolerance, self.most, self.near = rows, tolerance, most, near

    @cached_property
    def _values(self) -> Tensor | None:
        """How many were observed, `(..., 1, 1)`: rows beside those of z that say something; None if none or unasked."""
        if not self.near or len(self.rows.parts) == 1:
            return None
        generator = torch.Generator().manual_seed(0)
        like = self.rows.parts[0].weight
        v = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
        return sum((r != 0).sum((-2, -1), keepdim=True) for r in self.rows.push(v)[1:])

    def _solved(self, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The solution, and of each window the error that is left and the iterations, `(..., 1, 1)`."""
        x, left, taken = ConjugateGradients(self.rows, self.tolerance, self.most, _plain, self._values).solved(b)
        if not (bad := ~(left <= self.tolerance)).any():
            return x, left, taken
        rows = self.rows.to(torch.float64)
        double = ConjugateGradients(rows, self.tolerance, 25 * self.most, _plain, self._values)
        better, now, more = double.solved(torch.where(bad, b, 0.0).double())
        if not now.isfinite().all():
            raise ValueError(
                "The observations are so exact that double precision cannot tell their errors beside the field's "
                "spread: raise noise_std, a millionth of the spread is as good as exact."
            )
        warn_unless(now, more, self.tolerance)
        return torch.where(bad, better.to(x), x), torch.where(bad, now.to(left), left), taken + more

    def solve(self, b: Tensor) -> Tensor:
        return self._solved(b)[0]

    def step(self, residual: Residual) -> Tensor:
        x, *reached = self._solved(-self.rows.pull(residual))
        self.reached = tuple(each[..., 0, 0] for each in reached)
        return x

    def minimise(self, residual: Residual) -> Tensor:
        return self.step(residual)


def _plain(r: Tensor) -> Tensor:
    return r


def to_a_tolerance(rows: Stack, tolerance: float = 1e-3) -> Solver:
    """The way for a field that is known by its generator."""
    return Approximate(rows, tolerance, most=200)


def to_its_spread(rows: Stack, tolerance: float = 1e-3) -> Solver:
    """The same for climatologies, whose answers are held to their own spread however exact the observations are."""
    return Approximate(rows, tolerance, most=200, near=True)


class Truncated(Solver):
    """A few steps of conjugate gradients and no more, which gradients follow back: how networks of fields are trained.

    The gradient of a solution that is not reached drifts; that of the steps that were taken is exact.

    Args:
        rows: about the z of a generator: first those of its prior, then those of what was observed.
        iterations: how many.
    """

    closed, unrolled = False, True

    def __init__(self, rows: Stack, iterations: int):
        self.rows, self.iterations = rows, iterations

    def solve(self, b: Tensor) -> Tensor:
        return self._solved(b)[0]

    def _solved(self, b: Tensor) -> tuple[Tensor, Tensor]:
        """Where the steps lead, and the squared residual there, `(..., 1, 1)`."""
        x, r, p = torch.zeros_like(b), b, b
        energy = dot(r, r)
        for _ in range(self.iterations):
            q = self.rows.pull(self.rows.push(p))
            length = energy / dot(p, q).clamp(min=TINY)
            x, r = x + length * p, r - length * q
            energy, before = dot(r, r), energy
            p = r + energy / before.clamp(min=TINY) * p
        return x, energy

    def step(self, residual: Residual) -> Tensor:
        b = -self.rows.pull(residual)
        x, energy = self._solved(b)
        left = (energy / dot(b, b).clamp(min=TINY)).detach().sqrt()[..., 0, 0]
        self.reached = left, torch.full_like(left, self.iterations, dtype=torch.int64)
        return x

    def minimise(self, residual: Residual) -> Tensor:
        return self.step(residual)


class ByArcs(Solver):
    """Of the sites of a ring, by overlapping arcs whose halos are as wide as they have to be.

    Arcs are factorised in single precision where that is enough. What the rows leave is found in double, and solved for
    again.

    Args:
        rows: each with `in_arcs`.
        halo: sites on either side of an arc's middle, to begin with; None is a few times what a row reaches.
    """

    def __init__(self, rows: Stack, halo: int | None = None):
        self.rows, reaches = rows, [part.reach for part in rows.parts if isinstance(part, Ring)]
        self.reach = max(reaches, default=0)
        self.halo = halo or max(6, 3 * self.reach)

    @cached_property
    def _whole(self) -> Assembled:
        """The same without arcs, for few sites."""
        if self.rows.squares().shape[-1] > MANY:
            raise ValueError(_ITERATIVE)
        return Assembled(self.rows)

    @cached_property
    def _arcs_and_cover(self) -> tuple[Arcs, Cover] | None:
        """Arcs through whose halos others tell less than `MOST` of a variance; None if few sites have none such."""
        with torch.no_grad():
            squares, halo = self.rows.squares(), self.halo
            if not (squares > 0).all():
                raise ValueError(SINGULAR)
            n = squares.shape[-1]
            while 4 * halo + 2 * self.reach <= n:
                cover = Cover.of(torch.arange(n, device=squares.device), halo)
                try:
                    arcs = self._factorised(squares, cover)
                except ValueError:
                    if n > MANY:
                        raise
                    return None  # all of them at once may be told better
                if self._cut_off(arcs, cover) <= MOST:  # so that a standard deviation loses half as much
                    return arcs, cover
                halo *= 2
            if n > MANY:
                raise ValueError(
                    f"Some of these {n} sites know much of others more than {halo // 2} sites away: that many can be "
                    f"solved for only where few know of each other. Take at most {MANY} sites, or observe more of them."
                )
            return None

    def _factorised(self, squares: Tensor, cover: Cover) -> Arcs:
        """In double precision where single loses digits, of some arcs of all or of a worst value."""
        some = cover.arcs[:: max(1, len(cover.arcs) // 8)]
        try:
            single, double = (Arcs(self.rows, some, dtype).variances for dtype in (torch.float32, torch.float64))
            if ((single / double - 1).abs() <= MOST / 2).all():
                arcs = Arcs(self.rows, cover.arcs, torch.float32)
                if (self._lost(squares, arcs, cover) <= MOST).all():
                    return arcs
        except torch.linalg.LinAlgError:
            pass
        try:
            arcs = Arcs(self.rows, cover.arcs, torch.float64)
        except torch.linalg.LinAlgError:
            raise ValueError(SINGULAR) from None
        if (bad := ~(self._lost(squares, arcs, cover) <= MOST)).any():
            raise failed("the standard deviation", bad)
        return arcs

    @staticmethod
    def _lost(squares: Tensor, arcs: Arcs, cover: Cover) -> Tensor:
        """What rounding may change in each window's worst variance, relative to it, as of `BlockBanded`, `(...)`."""
        worst = (squares * cover.around(arcs.variances)).amax((-2, -1))
        return squares.shape[-2] * torch.finfo(arcs.dtype).eps * worst

    def _cut_off(self, arcs: Arcs, cover: Cover) -> float:
        """The share of a site's variance that the halos cut off, over all times: what they do to some draws."""
        like, generator = self.rows.push(torch.zeros_like(self.rows.squares())), torch.Generator().manual_seed(0)
        draws, found = max(1, SAMPLE // arcs.variances.shape[-3]), 0.0
        for _ in range(draws):  # one by one: of a large ring each takes much memory
            b = self.rows.pull([torch.randn(r.shape, generator=generator, dtype=r.dtype).to(r) for r in like])
            x = cover.around(arcs.solve(b))
            moved = cover.around(arcs.solve(b - self._applied(x)))
            found = found + (moved.square() / cover.around(arcs.variances)).mean(-2) / draws
        return float(found.max())

    def _applied(self, x: Tensor) -> Tensor:
        """J' J x."""
        return self.rows.pull(self.rows.push(x))

    def _approximately(self, b: Tensor) -> Tensor:
        """About (J' J)^-1 b."""
        if self._arcs_and_cover is None:
            return self._whole.solve(b)
        arcs, cover = self._arcs_and_cover
        return cover.around(arcs.solve(b))

    def solve(self, b: Tensor) -> Tensor:
        with torch.no_grad():
            x = self._approximately(b)
            return x + self._approximately(b - self._applied(x))

    def step(self, residual: Residual) -> Tensor:
        return self.solve(-self.rows.pull(residual))

    def minimise(self, residual: Residual) -> Tensor:
        dx, bad = converged(self.rows, residual, self._approximately, most=6)
        if bad.any():
            raise failed("the mean", bad)
        return dx

    @cached_property
    def variances(self) -> Float[Tensor, "*batch T n"]:
        if self.rows.requires_grad:
            raise ValueError(
                f"Through the spread of {self.rows.squares().shape[-1]} sites nothing is learnt: train on a ring of at "
                f"most {MANY}, and take the network to the large one by prior.on(sites)."
            )
        if self._arcs_and_cover is None:
            return self._whole.variances
        arcs, cover = self._arcs_and_cover
        return cover.around(arcs.variances)

    def sample(self, noise: Tensor) -> Tensor:
        return self._whole.sample(noise)

    def logdet(self) -> Tensor:
        return self._whole.logdet()
