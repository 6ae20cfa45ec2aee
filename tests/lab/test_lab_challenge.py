"""The labs of the challenges: each move changes picture and score, and scores can be taken along."""

import json

import pytest

from nida_kit.challenges import board
from nida_kit.lab import FourLab, SeedsLab, TenLab
from nida_kit.plots.plane import SEEN, TRUTH


@pytest.fixture(autouse=True)
def _not_strict(monkeypatch):
    monkeypatch.delenv("NIDA_STRICT", raising=False)


def test_another_place_is_another_score_and_the_same_place_twice_is_refused(tmp_path):
    lab = FourLab(player="Ada", export=tmp_path / "four.png")
    before = lab.image.value, lab.summary.value
    for name, value in (("first", 3), ("second", 11), ("third", 20), ("fourth", 28)):
        lab.controls[name].value = value
    assert lab.image.value != before[0] and lab.summary.value != before[1]
    score, said = lab.model.result.attrs["score"], lab.summary.value
    assert "Ada" in said and ("you have won" in said) == (score > 1) and f"{score:.2f}" in said
    lab.controls["second"].value = 3
    assert "move one of them" in lab.status.value and lab.summary.value.endswith(said)
    lab.buttons["reset"].click()
    assert lab.image.value == before[0] and not lab.status.value
    lab.buttons["export figure"].click()
    assert json.loads((tmp_path / "four.json").read_text())["player"] == "Ada" and not lab.status.value


def test_ten_observations_are_bought_and_taken_back_until_the_truth_is_out(tmp_path):
    lab = TenLab(export=tmp_path / "ocean.png", spinup=10, player="Ada")
    lab.buttons["take back"].click()
    assert "nothing to take back" in lab.status.value
    lab.buttons["observe here"].click()
    lab.buttons["observe here"].click()
    assert "observed already" in lab.status.value and "9 of 10" in lab.summary.value
    assert len(lab.renderer._artists.seen[SEEN].get_offsets()) == 1
    lab.buttons["take back"].click()
    assert lab.model.params.spent == ()
    for k in range(10):
        lab.controls["y"].value = 0.1 * k
        assert TRUTH not in lab.renderer._artists.images
        lab.buttons["observe here"].click()
    assert TRUTH in lab.renderer._artists.images and "Ten at random" in lab.summary.value
    for button, words in (("observe here", "spent"), ("take back", "The truth is out")):
        lab.buttons[button].click()
        assert words in lab.status.value
    lab.buttons["export figure"].click()
    assert json.loads((tmp_path / "ocean.json").read_text())["player"] == "Ada"
    assert board(tmp_path)["score"][0] == pytest.approx(lab.model.result.attrs["score"])
    lab.controls["seed"].value = 5
    assert lab.model.params.spent == () and "10 of 10" in lab.summary.value


@pytest.mark.parametrize("kind", [FourLab, SeedsLab])
def test_panels_hold_the_usual_range_so_that_a_lost_lobe_is_seen(kind):
    lab = kind()
    for k, axes in enumerate(lab.figure.axes[:3]):
        low, high = lab.model.result["usual"].isel(component=k).values
        assert axes.get_ylim()[0] <= low < high <= axes.get_ylim()[1]


def test_bets_reveal_windows_and_are_counted():
    lab = SeedsLab()
    assert "no score yet" in lab.summary.value
    lab.controls["seed"].value = 6
    hidden = lab.image.value
    lab.buttons["bet and reveal"].click()
    assert lab.image.value != hidden and "from seed 6" in lab.summary.value and "9 of 10" in lab.summary.value
    lab.buttons["bet and reveal"].click()
    assert "revealed already" in lab.status.value
    lab.controls["seed"].value = 7
    assert "truth" not in lab.model.result and "from seed 6" in lab.summary.value
    lab.buttons["reset"].click()
    assert "no score yet" in lab.summary.value
