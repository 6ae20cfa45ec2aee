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
    assert card.about["windows"] == 60 and "held_out" not in card.about
    np.testing.assert_allclose(prior.climatology.mean, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"held_out": 0.6}, "held_out=0.6 must be a number from 0 to 0.5"),
        ({"trajectories": TRAJECTORIES.where(TRAJECTORIES["sample"] > 0)}, "learns from whole windows"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        learnt(**how)
