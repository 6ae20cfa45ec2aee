"""Gaussians as statements, for tests that start from a precision or from measurements with their errors."""

import torch

from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Banded, Whole


def from_precision(mean, precision):
    """The Gaussian N(mean, precision^-1): its rows are the transposed Cholesky factor of the dense precision."""
    rows = torch.linalg.cholesky(precision.dense()).mT
    return Gaussian.of(mean, Whole(rows.unflatten(-1, mean.shape[-2:])))


def measured(centre, H, R, y):
    """y = H x + eta, eta ~ N(0, diag R), as a statement about x - centre; NaN is not measured."""
    weight = torch.where(y.isnan(), 0.0, R.rsqrt())
    error = (H @ centre.unsqueeze(-1)).squeeze(-1) - y.nan_to_num(nan=0.0)
    return Gaussian.of(centre, Banded((weight.unsqueeze(-1) * H).unsqueeze(-3)), weight * error)
