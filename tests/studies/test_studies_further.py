"""More training of a shipped prior, in few batches."""

import json

from nida_kit.studies import further


def test_both_trainings_are_scored_beside_the_shipped_prior(tmp_path):
    found = further.measure(6, tmp_path, batches=2, weights="lorenz63_small")
    rows = found["laws"]
    assert list(rows) == ["shipped", *further.SHARES]
    assert {law for row in rows.values() for law in row} == set(further.LAWS)
    assert len({row["sum"]["mse"] for row in rows.values()}) == 3  # three networks
    assert json.loads((tmp_path / "further.json").read_text())["laws"] == rows
    assert not list(tmp_path.glob("*.ckpt"))
