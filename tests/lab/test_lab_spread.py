"""The lab of a told spread: a stretch moves draws, ranks, coverage and score together, and not the estimate."""

import json
import warnings

import numpy as np
import pytest

import nida_kit as nk
from nida_kit.lab import SpreadLab, spread
from nida_kit.lab.spread import PRESETS, SpreadParameters, run
from nida_kit.notes import warn


@pytest.fixture(scope="module")
def told():
    return run(SpreadParameters(windows=10))


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    return SpreadLab(export=tmp_path / "spread.png", windows=10)


def test_a_stretch_moves_everything_but_the_estimate(told):
    wide = run(SpreadParameters(windows=10, stretch=2.0))
    assert wide["mean"].equals(told["mean"]) and wide.attrs["rmse"] == told.attrs["rmse"]
    np.testing.assert_allclose(wide["std"], 2 * told["std"])
    np.testing.assert_allclose(wide["draws"] - wide["mean"], 2 * (told["draws"] - told["mean"]))
    assert (wide["coverage"] >= told["coverage"]).all() and wide.attrs["coverage_90"] > told.attrs["coverage_90"]
    assert wide["ranks"].sum() == told["ranks"].sum() == 10 * 32
    assert wide.attrs["outside"] < told.attrs["outside"]


def test_its_score_is_that_of_the_package_and_lies_on_the_curve(told):
    narrow = run(SpreadParameters(windows=10, stretch=0.1))
    assert narrow.attrs["crps"] == pytest.approx(float(told["curve"][0]))
    assert told.attrs["crps"] == told.attrs["crps_told"]
    window = nk.crps(told["mean"], told["std"], told["truth"], "time")
    assert 0 < float(window) < 10 * told.attrs["crps"]
    assert told.attrs["best"] == float(told["curve"]["stretch"][int(np.argmin(told["curve"].values))])


@pytest.mark.parametrize(
    ("name", "value"), [("stretch", 0.5), ("method", "OI"), ("component", "z"), ("window", 3), ("seed", 2)]
)
def test_each_control_moves_the_picture(lab, name, value):
    before = lab.image.value, lab.renderer._artists
    lab.controls[name].value = value
    assert lab.image.value != before[0] and lab.renderer._artists is before[1] and lab.status.value == ""
    assert getattr(lab.model.params, name) == value


def test_presets_say_what_their_names_say(lab):
    lab.buttons["too sure"].click()
    assert "a U, too sure" in lab.summary.value and lab.model.result.attrs["coverage_90"] < 0.7
    lab.buttons["too unsure"].click()
    assert "a hump, too unsure" in lab.summary.value and lab.model.result.attrs["coverage_90"] > 0.97
    lab.buttons["z only"].click()
    assert lab.model.params.component == "x" and lab.controls["seen"].value == PRESETS["z only"]["seen"]
    assert lab.model.result["coverage"].sel(level=0.5) < 0.35  # the truth is at one of two modes, not between them


def test_the_export_holds_the_numbers(lab):
    lab.buttons["export figure"].click()
    found = json.loads(lab.export.with_suffix(".json").read_text())
    assert found["crps"] == lab.model.result.attrs["crps"] and found["seed"] == 0


@pytest.mark.parametrize("wrong", [{"stretch": 0.0}, {"window": 60}, {"seen": "stars"}, {"colour": 1}])
def test_a_lab_that_cannot_start_raises(wrong):
    with pytest.raises(ValueError):
        SpreadLab(**wrong)


def test_what_is_warned_of_stands_in_the_lab_and_not_elsewhere(lab, monkeypatch):
    class Warns:
        def assimilate(self, obs):
            warn("It is far off. Try another. It may be a bias.")
            return nk.NeuralIncremental.pretrained("lorenz63", temperatures=1).assimilate(obs)

        def sample(self, obs, samples, seed=0, operator=None):
            return nk.NeuralIncremental.pretrained("lorenz63", temperatures=1).sample(obs, samples, seed)

    monkeypatch.setattr(spread, "LastGaussian", lambda method: Warns())
    for stretch in (1.0, 2.0):  # the second forecast is kept
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lab.model.set(seed=77, stretch=stretch)
        assert "It is far off. Try another." in lab.model.status and "bias" not in lab.model.status
