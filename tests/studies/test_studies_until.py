"""How long a training takes to an error, of few batches."""

from nida_kit.studies import until


def test_a_training_ends_where_both_errors_are_reached_and_says_when(monkeypatch, tmp_path):
    monkeypatch.setattr(until, "ERRORS", (5.0, 0.001))
    found = until.measure(3, tmp_path, seeds=2, windows=150, held_out=6)
    assert len(found["seeds"]) == 2
    for each in found["seeds"]:
        assert each["batches"] == 3 and each["seconds"]["0.001"] is None
        assert each["seconds"]["5.0"] > 0 and 0 < each["least error"] < 5
    monkeypatch.setattr(until, "ERRORS", (5.0,))
    (alone,) = until.measure(3, tmp_path, seeds=1, windows=150, held_out=6)["seeds"]
    assert alone["batches"] == 1  # the first look is before any batch
