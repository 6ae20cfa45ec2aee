import json
import re
from pathlib import Path

import numpy as np
import pytest

from nida_kit import plots
from nida_kit.experiment import run
from nida_kit.lab import Lab, MinimaLab
from nida_kit.lab.minima import PRESETS
from nida_kit.lab.simulated import defaults

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_temperature.ipynb"


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


def test_a_lab_of_steps_opens_at_the_first_one_and_shows_what_is_changed_at_the_last(tmp_path):
    lab = Lab(added=True, temperatures=4, export=tmp_path / "lab.png")
    opened = lab.image.value
    assert lab.model.step == 1 and lab.controls["step"].max == 4
    lab.controls["temperatures"].value = 5
    assert lab.model.step == lab.controls["step"].value == 5
    lab.buttons["reset"].click()
    assert lab.image.value.partition("src=")[2] == opened.partition("src=")[2] and lab.model.step == 1


def test_in_the_window_that_notebook_03_opens_with_each_step_lowers_the_error():
    seed = int(re.search(r"added=True, seed=(\d+)", NOTEBOOK.read_text())[1])
    error = run(defaults(temperatures=4, seed=seed))["step_rmse"].values
    assert len(error) == 4 and (np.diff(error) < 0).all()
    assert error[0] > 2.5 * error[-1]  # the text says that the later steps more than halve it


def test_the_line_about_a_step_has_a_third_digit_where_two_hide_a_change():
    ds = run(defaults(temperatures=4, seed=4))
    artists = plots.make_added(plots.figure(rows=2), ds)
    for before, after, said in ((0.382, 0.147, "0.38 to 0.15"), (0.1253, 0.1286, "0.125 to 0.129")):
        scored = ds.assign(before_rmse=ds["before_rmse"] * 0 + before, step_rmse=ds["step_rmse"] * 0 + after)
        plots.update_added(artists, scored)
        assert said in artists.said.get_text()
