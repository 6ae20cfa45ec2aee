"""Every method on record keeps its published score; what takes long only in `pytest -m slow`."""

from functools import lru_cache

import numpy as np
import pytest

import nida_kit as nk
from nida_kit.notebook import record
from nida_kit.setups import Cycling
from nida_kit.studies import published

RECORD = record("published")["setups"]
CYCLED = [name for name in nk.setups.names() if isinstance(nk.setups.load(name), Cycling)]
SLOW = 9  # seconds that the record took


def cases():
    """All that can be held, and whether it is slow."""
    for name in CYCLED:
        for title, score in nk.setups.load(name).published.items():
            if score.tolerance is not None:
                slow = RECORD[name][title]["seconds"] > SLOW
                yield pytest.param(name, title, marks=[pytest.mark.slow] if slow else [], id=f"{name}: {title}")


@lru_cache
def scores(name, title):
    """Of a method on record, here and now."""
    setup = nk.setups.load(name)
    score = setup.published[title]
    return setup.run(score.method(setup), score.experiments)


def same_truths(setup):
    """Whether truths end here as on record, of which the error of the climatological mean tells, that knows no method.

    In a chaotic model any other rounding grows into another trajectory, so a processor either finds four digits of it
    or has run other experiments.
    """
    name = {"Lorenz63": "sakov2012-lorenz63", "Lorenz96": "sakov2008-lorenz96"}.get(setup.system.name)
    if name is None:  # a field, whose climatology is not on record
        return False
    found, record = scores(name, "climatology"), RECORD[name]["climatology"]
    return all(found[key] == pytest.approx(record[key], rel=1e-3) for key in ("analysis", "analysis_error"))


@pytest.mark.parametrize(("name", "title"), cases())
def test_a_method_keeps_its_published_score(name, title):
    setup = nk.setups.load(name)
    score, found, record = setup.published[title], scores(name, title), RECORD[name][title]
    # Each error of a field is the mean of many values, so one run of fewer cycles says as much.
    assert (setup.cycles >= 1000 and setup.experiments >= 3) or setup.system.labels.size > 10_000
    # Other truths bring the chance of other experiments: three standard errors, which so few do not know below 3%. So
    # does another rounding, if a filter loses the truth now and then, as experiments that differ very much tell.
    error = record.get("analysis_error", 0.0)
    steady = error < 0.1 * record["here"]
    chance = 0.0 if same_truths(setup) and steady else 3 * max(error, 0.03 * record["here"])
    assert found[score.held] == pytest.approx(score.value, abs=score.tolerance * score.value + chance)
    # With the same truths a filter forgets how it was rounded, but not a particle filter, which chooses otherwise: four
    # seeds differ by 14%.
    near = score.tolerance if "particle" in title else 0.05
    assert found[score.held] == pytest.approx(record["here"], abs=near * record["here"] + 2**0.5 * chance)


def test_every_method_is_on_record_with_what_was_published():
    for name in CYCLED:
        setup = nk.setups.load(name)
        can = {title: score for title, score in setup.published.items() if score.method}
        assert RECORD[name].keys() == can.keys()
        for title, score in can.items():
            assert RECORD[name][title]["published"] == score.value


def test_the_order_of_the_methods_is_the_published_one():
    setup = nk.setups.load("sakov2012-lorenz63")
    ordered = ["iEnKS, 10 members", "EnKF, 10 members", "3D-Var", "optimal interpolation", "climatology"]
    found = [setup.run(setup.published[title].method(setup), cycles=140)["analysis"] for title in ordered]
    assert found == sorted(found) and found[0] < 0.8 * found[1]


def test_the_study_scores_the_setup(tmp_path):
    setup = nk.setups.load("sakov2008-lorenz96")
    found = published.of_setup(setup, samples=2, cycles=450)
    row = found["EnKF, 24 members"]
    truth = setup.windows(2, 0, 450)
    result = setup.published["EnKF, 24 members"].method(setup).assimilate(setup.observe(truth, 1))
    error = (result["mean"] - truth).values[:, 401:]  # after 20 time units
    assert row["analysis"] == pytest.approx(np.sqrt((error**2).mean(-1)).mean(), rel=1e-3)
    assert row["ratio"] == pytest.approx(row["analysis"] / 0.18, abs=1e-3)
    assert row["forecast"] > row["analysis"] and row["spread"] == pytest.approx(row["analysis"], rel=0.3)


def test_a_table_has_a_row_for_each_method_on_record_or_one():
    table = nk.setups.run("sakov2008-lorenz96", "3D-Var", samples=2, cycles=420)
    assert list(table.index) == ["3D-Var"] and table.loc["3D-Var", "published"] == 0.41
    assert table.loc["3D-Var", "analysis_error"] > 0
    own = nk.setups.run("sakov2008-lorenz96", nk.LETKF(nk.setups.load("sakov2008-lorenz96").system), 1, cycles=420)
    assert list(own.index) == ["LETKF"] and "published" not in own
    with pytest.raises(ValueError, match="3D-Var"):
        nk.setups.run("sakov2008-lorenz96", "4D-Var")
    with pytest.raises(ValueError, match="burn-in"):
        nk.setups.run("sakov2008-lorenz96", "3D-Var", samples=1, cycles=10)
    with pytest.raises(ValueError, match="cycles=0"):
        nk.setups.run("sakov2008-lorenz96", "3D-Var", samples=1, cycles=0)
    with pytest.raises(ValueError, match="is a class"):
        nk.setups.run("sakov2008-lorenz96", nk.EnKF)
    with pytest.raises(ValueError, match="no cycles"):
        nk.setups.run("blanke2024-lorenz63", "optimal interpolation", cycles=3)
    with pytest.raises(ValueError, match="no method on record"):
        nk.setups.run("blanke2024-pendulum")


def test_windows_have_a_table_too():
    table = nk.setups.run("blanke2024-lorenz63", samples=30)
    assert list(table.index) == ["optimal interpolation", "4D-Var"]
    assert table.loc["4D-Var", "mse"] < table.loc["optimal interpolation", "mse"]


def test_what_is_missing_shows_in_the_score():
    setup = nk.setups.load("sakov2008-lorenz96")
    truth = setup.windows(2, 0, 420)
    result = setup.published["3D-Var"].method(setup).assimilate(setup.observe(truth, 1))
    result["mean"][0, 415, 3] = np.nan
    assert np.isnan(setup.scores(result, truth)["analysis"])


def test_the_listing_has_every_setup_with_its_source():
    listing = nk.setups.list()
    assert list(listing.index) == list(nk.setups.names())
    assert all(nk.setups.load(name).name == name for name in listing.index)
    assert listing["source"].str.contains("doi:|arXiv:").all()
