"""A prior of one's own in one call: what it holds out, and what it says of that."""

import warnings

import numpy as np
import pytest

import nida_kit as nk
from nida_kit.training.own import learn

TRAJECTORIES = nk.Pendulum().simulate(samples=60, steps=8, dt=0.1, model_noise_std=0.05, seed=0)
SMALL = {"batches": 2, "batch": 4, "width": 8, "order": 1, "progress": False}


def learnt(trajectories=TRAJECTORIES, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return learn(trajectories, **(SMALL | how))


def test_the_last_windows_are_held_out_of_training_and_climatology():
    prior, card = learnt()
    assert (card.about["windows"], card.about["held_out"]) == (54, 6)
    assert card.about["validation"] > 0 and card.about["interpolation"] > 0 and card.about["kept_after"] in (0, 2)
    expected = nk.OptimalInterpolation.fit(TRAJECTORIES[:54], order=1).climatology
    np.testing.assert_array_equal(prior.climatology.factor, expected.factor)
    other, _ = learnt(TRAJECTORIES.copy(data=np.where(np.arange(60)[:, None, None] < 54, TRAJECTORIES, 1e3)))
    np.testing.assert_array_equal(other.climatology.factor, expected.factor)


def test_nothing_is_held_out_where_one_asks_for_that():
    prior, card = learnt(held_out=0.0, odd=("angle", "momentum"))
    assert card.about["windows"] == 60 and not {"held_out", "note"} & set(card.about)
    np.testing.assert_allclose(prior.climatology.mean, 0.0, atol=1e-12)


def test_a_training_that_did_not_help_hands_back_optimal_interpolation(monkeypatch):
    """In mean and spread, and it says so."""
    monkeypatch.setattr("nida_kit.training.train._State.step", lambda self, *_: self.history.append((0.0, 0.0)))
    with pytest.warns(UserWarning, match=r"No batch made the error.* as good as the trained prior"):
        prior, card = learn(TRAJECTORIES, **SMALL)
    assert card.about["kept_after"] == 0 and card.about["note"].startswith("No batch made")
    assert card.about["validation"] == pytest.approx(card.about["interpolation"], rel=1e-6)
    obs = nk.observe(TRAJECTORIES[:2], components=["angle"], every=3, noise_std=0.1, seed=1)
    found = nk.NeuralIncremental(prior, card.labels, card.dt, temperatures=2).assimilate(obs)
    expected = nk.OptimalInterpolation(prior.climatology, card.labels, card.dt).assimilate(obs)
    np.testing.assert_allclose(found["mean"], expected["mean"], atol=1e-5)
    np.testing.assert_allclose(found["std"], expected["std"], rtol=1e-5)


def test_where_none_is_held_out_for_lack_of_windows_it_is_said():
    with pytest.warns(UserWarning, match="Of 4 trajectories none was held out") as said:
        _, card = learn(TRAJECTORIES[:4], **SMALL)
    assert card.about["note"] == str(said[0].message) and card.about["windows"] == 4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"held_out": 0.6}, "held_out=0.6 must be a number from 0 to 0.5"),
        ({"trajectories": TRAJECTORIES[:1]}, r"There is 1 trajectory.*nk\.windows"),
        ({"order": 8}, "order=8 looks back 8 steps.* window of 8 steps has at most 7.* order=4"),
        ({"trajectories": TRAJECTORIES.where(TRAJECTORIES["sample"] > 0)}, "learns from whole windows"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        learnt(**how)
