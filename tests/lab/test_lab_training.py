"""The lab that trains: it is watched, it is stopped, it keeps what was best, and the notebook goes on meanwhile."""

import threading

import numpy as np
import pytest
import xarray as xr

import nida_kit as nk
from nida_kit.lab import TrainingLab, training
from nida_kit.training.own import RECIPE, begin
from nida_kit.training.train import Settings, train

PAST = nk.Pendulum().simulate(samples=60, steps=9, dt=0.1, model_noise_std=0.05, seed=1)
QUICK = {"odd": ["angle", "momentum"], "order": 1, "batches": 8, "batch": 4, "width": 4}


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.delenv("NIDA_STRICT", raising=False)
    made = TrainingLab(PAST, export=tmp_path / "mine.png", **QUICK)
    yield made
    made.model.stop()
    made.model.wait()


MOVES = {"batches": 9, "batch": 5, "rate": 0.01, "width": 6, "log_score": 0.2, "seed": 1, "window": 2}


def held(model, monkeypatch, after: int) -> tuple[threading.Event, threading.Event]:
    """A training waits after so many batches: what tells that it does, and what lets it go on."""
    there, go, watch = threading.Event(), threading.Event(), model._watch

    def watched(stop, history):
        if history.sizes["batch"] == after:
            there.set()
            go.wait(60)
        return watch(stop, history)

    monkeypatch.setattr(model, "_watch", watched)
    return there, go


def test_untrained_it_shows_optimal_interpolation(lab):
    own = begin(PAST, 4, 1, QUICK["odd"], 0, 0.1)
    interpolation = nk.OptimalInterpolation(own.prior.climatology, own.labels, own.dt)
    found = interpolation.assimilate(lab.model.obs)["mean"]
    # Networks compute in single precision.
    np.testing.assert_allclose(lab.model.result["mean"].isel(step=0), found, atol=1e-5)
    assert lab.buttons["stop"].disabled and not lab.buttons["train"].disabled


def test_it_comes_to_the_weights_of_the_same_training_without_a_lab(lab):
    lab.buttons["train"].click()
    lab.model.wait()
    own = begin(PAST, 4, 1, QUICK["odd"], 0, 0.1)
    settings = Settings(8, 4, **RECIPE, look=1)
    history = train(own.prior, own.windows, own.law, settings, validation=own.validation, progress=False)
    np.testing.assert_array_equal(lab.model.result["batch_rmse"], history["mse"] ** 0.5)
    np.testing.assert_array_equal(lab.model.result["after"], history["after"])
    for mine, other in zip(lab.model.method.prior.parameters(), own.prior.parameters(), strict=True):
        np.testing.assert_array_equal(mine.detach(), other.detach())
    kept = lab.model.step
    assert lab.model.result["after"][kept - 1] == history.attrs["kept_after"]
    shown = lab.model.method.assimilate(lab.model.obs)["mean"]
    np.testing.assert_allclose(lab.model.result["mean"].isel(step=kept - 1), shown, atol=1e-10)


@pytest.mark.parametrize("name", MOVES)
def test_each_control_changes_its_parameter_and_reset_brings_the_picture_again(lab, name):
    before, start = lab.image.value, getattr(lab.model.params, name)
    lab.controls[name].value = MOVES[name]
    assert (lab.status.value, getattr(lab.model.params, name)) == ("", MOVES[name])
    lab.buttons["reset"].click()
    assert lab.controls[name].value == start and lab.image.value == before


def test_an_odd_width_cannot_be_typed(lab):
    number = lab._rows["width"].number
    number.value = 7
    assert "width takes whole numbers from 2 to 128 in steps of 2, not 7: it stays 4." in lab.status.value
    assert number.value == 4 == lab.model.params.width


def test_while_it_trains_the_lab_answers_and_stop_ends_it(lab, monkeypatch):
    there, go = held(lab.model, monkeypatch, after=3)
    lab.buttons["train"].click()
    assert there.wait(60)
    assert lab.model.running and lab.controls["rate"].disabled and lab.buttons["train"].disabled
    before = lab.image.value
    lab.controls["window"].value = 3  # this very thread is served
    assert lab.image.value != before and "Training: 2 of 8" in lab.summary.value
    lab.buttons["stop"].click()
    go.set()
    lab.model.wait()
    assert lab.model.result.sizes["batch"] == 3 and not lab.model.running
    assert "Trained: 3 of 8" in lab.summary.value and not lab.controls["rate"].disabled
    lab.controls["step"].value = 1
    assert "After 0 of them" in lab.summary.value


def test_a_training_of_other_parameters_is_not_heard_any_more(lab, monkeypatch):
    there, go = held(lab.model, monkeypatch, after=3)
    lab.buttons["train"].click()
    assert there.wait(60)
    lab.buttons["reset"].click()
    assert not lab.model.running
    go.set()
    lab.model.wait()
    assert lab.model.result.sizes["batch"] == 0 and "Untrained" in lab.summary.value and lab.status.value == ""


def test_what_goes_wrong_in_it_is_said(lab, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("The loss of batch 3 is nan: lower the rate.")

    monkeypatch.setattr(training, "train", broken)
    lab.buttons["train"].click()
    lab.model.wait()
    assert "lower the" in lab.status.value and not lab.model.running


def test_the_weights_that_it_writes_are_those_it_has(lab, tmp_path):
    lab.buttons["train"].click()
    lab.model.wait()
    lab.buttons["save weights"].click()
    again = nk.NeuralIncremental.pretrained(str(tmp_path / "mine.safetensors"), temperatures=4)
    found, expected = (m.assimilate(lab.model.obs)["mean"] for m in (again, lab.model.method))
    xr.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"width": 5}, "even"), ({"colour": 1}, "colour"), ({"odd": ["speed"]}, "speed"), ({"batches": 0}, "batches")],
)
def test_a_training_lab_that_cannot_start_raises(wrong, words):
    with pytest.raises(ValueError, match=words):
        TrainingLab(PAST, **QUICK | wrong)


@pytest.mark.parametrize("wrong", [PAST[:4], PAST[0], PAST.values])
def test_trajectories_that_nothing_can_be_learnt_from_are_refused(wrong):
    with pytest.raises(ValueError, match="trajectories"):
        TrainingLab(wrong, **QUICK)
