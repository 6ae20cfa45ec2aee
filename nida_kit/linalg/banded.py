r"""Block-banded symmetric positive-definite matrices in time.

A trajectory has T time steps of n components, so a precision matrix has T x T blocks of size n x n, and
A[t, t'] = 0 where \|t - t'\| > w. We keep the lower half, one block column per time step:

    blocks[t, d] = A[t + d, t],    d = 0, ..., w,    zero where t + d >= T.

Two factorisations serve everything:

* **LAPACK's banded Cholesky** (CPU). A whole batch is *one* banded matrix, its windows laid end to end: no entry
  couples them, so one call factorises all of them, in time linear in T. Its gradient is implicit: if A x = b, then
  grad_b = A^-1 grad_x and grad_A = -grad_b x', one more solve with the same factor.
* **Odd-even elimination** (any device; `odd_even`): a batched operation for all windows at once, which also gives the
  inverse's blocks and samples. A band that fills more than half of the matrix is one single step, a dense Cholesky.

Numbers are float64 inside whatever comes in: observation errors of 1e-3 beside climatological spreads of 10 give
condition numbers that float32 cannot factorise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn.functional import pad

from nida_kit.linalg.odd_even import OddEven

FEW = 5_000_000  # products of a dense inverse that take less time than the calls of an elimination
PART = 1_000_000  # numbers that are inverted at once: far beyond the processor's caches it takes twice as long


@dataclass(frozen=True)
class BlockBanded:
    """A symmetric positive-definite matrix, block-banded in time.

    Attributes:
        blocks: lower block columns, `(..., T, w + 1, n, n)`: `blocks[..., t, d, :, :] = A[t + d, t]`. The diagonal
            blocks are symmetric; blocks that reach past the window count as zero.
    """

    blocks: Float[Tensor, "*batch T w n n"]

    @classmethod
    def gram(cls, factor: Float[Tensor, "*batch T w p n"]) -> BlockBanded:
        """F' F for a lower block-banded F given by rows: `factor[..., t, d, :, :] = F[t, t - d]`.

        Row t is one statement about x_t and the w steps before it: a linearised model step, an autoregression, or
        what a network says. Where t < d the row reaches before the window, and is ignored there.
        """
        steps, width = factor.shape[-4], factor.shape[-3] - 1
        inside = torch.arange(steps)[:, None] >= torch.arange(width + 1)
        rows = factor * inside.to(factor)[:, :, None, None]
        if 2 * width > steps:
            full = lower_triangle(rows, torch.arange(steps)[:, None].expand(steps, steps))
            return cls(cls.from_dense(full.mT @ full, steps).blocks[..., : width + 1, :, :])
        # Row r = t + e holds F[r, t] as its block e and F[r, t + d] as its block e - d.
        rows = pad(rows, (0, 0, 0, 0, 0, 0, 0, width))
        columns = torch.stack([rows[..., e : e + steps, e, :, :] for e in range(width + 1)], -3)
        blocks = []
        for d in range(width + 1):
            left = torch.stack([rows[..., e : e + steps, e - d, :, :] for e in range(d, width + 1)], -3)
            blocks.append((left.mT @ columns[..., d:, :, :]).sum(-3))
        return cls(torch.stack(blocks, -3))

    @classmethod
    def from_dense(cls, matrix: Float[Tensor, "*batch N N"], steps: int) -> BlockBanded:
        """A full symmetric matrix of `steps` blocks as a band of width T - 1."""
        n = matrix.shape[-1] // steps
        columns = matrix.unflatten(-1, (steps, n)).unflatten(-3, (steps, n)).transpose(-3, -2)  # row step, column step
        t = torch.arange(steps)
        blocks = columns[..., (t[:, None] + t).clamp(max=steps - 1), t[:, None].expand(steps, steps), :, :]
        return cls(blocks * _within(steps, steps - 1).to(matrix))

    @classmethod
    def total(cls, matrices: Sequence[BlockBanded]) -> BlockBanded:
        """The sum of matrices of any widths, whose batches broadcast."""
        widest = max(matrices, key=lambda matrix: matrix.width)
        if len(matrices) == 1:
            return widest
        batch = np.broadcast_shapes(*(matrix.blocks.shape[:-4] for matrix in matrices))
        blocks = widest.blocks.expand(*batch, *widest.blocks.shape[-4:]).clone()
        for matrix in matrices:
            if matrix is not widest:
                blocks[..., : matrix.width + 1, :, :] += matrix.blocks
        return cls(blocks)

    @property
    def steps(self) -> int:
        """T, the number of time steps."""
        return self.blocks.shape[-4]

    @property
    def width(self) -> int:
        """w, the number of block diagonals below the main one."""
        return self.blocks.shape[-3] - 1

    @property
    def components(self) -> int:
        """n, the size of a block."""
        return self.blocks.shape[-1]

    @property
    def diagonal(self) -> Float[Tensor, "*batch T n"]:
        """The numbers on the diagonal."""
        return self.blocks[..., 0, :, :].diagonal(dim1=-2, dim2=-1)

    def dense(self) -> Float[Tensor, "*batch N N"]:
        """The whole matrix, N = T n. For tests and small windows: memory grows as T squared."""
        lower = lower_triangle(self.blocks, torch.arange(self.steps).expand(self.steps, self.steps)).tril()
        return lower + lower.tril(-1).mT

    def matvec(self, x: Float[Tensor, "*#batch T n"]) -> Float[Tensor, "*#batch T n"]:
        """A x."""
        steps = self.steps
        out = (self.blocks[..., 0, :, :] @ x.unsqueeze(-1)).squeeze(-1)
        for d in range(1, min(self.width + 1, steps)):
            block = self.blocks[..., : steps - d, d, :, :]
            below = (block @ x[..., : steps - d, :, None]).squeeze(-1)
            above = (block.mT @ x[..., d:, :, None]).squeeze(-1)
            out = out + pad(below, (0, 0, d, 0)) + pad(above, (0, 0, 0, d))
        return out

    def solve(self, b: Float[Tensor, "*#batch T n"]) -> Float[Tensor, "*#batch T n"]:
        """A^-1 b, in the dtype of b; differentiable in A and b.

        Raises:
            ValueError: A is not positive definite; the message names window and time step.
        """
        batch = np.broadcast_shapes(self.blocks.shape[:-4], b.shape[:-2])
        blocks = self.blocks.expand(*batch, *self.blocks.shape[-4:])
        b = b.expand(*batch, *b.shape[-2:])
        if self._lapack:
            return _Solve.apply(blocks.double(), b.double()).to(b)
        return self._by_elimination(OddEven.solve, b)

    def solver(self) -> Callable[[Tensor], Tensor]:
        """The map b -> A^-1 b without gradients, for any number of b: A is factorised once. Errors as in `solve`.

        Where A has gradients, its variances will be wanted too, and the elimination that gives them serves here.
        """
        if not self._lapack or self.blocks.requires_grad:
            return lambda b: self._by_elimination(OddEven.solve, b).detach()
        return _Lapack(self.blocks.detach().double()).solve

    def logdet(self) -> Float[Tensor, "*batch"]:
        """Log det A, differentiable; its gradient is A^-1 within the band. Errors as in `solve`."""
        if self._lapack:
            return _LogDet.apply(self.blocks.double()).to(self.blocks)
        return self._elimination.logdet().view(self.blocks.shape[:-4]).to(self.blocks)

    def selected_inverse(self) -> Float[Tensor, "*batch T w n n"]:
        """The blocks of A^-1 within the band of A, laid out as `blocks`; linear in T, differentiable."""
        return self._of_parts(lambda part: part._ungroup(*part._inverse())).to(self.blocks)

    @cached_property
    def variances(self) -> Float[Tensor, "*batch T n"]:
        """The diagonal of A^-1: marginal variances if A is a precision. Computed once, when first asked for."""
        if (found := self._few_variances()) is not None:
            return found
        main = self._of_parts(lambda part: part._split(part._inverse()[0].diagonal(dim1=-2, dim2=-1)))
        return main.to(self.blocks)

    def _few_variances(self) -> Float[Tensor, "*batch T n"] | None:
        """The same by LAPACK's dense inverse, of few small windows on the CPU; None of others."""
        *batch, steps, _, n, _ = self.blocks.shape
        products = math.prod(batch) * (steps * n) ** 3
        if products > FEW or self.blocks.requires_grad or self.blocks.is_cuda:
            return None
        root, failed = torch.linalg.cholesky_ex(self.double().dense())
        if failed.any():
            return None  # the elimination says where
        inverse = torch.linalg.solve_triangular(root, torch.eye(steps * n).to(root).expand_as(root), upper=False)
        return inverse.square().sum(-2).unflatten(-1, (steps, n)).to(self.blocks)

    def lost(self) -> Float[Tensor, "*batch"]:
        """What rounding may change in each window's worst variance, relative to it.

        A number of A is known to its last digit, and a variance answers in proportion to both; so it does at each step.
        """
        scale = (self.diagonal * self.variances).detach().abs().amax((-2, -1))
        return self.steps * torch.finfo(torch.float64).eps * scale

    def sample(self, noise: Float[Tensor, "*#batch T n"]) -> Float[Tensor, "*#batch T n"]:
        """Draws with covariance A^-1 from unit normal `noise`, differentiable (a linear map of the noise)."""
        return self._by_elimination(OddEven.sample, noise)

    def double(self) -> BlockBanded:
        """The same matrix in float64."""
        return BlockBanded(self.blocks.double())

    @property
    def _lapack(self) -> bool:
        """Whether LAPACK's banded routines serve best: on the CPU, unless the matrix is as good as full."""
        return self.blocks.device.type == "cpu" and self._size < self.steps

    @cached_property
    def _elimination(self) -> OddEven:
        """In groups and in float64; errors as in `solve`."""
        matrix, windows = self.double(), math.prod(self.blocks.shape[:-4])
        try:
            return OddEven(*(blocks.reshape(windows, *blocks.shape[-3:]) for blocks in matrix._tridiagonal()))
        except torch.linalg.LinAlgError as error:
            _factorise(matrix.blocks.cpu())  # says which window and time step it is
            raise ValueError(_not_positive_definite("some window")) from error

    def _inverse(self) -> tuple[Tensor, Tensor]:
        batch = self.blocks.shape[:-4]
        return tuple(blocks.reshape(*batch, *blocks.shape[1:]) for blocks in self._elimination.inverse())

    def _of_parts(self, of: Callable[[BlockBanded], Tensor]) -> Tensor:
        """What is worked out of each window; without gradients of a few at a time, so that all of it fits in memory."""
        *batch, steps, blocks, n, _ = self.blocks.shape
        each = max(1, PART // (steps * blocks * n * n))
        known = "_elimination" in self.__dict__ or self.blocks.requires_grad or self.blocks.is_cuda
        if known or math.prod(batch) <= each:
            return of(self)
        parts = self.blocks.reshape(-1, steps, blocks, n, n).split(each)
        try:
            return torch.cat([of(BlockBanded(part)) for part in parts]).unflatten(0, batch)
        except ValueError:
            _factorise(self.blocks.double().cpu())  # says which window of all it is
            raise

    def _by_elimination(self, algorithm: Callable[[OddEven, Tensor], Tensor], x: Tensor) -> Tensor:
        """What it makes of `(..., T, n)`; axes of x that A lacks are more columns."""
        known = self.blocks.shape[:-4]
        needed = np.broadcast_shapes(known, x.shape[max(0, x.ndim - 2 - len(known)) : -2])
        if needed != known:  # each window of an axis of length one that x has longer is one of its own
            return BlockBanded(self.blocks.expand(*needed, *self.blocks.shape[-4:]))._by_elimination(algorithm, x)
        x = x.expand(*np.broadcast_shapes(known, x.shape[:-2]), *x.shape[-2:])
        groups = self._group(x.double())
        columns = groups.reshape(-1, math.prod(known), *groups.shape[-2:]).movedim(0, -1)
        return self._split(algorithm(self._elimination, columns).movedim(-1, 0).reshape(groups.shape)).to(x)

    # A wider band is block-tridiagonal in groups of w time steps. These go there and back.

    @property
    def _size(self) -> int:
        """Time steps per group: w, or all of them in one dense matrix where there would be less than two groups."""
        return max(self.width, 1) if 2 * self.width <= self.steps else self.steps

    def _group(self, x: Tensor) -> Tensor:
        """(..., T, n) -> (..., groups, m) with m = size n, padded by zeros."""
        x = pad(x, (0, 0, 0, -x.shape[-2] % self._size))
        return x.reshape(*x.shape[:-2], -1, self._size * self.components)

    def _split(self, x: Tensor) -> Tensor:
        """(..., groups, m) -> (..., T, n), the reverse of `_group`."""
        return x.reshape(*x.shape[:-2], -1, self.components)[..., : self.steps, :]

    def _tridiagonal(self) -> tuple[Tensor, Tensor]:
        """Main blocks (..., groups, m, m) and lower ones (..., groups - 1, m, m), padded by the identity."""
        width, n = self.width, self.components
        if self._size == self.steps:
            main = self.dense().unsqueeze(-3)
            return main, main[..., :0, :, :]
        if width == 1:
            return self.blocks[..., 0, :, :], self.blocks[..., :-1, 1, :, :]
        if width == 0:
            return self.blocks[..., 0, :, :], torch.zeros_like(self.blocks[..., :-1, 0, :, :])
        extra = -self.steps % width
        identity = pad(torch.eye(n).to(self.blocks)[None], (0, 0, 0, 0, 0, width)).expand(
            *self.blocks.shape[:-4], extra, width + 1, n, n
        )
        columns = torch.cat([self.blocks * _within(self.steps, width).to(self.blocks), identity], -4)
        # Column c of a group fills its rows c ... c + w of 2 w: padding each column to 2 w + 1 and reading the
        # memory in rows of 2 w shifts it there.
        columns = columns.reshape(*columns.shape[:-4], -1, width, width + 1, n, n)
        columns = pad(columns, (0, 0, 0, 0, 0, width)).flatten(-4, -3)[..., : 2 * width * width, :, :]
        columns = columns.unflatten(-3, (width, 2 * width))
        both = columns.permute(*range(columns.ndim - 4), -3, -2, -4, -1).reshape(
            *columns.shape[:-4], 2 * width * n, width * n
        )
        main, lower = both[..., : width * n, :], both[..., :-1, width * n :, :]
        above = torch.ones(width, width).triu(1).to(main).kron(torch.ones(n, n).to(main))
        return main + main.mT * above, lower

    def _ungroup(self, main: Tensor, lower: Tensor) -> Tensor:
        """The band's blocks from those of the groups, the reverse of `_tridiagonal`."""
        width, n = self.width, self.components
        if self._size == self.steps:
            blocks = BlockBanded.from_dense(main.squeeze(-3), self.steps).blocks
            return pad(blocks, (0, 0, 0, 0, 0, width + 1 - self.steps))  # cut off beyond the band, where it is negative
        if width == 0:
            return main.unsqueeze(-3)
        both = torch.cat([main, pad(lower, (0, 0, 0, 0, 0, 1))], -2)
        columns = both.unflatten(-1, (width, n)).unflatten(-3, (2 * width, n))
        columns = columns.permute(*range(columns.ndim - 4), -2, -4, -3, -1)
        columns = pad(columns.flatten(-4, -3), (0, 0, 0, 0, 0, width)).unflatten(-3, (width, 2 * width + 1))
        blocks = columns[..., : width + 1, :, :].flatten(-5, -4)[..., : self.steps, :, :, :]
        return blocks * _within(self.steps, width).to(blocks)


def _within(steps: int, width: int) -> Tensor:
    """Which blocks lie within the window, `(T, w + 1, 1, 1)`: block d of column t belongs to row t + d."""
    return (torch.arange(steps)[:, None] + torch.arange(width + 1) < steps)[:, :, None, None]


def apply(matrix: Float[Tensor, "*#batch p n"], v: Float[Tensor, "*#batch n"]) -> Float[Tensor, "*#batch p"]:
    """A matrix times a vector, for each of a batch."""
    more = v.ndim + 1 - matrix.ndim
    if more > 0:  # of one matrix all vectors are columns
        return (matrix @ v.flatten(0, more - 1).movedim(0, -1)).movedim(-1, 0).unflatten(0, v.shape[:more])
    return (matrix @ v.unsqueeze(-1)).squeeze(-1)


def lower_triangle(blocks: Tensor, at: Tensor) -> Tensor:
    """The dense matrix whose block (row r, column c), c <= r, is `blocks[..., at[r, c], r - c, :, :]`."""
    steps, (p, n) = len(at), blocks.shape[-2:]
    below = torch.arange(steps)[:, None] - torch.arange(steps)
    inside = ((below >= 0) & (below < blocks.shape[-3])).to(blocks)[:, :, None, None]
    full = blocks[..., at, below.clamp(0, blocks.shape[-3] - 1), :, :] * inside
    return full.transpose(-3, -2).reshape(*full.shape[:-4], steps * p, steps * n)


def _not_positive_definite(window: str, step: str = "") -> str:
    return (
        f"The precision matrix of {window} is not positive definite{step}. Either a covariance behind it is singular "
        "(a noise-free model: give it model_noise_std), or its parts differ by more than about 1e15 in scale: check "
        "units and noise_std, and for a linearised model start nearer to the truth or raise model_noise_std."
    )


# LAPACK's banded Cholesky, for a whole batch at once


@lru_cache
def _blas() -> ThreadpoolController:
    """What holds LAPACK to one thread.

    Its blocks are too small to share, and threads that wait for a busy core take hundreds of times as long.
    """
    return ThreadpoolController().select(user_api="blas")


def _factorise(blocks: Tensor):
    """LAPACK's lower banded Cholesky factor of all windows laid end to end, (bandwidth, windows * T * n)."""
    from scipy.linalg.lapack import dpbtrf  # here, for it takes a tenth of the package's time to import

    *batch, steps, width, n, _ = blocks.shape
    height = width * n
    row = height + n - 1
    columns = blocks.new_zeros(*batch, steps, n, row)
    columns[..., :height] = blocks.detach().flatten(-3, -2).mT
    for t in range(max(steps - width + 1, 0), steps):  # what reaches past its window would couple it with the next
        columns[..., t, :, (steps - t) * n :] = 0
    # LAPACK wants column c of a block to start at its diagonal entry: a stride one longer than the row skips c entries,
    # and finds zeros in place of those that it passes at the end.
    shifted = columns.as_strided((columns[..., 0, 0].numel(), n, height), (n * row, row + 1, 1))
    with _blas().limit(limits=1):
        factor, info = dpbtrf(shifted.reshape(-1, height).numpy().T, lower=1, overwrite_ab=1)
    if info > 0:
        window, inside = divmod(info - 1, steps * n)
        raise ValueError(_not_positive_definite(f"window {window}", f" at time step {inside // n}"))
    assert info == 0
    return factor


def _solve_with(factor, b: Tensor) -> Tensor:
    """With as many right-hand sides as b has more windows than the factor."""
    from scipy.linalg.lapack import dpbtrs

    with _blas().limit(limits=1):
        solution, info = dpbtrs(factor, b.detach().reshape(-1, factor.shape[1]).numpy().T, lower=1)
    assert info == 0
    return torch.from_numpy(solution.T).reshape(b.shape)


class _Lapack:
    """A^-1 for any number of vectors, without gradients; axes of b that A lacks are more right-hand sides."""

    def __init__(self, blocks: Tensor):
        self.blocks, self.factor = blocks, None

    def solve(self, b: Tensor) -> Tensor:
        known = self.blocks.shape[:-4]
        # An axis of length one that b has longer: each of its windows needs a factor of its own.
        needed = np.broadcast_shapes(known, b.shape[max(0, b.ndim - 2 - len(known)) : -2])
        if self.factor is None or needed != known:
            self.blocks = self.blocks.expand(*needed, *self.blocks.shape[-4:])
            self.factor = _factorise(self.blocks)
        batch = np.broadcast_shapes(needed, b.shape[:-2])
        return _solve_with(self.factor, b.detach().double().expand(*batch, *b.shape[-2:])).to(b)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, blocks, b):
        ctx.factor = _factorise(blocks)
        x = _solve_with(ctx.factor, b)
        ctx.save_for_backward(x)
        ctx.width = blocks.shape[-3]
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        adjoint = _solve_with(ctx.factor, grad)
        steps = x.shape[-2]
        blocks = x.new_zeros(*x.shape[:-1], ctx.width, x.shape[-1], x.shape[-1])
        for d in range(min(ctx.width, steps)):
            now, later = slice(0, steps - d), slice(d, steps)
            outer = adjoint[..., later, :, None] * x[..., now, None, :]
            outer = outer.addcmul(x[..., later, :, None], adjoint[..., now, None, :])
            blocks[..., now, d, :, :] = outer.mul_(-0.5 if d == 0 else -1.0)
        return blocks, adjoint


class _LogDet(torch.autograd.Function):
    @staticmethod
    def forward(ctx, blocks):
        ctx.save_for_backward(blocks)
        diagonal = torch.from_numpy(_factorise(blocks)[0].copy())
        return 2 * diagonal.log().reshape(*blocks.shape[:-4], -1).sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (blocks,) = ctx.saved_tensors
        inverse = BlockBanded(blocks).selected_inverse()
        inverse[..., 1:, :, :] *= 2  # each block below the diagonal stands for its mirror image too
        return inverse * grad[..., None, None, None, None]
