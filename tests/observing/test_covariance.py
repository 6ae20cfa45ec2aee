"""Correlated errors of observations: drawn as their covariance says, read as they were given, refused where wrong."""

import numpy as np
import pytest
import torch
import xarray as xr
from advection import Advection

import nida_kit as nk
from nida_kit import edge
from nida_kit.observing.errors import AlongTracks

TRUTH = nk.Lorenz63().simulate(samples=3, steps=5, dt=0.1, seed=0)
STATE = nk.Lorenz63().labels
R = np.array([[0.5, 0.3, 0.1], [0.3, 0.4, -0.1], [0.1, -0.1, 0.3]])
FIELD = Advection().simulate(samples=2, steps=3, dt=0.1, seed=0)


def spd(*shape, seed=0):
    """Random covariances, `(..., n, n)`."""
    root = np.random.default_rng(seed).normal(size=(*shape, shape[-1]))
    return root @ np.swapaxes(root, -1, -2) + np.eye(shape[-1])


def read(obs, state=STATE, **how):
    return edge.read_observations(obs, state, **how)


# Along tracks


@pytest.mark.parametrize("batch", [(), (3,)])
def test_errors_along_tracks_are_those_of_their_dense_covariance(batch):
    rng, T, p, length = np.random.default_rng(0), 4, 6, 0.7
    track = rng.choice([0.0, 1.0, 2.0, np.nan], (T, p))  # in any order, over steps; NaN is on none
    along, std = rng.uniform(0, 3, (T, p)), rng.uniform(0.2, 2, (*batch, T, p))
    seen = torch.from_numpy(rng.random((*batch, T, p)) < 0.7)
    apart = np.abs(along.reshape(-1, 1) - along.reshape(-1))
    dense = np.where(track.reshape(-1, 1) == track.reshape(-1), np.exp(-apart / length), np.eye(T * p))
    dense = torch.from_numpy(dense * std.reshape(*batch, -1, 1) * std.reshape(*batch, 1, -1))
    fields = (torch.from_numpy(x).expand(*batch, T, p) for x in (track, along))
    law = AlongTracks(torch.from_numpy(std), *fields, length)

    units = torch.eye(T * p).double().view(-1, *[1] * len(batch), T, p).expand(-1, *batch, T, p)
    roots = law.whiten(units, seen).flatten(-2).movedim(0, -1)  # a column for each
    coloured = law.colour(units).flatten(-2).movedim(0, -1)
    torch.testing.assert_close(coloured @ coloured.mT, dense)
    every = np.ndindex(*batch)
    for k in every:
        some = seen[k].flatten()
        inverse = torch.linalg.inv(dense[k][some][:, some])
        torch.testing.assert_close((roots[k].mT @ roots[k])[some][:, some], inverse, rtol=1e-9, atol=1e-9)
        assert not roots[k][~some].any() and not roots[k][:, ~some].any()
        torch.testing.assert_close(law.logdet(seen)[k], torch.logdet(dense[k][some][:, some]))
    steps, values = (torch.from_numpy(x) for x in np.nonzero(rng.random((T, p)) < 0.5))
    flat = steps * p + values
    torch.testing.assert_close(law.among(steps, values), dense[..., flat[:, None], flat])


# Drawn


def many(windows=20000):
    x = xr.DataArray(np.zeros((windows, 2, 3)), dims=("sample", "time", "component"))
    return x.assign_coords(time=[0.0, 0.1], component=["x", "y", "z"])


def test_errors_of_one_time_have_their_covariance_and_times_are_independent():
    errors = nk.observe(many(), noise_covariance=R, seed=1)["value"].values.reshape(-1, 6)
    expected = np.kron(np.eye(2), R)
    deviation = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / 20000)
    assert (np.abs(np.cov(errors.T) - expected) < 5 * deviation).all()


def test_errors_of_a_window_have_their_covariance():
    whole = spd(6)
    errors = nk.observe(many(), noise_covariance=whole.reshape(2, 3, 2, 3), seed=1)["value"].values.reshape(-1, 6)
    deviation = np.sqrt((np.outer(np.diag(whole), np.diag(whole)) + whole**2) / 20000)
    assert (np.abs(np.cov(errors.T) - whole) < 5 * deviation).all()


@pytest.mark.parametrize("truth", [TRUTH, FIELD], ids=["names", "field"])
@pytest.mark.parametrize("window", [False, True])
def test_a_diagonal_covariance_draws_what_its_standard_deviations_draw(truth, window):
    shape = truth.shape[1:] if window else truth.shape[2:]
    std = 0.1 + np.random.default_rng(0).random(shape)
    labelled = truth[0].copy(data=np.broadcast_to(std, truth.shape[1:]))
    one = nk.observe(truth, every=2, noise_std=labelled, fraction=0.7, seed=2)
    matrix = np.diag(std.ravel() ** 2).reshape(*shape, *shape)
    other = nk.observe(truth, every=2, noise_covariance=matrix, fraction=0.7, seed=2)
    xr.testing.assert_allclose(one["value"], other["value"], rtol=1e-12, atol=1e-12)
    assert other["noise_covariance"].dims == (
        *labelled.dims[1 - window :],
        *(f"other_{d}" for d in labelled.dims[1 - window :]),
    )
    state = STATE if truth is TRUTH else Advection.labels
    torch.testing.assert_close(read(one, state).noise_std, read(other, state).noise_std)


def test_a_value_stays_when_others_are_observed_as_well():
    few, all_of_them = (nk.observe(TRUTH, c, noise_covariance=R, seed=3)["value"] for c in (["z"], None))
    xr.testing.assert_equal(few.sel(component="z"), all_of_them.sel(component="z"))


def test_a_covariance_may_lack_what_is_not_observed():
    some = xr.DataArray(R[:2, :2], dims=("component", "other_component"), coords={"component": ["z", "x"]})
    obs = nk.observe(TRUTH, ["x", "z"], noise_covariance=some, seed=3)
    found = read(obs).noise_covariance
    assert found[0, 0, 0, 0] == R[1, 1] and found[0, 0, 2, 2] == R[0, 0] and found[0, 0, 0, 2] == R[0, 1]
    with pytest.raises(ValueError, match="no row and column, for some values that are observed"):
        nk.observe(TRUTH, noise_covariance=some)


def test_a_covariance_that_varies_with_window_and_time_is_matched_by_its_labels():
    varied = xr.DataArray(spd(5, 3), dims=("time", "component", "other_component"))
    varied = varied.assign_coords(time=TRUTH["time"], component=list("xyz"), other_component=list("xyz"))
    varied = xr.concat([varied, 4 * varied, 9 * varied], "sample")
    turned = varied.isel(component=[2, 0, 1], other_component=[1, 2, 0], time=slice(None, None, -1))
    one, other = (nk.observe(TRUTH, noise_covariance=c, seed=4) for c in (varied, turned.transpose("time", ...)))
    xr.testing.assert_allclose(one, other)
    np.testing.assert_allclose(read(one).noise_covariance, varied.values)
    errors = one["value"] - TRUTH
    unit = nk.observe(TRUTH, noise_std=1.0, seed=4)["value"] - TRUTH
    expected = np.linalg.cholesky(varied.values) @ unit.values[..., None]
    np.testing.assert_allclose(errors, expected[..., 0], atol=1e-12)


# Read


def test_a_covariance_is_read_for_every_window_and_time():
    obs = nk.observe(TRUTH, noise_covariance=R, seed=1)
    found = read(obs)
    torch.testing.assert_close(found.noise_covariance, torch.from_numpy(R).expand(3, 5, 3, 3))
    torch.testing.assert_close(found.noise_std, torch.from_numpy(np.sqrt(np.diag(R))).expand(3, 5, 3))
    assert torch.equal(found.times, torch.from_numpy(TRUTH["time"].values.copy()))
    assert read(nk.observe(TRUTH, noise_std=0.1)).noise_covariance is None


def test_rows_and_columns_of_missing_values_are_those_of_the_identity_and_not_looked_at():
    obs = nk.observe(TRUTH, ["x", "z"], noise_covariance=R, seed=1)
    obs["noise_covariance"].loc[{"component": "y"}] = np.nan
    obs["noise_covariance"].loc[{"other_component": "y"}] = -7.0
    found = read(obs).noise_covariance
    expected = np.array([[R[0, 0], 0, R[0, 2]], [0, 1, 0], [R[2, 0], 0, R[2, 2]]])
    torch.testing.assert_close(found, torch.from_numpy(expected).expand(3, 5, 3, 3))
    assert (read(obs).noise_std[..., 1] == 1).all()


def test_a_covariance_of_a_whole_window_is_read_with_its_missing_values():
    whole = spd(15).reshape(5, 3, 5, 3)
    obs = nk.observe(TRUTH, every=2, noise_covariance=whole, seed=1)
    found = read(obs).noise_covariance
    assert found.shape == (3, 5, 3, 5, 3)
    seen = np.zeros((5, 3), bool)
    seen[::2] = True
    expected = np.where(seen[..., None, None] & seen, whole, np.eye(15).reshape(5, 3, 5, 3))
    torch.testing.assert_close(found, torch.from_numpy(expected).expand(3, 5, 3, 5, 3))


@pytest.mark.parametrize("window", [False, True])
def test_a_field_has_a_covariance_of_its_points(window):
    n, T = 72, 3
    matrix = spd(T * n if window else n)
    given = matrix.reshape(T, n, T, n) if window else matrix
    natural = matrix.reshape(T, 8, 9, T, 8, 9) if window else matrix.reshape(8, 9, 8, 9)
    obs = nk.observe(FIELD, noise_covariance=given, seed=1)
    xr.testing.assert_identical(obs, nk.observe(FIELD, noise_covariance=natural, seed=1))
    found = read(obs, Advection.labels)
    lead = (2,) if window else (2, T)
    torch.testing.assert_close(found.noise_covariance, torch.from_numpy(given).expand(*lead, *given.shape))
    turned = obs.isel(x=slice(None, None, -1), other_y=slice(None, None, -1)).transpose("other_x", ...)
    torch.testing.assert_close(read(turned, Advection.labels).noise_covariance, found.noise_covariance)
    part = read(obs.isel(x=[1, 4]), Advection.labels).noise_covariance
    seen = np.isin(np.arange(n) % 9, [1, 4])
    expected = np.where(seen[:, None] & seen, matrix[:n, :n], np.eye(n))
    np.testing.assert_allclose(part[0, 0, :, 0] if window else part[0, 0], expected)


def test_a_covariance_behind_an_operator_lies_along_its_values():
    H = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    obs = nk.observe(TRUTH, operator=H, noise_covariance=R[:2, :2], seed=1)
    assert obs["noise_covariance"]["other_component"].values.tolist() == ["h0", "h1"]
    torch.testing.assert_close(read(obs, direct=False).noise_covariance, torch.from_numpy(R[:2, :2]).expand(3, 5, 2, 2))


@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
def test_a_covariance_survives_its_file(tmp_path, kind):
    obs = nk.observe(FIELD, noise_covariance=spd(72), seed=1)
    getattr(obs, f"to_{kind}")(tmp_path / "obs")
    again = nk.load_observations(tmp_path / "obs") if kind == "netcdf" else xr.open_zarr(tmp_path / "obs").load()
    xr.testing.assert_identical(again.drop_attrs(), obs.drop_attrs())
    assert torch.equal(read(again, Advection.labels).value, read(obs, Advection.labels).value)


# Refused

OBS = nk.observe(TRUTH, noise_covariance=R, seed=1)


def with_covariance(values, dims=("component", "other_component"), **coords):
    bare = OBS.drop_vars(["noise_covariance", "other_component"])
    return bare.assign(noise_covariance=xr.DataArray(values, dims=dims, coords=coords))


VARIED = np.broadcast_to(R, (3, 5, 3, 3)).copy()
VARIED[1, 3] = -np.eye(3)


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (OBS.assign(noise_std=0.1), "noise_std and noise_covariance.*drop_vars"),
        (OBS.drop_vars("noise_covariance"), r"no variable 'noise_std'.*noise_covariance instead"),
        (with_covariance(R[0], ("component",)), r"\['other_component'\] are missing"),
        (with_covariance(R, ("component", "run")), r"dims \['run'\] that obs.value"),
        (with_covariance(R, ("other_time", "other_component")), r"\['time', 'component'\] are missing"),
        (with_covariance(R[:, :2]), "3 along 'component' and 2 along 'other_component'"),
        (with_covariance(R, other_component=["x", "y", "w"]), "other labels along 'other_component'"),
        (with_covariance(R, other_component=["x", "y", "y"]), "repeats a label along"),
        (
            with_covariance(R + 0.1 * np.eye(3, k=1)),
            "it is not .at sample 0.*not symmetric: .0, 1. is 0.[46] and .1, 0. is",
        ),
        (with_covariance(np.ones((3, 3))), "symmetric and positive definite"),
        (with_covariance(np.where(R == 0.5, np.nan, R)), "finite, symmetric and positive definite"),
        (with_covariance(R.astype(str)), "noise_covariance has dtype"),
        (
            with_covariance(VARIED, ("sample", "time", "component", "other_component")),
            r"it is not \(at sample 1, time 0.3.*a small variance added",
        ),
    ],
)
def test_covariances_that_cannot_be_used_are_a_named_value_error(obs, said):
    with pytest.raises(ValueError, match=said):
        read(obs)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "noise_std= or noise_covariance="),
        ({"noise_std": 0.1, "noise_covariance": R}, "noise_std= or noise_covariance="),
        ({"noise_covariance": np.eye(4)}, r"shape \(4, 4\); it is \(3, 3\).*\(5, 3, 5, 3\)"),
        ({"noise_covariance": -R}, "symmetric and positive definite"),
        ({"noise_covariance": R.astype(str)}, "noise_covariance=.* must be an array of numbers"),
        ({"noise_covariance": xr.DataArray(R, dims=("a", "b"))}, r"are missing and \['a', 'b'\] unknown"),
    ],
)
def test_errors_that_cannot_be_drawn_are_a_named_value_error(how, said):
    with pytest.raises(ValueError, match=said):
        nk.observe(TRUTH, **how)
