import asyncio
import json
import math
import re
from base64 import b64decode, b64encode
from html import escape
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nida_kit.experiment import Parameters
from nida_kit.lab import Lab, LabModel, LineLab, view
from nida_kit.lab.controls import Choices, Row, even
from nida_kit.lab.model import CAUTION, guarded
from nida_kit.lab.page import still
from nida_kit.lab.simulated import presets


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    return Lab(export=tmp_path / "lab.png", temperatures=2)


def seen(lab) -> tuple[str, str, str]:
    return lab.image.value, lab.summary.value, lab.status.value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise_std", 0.4),
        ("every", 3),
        ("temperatures", 5),
        ("schedule", "geometric"),
        ("components", ("x", "z")),
        ("seed", 7),
        ("method", "optimal interpolation"),
        ("system", "pendulum"),
        ("step", 1),
        ("beside", ("4D-Var", "optimal interpolation")),
    ],
)
def test_each_control_changes_the_figure_and_the_line_about_it(lab, name, value):
    if name == "schedule":
        lab.controls["temperatures"].value = 3  # with two steps, linear and geometric are the same
    before, shown = seen(lab), lab.model.shown
    lab.controls[name].value = value
    assert lab.image.value != before[0]
    # Schedules may differ by less than the line shows.
    assert lab.summary.value != before[1] or name == "schedule"
    assert not lab.model.shown.equals(shown)
    said, _, why = lab.model.status.partition(CAUTION)
    assert lab.summary.value == escape(said) and bool(lab.caution.value) == bool(why)
    assert lab.status.value == ""
    assert name == "step" or getattr(lab.model.params, name) == value


def test_methods_beside_are_drawn_and_named(lab):
    lab.controls["beside"].value = ("4D-Var", "EnKS")
    axes = lab.figure.axes[0]
    labels = [line.get_label() for line in axes.lines]
    assert {"4D-Var", "EnKS"} <= set(labels)
    for name in ("4D-Var", "EnKS"):
        line = axes.lines[labels.index(name)]
        np.testing.assert_allclose(line.get_ydata(), lab.model.result["beside"].sel(other=name)[0, :, 0])
        assert name in lab.model.status and name in lab.model.alt_text
    looks = {(line.get_linestyle(), line.get_color()) for line in axes.lines if line.get_label() != "observation"}
    assert len(looks) == 5


def test_no_method_is_beside_itself_and_no_more_than_can_be_told_apart(lab):
    assert "neural" not in lab.controls["beside"].options
    lab.controls["beside"].value = ("4D-Var", "EnKS")
    lab.controls["method"].value = "4D-Var"
    assert lab.controls["beside"].value == ("EnKS",) and lab.status.value == ""
    shown = lab.image.value
    lab.controls["beside"].value = ("EnKF", "EnKS", "iEnKS", "neural")
    assert "More than 3" in lab.status.value and lab.image.value == shown


def test_a_lab_is_composed_of_the_controls_that_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("NIDA_STRICT", "1")
    lab = Lab(export=tmp_path / "lab.png", method="EnKS", controls=("members", "inflation"), components=("x", "z"))
    assert list(lab.controls) == ["members", "inflation", "step"]
    for name, value in (("members", 9), ("inflation", 1.2)):
        before = lab.renderer.png()
        lab.controls[name].value = value
        assert lab.renderer.png() != before and lab.model.result.attrs[name] == value
    lab.buttons["noisy"].click()
    lab.buttons["reset"].click()
    assert lab.controls["members"].value == 20
    with pytest.raises(ValueError, match="no controls"):
        Lab(controls=("colour",))


def test_sites_on_a_ring_are_shown_as_images(monkeypatch, tmp_path):
    monkeypatch.setenv("NIDA_STRICT", "1")
    controls = ("system", "radius", "components")
    lab = Lab(tmp_path / "lab.png", controls, system="lorenz96", method="LETKF", members=5)
    assert [ax.get_title() for ax in lab.figure.axes if ax.get_title()] == [
        "truth",
        "reconstruction",
        "error / posterior std",
    ]
    shown = lab.figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, lab.model.result["truth"][0].T)
    crosses = lab.figure.axes[0].lines[0]
    assert len(crosses.get_xdata()) == lab.model.result.attrs["observed"] == 100
    before, artists = lab.renderer.png(), lab.renderer._artists
    lab.model.set(beside=("neural", "EnKS"))
    titles = [ax.get_title() for ax in lab.figure.axes if ax.get_title()]
    assert titles == ["truth", "reconstruction", "neural", "EnKS", "error /\nposterior std"]
    beside = lab.figure.axes[2].images[0]
    np.testing.assert_allclose(beside.get_array(), lab.model.result["beside"].sel(other="neural")[0].T)
    assert beside.get_clim() == lab.figure.axes[0].images[0].get_clim()
    lab.model.set(beside=())
    assert lab.renderer.png() == before and lab.renderer._artists is not artists
    artists = lab.renderer._artists
    lab.controls["radius"].value = 1.0
    assert lab.renderer.png() != before and lab.renderer._artists is artists
    assert "20 components" in lab.model.alt_text and "images" in lab.model.alt_text
    lab.controls["system"].value = "lorenz63"  # which has no places to localise by
    assert lab.model.params.method == "neural" and lab.status.value == ""


def test_the_noise_slider_changes_the_noise_alone(lab):
    before = lab.model.result
    lab.controls["noise_std"].value = 0.4
    after = lab.model.result
    assert after["truth"].equals(before["truth"])
    ratio = (after["value"] - after["truth"]) / (before["value"] - before["truth"])
    assert float(ratio.min()) == pytest.approx(0.4 / 0.05) == float(ratio.max())


def test_the_same_settings_show_the_same_picture(lab):
    before = lab.renderer.png()
    start = lab.controls["seed"].value
    lab.controls["seed"].value = start + 3
    assert lab.renderer.png() != before
    lab.controls["seed"].value = start
    assert lab.renderer.png() == before


def test_the_figure_is_updated_and_made_anew_only_for_another_layout(lab):
    artists = lab.renderer._artists
    lab.controls["noise_std"].value = 0.4
    lab.controls["temperatures"].value = 4
    assert lab.renderer._artists is artists
    lab.controls["system"].value = "pendulum"
    assert lab.renderer._artists is not artists


@pytest.mark.parametrize(
    ("make", "name", "values"),
    [
        (Lab, "noise_std", (0.1, 0.2, 1.0)),
        (Lab, "step", (1, 2, 3)),
        (lambda: Lab(system="lorenz96", temperatures=2), "noise_std", (0.1, 0.9)),
        (LineLab, "value", (-1.0, 2.0)),
    ],
    ids=["noise", "step", "ring", "line"],
)
def test_what_is_kept_of_the_picture_changes_no_pixel(make, name, values):
    lab = make()
    for value in values:
        lab.controls[name].value = value
        whole = BytesIO()
        lab.figure.savefig(whole, format="png")
        shown = [np.asarray(Image.open(png).convert("RGB")) for png in (BytesIO(lab.renderer.png()), whole)]
        np.testing.assert_array_equal(*shown)


@pytest.mark.parametrize(
    ("name", "values"), [("temperatures", (1, 3, 8)), ("step", (1, 2)), ("noise_std", (0.01, 0.03))]
)
def test_the_frame_of_the_picture_is_kept_while_a_slider_moves(lab, name, values):
    frame = lab.renderer._background
    for value in values:
        lab.controls[name].value = value
        assert lab.renderer._background is frame


def test_nothing_observed_is_a_red_line_and_the_last_figure_stays(lab):
    image, summary, _ = seen(lab)
    lab.controls["components"].value = ()
    assert "Nothing is observed" in lab.status.value and 'role="alert"' in lab.status.value
    assert lab.image.value == image
    assert lab.summary.value == f"Still shown, the result before: {summary}"
    lab.controls["components"].value = ("y",)
    assert lab.status.value == "" and lab.image.value != image


def test_strict_mode_raises_what_a_callback_met(lab, monkeypatch):
    monkeypatch.setenv("NIDA_STRICT", "1")
    with pytest.raises(ValueError, match="Nothing is observed"):
        lab.controls["components"].value = ()
    assert "Nothing is observed" in lab.status.value


def test_reset_leads_back_to_where_the_lab_began(lab):
    picture, start = lab.renderer.png(), lab.model.params
    for name, value in (("system", "pendulum"), ("temperatures", 3), ("components", ())):
        lab.controls[name].value = value
    lab.buttons["reset"].click()
    assert lab.model.params == start and lab.renderer.png() == picture
    assert lab.status.value == ""
    assert {n: c.value for n, c in lab.controls.items()}["components"] == ("x",)


@pytest.mark.parametrize("name", ["paper", "sparse", "dense", "noisy", "z only"])
def test_each_preset_sets_the_controls_and_runs(lab, name):
    lab.controls["every"].value = 5
    lab.buttons[name].click()
    for key, value in presets("lorenz63")[name].items():
        assert lab.controls[key].value == value
    assert int(lab.model.result["value"].notnull().sum()) == lab.model.result.attrs["observed"]


def test_presets_order_the_information(lab):
    observed = {}
    for name in ("sparse", "paper", "dense"):
        lab.buttons[name].click()
        observed[name] = lab.model.result.attrs["observed"]
    assert observed["sparse"] < observed["paper"] < observed["dense"]


def test_a_system_without_z_has_no_preset_for_it(lab):
    lab.controls["system"].value = "pendulum"
    assert lab.buttons["z only"].disabled
    with pytest.raises(ValueError, match="z only"):
        lab.model.preset("z only")


def test_another_system_starts_with_its_own_law(lab):
    lab.controls["noise_std"].value = 0.4
    lab.controls["system"].value = "pendulum"
    assert lab.controls["components"].options == ("angle", "momentum")
    assert lab.model.params.components == ("angle",) and lab.model.params.every == 20
    assert lab.model.params.noise_std < 0.01


def test_the_paper_preset_is_the_law_of_the_reference_experiment():
    model = LabModel(system="pendulum", temperatures=1)
    noise = float(model.result["noise_std"].sel(component="angle"))
    assert noise == pytest.approx(0.001, rel=1e-6)  # rad


def test_the_exported_figure_comes_with_its_numbers(lab):
    lab.controls["seed"].value = 4
    lab.buttons["export figure"].click()
    record = json.loads(lab.export.with_suffix(".json").read_text())
    assert lab.export.is_file() and str(lab.export) in lab.summary.value
    assert record["seed"] == 4 and record["rmse"] == pytest.approx(lab.model.result.attrs["rmse"])
    assert record["panels"][0]["texts"] == ["s = 0.5"]
    shows = record["panels"][1]["shows"]
    assert shows["truth"]["x"] == pytest.approx(lab.model.result["time"].values, abs=1e-6)
    assert shows["reconstruction"]["y"] == pytest.approx(lab.model.result["mean"][-1, 0, :, 1].values, rel=1e-5)


def test_the_numbers_are_those_of_the_step_that_is_shown(lab):
    lab.controls["beside"].value = ("4D-Var",)
    lab.controls["step"].value = 1
    lab.buttons["export figure"].click()
    record, result = json.loads(lab.export.with_suffix(".json").read_text()), lab.model.result
    for name, score in (("rmse", "step_rmse"), ("coverage_90", "step_coverage")):
        assert record[name] == pytest.approx(float(result[score][0]))
    assert record["rmse"] != pytest.approx(float(result["step_rmse"][1]))
    assert record["beside_rmse"] == {"4D-Var": pytest.approx(float(result["beside_rmse"][0]))}


def rows_of(lab) -> dict[str, Row]:
    """The sliders with their numbers, by the parameter that they set."""
    return {name: row for name, row in lab._rows.items() if isinstance(row, Row)}


def test_every_slider_has_a_labelled_number_beside_it(lab):
    rows = rows_of(lab)
    assert list(rows) == ["temperatures", "every", "noise_std", "seed", "step"]
    for name, row in rows.items():
        slider, number = row.control, row.number
        assert number.description and slider is lab.controls[name]
        slider.value = 0.2 if name == "noise_std" else slider.min
        assert number.value == slider.value
        number.value = 0.3 if name == "noise_std" else slider.max
        assert slider.value == number.value and lab.status.value == ""


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("every", 1000, "every n-th step takes whole numbers from 1 to 32, not 1000: it stays 8."),
        ("every", 7.5, "every n-th step takes whole numbers from 1 to 32, not 7.5: it stays 8."),
        ("noise_std", 2.0, "noise [clim. std] takes numbers from 0.0001 to 1, not 2: it stays 0.05."),
        ("seed", -1.0, "seed takes whole numbers from 0 to 9999, not -1: it stays 4."),
        ("temperatures", math.nan, "temperatures takes whole numbers from 1 to 8, not nan: it stays 2."),
    ],
)
def test_a_typed_number_that_cannot_be_is_refused_and_the_old_one_comes_back(lab, name, wrong, said):
    number, before, picture = rows_of(lab)[name].number, lab.model.params, lab.image.value
    was = number.value
    number.value = wrong
    assert said in lab.status.value and number.value == was
    assert lab.model.params == before and lab.image.value == picture and "result before" not in lab.summary.value
    lab.controls["step"].value = 1
    assert lab.status.value == ""


def test_numbers_are_rounded_and_those_between_two_steps_are_kept():
    """The page would round them to the slider's step, and send that back."""
    row = Row("radius", even(0.5, 20.0, 0.5), "", pytest.fail)
    for value, step in ((7.25, 0.05), (7.5, 0.5), (7.123, 0.0005)):
        row.number.value = value
        assert (row.control.value, row.control.step) == (value, step)
    row.control.value = 0.1 + 0.2 + 0.4
    assert row.number.value == row.control.value == 0.7


def test_boxes_are_ticked_for_what_is_chosen(lab):
    control = lab.controls["components"]
    boxes = {box.description: box for box in control.children[1].children}
    assert {name: box.value for name, box in boxes.items()} == {"x": True, "y": False, "z": False}
    boxes["z"].value = True
    assert lab.model.params.components == control.value == ("x", "z")
    control.value = ("y",)
    assert [name for name, box in boxes.items() if box.value] == ["y"]
    lab.controls["system"].value = "pendulum"
    assert [box.description for box in control.children[1].children] == ["angle", "momentum"]


def test_controls_without_effect_are_disabled():
    lab = Lab(controls=("method", "beside", "temperatures", "schedule", "members", "inflation"), temperatures=2)
    usable = {name for name, control in lab.controls.items() if not control.disabled}
    assert usable == {"method", "beside", "temperatures", "schedule", "step"}
    lab.controls["method"].value = "EnKS"
    assert not lab.controls["members"].disabled and not lab._rows["members"].number.disabled
    for name in ("temperatures", "schedule", "step"):
        assert lab.controls[name].disabled
    lab.controls["beside"].value = ("neural",)
    assert not lab.controls["temperatures"].disabled


def test_messages_name_the_control_and_not_the_parameter(lab):
    assert not guarded(lab.model, lambda: lab.model.set(noise_std=-1.0))
    assert "noise [clim. std] = -1.0" in lab.status.value and "noise_std" not in lab.status.value


def test_every_control_and_button_says_what_it_does(lab):
    for name, row in lab._rows.items():
        said = row.label.value if isinstance(row, Choices) else getattr(row, "number", row).tooltip
        assert len(said) > 10, name
    assert lab.buttons["sparse"].tooltip == "observed: x, every n-th step: 16, noise [clim. std]: 0.05"
    assert all(button.tooltip for button in lab.buttons.values() if not button.disabled)


def test_one_output_holds_the_lab_its_picture_and_a_line_of_text(lab):
    data, metadata = lab._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == lab.model_id
    assert b64decode(data["image/png"]) == lab.renderer.png() and data["text/plain"] == lab.model.alt_text
    assert metadata["image/png"] == {"width": lab.renderer.width, "height": lab.renderer.height}


def test_what_a_lab_leaves_for_a_page_without_it_is_plain_text_of_its_own():
    said = still("a1", b"png", 10, 5, 'a "word" </style>')
    assert said.count("</style>") == 1 and "nida-still-a1" in said and b64encode(b"png").decode() in said


def test_the_picture_has_an_alternative_text_and_a_fixed_size(lab):
    sizes = set()
    for seed in (0, 1):
        lab.controls["seed"].value = seed
        head = lab.image.value.partition("src=")[0]
        assert 'alt="lorenz63: truth' in head and "RMSE" in head
        sizes.add(head.partition("width=")[2])
    assert len(sizes) == 1 and "height" in sizes.pop()


@pytest.fixture
def played(monkeypatch):
    """A lab after its button has been pressed, and after what is done meanwhile; and the steps that it showed."""
    monkeypatch.setattr(view, "PAUSE", 0.05)
    lab, steps = Lab(temperatures=4), []
    lab.model.observe(lambda _: steps.append(lab.model.step), "revision")

    async def watch(meanwhile) -> None:
        lab.buttons[view.PLAY].click()
        await asyncio.sleep(0)
        assert lab.buttons[view.PLAY].description == "stop playing"
        meanwhile(lab)
        for _ in range(100):
            await asyncio.sleep(0.02)
            if lab.buttons[view.PLAY].description == view.PLAY:
                return
        pytest.fail("It does not end.")

    def play(meanwhile=lambda lab: None):
        asyncio.run(watch(meanwhile))
        return lab, steps

    return play


def test_the_steps_are_played_and_can_be_played_again(played):
    for i in (1, 2):
        lab, steps = played()
        assert steps == [1, 2, 3, 4] * i and lab.status.value == ""


def test_what_is_still_shown_can_be_played(played):
    lab, steps = played(lambda lab: setattr(lab.controls["components"], "value", ()))
    assert steps == [1, 2, 3, 4] and "Nothing is observed" in lab.status.value


def test_playing_can_be_stopped(played):
    _, steps = played(lambda lab: lab.buttons[view.PLAY].click())
    assert steps == [1]


def test_what_is_changed_meanwhile_ends_the_play(played):
    lab, steps = played(lambda lab: lab.model.set(temperatures=2))
    assert steps[:2] == [1, 2] and set(steps[2:]) <= {2} and lab.model.steps == 2


def test_an_error_while_playing_is_a_red_line_and_ends_it(played, monkeypatch):
    def broken(*_):
        raise ValueError("no ink")

    lab, _ = played(lambda lab: monkeypatch.setattr(lab.renderer, "draw", broken))
    assert "no ink" in lab.status.value and lab.model.step < 4
    assert "result before" not in lab.summary.value
    monkeypatch.undo()
    lab.controls["step"].value = 4
    assert lab.status.value == ""


def test_a_failed_export_says_so_until_the_next_wish(lab):
    lab.export = lab.export.with_suffix(".gif")
    lab.buttons["export figure"].click()
    assert "PNG" in lab.status.value and "result before" not in lab.summary.value
    lab.controls["step"].value = 1
    assert lab.status.value == ""


def test_an_unmet_wish_is_said_until_it_is_met(lab):
    lab.controls["components"].value = ()
    path, lab.export = lab.export, lab.export.with_suffix(".gif")
    lab.buttons["export figure"].click()
    assert "PNG" in lab.status.value
    lab.export = path
    for act in (lab.buttons["export figure"].click, lambda: setattr(lab.controls["step"], "value", 1)):
        act()
        assert "Nothing is observed" in lab.status.value and "result before" in lab.summary.value
    lab.controls["components"].value = ("z",)
    assert lab.status.value == ""


def test_one_step_cannot_be_played(lab):
    lab.controls["method"].value = "optimal interpolation"
    assert lab.buttons[view.PLAY].disabled
    lab.controls["method"].value = "neural"
    assert not lab.buttons[view.PLAY].disabled


def test_the_last_step_is_shown_at_first(lab):
    assert lab.controls["step"].value == lab.controls["step"].max == 2
    lab.controls["step"].value = 1
    assert lab.model.shown["temperature"].values.tolist() == [1.0]
    lab.controls["temperatures"].value = 4
    assert lab.controls["step"].value == lab.controls["step"].max == 4


@pytest.mark.parametrize(
    "params", [{"nonsense": 1}, {"system": "moon"}, {"noise_std": 0.0}, {"components": ("q",)}, {"noise_std": 5.0}]
)
def test_a_lab_that_cannot_start_raises(params):
    with pytest.raises(ValueError):
        Lab(**params)


def test_none_stands_for_what_the_reference_experiment_has():
    assert LabModel(temperatures=1, every=None).params == Parameters(
        temperatures=1, components=("x",), every=8, noise_std=0.05
    )


def test_the_caution_of_a_chain_is_two_sentences_and_advises_what_a_chain_can_do():
    said, _, caution = LabModel(method="neural + 4D-Var", components=("z",), seed=0).status.partition(CAUTION)
    assert said and len(re.findall(r"\.(?= |$)", caution)) == 2
    assert "misses what was observed" in caution and "more iterations" in caution and "nk.Chain" not in caution
