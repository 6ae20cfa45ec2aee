import json

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import nida_kit as nk
from nida_kit.studies import calibration, common
from nida_kit.studies.sampling import LastGaussian

DIMS = ("sample", "time", "component")
COORDS = {"time": np.arange(10) * 0.1, "component": ["x", "y"]}


def synthetic(overconfidence: float = 1.0, samples: int = 2000):
    """Means, standard deviations, truths and draws; the truth errs so many times as much as is said."""
    generator = np.random.default_rng(0)
    mean, error = (xr.DataArray(generator.normal(size=(samples, 10, 2)), COORDS, DIMS) for _ in range(2))
    std = xr.DataArray(generator.uniform(0.3, 3.0, size=mean.shape), COORDS, DIMS)
    noise = xr.DataArray(generator.normal(size=(calibration.RANKED, *mean.shape)), COORDS, ("member", *DIMS))
    return mean, std, mean + overconfidence * std * error, mean + std * noise


@pytest.fixture(scope="module")
def setup():
    return common.lorenz63()


@pytest.fixture(scope="module")
def named(setup):
    return calibration.methods(setup, nk.NeuralIncremental.pretrained("lorenz63", temperatures=2))


def test_a_calibrated_forecast_has_nominal_scores_in_both_forms():
    mean, std, truth, draws = synthetic()
    gaussian, drawn = calibration.gaussian_scores(mean, std, truth), calibration.draw_scores(draws, truth)
    assert gaussian["coverage_90"] == pytest.approx(0.9, abs=0.01)
    assert drawn["coverage_90"] == pytest.approx(0.9, abs=0.01)
    assert gaussian["coverage_50"] == pytest.approx(0.5, abs=0.01)
    assert drawn["coverage_50"] == pytest.approx(0.5, abs=0.01)
    assert gaussian["spread_error_ratio"] == pytest.approx(1, abs=0.02)
    assert calibration.outside(gaussian) == []
    # So many draws score 1 + 1 / m times the forecast itself.
    assert drawn["crps"] / gaussian["crps"] == pytest.approx(1 + 1 / calibration.RANKED, abs=0.01)


def test_curves_of_a_calibrated_forecast_are_diagonals():
    mean, std, truth, _ = synthetic()
    found = calibration.curves(mean, std, truth)
    np.testing.assert_allclose(found["reliability"]["coverage"], found["reliability"]["level"], atol=0.015)
    np.testing.assert_allclose(found["spread_error"]["error"], found["spread_error"]["spread"], rtol=0.06)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_spread_that_is_half_or_twice_the_error_is_outside_all_bounds(factor):
    mean, std, truth, draws = synthetic(factor)
    scores = calibration.gaussian_scores(mean, std, truth)
    assert calibration.outside(scores) == list(calibration.BOUNDS)
    assert scores["spread_error_ratio"] == pytest.approx(1 / factor, rel=0.05)
    ends = calibration.ranks(draws, truth).isel(rank=[0, -1]).sum("rank")
    flat = 2 / (calibration.RANKED + 1) * truth.sizes["sample"] * truth.sizes["time"]
    assert ((ends > 1.5 * flat) if factor > 1 else (ends < flat / 1.5)).all()


def test_the_log_score_is_that_of_scipy_and_both_proper_scores_are_least_at_the_right_spread():
    mean, std, truth, _ = synthetic()
    expected = -stats.norm.logpdf(truth, mean, std).mean()
    assert calibration.log_score(mean, std, truth) == pytest.approx(expected)
    by_factor = calibration.wrong_spreads(mean, std, truth, [0.5, 0.8, 1.0, 1.25, 2.0])
    for score in ("crps", "log_score"):
        assert min(by_factor, key=lambda factor: by_factor[factor][score]) == 1.0


def test_the_middle_ranks_are_the_central_interval():
    counts = xr.DataArray(np.arange(20.0), {"rank": np.arange(1, 21)}, ("rank",))
    assert calibration.covered(counts, 0.9) == pytest.approx(sum(range(1, 19)) / 190)
    assert calibration.covered(counts, 0.5) == pytest.approx(sum(range(5, 15)) / 190)


def test_errors_are_those_of_the_setup(setup, named):
    law = common.LAWS["paper"]
    truth, obs = common.observed(setup, law, 3)
    found = calibration.of_method(setup, law, named["OI"], truth, obs)
    score = setup.score(named["OI"].assimilate(obs)["mean"], truth)
    assert found["scores"]["mse"] == pytest.approx(score, abs=1e-4)
    assert {sum(counts) for counts in found["ranks"]["last Gaussian"].values()} == {3 * setup.steps}


@pytest.mark.parametrize("which", list(common.LAWS))
def test_every_law_is_scored_by_every_method(setup, named, which):
    truth, obs = common.observed(setup, common.LAWS[which], 3)
    for name, method in named.items():
        found = calibration.of_method(setup, common.LAWS[which], method, truth, obs)
        assert all(np.isfinite(value) for value in found["scores"].values())
        drawn = {"last Gaussian"} | ({"incremental sampling"} if name == "NIDA" else set())
        assert set(found["ranks"]) == drawn


def test_windows_drawn_in_parts_are_those_drawn_alone(setup, named, monkeypatch):
    _, obs = common.observed(setup, common.LAWS["paper"], 3)
    monkeypatch.setattr(calibration, "CHUNK", 2)
    draws = calibration.drawn(LastGaussian(named["NIDA"]), obs, 4)
    alone = LastGaussian(named["NIDA"]).sample(obs.isel(sample=[2]), 4, seed=common.TEST + 2)
    np.testing.assert_allclose(draws.isel(sample=[2]), alone)


def test_a_ratio_of_scores_knows_its_error_where_windows_share_their_difficulty():
    generator = np.random.default_rng(1)
    difficulty = xr.DataArray(generator.lognormal(size=500), dims="sample")
    found = calibration._ratio(1.2 * difficulty, difficulty)
    assert found == {"crps_over_particles": 1.2, "standard_error": 0.0}
    noisy = calibration._ratio(difficulty + generator.normal(size=500) * 0.5, difficulty)
    assert abs(noisy["crps_over_particles"] - 1) < 4 * noisy["standard_error"]


def test_the_posterior_itself_has_the_least_crps(setup, named):
    truth, obs = common.observed(setup, common.LAWS["paper"], 6)
    found = calibration.against_particles(setup, common.LAWS["paper"], named, truth, obs, members=40, particles=500)
    ratio = {name: row["crps_over_particles"] for name, row in found.items()}
    assert ratio["particles"] == pytest.approx(1 + 1 / 40)
    assert ratio["OI"] == max(ratio.values()) > 1.5


def test_the_study_is_plain_json_and_makes_tables(monkeypatch):
    monkeypatch.setattr(calibration, "LAWS", {name: common.LAWS[name] for name in ("paper", "sum")})
    found = calibration.measure(3, reference=2, members=20, particles=100)
    assert json.loads(json.dumps(found, allow_nan=False)) == found | {
        "bounds": {name: list(bounds) for name, bounds in calibration.BOUNDS.items()}
    }
    assert list(calibration.table(found).index) == [
        (law, m) for law in ("paper", "sum") for m in ("OI", "NIDA", "hybrid")
    ]
    beside = found["paper_beside_particles"]
    assert "first 2 " in beside["windows"]
    assert calibration.particle_table(beside["methods"]).loc["particles", "CRPS"] > 0
    for made in (calibration.table(found), calibration.particle_table(beside["methods"])):
        assert not [name for name in made.columns if "_" in name]
