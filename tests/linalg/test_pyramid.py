import pytest
import torch

from nida_kit.linalg import pyramid
from nida_kit.linalg.pyramid import coarser, finer, shapes, splines


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(17, 17), (12, 9), (64, 33)])
def test_coarser_is_the_adjoint_of_finer_whichever_way_they_are_computed(shape, monkeypatch):
    coarse = shapes(shape, 1)[1]
    x, y = normal(3, *coarse), normal(3, *shape, seed=1)
    up, down = finer(x, shape), coarser(y)
    torch.testing.assert_close((up * y).sum(), (x * down).sum(), rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(pyramid, "_DENSE", 0)
    torch.testing.assert_close(finer(x, shape), up, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(coarser(y), down, rtol=1e-12, atol=1e-12)


def test_splines_hold_straight_lines():
    x = torch.arange(21, dtype=torch.float64)
    inner = slice(2, -2)  # away from the ends, where splines beyond them are missing
    for power in (0, 1):
        line = splines(21, torch.float64, x.device) @ x[::2] ** power
        torch.testing.assert_close(line[inner], x[inner] ** power)
