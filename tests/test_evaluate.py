import numpy as np
import pytest
import xarray as xr
from scipy import integrate, stats

import nida_kit as nk

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
