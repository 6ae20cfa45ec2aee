"""The study of the classical methods, small."""

import numpy as np
import pytest

import nida_kit as nk
from nida_kit.methods.sequential import LostTruth
from nida_kit.studies import classical, common, speed


@pytest.fixture(scope="module")
def setup():
    return common.lorenz63()


def test_ensembles_get_what_is_best_on_validation_windows(setup):
    law = classical.law(8, 0.05)
    found = classical.tuned(setup, law, 6, inflations=(1.05, 30.0), lags=(2,))
    assert found["EnKS"].settings["inflation"] == 1.05 and found["iEnKS"].settings["inflation"] == 1.05
    assert found["iEnKS"].settings["lag"] == 2


def test_a_method_that_loses_its_way_is_never_best(setup):
    truth, obs = common.observed(setup, classical.law(8, 0.05), 2)

    class Lost(nk.OptimalInterpolation):
        def reconstruct(self, observations, dt, first_guess):
            raise LostTruth

    lost = Lost.fit(setup.windows(500, seed=2), order=1)
    assert classical._error(setup, lost, truth, obs) == np.inf


def test_rows_are_scores_on_the_test_windows(setup):
    law = classical.law(4, 0.2)
    truth, obs = common.observed(setup, law, 3)
    methods = {"EnKS": nk.EnKS(setup.system, setup.model_noise_std, members=10, inflation=1.1)}
    row = classical.of_law(setup, methods, truth, obs)["EnKS"]
    result = methods["EnKS"].assimilate(obs)
    assert row["mse"] == pytest.approx(setup.score(result["mean"], truth), rel=1e-3)
    assert row["inflation"] == 1.1 and row["lag"] == "all" and row["milliseconds"] > 0


def test_everyone_takes_part_and_meets_every_law(setup, tmp_path, monkeypatch):
    names = classical.fixed_methods(setup)
    assert len(names) == 10 and all(isinstance(method, nk.Method) for method in names.values())
    first = {"optimal interpolation": names["optimal interpolation"]}
    monkeypatch.setattr(classical, "tuned", lambda *args: {})
    found = classical.measure(2, tmp_path, lambda setup: first, particles=50)
    assert len(found["laws"]) == 6
    assert {(row["spacing"], row["noise"]) for row in found["laws"].values()} == {
        (k, r) for k in classical.SPACINGS for r in classical.NOISES
    }


def test_a_batch_is_faster_than_one_after_the_other():
    found = speed.of_setup("sakov2008-lorenz96", "LETKF, 7 members", cycles=20, batch=10, repeats=2)
    assert found["together"] > 1.5 * found["alone"]
