"""What notebooks and workshop tell learners to expect in the labs is what the labs show."""

from statistics import mean

import pytest
import torch
import xarray as xr

pytest.importorskip("ipywidgets")

import nida_kit as nk
from nida_kit.lab import LabModel
from nida_kit.lab.record import RecordModel
from nida_kit.lab.simulated import presets
from nida_kit.lab.spread import SpreadParameters, run
from nida_kit.minima import MinimaParameters, run_minima
from nida_kit.studies import real


def scores(**params) -> dict:
    return LabModel(**params).result.attrs


@pytest.mark.parametrize(("preset", "wider"), [("noisy", 3.2), ("sparse", 5.4), ("dense", 0.22)])
def test_the_buttons_of_the_first_lab_widen_the_bands_as_it_says(preset, wider):
    """00_start_here: standard deviations of the lab's first window."""
    usual, now = (LabModel(**law, seed=4).result["std"].isel(step=-1) for law in ({}, presets("lorenz63")[preset]))
    assert float(now.mean() / usual.mean()) == pytest.approx(wider, rel=0.1)


@pytest.mark.parametrize(
    ("seed", "shares"), [(156, 0.26), (0, 1.24), (1, 1.13), (2, 1.26), (3, 1.04), (4, 0.57), (5, 0.93)]
)
def test_later_steps_help_and_harm_where_the_notebook_says(seed, shares):
    """03_temperature: the error of the last step, as a share of that of the first."""
    errors = LabModel(seed=seed).result["step_rmse"].values
    assert errors[-1] / errors[0] == pytest.approx(shares, rel=0.05)


@pytest.mark.parametrize(("seeds", "sign"), [((156, 8, 11, 13, 18), -1), ((1, 6), 1)])
def test_with_each_step_the_error_falls_or_rises_where_the_workshop_says(seeds, sign):
    """WORKSHOP, 03_temperature."""
    for seed in seeds:
        assert (sign * LabModel(seed=seed).result["step_rmse"].diff("step") > 0).all()


def test_descents_end_in_the_valleys_that_the_notebook_names():
    """05_four_d_var_and_hybrid, section 2."""
    tried = [{"place": 0.05}, {"place": 0.1}, {"every": 4}, *({"seed": seed} for seed in range(8))]
    wrong = [params for params in tried if run_minima(MinimaParameters(**params)).attrs["barrier"] > 1]
    assert wrong == [{"place": 0.05}, {"seed": 0}, {"seed": 4}, {"seed": 6}]


@pytest.mark.parametrize(
    ("seed", "wrong"),
    [
        (5, []),
        (7, []),
        (8, []),
        (4, ["4D-Var"]),
        (9, ["4D-Var"]),
        (6, ["hybrid", "4D-Var"]),
        (55, ["hybrid"]),
        (58, ["hybrid"]),
    ],
)
def test_four_d_var_and_the_hybrid_are_wrong_where_the_workshop_says(seed, wrong):
    """WORKSHOP, 05_four_d_var_and_hybrid: an error is large, or more than twice the other's."""
    result = LabModel(method="neural + 4D-Var", beside=["4D-Var"], seed=seed).result
    errors = {"hybrid": result.attrs["rmse"], "4D-Var": float(result["beside_rmse"][0])}
    assert [name for name, error in errors.items() if error > min(0.5, 2 * min(errors.values()))] == wrong


@pytest.mark.parametrize(("stretch", "covered", "crps"), [(0.4, 0.53, 0.089), (1.0, 0.91, 0.081), (2.5, 1.0, 0.109)])
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


@pytest.mark.parametrize(("preset", "expected"), [("paper", 0.92), ("sparse", 0.84), ("dense", 0.87), ("noisy", 0.88)])
def test_the_band_of_the_pendulum_is_as_narrow_as_its_notebook_says(preset, expected):
    """02_pendulum: over 15 seeds."""
    law = presets("pendulum")[preset]
    covered = mean(scores(system="pendulum", seed=seed, **law)["coverage_90"] for seed in range(15))
    assert covered == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("temperatures", "rmse", "covered"), [(1, 1.03, 0.89), (4, 1.10, 0.70)])
def test_with_one_value_left_one_temperature_is_better_than_four(temperatures, rmse, covered):
    """04_any_observation: 2,000 windows."""
    found = scores(samples=2000, every=32, temperatures=temperatures, seed=101)
    assert (found["rmse"], found["coverage_90"]) == pytest.approx((rmse, covered), abs=0.02)
    assert found["first_guess_rmse"] == pytest.approx(1.01, abs=0.02)


def test_the_momentum_is_known_as_well_as_the_angle_and_a_second_step_brings_little():
    """02_pendulum, its lab: one window, and the mean of many."""
    one, many = (LabModel(system="pendulum", temperatures=5, seed=0, samples=n).result for n in (1, 100))
    of_one, of_many = (found["component_rmse"].isel(step=-1).values for found in (one, many))
    assert of_one == pytest.approx([0.012, 0.008], abs=0.002) and of_many == pytest.approx([0.004, 0.004], abs=0.001)
    assert one["step_rmse"].values[[0, 1, 4]] == pytest.approx([0.028, 0.023, 0.010], abs=0.003)
    sparse = LabModel(system="pendulum", temperatures=5, seed=0, **presets("pendulum")["sparse"]).result
    std = sparse["std"].sel(component="angle").isel(step=-1).squeeze()  # seen at the steps 0, 40 and 80
    first, second, last = (float(std[part].max()) for part in (slice(0, 40), slice(40, 80), slice(80, None)))
    assert first > 1.3 * max(second, last) and last > 5 * float(std[80])


def test_from_the_linear_oscillator_the_band_of_the_pendulum_is_far_too_narrow():
    """02_pendulum, section 5."""
    setup = nk.setups.load("blanke2024-pendulum")
    truth = setup.windows(50, seed=0)
    obs = setup.observe(truth, seed=1)
    linear = nk.KalmanSmoother(nk.LinearOscillator(), model_noise_std=0.01).assimilate(obs)["mean"]
    method = nk.NeuralIncremental.pretrained("pendulum", temperatures=5)
    of_linear, own = (method.assimilate(obs, first) for first in (linear, None))
    assert nk.coverage(of_linear["mean"], of_linear["std"], truth) < 0.4
    assert nk.coverage(own["mean"], own["std"], truth) > 0.85


@pytest.mark.parametrize(
    ("law", "of_one", "of_many"),
    [("paper", 0.135, 0.252), ("dense", 0.032, 0.033), ("dense, 0.5", 0.138, 0.136), ("dense, 1", 0.285, 0.274)],
)
def test_many_noisy_values_outweigh_few_exact_ones(law, of_one, of_many):
    """04_any_observation, its lab."""
    preset, _, noise = law.partition(", ")
    given = presets("lorenz63")[preset] | ({"noise_std": float(noise)} if noise else {})
    found = [scores(**given, seed=4, samples=n)["rmse"] for n in (1, 200)]
    assert found == pytest.approx([of_one, of_many], rel=0.06)


def test_z_alone_leaves_nothing_of_x_and_one_value_is_too_few_for_four_steps():
    """04_any_observation, its lab."""
    z_only = LabModel(seed=4, **presets("lorenz63")["z only"]).result
    assert float(abs(z_only["mean"].sel(component=["x", "y"])).max()) < 1e-6
    rare = LabModel(seed=4, every=32).result
    assert (rare["step_rmse"].diff("step") > 0).all() and rare.attrs["rmse"] > rare.attrs["first_guess_rmse"]


def test_draws_that_are_too_sure_leave_the_truth_outside():
    """06_uncertainty, its lab: the share of ranks before and behind all 19 draws."""
    found = run(SpreadParameters(windows=60, stretch=0.4))
    assert float(found["ranks"][[0, -1]].sum() / found["ranks"].sum()) == pytest.approx(0.42, abs=0.03)


@pytest.mark.parametrize(
    ("members", "radius", "rmse", "covered"),
    [(5, 2, 0.83, 0.5), (20, 2, 0.62, 0.83), (5, 16, 1.16, 0.15), (20, 16, 0.96, 0.4)],
)
def test_few_members_lose_about_as_much_with_either_radius(members, radius, rmse, covered):
    """07_ensembles_and_particles, its lab: means of five seeds."""
    ring = {"system": "lorenz96", "method": "LETKF", "inflation": 1.05, "members": members, "radius": float(radius)}
    found = [scores(**ring, seed=seed) for seed in range(5)]
    assert mean(f["rmse"] for f in found) == pytest.approx(rmse, rel=0.05)
    assert mean(f["coverage_90"] for f in found) == pytest.approx(covered, abs=0.04)


def test_no_ensemble_comes_near_the_network_on_its_ring():
    """07_ensembles_and_particles, its lab: means of three seeds."""
    ring = {"system": "lorenz96", "method": "LETKF", "beside": ("neural",), "members": 40, "radius": 2.0}
    found = [LabModel(**ring, inflation=1.05, seed=seed).result for seed in range(3)]
    assert mean(f.attrs["rmse"] for f in found) == pytest.approx(0.56, rel=0.05)
    assert mean(float(f["beside_rmse"][0]) for f in found) == pytest.approx(0.22, rel=0.05)


def test_a_gap_at_the_end_costs_twice_what_one_in_the_middle_does():
    """11_real_data, its lab: the year from April 2009, seen by twelve buoys."""
    pytest.importorskip("iris_sample_data")
    pacific = real.pacific()
    others = [pacific.block(k) for k in (0, 1, 2, 4)]
    season, truth = nk.Season.fit(xr.concat(others, "time"), by="month"), pacific.block(3)
    past = xr.concat([nk.windows(1.3 * season.anomalies(part), steps=pacific.window) for part in others], "sample")
    shape = (1, truth.sizes["time"], pacific.at.size)
    reports, _ = pacific.reporting(shape, torch.Generator().manual_seed(0))
    mask = truth.copy(data=reports.numpy().reshape(truth.shape)).astype(bool)
    obs = nk.observe(truth, operator=mask, noise_std=pacific.noise, seed=0)
    fitted = {
        "smoother": nk.KalmanSmoother.fit(past, modes=2, shrinkage="auto"),
        "interpolation": nk.OptimalInterpolation.fit(past, order=1, shrinkage="auto"),
    }
    model = RecordModel(obs, methods={name: nk.Seasonal(method, season) for name, method in fitted.items()})
    model.set(method="smoother", beside=("interpolation",))

    def errors(**hidden) -> tuple[float, float]:
        model.set(**({"share": 0.0, "length": 0} | hidden))
        return model.result.attrs["rmse"], float(model.result["beside_rmse"][0])

    scattered = mean(errors(share=0.75, seed=seed)[0] for seed in range(10))
    middle = [errors(begin=begin, length=6)[0] for begin in range(6)]
    smoother, interpolation = errors(begin=6, length=6)
    assert scattered == pytest.approx(0.27, abs=0.02) and min(middle) > 0.22 and max(middle) < 0.32
    assert smoother == pytest.approx(0.55, abs=0.05) and interpolation > 1.25 * smoother
