"""What notebooks and workshop tell learners to expect in the labs is what the labs show."""

from statistics import mean

import pytest

pytest.importorskip("ipywidgets")

from nida_kit.lab import LabModel
from nida_kit.lab.model import presets


def scores(**params) -> dict:
    return LabModel(**params).result.attrs


def test_the_second_step_helps_in_one_window_and_harms_in_another():
    """WORKSHOP, 03_temperature."""
    assert LabModel(seed=4).result["step_rmse"].values[:2] == pytest.approx([0.38, 0.15], abs=0.02)
    worse = LabModel(seed=2).result["step_rmse"].values
    assert worse[[0, -1]] == pytest.approx([0.06, 0.12], abs=0.02)


@pytest.mark.parametrize(("seed", "hybrid_wins"), [(0, True), (4, True), (9, True), (2, False)])
def test_four_d_var_is_wrong_where_the_workshop_says(seed, hybrid_wins):
    """WORKSHOP, 05_four_d_var_and_hybrid."""
    result = LabModel(method="neural + 4D-Var", beside=["4D-Var"], seed=seed).result
    alone = float(result["beside_rmse"][0])
    assert (alone > 2 * result.attrs["rmse"]) if hybrid_wins else (result.attrs["rmse"] > 2 * alone)


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
