"""The study behind the figure of errors against epochs."""

from dataclasses import replace

import pytest

from nida_kit.studies import epochs
from nida_kit.training.recipes import RECIPES


def test_all_temperatures_begin_at_the_first_guess_and_each_epoch_is_scored():
    recipe = RECIPES["lorenz63"]
    small = replace(
        recipe, climate=300, network=recipe.network | {"width": 8}, settings=replace(recipe.settings, batch=4)
    )
    found = epochs.measure(5, None, epochs=2, epoch=8, recipe=small)
    assert found["windows of an epoch"] == 8 and found["temperatures"] == [1.0, 0.75, 0.5, 0.25]
    assert [len(line) for line in found["mse"]] == [3] * 4
    assert [line[0] for line in found["mse"]] == pytest.approx([found["first_guess_mse"]] * 4, rel=0.05)
    assert all(line[1] != line[0] and line[2] != line[1] for line in found["mse"])
