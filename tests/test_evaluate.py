import itertools
import re
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from advection import Advection, flat
from scipy import integrate, stats

import nida_kit as nk
from nida_kit import evaluate

DIMS = ("sample", "time", "component")
COORDS = {"time": np.arange(5) * 0.1, "component": ["x", "y", "z"]}


@pytest.fixture
def case():
    generator = np.random.default_rng(0)
    truth, mean = (xr.DataArray(generator.normal(size=(4, 5, 3)), COORDS, DIMS) for _ in range(2))
    std = xr.DataArray(generator.uniform(0.2, 2.0, size=(4, 5, 3)), COORDS, DIMS)
    return mean, std, truth


@pytest.mark.parametrize("dim", [None, "time", ["sample", "time"], ("time", "component")])
def test_squared_errors_are_those_of_numpy(case, dim):
    mean, _, truth = case
    dims = DIMS if dim is None else (dim,) if isinstance(dim, str) else dim
    expected = ((mean.values - truth.values) ** 2).mean(axis=tuple(DIMS.index(d) for d in dims))
    np.testing.assert_allclose(nk.mse(mean, truth, dim), expected)
    np.testing.assert_allclose(nk.rmse(mean, truth, dim), np.sqrt(expected))


def test_crps_is_the_integral_of_its_definition(case):
    mean, std, truth = (array[:1, :2] for array in case)
    score = nk.crps(mean, std, truth, dim=["time", "component"])

    def by_hand(m, s, x):
        def squared(u):
            return (stats.norm.cdf(u, m, s) - (u >= x)) ** 2

        return sum(integrate.quad(squared, *ends)[0] for ends in ((m - 12 * s, x), (x, m + 12 * s)))

    values = [by_hand(*numbers) for numbers in zip(mean.values.flat, std.values.flat, truth.values.flat, strict=True)]
    assert float(score[0]) == pytest.approx(np.mean(values), rel=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_coverage_counts_what_lies_in_the_interval_of_scipy(case, level):
    mean, std, truth = case
    low, high = stats.norm.interval(level, mean.values, std.values)
    expected = ((low <= truth.values) & (truth.values <= high)).mean(0)
    np.testing.assert_allclose(nk.coverage(mean, std, truth, level, dim="sample"), expected)


def test_draws_of_the_forecast_itself_are_covered_as_often_as_the_level_says():
    generator = np.random.default_rng(1)
    mean = xr.DataArray(np.zeros((20_000, 1)), {"component": ["x"]}, ("time", "component")).assign_coords(
        time=np.arange(20_000.0)
    )
    std = mean + 2.0
    truth = mean + 2.0 * generator.normal(size=mean.shape)
    assert float(nk.coverage(mean, std, truth)) == pytest.approx(0.9, abs=0.01)
    assert float(nk.spread_error_ratio(mean, std, truth)) == pytest.approx(1.0, abs=0.02)


def test_the_spread_error_ratio_is_that_of_its_definition(case):
    mean, std, truth = case
    expected = np.sqrt((std.values**2).mean() / ((mean.values - truth.values) ** 2).mean())
    assert float(nk.spread_error_ratio(mean, std, truth)) == pytest.approx(expected)


def test_steps_and_members_are_scored_one_by_one_against_one_truth(case):
    mean, _, truth = case
    steps = xr.concat([mean, truth], "step")
    np.testing.assert_allclose(nk.rmse(steps, truth, dim=DIMS)[1], 0.0)
    with pytest.raises(ValueError, match="dims"):
        nk.rmse(steps, truth)


def bad_cases(mean, truth):
    later = truth.assign_coords(time=truth["time"] + 0.1)
    return {
        "another time": (mean, later, None),
        "fewer times": (mean, truth.isel(time=slice(3)), None),
        "other components": (mean, truth.assign_coords(component=["a", "b", "c"]), None),
        "no time": (mean, truth.isel(time=0, drop=True), "component"),
        "numpy": (mean, truth.values, None),
        "no such dim": (mean, truth, "member"),
    }


@pytest.mark.parametrize("which", list(bad_cases(*(xr.DataArray(np.zeros((1, 5, 3)), COORDS, DIMS),) * 2)))
def test_what_does_not_match_is_refused(case, which):
    mean, _, truth = case
    estimate, other, dim = bad_cases(mean, truth)[which]
    with pytest.raises(ValueError):
        nk.rmse(estimate, other, dim)


@pytest.fixture
def draws(case):
    generator = np.random.default_rng(2)
    return xr.DataArray(generator.normal(size=(6, 4, 5, 3)), COORDS | {"member": range(6)}, ("member", *DIMS))


def normal(*shape, seed=3):
    """Independent standard normal values with the dims member (of two before the last), time and component."""
    values = np.random.default_rng(seed).normal(size=shape)
    dims = ("member", "time", "component")[-len(shape) :]
    return xr.DataArray(values, {"time": np.arange(shape[-2]), "component": np.arange(shape[-1])}, dims)


SCORES = {
    "mse": lambda mean, std, truth, dim=None: nk.mse(mean, truth, dim),
    "rmse": lambda mean, std, truth, dim=None: nk.rmse(mean, truth, dim),
    "crps": nk.crps,
    "coverage": nk.coverage,
    "spread_error_ratio": nk.spread_error_ratio,
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("which", ["mean", "std", "truth"])
def test_nan_shows_in_the_score_that_it_enters_and_in_no_other(case, name, which):
    arrays = dict(zip(("mean", "std", "truth"), case, strict=True))
    arrays[which] = arrays[which].where((arrays[which]["time"] > 0) | (arrays[which]["component"] != "x"))
    score = SCORES[name](**arrays, dim=["sample", "time"])
    poisoned = which != "std" or name not in ("mse", "rmse")
    assert score.isnull().values.tolist() == [poisoned, False, False]


@pytest.mark.parametrize("name", ["crps", "coverage", "spread_error_ratio"])
def test_a_std_on_other_coordinates_is_refused(case, name):
    mean, std, truth = case
    for other in (std.isel(time=slice(3)), std.assign_coords(time=std["time"] + 1), std.values):
        with pytest.raises(ValueError):
            SCORES[name](mean, other, truth)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_outside_zero_and_one_is_refused(case, level):
    with pytest.raises(ValueError, match="level"):
        nk.coverage(*case, level=level)


def test_reliability_is_the_coverage_at_each_level(case):
    curve = nk.reliability(*case, levels=(0.3, 0.9), dim=["sample", "time"])
    assert curve.dims == ("level", "component") and curve["level"].values.tolist() == [0.3, 0.9]
    for level in (0.3, 0.9):
        expected = nk.coverage(*case, level=level, dim=["sample", "time"])
        np.testing.assert_array_equal(curve.sel(level=level), expected)


def test_a_calibrated_gaussian_is_reliable_and_an_overconfident_one_below_by_as_much_as_scipy_says():
    truth = normal(20_000, 1)
    mean, levels = 0 * truth, np.array(evaluate.LEVELS)
    np.testing.assert_allclose(nk.reliability(mean, mean + 1, truth), levels, atol=0.012)
    half = 2 * stats.norm.cdf(stats.norm.ppf((1 + levels) / 2) / 2) - 1
    np.testing.assert_allclose(nk.reliability(mean, mean + 0.5, truth), half, atol=0.012)


def test_errors_as_large_as_their_predicted_spread_lie_on_the_diagonal():
    std = np.exp(normal(40_000, 2, seed=4))
    truth = std * normal(40_000, 2, seed=5)
    pairs = nk.spread_error(0 * truth, std, truth, bins=8)
    assert pairs.sizes == {"bin": 8}
    np.testing.assert_allclose(pairs["error"], pairs["spread"], rtol=0.05)
    assert (np.diff(pairs["spread"]) > 0).all() and float(pairs["spread"][-1] / pairs["spread"][0]) > 10


def test_the_bins_of_spread_and_error_hold_equally_many_values(case):
    mean, std, truth = case
    order = np.argsort(std.values.ravel())
    lowest = order[: 60 // 5]
    pairs = nk.spread_error(mean.transpose(*DIMS[::-1]), std, truth, bins=5)
    error = (mean - truth).values.ravel()
    assert float(pairs["spread"][0]) == pytest.approx(np.sqrt((std.values.ravel()[lowest] ** 2).mean()))
    assert float(pairs["error"][0]) == pytest.approx(np.sqrt((error[lowest] ** 2).mean()))


@pytest.mark.parametrize("bins", [0, 61, 2.5])
def test_bins_that_cannot_be_filled_are_refused(case, bins):
    with pytest.raises(ValueError, match="bins"):
        nk.spread_error(*case, bins=bins)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_nan_shows_in_every_bin_of_spread_and_error(case, which):
    arrays = list(case)
    arrays[which] = arrays[which].where(arrays[which]["time"] > 0)
    assert nk.spread_error(*arrays).isnull().all().to_array().all()


def test_the_crps_of_draws_is_the_integral_of_its_definition(draws, case):
    draws, truth = draws[:, :1, :2], case[2][:1, :2]
    score = nk.crps_ensemble(draws, truth, dim="sample")
    for (time, component), value in np.ndenumerate(score.values):
        members, x = np.sort(draws.values[:, 0, time, component]), truth.values[0, time, component]
        knots = np.sort([*members, x])  # between which both distribution functions are constant
        below = np.searchsorted(members, knots[:-1], side="right") / len(members)
        assert value == pytest.approx((np.diff(knots) * (below - (knots[:-1] >= x)) ** 2).sum())


def test_the_crps_of_many_gaussian_draws_is_that_of_the_gaussian():
    truth = normal(300, 2)
    draws = 1 + 2 * normal(500, 300, 2, seed=6)
    exact = float(nk.crps(0 * truth + 1, 0 * truth + 2, truth))
    assert float(nk.crps_ensemble(draws, truth)) == pytest.approx(exact, rel=0.01)


def test_ranks_are_counted_as_numpy_does(draws, case):
    counts = nk.rank_histogram(draws, case[2], dim=["sample", "time"])
    ranks = (draws.values < case[2].values).sum(0) + 1
    expected = [[(ranks[..., c] == rank).sum() for rank in range(1, 8)] for c in range(3)]
    np.testing.assert_array_equal(counts.transpose("component", "rank"), expected)
    assert counts["rank"].values.tolist() == list(range(1, 8))


def test_ranks_are_flat_if_truth_and_draws_are_of_one_law_and_a_u_if_draws_are_too_narrow():
    truth, draws = normal(5000, 2), normal(9, 5000, 2, seed=7)
    counts = nk.rank_histogram(draws, truth)
    assert stats.chisquare(counts).pvalue > 0.01
    narrow = nk.rank_histogram(0.5 * draws, truth)
    assert narrow[0] > 1.5 * counts.mean() and narrow[-1] > 1.5 * counts.mean() and narrow[4] < counts.mean()


def test_the_energy_score_of_a_window_is_its_definition_over_all_pairs(draws, case):
    score = nk.energy_score(draws, case[2], dim=("time", "component"))
    points, truth = draws.values.reshape(6, 4, 15), case[2].values.reshape(4, 15)
    error = np.linalg.norm(points - truth, axis=-1).mean(0)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1).mean((0, 1))
    np.testing.assert_allclose(score, error - apart / 2)
    np.testing.assert_allclose(nk.energy_score(draws, case[2]), score.mean())


def test_the_energy_score_of_single_values_is_the_crps_of_draws(draws, case):
    one, truth = draws.isel(time=[2], component=[1]), case[2].isel(time=[2], component=[1])
    np.testing.assert_allclose(nk.energy_score(one, truth), nk.crps_ensemble(one, truth))
    np.testing.assert_allclose(nk.energy_score(draws, case[2], "sample"), nk.crps_ensemble(draws, case[2], "sample"))


def test_clouds_of_points_lie_as_far_apart_as_one_was_shifted(draws):
    shift = xr.DataArray([3.0, 0.0, -4.0], {"component": COORDS["component"]}, ("component",))
    mixed = draws.isel(member=[3, 0, 5, 1, 4, 2]).drop_vars("member")
    distance = nk.wasserstein(draws, mixed + shift)
    assert distance.dims == ("sample",)
    np.testing.assert_allclose(distance, 5 * np.sqrt(draws.sizes["time"]))
    np.testing.assert_allclose(nk.wasserstein(draws, mixed), 0.0, atol=1e-12)


def test_distances_in_one_dimension_are_those_of_scipy_for_any_number_of_draws():
    draws, reference = normal(40, 3, 1), 1 + 2 * normal(25, 3, 1, seed=8)
    by_hand = [stats.wasserstein_distance(draws.values[:, t, 0], reference.values[:, t, 0]) for t in range(3)]
    np.testing.assert_allclose(nk.wasserstein(draws, reference, dim="component"), by_hand)


def test_without_pot_the_distance_says_what_to_install(draws, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ValueError, match="pip install POT"):
        nk.wasserstein(draws, draws)


DRAWN = [nk.crps_ensemble, nk.rank_histogram, nk.energy_score, nk.wasserstein]


def other_for(score, truth):
    """What a score compares draws with."""
    return truth.expand_dims(member=2) if score is nk.wasserstein else truth


@pytest.mark.parametrize("score", DRAWN)
@pytest.mark.parametrize("which", ["draws", "other"])
def test_nan_shows_in_the_score_of_the_draws_that_it_enters_and_in_no_other(draws, case, score, which):
    truth = case[2]
    if which == "draws":
        draws = draws.where((draws["member"] != 2) | (draws["component"] != "x") | (draws["time"] > 0))
    else:
        truth = truth.where((truth["component"] != "x") | (truth["time"] > 0))
    scores = score(draws, other_for(score, truth), dim=["sample", "time"])
    assert scores.isnull().any(set(scores.dims) - {"component"}).values.tolist() == [True, False, False]
    assert scores.isnull().all(set(scores.dims) - {"component"}).values.tolist() == [True, False, False]


@pytest.mark.parametrize("score", DRAWN)
def test_draws_without_members_or_on_other_coordinates_are_refused(draws, case, score):
    other = other_for(score, case[2])
    later = draws.assign_coords(time=draws["time"] + 0.1)
    for wrong in (later, draws.isel(time=slice(3)), draws.isel(member=0), draws[:0], draws.values):
        with pytest.raises(ValueError):
            score(wrong, other)
    with pytest.raises(ValueError):
        score(draws, other.isel(component=slice(2)))
    with pytest.raises(ValueError, match="dims"):
        score(draws, other, dim="member")


@pytest.mark.parametrize("score", DRAWN)
def test_steps_are_scored_one_by_one_and_dask_gives_the_same(draws, case, score):
    other, dim = other_for(score, case[2]), DIMS
    steps = xr.concat([draws, draws + 1], "step")
    scores = score(steps, other, dim=dim)
    np.testing.assert_allclose(scores.isel(step=1), score(draws + 1, other, dim=dim))
    np.testing.assert_allclose(score(steps.chunk(sample=2), other.chunk(sample=2), dim=dim), scores)


# Fields


def test_scores_of_a_field_are_those_of_its_numbers_in_a_row():
    truth = Advection().simulate(samples=3, steps=4, dt=0.1, seed=0)
    draws = truth + xr.DataArray(np.random.default_rng(0).normal(size=(5, 3, 4, 8, 9)), dims=("member", *truth.dims))
    mean, std = draws.mean("member"), draws.std("member")
    row, row_draws, row_mean, row_std = map(flat, (truth, draws, mean, std))
    for dims, same in ((None, None), (("time", "y", "x"), ("time", "component")), (("y", "x"), "component")):
        for found, expected in (
            (nk.rmse(mean, truth, dims), nk.rmse(row_mean, row, same)),
            (nk.crps(mean, std, truth, dims), nk.crps(row_mean, row_std, row, same)),
            (nk.coverage(mean, std, truth, dim=dims), nk.coverage(row_mean, row_std, row, dim=same)),
            (nk.crps_ensemble(draws, truth, dims), nk.crps_ensemble(row_draws, row, same)),
            (nk.energy_score(draws, truth, dims), nk.energy_score(row_draws, row, same)),
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    turned = draws.transpose("x", "member", "time", "y", "sample")
    np.testing.assert_allclose(
        nk.energy_score(turned, truth, "trajectory"), nk.energy_score(row_draws, row, "trajectory")
    )
    np.testing.assert_allclose(nk.wasserstein(draws, draws + 1), nk.wasserstein(row_draws, row_draws + 1))
    np.testing.assert_array_equal(
        nk.rank_histogram(draws, truth, ("sample", "time", "y", "x")), nk.rank_histogram(row_draws, row)
    )


def test_fields_on_other_points_are_not_compared():
    truth = Advection().simulate(samples=2, steps=3, dt=0.1, seed=0)
    with pytest.raises(ValueError, match="different coordinates"):
        nk.rmse(truth.assign_coords(x=truth["x"] + 1), truth, "time")
    with pytest.raises(ValueError, match="not all of these are to be compared"):
        nk.rmse(truth.isel(x=0), truth, "time")


@pytest.mark.parametrize("kind", [complex, str, bool, object])
def test_scores_compare_real_numbers(case, kind):
    mean, std, truth = case
    draws = xr.concat([mean, mean + 1], "member")
    for score in (
        lambda x: nk.rmse(mean, x),
        lambda x: nk.mse(x, truth),
        lambda x: nk.crps(mean, std, x),
        lambda x: nk.coverage(mean, x, truth),
        lambda x: nk.crps_ensemble(draws, x),
        lambda x: nk.energy_score(draws, x),
        lambda x: nk.rank_histogram(draws, x),
    ):
        with pytest.raises(ValueError, match=r"dtype.*real numbers are needed"):
            score(truth.astype(kind))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "score", [nk.crps, nk.coverage, nk.reliability, nk.spread_error, nk.spread_error_ratio], ids=lambda f: f.__name__
)
def test_a_standard_deviation_is_never_negative(case, score, lazy):
    mean, std, truth = (array.chunk() if lazy else array for array in case)
    with pytest.raises(ValueError, match="a standard deviation is never negative"):
        score(mean, std - 1.0, truth).compute()
    right = score(mean, std.where(std != std[0, 0, 0], 0.0), truth).compute()  # zero is none that is refused
    assert right is not None


SWING = nk.Pendulum().simulate(3, 6, 0.1, seed=0)
DEGREES = (SWING * 180 / np.pi).assign_coords(units=("component", ["degree", "degree s-1"]))
DRAWS = xr.concat([SWING, SWING + 0.1], "member")


@pytest.mark.parametrize(
    "score",
    [
        lambda other: nk.rmse(SWING, other),
        lambda other: nk.mse(other, SWING),
        lambda other: nk.crps(SWING, abs(SWING) + 1, other),
        lambda other: nk.coverage(SWING, abs(other) + 1, SWING),
        lambda other: nk.spread_error_ratio(SWING, abs(SWING) + 1, other),
        lambda other: nk.reliability(SWING, abs(SWING) + 1, other),
        lambda other: nk.spread_error(SWING, abs(SWING) + 1, other, 2),
        lambda other: nk.crps_ensemble(DRAWS, other),
        lambda other: nk.rank_histogram(DRAWS, other),
        lambda other: nk.energy_score(DRAWS, other),
        lambda other: nk.wasserstein(DRAWS, xr.concat([other, other], "member")),
    ],
)
def test_declared_units_that_differ_are_refused_by_every_score(score):
    with pytest.raises(ValueError, match=r"angle, is in .*0.0174533 x|angle, is in .*57.2958 x"):
        score(DEGREES)
    same = SWING.assign_coords(units=("component", ["radian", "radian/s"]))
    np.testing.assert_array_equal(
        score(same).to_array() if isinstance(score(same), xr.Dataset) else score(same),
        score(SWING).to_array() if isinstance(score(SWING), xr.Dataset) else score(SWING),
    )
    score(SWING.drop_vars("units"))


def test_a_spread_has_no_zero_and_one_unit_may_stand_for_all_components():
    cold = SWING.drop_vars("units").assign_attrs(units="degC")
    spread = abs(cold) + 1
    assert float(nk.crps(cold, spread.assign_attrs(units="K"), cold)) > 0
    with pytest.raises(ValueError, match=r"x K are 1 x -273.15 degC"):
        nk.rmse(cold, cold.assign_attrs(units="K"))
    with pytest.raises(ValueError, match="angle, is declared in 'rad'"):
        nk.rmse(cold, SWING)


# Scales


def waves(samples=24, steps=64, rows=4, columns=96, dt=0.5, dx=2.0, seed=0, **coords):
    """White noise on a field, whose spectrum is flat."""
    generator = np.random.default_rng(seed)
    coords = {"time": dt * np.arange(steps), "y": np.arange(rows), "x": dx * np.arange(columns)} | coords
    return xr.DataArray(generator.normal(size=(samples, steps, rows, columns)), coords, ("sample", "time", "y", "x"))


def filtered(field, gain, dt=0.5, dx=2.0):
    """The field whose waves of frequency f and wavenumber k are multiplied by gain(f, k)."""
    f, k = np.fft.fftfreq(field.sizes["time"], dt)[:, None, None], np.fft.fftfreq(field.sizes["x"], dx)
    shape = gain(np.abs(f), np.abs(k))
    return field.copy(data=np.fft.ifftn(np.fft.fftn(field.values, axes=(1, 3)) * shape, axes=(1, 3)).real)


HALF = 1 - np.sqrt(0.5)  # (1 - gain)^2 = 1/2 at this gain


@pytest.mark.parametrize("wavelength", [10.0, 24.0])
def test_the_resolved_wavelength_is_where_half_of_the_power_is_error(wavelength):
    truth = waves()
    sharpness = -np.log(HALF) * wavelength**2
    estimate = filtered(truth, lambda f, k: np.exp(-sharpness * k**2) + 0 * f)
    scales = nk.resolved_scales(estimate, truth)
    assert float(scales["lambda_x"]) == pytest.approx(wavelength, rel=0.1)
    assert float(scales["lambda_t"]) == pytest.approx(64 * 0.5 / 31)  # down to the shortest of the grid


@pytest.mark.parametrize("period", [3.0, 8.0])
def test_the_resolved_period_is_where_half_of_the_power_is_error(period):
    truth = waves(seed=1)
    sharpness = -np.log(HALF) * period**2
    estimate = filtered(truth, lambda f, k: np.exp(-sharpness * f**2) + 0 * k)
    scales = nk.resolved_scales(estimate, truth)
    assert float(scales["lambda_t"]) == pytest.approx(period, rel=0.1)
    assert float(scales["lambda_x"]) == pytest.approx(96 * 2.0 / 47)


def test_where_scales_in_time_and_space_go_together_the_shortest_is_that_of_the_other_ones_longest():
    truth = waves(seed=2)
    estimate = filtered(truth, lambda f, k: np.exp(np.log(HALF) * ((12 * k) ** 2 + (4 * f) ** 2)))
    scales = nk.resolved_scales(estimate, truth)
    # Along the ellipse (12 k)^2 + (4 f)^2 = 1, at the lowest frequency and wavenumber of the grid.
    assert float(scales["lambda_x"]) == pytest.approx(12 / np.sqrt(1 - (4 / 32) ** 2), rel=0.1)
    assert float(scales["lambda_t"]) == pytest.approx(4 / np.sqrt(1 - (12 / 192) ** 2), rel=0.1)


def test_the_spectral_score_is_that_of_plain_numpy():
    truth, estimate = waves(3, 16, 2, 15, seed=3) + 2.0, waves(3, 16, 2, 15, seed=4)
    t, x = np.arange(16), np.arange(15)
    plane = np.stack([np.ones((16, 15)), t[:, None] + 0 * x, x + 0 * t[:, None]], -1).reshape(-1, 3)
    window = np.outer(0.5 - 0.5 * np.cos(2 * np.pi * t / 16), 0.5 - 0.5 * np.cos(2 * np.pi * x / 15))

    def power(field):
        flat = np.moveaxis(field.values, 2, 1).reshape(-1, 16 * 15)
        left = flat - (plane @ np.linalg.lstsq(plane, flat.T, rcond=None)[0]).T
        return (np.abs(np.fft.fft2(left.reshape(-1, 16, 15) * window)) ** 2).mean(0)[1:8, 1:8]

    found = nk.resolved_scales(estimate, truth)["spectral_score"]
    np.testing.assert_allclose(found, 1 - power(estimate - truth) / power(truth), rtol=1e-8)
    np.testing.assert_allclose(found["freq_x"], np.arange(1, 8) / 30)
    np.testing.assert_allclose(found["freq_time"], np.arange(1, 8) / 8)


def test_the_shortest_scales_are_those_of_the_contour_that_the_challenge_draws():
    plt = pytest.importorskip("matplotlib.pyplot")
    truth = waves(seed=5)
    estimate = filtered(truth, lambda f, k: np.exp(np.log(HALF) * ((15 * k) ** 2 + (5 * f) ** 2)))
    scales = nk.resolved_scales(estimate, truth)
    share = scales["spectral_score"]
    drawn = plt.contour(1 / share["freq_x"].values, 1 / share["freq_time"].values, share.values, [0.5])
    segments = [segment for segment in drawn.allsegs[0] if len(segment)]
    longest = max(segments, key=len)
    plt.close()
    assert float(scales["lambda_x"]) == pytest.approx(longest[:, 0].min(), rel=1e-9)
    assert float(scales["lambda_t"]) == pytest.approx(longest[:, 1].min(), rel=1e-9)


def test_mu_and_sigma_are_those_of_the_ocean_data_challenges():
    truth, estimate = waves(3, 12, 2, 9, seed=3), waves(3, 12, 2, 9, seed=4)
    scales = nk.resolved_scales(truth + 0.3 * estimate, truth)
    error = 0.3 * estimate.values
    assert float(scales["mu"]) == pytest.approx(1 - np.sqrt((error**2).mean() / (truth.values**2).mean()))
    at_times = 1 - np.sqrt((error**2).mean((0, 2, 3)) / (truth.values**2).mean((0, 2, 3)))
    assert float(scales["sigma"]) == pytest.approx(at_times.std())


def test_nothing_and_everything_may_be_resolved():
    truth = waves(4, 16, 2, 16)
    none, all_of_it = nk.resolved_scales(-truth, truth), nk.resolved_scales(0.9 * truth, truth)
    assert np.isnan(none["lambda_x"]) and np.isnan(none["lambda_t"]) and none["mu"] == pytest.approx(-1.0)
    assert float(all_of_it["lambda_x"]) == pytest.approx(2.0 * 16 / 7)
    assert float(all_of_it["lambda_t"]) == pytest.approx(0.5 * 16 / 7)
    lost = nk.resolved_scales(truth.where(truth["x"] > 0), truth)
    assert all(np.isnan(lost[name]) for name in ("mu", "sigma", "lambda_x", "lambda_t"))


def test_scales_have_the_units_of_dates_and_degrees_and_stay_lazy():
    dates = np.datetime64("2012-10-01") + np.arange(16) * np.timedelta64(1, "D")
    truth = waves(4, 16, 2, 16, time=dates).rename(y="lat", x="lon")
    truth["lon"].attrs["units"] = "degrees_east"
    estimate = truth + 0.3 * waves(4, 16, 2, 16, seed=1).values
    scales = nk.resolved_scales(estimate, truth)
    assert scales["lambda_x"].attrs["units"] == "degrees_east" and scales["lambda_t"].attrs["units"] == "d"
    plain = nk.resolved_scales(estimate.assign_coords(time=np.arange(16.0)), truth.assign_coords(time=np.arange(16.0)))
    assert float(plain["lambda_t"]) == pytest.approx(float(scales["lambda_t"]))
    lazy = nk.resolved_scales(estimate.chunk(sample=1, time=4), truth.chunk(sample=1, time=4))
    assert all(lazy[name].chunks is not None for name in lazy)
    xr.testing.assert_allclose(lazy.compute(), scales)


UNEVEN = waves(2, 8, 2, 8, x=np.arange(8) ** 2)


@pytest.mark.parametrize(
    ("estimate", "truth", "said"),
    [
        (waves(2, 8, 2, 8), UNEVEN, "different coordinates"),
        (
            waves(2, 8, 2, 8, x=np.arange(8) ** 2),
            waves(2, 8, 2, 8, x=np.arange(8) ** 2),
            "uneven along 'x'.*interp",
        ),
        (waves(2, 2, 2, 8), waves(2, 2, 2, 8), "three times and three points"),
        (nk.Lorenz63().simulate(2, 8, 0.1), nk.Lorenz63().simulate(2, 8, 0.1), "Scales are those of fields"),
        (waves(2, 8, 2, 8).values, waves(2, 8, 2, 8), "not a ndarray"),
    ],
)
def test_scales_that_there_cannot_be_are_refused_with_words(estimate, truth, said):
    with pytest.raises(ValueError, match=said):
        nk.resolved_scales(estimate, truth)


def test_land_is_left_out_of_scores_and_a_lost_estimate_at_sea_is_not():
    truth = nk.QuasiGeostrophic(cells=9).simulate(samples=2, steps=6, dt=5.0, seed=0)
    noise = np.random.default_rng(0).normal(size=(5, *truth.shape))
    draws = xr.DataArray(truth.values + noise, dims=("member", *truth.dims), coords=truth.coords)
    mean, std = draws.mean("member"), draws.std("member")
    sea = truth["x"] > 0.3  # a coast, so that what is left is a field as well

    def scores(truth, mean, std, draws):
        found = evaluate.gaussian_scores(mean, std, truth) | {"rmse": float(nk.rmse(mean, truth))}
        found |= {name: float(getattr(nk, name)(draws, truth)) for name in ("crps_ensemble", "energy_score")}
        found["wasserstein"] = float(nk.wasserstein(draws, draws + 1.0).mean())
        found["ranks"] = nk.rank_histogram(draws, truth).sum().item()
        found["spread"] = nk.spread_error(mean, std, truth, bins=3)["error"].sum(skipna=False).item()
        found["mu"] = float(nk.resolved_scales(mean, truth)["mu"])
        return found

    whole = (truth, mean, std, draws)
    wanted = scores(*(x.sel(x=sea) for x in whole))
    found = scores(*(x.where(sea) for x in whole))
    assert found == pytest.approx(wanted)
    lost = truth, *(x.where(sea & ~((x["y"] == x["y"][3]) & (x["x"] == x["x"][7]))) for x in whole[1:])
    at_sea = scores(lost[0].where(sea), *lost[1:])
    assert {name for name, score in at_sea.items() if not np.isnan(score)} == {"wasserstein", "ranks"}


def test_where_each_line_has_land_the_way_out_is_told_and_right():
    truth = nk.QuasiGeostrophic(cells=17).simulate(samples=2, steps=6, dt=5.0, seed=0)
    coast = (truth["x"] > 0.2 + 0.2 * truth["y"]) & ~((truth["x"] > 0.9) & (truth["y"] < 0.1))
    truth = truth.where(coast)
    with pytest.warns(UserWarning, match="Each line along 'x' has land") as caught:
        scales = nk.resolved_scales(0.9 * truth, truth)
    assert np.isnan(scales["lambda_x"]) and scales["mu"] == pytest.approx(0.9)
    part = eval(f"truth.isel({re.search(r'isel.(.*).[.]$', str(caught[0].message))[1]})")
    assert part.notnull().all() and np.isfinite(nk.resolved_scales(0.9 * part, part)["lambda_x"])
    land = truth[0, 0].isnull().values
    n, ends = land.shape[0], range(1, land.shape[0] + 1)
    sizes = [
        (b - a) * (d - c)
        for a, b, c, d in itertools.product(range(n), ends, range(n), ends)
        if a < b and c < d and not land[a:b, c:d].any()
    ]
    assert part[0, 0].size == max(sizes)


@pytest.mark.parametrize("wide", [1, 2, 3])
def test_a_rectangle_too_narrow_for_scales_is_not_told(wide):
    truth = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=6, dt=5.0, seed=0)
    truth[..., wide :: wide + 1] = np.nan  # tall, and that wide
    truth[..., :2, 4:8] = np.nan
    with pytest.warns(UserWarning, match="Each line along 'x' has land") as caught:
        nk.resolved_scales(0.9 * truth, truth)
    said = str(caught[0].message)
    assert ("none has 3 points side by side" in said) == (wide < 3)
    assert ("the largest rectangle is .isel(y=slice(0, 17), x=slice(0, 3))." in said) == (wide == 3)


def test_scales_are_those_of_the_lines_without_land():
    truth = nk.QuasiGeostrophic(cells=17).simulate(samples=2, steps=6, dt=5.0, seed=0)
    sea = truth["y"] > 0.4
    corner = sea | (truth["x"] > 0.4)
    found, wanted = (nk.resolved_scales(0.9 * x, x) for x in (truth.where(corner), truth.sel(y=sea)))
    xr.testing.assert_allclose(found["spectral_score"], wanted["spectral_score"])
    assert found["lambda_x"] == wanted["lambda_x"]


@pytest.mark.parametrize("dtype", ["int8", "int16", "float16", "float32"])
def test_scores_of_few_digits_are_those_of_many(dtype):
    first, second = (xr.DataArray(np.array(x, dtype), dims="time") for x in ([100, 120], [-100, 120]))
    assert nk.mse(first, second) == 20_000
    assert nk.mse(first, second).dtype == float
    many = xr.DataArray(np.full((400_000, 2), 0.1, "float32"), dims=("time", "x"))
    land = many.where(xr.DataArray([True, False], dims="x"))
    assert nk.mse(land, 0 * land, dim="time")[0] == pytest.approx(0.01, rel=1e-6)


def test_the_crps_of_a_certainty_is_its_absolute_error():
    mean, truth, std = (xr.DataArray(x, dims="time") for x in ([1.0, 1.0, 1.0], [3.0, 1.0, 2.0], [0.0, 0.0, np.nan]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nk.crps(mean[:2], std[:2], truth[:2]) == 1.0
        assert np.isnan(nk.crps(mean, std, truth))


def test_lazy_scales_leave_land_out_as_those_in_memory_do():
    truth = waves(2, 8, 4, 8).where(xr.DataArray(np.arange(4) > 0, dims="y"))
    own, lazy = nk.resolved_scales(0.9 * truth, truth), nk.resolved_scales(0.9 * truth.chunk(), truth.chunk())
    xr.testing.assert_allclose(lazy.compute(), own)
    xr.testing.assert_allclose(nk.evaluate.spectrum(truth.chunk()).compute(), nk.evaluate.spectrum(truth))
