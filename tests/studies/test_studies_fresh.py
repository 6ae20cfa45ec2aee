"""Windows that no other study draws, few of them."""

import json
import math

import pytest

from nida_kit.lab.simulated import presets
from nida_kit.studies import fresh
from nida_kit.studies.common import LAWS


def test_every_law_of_both_systems_has_scores_and_its_limit(tmp_path):
    found = fresh.measure(3, tmp_path, limited=1, particles=(64,))
    assert list(found["lorenz63"]) == [*LAWS, "z only"]
    assert list(found["pendulum"]) == list(fresh.SWINGS)
    for row in [*found["lorenz63"].values(), *found["pendulum"].values()]:
        assert {"mse", "coverage_90", "coverage_50", "limit", "expected_over_limit"} <= set(row)
        assert row["limit"] > 0 and math.isfinite(row["expected_over_limit"])
    assert json.loads((tmp_path / "fresh.json").read_text())["pendulum"] == found["pendulum"]


def test_the_pendulum_is_observed_as_its_lab_offers():
    for name, how in presets("pendulum").items():
        law = fresh.SWINGS[name]
        assert law.how == {"components": list(how["components"]), "every": how["every"]}
        assert law.noise == pytest.approx(how["noise_std"], rel=1e-9)
    assert set(fresh.SWINGS) == set(presets("pendulum"))
