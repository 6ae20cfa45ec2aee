"""Conjugate gradients against dense solves."""

import warnings

import pytest
import torch

from nida_kit.linalg.cg import ConjugateGradients, conjugate_gradients
from nida_kit.linalg.rows import Banded, Diagonal, Differential, Stack

STEPS, N = 6, 3


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(batch):
    """Well determined: every value is known, and neighbours are tied."""
    return Stack((Diagonal(0.5 + draw(*batch, STEPS, N).abs()), Banded(draw(*batch, STEPS, 2, 2, N, seed=2))))


def plain(v):
    return v


def jacobi(stack):
    scale = 1 / stack.squares()
    return lambda v: v * scale


def dense_solution(stack, b):
    return torch.linalg.solve(stack.gram().dense(), b.flatten(-2)).unflatten(-1, b.shape[-2:])


def error_of(x, expected):
    """Relative, of each window."""
    return ((x - expected).square().sum((-2, -1)) / expected.square().sum((-2, -1))).sqrt()


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_solution_is_that_of_a_dense_solve(batch, preconditioned):
    stack, b = rows(batch), draw(*batch, STEPS, N, seed=3)
    cg = ConjugateGradients(stack, 1e-12, 200, jacobi(stack) if preconditioned else plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = cg.solve(b)
    assert x.shape == b.shape
    assert (error_of(x, dense_solution(stack, b)) < 1e-9).all()


def test_rows_that_are_never_written_down_are_solved_as_well():
    stack, b = rows(()), draw(STEPS, N, seed=3)
    slopes = Differential(lambda x: stack.parts[1].push(x), torch.zeros(STEPS, N, dtype=torch.float64))
    x = ConjugateGradients(Stack((stack.parts[0], slopes)), 1e-12, 200, plain).solve(b)
    assert error_of(x, dense_solution(stack, b)) < 1e-9


def test_more_right_hand_sides_share_the_rows():
    stack, b = rows((2,)), draw(3, 2, STEPS, N, seed=3)
    x = ConjugateGradients(stack, 1e-12, 200, plain).solve(b)
    for some, expected in zip(x, b, strict=True):
        assert (error_of(some, dense_solution(stack, expected)) < 1e-9).all()


def test_it_ends_after_as_many_iterations_as_there_are_different_eigenvalues():
    weight = torch.ones(STEPS, N, dtype=torch.float64)
    weight[1:3], weight[3:] = 2.0, 5.0
    stack, b = Stack((Diagonal(weight),)), draw(STEPS, N, seed=3)

    def matvec(v):
        return stack.pull(stack.push(v))

    x, residual, done = conjugate_gradients(matvec, b, plain, 1e-12, 200)
    assert int(done) == 3 and residual < 1e-12
    torch.testing.assert_close(x, b / weight.square(), rtol=1e-10, atol=0.0)
    assert conjugate_gradients(matvec, b, jacobi(stack), 1e-12, 200)[2] == 1


def test_the_residual_is_the_one_of_the_answer():
    stack, b = rows((4,)), draw(4, STEPS, N, seed=3)
    x, residual, done = conjugate_gradients(lambda v: stack.pull(stack.push(v)), b, plain, 1e-12, 3)
    left = b - stack.pull(stack.push(x))
    expected = (left.square().sum((-2, -1)) / b.square().sum((-2, -1))).sqrt()
    torch.testing.assert_close(residual.flatten(), expected, rtol=1e-8, atol=0.0)
    assert (done == 3).all() and (residual > 1e-12).all()


def test_it_warns_where_it_has_not_converged():
    stack, b = rows((4,)), draw(4, STEPS, N, seed=3)
    with pytest.warns(UserWarning, match="not converged after 2 iterations"):
        ConjugateGradients(stack, 1e-10, 2, plain).solve(b)


def test_nothing_to_solve_for_is_zero():
    stack, b = rows((2,)), draw(2, STEPS, N, seed=3)
    b[0] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = ConjugateGradients(stack, 1e-10, 200, plain).solve(b)
    assert (x[0] == 0).all() and x.isfinite().all()
    assert error_of(x[1], dense_solution(stack, b)[1]) < 1e-8


def test_a_window_does_not_depend_on_the_others():
    stack, b = rows((4,)), draw(4, STEPS, N, seed=3)
    b = b * torch.tensor([1e-6, 1.0, 1e6, 0.0], dtype=torch.float64)[:, None, None]
    together = ConjugateGradients(stack, 1e-10, 200, plain).solve(b)
    diagonal, banded = stack.parts
    for i in range(4):
        alone = Stack((Diagonal(diagonal.weight[i]), Banded(banded.factor[i])))
        x = ConjugateGradients(alone, 1e-10, 200, plain).solve(b[i])
        torch.testing.assert_close(together[i], x, rtol=1e-12, atol=0.0)
        # Beside another one it is the same as well.
        pair = Stack((Diagonal(diagonal.weight[[i, 1]]), Banded(banded.factor[[i, 1]])))
        again = ConjugateGradients(pair, 1e-10, 200, plain).solve(b[[i, 1]])
        torch.testing.assert_close(again[0], x, rtol=1e-12, atol=0.0)


def test_the_error_that_is_left_of_a_window_does_not_depend_on_others_that_take_longer():
    diagonal, banded = rows((2,)).parts
    banded = Banded(banded.factor * torch.tensor([1.0, 30.0], dtype=torch.float64)[:, None, None, None, None])
    b, values = draw(2, STEPS, N, seed=3), torch.full((2, 1, 1), 10.0, dtype=torch.float64)

    def solved(windows):
        stack = Stack((Diagonal(diagonal.weight[windows]), Banded(banded.factor[windows])))
        return ConjugateGradients(stack, 1e-4, 200, plain, values[windows]).solved(b[windows])

    alone, together = solved([0]), solved([0, 1])
    assert together[2][1] > together[2][0] == alone[2][0]
    torch.testing.assert_close(together[1][:1], alone[1], rtol=1e-9, atol=0.0)
