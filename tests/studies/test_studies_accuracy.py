"""The study behind the figure of errors against seconds."""

import pytest

from nida_kit import notebook
from nida_kit.studies import accuracy

RECORDED = [name for name in accuracy.CASES if "ocean" not in name]


def test_each_kind_of_method_lies_where_its_record_says():
    cases = {name: accuracy.CASES[name] for name in RECORDED}
    found = accuracy.measure(2, None, cases)
    assert list(found["points"]) == list(found["marks"]) == RECORDED
    row = notebook.record("classical")["laws"]["x every 8th step, noise 0.05"]["methods"]["NIDA"]
    (seconds, error), *_ = found["points"][RECORDED[0]]["NIDA"]
    assert seconds == pytest.approx(row["milliseconds"] / 1000) and error == pytest.approx(row["mse"] ** 0.5, 1e-3)
    kinds = {name: {kind: len(some) for kind, some in kinds.items()} for name, kinds in found["points"].items()}
    assert kinds[RECORDED[1]] == {
        "NIDA": 4, "NIDA, then 4D-Var": 2, "optimal interpolation": 1, "4D-Var": 3, "ensembles": 4
    }  # fmt: skip
    assert list(found["limit"]) == RECORDED[:1]  # of 40 chaotic sites it is not known
    for seconds in found["marks"].values():
        assert 0 < seconds["one read of the observations"] < seconds["one model run"]


def test_the_ocean_is_observed_along_tracks():
    truth, obs = accuracy.CASES["ocean, 65 x 65 x 8 values"].batch(1)
    assert truth.sizes == obs["value"].sizes == {"sample": 1, "time": 8, "y": 65, "x": 65}
    seen = obs["value"].notnull().sum(("y", "x"))
    assert ((seen >= 70) & (seen <= 80)).all()  # tracks end at the walls


def test_an_oceans_row_is_in_seconds_and_variances():
    point = accuracy.CASES["ocean, 65 x 65 x 8 values"].points({"seconds": 0.5, "error": 0.04})
    assert point == (0.5, pytest.approx(0.2))
