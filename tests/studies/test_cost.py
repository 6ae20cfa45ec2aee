"""What the cost study counts and concludes, against what can be counted by hand."""

import json

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit import plots
from nida_kit.linalg.jacobian import linearise
from nida_kit.minima import cost as cost_of
from nida_kit.studies import common, cost

SMALL = {"temperatures": (1,), "steps": (1, 3), "starts": (2,), "budgets": (3,), "repeats": 1, "alone": 1}


@pytest.fixture(scope="module")
def findings():
    return cost.measure(4, **SMALL, particles=100)


def row(findings, name):
    return next(r for r in findings["rows"] if r["name"] == name)


def test_the_counter_changes_nothing_and_counts_every_state():
    system = nk.Lorenz63()
    counted = cost.Counted(system)
    x = torch.randn(5, 7, 3, dtype=torch.float64)
    for a, b in zip(linearise(lambda x: counted.step(x, 0.05), x), linearise(lambda x: system.step(x, 0.05), x),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert (counted.forward, counted.pullbacks) == (35, 3 * 35)
    counted.step(x[0, 0], 0.05)
    assert (counted.forward, counted.pullbacks) == (36, 105)


def test_a_physics_step_is_two_runs_of_the_model_and_a_pullback_per_component(findings):
    for line in (cost.FROM_OI, cost.hybrid("shipped"), cost.FROM_TRUTH):
        one, three = row(findings, f"{line}, 1 physics step"), row(findings, f"{line}, 3 physics steps")
        assert three["forward"] - one["forward"] == 2 * 2
        assert three["pullbacks"] - one["pullbacks"] == 2 * 3
        # One linearisation more says how sure the last estimate is; the first guess has a cost, too.
        assert (one["forward"], one["pullbacks"], one["evaluations"]) == (4, 6, 10)
    assert row(findings, cost.OI)["evaluations"] == row(findings, "NIDA (shipped), 4 temperatures")["evaluations"] == 0
    several = row(findings, f"{cost.several(3)}, 2 starts")
    # Only the winner of the starts is linearised at the end.
    assert several["pullbacks"] == 2 * row(findings, f"{cost.FROM_OI}, 3 physics steps")["pullbacks"] - 3


def test_everyone_is_scored_on_the_same_windows(findings):
    setup = common.lorenz63()
    truth, obs = common.observed(setup, common.LAWS["paper"], 4)
    neural = nk.NeuralIncremental.pretrained("lorenz63", 4)
    descent = nk.WeakFourDVar(setup.system, setup.model_noise_std, iterations=3)
    for name, method in (
        ("NIDA (shipped), 4 temperatures", neural),
        ("NIDA (shipped), then 4D-Var, 3 physics steps", nk.Chain([neural, descent])),
    ):
        found = method.assimilate(obs)
        np.testing.assert_allclose(row(findings, name)["mse"], setup.score(found["mean"], truth), rtol=1e-4)
        if "cost" in found:
            np.testing.assert_allclose(row(findings, name)["cost_mean"], found["cost"].mean(), rtol=1e-4)
            np.testing.assert_allclose(cost_of(setup, obs, found["mean"]), found["cost"], rtol=1e-8)


def test_findings_are_plain_and_their_lines_go_on_from_where_they_start(findings):
    json.dumps(findings)
    lines = cost.front(findings)
    oi, four = row(findings, cost.OI), row(findings, "NIDA (shipped), 4 temperatures")
    assert cost.FROM_TRUTH not in lines and cost.OI not in lines
    assert lines[cost.FROM_OI][0] == (oi["milliseconds_batch"], oi["mse"] ** 0.5)
    assert [len(pairs) for pairs in lines.values()] == [2, 2, 3, 3, 2]  # two networks
    panels = cost.efforts(findings)
    assert panels["physics steps"][cost.hybrid("shipped")][0] == (0, four["mse"] ** 0.5)
    assert [x for x, _ in panels["physics steps"][cost.FROM_OI]] == [0, 1, 3]
    level = row(findings, f"{cost.FROM_TRUTH}, 3 physics steps")["mse"] ** 0.5
    assert panels["physics steps"][cost.FROM_TRUTH] == [(0, level), (3, level)]
    assert findings["map"]["cost_mean"] <= min(r["cost_mean"] for r in findings["rows"] if r["line"] != cost.FROM_TRUTH)


def test_the_figures_draw_the_findings(findings):
    ax = plots.pareto(plots.figure(), cost.front(findings, "alone"), "ms", "error", findings["posterior_mean"]["mse"])
    assert len(ax.lines) == 6
    axes = plots.by_effort(plots.figure(), cost.efforts(findings), "error", 0.05, "floor")
    assert [ax.get_xlabel() for ax in axes] == list(cost.efforts(findings))
    for ax, lines in zip(axes, cost.efforts(findings).values(), strict=True):
        for drawn, pairs in zip(ax.lines, lines.values(), strict=False):
            np.testing.assert_array_equal(drawn.get_xydata(), pairs)
    # A line has the same looks in every column.
    looks = [{line.get_label(): line.get_color() for line in ax.lines} for ax in axes]
    assert all(looks[2].get(name, colour) == colour for name, colour in looks[0].items())


def a_row(line, at, unit, mse, batch, alone=1.0, **more):
    times = {"milliseconds_batch": batch, "milliseconds_alone": alone}
    return {"name": f"{line} {at}", "line": line, "at": at, "unit": unit, "mse": mse, "budget": 30} | times | more


def test_time_to_accuracy_is_that_of_the_fastest_that_reaches_the_error():
    half = {"steps_until_converged": 15.0}
    rows = [
        a_row("NIDA (shipped)", 1, cost.TEMPERATURES, 0.01, 0.1),
        a_row("NIDA (shipped)", 4, cost.TEMPERATURES, 0.05, 2.0, 10.0),
        a_row(cost.FROM_OI, 30, cost.PHYSICS, 0.3, 3.0, **half),
        a_row(cost.several(30), 2, cost.STARTS, 0.06, 6.0, **half),
        a_row(cost.several(30), 4, cost.STARTS, 0.04, 50.0, 200.0, **half),
        a_row(cost.several(30), 8, cost.STARTS, 0.03, 80.0, **half),
    ]
    found = cost.reach(rows, "shipped")
    assert found["reached"] and found["by"] == rows[4]["name"]
    assert (found["ratio_batch"], found["ratio_alone"], found["waiting"]) == (25, 20, 0.5)
    assert "reaches it: RMSE 0.200" in cost.sentence(found) and "25.0 and 20.0 times" in cost.sentence(found)
    # Not reached: the longest try counts, whatever its error.
    missed = cost.reach([*rows[:3], rows[3] | {"mse": 0.4}], "shipped")
    assert not missed["reached"] and missed["by"] == rows[3]["name"]
    assert (missed["lowest_mse"], missed["ratio_batch"]) == (0.3, 3.0)
    assert "does not reach it: RMSE 0.632" in cost.sentence(missed)
    with_one = cost.reach([rows[1] | {"mse": 0.5}, *rows[2:]], "shipped")
    assert with_one["by"] == rows[2]["name"]


def test_networks_that_are_not_shipped_are_left_out_and_unknown_ones_refused():
    assert "shipped" in cost.shipped_networks()
    for network, weights in cost.shipped_networks().items():
        assert nk.NeuralIncremental.pretrained(weights), network
    with pytest.raises(ValueError, match="no weight file"):
        cost.measure(2, networks={"mine": "missing"})
    for wrong in ({"samples": 0}, {"networks": {}}, {"starts": ()}, {"steps": (0,)}, {"particles": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            cost.measure(**({"samples": 1} | wrong))


def test_two_networks_are_two_lines_with_a_time_to_accuracy_each():
    found = cost.measure(1, networks={"a": "lorenz63", "b": "lorenz63"}, **SMALL, particles=0)
    assert set(found["time_to_accuracy"]) == {"a", "b"}
    assert found["posterior_mean"] is None
    lines = cost.front(found)
    assert {"NIDA (a)", "NIDA (b)", "NIDA (a), then 4D-Var"} <= set(lines)
    assert "NIDA (b), then 4D-Var" not in lines


def test_the_table_has_the_best_try_of_each_way(findings):
    table = cost.table(findings)
    several = f"{cost.several(3)}, 2 starts"
    neural, hybrid = "NIDA (shipped), 4 temperatures", "NIDA (shipped), then 4D-Var, 3 physics steps"
    assert list(table.index) == [cost.OI, cost.FROM_OI, neural, hybrid, several]
    for name, of in ((cost.FROM_OI, f"{cost.FROM_OI}, 3 physics steps"), (neural, neural), (several, several)):
        assert table.loc[name, "RMSE"] == pytest.approx(row(findings, of)["mse"] ** 0.5, abs=5e-4)
        assert table.loc[name, "runs of the model"] == round(row(findings, of)["evaluations"])
