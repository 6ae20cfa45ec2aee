import json

import pytest

from nida_kit.lab import LineLab
from nida_kit.lab.controls import even, logarithmic
from nida_kit.lab.line import PRESETS
from nida_kit.line import line


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    return LineLab(export=tmp_path / "line.png")


@pytest.mark.parametrize(
    ("name", "value"),
    [("prior_mean", 1.5), ("prior_std", 0.7), ("value", -2.0), ("noise_std", 0.4), ("operator", "square")],
)
def test_each_control_moves_the_picture_and_the_line_about_it(lab, name, value):
    before = lab.image.value, lab.summary.value, lab.renderer._artists
    lab.controls[name].value = value
    assert lab.image.value != before[0] and lab.summary.value != before[1]
    assert lab.renderer._artists is before[2] and lab.status.value == ""
    assert getattr(lab.model.params, name) == value


def test_it_says_what_the_line_says(lab):
    lab.controls["value"].value = 2.5
    p = lab.model.params
    about = line(p.prior_mean, p.prior_std, 2.5, p.noise_std).attrs
    assert f"mean {about['mean']:.2f}" in lab.summary.value and f"weight {about['weight']:.2f}" in lab.summary.value
    assert lab.model.status in lab.model.alt_text


@pytest.mark.parametrize(
    ("name", "control", "value"), [("prior", "prior_mean", 1.2), ("likelihood", "value", 0.4), ("value", "value", -2.0)]
)
def test_what_is_drawn_is_dragged_by_a_handle_that_is_tied_to_its_control(lab, name, control, value):
    before = lab.image.value
    lab.handles[name].children[0].value = value
    assert lab.controls[control].value == getattr(lab.model.params, control) == value
    assert lab.image.value != before and lab.status.value == ""
    lab.buttons["reset"].click()
    assert lab.handles[name].children[0].value == lab.controls[control].value and lab.image.value == before


@pytest.mark.parametrize(
    ("name", "drawn", "along"), [("prior", "prior_mean", 0), ("likelihood", "mode", 0), ("value", "value", 1)]
)
def test_handles_lie_where_their_values_are_drawn(lab, name, drawn, along):
    lab.controls["prior_std"].value = 2.5
    lab.controls["noise_std"].value = 0.1  # the posterior is highest where the likelihood is
    grip, artist = lab.handles[name], lab.renderer._artists.drawn[drawn]
    slider = grip.children[0]
    point = artist.axes.transData.transform(artist.get_xydata()[0])
    at = lab.figure.transFigure.inverted().transform(point)[along]
    begin, length = (
        float(getattr(grip.layout, side)[:-1]) / 100 for side in (("left", "width"), ("bottom", "height"))[along]
    )
    assert begin + length * (slider.value - slider.min) / (slider.max - slider.min) == pytest.approx(at, abs=0.003)


@pytest.mark.parametrize(
    ("made", "told", "taken"),
    [(even(0, 1, 0.1), 0.1 + 0.2, 0.3), (logarithmic(-1, 1), 10**0.05, 1.1), (logarithmic(-1, 1), 1.0471, 1.0471)],
)
def test_what_the_page_sends_is_not_sent_back_to_a_slider_that_has_moved_on(made, told, taken, monkeypatch):
    sent = []
    monkeypatch.setattr(type(made), "send_state", lambda self, key=None: sent.append(key))
    made.set_state({"value": told})
    assert made.value == taken and "value" not in sent


def test_the_likelihood_is_dragged_where_it_has_its_peak_at_the_value_alone(lab):
    assert lab.handles["likelihood"].layout.display is None
    lab.controls["operator"].value = "square"
    assert lab.handles["likelihood"].layout.display == "none" != lab.handles["value"].layout.display


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_sets_the_controls(lab, name):
    start = lab.model.params
    lab.buttons[name].click()
    for key, value in PRESETS[name].items():
        assert lab.controls[key].value == value
    lab.buttons["reset"].click()
    assert lab.model.params == start


def test_the_measurement_with_two_peaks_misleads_the_gaussian(lab):
    lab.buttons["two peaks"].click()
    about = lab.model.result.attrs
    assert abs(about["mean"]) < 1 < about["mode"] and about["misplaced"] > 0.2


def test_the_export_holds_the_numbers(lab):
    lab.buttons["export figure"].click()
    found = json.loads(lab.export.with_suffix(".json").read_text())
    assert lab.export.read_bytes().startswith(b"\x89PNG")
    assert found["mean"] == lab.model.result.attrs["mean"] and found["value"] == lab.model.params.value


@pytest.mark.parametrize("wrong", [{"colour": 1}, {"prior_std": -1.0}, {"operator": "cube"}, {"value": 9.95}])
def test_a_line_lab_that_cannot_start_raises(wrong):
    with pytest.raises(ValueError):
        LineLab(**wrong)
