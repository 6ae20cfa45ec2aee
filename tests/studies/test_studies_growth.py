"""The study of growth, tiny: exponents are those of power laws, and each kind of work is work that grows."""

import pytest

from nida_kit import notebook
from nida_kit.studies import growth


def test_exponents_are_those_of_each_turn():
    line = {size: [1e-6 * size**power for power in (1.0, 1.2, 2.0)] for size in (1, 10, 100, 1000)}
    line[1] = [5.0, 5.0, 5.0]  # a size that only measures calls does not count
    found = growth.summary(line)
    assert found["exponents"] == [1.0, 1.2, 2.0]
    assert found["seconds"][0] == (1, 5.0) and found["seconds"][3] == (1000, pytest.approx(1e-6 * 1000**1.2, rel=1e-3))


def test_sizes_take_turns_and_long_calls_are_made_once(monkeypatch):
    order = []
    monkeypatch.setattr(growth, "timed", lambda call: call())

    def calls_of(size):
        def call():
            order.append(size)
            return float(size)

        return {"work": call}

    found = growth.sweep([2, 4, 20], calls_of, turns=3)
    assert order == [2, 4, 20, 2, 4, 2, 4]  # 20 seconds are longer than LONG
    assert found["work"]["exponents"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("calls_of", "size", "names"),
    [
        (growth.windows, 2, {"OI", "NIDA"}),
        (growth.length, 32, {"OI", "NIDA", "EnKF, 10 members", "weak 4D-Var, one step"}),
        (growth.sites, 12, {"NIDA, one temperature", "LETKF, 10 members", "weak 4D-Var, one step"}),
        (growth.cells, 17**2, {"OI of 5 steps", "a step of the gyre"}),
        (growth.members, 5, {"EnKF", "EnKS", "LETKF", "particle filter"}),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of answers that are only timed
def test_each_kind_of_work_is_done(calls_of, size, names):
    calls = calls_of(size)
    assert set(calls) == names
    for call in calls.values():
        call()


def test_filters_and_4d_var_take_fewer_steps_and_sites():
    assert set(growth.length(64, filtered=32)) == {"OI", "NIDA"}
    assert "weak 4D-Var, one step" not in growth.sites(16, dense=12)


def test_workers_are_timed_by_the_clock(monkeypatch, tmp_path):
    monkeypatch.setattr(growth.fields_scale, "larger", lambda side, tile, workers: {"wall": 8.0 / workers})
    monkeypatch.setattr(growth, "SWEEPS", {})
    found = growth.measure(2, tmp_path)["sweeps"]["workers"]
    assert found["tiles of a field of 1024 x 1024 x 8"]["exponents"] == [-1.0, -1.0, -1.0]


def test_the_record_has_every_sweep():
    sweeps = notebook.record("growth")["sweeps"]
    for name, (_, sizes) in growth.SWEEPS.items():
        reached = {size for row in sweeps[name].values() for size, _ in row["seconds"]}
        assert reached == set(sizes)
