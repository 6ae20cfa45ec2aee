"""The lab of model error: truth and belief are moved apart, and the picture shows what that costs."""

import json

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import nida_kit as nk
from nida_kit.lab import WorldsLab
from nida_kit.lab.worlds import PRESETS
from nida_kit.worlds import NETWORKS, REFERENCE, WorldParameters, run_worlds


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    return WorldsLab(export=tmp_path / "worlds.png")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("rho", 25.0), ("sigma", 8.0), ("noise", 1.0), ("true_rho", 25.0), ("true_sigma", 12.0), ("true_noise", 0.5)],
        *[("method", NETWORKS[0]), ("method", "optimal interpolation"), ("every", 4), ("seed", 7)],
    ],
)
def test_each_control_moves_the_picture_and_the_line_about_it(lab, name, value):
    before = lab.image.value, lab.summary.value, lab.renderer._artists
    lab.controls[name].value = value
    assert lab.image.value != before[0] and lab.summary.value != before[1]
    # Another method has another colour, and so a figure of its own.
    assert (lab.renderer._artists is before[2]) == (name != "method") and lab.status.value == ""
    found = run_worlds(WorldParameters(**{name: value}))
    drawn = lab.renderer._artists.drawn[0][2]["mean"].get_ydata()
    np.testing.assert_array_equal(drawn, found["mean"][0, :, 2])


def test_a_belief_that_is_right_does_as_well_as_the_truth(lab):
    lab.buttons["right physics"].click()
    about = lab.model.result.attrs
    assert about["rmse"] == about["beside_rmse"]
    assert all(0.1 < value < 0.4 for value in about["unexplained"].values())


def test_networks_know_nothing_of_the_belief_that_is_set(lab):
    for name in NETWORKS:
        lab.controls["method"].value = name
        assert lab.controls["rho"].disabled and not lab.controls["true_rho"].disabled
    one, other = (run_worlds(WorldParameters(rho=rho, method=NETWORKS[0])) for rho in (20.0, 30.0))
    np.testing.assert_array_equal(one["mean"], other["mean"])
    shipped = nk.NeuralIncremental.pretrained("lorenz63_small", temperatures=4)
    obs = one[["value", "noise_std"]]
    np.testing.assert_allclose(shipped.assimilate(obs)["mean"], one["mean"])


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_sets_the_controls(lab, name):
    start, changes = lab.model.params, lab.model.presets()[name]
    lab.buttons[name].click()
    for key, value in changes.items():
        assert lab.controls[key].value == value
    lab.buttons["reset"].click()
    assert lab.model.params == start


def test_errors_are_those_of_the_reference_experiment():
    found, setup = run_worlds(WorldParameters()), nk.setups.load(REFERENCE)
    truth = found["truth"]
    assert found.attrs["rmse"] == pytest.approx(setup.score(found["mean"], truth) ** 0.5)
    left = [
        truth[0, t + 1].values - solve_ivp(lorenz63, (0, 0.05), truth[0, t].values, rtol=1e-10, atol=1e-10).y[:, -1]
        for t in range(truth.sizes["time"] - 1)
    ]
    expected = np.sqrt(np.mean(np.square(left), 0))
    np.testing.assert_allclose(list(found.attrs["unexplained"].values()), expected, rtol=1e-3)


def lorenz63(t, u):
    x, y, z = u
    return [10 * (y - x), x * (22.4 - z) - y, x * y - 8 / 3 * z]


def test_the_export_holds_the_numbers(lab):
    lab.buttons["export figure"].click()
    found = json.loads(lab.export.with_suffix(".json").read_text())
    assert found["rmse"] == lab.model.result.attrs["rmse"] and found["rho"] == 22.4


@pytest.mark.parametrize("wrong", [{"rho": 100.0}, {"method": "EnKF"}, {"noise": 0.0}, {"depth": 1.0}])
def test_a_worlds_lab_that_cannot_start_raises(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WorldsLab(**wrong)
