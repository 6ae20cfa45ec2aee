"""Odd-even elimination against dense algebra, in both ways that blocks are kept."""

import pytest
import torch
from torch.autograd import gradcheck

from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.odd_even import MANY, SMALL, ByBlocks, ByNumbers, OddEven


def drawn(windows, steps, n, seed=0):
    """A matrix and its main and lower blocks."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(windows, steps, 2, n, n, generator=generator, dtype=torch.float64)
    factor[:, :, 0] += 3 * torch.eye(n)
    A = BlockBanded.gram(factor)
    return A, A.blocks[:, :, 0], A.blocks[:, :-1, -1]  # of one step, none below


def columns(windows, steps, n, count):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(windows, steps, n, count, generator=generator, dtype=torch.float64)


SIZES = [(windows, n) for windows in (1, MANY - 1, MANY) for n in (1, SMALL, SMALL + 1)]


@pytest.mark.parametrize(("windows", "n"), SIZES)
def test_few_numbers_of_many_windows_are_kept_number_by_number(windows, n):
    _, main, lower = drawn(windows, 3, n)
    assert OddEven(main, lower).layout is (ByNumbers if windows >= MANY and n <= SMALL else ByBlocks)
    assert OddEven(main.requires_grad_(), lower).layout is ByBlocks


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize(("windows", "n"), SIZES)
def test_all_that_is_asked_is_that_of_the_dense_matrix(windows, n, steps):
    A, main, lower = drawn(windows, steps, n)
    found, b, dense = OddEven(main, lower), columns(windows, steps, n, 2), A.dense()
    inverse = torch.linalg.inv(dense).unflatten(-1, (steps, n)).unflatten(-3, (steps, n)).transpose(-3, -2)
    blocks, beside = found.inverse()
    t = torch.arange(steps)
    torch.testing.assert_close(blocks, inverse[:, t, t])
    torch.testing.assert_close(beside, inverse[:, t[1:], t[:-1]])
    solution = torch.linalg.solve(dense, b.flatten(1, 2)).unflatten(1, (steps, n))
    torch.testing.assert_close(found.solve(b), solution)
    torch.testing.assert_close(found.logdet(), torch.logdet(dense))
    root = found.sample(torch.eye(steps * n).double().view(1, steps, n, -1).expand(windows, -1, -1, -1)).flatten(1, 2)
    torch.testing.assert_close(root @ root.mT, torch.linalg.inv(dense))


@pytest.mark.parametrize("asked", ["inverse", "logdet", "solve", "sample"])
def test_gradients_equal_finite_differences(asked):
    _, main, lower = drawn(2, 3, 2)
    b = columns(2, 3, 2, 1)

    def of(main, lower):
        found = OddEven((main + main.mT) / 2, lower)
        return getattr(found, asked)(*([b] if asked in ("solve", "sample") else []))

    assert gradcheck(of, (main.clone().requires_grad_(), lower.clone().requires_grad_()))


@pytest.mark.parametrize("step", range(4))
def test_what_is_not_positive_definite_is_named_among_many_windows(step):
    A, _, _ = drawn(MANY, 4, 3)
    A.blocks[5, step, 0, 0, 0] = -1.0
    with pytest.raises(ValueError, match=rf"window 5 .* at time step {step}"):
        _ = A.variances
    with pytest.raises(ValueError, match=rf"window 5 .* at time step {step}"):
        A.solve(columns(MANY, 4, 3, 1)[..., 0])


def test_a_matrix_that_is_as_good_as_full_is_solved_to_what_its_condition_allows():
    steps, n = 8, 3
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(steps * n, steps * n, generator=generator, dtype=torch.float64)
    rows *= torch.where(torch.rand(steps * n, 1, generator=generator) < 0.4, 1e4, 1.0)
    A = BlockBanded.from_dense(rows.mT @ rows, steps)
    x = torch.randn(steps, n, generator=generator, dtype=torch.float64)
    b = A.matvec(x)
    left = (A.matvec(A.solve(b)) - b).abs().max() / b.abs().max()
    assert left < 1e-13
