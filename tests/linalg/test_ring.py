"""Rows of a ring of sites, and the ways to solve with many: against the blocks that they stand for."""

import warnings

import pytest
import torch

from nida_kit.gaussian import Gaussian
from nida_kit.linalg import solvers
from nida_kit.linalg.in_time import InTime
from nida_kit.linalg.rows import Banded, Circulant, Diagonal, Ring, Stack, Whole
from nida_kit.linalg.solvers import Assembled, Bordered, BySite, Separate, by_size

STEPS, SITES = 5, 9


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ring(*batch, reach=3, n=SITES, steps=STEPS):
    """Chaotic growth as on Lorenz-96: most of a site's own value, less of its neighbours'."""
    weight = 0.15 * draw(*batch, steps, 2 * reach + 1, n, seed=2)
    weight[..., reach, :] += 0.9
    return Ring(1 + draw(*batch, steps, n).abs(), weight)


def seen(share, *batch, n=SITES, steps=STEPS, noise=0.1):
    there = torch.rand(*batch, steps, n, generator=torch.Generator().manual_seed(3)) < share
    return Diagonal(there.double() / noise)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize(("n", "reach"), [(9, 3), (7, 3), (5, 0), (1, 0)])
def test_rows_of_a_ring_are_those_of_the_band_that_they_stand_for(batch, n, reach):
    rows = ring(*batch, n=n, reach=reach)
    band, v, w = Banded(rows.along_time()), draw(*batch, STEPS, n, seed=4), draw(*batch, STEPS, n, seed=5)
    torch.testing.assert_close(rows.push(v), band.push(v))
    torch.testing.assert_close(rows.pull(w), band.pull(w))
    torch.testing.assert_close(rows.squares(), band.squares())
    torch.testing.assert_close(rows.gram().dense(), band.gram().dense())
    assert Stack((rows,)).width == 2


def test_a_row_of_a_ring_sees_the_neighbours_one_step_before():
    rows, v = ring(), draw(STEPS, SITES, seed=4)
    t, i = 2, 8
    told = sum(rows.weight[t, 3 + o, i] * v[t - 1, (i + o) % SITES] for o in range(-3, 4))
    torch.testing.assert_close(rows.push(v)[t, i], rows.scale[t, i] * (v[t, i] - told))


def test_gradients_of_its_rows_are_right():
    def both(scale, weight, v, w):
        rows = Ring(scale, weight)
        return rows.push(v), rows.pull(w), rows.squares(), rows.gram().blocks

    rows = ring(n=5, reach=1, steps=3)
    given = [x.clone().requires_grad_() for x in (rows.scale, rows.weight, draw(3, 5, seed=4), draw(3, 5, seed=5))]
    assert torch.autograd.gradcheck(both, given)


def turned(kernel):
    """The band that the rows of site 0 stand for, when every site has them."""
    sites = torch.arange(kernel.shape[-1])
    return Banded(kernel[..., (sites - sites[:, None]) % len(sites)])


def circulant(width, n=SITES):
    kernel = 0.2 * draw(STEPS, width, n, seed=12)
    kernel[:, 0, 0] += 2
    return Circulant(kernel)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize(("width", "n"), [(1, 9), (3, 9), (3, 8), (7, 4)])
def test_rows_that_every_site_has_are_those_of_the_band_that_they_stand_for(batch, width, n):
    rows = circulant(width, n)
    band, v, w = turned(rows.kernel), draw(*batch, STEPS, n, seed=4), draw(*batch, STEPS, n, seed=5)
    torch.testing.assert_close(rows.push(v), band.push(v))
    torch.testing.assert_close(rows.pull(w), band.pull(w))
    torch.testing.assert_close(rows.squares(), band.squares())


def dense(rows):
    """J' J, `(..., T, n, T, n)`, column by column."""
    like = rows.squares()
    units = torch.eye(like[0].numel() if like.ndim > 2 else like.numel(), dtype=torch.float64)
    units = units.view(-1, *[1] * (like.ndim - 2), *like.shape[-2:])
    return rows.pull(rows.push(units)).movedim(0, -1).unflatten(-1, like.shape[-2:])


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("make", [ring, lambda *_: circulant(1), lambda *_: circulant(3), lambda *_: circulant(STEPS)])
def test_each_site_in_time_is_a_part_of_the_matrix(batch, make):
    rows = Stack((make(*batch), seen(0.5, *batch)))
    sites, A, b = InTime(rows), dense(rows), draw(*batch, STEPS, SITES, seed=6)
    for i in range(SITES):
        own = A[..., :, i, :, i]
        torch.testing.assert_close(sites.solve(b)[..., i], torch.linalg.solve(own, b[..., i]))
        torch.testing.assert_close(sites.variances()[..., i], torch.linalg.inv(own).diagonal(dim1=-2, dim2=-1))
    assert sites.definite


def posterior(rows, residual, solver):
    return Gaussian(draw(STEPS, SITES, seed=7).expand(residual[0].shape), rows, tuple(residual), solver=solver)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.1, 1e-4])
def test_the_mean_by_single_precision_is_that_of_dense_algebra(batch, share, noise):
    rows = Stack((ring(*batch), seen(share, *batch, noise=noise)))
    residual = [draw(*batch, STEPS, SITES, seed=8), draw(*batch, STEPS, SITES, seed=9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = posterior(rows, residual, BySite).mean
    wanted = posterior(rows, residual, Assembled).mean
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))


def test_gradients_through_it_are_those_through_dense_algebra():
    found = []
    for solver in (BySite, Assembled):
        scale, weight = (x.clone().requires_grad_() for x in (ring().scale, ring().weight))
        rows = Stack((Ring(scale, weight), seen(0.5)))
        mean = posterior(rows, [draw(STEPS, SITES, seed=8), draw(STEPS, SITES, seed=9)], solver).mean
        found.append(torch.autograd.grad((mean * draw(STEPS, SITES, seed=10)).sum(), (scale, weight)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=5e-4, atol=5e-4 * float(b.abs().max()))  # tolerance 1e-4


def test_variances_from_draws_are_those_of_dense_algebra():
    """Their errors have the std that the docstring says, of the part that is left to the draws."""
    rows = Stack((ring(), seen(0.3)))
    exact, known = Assembled(rows).variances, InTime(rows).variances()
    assert (known < exact).all()
    found = BySite(rows, draws=400).variances
    torch.testing.assert_close(
        (found - exact) / ((exact - known) * (2 / 400) ** 0.5), torch.zeros_like(exact), rtol=0, atol=5.0
    )
    few = BySite(rows).variances
    torch.testing.assert_close(few, BySite(rows).variances)
    assert 0.7 < float(((few - exact) / ((exact - known) * (2 / 8) ** 0.5)).std()) < 1.4


def test_draws_have_the_posterior_covariance():
    rows = Stack((ring(n=3, reach=1, steps=2), seen(0.5, n=3, steps=2)))
    x = Gaussian(torch.zeros(2, 3, dtype=torch.float64), rows, (None, None), solver=BySite)
    draws = x.draw(20_000, torch.Generator().manual_seed(0)).flatten(1)
    exact = torch.linalg.inv(rows.gram().dense())
    scale = exact.diagonal().sqrt()
    torch.testing.assert_close(
        draws.T.cov() / scale / scale[:, None], exact / scale / scale[:, None], rtol=0, atol=0.05
    )


def test_it_is_taken_for_many_sites_only(monkeypatch):
    rows = Stack((ring(), seen(0.5)))
    assert isinstance(by_size(rows), Assembled)
    monkeypatch.setattr(solvers, "MANY", SITES - 1)
    assert isinstance(by_size(rows), BySite)
    assert isinstance(by_size(Stack((circulant(2), rows.parts[1]))), BySite)
    assert isinstance(by_size(Stack(rows.parts[1:])), Separate)
    assert isinstance(by_size(Stack((Banded(rows.parts[0].along_time()), rows.parts[1]))), Assembled)
    monkeypatch.setattr(solvers, "LONG", 10)
    assert isinstance(by_size(Stack((*rows.parts, Whole(draw(2, STEPS, SITES, seed=11))))), Bordered)


def test_what_does_not_converge_is_said():
    rows = Stack((ring(), seen(0.5)))
    with pytest.warns(UserWarning, match="not converged after 1 iterations: the residual is"):
        BySite(rows, most=1).solve(draw(STEPS, SITES, seed=6))


def test_the_spread_of_many_sites_teaches_nothing_and_says_so():
    rows = Stack((Ring(ring().scale.requires_grad_(), ring().weight), seen(0.5)))
    with pytest.raises(ValueError, match="train on a smaller ring"):
        BySite(rows).variances  # noqa: B018


def test_statements_that_determine_nothing_are_an_error():
    rows = Stack((Ring(torch.zeros(STEPS, SITES, dtype=torch.float64), ring().weight), seen(0.5)))
    with pytest.raises(ValueError, match="do not determine"):
        BySite(rows).solve(draw(STEPS, SITES))
