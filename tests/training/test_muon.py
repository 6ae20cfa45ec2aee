"""Muon: directions with all singular values near one, and a descent."""

import pytest
import torch

from nida_kit.training.muon import Muon, orthogonalised


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8), (1, 5)])
def test_the_direction_keeps_the_singular_vectors_and_levels_the_values(shape):
    matrix = draw(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    assert values.max() / values.min() < 1e3  # not tiny, so the few iterations reach them all
    found = left.mT @ orthogonalised(matrix) @ right.mT
    off = found - torch.diag(found.diagonal())
    assert off.abs().max() < 1e-10
    assert (found.diagonal() > 0.65).all() and (found.diagonal() < 1.2).all()


def test_the_scale_of_the_gradient_does_not_matter():
    torch.testing.assert_close(orthogonalised(draw(4, 6)), orthogonalised(1e4 * draw(4, 6)))


def test_it_descends_where_the_directions_differ_much_in_slope():
    target, stretch = draw(6, 6), torch.logspace(0, -2, 6, dtype=torch.float64)

    def error_after(optimiser, weights):
        cycle = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, 200)
        for _ in range(200):
            optimiser.zero_grad()
            (stretch[:, None] * (weights - target)).square().sum().backward()
            optimiser.step()
            cycle.step()
        return float((weights - target).detach().norm())

    weights = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    assert error_after(Muon([weights], 0.5), weights) < 0.1 * float(target.norm())
    plain = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    assert error_after(torch.optim.SGD([plain], 0.5), plain) > 0.4 * float(target.norm())


def test_decay_pulls_towards_zero():
    weights = torch.ones(3, 3, requires_grad=True)
    (0 * weights).sum().backward()
    Muon([weights], 0.1, decay=0.5).step()
    torch.testing.assert_close(weights.detach(), torch.full((3, 3), 0.95))
