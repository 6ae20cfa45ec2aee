"""Fields: results on a state's own dims, equal to those of the same system written as one long vector."""

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from advection import NX, NY, Advection, Vector, flat
from scipy.linalg import expm

import nida_kit as nk
from nida_kit import edge

DT = 0.2
TRUTH = Advection().simulate(samples=4, steps=6, dt=DT, model_noise_std=0.1, seed=0)
MASK = np.random.default_rng(0).random((NY, NX)) < 0.3
OBS = nk.observe(TRUTH, every=2, noise_std=0.3, operator=MASK, seed=1)
METHODS = {
    "EnKF": lambda system: nk.EnKF(system, 0.1, members=12, seed=3),
    "EnKS": lambda system: nk.EnKS(system, 0.1, members=12, seed=3),
    "LETKF": lambda system: nk.LETKF(system, 0.1, members=8, radius=3.0, seed=3),
    "KalmanSmoother": lambda system: nk.KalmanSmoother(system, 0.1),
}
every_method = pytest.mark.parametrize("name", METHODS)


def made(name, system):
    return METHODS[name](system)


@every_method
def test_a_field_is_reconstructed_as_the_same_numbers_in_a_row(name):
    method = made(name, Advection())
    result = method.assimilate(OBS)
    assert result["mean"].dims == ("sample", "time", "y", "x") and result["mean"].attrs["units"] == "K"
    xr.testing.assert_equal(result["x"], TRUTH["x"])
    assert result["y"].attrs["units"] == "km"
    row = made(name, Vector()).assimilate(flat(OBS[["value"]]).assign(noise_std=0.3))
    for key in ("mean", "std"):
        np.testing.assert_allclose(result[key].values.reshape(4, 6, 72), row[key], rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(result["observed"], 3 * MASK.sum())
    drawn = method.sample(OBS, 3, seed=5) if name not in ("EnKF", "LETKF") else None
    assert drawn is None or drawn.dims == ("member", "sample", "time", "y", "x")


def test_the_smoother_of_a_field_is_the_dense_one():
    start = nk.Started(Advection(), 1.0, 0.8)
    result = nk.KalmanSmoother(start, 0.1, start_mean=1.0, start_std=0.8).assimilate(OBS)
    A = torch.func.jacrev(Vector().tendency)(torch.zeros(72, dtype=torch.float64)).numpy()
    M, B, n, T = expm(A * DT), 0.64 * np.eye(72), 72, 6
    whole = np.zeros((T * n, T * n))
    covariance = B
    for t in range(T):
        covariance = B if t == 0 else M @ covariance @ M.T + 0.01 * np.eye(n)
        for later in range(t, T):
            block = np.linalg.matrix_power(M, later - t) @ covariance
            whole[later * n : (later + 1) * n, t * n : (t + 1) * n] = block
            whole[t * n : (t + 1) * n, later * n : (later + 1) * n] = block.T
    mean = np.concatenate([np.linalg.matrix_power(M, t) @ np.ones(n) for t in range(T)])
    y = OBS["value"][0].values.ravel()
    seen = ~np.isnan(y)
    gain = np.linalg.solve(whole[np.ix_(seen, seen)] + 0.09 * np.eye(seen.sum()), whole[seen]).T
    expected = mean + gain @ (y - mean)[seen]
    spread = np.sqrt(np.diag(whole - gain @ whole[seen]))
    np.testing.assert_allclose(result["mean"][0].values.ravel(), expected, atol=1e-5)
    np.testing.assert_allclose(result["std"][0].values.ravel(), spread, atol=1e-5)


@every_method
def test_a_chunked_field_is_lazy_and_the_same(name):
    method = made(name, Advection())
    guess = TRUTH * 0 + 1.0
    eager = method.assimilate(OBS, guess)
    lazy = method.assimilate(OBS.chunk(sample=2), guess)
    assert lazy["mean"].chunks is not None and lazy["mean"].dims == eager["mean"].dims
    xr.testing.assert_allclose(lazy.compute()[["mean", "std"]], eager[["mean", "std"]], rtol=1e-9)
    if name == "EnKS":
        part = OBS.isel(y=slice(2, None)).chunk(sample=2)
        drawn = method.sample(part, 2, seed=1)
        assert drawn.chunks is not None and drawn.sizes["y"] == NY
        xr.testing.assert_allclose(drawn.compute(), method.sample(part.compute(), 2, seed=1))


def test_lazy_results_of_two_methods_are_computed_together():
    obs = OBS.chunk(sample=2)
    methods = [nk.EnKF(Advection(), 0.1, members=12, seed=seed) for seed in (1, 2)]
    found = dask.compute(*(method.assimilate(obs)["mean"] for method in methods))
    for each, method in zip(found, methods, strict=True):
        np.testing.assert_allclose(each, method.assimilate(OBS)["mean"], rtol=1e-9)


@pytest.mark.parametrize("dim", ["time", "y", "x"])
def test_chunks_along_time_or_space_are_refused_with_the_remedy(dim):
    with pytest.raises(ValueError, match=rf"chunked along \['{dim}'\].*obs.chunk\(time=-1, y=-1, x=-1\)"):
        made("EnKF", Advection()).assimilate(OBS.chunk({dim: 3}))


def test_the_order_of_dims_and_points_does_not_matter():
    method = made("EnKS", Advection())
    expected = method.assimilate(OBS)["mean"]
    shuffled = OBS.transpose("x", "sample", "y", "time").isel(x=slice(None, None, -1))
    xr.testing.assert_equal(method.assimilate(shuffled)["mean"], expected)
    rounded = OBS.assign_coords(x=OBS["x"].astype("float32"))
    xr.testing.assert_equal(method.assimilate(rounded)["mean"], expected)
    xr.testing.assert_equal(
        method.assimilate(OBS.isel(sample=2))["mean"], method.assimilate(OBS.isel(sample=[2]))["mean"][0]
    )


def test_points_that_are_not_there_were_not_measured():
    method = made("EnKF", Advection())
    some = OBS.isel(y=[1, 4, 6])
    blank = OBS.assign(value=OBS["value"].where(OBS["y"].isin(some["y"])))
    xr.testing.assert_equal(method.assimilate(some)["mean"], method.assimilate(blank)["mean"])


OPERATORS = {
    "callable": (lambda x: torch.stack([x[..., 2, 3] ** 2, x.mean((-2, -1))], -1), 2),
    "matrix": (np.eye(NY * NX)[[3, 50]], 2),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("method", ["EnKF", "KalmanSmoother"])
def test_a_field_is_observed_through_an_operator(name, method):
    h, p = OPERATORS[name]
    obs = nk.observe(TRUTH, every=2, noise_std=0.1, operator=h, seed=2)
    assert dict(obs["value"].sizes) == {"sample": 4, "time": 6, "component": p}
    values = h(torch.from_numpy(TRUTH.values)) if callable(h) else TRUTH.values.reshape(4, 6, -1) @ h.T
    np.testing.assert_allclose(obs["value"][:, ::2], values[:, ::2], atol=0.5)
    solver = made(method, Advection())
    result = solver.assimilate(obs, operator=h)
    assert result["mean"].dims == TRUTH.dims
    if name == "matrix":
        lazy = solver.assimilate(obs.chunk(sample=2), operator=h)
        xr.testing.assert_allclose(lazy["mean"].compute(), result["mean"], rtol=1e-9)


def test_an_operator_of_a_field_says_what_it_must_return():
    with pytest.raises(ValueError, match=r"made \(\d, 6, 8, 1\) of fields \(\d, 6, 8, 9\)"):
        nk.observe(TRUTH, noise_std=0.1, operator=lambda x: x[..., :1])
    with pytest.raises(ValueError, match=r"cannot be applied to fields of shape \(\d, 6, 8, 9\)"):
        nk.observe(TRUTH, noise_std=0.1, operator=lambda x: x[..., 20, 20])


@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
def test_fields_survive_their_files(tmp_path, kind):
    result = made("EnKS", Advection()).assimilate(OBS, trace=True)
    for name, data in {"truth": TRUTH.to_dataset(name="truth"), "obs": OBS, "result": result}.items():
        path = tmp_path / f"{name}.{kind}"
        getattr(data, f"to_{kind}")(path)
        again = (xr.load_dataset if kind == "netcdf" else xr.open_zarr)(path).compute()
        xr.testing.assert_equal(again, data)
        assert all(again[d].attrs == data[d].attrs for d in ("time", "y", "x"))
    if kind == "netcdf":
        obs = nk.load_observations(tmp_path / "obs.netcdf")
        xr.testing.assert_equal(
            made("EnKS", Advection()).assimilate(obs)["mean"], result["mean"].isel(step=-1, drop=True)
        )


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (OBS.isel(x=0), "needs 'x': rename, or expand_dims"),
        (OBS.rename(y="lat"), "needs 'y': rename"),
        (OBS.drop_vars("y"), "no coordinate 'y'"),
        (
            OBS.assign_coords(y=OBS["y"] + 0.5),
            r"Along 'y' the observations lie at .* where the state has no point.*nk\.grid\(obs, method\)",
        ),
        (OBS.assign_coords(y=list("abcdefgh")), "where the state has no point"),
        (OBS.isel(x=[0, 1, 1]), "x coordinate repeats itself"),
        (OBS.rename(sample="member"), "'member', a name that results use"),
        (OBS.rename(sample="step"), "'step', a name that results use"),
        (OBS.rename(sample="other_time"), "'other_time', a name that results use"),
        (OBS.rename(sample="draws"), "'draws', a name that results use"),
        (flat(OBS[["value"]]).assign(noise_std=0.3), "needs 'y'"),
    ],
)
def test_observations_of_another_field_are_a_named_value_error(obs, said):
    with pytest.raises(ValueError, match=said):
        made("EnKF", Advection()).assimilate(obs)


def test_windows_of_an_operator_do_not_lie_along_the_state():
    obs = nk.observe(TRUTH, noise_std=0.1, operator=np.eye(72)[:2]).rename(sample="y")
    with pytest.raises(ValueError, match=r"dim 'y' that the state itself has.*rename\(y="):
        made("EnKF", Advection()).assimilate(obs, operator=np.eye(72)[:2])


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        (TRUTH.isel(x=0), "needs the dim and coordinate 'x'"),
        (TRUTH.isel(x=slice(3)), "along 'x' the coordinates"),
        (TRUTH.assign_coords(x=TRUTH["x"] + 0.05), "along 'x' the coordinates"),
        (TRUTH.where(TRUTH["x"] > TRUTH["x"][0]), "every time and point is needed"),
    ],
)
def test_a_first_guess_of_another_field_is_a_named_value_error(guess, said):
    with pytest.raises(ValueError, match=f"^first_guess.*{said}"):
        made("KalmanSmoother", Advection()).assimilate(OBS, guess)


def test_a_tensor_becomes_a_labelled_field_and_returns():
    read = edge.read_observations(OBS, Advection.labels)
    x = torch.from_numpy(TRUTH.values).flatten(-2)
    labelled = edge.trajectory(x, Advection.labels, DT)
    xr.testing.assert_equal(labelled, TRUTH)
    turned = labelled.transpose("x", "y", "time", "sample").isel(y=slice(None, None, -1))
    assert torch.equal(edge.read_trajectory(turned, read, Advection.labels, "x"), x)
    assert read.value.shape == (4, 6, 72) and torch.equal(read.times, torch.from_numpy(OBS["time"].values))


def test_methods_of_other_grids_are_no_chain():
    class Other(Advection):
        labels = nk.GridLabels({"y": range(NY), "x": range(NX)})

    with pytest.raises(ValueError, match="different states"):
        nk.Chain([made("EnKS", Advection()), made("EnKS", Other())])


def test_errors_of_a_field_are_known_by_a_matrix_over_its_points():
    obs, method = nk.observe(TRUTH, noise_covariance=np.eye(NY * NX), every=2, seed=1), made("EnKF", Advection())
    result, plain = method.assimilate(obs), obs.drop_vars("noise_covariance").assign(noise_std=1.0)
    np.testing.assert_allclose(result["mean"], method.assimilate(plain)["mean"], rtol=1e-9)
    lazy = method.assimilate(obs.chunk(sample=2))
    np.testing.assert_allclose(lazy["mean"].compute(), result["mean"], rtol=1e-9)


def test_what_a_method_is_told_of_a_field_may_have_its_shape():
    spread = np.random.default_rng(1).uniform(0.5, 1.5, (NY, NX))
    row = spread.ravel()
    one, two = (
        nk.KalmanSmoother(nk.Started(Advection(), s, s), 0.1 * s, start_mean=s, start_std=s) for s in (spread, row)
    )
    xr.testing.assert_equal(one.assimilate(OBS), two.assimilate(OBS))
    one, two = (nk.EnKF(Advection(), 0.1 * s, members=12, seed=3).assimilate(OBS) for s in (spread, row))
    xr.testing.assert_equal(one, two)
    with pytest.raises(ValueError, match=r"model_noise_std=.* or an array \(8, 9\)"):
        nk.EnKF(Advection(), spread.T)


def test_optimal_interpolation_of_a_field_is_that_of_its_numbers_in_a_row():
    past = Advection().simulate(samples=400, steps=6, dt=DT, model_noise_std=0.1, seed=7)
    method = nk.OptimalInterpolation.fit(past, order=1)
    assert method.labels == Advection.labels
    row = nk.OptimalInterpolation.fit(flat(past), order=1)
    found, expected = method.assimilate(OBS), row.assimilate(flat(OBS[["value"]]).assign(noise_std=0.3))
    for key in ("mean", "std"):
        assert found[key].dims == ("sample", "time", "y", "x")
        np.testing.assert_allclose(found[key].values.reshape(4, 6, 72), expected[key], rtol=1e-9, atol=1e-9)
    error = nk.rmse(found["mean"], TRUTH)
    alone = nk.rmse(past.mean("sample").broadcast_like(TRUTH), TRUTH)
    assert (error < 0.9 * alone).all()
    with pytest.raises(ValueError, match="no coordinates along"):
        nk.OptimalInterpolation.fit(past.drop_vars("x"), order=1)
    with pytest.raises(ValueError, match="none of them is 'time'"):
        nk.OptimalInterpolation.fit(past.isel(time=0))


def test_covariances_and_distances_may_have_the_shape_of_the_field():
    shape, start = (NY, NX), nk.Started(Advection(), 1.0, 0.8)
    B = np.exp(-np.abs(np.subtract.outer(np.arange(72.0), np.arange(72.0))))
    field = B.reshape(*shape, *shape)
    Q, one = "model_noise_covariance", {"samples": 1, "steps": 3, "dt": DT}
    xr.testing.assert_equal(start.simulate(**one, **{Q: B}), start.simulate(**one, **{Q: field}))
    apart = Advection().distances()
    for method in (
        lambda B, _: nk.EnKF(start, model_noise_covariance=B, members=6),
        lambda B, _: nk.EnKF(nk.Started(Advection(), 1.0, covariance=B), members=6),
        lambda B, _: nk.ThreeDVar(start, B),
        lambda _, apart: nk.LETKF(start, members=6, radius=3.0, distances=apart),
    ):
        found = [
            method(b, torch.as_tensor(apart).reshape(d)).assimilate(OBS)["mean"]
            for b, d in ((B, (72, 72)), (field, (*shape, *shape)), (field, (*shape, 72)))
        ]
        for each in found[1:]:
            xr.testing.assert_equal(found[0], each)
