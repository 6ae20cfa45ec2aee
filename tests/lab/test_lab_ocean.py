"""The lab of the ocean: its controls move the maps and the line about them."""

import json

import numpy as np
import pytest

from nida_kit.lab import OceanLab
from nida_kit.lab.ocean import PRESETS
from nida_kit.ocean import OceanParameters, run
from nida_kit.plots.plane import MEAN, SEEN

QUICK = {"spinup": 20, "method": "optimal interpolation"}


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    return OceanLab(export=tmp_path / "ocean.png", **QUICK)


@pytest.mark.parametrize(
    ("name", "value"),
    [("satellites", 3), ("noise_std", 0.5), ("method", "climatology"), ("instrument", "swath"), ("seed", 1)],
)
def test_each_control_of_the_experiment_moves_the_picture_and_the_line_about_it(lab, name, value):
    before = lab.image.value, lab.summary.value, lab.renderer._artists
    lab.controls[name].value = value
    assert lab.image.value != before[0] and lab.summary.value != before[1]
    # Another method has another colour, and so a figure of its own.
    assert (lab.renderer._artists is before[2]) == (name != "method") and lab.status.value == ""
    found = run(OceanParameters(**QUICK | {name: value}))
    np.testing.assert_array_equal(lab.renderer._artists.images[MEAN].get_array(), found["mean"][4])


def test_time_and_cut_move_the_picture_alone_and_compute_nothing(lab, monkeypatch):
    result, said = lab.model.result, lab.summary.value
    for name, value in (("moment", 6), ("along", "time"), ("y", 0.75), ("x", 0.5)):
        before = lab.image.value
        lab.controls[name].value = value
        assert lab.image.value != before and lab.summary.value == said
        assert lab.model.result["mean"].variable._data is result["mean"].variable._data
    artists = lab.renderer._artists
    np.testing.assert_array_equal(artists.images[MEAN].get_array(), result["mean"][6])
    np.testing.assert_array_equal(artists.cut["mean"].get_ydata(), result["mean"].sel(y=0.75, x=0.5))


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_sets_the_controls(lab, name):
    start, picture = lab.model.params, lab.image.value
    lab.buttons[name].click()
    for key, value in PRESETS[name].items():
        assert lab.controls[key].value == value
    lab.buttons["reset"].click()
    assert lab.model.params == start and lab.image.value == picture


def test_controls_that_an_instrument_does_not_have_are_off(lab):
    assert lab.controls["cover"].disabled and not lab.controls["satellites"].disabled
    lab.buttons["clouds"].click()
    assert lab.controls["satellites"].disabled and not lab.controls["cover"].disabled
    seen = lab.renderer._artists.seen[SEEN].get_array()
    value = lab.model.result["value"].isel(time=4).values
    np.testing.assert_array_equal(seen, value[np.isfinite(value)])


def test_the_export_holds_the_numbers(lab):
    lab.buttons["export figure"].click()
    found = json.loads(lab.export.with_suffix(".json").read_text())
    assert lab.export.read_bytes().startswith(b"\x89PNG")
    assert found["rmse"] == lab.model.result.attrs["rmse"] and found["satellites"] == lab.model.params.satellites
    assert lab.model.status in lab.model.alt_text


@pytest.mark.parametrize("wrong", [{"colour": 1}, {"moment": 8}, {"along": "z"}, {"y": 1.5}, {"satellites": 9}])
def test_an_ocean_lab_that_cannot_start_raises(wrong):
    with pytest.raises(ValueError):
        OceanLab(**wrong)
