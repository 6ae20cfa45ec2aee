r"""Block-banded symmetric positive-definite matrices in time.

A trajectory has T time steps of n components, so a precision matrix has T x T blocks of size n x n, and
A[t, t'] = 0 where \|t - t'\| > w. We keep the lower half, one block column per time step:

    blocks[t, d] = A[t + d, t],    d = 0, ..., w,    zero where t + d >= T.

Two factorisations serve everything:

* **LAPACK's banded Cholesky** (CPU). A whole batch is *one* banded matrix, its windows laid end to end: no entry
  couples them, so one call factorises all of them, in time linear in T. Its gradient is implicit: if A x = b, then
  grad_b = A^-1 grad_x and grad_A = -grad_b x', one more solve with the same factor.
* **Odd-even elimination** (any device; cyclic reduction, Hockney 1965). Eliminating every second time step leaves a
  block-tridiagonal matrix of half the length: log2(T) batched operations instead of T small ones. Read backwards it
  gives the inverse's blocks (selected inversion, Takahashi et al. 1973) and samples. A band that fills more than half
  of the matrix is one single step, a dense Cholesky.

Numbers are float64 inside whatever comes in: observation errors of 1e-3 beside climatological spreads of 10 give
condition numbers that float32 cannot factorise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from scipy.linalg.lapack import dpbtrf, dpbtrs
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class BlockBanded:
    """A symmetric positive-definite matrix, block-banded in time.

    Attributes:
        blocks: lower block columns, `(..., T, w + 1, n, n)`: `blocks[..., t, d, :, :] = A[t + d, t]`. The diagonal
            blocks are symmetric; blocks that reach past the window count as zero.
    """

    blocks: Float[Tensor, "*batch T w n n"]

    @classmethod
    def gram(cls, factor: Float[Tensor, "*batch T w n n"]) -> BlockBanded:
        """F' F for a lower block-banded F given by rows: `factor[..., t, d, :, :] = F[t, t - d]`.

        Row t is one statement about x_t and the w steps before it: a linearised model step, an autoregression, or
        what a network says. Where t < d the row reaches before the window, and is ignored there.
        """
        steps, width = factor.shape[-4], factor.shape[-3] - 1
        inside = torch.arange(steps)[:, None] >= torch.arange(width + 1)
        rows = factor * inside.to(factor)[:, :, None, None]
        if 2 * width > steps:
            full = _lower_triangle(rows, torch.arange(steps)[:, None].expand(steps, steps))
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

    def add_diagonal(self, diagonal: Float[Tensor, "*batch T n n"]) -> BlockBanded:
        """A plus a block-diagonal matrix (the information that observations bring)."""
        batch = torch.broadcast_shapes(self.blocks.shape[:-4], diagonal.shape[:-3])
        blocks = self.blocks.to(torch.promote_types(self.blocks.dtype, diagonal.dtype))
        rest = blocks[..., 1:, :, :].expand(*batch, *blocks[..., 1:, :, :].shape[-4:])
        return BlockBanded(torch.cat([(blocks[..., 0, :, :] + diagonal).unsqueeze(-3), rest], -3))

    def dense(self) -> Float[Tensor, "*batch N N"]:
        """The whole matrix, N = T n. For tests and small windows: memory grows as T squared."""
        lower = _lower_triangle(self.blocks, torch.arange(self.steps).expand(self.steps, self.steps)).tril()
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
        batch = torch.broadcast_shapes(self.blocks.shape[:-4], b.shape[:-2])
        blocks = self.blocks.expand(*batch, *self.blocks.shape[-4:])
        b = b.expand(*batch, *b.shape[-2:])
        if self._lapack:
            return _Solve.apply(blocks.double(), b.double()).to(b)
        return self._split(self._odd_even(_odd_even_solve, b)).to(b)

    def logdet(self) -> Float[Tensor, "*batch"]:
        """Log det A, differentiable; its gradient is A^-1 within the band. Errors as in `solve`."""
        if self._lapack:
            return _LogDet.apply(self.blocks.double()).to(self.blocks)
        return self._odd_even(_odd_even_logdet).to(self.blocks)

    def selected_inverse(self) -> Float[Tensor, "*batch T w n n"]:
        """The blocks of A^-1 within the band of A, laid out as `blocks`; linear in T, differentiable."""
        return self._ungroup(*self._odd_even(_odd_even_inverse)).to(self.blocks)

    @cached_property
    def variances(self) -> Float[Tensor, "*batch T n"]:
        """The diagonal of A^-1: marginal variances if A is a precision. Computed once, when first asked for."""
        main, _ = self._odd_even(_odd_even_inverse)
        return self._split(main.diagonal(dim1=-2, dim2=-1)).to(self.blocks)

    def sample(self, noise: Float[Tensor, "*#batch T n"]) -> Float[Tensor, "*#batch T n"]:
        """Draws with covariance A^-1 from unit normal `noise`, differentiable (a linear map of the noise)."""
        return self._split(self._odd_even(_odd_even_sample, noise)).to(noise)

    def double(self) -> BlockBanded:
        """The same matrix in float64."""
        return BlockBanded(self.blocks.double())

    @property
    def _lapack(self) -> bool:
        """Whether LAPACK's banded routines serve best: on the CPU, unless the matrix is as good as full."""
        return self.blocks.device.type == "cpu" and self._size < self.steps

    def _odd_even(self, algorithm, *vectors: Tensor):
        """One of the odd-even algorithms below, on groups and in float64; errors as in `solve`."""
        matrix = self.double()
        try:
            return algorithm(*matrix._tridiagonal(), *(self._group(x.double()) for x in vectors))
        except torch.linalg.LinAlgError as error:
            _factorise(matrix.blocks.cpu())  # says which window and time step it is
            raise ValueError(_not_positive_definite("some window")) from error

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


def _lower_triangle(blocks: Tensor, at: Tensor) -> Tensor:
    """The dense matrix whose block (row r, column c), c <= r, is `blocks[..., at[r, c], r - c, :, :]`."""
    steps, n = len(at), blocks.shape[-1]
    below = torch.arange(steps)[:, None] - torch.arange(steps)
    inside = ((below >= 0) & (below < blocks.shape[-3])).to(blocks)[:, :, None, None]
    full = blocks[..., at, below.clamp(0, blocks.shape[-3] - 1), :, :] * inside
    return full.transpose(-3, -2).reshape(*full.shape[:-4], steps * n, steps * n)


def _not_positive_definite(window: str, step: str = "") -> str:
    return (
        f"The precision matrix of {window} is not positive definite{step}. Either a covariance behind it is singular "
        "(a noise-free model: give it model_noise_std), or its parts differ by more than about 1e15 in scale: check "
        "units and noise_std, and for a linearised model start nearer to the truth or raise model_noise_std."
    )


@lru_cache
def _blas() -> ThreadpoolController:
    """What holds LAPACK to one thread.

    Its blocks are too small to share, and threads that wait for a busy core take hundreds of times as long.
    """
    return ThreadpoolController().select(user_api="blas")


def _factorise(blocks: Tensor):
    """LAPACK's lower banded Cholesky factor of all windows laid end to end, (bandwidth, windows * T * n)."""
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
    with _blas().limit(limits=1):
        solution, info = dpbtrs(factor, b.detach().reshape(-1).numpy(), lower=1)
    assert info == 0
    return torch.from_numpy(solution).reshape(b.shape)


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


def _eliminate(main: Tensor, lower: Tensor):
    """Eliminate time steps 0, 2, 4, ...; keep 1, 3, 5, ...

    Returns the eliminated steps' Cholesky factors and covariances given their neighbours, the regression weights of
    each kept step's left and right eliminated neighbour on it (x_left = -left x_kept + ...), and the matrix of the
    kept steps.
    """
    if main.shape[-3] % 2 == 0:  # one independent unit-variance step at the end, which nothing else sees
        identity = torch.eye(main.shape[-1]).to(main).expand_as(main[..., :1, :, :])
        main = torch.cat([main, identity], -3)
        lower = torch.cat([lower, torch.zeros_like(identity)], -3)
    factor = torch.linalg.cholesky(main[..., ::2, :, :])
    covariance = torch.cholesky_inverse(factor)
    from_left, from_right = lower[..., ::2, :, :], lower[..., 1::2, :, :].mT
    left = covariance[..., :-1, :, :] @ from_left.mT
    right = covariance[..., 1:, :, :] @ from_right.mT
    kept = main[..., 1::2, :, :] - from_left @ left - from_right @ right
    between = -from_left[..., 1:, :, :] @ right[..., :-1, :, :]
    return factor, covariance, left, right, (kept + kept.mT) / 2, between


def _neighbours(from_left: Tensor, from_right: Tensor, dim: int) -> Tensor:
    """Sum what kept steps send to their eliminated neighbours: to the left one (j) and the right one (j + 1)."""
    zero = torch.zeros_like(from_left.narrow(dim, 0, 1))
    return torch.cat([from_left, zero], dim) + torch.cat([zero, from_right], dim)


def _interleave(even: Tensor, odd: Tensor, steps: int, dim: int) -> Tensor:
    """even[0], odd[0], even[1], ... along `dim`, cut to `steps`."""
    odd = torch.cat([odd, torch.zeros_like(even.narrow(dim, 0, even.shape[dim] - odd.shape[dim]))], dim)
    return torch.stack([even, odd], dim).flatten(dim - 1, dim).narrow(dim, 0, steps)


def _odd_even_inverse(main: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse's main and lower blocks."""
    steps = main.shape[-3]
    if steps == 1:
        return torch.cholesky_inverse(torch.linalg.cholesky(main)), lower
    _, covariance, left, right, kept, between = _eliminate(main, lower)
    inverse, beside = _odd_even_inverse(kept, between)
    # Covariances of an eliminated step with the kept step at its right (`left` weights) and at its left (`right`
    # weights).
    with_right = -(left @ inverse)
    with_left = -(right @ inverse)
    if kept.shape[-3] > 1:
        with_right = with_right - pad(right[..., :-1, :, :] @ beside.mT, (0, 0, 0, 0, 1, 0))
        with_left = with_left - pad(left[..., 1:, :, :] @ beside, (0, 0, 0, 0, 0, 1))
    eliminated = covariance - _neighbours(with_right @ left.mT, with_left @ right.mT, -3)
    return (
        _interleave(eliminated, inverse, steps, -3),
        _interleave(with_right.mT, with_left, steps - 1, -3),
    )


def _odd_even_solve(main: Tensor, lower: Tensor, b: Tensor) -> Tensor:
    """A^-1 b for b (..., T, m)."""
    steps = main.shape[-3]
    if steps == 1:
        return torch.cholesky_solve(b.unsqueeze(-1), torch.linalg.cholesky(main)).squeeze(-1)
    factor, _, left, right, kept, between = _eliminate(main, lower)
    even, odd = pad(b, (0, 0, 0, 1 - steps % 2))[..., ::2, :], b[..., 1::2, :]
    odd = odd - (left.mT @ even[..., :-1, :, None] + right.mT @ even[..., 1:, :, None]).squeeze(-1)
    x = _odd_even_solve(kept, between, odd)
    alone = torch.cholesky_solve(even.unsqueeze(-1), factor).squeeze(-1)
    pulled = _neighbours((left @ x.unsqueeze(-1)).squeeze(-1), (right @ x.unsqueeze(-1)).squeeze(-1), -2)
    return _interleave(alone - pulled, x, steps, -2)


def _odd_even_logdet(main: Tensor, lower: Tensor) -> Tensor:
    """Log det A: the sum over all eliminated steps."""
    if main.shape[-3] == 1:
        return _logdet(torch.linalg.cholesky(main))
    factor, *_, kept, between = _eliminate(main, lower)
    return _logdet(factor) + _odd_even_logdet(kept, between)


def _logdet(factor: Tensor) -> Tensor:
    """Of the product of F F' over the time steps' Cholesky factors F."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))


def _odd_even_sample(main: Tensor, lower: Tensor, noise: Tensor) -> Tensor:
    """Draw the kept steps from their marginal, then each eliminated step given its two neighbours."""
    steps = main.shape[-3]
    if steps == 1:
        return torch.linalg.solve_triangular(torch.linalg.cholesky(main).mT, noise.unsqueeze(-1), upper=True).squeeze(
            -1
        )
    factor, _, left, right, kept, between = _eliminate(main, lower)
    even, odd = pad(noise, (0, 0, 0, 1 - steps % 2))[..., ::2, :], noise[..., 1::2, :]
    x = _odd_even_sample(kept, between, odd)
    alone = torch.linalg.solve_triangular(factor.mT, even.unsqueeze(-1), upper=True).squeeze(-1)
    pulled = _neighbours((left @ x.unsqueeze(-1)).squeeze(-1), (right @ x.unsqueeze(-1)).squeeze(-1), -2)
    return _interleave(alone - pulled, x, steps, -2)
