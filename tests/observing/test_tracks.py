"""Satellites, moored arrays and clouds: where they measure, what they see there, and what a method makes of it."""

import re
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.stats import norm

import nida_kit as nk
from nida_kit import edge
from nida_kit.linalg.rows import Sparse
from nida_kit.observing.errors import errors_of
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import as_operator
from nida_kit.priors.climatology import Climatology

OCEAN = nk.QuasiGeostrophic(cells=17)
TRUTH = OCEAN.simulate(samples=3, steps=9, dt=5.0, seed=0)
GRID = {"y": np.linspace(0.0, 2.0, 41), "x": np.linspace(-1.0, 3.0, 81)}


def field(steps=161, dt=0.25, **coords):
    """An empty field of other sides, to cross."""
    coords = {"time": np.arange(steps) * dt} | (coords or GRID)
    return xr.DataArray(np.zeros([len(c) for c in coords.values()]), coords, tuple(coords))


def at_random(generator, *shape):
    """Points within the window and the domain of TRUTH."""
    dims = ("sample", "obs")[-len(shape) :]
    return xr.Dataset(
        coords={
            "time": (dims, generator.uniform(0, 40, shape)),
            "y": (dims, generator.uniform(0, 1, shape)),
            "x": (dims, generator.uniform(0, 1, shape)),
        }
    )


def interpolated(truth, points):
    """By xarray, window by window."""
    own = [points.isel(sample=k) if "sample" in points.dims else points for k in range(truth.sizes["sample"])]
    return np.stack([truth[k].interp(time=p["time"], y=p["y"], x=p["x"]).values for k, p in enumerate(own)])


# What is seen at points


@pytest.mark.parametrize("shape", [(50,), (3, 50)])
def test_values_at_points_are_linear_in_space_and_between_steps(shape):
    points = at_random(np.random.default_rng(0), *shape)
    obs = nk.observe(TRUTH, at=points, noise_std=1e-9)
    assert obs["value"].dims == ("sample", "obs") and obs["value"].attrs["units"] == "1"
    np.testing.assert_allclose(obs["value"], interpolated(TRUTH, points), atol=1e-6)
    xr.testing.assert_equal(obs["time"], points["time"])


def test_steps_and_cells_are_seen_as_they_are():
    points = xr.Dataset(coords={"time": ("obs", [0.0, 40]), "y": ("obs", [1.0, 0.25]), "x": ("obs", [0.0, 0.5])})
    found = nk.observe(TRUTH, at=points, noise_std=1e-9)["value"]
    np.testing.assert_allclose(found, np.stack([TRUTH[:, 0, -1, 0], TRUTH[:, -1, 4, 8]], -1), atol=1e-7)


def test_a_moored_array_measures_at_every_step():
    moored = xr.Dataset(coords={"y": ("obs", [0.3, 0.7]), "x": ("obs", [0.2, 0.81])})
    obs = nk.observe(TRUTH, at=moored, noise_std=1e-9)
    assert obs["value"].dims == ("sample", "time", "obs")
    np.testing.assert_allclose(obs["value"], TRUTH.interp(y=moored["y"], x=moored["x"]), atol=1e-7)
    assert nk.grid(obs, OCEAN, dt=5.0)["value"].count() == 3 * 9 * 2


def test_errors_at_points_have_their_spread_and_scale_with_it():
    points = at_random(np.random.default_rng(0), 2000)
    exact = nk.observe(TRUTH, at=points, noise_std=1e-9, seed=4)["value"]
    error = nk.observe(TRUTH, at=points, noise_std=0.5, seed=4)["value"] - exact
    assert float(error.std()) == pytest.approx(0.5, rel=0.04)
    twice = nk.observe(TRUTH, at=points, noise_std=1.0, seed=4)["value"] - exact
    np.testing.assert_allclose(twice, 2 * error, atol=1e-6)
    own = xr.DataArray(np.linspace(0.1, 1, 2000), dims="obs")
    some = nk.observe(TRUTH, at=points, noise_std=own, seed=4, fraction=0.3)
    left = (some["value"] - exact - (2 * error * own)).values
    assert np.nanmax(np.abs(left)) < 1e-6
    assert float(some["value"].notnull().mean()) == pytest.approx(0.3, abs=0.04)


def test_a_point_without_place_or_time_measures_nothing():
    points = at_random(np.random.default_rng(0), 3, 20)
    points["y"][1, 4], points["time"][2, 0] = np.nan, np.nan
    missing = nk.observe(TRUTH, at=points, noise_std=0.1)["value"].isnull()
    assert sorted(zip(*np.nonzero(missing.values), strict=True)) == [(1, 4), (2, 0)]


def test_points_may_be_dated():
    dates = np.datetime64("2012-10-01") + np.arange(9) * np.timedelta64(5, "D")
    dated, points = TRUTH.assign_coords(time=dates), at_random(np.random.default_rng(2), 30)
    later = pd.Timestamp("2012-10-01") + pd.to_timedelta(points["time"].values, "D")
    found = nk.observe(dated, at=points.assign_coords(time=("obs", later)), noise_std=1e-9)["value"]
    np.testing.assert_allclose(found, nk.observe(TRUTH, at=points, noise_std=1e-9)["value"], atol=1e-6)
    with pytest.raises(ValueError, match=r"dtype float64, those of truth datetime64.*both as dates"):
        nk.observe(dated, at=points, noise_std=0.1)
    late = points.assign_coords(time=("obs", later + pd.Timedelta("30D")))
    with pytest.raises(
        ValueError, match=r"outside the window, at time 2012-1.*where truth has 2012-10-01T.* to 2012-11-10"
    ):
        nk.observe(dated, at=late, noise_std=0.1)
    inside = late.where((late.time >= dated.time.min()) & (late.time <= dated.time.max()), drop=True)  # as it says
    assert 0 < nk.observe(dated, at=inside, noise_std=0.1).sizes["obs"] < 30


def test_land_beside_a_point_is_not_looked_at():
    land = TRUTH.where(TRUTH["x"] > 0.4)
    points = xr.Dataset(coords={"time": ("obs", [5.0]), "y": ("obs", [0.5]), "x": ("obs", [0.4375])})
    np.testing.assert_allclose(nk.observe(land, at=points, noise_std=1e-9)["value"][:, 0], TRUTH[:, 1, 8, 7], atol=1e-7)


MOORED = xr.Dataset(coords={"y": ("obs", [0.2, 0.5, 0.7]), "x": ("obs", [0.3, 0.8, 0.1])})


def left_out_as_told(truth, points):
    """The message, and the values at what is left of the points when one does as it says."""
    with pytest.raises(ValueError, match="Leave those out") as error:
        nk.observe(truth, at=points, noise_std=0.1)
    land, keep = re.search(r"Leave those out: (?:land = (.*), then )?at=(.*)\.$", str(error.value)).groups()
    names = {"truth": truth, "points": points, "np": np}
    if land:
        names["land"] = eval(land, names)
    return str(error.value), nk.observe(truth, at=eval(keep, names), noise_std=1e-9)["value"]


@pytest.mark.parametrize(
    "points",
    [at_random(np.random.default_rng(0), n) for n in (20, 100)] + [at_random(np.random.default_rng(0), 3, 20), MOORED],
)
def test_points_over_land_are_counted_and_the_way_to_leave_them_out_is_right(points):
    truth = TRUTH.where(TRUTH["x"] > 0.5)
    lost = int((points["x"] < 0.5625).sum())  # up to the first point at sea
    said, seen = left_out_as_told(truth, points)
    assert f"around {lost} of {points['x'].size} points" in said
    assert ("(y, x) = (0.2, 0.3), (0.7, 0.1). " if points is MOORED else ", ...") in said
    values_of_a_point = 27 if points is MOORED else 1 if "sample" in points.dims else 3
    assert int(seen.notnull().sum()) == values_of_a_point * (points["x"].size - lost)


@pytest.mark.parametrize("shape", [(20,), (200,), (3, 40)])
def test_points_on_lines_of_the_grid_are_kept_beside_land_and_before_a_gap_in_time(shape):
    points = at_random(np.random.default_rng(1), *shape)
    points = points.assign_coords({d: (points[d] / h).round() * h for d, h in (("y", 1 / 16), ("x", 1 / 16))})
    third = xr.DataArray(np.arange(3) == 2, dims="sample")
    ice = TRUTH.where((TRUTH["x"] > 0.5) | (TRUTH["time"] <= 20) & ((TRUTH["y"] < 0.5) | ~third))
    own = (points["x"] > 0.5) | (points["time"] <= 20) & ((points["y"] < 0.5) | ~third)
    kept = own if "sample" in points.dims else own.all("sample")
    said, seen = left_out_as_told(ice, points)
    assert ("drop_isel" in said) == (shape == (20,)) and f"around {int((~kept).sum())} of {kept.size} points" in said
    expected = nk.observe(TRUTH, at=points, noise_std=1e-9)["value"].where(kept)
    if kept.ndim == 1:
        expected = expected.isel(obs=kept.values)
    np.testing.assert_allclose(seen.transpose(*expected.dims), expected, atol=1e-7)


POINTS = at_random(np.random.default_rng(0), 20)
BAD = {
    "beyond the domain": (
        {"at": POINTS.assign_coords(x=POINTS["x"] + 0.5)},
        r"outside the domain, at x 1\.\d+ to 1\.\d",
    ),
    "beyond the window": ({"at": POINTS.assign_coords(time=POINTS["time"] + 30)}, r"outside the window.*more steps"),
    "no places": ({"at": POINTS.drop_vars("y")}, r"needs \['time', 'y', 'x'\].*nk\.tracks"),
    "no dataset": ({"at": [0.5, 0.5]}, "at= has list"),
    "another number of windows": ({"at": at_random(np.random.default_rng(0), 2, 5)}, "2 along 'sample', and truth 3"),
    "beside a mask": ({"at": POINTS, "operator": np.ones((17, 17), bool)}, r"\['operator'\] cannot be given beside"),
    "beside every": ({"at": POINTS, "every": 2}, r"\['every'\] cannot be given beside"),
    "correlated": ({"at": POINTS, "noise_std": None, "noise_covariance": np.eye(2)}, r"\['noise_covariance'\]"),
    "of a few numbers": ({"truth": nk.Lorenz63().simulate(1, 9, 5.0), "at": POINTS}, "points of a field"),
    "nothing": ({"at": POINTS.assign_coords(x=POINTS["x"] * np.nan)}, "Nothing is observed"),
    "places that are no numbers": ({"at": POINTS.assign_coords(x=POINTS["x"].astype(str))}, r"at\.x has dtype"),
}


@pytest.mark.parametrize("name", BAD)
def test_points_that_cannot_be_seen_are_refused_with_words(name):
    how, said = BAD[name]
    with pytest.raises(ValueError, match=said):
        nk.observe(**{"truth": TRUTH, "noise_std": 0.1} | how)


# Ground tracks


def test_tracks_are_straight_at_the_inclination_ascending_and_descending_in_turn():
    points = nk.tracks(field(), repeat=20.0, passes=10, inclination=60.0, spacing=0.03)
    for _, track in points.groupby("track"):
        if track.sizes["obs"] < 2:
            continue
        assert len(np.unique(track["time"])) == 1
        kind = 1 if round(float(track["time"][0]) / 2) % 2 == 0 else -1
        steps = np.stack([track["x"].diff("obs"), track["y"].diff("obs")])
        along = 0.03 * np.array([np.cos(np.pi / 3), kind * np.sin(np.pi / 3)])
        np.testing.assert_allclose(steps, np.broadcast_to(along[:, None], steps.shape), atol=1e-9)
        np.testing.assert_allclose(track["along_track"].diff("obs"), 0.03, atol=1e-9)
    for dim, along in GRID.items():
        assert points[dim].min() >= along[0] and points[dim].max() <= along[-1]
        assert np.ptp(points[dim].values) > 0.95 * np.ptp(along)


def test_tracks_come_back_after_the_repeat_and_not_before():
    points = nk.tracks(field(), repeat=20.0, passes=10)
    first, second = (
        points.where(points["time"] < 20, drop=True),
        points.where((points["time"] >= 20) & (points["time"] < 40), drop=True),
    )
    np.testing.assert_allclose(second["time"] - 20, first["time"])
    for dim in "yx":
        np.testing.assert_allclose(first[dim], second[dim])
    middle = first.isel(obs=first["along_track"].values == 0)
    assert np.unique(middle["x"].values.round(6)).size == middle.sizes["obs"]


@pytest.mark.parametrize("satellites", [1, 3])
def test_tracks_lie_evenly_and_satellites_between_one_another(satellites):
    points = nk.tracks(field(), repeat=10.0, passes=8, satellites=satellites, inclination=90.0)
    period = points.where(points["time"] < 10, drop=True)
    at = np.unique(period["x"].values.round(9))
    assert at.size == 8 * satellites
    np.testing.assert_allclose(np.diff(at), 4.0 / (8 * satellites), atol=1e-8)
    np.testing.assert_allclose(np.diff(np.unique(period["time"])), 10 / (8 * satellites), atol=1e-9)
    assert set(points["satellite"].values) == set(range(satellites))


def test_a_swath_lies_across_the_track():
    across = [-0.2, 0.0, 0.1]
    points = nk.tracks(field(), repeat=10.0, passes=2, inclination=50.0, across=across)
    for time, passed in points.groupby("time"):
        assert np.unique(passed["track"]).size == 3
        kind = 1 if round(float(time) / 5) % 2 == 0 else -1
        left = np.array([-kind * np.sin(np.radians(50)), np.cos(np.radians(50))])
        nadir = np.unique(passed["track"])[1]
        centre = passed.isel(obs=np.flatnonzero(passed["track"] == nadir)[:1])
        offset = (passed["x"].values - centre["x"].values) * left[0] + (passed["y"].values - centre["y"].values) * left[
            1
        ]
        np.testing.assert_allclose(np.unique(offset.round(9)), across, atol=1e-8)


def test_a_seed_begins_the_repeat_elsewhere():
    one, again, other = (nk.tracks(field(), repeat=50.0, passes=9, seed=seed) for seed in (1, 1, 2))
    xr.testing.assert_identical(one, again)
    assert not np.isin(one["time"].values, other["time"].values).any()
    assert one["time"].min() >= 0 and one["time"].max() <= 40
    np.testing.assert_allclose(np.diff(np.unique(one["time"])), 50 / 9)


def test_tracks_of_dates_and_of_other_names():
    like = field(41, 1.0).assign_coords(time=np.datetime64("2012-10-01") + np.arange(41) * np.timedelta64(6, "h"))
    like = like.rename(y="lat", x="lon")
    points = nk.tracks(like, repeat="5D", passes=5)
    assert set(points.coords) == {"obs", "time", "lat", "lon", "satellite", "track", "along_track"}
    assert np.unique(points["time"])[:2].astype("M8[D]").astype(str).tolist() == ["2012-10-01", "2012-10-02"]
    plain = nk.tracks(field(41, 0.25), repeat=5.0, passes=5)
    np.testing.assert_allclose(points["lat"], plain["y"])


WRONG = {
    "no field": ({"like": nk.Lorenz63().simulate(1, 4, 0.1)}, "not one with the dims"),
    "no array": ({"like": OCEAN}, "not QuasiGeostrophic: give the truth"),
    "flat": ({"inclination": 0.0}, "above 0"),
    "no passes": ({"passes": 0}, "passes=0 must be a whole number of at least 1"),
    "no satellites": ({"satellites": 0}, "satellites=0"),
    "no repeat": ({"repeat": -1.0}, "repeat=-1.0 must be a positive"),
    "a text": ({"repeat": "10D"}, r"repeat='10D' is a duration, and the times are plain numbers"),
    "no spacing": ({"spacing": 0.0}, "spacing=0.0 must be a positive"),
    "no offsets": ({"across": []}, "across="),
    "too rare": ({"repeat": 1e6, "passes": 2, "seed": 0}, "No pass crosses.*shorter repeat"),
    "a time that is none": ({"like": field(4).assign_coords(time=[0.0, np.nan, 2.0, 3.0])}, "times of like= are NaN"),
    "months": (
        {"like": field(4).assign_coords(time=pd.date_range("2001-01-01", periods=4, freq="MS")), "repeat": "MS"},
        "differ in length",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_tracks_that_there_cannot_be_are_refused_with_words(name):
    how, said = WRONG[name]
    with pytest.raises(ValueError, match=said):
        nk.tracks(**{"like": field(), "repeat": 10.0, "passes": 4} | how)


def test_points_that_shift_are_every_55th_cell_as_published():
    like = field(300, 5.0, y=np.arange(129.0), x=np.arange(129.0))
    seen = nk.shifting_points(like, seed=1).values.reshape(300, -1)
    places = [np.flatnonzero(each) for each in seen]
    assert all((np.diff(p) == 55).all() and p[0] < 55 for p in places)
    assert {p.size for p in places} == {302, 303}
    first = np.array([p[0] for p in places])
    assert first.min() == 0 and first.max() == 54 and abs(first.mean() - 27) < 3
    obs = nk.observe(TRUTH, operator=nk.shifting_points(TRUTH, every=29), noise_std=2.0)
    assert obs["value"].count("sample").max() < 3  # windows have offsets of their own
    assert (obs["value"].count(["y", "x"]) >= 9).all()


# Clouds


def test_clouds_cover_their_fraction_and_hang_together_as_they_should():
    like = field(40, 0.5, y=np.arange(60.0) * 0.1, x=np.arange(50.0)[::-1] * 0.1).expand_dims(sample=12)
    hidden = nk.clouds(like, fraction=0.5, length=0.4, lifetime=1.5, seed=3)
    assert hidden.dims == like.dims and hidden.dtype == bool
    assert float(hidden.mean()) == pytest.approx(0.5, abs=0.03)
    edge = hidden.isel(time=[0, -1], y=[0, -1], x=[0, -1])
    assert float(edge.mean()) == pytest.approx(0.5, abs=0.15)
    for dim, lag, r in (("y", 4, 1.0), ("x", 8, 2.0), ("time", 3, 1.0), ("time", 1, 1 / 3)):
        one, other = hidden.isel({dim: slice(lag, None)}).values, hidden.isel({dim: slice(-lag)}).values
        expected = 0.25 + np.arcsin(np.exp(-(r**2) / 2)) / (2 * np.pi)  # of two normal numbers, both above 0
        assert (one & other).mean() == pytest.approx(expected, abs=0.02)
    few = nk.clouds(like, fraction=0.1, length=0.4, lifetime=1.5, seed=3)
    assert float(few.mean()) == pytest.approx(0.1, abs=0.02)
    assert (few <= hidden).all()
    assert not nk.clouds(like, fraction=0.0, length=0.4, lifetime=1.5).any()
    assert nk.clouds(like, fraction=1.0, length=0.4, lifetime=1.5).all()


def test_clouds_hide_cells_and_points():
    hidden = nk.clouds(TRUTH, fraction=0.4, length=0.2, lifetime=15.0, seed=2)
    obs = nk.observe(TRUTH, operator=~hidden, noise_std=0.1)
    np.testing.assert_array_equal(obs["value"].isnull(), hidden)


CLOUDLESS = {
    "no fraction": ({"fraction": 1.2}, "fraction=1.2"),
    "no length": ({"length": 0.0}, "length=0.0"),
    "no lifetime": ({"lifetime": 0.0}, "lifetime=0.0 must be a positive"),
    "uneven": ({"like": field(5, y=np.arange(4.0) ** 2, x=np.arange(4.0))}, "uneven along 'y'"),
    "a moment": ({"like": field(1)}, "one single point along 'time'"),
    "no field": ({"like": np.zeros((3, 4, 4))}, "not ndarray"),
}


@pytest.mark.parametrize("name", CLOUDLESS)
def test_clouds_that_there_cannot_be_are_refused_with_words(name):
    how, said = CLOUDLESS[name]
    with pytest.raises(ValueError, match=said):
        nk.clouds(**{"like": TRUTH, "fraction": 0.5, "length": 0.2, "lifetime": 10.0} | how)


# What a method makes of it


def ocean_law(steps):
    """A covariance in space and time, and optimal interpolation by it; all of it dense."""
    y, x = (a.ravel() for a in np.meshgrid(TRUTH["y"], TRUTH["x"], indexing="ij"))
    apart = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    times = 5.0 * np.arange(steps)
    space = 25 * np.exp(-apart / 2 / 0.1**2) + 0.05 * np.eye(len(y))
    covariance = np.kron(np.exp(-np.abs(times[:, None] - times) / 20), space)
    mean = torch.zeros(steps, len(y)).double()
    law = Climatology.from_covariance(mean, torch.from_numpy(covariance), torch.full((len(y),), 5.0).double())
    return covariance, nk.OptimalInterpolation(law, OCEAN.labels, 5.0)


def rows_of(points, steps):
    """H by xarray, a cell at a time."""
    like = TRUTH.isel(sample=0, time=slice(steps), drop=True)
    time, y, x = (np.eye(like.sizes[d]) for d in ("time", "y", "x"))

    def along(dim, units):
        array = xr.DataArray(units, {dim: like[dim]}, (dim, "unit"))
        return array.interp({dim: xr.DataArray(points[dim].values, dims="obs")}).transpose("obs", "unit").values

    H = np.einsum("pa,pb,pc->pabc", along("time", time), along("y", y), along("x", x))
    return H.reshape(len(H), -1)


def test_an_ocean_seen_along_tracks_is_the_dense_answer():
    steps = 3
    covariance, method = ocean_law(steps)
    truth = TRUTH.isel(time=slice(steps))
    points = nk.tracks(truth, repeat=10.0, passes=7, satellites=2, seed=3)
    seen = nk.observe(truth, at=points, noise_std=0.3, seed=1)
    obs, between = nk.grid(seen, method, start=0.0, steps=steps, exact=True)
    result = method.assimilate(obs, operator=between)
    H = rows_of(points, steps)
    gain = np.linalg.solve(H @ covariance @ H.T + 0.09 * np.eye(len(H)), H @ covariance).T
    for k in range(3):
        np.testing.assert_allclose(result["mean"][k].values.ravel(), gain @ seen["value"][k].values, atol=1e-6)
    spread = np.sqrt(np.diag(covariance - gain @ H @ covariance))
    np.testing.assert_allclose(result["std"][0].values.ravel(), spread, rtol=1e-6)


@pytest.mark.parametrize("noise_length", [None, 0.2])
def test_windows_may_have_tracks_of_their_own(noise_length):
    _, method = ocean_law(2)
    truth = TRUTH.isel(time=slice(2))
    several = [nk.tracks(truth, repeat=10.0, passes=7, seed=k) for k in range(3)]
    points = xr.concat(several, "sample", join="outer")  # shorter ones filled with NaN
    seen = nk.observe(truth, at=points, noise_std=0.3, noise_length=noise_length, seed=1)
    how = {"like": method, "start": 0.0, "steps": 2, "exact": True}
    obs, between = nk.grid(seen, **how)
    together = method.assimilate(obs, operator=between)
    assert together["observed"].values.tolist() == [p.sizes["obs"] for p in several]
    for k in range(3):
        alone, h = nk.grid(seen.isel(sample=k), **how)
        np.testing.assert_allclose(together["mean"][k], method.assimilate(alone, operator=h)["mean"], atol=1e-7)


def test_points_that_were_not_brought_to_a_method_are_told_the_way():
    seen = nk.observe(TRUTH, at=POINTS, noise_std=0.3)
    with pytest.raises(
        ValueError, match=r"it needs 'time': values with times and places .* nk\.grid\(obs, method, exact"
    ):
        ocean_law(2)[1].assimilate(seen)


def test_fewer_points_under_clouds_say_less():
    _, method = ocean_law(2)
    truth = TRUTH.isel(time=slice(2))
    points = nk.tracks(truth, repeat=5.0, passes=8)
    hidden = nk.clouds(truth, fraction=norm.cdf(0.0), length=0.3, lifetime=10.0, seed=1)
    covered = hidden[0].sel(time=points["time"], y=points["y"], x=points["x"], method="nearest")
    clear = points.isel(obs=~covered.values)
    assert 0 < clear.sizes["obs"] < points.sizes["obs"]
    spread = []
    for some in (points, clear):
        obs, between = nk.grid(nk.observe(truth, at=some, noise_std=0.3), method, start=0.0, steps=2, exact=True)
        spread.append(method.assimilate(obs, operator=between)["std"].values)
    assert (spread[1] >= spread[0] - 1e-9).all() and spread[1].mean() > 1.02 * spread[0].mean()


# Errors that drift along a track


def drifting(points, length, std):
    """Their dense covariance."""
    along, track = points["along_track"].values, points["track"].values
    return std**2 * np.where(track[:, None] == track, np.exp(-np.abs(along[:, None] - along) / length), 0.0)


def test_an_ocean_seen_with_drifting_errors_is_the_dense_answer():
    steps, truth = 3, TRUTH.isel(time=slice(3))
    covariance, method = ocean_law(steps)
    points = nk.tracks(truth, repeat=10.0, passes=7, satellites=2, seed=3)
    seen = nk.observe(truth, at=points, noise_std=0.3, noise_length=0.2, seed=1, fraction=0.8)
    obs, between = nk.grid(seen, method, start=0.0, steps=steps, exact=True)
    H, R = rows_of(points, steps), drifting(points, 0.2, 0.3)
    result = method.assimilate(obs, operator=between)
    for k in range(3):
        y = seen["value"][k].values
        own = ~np.isnan(y)
        h = H[own]
        gain = np.linalg.solve(h @ covariance @ h.T + R[np.ix_(own, own)], h @ covariance).T
        np.testing.assert_allclose(result["mean"][k].values.ravel(), gain @ y[own], atol=1e-6)
        spread = np.sqrt(np.diag(covariance - gain @ h @ covariance))
        np.testing.assert_allclose(result["std"][k].values.ravel(), spread, rtol=1e-6)


def test_drifting_errors_are_drawn_as_their_covariance_says():
    flat = (0 * TRUTH.isel(sample=[0], time=slice(3))).isel(sample=np.zeros(4000, int))
    points = nk.tracks(flat, repeat=10.0, passes=4, satellites=1)
    errors = nk.observe(flat, at=points, noise_std=0.3, noise_length=0.2, seed=2)["value"].values
    expected = drifting(points, 0.2, 0.3)
    deviation = np.sqrt((0.3**4 + expected**2) / 4000)
    assert (np.abs(errors.T @ errors / 4000 - expected) < 5 * deviation).all()


def test_no_row_of_a_field_at_points_is_dense():
    truth = TRUTH.isel(time=slice(2))
    points = nk.tracks(truth, repeat=20.0, passes=16)
    seen = nk.observe(truth, at=points, noise_std=0.3, noise_length=0.2)
    for data in (seen, seen.drop_vars("noise_length")):
        obs, between = nk.grid(data, OCEAN, dt=5.0, exact=True)
        read = edge.read_observations(obs, OCEAN.labels, direct=False)
        errors = errors_of(read.noise_std, None, read.tracks)
        x = torch.from_numpy(truth.values).flatten(-2)
        observations = Observations(read.value, errors, as_operator(between, OCEAN.labels.shape))
        statement = observations.around(x)
        (rows,) = statement.rows.parts
        assert isinstance(rows, Sparse) and rows.index.shape[-1] <= 16
        dense = observations._over_window(x)
        torch.testing.assert_close(statement.misfit(x + 1), dense.misfit(x + 1))
        torch.testing.assert_close(rows.gram().dense(), dense.rows.gram().dense(), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(statement.misfit(x + 1), observations.misfit(x + 1))


DRIFTING = nk.tracks(TRUTH, repeat=20.0, passes=4)
SEEN = nk.observe(TRUTH, at=DRIFTING, noise_std=0.3, noise_length=0.2)
NOT_DRIFTING = {
    "without tracks": (
        lambda: nk.observe(TRUTH, at=POINTS, noise_std=0.1, noise_length=0.2),
        r"\['track', 'along_track'\]",
    ),
    "without points": (lambda: nk.observe(TRUTH, noise_std=0.1, noise_length=0.2), r"at=nk\.tracks\(truth"),
    "no length": (lambda: nk.observe(TRUTH, at=DRIFTING, noise_std=0.1, noise_length=0.0), "noise_length=0.0"),
    "at the same place": (
        lambda: nk.observe(
            TRUTH, at=DRIFTING.assign_coords(track=0 * DRIFTING["track"]), noise_std=0.1, noise_length=1.0
        ),
        r"Track 0 has \d+ values at the distance",
    ),
    "on the grid": (lambda: nk.grid(SEEN, OCEAN, dt=5.0), "keep their places by exact=True"),
    "two at once": (
        lambda: nk.grid(
            xr.concat([SEEN, SEEN.assign_coords(track=SEEN["track"] + 99)], "obs"), OCEAN, dt=5.0, exact=True
        ),
        "Several values have the same time and place",
    ),
    "weighed": (
        lambda: ocean_law(2)[1].assimilate(
            nk.grid(SEEN.isel(obs=slice(9)), OCEAN, dt=5.0, steps=2, exact=True)[0],
            operator=nk.grid(SEEN.isel(obs=slice(9)), OCEAN, dt=5.0, steps=2, exact=True)[1],
            robust="student",
        ),
        "these errors are correlated",
    ),
}


@pytest.mark.parametrize("name", NOT_DRIFTING)
def test_drifting_errors_that_cannot_be_are_refused_with_words(name):
    call, said = NOT_DRIFTING[name]
    with pytest.raises(ValueError, match=said):
        call()


def test_drifting_errors_survive_their_file(tmp_path):
    SEEN.to_netcdf(tmp_path / "seen.nc")
    again = xr.load_dataset(tmp_path / "seen.nc")
    obs, _ = nk.grid(again, OCEAN, dt=5.0, exact=True)
    xr.testing.assert_identical(obs, nk.grid(SEEN, OCEAN, dt=5.0, exact=True)[0])
    obs.to_netcdf(tmp_path / "obs.nc")
    assert nk.load_observations(tmp_path / "obs.nc")["noise_length"] == 0.2


# Files of others


def challenge():
    """A sea of few points, with dates and degrees, and optimal interpolation of it."""
    lat, lon = np.linspace(33.0, 43.0, 6), np.linspace(-65.0, -55.0, 7)
    days = np.datetime64("2012-10-01") + np.arange(5) * np.timedelta64(1, "D")
    labels = nk.GridLabels(
        {"lat": lat, "lon": lon}, "m", "sea surface height", {"lat": "degrees_north", "lon": "degrees_east"}, "d"
    )
    north, east = (a.ravel() for a in np.meshgrid(lat, lon, indexing="ij"))
    space = np.exp(-((north[:, None] - north) ** 2 + (east[:, None] - east) ** 2) / 18) + 0.01 * np.eye(42)
    covariance = np.kron(np.exp(-np.abs(np.subtract.outer(np.arange(5), np.arange(5))) / 8), space)
    law = Climatology.from_covariance(
        torch.zeros(5, 42).double(), torch.from_numpy(covariance), torch.ones(42).double()
    )
    heights = np.linalg.cholesky(covariance) @ np.random.default_rng(0).normal(size=len(covariance))
    coords = {"time": days, "lat": lat, "lon": lon}
    sea = xr.DataArray(heights.reshape(5, 6, 7), coords, tuple(coords), "sossheig", {"units": "m"})
    return sea, nk.OptimalInterpolation(law, labels, 1.0)


@pytest.mark.parametrize("places", ["variables", "coordinates"])
def test_files_of_the_ocean_data_challenges_go_in_and_come_out_as_they_are(tmp_path, places):
    sea, method = challenge()
    sea.to_netcdf(tmp_path / "reference.nc")
    reference = xr.load_dataset(tmp_path / "reference.nc")["sossheig"]
    seen = nk.observe(reference, at=nk.tracks(reference, repeat="2D", passes=6), noise_std=0.05, seed=1)
    along = (
        seen[["value"]]
        .rename(value="ssh_model")
        .swap_dims(obs="time")
        .drop_vars(["obs", "satellite", "track", "along_track"])
    )
    along = along.reset_coords(["lat", "lon"]) if places == "variables" else along
    along.to_netcdf(tmp_path / "track.nc")
    file = xr.load_dataset(tmp_path / "track.nc")
    assert all(file[name].dims == ("time",) for name in ("time", "lat", "lon", "ssh_model"))

    how = {"start": "2012-10-01", "steps": 5, "value": "ssh_model", "error": 0.05, "exact": True}
    obs, between = nk.grid(file, method, **how)
    result = method.assimilate(obs, operator=between)
    itself, h = nk.grid(seen, method, start="2012-10-01", steps=5, exact=True)
    xr.testing.assert_allclose(result["mean"], method.assimilate(itself, operator=h)["mean"])

    result["mean"].rename("sossheig").to_netcdf(tmp_path / "map.nc")
    written = xr.load_dataset(tmp_path / "map.nc")["sossheig"]
    assert written.dims == ("time", "lat", "lon") and written["time"].dtype.kind == "M"
    assert written.attrs["units"] == "m" and written["lat"].attrs["units"] == "degrees_north"
    assert nk.rmse(written, reference) < 0.6 * reference.std()
    assert nk.resolved_scales(written, reference)["mu"] > 0.4

    whole = nk.grid(xr.load_dataset(tmp_path / "reference.nc"), method, value="sossheig", error=0.05)
    xr.testing.assert_equal(whole["value"].drop_attrs(), reference.drop_attrs())


def test_clouds_much_larger_than_the_field_take_no_more_memory():
    like = field(5, 1.0, y=np.linspace(0, 1, 17), x=np.linspace(0, 1, 17)).expand_dims(sample=400)
    tracemalloc.start()
    hidden = nk.clouds(like, fraction=0.3, length=1e3, lifetime=1e4, seed=2)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    share = hidden.mean(["time", "y", "x"])
    assert ((share < 0.01) | (share > 0.99)).all()  # one cloud, or none
    assert float(share.mean()) == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 400))


def test_clouds_as_large_as_the_field_hang_together_as_smaller_ones_do():
    like = field(2, 1.0, y=np.linspace(0, 1, 3), x=np.linspace(0, 1, 129)).expand_dims(sample=4000)
    hidden = nk.clouds(like, fraction=0.5, length=0.5, lifetime=1.0, seed=1).isel(time=0, y=0).values
    for lag in (5, 40, 128):  # between points of the white noise, and far apart
        expected = 0.25 + np.arcsin(np.exp(-((lag / 64) ** 2) / 2)) / (2 * np.pi)
        assert (hidden[:, 0] & hidden[:, lag]).mean() == pytest.approx(expected, abs=0.05)
