"""Block-banded matrices against dense float64 algebra."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import lapack
from torch.autograd import gradcheck

from nida_kit.linalg import banded
from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.odd_even import OddEven

CASES = [(steps, width, batch) for steps in (1, 2, 5, 8) for width in range(steps) for batch in ((), (3,), (2, 1))]
every_case = pytest.mark.parametrize(("steps", "width", "batch"), CASES)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_factor(steps, width, batch=(), n=2):
    """Rows of a well-conditioned F."""
    factor = 0.4 / n**0.5 * draw(*batch, steps, width + 1, n, n, seed=100 * steps + width)
    factor[..., 0, :, :] += 2 * torch.eye(n)
    return factor


def draw_matrix(steps, width, batch=(), n=2):
    return BlockBanded.gram(draw_factor(steps, width, batch, n))


def dense_by_loops(factor):
    """F' F from the definition of F, entry by entry."""
    *batch, steps, diagonals, n, _ = factor.shape
    F = np.zeros((*batch, steps, n, steps, n))
    for t in range(steps):
        for d in range(min(diagonals, t + 1)):
            F[..., t, :, t - d, :] = factor[..., t, d, :, :].numpy()
    F = F.reshape(*batch, steps * n, steps * n)
    return torch.from_numpy(np.swapaxes(F, -1, -2) @ F)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@every_case
def test_gram_and_dense_are_the_factors_product(steps, width, batch):
    factor = draw_factor(steps, width, batch)
    assert_same(BlockBanded.gram(factor).dense(), dense_by_loops(factor))


@every_case
def test_from_dense_keeps_every_entry(steps, width, batch):
    A = draw_matrix(steps, width, batch)
    again = BlockBanded.from_dense(A.dense(), steps)
    assert again.width == steps - 1
    assert torch.equal(again.dense(), A.dense())


@every_case
def test_matvec_is_the_dense_product(steps, width, batch):
    A, x = draw_matrix(steps, width, batch), draw(*batch, steps, 2)
    assert_same(A.matvec(x).flatten(-2), (A.dense() @ x.flatten(-2).unsqueeze(-1)).squeeze(-1))


@every_case
def test_a_total_is_the_sum_of_the_dense_matrices(steps, width, batch):
    A, B, C = draw_matrix(steps, width, batch), draw_matrix(steps, 0, ()), draw_matrix(steps, 1, batch)
    assert_same(BlockBanded.total([B, A, C]).dense(), A.dense() + B.dense() + C.dense())
    assert_same(BlockBanded.total([A]).dense(), A.dense())


@every_case
def test_solve_inverts_matvec_and_equals_the_dense_solution(steps, width, batch):
    A, x = draw_matrix(steps, width, batch), draw(*batch, steps, 2)
    b = A.matvec(x)
    assert_same(A.solve(b), x)
    assert_same(A.solve(x).flatten(-2), torch.linalg.solve(A.dense(), x.flatten(-2)))


@every_case
def test_logdet_is_the_dense_one(steps, width, batch):
    A = draw_matrix(steps, width, batch)
    assert_same(A.logdet(), torch.linalg.slogdet(A.dense()).logabsdet)


@every_case
def test_selected_inverse_and_variances_are_those_of_the_dense_inverse(steps, width, batch):
    A = draw_matrix(steps, width, batch)
    inverse = torch.linalg.inv(A.dense())
    assert_same(A.variances.flatten(-2), inverse.diagonal(dim1=-2, dim2=-1))
    assert_same(A.selected_inverse(), BlockBanded.from_dense(inverse, steps).blocks[..., : width + 1, :, :])


def test_few_windows_have_the_variances_that_they_have_among_many():
    many = draw_matrix(32, 2, (40,), n=3)
    few = BlockBanded(many.blocks[:2])
    assert "_elimination" not in few.__dict__ and "_elimination" not in many.__dict__
    assert_same(few.variances, many.variances[:2])
    assert few._few_variances() is not None and many._few_variances() is None


@every_case
def test_sample_maps_unit_noise_to_the_inverse_covariance(steps, width, batch):
    A = draw_matrix(steps, width, batch)
    units = torch.eye(2 * steps, dtype=torch.float64).view(2 * steps, *[1] * len(batch), steps, 2)
    columns = A.sample(units.expand(-1, *batch, -1, -1)).flatten(-2).movedim(0, -1)
    assert_same(columns @ columns.mT, torch.linalg.inv(A.dense()))


@every_case
def test_odd_even_elimination_equals_lapack(steps, width, batch):
    A, b = draw_matrix(steps, width, batch), draw(*batch, steps, 2)
    assert_same(A._by_elimination(OddEven.solve, b), A.solve(b))
    assert_same(A._elimination.logdet().view(A.blocks.shape[:-4]), A.logdet())


@given(st.data())
def test_any_shape_solves_samples_and_keeps_its_variances(data):
    steps = data.draw(st.integers(1, 9))
    width, n = data.draw(st.integers(0, steps - 1)), data.draw(st.integers(1, 6))
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    A, x = draw_matrix(steps, width, batch, n), draw(*batch, steps, n)
    assert_same(A.solve(A.matvec(x)), x)
    assert_same(A.variances.flatten(-2), torch.linalg.inv(A.dense()).diagonal(dim1=-2, dim2=-1))
    assert A.sample(x).shape == x.shape


@pytest.mark.parametrize("n", [1, 3, 4, 5, 40])
@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_blocks_of_any_size_are_solved(n, width):
    A, b = draw_matrix(5, width, (2,), n), draw(2, 5, n)
    assert_same(A.solve(b).flatten(-2), torch.linalg.solve(A.dense(), b.flatten(-2)))
    assert_same(A._by_elimination(OddEven.solve, b), A.solve(b))
    assert_same(A.logdet(), torch.linalg.slogdet(A.dense()).logabsdet)


@pytest.mark.parametrize("method", ["matvec", "solve", "sample"])
@pytest.mark.parametrize("width", [0, 1, 2, 4])
@pytest.mark.parametrize(("batch", "vectors"), [((), (3,)), ((3,), ()), ((2, 1), (3,))])
def test_batches_broadcast(method, width, batch, vectors):
    A, x = draw_matrix(5, width, batch), draw(*vectors, 5, 2)
    whole = torch.broadcast_shapes(batch, vectors)
    expanded = BlockBanded(A.blocks.expand(*whole, *A.blocks.shape[-4:]))
    assert_same(getattr(A, method)(x), getattr(expanded, method)(x.expand(*whole, 5, 2)))


@pytest.mark.parametrize("blocks_per_row", [2, 5])
def test_a_single_step_may_come_with_a_wider_band(blocks_per_row):
    A, b = draw_matrix(1, blocks_per_row - 1), draw(1, 2)
    alone = BlockBanded(A.blocks[:, :1])
    assert_same(A.solve(b), alone.solve(b))
    assert_same(A.variances, alone.variances)
    assert A.selected_inverse().shape == A.blocks.shape
    assert gradcheck(lambda f: BlockBanded.gram(f).logdet(), draw_factor(1, blocks_per_row - 1).requires_grad_())


DIFFERENTIABLE = {
    "solve": lambda A, b: A.solve(b),
    "odd-even solve": lambda A, b: A._by_elimination(OddEven.solve, b),
    "logdet": lambda A, b: A.logdet(),
    "odd-even logdet": lambda A, b: A._elimination.logdet().view(A.blocks.shape[:-4]),
    "variances": lambda A, b: A.variances,
    "selected_inverse": lambda A, b: A.selected_inverse(),
    "sample": lambda A, b: A.sample(b),
    "matvec": lambda A, b: A.matvec(b),
    "dense": lambda A, b: A.dense(),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize(
    ("steps", "width", "n", "batch"),
    [(1, 0, 2, ()), (3, 0, 2, (2,)), (4, 1, 2, ()), (4, 2, 2, ()), (3, 2, 2, (2,)), (2, 1, 4, ())],
)
def test_gradients_equal_finite_differences(name, steps, width, n, batch):
    factor = draw_factor(steps, width, batch, n).requires_grad_()
    b = draw(*batch, steps, n).requires_grad_()
    assert gradcheck(lambda f, b: DIFFERENTIABLE[name](BlockBanded.gram(f), b), (factor, b))


def second_differences(steps, dtype):
    """F x = x_t - 2 x_{t-1} + x_{t-2}: whole numbers, and F^-1 sums up twice."""
    return torch.tensor([1, -2, 1], dtype=dtype).view(3, 1, 1).repeat(steps, 1, 1, 1)


def test_float32_input_of_condition_1e10_is_solved_to_float32_precision():
    steps = 320
    A = BlockBanded.gram(second_differences(steps, torch.float32))
    assert np.linalg.cond(A.dense().double().numpy()) > 1e10
    b = torch.randint(-3, 4, (steps, 1), generator=torch.Generator().manual_seed(0))
    exact = b.flip(0).cumsum(0).cumsum(0).flip(0).cumsum(0).cumsum(0).double()
    x = A.solve(b.float())
    assert x.dtype == torch.float32
    assert (x - exact).norm() <= torch.finfo(torch.float32).eps * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_answer_has_the_dtype_that_was_given(dtype):
    A, b = BlockBanded(draw_matrix(4, 1).blocks.to(dtype)), draw(4, 2).to(dtype)
    assert {a.dtype for a in (A.solve(b), A.logdet(), A.variances, A.selected_inverse(), A.sample(b))} == {dtype}


ASKED = {name: f for name, f in DIFFERENTIABLE.items() if name not in ("matvec", "dense")}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("odd_even_only", [False, True])
@pytest.mark.parametrize(("steps", "width"), [(5, 1), (5, 2), (5, 4), (6, 2), (7, 3), (8, 3), (9, 4)])
def test_blocks_that_reach_past_the_window_count_as_zero(name, odd_even_only, steps, width, monkeypatch):
    if odd_even_only:
        monkeypatch.setattr(BlockBanded, "_lapack", False)
    A, b = draw_matrix(steps, width, (3,)), draw(3, steps, 2)
    past = torch.arange(steps)[:, None] + torch.arange(width + 1) >= steps
    wild = BlockBanded(A.blocks.where(~past[:, :, None, None], 7.0))
    assert_same(DIFFERENTIABLE[name](wild, b), DIFFERENTIABLE[name](A, b))


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_what_is_not_positive_definite_is_named_by_window_and_time(name, width):
    A = draw_matrix(5, width, (3,))
    A.blocks[1, 2, 0] -= 100 * torch.eye(2)
    with pytest.raises(ValueError, match=r"window 1 is not positive definite at time step 2.*model_noise_std"):
        ASKED[name](A, draw(3, 5, 2))


@pytest.mark.parametrize("shape", [(7,), (2, 3), (1, 7)])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_many_windows_are_inverted_in_parts_with_the_same_answer(shape, width, monkeypatch):
    A = draw_matrix(5, width, shape)
    whole = A.selected_inverse(), A.variances
    monkeypatch.setattr(banded, "PART", 2 * A.blocks[(0,) * len(shape)].numel())
    again = BlockBanded(A.blocks)
    assert_same(again.selected_inverse(), whole[0])
    assert_same(again.variances, whole[1])
    A.blocks[shape[0] - 1, ..., 2, 0, :, :] -= 100 * torch.eye(2)
    first = (shape[0] - 1) * math.prod(shape[1:])
    with pytest.raises(ValueError, match=rf"window {first} is not positive definite at time step 2"):
        BlockBanded(A.blocks).selected_inverse()


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_nothing_modifies_its_input(name, width):
    A, b = draw_matrix(5, width, (2,)), draw(2, 5, 2)
    blocks, before = A.blocks.clone(), b.clone()
    ASKED[name](A, b)
    assert torch.equal(A.blocks, blocks)
    assert torch.equal(b, before)


def test_lapack_is_held_to_one_thread_and_let_go_again(monkeypatch):
    def threads():
        return [library["num_threads"] for library in banded._blas().info()]

    seen, dpbtrf = [], lapack.dpbtrf

    def watched(*args, **how):
        seen.append(threads())
        return dpbtrf(*args, **how)

    monkeypatch.setattr(lapack, "dpbtrf", watched)
    before = threads()
    matrix = BlockBanded(torch.eye(2, dtype=torch.float64).expand(4, 1, 2, 2))
    matrix.solve(torch.ones(4, 2, dtype=torch.float64))
    assert seen == [[1] * len(before)] and before and threads() == before
