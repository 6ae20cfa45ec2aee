"""Localisation on the grid of a field, against the formula of each cell in dense numpy."""

import math

import numpy as np
import pytest
import torch
from advection import NX, NY, Advection
from scipy import optimize

import nida_kit as nk
from nida_kit.linalg.taper import gaspari_cohn
from nida_kit.methods import letkf
from nida_kit.methods.enkf import finite_size_inflation
from nida_kit.methods.ensemble import deviations, rotated_noise, seen_by
from nida_kit.observing.errors import AtEachTime
from nida_kit.observing.observations import Observations

MEMBERS, RADIUS = 6, 1.7


class Open(Advection):
    """The shared field, whose author says nothing of distances: they are those on its grid."""

    distances = nk.System.distances


def observed(**errors):
    """Two windows, seen at different cells; one has none at its second time."""
    truth = Open().simulate(2, 2, 0.3, seed=0)
    obs = nk.observe(truth, fraction=0.4, seed=1, **(errors or {"noise_std": 0.5}))
    obs["value"][1, 1] = np.nan
    return obs


def before(method):
    """The members at the first time, before anything is observed `(N, n)`."""
    n = method.labels.size
    blank = Observations(torch.full((1, 1, n), math.nan).double(), torch.ones(1, 1, n).double())
    return method.ensembles(blank, 0.3, lambda E: E)["forecast"][0][0].numpy()


def middles(block):
    """Where the block of each cell has its middle `(n, 2)`."""
    y, x = (
        (np.arange(n) // block * block + np.minimum(np.arange(n) // block * block + block, n) - 1) / 2 for n in (NY, NX)
    )
    return np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)


def formula(method, obs, w, block, R, inflation=None):
    """Mean and standard deviation of each cell at the first time, from all of its observations at once."""
    E, y = before(method), obs["value"].values[w, 0].ravel()
    m, S, known = E.mean(0), (E - E.mean(0)) / (MEMBERS - 1) ** 0.5, np.flatnonzero(np.isfinite(y))
    cells, found = np.argwhere(np.ones((NY, NX))), []
    far = np.linalg.norm(middles(block)[:, None] - cells[known], axis=-1)
    precision, taper = (
        np.linalg.inv(R[np.ix_(known, known)]),
        gaspari_cohn(torch.from_numpy(far), RADIUS).sqrt().numpy(),
    )
    for i, near in enumerate(taper):
        local = near[:, None] * precision * near
        products, pull = S[:, known] @ local @ S[:, known].T, S[:, known] @ local @ (y - m)[known]
        factor = 1.0 if inflation is None else inflation(i, products, pull, near * (y - m)[known], near * S[:, known])
        A = np.eye(MEMBERS) + factor**2 * products
        mean = m[i] + factor**2 * np.linalg.solve(A, pull) @ S[:, i]
        found.append((mean, factor * (S[:, i] @ np.linalg.solve(A, S[:, i])) ** 0.5))
    return np.array(found).T


def check(method, obs, *how):
    result = method.assimilate(obs)
    for w in range(2):
        mean, std = formula(method, obs, w, *how)
        np.testing.assert_allclose(result["mean"].values[w, 0].ravel(), mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(result["std"].values[w, 0].ravel(), std, rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", [1, 2, 3, 10**9])
@pytest.mark.parametrize("at_once", [1, 10**9])
def test_each_block_has_the_analysis_of_its_middle(block, at_once, monkeypatch):
    monkeypatch.setattr(letkf, "AT_ONCE", at_once)  # strips of one row of blocks, or one strip
    method = nk.LETKF(Open(), members=MEMBERS, radius=RADIUS, block=block)
    check(method, observed(), block, 0.25 * np.eye(NY * NX))


def test_errors_that_are_correlated_fade_out_on_the_grid_too():
    cells = np.argwhere(np.ones((NY, NX)))
    R = np.exp(-np.linalg.norm(cells[:, None] - cells, axis=-1))
    check(nk.LETKF(Open(), members=MEMBERS, radius=RADIUS, block=2), observed(noise_covariance=R), 2, R)


def test_distances_on_the_grid_are_those_that_could_be_given():
    cells = np.argwhere(np.ones((NY, NX)))
    far = np.linalg.norm(cells[:, None] - cells, axis=-1)
    how, obs = {"members": MEMBERS, "radius": RADIUS, "inflation": 1.1, "seed": 3}, observed()
    one, two = nk.LETKF(Open(), **how).assimilate(obs), nk.LETKF(Open(), distances=far, **how).assimilate(obs)
    for name in ("mean", "std", "forecast"):
        np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", [1, 2])
def test_inflation_is_the_most_probable_one_of_each_block(block):
    """The method's factor minimises the dual cost of what is near, to 1%; and its analysis is the one with it."""
    found = []

    def inflation(i, products, pull, d, S):
        d, S = d / 0.5, S / 0.5

        def cost(log_factor):
            factor = math.exp(log_factor)
            fit = d @ np.linalg.solve(factor**2 * S.T @ S + np.eye(len(d)), d)
            return fit + (MEMBERS + 1) * (MEMBERS - 1) / MEMBERS / factor**2 + 2 * MEMBERS * log_factor

        # In the basis of the deviations, whose directions are those of the members without their sum.
        factor = float(finite_size_inflation(torch.from_numpy(products), torch.from_numpy(pull), MEMBERS))
        best = optimize.minimize_scalar(cost, bounds=(-0.7, 3.0), method="bounded").x
        assert math.log(factor) == pytest.approx(best, abs=0.011)
        found.append(factor)
        return factor

    obs = observed()
    obs["value"] += 1.0  # a surprise
    method = nk.LETKF(Open(), members=MEMBERS, radius=RADIUS, block=block, finite_size=True)
    check(method, obs, block, 0.25 * np.eye(NY * NX), inflation)
    assert max(found) > 1.2 * min(found)


def test_what_has_no_grid_or_other_distances_takes_no_blocks():
    with pytest.raises(ValueError, match="block=2 is of a field's grid"):
        nk.LETKF(nk.Lorenz96(), block=2)
    with pytest.raises(ValueError, match="block=2 is of a field's grid"):
        nk.LETKF(Advection(), block=2)  # which knows that it is periodic
    with pytest.raises(ValueError, match="distances to 72"):
        matrix = np.ones((3, NY * NX))
        obs = nk.observe(Open().simulate(1, 2, 0.3), operator=matrix, noise_std=1.0)
        nk.LETKF(Open()).assimilate(obs, operator=matrix)


def test_a_model_may_run_in_float32():
    system = nk.QuasiGeostrophic(cells=17)
    obs = nk.observe(system.simulate(1, 4, 5.0, seed=0), fraction=0.3, noise_std=1.0, seed=1)
    double, single = (
        nk.LETKF(system, members=8, radius=3.0, block=2, dtype=dtype).assimilate(obs)
        for dtype in (torch.float64, torch.float32)
    )
    np.testing.assert_allclose(single["mean"], double["mean"], rtol=0, atol=1e-3 * float(double["mean"].std()))
    assert single["mean"].dtype == float and not single["mean"].identical(double["mean"])
    assert single.attrs["dtype"] == "float32"
    with pytest.raises(ValueError, match="float16"):
        nk.EnKF(system, dtype=torch.float16)

    class Stiff(Open):
        def tendency(self, x):
            return x @ torch.eye(NX, dtype=torch.float64)

    with pytest.raises(ValueError, match=r"fails in torch\.float32.*numbers\.to"):
        nk.LETKF(Stiff(), members=MEMBERS, dtype=torch.float32).assimilate(observed())


def on_ring(sites, members, **how):
    """Two windows of a ring, of which other sites are seen, and the method by distances that are given, or are not."""
    system = nk.Lorenz96(sites)
    obs = nk.observe(system.simulate(2, 3, 0.05, seed=0), fraction=0.5, noise_std=0.5, seed=1)
    how |= {"members": members, "inflation": 1.1, "seed": 2}
    return nk.LETKF(system, **how), nk.LETKF(system, distances=system.distances(), **how), obs


@pytest.mark.parametrize("radius", [0.1, 1.0, 1.7, 30.0])
@pytest.mark.parametrize("members", [6, 12])
def test_a_ring_in_arcs_is_that_of_a_matrix_of_distances(radius, members, monkeypatch):
    monkeypatch.setattr(letkf, "ARC", 5)
    one, two, obs = on_ring(23, members, radius=radius)
    found, wanted = one.assimilate(obs), two.assimilate(obs)
    for name in ("mean", "std"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-10)


AMONG = {
    "ring": lambda: on_ring(23, 40, radius=1.2)[0],
    "grid": lambda: nk.LETKF(Open(), members=40, radius=RADIUS, block=2),
    "correlated": lambda: on_ring(23, 40, radius=1.2)[1],
}


@pytest.mark.parametrize("name", AMONG)
def test_analyses_among_few_values_are_those_among_the_members(name):
    """Mean and covariance are: another root of the latter makes other members."""
    method, generator = AMONG[name](), torch.Generator().manual_seed(0)
    n, kind = method.labels.size, letkf._Independent
    E, value = (torch.randn(2, k, n, generator=generator, dtype=torch.float64) for k in (40, 1))
    value[torch.rand(value.shape, generator=generator) < 0.6] = math.nan
    errors = torch.full((1, n), 0.5, dtype=torch.float64)
    if name == "correlated":
        kind, errors = letkf._Correlated, AtEachTime(0.25 * torch.exp(-nk.Lorenz96(n).distances())[None])
    here = Observations(value, errors)
    among = kind(deviations(seen_by(E, here)), here.value - seen_by(E, here).mean(-2, keepdim=True), here)
    S, noise = deviations(E).mT, rotated_noise(40, generator)
    for windows, cells, near, taper in method.places.parts(here.seen.squeeze(-2)):
        assert 0 < among.values(taper) < 39
        one = letkf._among_values(*among.tapered(windows, near, taper), S[windows, cells], noise)
        two = method._moved(*among(windows, near, taper), S[windows, cells], noise)
        np.testing.assert_allclose(one.mean(-1), two.mean(-1), rtol=0, atol=1e-10)
        first, second = ((x - x.mean(-1, keepdim=True)) for x in (one, two))
        np.testing.assert_allclose(first @ first.mT, second @ second.mT, rtol=0, atol=1e-9)


@pytest.mark.parametrize("members", [4, 30])
def test_windows_of_a_ring_do_not_depend_on_each_other(members):
    method, _, obs = on_ring(23, members, radius=1.2)
    both, alone = (method.assimilate(some)["mean"][-1] for some in (obs, obs.isel(sample=[1])))
    np.testing.assert_allclose(both, alone, rtol=0, atol=1e-10)


def test_where_nothing_is_near_the_forecast_stays():
    method, _, obs = on_ring(23, 20, radius=0.5)
    obs["value"][:, 1, :12] = np.nan
    result = method.assimilate(obs)
    np.testing.assert_allclose(result["mean"][:, 1, 5], result["forecast"][:, 1, 5], rtol=0, atol=1e-12)
