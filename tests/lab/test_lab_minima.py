import json

import pytest

from nida_kit.lab import Lab, MinimaLab
from nida_kit.lab.minima import PRESETS


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    return MinimaLab(iterations=5, export=tmp_path / "minima.png")


@pytest.mark.parametrize(("name", "value"), [("place", 0.5), ("every", 4), ("noise_std", 0.2), ("seed", 6)])
def test_each_control_moves_the_picture_and_the_line_about_it(lab, name, value):
    before = lab.image.value, lab.summary.value, lab.renderer._artists
    lab.controls[name].value = value
    assert lab.image.value != before[0] and lab.summary.value != before[1]
    assert lab.renderer._artists is before[2] and lab.status.value == ""
    assert getattr(lab.model.params, name) == value


def test_the_first_step_that_is_shown_is_the_start(lab):
    lab.controls["step"].value = 1
    assert "After 0 physics steps" in lab.summary.value
    assert f"cost {lab.model.result.attrs['start_cost']:.1f}" in lab.summary.value
    assert lab.controls["step"].max == lab.model.result.sizes["step"]


def test_a_better_start_has_no_barrier_before_the_truth(monkeypatch, tmp_path):
    lab = MinimaLab(export=tmp_path / "minima.png")
    assert "another valley" in lab.summary.value
    lab.buttons["a better start"].click()
    assert lab.controls["place"].value == PRESETS["a better start"]["place"]
    assert "the same valley" in lab.summary.value


def test_the_export_holds_the_numbers(lab):
    lab.buttons["export figure"].click()
    found = json.loads(lab.export.with_suffix(".json").read_text())
    assert found["end"]["minimum_cost"] == lab.model.result.attrs["minimum_cost"] and found["seed"] == 34


def test_a_lab_shows_what_each_step_adds(tmp_path):
    lab = Lab(added=True, temperatures=2, export=tmp_path / "lab.png")
    artists = lab.renderer._artists
    lab.controls["step"].value = 1
    first = lab.model.shown.isel(sample=0, step=0, component=0)
    lines = artists.drawn[1][0]
    assert (lines["missing"].get_ydata() == first["truth"] - first["first_guess"]).all()
    assert (lines["added"].get_ydata() == first["mean"] - first["first_guess"]).all()
    assert artists.said.get_text().startswith("Step 1, at s = 1, takes the RMSE from ")
    before = lab.model.shown["mean"].isel(sample=0, step=0)
    lab.controls["step"].value = 2
    assert (lab.model.shown["before"].isel(sample=0, step=0) == before).all()
    lab.controls["system"].value = "lorenz96"  # of many components: as every lab shows them
    assert lab.status.value == "" and not hasattr(lab.renderer._artists, "said")


def test_what_was_missing_is_not_known_of_observations_of_ones_own():
    with pytest.raises(ValueError, match="added=True"):
        Lab(observations="mine.nc", added=True)
