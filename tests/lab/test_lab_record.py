"""The lab of one's own observations."""

import json
import time
from html import escape

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("ipywidgets")

import nida_kit as nk
from nida_kit.lab import Lab
from nida_kit.lab.model import CAUTION, guarded
from nida_kit.withheld import Parameters, read, run

TRUTH = nk.Lorenz63().simulate(samples=3, steps=32, dt=0.05, seed=0)
OBS = nk.observe(TRUTH, components=["x", "z"], every=2, noise_std=0.8, seed=1)


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    OBS.to_netcdf(tmp_path / "mine.nc")
    return Lab(tmp_path / "lab.png", observations=tmp_path / "mine.nc", prior="lorenz63", temperatures=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 2),
        ("method", "optimal interpolation"),
        ("beside", ("climatology", "optimal interpolation")),
        ("temperatures", 5),
        ("robust", "student"),
        ("share", 0.5),
        ("begin", 9),
        ("length", 9),
        ("component", "z"),
        ("noise", 3.0),
        ("seed", 7),
        ("step", 1),
    ],
)
def test_each_control_changes_the_figure_and_the_line_about_it(lab, name, value):
    if name == "begin":
        lab.controls["length"].value = 6  # a block of no steps begins nowhere
    before, summary = lab.image.value, lab.summary.value
    lab.controls[name].value = value
    assert lab.image.value != before and lab.summary.value != summary
    assert lab.summary.value == escape(lab.model.status.partition(CAUTION)[0]) and lab.status.value == ""
    assert name == "step" or getattr(lab.model.params, name) == value
    if name != "step":
        expected = run(read(OBS, prior="lorenz63"), lab.model.params)
        assert lab.model.result.drop_attrs().equals(expected.drop_attrs())


def test_what_is_drawn_is_what_was_shown_and_what_was_withheld(lab):
    lab.model.set(share=0.25, window=1)
    (axes,) = [ax for ax in lab.figure.axes if ax.get_title().startswith("vertical")]
    drawn = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.lines}
    shown, hidden = (drawn[label] for label in ("observation", "withheld observation"))
    value = OBS["value"].sel(component="z")[1].values
    np.testing.assert_array_equal(np.where(np.isfinite(shown), shown, hidden), value)
    assert not (np.isfinite(shown) & np.isfinite(hidden)).any() and np.isfinite(hidden).any()
    np.testing.assert_allclose(drawn["reconstruction"], lab.model.result["mean"][-1].sel(component="z"))


def test_the_line_counts_what_was_withheld(lab):
    lab.model.set(share=0.5, beside=("climatology",))
    found = lab.model.result.attrs
    inside = round(found["coverage_90"] * found["withheld"])
    for text in (
        "window 0 (there are 3, from 0)",
        f"RMSE {found['rmse']:.3f} at 16 withheld values",
        f"{inside} of them ({found['coverage_90']:.0%})",
        f"{float(lab.model.result['beside_rmse'][0]):.3f} for climatology",
    ):
        assert text in lab.model.status
    lab.buttons["use all"].click()
    assert "Nothing is withheld" in lab.model.status and "nan" not in lab.model.status


def test_presets_withhold_in_their_own_way(lab):
    seen = {}
    for name in ("at random", "a gap", "a component", "use all"):
        lab.buttons[name].click()
        hidden = lab.model.result["hidden"].notnull()
        seen[name] = [bool(hidden.sel(component=c).any()) for c in ("x", "z")], int(hidden.sum())
    assert seen["at random"] == ([True, True], 6) and seen["use all"] == ([False, False], 0)
    assert seen["a component"] == ([False, True], 16) and seen["a gap"] == ([True, True], 10)
    assert not any(button.disabled for name, button in lab.buttons.items() if name in seen)


def test_errors_are_said_and_the_last_result_stays(lab):
    before = lab.image.value
    assert not guarded(lab.model, lambda: lab.model.set(window=3))
    assert "from 0 to 2" in lab.status.value and lab.image.value == before
    assert lab.summary.value.startswith("Still shown")
    lab.buttons["reset"].click()
    assert lab.status.value == ""


def test_controls_offer_what_the_record_has_and_those_without_effect_are_disabled(lab):
    c = lab.controls
    assert c["component"].options == ("none", "x", "z") and c["method"].options[0] == "neural"
    assert (c["window"].max, c["begin"].max, c["length"].max) == (2, 31, 32)
    assert not c["temperatures"].disabled
    c["method"].value = "optimal interpolation"
    assert c["temperatures"].disabled and c["schedule"].disabled
    c["beside"].value = ("neural",)
    assert not c["temperatures"].disabled


def test_the_result_is_written_and_never_over_the_observations(lab, tmp_path):
    lab.model.set(length=8, begin=8)
    lab.buttons["save result"].click()
    assert str(tmp_path / "lab.nc") in lab.summary.value
    written = xr.load_dataset(tmp_path / "lab.nc")
    for name in ("mean", "std", "value", "hidden", "step_rmse"):
        np.testing.assert_allclose(written[name], lab.model.result[name])
    assert json.loads(written.attrs["lab"])["length"] == 8
    assert Parameters(**json.loads(written.attrs["lab"]) | {"beside": ()}) == lab.model.params
    lab.buttons["export figure"].click()
    record = json.loads((tmp_path / "lab.json").read_text())
    assert record["withheld"] == lab.model.result.attrs["withheld"] and record["observations"].endswith("mine.nc")
    mine = (tmp_path / "mine.nc").read_bytes()
    over = Lab(tmp_path / "mine.png", observations=tmp_path / "mine.nc", prior="lorenz63")
    over.buttons["save result"].click()
    assert "would overwrite" in over.status.value and (tmp_path / "mine.nc").read_bytes() == mine


def test_dates_are_drawn_as_dates(monkeypatch, tmp_path):
    monkeypatch.setenv("NIDA_STRICT", "1")
    dates = xr.date_range("1990-01-01", periods=60, freq="MS")
    wave = np.cos(2 * np.pi * np.arange(60) / 12) + np.random.default_rng(0).normal(size=60) / 4
    record = xr.DataArray(wave[:, None], {"time": dates, "component": ["sst"]}, ("time", "component"))
    season = nk.Season.fit(record, by="month")
    past = nk.windows(season.anomalies(record), steps=12)
    method = nk.Seasonal(nk.OptimalInterpolation.fit(past, order=1), season)
    obs = xr.Dataset({"value": record, "noise_std": 0.1})
    lab = Lab(tmp_path / "lab.png", observations=obs, methods={"season": method}, steps=24, length=6, begin=6)
    lab.figure.canvas.draw()
    (axes,) = lab.figure.axes
    texts = [label.get_text() for label in axes.get_xticklabels()]
    assert "1990" in texts and "May" in texts
    assert lab.model.result.attrs["rmse"] < 1
    calendar = obs.assign_coords(time=xr.date_range("1990-01-01", periods=60, freq="MS", use_cftime=True))
    lab = Lab(tmp_path / "lab.png", observations=calendar, methods={"season": method}, steps=24)
    assert "days since" in lab.figure.axes[0].get_xlabel()


def test_a_plane_is_shown_at_one_time_without_computing_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("NIDA_STRICT", "1")
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(60, 6, 3, 4)).cumsum(1)
    where = {"time": np.arange(6.0), "y": [0.0, 1.0, 3.0], "x": np.arange(4.0) * 10}
    past = xr.DataArray(walk, dims=("sample", "time", "y", "x"), coords=where)
    method = nk.OptimalInterpolation.fit(past[1:], order=1, shrinkage="auto")
    obs = nk.observe(past[0], noise_std=0.2, fraction=0.5, seed=1)
    lab = Lab(tmp_path / "lab.png", observations=obs, methods={"OI": method}, share=0.3)
    result = lab.model.result
    for moment in (0, 4):
        lab.controls["moment"].value = moment
        assert lab.model.result is result
        image, marks = lab.figure.axes[0].images[0], lab.figure.axes[0].lines
        np.testing.assert_allclose(image.get_array(), result["mean"][-1, moment])
        # Rows are not evenly spaced, and so counted; columns lie at their numbers.
        for name, drawn in zip(("value", "hidden"), marks, strict=True):
            rows, columns = np.nonzero(result[name][moment].notnull().values)
            np.testing.assert_allclose(drawn.get_ydata(), rows)
            np.testing.assert_allclose(drawn.get_xdata(), columns * 10)
    lab.buttons["a gap"].click()
    assert lab.model.params.moment == 3 and not result.equals(lab.model.result)


def test_many_components_are_images_without_a_truth(monkeypatch, tmp_path):
    monkeypatch.setenv("NIDA_STRICT", "1")
    truth = nk.Lorenz96().simulate(samples=1, steps=12, dt=0.05, seed=0)
    lab = Lab(tmp_path / "lab.png", observations=nk.observe(truth, every=2, noise_std=0.5, seed=1), prior="lorenz96")
    titles = [ax.get_title() for ax in lab.figure.axes if ax.get_title()]
    assert titles == ["reconstruction", "posterior std"]
    (spread,) = [ax for ax in lab.figure.axes if ax.get_title() == "posterior std"]
    np.testing.assert_allclose(spread.images[0].get_array(), lab.model.result["std"][-1].T)
    before = lab.renderer.png()
    lab.buttons["a gap"].click()
    assert lab.renderer.png() != before


def test_what_belongs_to_the_other_lab_is_refused():
    with pytest.raises(ValueError, match="observations of your own"):
        Lab(prior="lorenz63")
    with pytest.raises(ValueError, match="observations of your own"):
        Lab(methods={})
    with pytest.raises(ValueError, match="no parameters"):
        Lab(observations=OBS, prior="lorenz63", every=3)
    with pytest.raises(ValueError, match="no file"):
        Lab(observations="none.nc", prior="lorenz63")
    with pytest.raises(ValueError, match="Nothing can reconstruct"):
        Lab(observations=OBS)


def test_the_first_picture_comes_at_once(tmp_path):
    """The goal is a second after import; this allows for a slow machine."""
    OBS.to_netcdf(tmp_path / "mine.nc")
    began = time.perf_counter()
    Lab(observations=tmp_path / "mine.nc", prior="lorenz63")
    assert time.perf_counter() - began < 3


def test_what_is_not_used_or_was_converted_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("NIDA_STRICT", "1")
    bad = OBS["value"].copy(data=(np.arange(OBS["value"].size) % 4 == 0).reshape(OBS["value"].shape))
    flags = bad.astype("i1").assign_attrs(flag_values=np.array([0, 1], "i1"), flag_meanings="good bad")
    flagged = OBS.assign(value=OBS["value"] + 20 * bad, value_qc=flags, extra=1.0)
    lab = Lab(tmp_path / "lab.png", observations=flagged, prior="lorenz63")
    assert "quality flags" in lab.model.status and "extra" in lab.model.status
    assert "quality flags" in lab.model.result.attrs["note"]
    lab = Lab(tmp_path / "lab.png", observations=flagged, prior="lorenz63", flag="good", share=0.0)
    assert "quality flags" not in lab.model.status
    kept = OBS["value"].where(~bad)[0]
    assert lab.model.result["value"].notnull().sum() == kept.notnull().sum()
    pendulum = nk.observe(nk.Pendulum().simulate(1, 40, 0.1, seed=0), every=4, noise_std=0.05, seed=1)
    degrees = pendulum.assign_coords(units=("component", ["degree", "degree/s"]))
    degrees = degrees.assign(value=np.rad2deg(pendulum["value"]), noise_std=np.rad2deg(pendulum["noise_std"]))
    lab = Lab(tmp_path / "lab.png", observations=degrees, prior="pendulum", robust="student")
    lab.buttons["save result"].click()
    written = xr.load_dataset(tmp_path / "lab.nc")
    assert "angle: degree to rad" in written.attrs["converted"]
    assert {"residual", "weight"} <= set(written)


def test_windows_of_several_labels_are_written(monkeypatch, tmp_path):
    monkeypatch.setenv("NIDA_STRICT", "1")
    stacked = xr.concat([OBS, OBS], "run").assign_coords(run=["a", "b"]).stack(window=("run", "sample"))
    lab = Lab(tmp_path / "lab.png", observations=stacked, prior="lorenz63", window=4)
    assert lab.model.record.windows == 6
    lab.buttons["save result"].click()
    written = xr.load_dataset(tmp_path / "lab.nc")["mean"]
    expected = run(read(OBS, prior="lorenz63"), Parameters(window=1))["mean"]  # of run "b", the second sample
    np.testing.assert_allclose(written, expected, atol=1e-9)


def test_places_to_write_to_are_checked(lab, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.png"):
        Lab("lab.txt", observations=OBS, prior="lorenz63")
    far = Lab(tmp_path / "none" / "lab.png", observations=OBS, prior="lorenz63")
    far.buttons["save result"].click()
    assert (tmp_path / "none" / "lab.nc").is_file() and far.status.value == ""
    with pytest.raises(ValueError, match="method"):
        Lab(observations=OBS, prior="lorenz63", method=None)
