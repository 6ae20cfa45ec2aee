"""Covariances by their roots, against numpy."""

import numpy as np
import pytest
import torch

from nida_kit.linalg.covariance import Covariance

N = 4


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix_of(batch, seed=1):
    root = draw(*batch, N, N + 2, seed=seed)
    return root @ root.mT


def diagonal(batch):
    std = draw(*batch, N).abs() + 0.1
    return Covariance.diagonal(std), np.einsum("...i,ij->...ij", std.numpy() ** 2, np.eye(N))


def full(batch):
    matrix = matrix_of(batch)
    return Covariance.full(matrix), matrix.numpy()


every_case = pytest.mark.parametrize("batch", [(), (3,), (2, 1)])
every_kind = pytest.mark.parametrize("kind", [diagonal, full])


def assert_same(actual, expected):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=1e-10, atol=1e-11)


@every_kind
@every_case
def test_moments_are_those_of_the_matrix(kind, batch):
    covariance, R = kind(batch)
    assert_same(covariance.matrix, R)
    assert_same(covariance.std, np.sqrt(np.diagonal(R, axis1=-2, axis2=-1)))
    assert_same(covariance.logdet, np.linalg.slogdet(R)[1])


@every_kind
@every_case
def test_the_inverse_root_makes_the_precision(kind, batch):
    covariance, R = kind(batch)
    root = covariance.inverse_root.numpy()
    assert_same(np.swapaxes(root, -1, -2) @ root, np.linalg.inv(R))
    assert (np.triu(root, 1) == 0).all()


@every_kind
@every_case
def test_whitening_is_the_inverse_cholesky_factor(kind, batch):
    covariance, R = kind(batch)
    inverse = np.linalg.inv(np.linalg.cholesky(R))
    error, rows = draw(5, *batch, N, seed=2), draw(*batch, N, 3, seed=3)
    assert_same(covariance.whiten(error), np.einsum("...ij,...j->...i", inverse, error.numpy()))
    assert_same(covariance.whiten_rows(rows), inverse @ rows.numpy())
    assert_same(covariance.whiten(error).square().sum(-1), np.einsum(
        "...i,...ij,...j->...", error.numpy(), np.linalg.inv(R), error.numpy()
    ))  # fmt: skip


@every_kind
@every_case
def test_colouring_undoes_whitening_and_has_the_covariance(kind, batch):
    covariance, R = kind(batch)
    error = draw(5, *batch, N, seed=2)
    assert_same(covariance.colour(covariance.whiten(error)), error)
    # Of unit vectors: the columns of a root of R.
    units = torch.eye(N, dtype=torch.float64).view(N, *[1] * len(batch), N).expand(N, *batch, N)
    columns = covariance.colour(units).numpy()
    assert_same(np.einsum("k...i,k...j->...ij", columns, columns), R)


@every_kind
def test_one_covariance_serves_a_batch_of_errors(kind):
    covariance, R = kind(())
    error = draw(2, 3, N, seed=4)
    inverse = np.linalg.inv(np.linalg.cholesky(R))
    assert_same(covariance.whiten(error), error.numpy() @ inverse.T)
    assert_same(covariance.colour(error), error.numpy() @ np.linalg.cholesky(R).T)


def test_independent_errors_keep_no_matrix():
    std = draw(N).abs() + 0.1
    covariance = Covariance.diagonal(std)
    assert covariance.independent and covariance.root is std
    assert_same(covariance.matrix, Covariance.full(covariance.matrix).matrix)
    assert not Covariance.full(covariance.matrix).independent


def test_what_is_no_covariance_has_no_root():
    with pytest.raises(torch.linalg.LinAlgError):
        Covariance.full(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
