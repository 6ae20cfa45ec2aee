"""Each kind of rows against its dense matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nida_kit.linalg.rows import Banded, Diagonal, Differential, Rows, Sparse, Stack, Through, Whole

STEPS, N, P, M = 4, 3, 2, 5


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def per_window(matrix_of, value, own):
    """A dense matrix of each window of a tensor of which the last `own` axes are its own."""
    lead, windows = value.shape[: value.ndim - own], value.reshape(-1, *value.shape[value.ndim - own :])
    dense = torch.stack([matrix_of(window) for window in windows])
    return dense.view(*lead, *dense.shape[1:])


def banded_by_loops(factor):
    steps, width, p, n = factor.shape
    dense = factor.new_zeros(steps, p, steps, n)
    for t in range(steps):
        for d in range(min(width, t + 1)):
            dense[t, :, t - d] = factor[t, d]
    return dense.view(steps * p, steps * n)


def diagonal(batch, seed=1):
    weight = draw(*batch, STEPS, N, seed=seed)
    weight[..., 1, 0] = 0.0  # no row
    return Diagonal(weight), per_window(lambda w: torch.diag(w.flatten()), weight, 2), (STEPS, N)


def banded(width):
    def make(batch, seed=1):
        factor = draw(*batch, STEPS, width + 1, P, N, seed=seed)
        return Banded(factor), per_window(banded_by_loops, factor, 4), (STEPS, P)

    return make


def whole(batch, seed=1):
    matrix = draw(*batch, M, STEPS, N, seed=seed)
    return Whole(matrix), matrix.reshape(*batch, M, STEPS * N), (1, M)


def sparse(batched):
    def make(batch, seed=1):
        shape = (*(batch if batched else ()), M, 3)
        index = torch.randint(STEPS * N, shape, generator=torch.Generator().manual_seed(seed))
        index[..., 0, 2] = index[..., 0, 0]  # a row that sees one value twice
        weight = draw(*batch, M, 3, seed=seed)
        dense = weight.new_zeros(*batch, M, STEPS * N)
        for where in np.ndindex(*batch, M, 3):
            dense[(*where[:-1], index[where if batched else where[-2:]])] += weight[where]
        return Sparse(index, weight, (STEPS, N)), dense, (1, M)

    return make


KINDS = {"diagonal": diagonal, "whole": whole, "sparse": sparse(False), "sparse of each window": sparse(True)} | {
    f"banded {w}": banded(w) for w in (0, 1, STEPS - 1, STEPS + 1)
}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_batch = pytest.mark.parametrize("batch", [(), (3,), (2, 1)])


def times(matrix, v):
    """A dense matrix on `(..., T, n)`, flat."""
    return (matrix @ v.flatten(-2).unsqueeze(-1)).squeeze(-1)


@every_kind
@every_batch
def test_push_and_pull_are_the_dense_products(kind, batch):
    rows, dense, shape = KINDS[kind](batch)
    v, w = draw(*batch, STEPS, N, seed=2), draw(*batch, *shape, seed=3)
    assert isinstance(rows, Rows)
    assert rows.push(v).shape == w.shape and rows.pull(w).shape == v.shape
    assert_same(rows.push(v).flatten(-2), times(dense, v))
    assert_same(rows.pull(w).flatten(-2), times(dense.mT, w))


@every_kind
@every_batch
def test_gram_and_squares_are_those_of_the_dense_matrix(kind, batch):
    rows, dense, _ = KINDS[kind](batch)
    gram = dense.mT @ dense
    assert_same(rows.gram().dense(), gram)
    assert rows.squares().shape == (*batch, STEPS, N)
    assert_same(rows.squares().flatten(-2), gram.diagonal(dim1=-2, dim2=-1))


@every_kind
def test_axes_that_the_rows_lack_broadcast(kind):
    rows, dense, shape = KINDS[kind](())
    v, w = draw(2, 3, STEPS, N, seed=2), draw(2, 3, *shape, seed=3)
    assert_same(rows.push(v).flatten(-2), times(dense, v))
    assert_same(rows.pull(w).flatten(-2), times(dense.mT, w))


@every_kind
def test_axes_that_the_vector_lacks_broadcast(kind):
    rows, dense, shape = KINDS[kind]((3,))
    v, w = draw(STEPS, N, seed=2), draw(*shape, seed=3)
    assert_same(rows.push(v).flatten(-2), times(dense, v))
    assert_same(rows.pull(w).flatten(-2), times(dense.mT, w))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.split()[0] not in ("whole", "sparse")])
@every_batch
def test_along_time_holds_the_same_rows_at_the_steps_that_they_end_at(kind, batch):
    rows, dense, _ = KINDS[kind](batch)
    factor = rows.along_time()
    assert factor.shape[:-3] == (*batch, STEPS)
    found = per_window(banded_by_loops, factor, 4)
    if kind == "whole":  # those of the last step; the others have none
        assert (found[..., :-M, :] == 0).all()
        found = found[..., -M:, :]
    assert_same(found, dense)


# Stacks


def stacked(batches, kinds=("diagonal", "banded 1", "whole", "banded 0")):
    made = [KINDS[kind](batch, seed) for seed, (kind, batch) in enumerate(zip(kinds, batches, strict=True))]
    return Stack(tuple(rows for rows, _, _ in made)), [dense for _, dense, _ in made], [shape for _, _, shape in made]


SPARSE = ("diagonal", "banded 1", "sparse", "sparse of each window")
MIXED = [((),) * 4, ((3,),) * 4, ((), (3,), (), ()), ((), (), (3,), ()), ((2, 1), (), (3,), (1, 3))]
every_mix = pytest.mark.parametrize("batches", MIXED)


@every_mix
def test_a_stack_pushes_to_each_part_and_pulls_the_sum(batches):
    stack, dense, shapes = stacked(batches)
    batch = torch.broadcast_shapes(*batches)
    v, w = draw(*batch, STEPS, N, seed=7), [draw(*batch, *shape, seed=8) for shape in shapes]
    for pushed, matrix in zip(stack.push(v), dense, strict=True):
        assert_same(pushed.flatten(-2), times(matrix, v).expand(pushed.flatten(-2).shape))
    together = sum(times(matrix.mT, each) for matrix, each in zip(dense, w, strict=True))
    assert_same(stack.pull(w).flatten(-2), together)
    assert_same(stack.pull([w[0], None, w[2], None]).flatten(-2), times(dense[0].mT, w[0]) + times(dense[2].mT, w[2]))


@every_mix
def test_the_gram_and_squares_of_a_stack_are_sums(batches):
    stack, dense, _ = stacked(batches)
    gram = sum(matrix.mT @ matrix for matrix in dense)
    assert stack.assembles
    assert_same(stack.gram().dense(), gram)
    assert_same(stack.squares().flatten(-2), gram.diagonal(dim1=-2, dim2=-1))


@every_mix
def test_the_dense_stack_has_the_rows_of_all_parts(batches):
    stack, dense, _ = stacked(batches)
    found = stack.dense()
    batch = torch.broadcast_shapes(*batches)
    # In another order, and with rows of zeros where a part has none at a step: what they determine is the same.
    assert found.shape[:-2] == batch and found.shape[-1] == STEPS * N
    expected = torch.cat([matrix.expand(*batch, *matrix.shape[-2:]) for matrix in dense], -2)
    assert_same(found.mT @ found, expected.mT @ expected)
    for pair in zip(*(matrix.reshape(-1, *matrix.shape[-2:]) for matrix in (found, expected)), strict=True):
        have, want = (sorted(row.tolist() for row in matrix if row.any()) for matrix in pair)
        assert have == want


def test_one_parts_dense_stack_is_its_matrix():
    for kind in ("diagonal", "banded 0", "banded 1", f"banded {STEPS - 1}", f"banded {STEPS + 1}"):
        rows, dense, _ = KINDS[kind]((2,))
        assert torch.equal(Stack((rows,)).dense(), dense)


@every_mix
def test_sparse_rows_are_set_apart_as_whole_ones_and_weigh_as_much(batches):
    stack, dense, _ = stacked(batches, SPARSE)
    band, rest = stack.split()
    assert stack.assembles and band.parts == stack.parts[:2]
    gram = sum(matrix.mT @ matrix for matrix in dense)
    assert_same(stack.gram().dense(), gram)
    assert_same(stack.dense().mT @ stack.dense(), gram)
    few = sum(matrix.mT @ matrix for matrix in dense[2:])
    assert_same(rest.flat.mT @ rest.flat, few.expand(rest.flat.mT.shape[:-2] + few.shape[-2:]))


@every_mix
def test_split_sets_the_whole_rows_apart(batches):
    stack, dense, _ = stacked(batches)
    band, rest = stack.split()
    assert band.parts == tuple(part for part in stack.parts if not isinstance(part, Whole))
    assert torch.equal(rest.flat, dense[2])
    assert Stack(band.parts).split() == (band, None)


@given(st.data())
def test_any_banded_rows_are_their_dense_matrix(data):
    steps, width = data.draw(st.integers(1, 7)), data.draw(st.integers(0, 8))
    p, n, seed = (data.draw(st.integers(1, high)) for high in (3, 3, 99))
    batch = data.draw(st.sampled_from([(), (2,), (1, 2)]))
    factor, v, w = (draw(*batch, *s, seed=seed) for s in ((steps, width + 1, p, n), (steps, n), (steps, p)))
    rows, dense = Banded(factor), per_window(banded_by_loops, factor, 4)
    assert_same(rows.push(v).flatten(-2), times(dense, v))
    assert_same(rows.pull(w).flatten(-2), times(dense.mT, w))
    assert_same(rows.gram().dense(), dense.mT @ dense)
    assert_same(rows.squares().flatten(-2), (dense.mT @ dense).diagonal(dim1=-2, dim2=-1))
    assert torch.equal(Stack((rows,)).dense(), dense)


# Rows that are never written down


def bend(x):
    """Mixes times and components, `(..., T, n)` to `(..., 2, 2)`."""
    return torch.stack([x[..., :2, 0].sin() * x[..., 1:3, 1], x.square().mean(-2, keepdim=True).exp()[..., 0, :2]], -1)


@every_batch
def test_a_differential_is_autograds_jacobian(batch):
    point = draw(*batch, STEPS, N)
    rows = Differential(bend, point)
    dense = per_window(lambda x: torch.autograd.functional.jacobian(bend, x).view(4, STEPS * N), point, 2)
    v, w = draw(*batch, STEPS, N, seed=2), draw(*batch, 2, 2, seed=3)
    assert isinstance(rows, Rows) and not Stack((rows,)).assembles
    assert_same(rows.push(v).flatten(-2), times(dense, v))
    assert_same(rows.pull(w).flatten(-2), times(dense.mT, w))
    # A vector for all windows.
    v, w = draw(STEPS, N, seed=4), draw(2, 2, seed=5)
    assert_same(rows.push(v).flatten(-2), times(dense, v))
    assert_same(rows.pull(w).flatten(-2), times(dense.mT, w))


@every_kind
@every_batch
def test_through_a_generator_is_the_product(kind, batch):
    rows, dense, shape = KINDS[kind](batch)
    matrix = draw(*batch, STEPS * N, 2, 4, seed=5)

    class Generator:
        """From (..., 2, 4) to (..., T, n)."""

        def push(self, z):
            return times(matrix.flatten(-2), z).unflatten(-1, (STEPS, N))

        def pull(self, x):
            return times(matrix.flatten(-2).mT, x).unflatten(-1, (2, 4))

    through, product = Through(rows, Generator()), dense @ matrix.flatten(-2)
    z, w = draw(*batch, 2, 4, seed=6), draw(*batch, *shape, seed=7)
    assert isinstance(through, Rows) and not Stack((rows, through)).assembles
    assert_same(through.push(z).flatten(-2), times(product, z))
    assert_same(through.pull(w).flatten(-2), times(product.mT, w))
