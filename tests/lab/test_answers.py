"""What notebooks and workshop tell learners to expect in the labs is what the labs show."""

from statistics import mean

import pytest

pytest.importorskip("ipywidgets")

from nida_kit.lab import LabModel
from nida_kit.lab.simulated import presets
from nida_kit.lab.spread import SpreadParameters, run
from nida_kit.minima import MinimaParameters, run_minima


def scores(**params) -> dict:
    return LabModel(**params).result.attrs


@pytest.mark.parametrize(("preset", "wider"), [("noisy", 5 / 3), ("sparse", 4.5), ("dense", 0.25)])
def test_the_buttons_of_the_first_lab_widen_the_bands_as_it_says(preset, wider):
    """00_start_here: standard deviations of the lab's first window."""
    usual, now = (LabModel(**law, seed=4).result["std"].isel(step=-1) for law in ({}, presets("lorenz63")[preset]))
    assert float(now.mean() / usual.mean()) == pytest.approx(wider, rel=0.1)


@pytest.mark.parametrize(
    ("seed", "shares"), [(67, 0.35), (0, 0.65), (1, 1.2), (2, 2.1), (3, 1.05), (4, 0.34), (5, 0.93)]
)
def test_later_steps_help_and_harm_where_the_notebook_says(seed, shares):
    """WORKSHOP, 03_temperature: the error of the last step, as a share of that of the first."""
    errors = LabModel(seed=seed).result["step_rmse"].values
    assert errors[-1] / errors[0] == pytest.approx(shares, rel=0.05)


def test_descents_end_in_the_valleys_that_the_notebook_names():
    """05_four_d_var_and_hybrid, section 2."""
    tried = [{"place": 0.05}, {"place": 0.1}, {"every": 4}, *({"seed": seed} for seed in range(8))]
    wrong = [params for params in tried if run_minima(MinimaParameters(**params)).attrs["barrier"] > 1]
    assert wrong == [{"place": 0.05}, {"seed": 0}, {"seed": 4}, {"seed": 6}]


@pytest.mark.parametrize(("seed", "hybrid_wins"), [(0, True), (4, True), (9, True), (2, False)])
def test_four_d_var_is_wrong_where_the_workshop_says(seed, hybrid_wins):
    """WORKSHOP, 05_four_d_var_and_hybrid."""
    result = LabModel(method="neural + 4D-Var", beside=["4D-Var"], seed=seed).result
    alone = float(result["beside_rmse"][0])
    assert (alone > 2 * result.attrs["rmse"]) if hybrid_wins else (result.attrs["rmse"] > 2 * alone)


@pytest.mark.parametrize(("stretch", "covered", "crps"), [(0.4, 0.51, 0.087), (1.0, 0.91, 0.079), (2.5, 1.0, 0.107)])
def test_a_spread_too_large_costs_more_than_one_too_small(stretch, covered, crps):
    """WORKSHOP, 06_uncertainty."""
    found = run(SpreadParameters(windows=60, stretch=stretch)).attrs
    assert (found["coverage_90"], found["crps"]) == pytest.approx((covered, crps), abs=0.006)


@pytest.mark.parametrize(
    ("members", "radius", "expected"), [(5, 1.0, 0.69), (5, 20.0, 1.17), (40, 2.0, 0.59), (40, 20.0, 0.70)]
)
def test_few_members_want_a_small_radius(members, radius, expected):
    """WORKSHOP, 07_ensembles_and_particles: means of five seeds."""
    ring = {"system": "lorenz96", "method": "LETKF", "inflation": 1.05, "members": members, "radius": radius}
    assert mean(scores(**ring, seed=seed)["rmse"] for seed in range(5)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("preset", "expected"), [("paper", 0.89), ("sparse", 0.85), ("dense", 0.76), ("noisy", 0.78)])
def test_the_band_of_the_pendulum_is_as_narrow_as_its_notebook_says(preset, expected):
    """02_pendulum: over 15 seeds."""
    law = presets("pendulum")[preset]
    covered = mean(scores(system="pendulum", seed=seed, **law)["coverage_90"] for seed in range(15))
    assert covered == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("temperatures", "rmse", "covered"), [(1, 1.01, 0.88), (4, 1.13, 0.54)])
def test_with_one_value_left_one_temperature_is_better_than_four(temperatures, rmse, covered):
    """04_any_observation: 2,000 windows."""
    found = scores(samples=2000, every=32, temperatures=temperatures, seed=101)
    assert (found["rmse"], found["coverage_90"]) == pytest.approx((rmse, covered), abs=0.02)
    assert found["first_guess_rmse"] == pytest.approx(1.01, abs=0.02)
