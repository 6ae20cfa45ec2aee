"""Challenges: scores are those of the package's own scores, nothing is given away before its time, rooms compare."""

import json

import numpy as np
import pytest

from nida_kit import challenges, ocean, setups
from nida_kit.challenges import Four, Seeds, Ten, board, run_four, run_seeds, run_ten
from nida_kit.experiment import METHODS, Parameters, run
from nida_kit.observing.observe import observe

OCEAN = {"spinup": 10, "seed": 3}


def test_values_at_the_places_of_a_law_are_those_of_that_law():
    setup = setups.load("blanke2024-lorenz63")
    truth = setup.windows(50, seed=20_000)
    obs = observe(truth, ["x"], 8, noise_std=setup.noise, seed=20_001)
    found = run_four(Four(window=3))
    error = setup.score(METHODS["neural"](Parameters()).assimilate(obs)["mean"], truth)
    assert found.attrs["rmse"] ** 2 == pytest.approx(error)
    np.testing.assert_array_equal(found["value"], obs["value"][3])
    assert found.attrs["score"] == pytest.approx(found.attrs["hybrid_rmse"] / found.attrs["rmse"])


def test_good_places_are_worth_twice_as_much_as_poor_ones_and_z_alone_does_not_do_it():
    good = run_four(Four(3, 11, 20, 28)).attrs["score"]
    assert good > 0.9 and run_four(Four()).attrs["score"] < 0.7 * good
    assert run_four(Four(3, 11, 20, 28, "z", "z", "z", "z")).attrs["score"] < 0.4 * good


def test_ten_values_hide_the_truth_until_they_are_spent_and_then_say_what_they_explain():
    places = tuple((k % 8, 6 * k + 3, 4 + 2 * k) for k in range(10))
    for spent in (places[:1], places[:9]):
        found = run_ten(Ten(spent=spent, **OCEAN))
        assert set(found) == {"value", "mean", "std"} and found.attrs == {"left": 10 - len(spent)}
        assert found["value"].notnull().sum() == len(spent)
    found = run_ten(Ten(spent=places, **OCEAN))
    truth = ocean.simulated(OCEAN["seed"], OCEAN["spinup"])
    np.testing.assert_array_equal(found["truth"], truth)
    usual = run_ten(Ten(**OCEAN))["mean"]
    left = ((found["mean"] - truth) ** 2).sum() / ((usual - truth) ** 2).sum()
    assert found.attrs["score"] == pytest.approx(1 - float(left)) and found.attrs["by_chance"] < 1


def test_nothing_is_known_of_an_ocean_before_the_first_value():
    found, climatology = run_ten(Ten(**OCEAN)), ocean.methods()["climatology"].climatology
    np.testing.assert_allclose(found["std"][0].values.ravel(), climatology.spread.flatten(), rtol=1e-5, atol=1e-6)
    assert found["value"].isnull().all() and found.attrs["left"] == 10


def test_windows_are_hidden_until_they_are_bet_on():
    hidden = run_seeds(Seeds(6))
    assert set(hidden) == {"value", "noise_std", "first_guess", "usual", "mean"} and hidden["mean"].isnull().all()
    assert hidden.attrs == {"score": 0.0, "left": 10}


def test_the_score_is_the_error_of_the_best_method_in_the_worst_window():
    least = {}
    for seed in (0, 6):
        found = run(Parameters(beside=("4D-Var", "neural + 4D-Var", "EnKS"), members=100, seed=seed))
        least[seed] = min(found.attrs["rmse"], float(found["beside_rmse"].min()))
    found = run_seeds(Seeds(0, revealed=(0, 6)))
    assert "truth" in found and found.attrs["least"] == pytest.approx(least[0], rel=1e-6)
    assert found.attrs["score"] == pytest.approx(max(least.values()), rel=1e-6) and found.attrs["left"] == 8
    assert found.attrs["best_seed"] == max(least, key=least.get)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Four(first=32), "first=32"),
        (lambda: Four(second_sees="w"), "second_sees='w'"),
        (lambda: run_four(Four(first=8)), "the same one: move one"),
        (lambda: Ten(y=1.5), "y=1.5"),
        (lambda: Ten(spent=((0, 1, 1), (0, 1, 1))), "observed already"),
        (lambda: Ten(spent=tuple((0, 0, k) for k in range(11))), "All 10 observations are spent"),
        (lambda: Seeds(revealed=(1, 1)), "revealed already"),
        (lambda: Seeds(revealed=tuple(range(11))), "All 10 bets are made"),
        (lambda: board("nowhere"), "'nowhere' is no folder"),
    ],
)
def test_what_the_rules_forbid_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_board_has_the_best_of_each_challenge_first_and_knows_other_files(tmp_path):
    with pytest.raises(ValueError, match="No score"):
        board(tmp_path)
    first, second, _ = challenges.NAMES
    for name, challenge, score in (("a", first, 0.9), ("b", second, 0.2), ("c", first, 1.3)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"challenge": challenge, "player": name, "score": score}))
    (tmp_path / "other.json").write_text('{"seed": 3}')
    (tmp_path / "broken.json").write_text("{")
    table = board(tmp_path)
    assert list(table["player"]) == ["c", "a", "b"] and list(table["file"]) == ["c.json", "a.json", "b.json"]
