from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import nida_kit as nk
from nida_kit.methods import tiled as module
from nida_kit.methods.interpolation import posterior_of
from nida_kit.observing.observations import Observations

STEPS = 3
CLIMATE = nk.MultiscaleClimatology.of((101, 64), length=3.0, time=2.0, steps=STEPS, mean=2.0, draws=2)
LABELS = nk.GridLabels({dim: np.arange(n, dtype=float) for dim, n in zip("yx", CLIMATE.shape, strict=True)})
METHOD = nk.OptimalInterpolation(CLIMATE, LABELS, 1.0)
TRUTH = xr.DataArray(
    CLIMATE.drawn_before(STEPS, 1000).unflatten(-1, CLIMATE.shape).numpy(),
    {dim: np.arange(n, dtype=float) for dim, n in (("time", STEPS), ("y", 101), ("x", 64))},
    ("time", "y", "x"),
)
OBS = nk.observe(TRUTH.astype(float), fraction=0.05, noise_std=0.1, seed=1).astype(np.float32)
TILES = {"tile": 32, "halo": 16}


@pytest.fixture(scope="module")
def whole():
    """The field as one, and a draw."""
    value = module.torch.from_numpy(OBS["value"].values).flatten(1)
    posterior = posterior_of(CLIMATE, Observations(value, module.torch.full_like(value, 0.1)))
    std, draws = posterior.drawn(keep=1)
    return (x.unflatten(-1, CLIMATE.shape).numpy() for x in (posterior.gaussian.mean, std, draws[0]))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    store = tmp_path_factory.mktemp("tiles") / "out.zarr"
    return nk.tiled(METHOD, OBS.chunk(y=40), store, members=1, **TILES).load()


def test_tiles_are_as_good_as_the_whole_and_agree_with_its_draws(whole, parts):
    mean, std, draw = whole
    error = float(((parts["mean"] - TRUTH) ** 2).mean() / np.square(mean - TRUTH.values).mean())
    assert error == pytest.approx(1, abs=0.005)
    assert (
        np.abs(parts["draws"][0].values - draw).max() < 0.3
    )  # of a spread of 1; two draws are some 0.3 apart on average
    assert np.square(parts["draws"][0].values - draw).mean() < 0.02 * np.square(std).mean()
    assert np.abs(parts["std"].values - std).max() < 0.1
    assert {name: parts.sizes[name] for name in ("member", "time", "y", "x")} == {
        "member": 1,
        "time": STEPS,
        "y": 101,
        "x": 64,
    }


def test_the_store_is_in_single_precision(parts):
    assert {parts[name].dtype for name in ("mean", "std", "draws")} == {np.dtype(np.float32)}


def test_without_a_halo_tiles_are_worse(parts, tmp_path):
    alone = nk.tiled(METHOD, OBS, tmp_path / "out.zarr", tile=32, halo=0)
    assert ((alone["mean"] - TRUTH) ** 2).mean() > 1.03 * ((parts["mean"] - TRUTH) ** 2).mean()


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(parts, tmp_path, monkeypatch):
    store, solved = tmp_path / "out.zarr", []
    inner = module._solved

    def failing(climatology, *given):
        if len(solved) == 2:
            raise RuntimeError("cut off")
        solved.append(climatology.origin)
        return inner(climatology, *given)

    monkeypatch.setattr(module, "_solved", failing)
    with pytest.raises(RuntimeError, match="cut off"):
        nk.tiled(METHOD, OBS, store, members=1, **TILES)
    before, solved[:] = list(solved), []
    monkeypatch.setattr(module, "_solved", lambda of, *given: solved.append(of.origin) or inner(of, *given))
    result = nk.tiled(METHOD, OBS, store, members=1, **TILES)
    assert len(before) + len(solved) == 6
    assert not set(before) & set(solved)
    xr.testing.assert_equal(result.load(), parts)
    solved[:] = []
    nk.tiled(METHOD, OBS, store, members=1, **TILES)
    assert not solved
    for other in ({"members": 1, "tile": 32, "halo": 24}, {"members": 1, "seed": 5, **TILES}, TILES):
        with pytest.raises(ValueError, match="no result of these settings"):
            nk.tiled(METHOD, OBS, store, **other)
    warmer = nk.OptimalInterpolation(replace(CLIMATE, mean=CLIMATE.mean + 1), LABELS, 1.0)
    with pytest.raises(ValueError, match="no result of these settings"):
        nk.tiled(warmer, OBS, store, members=1, **TILES)
    corner = OBS["value"].copy()
    corner[{"time": 0, "y": -1, "x": -1}] = 3.0
    with pytest.raises(ValueError, match="6 finished tiles, 1 of them made from other observations"):
        nk.tiled(METHOD, OBS.assign(value=corner), store, members=1, **TILES)
    with pytest.raises(ValueError, match="6 of them made from other"):
        nk.tiled(METHOD, OBS.assign(noise_std=2 * OBS["noise_std"]), store, members=1, **TILES)
    (tmp_path / "something").mkdir()
    with pytest.raises(ValueError, match="another folder"):
        nk.tiled(METHOD, OBS, tmp_path / "something", **TILES)


def test_workers_of_a_cluster_do_the_same_from_zarr_to_zarr(parts, tmp_path):
    OBS.chunk(y=32).to_zarr(tmp_path / "obs.zarr", consolidated=False)
    obs = xr.open_zarr(tmp_path / "obs.zarr", consolidated=False)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        result = nk.tiled(METHOD, obs, tmp_path / "out.zarr", members=1, **TILES)
    xr.testing.assert_allclose(result.load(), parts, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "how", "said"),
    [
        ({}, {"tile": 16, "halo": 32}, "no smaller than its halo"),
        ({}, {"tile": 33, "halo": 16}, "multiples of"),
        ({"value": OBS["value"].astype(np.float16)}, {}, r"float16.*astype\('float32'\)"),
        ({"noise_std": OBS["noise_std"].astype(np.float16)}, {}, "float16"),
        ({"y": 2.0 * OBS["y"]}, {}, "points of its own grid"),
        ({"time": 2.0 * OBS["time"]}, {}, "time step"),
        ({"noise_std": -OBS["noise_std"]}, {}, "positive"),
        ({"value": OBS["value"].expand_dims("sample")}, {}, "one field at a time"),
        ({"noise_length": 2.0}, {}, "independent errors"),
        ({}, {"members": 3}, "members=3"),
    ],
)
def test_what_tiles_cannot_use_is_refused(change, how, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        nk.tiled(METHOD, OBS.assign(change), tmp_path / "out.zarr", **{**TILES, **how})


def test_other_methods_are_refused(tmp_path):
    other = nk.OptimalInterpolation(
        nk.Climatology.fit(module.torch.randn(20, 4, 3).double(), 0),
        nk.StateLabels(("a", "b", "c"), ("1",) * 3, ("a", "b", "c")),
        1.0,
    )
    with pytest.raises(ValueError, match="fit_scales"):
        nk.tiled(other, OBS, tmp_path / "out.zarr")


def test_units_are_converted_and_what_is_not_used_is_said(tmp_path):
    labels = nk.GridLabels(dict(LABELS.indexes), units="m")
    method = nk.OptimalInterpolation(CLIMATE, labels, 1.0)
    told = OBS.assign(value=(100 * OBS["value"]).assign_attrs(units="cm"), noise_std=100 * OBS["noise_std"], depth=3.0)
    with pytest.warns(UserWarning, match="depth"):
        found = nk.tiled(method, told, tmp_path / "cm.zarr", **TILES)
    wanted = nk.tiled(method, OBS, tmp_path / "m.zarr", **TILES)
    assert found["mean"].attrs["units"] == "m"
    np.testing.assert_allclose(found["mean"], wanted["mean"], atol=0.01)


def test_land_is_land_in_each_tile(tmp_path):
    """A tile of land alone, and one along a coast, beside calm water."""
    sea = module.torch.ones(CLIMATE.shape, dtype=module.torch.bool)
    sea[:40, 32:], sea[:, :5] = False, False
    spread = module.torch.linspace(0.01, 2.0, 101)[:, None].expand(101, 64)
    of = nk.MultiscaleClimatology.of(CLIMATE.shape, 3.0, 2.0, STEPS, spread=spread, sea=sea, draws=2)
    for y, x in ((slice(0, 32), slice(32, 64)), (slice(0, 48), slice(0, 48))):
        assert of.part(y, x).varies.view(y.stop, -1).equal(sea[y, x])
    obs = OBS.where(xr.DataArray(sea.numpy(), dims=("y", "x")))
    found = nk.tiled(
        nk.OptimalInterpolation(of, LABELS, 1.0), obs.assign(noise_std=0.1), tmp_path / "out.zarr", **TILES
    )
    land = ~sea.numpy()
    for name in ("mean", "std"):
        np.testing.assert_array_equal(np.isnan(found[name].values), np.broadcast_to(land, found[name].shape))
    assert (found["std"].values[:, ~land] > 1e-4).all()


def test_a_field_smaller_than_a_tile_is_one_tile_as_sure_as_the_field(tmp_path):
    small = {"y": slice(0, 24), "x": slice(0, 40)}
    of = replace(CLIMATE.part(*small.values()), wider=1.3, unresolved=0.2)
    labels = nk.GridLabels({dim: OBS[dim].values[small[dim]] for dim in "yx"})
    method = nk.OptimalInterpolation(of, labels, 1.0)
    obs = OBS.isel(small)
    found, whole = nk.tiled(method, obs, tmp_path / "out.zarr", tile=32, halo=16), method.assimilate(obs.astype(float))
    for name in ("mean", "std"):
        np.testing.assert_allclose(found[name], whole[name], atol=1e-3)
    plain = nk.OptimalInterpolation(replace(of, wider=1.0, unresolved=0.0), labels, 1.0)
    assert (found["std"].values > plain.assimilate(obs.astype(float))["std"].values * 1.05).mean() > 0.5
    with pytest.raises(ValueError, match="no result of these settings"):
        nk.tiled(plain, obs, tmp_path / "out.zarr", tile=32, halo=16)


def test_seeds_make_other_draws(parts, tmp_path):
    other = nk.tiled(METHOD, OBS, tmp_path / "out.zarr", members=1, seed=1, **TILES)
    np.testing.assert_array_equal(other["mean"], parts["mean"])
    assert abs(other["draws"] - parts["draws"]).mean() > 0.05
    assert replace(CLIMATE, seed=1).drawn_before(1, 0).ne(CLIMATE.drawn_before(1, 0)).any()
