"""Rows of a ring of sites, and the ways to solve with many: against the blocks that they stand for."""

import pytest
import torch

from nida_kit.gaussian import Gaussian
from nida_kit.linalg import arcs, solvers
from nida_kit.linalg.arcs import Arcs, Cover
from nida_kit.linalg.rows import Banded, Circulant, Diagonal, Ring, Stack, Whole
from nida_kit.linalg.solvers import Assembled, Bordered, ByArcs, Iterative, Separate, by_size

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
    whole = dense(rows).flatten(-4, -3).flatten(-2)
    torch.testing.assert_close(rows.gram().dense().expand_as(whole), whole)
    assert Stack((rows,)).width == width


def dense(rows):
    """J' J, `(..., T, n, T, n)`, column by column."""
    like = rows.squares()
    units = torch.eye(like[0].numel() if like.ndim > 2 else like.numel(), dtype=torch.float64)
    units = units.view(-1, *[1] * (like.ndim - 2), *like.shape[-2:])
    return rows.pull(rows.push(units)).movedim(0, -1).unflatten(-1, like.shape[-2:])


LARGE = 44


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("n", [24, 29])
@pytest.mark.parametrize("make", [ring, lambda *_, n: circulant(1, n), lambda *_, n: circulant(3, n)])
def test_arcs_are_parts_of_the_matrix(batch, n, make, monkeypatch):
    monkeypatch.setattr(arcs, "AT_ONCE", 3000)  # some at a time
    monkeypatch.setattr(arcs, "DIRECT", 5)
    rows = Stack((make(*batch, n=n), seen(0.5, *batch, n=n)))
    cover, A, b = Cover.of(torch.arange(n), 3), dense(rows), draw(*batch, STEPS, n, seed=6)
    some = Arcs(rows, cover.arcs, torch.float64)
    x, variances = cover.around(some.solve(b)), cover.around(some.variances)
    for arc in cover.arcs:
        part = A[..., arc, :, :][..., arc].flatten(-4, -3).flatten(-2)
        middle = slice(3, -4)  # some arcs have a site more
        wanted = torch.linalg.solve(part, b[..., arc].flatten(-2)).unflatten(-1, (STEPS, -1))
        torch.testing.assert_close(x[..., arc][..., middle], wanted[..., middle])
        wanted = torch.linalg.inv(part).diagonal(dim1=-2, dim2=-1).unflatten(-1, (STEPS, -1))
        torch.testing.assert_close(variances[..., arc][..., middle], wanted[..., middle])
    torch.testing.assert_close(some.solve(torch.stack([b, 2 * b]))[1], 2 * some.solve(b))


def posterior(rows, residual, solver):
    return Gaussian(
        draw(*residual[0].shape[-2:], seed=7).expand(residual[0].shape), rows, tuple(residual), solver=solver
    )


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.1, 1e-4])
def test_by_arcs_mean_and_spread_are_those_of_dense_algebra(batch, share, noise):
    rows = Stack((ring(*batch, n=LARGE), seen(share, *batch, n=LARGE, noise=noise)))
    residual = [draw(*batch, STEPS, LARGE, seed=8), draw(*batch, STEPS, LARGE, seed=9)]
    found, wanted = posterior(rows, residual, ByArcs), posterior(rows, residual, Assembled)
    size = float(wanted.mean.abs().max())
    torch.testing.assert_close(found.mean, wanted.mean, rtol=1e-8, atol=1e-8 * size)
    torch.testing.assert_close(found.std, wanted.std, rtol=0.01, atol=0)
    torch.testing.assert_close(found.estimate, wanted.mean, rtol=0, atol=0.01 * float(wanted.std.min()))


def smooth(n, steps, length, memory=0.9):
    """A field that varies over so many sites, with a memory of its step before."""
    away = torch.minimum(torch.arange(n), n - torch.arange(n)).double()
    power = torch.fft.rfft(torch.exp(-((away / length) ** 2) / 2) + 1e-3 * (away == 0)).real
    root, kernel = torch.fft.irfft(power.rsqrt(), n), torch.zeros(steps, 2, n, dtype=torch.float64)
    kernel[:, 0] = root
    kernel[1:] = torch.stack([root, -memory * root]) / (1 - memory**2) ** 0.5
    return Circulant(kernel)


@pytest.mark.parametrize(("n", "length", "noise", "steps"), [(70, 2, 0.03, 1), (100, 8, 0.03, 4), (200, 8, 0.3, 2)])
def test_spreads_of_smooth_fields_between_few_values_are_right_to_a_hundredth(n, length, noise, steps):
    rows = Stack((smooth(n, steps, length), seen(0.1, n=n, steps=steps, noise=noise)))
    exact = Assembled(rows).variances.sqrt()
    torch.testing.assert_close(ByArcs(rows).variances.sqrt(), exact, rtol=0.01, atol=0)


def test_windows_of_a_large_ring_together_are_what_they_are_alone():
    rows = Stack((ring(3, n=130), seen(0.2, 3, n=130)))
    residual = [draw(3, STEPS, 130, seed=8), draw(3, STEPS, 130, seed=9)]
    together = Gaussian(draw(STEPS, 130, seed=7).expand(3, -1, -1), rows, tuple(residual), solver=ByArcs)
    first = Stack(tuple(type(part)(*(x[:1] for x in vars(part).values())) for part in rows.parts))
    alone = Gaussian(draw(1, STEPS, 130, seed=7), first, tuple(r[:1] for r in residual), solver=ByArcs)
    off = (together.mean[:1] - alone.mean) / alone.std
    assert off.abs().max() < 1e-3
    torch.testing.assert_close(together.std[:1], alone.std, rtol=0.01, atol=0)


def test_a_mean_beyond_its_digits_is_refused():
    rows = Stack(
        (
            Diagonal(torch.full((2, 100), 1e6, dtype=torch.float64)),
            Ring(ring(n=100, steps=2).scale, ring(n=100, steps=2).weight),
        )
    )
    far = Gaussian(torch.full((2, 100), 1e13, dtype=torch.float64), rows, (draw(2, 100), None), solver=ByArcs)
    with torch.no_grad(), pytest.raises(ValueError, match="cannot be told"):
        far.mean  # noqa: B018


def test_halos_grow_until_little_is_told_through_them():
    rows = Stack((ring(n=LARGE), seen(0.05, n=LARGE, noise=1.0)))
    exact, cover = Assembled(rows).variances, Cover.of(torch.arange(LARGE), 1)
    narrow = cover.around(Arcs(rows, cover.arcs, torch.float64).variances)
    assert (narrow < exact).all()
    assert (narrow / exact).min() < 0.6
    torch.testing.assert_close(ByArcs(rows, halo=1).variances, exact, rtol=0.02, atol=0)


def test_where_halos_cannot_grow_all_is_written_down_or_refused(monkeypatch):
    rows = Stack((ring(n=16), seen(0.05, n=16, noise=1.0)))
    torch.testing.assert_close(ByArcs(rows, halo=1).variances, Assembled(rows).variances)
    monkeypatch.setattr(solvers, "MANY", 15)
    with pytest.raises(ValueError, match="know much of others more than"):
        ByArcs(rows, halo=1).variances  # noqa: B018


def test_draws_and_density_of_a_few_sites_are_written_down(monkeypatch):
    rows = Stack((ring(n=LARGE), seen(0.5, n=LARGE)))
    noise = draw(STEPS, LARGE, seed=8)
    torch.testing.assert_close(ByArcs(rows).sample(noise), Assembled(rows).sample(noise))
    torch.testing.assert_close(ByArcs(rows).logdet(), Assembled(rows).logdet())
    monkeypatch.setattr(solvers, "MANY", LARGE - 1)
    with pytest.raises(ValueError, match="take draws"):
        ByArcs(rows).sample(noise)


def test_gradients_through_it_are_those_through_dense_algebra():
    found = []
    for solver in (ByArcs, Assembled):
        scale, weight = (x.clone().requires_grad_() for x in (ring(n=LARGE).scale, ring(n=LARGE).weight))
        rows = Stack((Ring(scale, weight), seen(0.5, n=LARGE)))
        mean = posterior(rows, [draw(STEPS, LARGE, seed=8), draw(STEPS, LARGE, seed=9)], solver).mean
        found.append(torch.autograd.grad((mean * draw(STEPS, LARGE, seed=10)).sum(), (scale, weight)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_it_is_taken_for_many_sites_only(monkeypatch):
    rows = Stack((ring(), seen(0.5)))
    assert isinstance(by_size(rows), Assembled)
    monkeypatch.setattr(solvers, "FEW", SITES - 1)
    learnt = Stack((Ring(rows.parts[0].scale.clone().requires_grad_(), rows.parts[0].weight), rows.parts[1]))
    assert isinstance(by_size(rows), ByArcs)
    assert isinstance(by_size(learnt), Assembled)
    assert isinstance(by_size(Stack((circulant(2), rows.parts[1]))), ByArcs)
    assert isinstance(by_size(Stack(rows.parts[1:])), Separate)
    band = Banded(rows.parts[0].along_time())
    assert isinstance(by_size(Stack((band, rows.parts[1]))), Assembled)
    assert isinstance(by_size(Stack((circulant(2), band))), Assembled)
    with monkeypatch.context() as few:
        few.setattr(solvers, "LONG", 10)
        assert isinstance(by_size(Stack((*rows.parts, Whole(draw(2, STEPS, SITES, seed=11))))), Bordered)
    monkeypatch.setattr(solvers, "MANY", SITES - 1)
    assert isinstance(by_size(learnt), ByArcs)
    assert isinstance(by_size(Stack((circulant(2), band))), Iterative)


def test_the_spread_of_many_sites_teaches_nothing_and_says_so():
    rows = Stack((Ring(ring().scale.requires_grad_(), ring().weight), seen(0.5)))
    with pytest.raises(ValueError, match="Through the spread of 9 sites nothing is learnt"):
        ByArcs(rows).variances  # noqa: B018


def test_statements_that_determine_nothing_are_an_error():
    nothing = Ring(torch.zeros(STEPS, LARGE, dtype=torch.float64), ring(n=LARGE).weight)
    with pytest.raises(ValueError, match="do not determine"):
        ByArcs(Stack((nothing, seen(0.5, n=LARGE)))).solve(draw(STEPS, LARGE))
