import json

import numpy as np
import pytest
import xarray as xr

import nida_kit as nk
from nida_kit.studies import common, sampling

MEMBERS = 40


@pytest.fixture(scope="module")
def setup():
    return common.lorenz63()


@pytest.fixture(scope="module")
def neural():
    return nk.NeuralIncremental.pretrained("lorenz63")


@pytest.fixture(scope="module")
def scores(setup, neural):
    """Of the paper's law and of z only, on two windows with few particles."""
    methods = sampling.forecasts(setup, neural, particles=500)
    return {name: sampling.of_law(setup, sampling.LAWS[name], methods, 2, MEMBERS) for name in ("paper", "z only")}


def waves(*amplitudes: float) -> xr.DataArray:
    """Draws `(member, time, component)` whose x is a wave of each amplitude around its sign."""
    time = np.arange(20) * 0.1
    x = np.array(amplitudes)[:, None] * (1 + 0.1 * np.sin(time))
    values = np.stack([x, x, 0 * x], -1)
    return xr.DataArray(values, {"time": time, "component": ["x", "y", "z"]}, ("member", "time", "component"))


def test_the_last_gaussian_of_a_method_has_its_mean_and_spread(setup, neural):
    _, obs = common.observed(setup, common.LAWS["paper"], 2)
    result = neural.assimilate(obs)
    draws = sampling.LastGaussian(neural).sample(obs, 4000)
    away = abs(draws.mean("member") - result["mean"]) / result["std"]
    assert float(away.max()) < 5 / 4000**0.5
    np.testing.assert_allclose(draws.std("member") / result["std"], 1, atol=0.06)


def test_incremental_draws_spread_beyond_the_last_gaussian_where_there_are_two_modes(setup, neural):
    _, obs = common.observed(setup, common.Z_ONLY, 1)
    one, many = (m.sample(obs, MEMBERS).sel(component="x") for m in (sampling.LastGaussian(neural), neural))
    assert float(many.std("member").mean()) > 0
    assert not np.allclose(one, many)


def test_no_forecast_lies_below_the_floor_by_more_than_chance_and_the_climatology_is_the_farthest(scores):
    for found in scores.values():
        distance = found["wasserstein"].mean("sample")
        assert float(distance.sel(forecast=sampling.REFERENCE)) == pytest.approx(0, abs=1e-9)
        others = distance.drop_sel(forecast=[sampling.REFERENCE, sampling.FLOOR])
        assert (distance.sel(forecast=sampling.FLOOR) < 1.05 * others).all()  # so few draws have floors of their own
        assert float(distance.sel(forecast="OI")) == float(distance.max())


def test_the_reference_beats_the_climatology_in_the_energy_score(scores):
    for found in scores.values():
        energy = found["energy_score"].mean("sample")
        assert float(energy.sel(forecast=sampling.REFERENCE)) < float(energy.sel(forecast="OI"))


def test_lobes_and_draws_in_between_are_counted():
    reference = waves(3, -3, 3, -3)
    draws = waves(3, -3, -3, 0.5, -0.5)
    assert float(sampling.right_lobe(draws)) == pytest.approx(2 / 5)
    assert float(sampling.between(draws, reference)) == pytest.approx(2 / 5)
    assert float(sampling.between(reference, reference)) == 0
    assert float(sampling.between(-draws, reference)) == pytest.approx(2 / 5)


def test_a_gaussian_around_two_narrow_modes_is_in_between_as_often_as_the_docstring_says():
    generator = np.random.default_rng(0)
    reference, gaussian = waves(*[-3.0, 3.0] * 50), waves(*(3 * generator.normal(size=20_000)))
    assert float(sampling.between(gaussian, reference)) == pytest.approx(0.38, abs=0.01)


def test_the_mean_of_two_modes_is_all_in_between(scores):
    reference = waves(3, -3)
    assert float(sampling.between(reference.mean("member").expand_dims("member"), reference)) == 1
    particles = scores["z only"]["between"].sel(forecast=[sampling.REFERENCE, sampling.FLOOR])
    assert (particles.mean("sample") < scores["z only"]["between"].sel(forecast="OI").mean("sample")).all()


def test_windows_are_compared_one_by_one(scores):
    found = scores["paper"]
    assert found.sizes == {"sample": 2, "forecast": 6}
    summary = sampling.summary(found)
    assert "wasserstein" not in summary[sampling.REFERENCE]
    expected = float(found["energy_score"].sel(forecast="OI").std("sample", ddof=1)) / 2**0.5
    assert summary["OI"]["energy_score_error"] == pytest.approx(expected, abs=1e-4)


def test_one_component_of_many_forecasts_is_put_side_by_side(setup, neural):
    _, obs = common.observed(setup, common.Z_ONLY, 2)
    draws = sampling.LastGaussian(neural).sample(obs, 3)
    beside = sampling.side_by_side({"one": draws, "two": -draws}, "x")
    assert beside["component"].values.tolist() == ["one", "two"]
    assert "long_name" not in beside.coords
    np.testing.assert_array_equal(beside.sel(component="two"), -draws.sel(component="x"))


def test_the_study_is_plain_json_and_makes_tables(monkeypatch):
    monkeypatch.setattr(sampling, "LAWS", {name: sampling.LAWS[name] for name in ("z only", "hi")})
    found = sampling.measure(2, members=8, particles=100)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    table = sampling.table(found)
    assert table.shape[0] == len(sampling.LAWS) * 6
    assert table["energy score"].notna().all() and table["distance"].isna().sum() == len(sampling.LAWS)
    lobes = sampling.modes_table(found)
    assert ((lobes["least"] <= lobes["median"]) & (lobes["median"] <= lobes["most"])).all()
