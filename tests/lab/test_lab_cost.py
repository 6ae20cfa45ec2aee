"""The lab of costs measures, keeps what it measured, and says which power it found beside the law."""

import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nida_kit import plots
from nida_kit.lab import CostLab
from nida_kit.lab import cost as lab_cost
from nida_kit.lab.cost import MOST_DENSE, power


@pytest.fixture
def clock(monkeypatch):
    """Seconds by the laws themselves: what is measured depends on the machine."""
    calls = []

    def measured(steps, components):
        calls.append((steps, components))
        dense = 1e-9 * (steps * components) ** 3 if steps * components <= MOST_DENSE else np.nan
        return {"band": 1e-6 * steps * components**3, "full matrix": dense}

    monkeypatch.setattr(lab_cost, "measured", measured)
    return calls


@pytest.fixture
def lab(monkeypatch, tmp_path, clock):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    return CostLab(export=tmp_path / "cost.png", steps=64)


def test_both_ways_are_really_timed():
    small, large = lab_cost.measured(16, 3), lab_cost.measured(256, 3)
    assert 0 < small["band"] < 1 and 0 < small["full matrix"] < 1
    assert large["full matrix"] > 10 * small["full matrix"]  # 4096 times by the law
    assert np.isnan(lab_cost.measured(2048, 3)["full matrix"])


def test_each_size_is_a_point_and_the_powers_are_those_of_the_laws(lab, clock):
    for name in ("twice the steps", "twice the steps", "twice the components"):
        lab.buttons[name].click()
    assert "measured" in lab.buttons["forget"].tooltip
    assert clock == [(64, 3), (128, 3), (256, 3), (256, 6)] and lab.model.result.sizes["point"] == 4
    lab.buttons["half the components"].click()
    found = lab.model.result.attrs["powers"]
    assert found["steps"] == pytest.approx({"band": 1, "full matrix": 3})
    assert found["components"] == pytest.approx({"band": 3, "full matrix": 3})
    assert "of T 1.00 for the band (law: 1)" in lab.summary.value
    lab.buttons["forget"].click()
    assert lab.model.result.sizes["point"] == 1 and "Move a size" in lab.summary.value
    lab.buttons["reset"].click()
    assert lab.model.params.steps == 64 and lab.controls["steps"].value == 64


def test_what_would_take_too_long_is_refused_or_left_out(lab):
    lab.controls["steps"].value = 8192
    assert "keep you waiting" in lab.summary.value and lab.buttons["twice the steps"].disabled
    lab.controls["components"].value = 128
    assert "would take this lab seconds" in lab.status.value and "steps T = 8192" in lab.status.value
    lab.buttons["reset"].click()
    assert lab.status.value == ""


def test_a_power_needs_sizes_that_are_apart():
    assert power(np.array([8, 16, 32]), np.array([1.0, 2.0, 4.0])) == pytest.approx(1)
    assert np.isnan(power(np.array([8, 9]), np.array([1.0, 2.0])))
    assert np.isnan(power(np.array([8, 16]), np.array([1.0, np.nan])))


def test_updating_gives_the_same_pixels_as_making_anew(lab):
    first = lab.model.result
    lab.buttons["twice the steps"].click()

    def pixels(fig) -> np.ndarray:
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba()).copy()

    updated = plots.make_cost(plots.figure(2), first)
    plots.update_cost(updated, lab.model.result)
    made = plots.make_cost(plots.figure(2), lab.model.result)
    np.testing.assert_array_equal(pixels(updated.figure), pixels(made.figure))


def test_the_export_holds_the_numbers(lab):
    lab.buttons["export figure"].click()
    found = json.loads(lab.export.with_suffix(".json").read_text())
    assert found["points"]["steps"] == [64] and len(found["seconds"]["band"]) == 1
