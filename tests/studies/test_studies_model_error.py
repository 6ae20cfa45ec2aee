"""The study of model error, small."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import nida_kit as nk
from nida_kit import notebook, plots
from nida_kit.notes import quiet
from nida_kit.studies import common, model_error

TINY = model_error.Sizes(batches=2, more=1, samples=2, validation=2, exact=2, particles=50, starts=2)
LAW = "x every 8th step"


def numbers(tree) -> list[float]:
    """All numbers within lists and dicts."""
    if isinstance(tree, dict | list | tuple):
        return [x for branch in (tree.values() if isinstance(tree, dict) else tree) for x in numbers(branch)]
    return [tree] if isinstance(tree, int | float) else []


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """What the command records of three trainings."""
    folder = tmp_path_factory.mktemp("model_error")
    sizes = [f"--{name}={value}" for name, value in vars(TINY).items()]
    names = ["right", "no model noise", "10 true trajectories alone"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["model_error", "--out", str(folder), *sizes, "--beliefs", *names])
        patch.setattr(model_error, "NOISES", (0.3, 1.0))
        patch.setattr(model_error, "LAWS", {LAW: model_error.LAWS[LAW]})
        model_error.main()
    return json.loads((folder / "model_error.json").read_text())


def test_the_record_has_a_right_belief_and_finite_scores_of_everyone(findings):
    beliefs = findings["beliefs"]
    assert list(beliefs) == ["right", "no model noise", "10 true trajectories alone"]
    assert findings["sizes"] == vars(TINY) and findings["validation_seed"] != findings["windows_seed"]
    assert np.isfinite(numbers(findings)).all()
    assert beliefs["right"]["belief"] == {
        "system": {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3, "longest_substep": 0.025},
        "model_noise_std": common.lorenz63().model_noise_std,
        "rho_std": 0.0,
    }
    for name in ("right", "no model noise"):
        rows = beliefs[name]["laws"][LAW]["methods"]
        with_q = ["4D-Var", "4D-Var, 2 starts", "NIDA, then 4D-Var", "NIDA mended, then 4D-Var"]
        wanted = {m + q for m in with_q for q in ("", ", Q tuned", ", Q from data")}
        assert set(rows) == wanted | {"optimal interpolation", "NIDA", "NIDA mended"}
        assert all(row["mse"] > 0 and row["crps"] > 0 and 0 <= row["coverage_90"] <= 1 for row in rows.values())
    assert "posterior" in beliefs["right"] and "posterior" not in beliefs["no model noise"]


def test_q_is_what_was_best_on_validation_windows(findings):
    found = findings["beliefs"]["right"]["laws"][LAW]
    for name, curve in found["tuning"].items():
        best = min(curve, key=lambda pair: pair[1])[0]
        assert found["methods"][f"{name}, Q tuned"]["model_noise_std"] == best


def test_lines_leave_out_what_a_belief_has_not(findings):
    found = model_error.lines(findings, LAW, ["NIDA", "4D-Var"], "crps")
    assert list(found["4D-Var"]) == ["right", "no model noise"]
    assert list(found["NIDA"]) == list(findings["beliefs"])


def test_root_mean_squared_errors_are_the_roots_of_what_is_on_record(findings):
    rmse, mse = (model_error.lines(findings, LAW, ["NIDA"], score)["NIDA"] for score in ("rmse", "mse"))
    assert {name: value**2 for name, value in rmse.items()} == pytest.approx(mse)


def test_shipped_networks_are_those_of_their_belief_and_of_no_other():
    for name in ("right", "rho 20% low"):
        belief = model_error.BELIEFS[name]
        prior = model_error.network_of(belief)
        climate = belief.windows(16)(4000, torch.Generator().manual_seed(1))
        torch.testing.assert_close(prior.climatology.spread[2], climate.std((0, 1))[2], rtol=0.03, atol=0)
    with pytest.raises(ValueError, match="no shipped network: give batches"):
        model_error.network_of(model_error.BELIEFS["sigma 20% low"])


@pytest.mark.parametrize("name", ["rho 20% low", "sigma 20% low", "no model noise"])
def test_four_d_var_runs_the_wrong_model(name):
    belief = model_error.BELIEFS[name]
    named = model_error.with_physics(belief, nk.NeuralIncremental.pretrained("lorenz63_small"), None)
    _, obs = common.observed(common.lorenz63(), model_error.LAWS["x every 4th step"], 3)
    chain = named["4D-Var"](belief.model_noise_std)
    if belief.model_noise_std:
        alone = nk.WeakFourDVar(nk.Lorenz63(sigma=belief.system.sigma, rho=belief.system.rho), belief.model_noise_std)
        right = nk.WeakFourDVar(nk.Lorenz63(), belief.model_noise_std)
    else:
        alone, right = nk.StrongFourDVar(nk.Lorenz63()), nk.WeakFourDVar(nk.Lorenz63(), model_error.NOISE)
    first_guess = chain.methods[0].assimilate(obs)["mean"]
    found = chain.assimilate(obs)["mean"].values
    np.testing.assert_allclose(found, alone.assimilate(obs, first_guess)["mean"].values)
    assert not np.allclose(found, right.assimilate(obs, first_guess)["mean"].values, rtol=0.01)


def test_simulations_and_climatology_are_those_of_the_belief():
    generator = torch.Generator().manual_seed(0)
    spread = {name: b.windows(16)(1000, generator).std((0, 1)) for name, b in model_error.BELIEFS.items()}
    low, right, high = (spread[name][2] for name in ("rho 20% low", "right", "rho 20% high"))
    assert low < 0.95 * right and high > 1.05 * right
    silent = model_error.BELIEFS["no model noise"].windows(0)(2, generator)
    step = nk.Lorenz63().step(silent[:, :-1], common.lorenz63().dt)
    torch.testing.assert_close(step, silent[:, 1:])
    first = model_error.interpolation(model_error.BELIEFS["rho 20% low"].setup())
    assert float(first.climatology.spread[2]) == pytest.approx(float(low), rel=0.05)


def test_an_uncertain_parameter_differs_between_windows_and_not_within():
    doubt = replace(model_error.HEDGED["rho 20% low, uncertain"], model_noise_std=0.0)
    x = doubt.windows(0)(400, torch.Generator().manual_seed(0))
    dt, mean = common.lorenz63().dt, doubt.system.rho
    rho = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rho = mean + doubt.rho_std * rho
    assert float(rho.mean()) == pytest.approx(mean, abs=0.1 * mean) and float(rho.std()) > 0.15 * mean
    torch.testing.assert_close(nk.Lorenz63(rho=rho[:, None]).step(x[:, :-1], dt), x[:, 1:])


def test_the_right_model_leaves_the_model_noise_unexplained_and_a_wrong_one_more():
    data = model_error.true_windows()
    right, wrong = (model_error.unexplained(model_error.BELIEFS[name], data) for name in ("right", "rho 20% low"))
    torch.testing.assert_close(right, torch.full((3,), model_error.NOISE, dtype=torch.float64), rtol=0.05, atol=0)
    assert wrong[1] > 5 * right[1]  # rho drives y


def test_mending_leaves_the_prior_and_its_climatology_as_they_were():
    prior = nk.NeuralIncremental.pretrained("lorenz63_small").prior
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    mended = model_error.mended(prior, model_error.true_windows(5), 1)
    assert all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())
    changed = [k for k, v in mended.state_dict().items() if not torch.equal(v, before[k])]
    assert changed and not any(k.startswith("climate.") for k in changed)


def test_the_figure_has_a_row_per_case_and_a_marker_per_method():
    panels = {"error": {"a": {"right": 0.1, "wrong": 0.5}, "b": {"right": 0.2}}, "coverage": {"a": {"wrong": 0.9}}}
    axes = plots.by_case(plots.figure(), panels, log=("error",), ideal={"coverage": 0.9})
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["right", "wrong"]
    a, b = axes[0].get_lines()[:2]
    assert list(a.get_xdata()) == [0.1, 0.5] and list(b.get_xdata()) == [0.2]
    assert a.get_marker() != b.get_marker() and axes[0].get_ylim()[0] > axes[0].get_ylim()[1]
    assert axes[0].get_xscale() == "log" and axes[1].get_xscale() == "linear"


def test_a_belief_is_mended_with_few_trajectories_or_held_with_doubt(tmp_path, monkeypatch):
    monkeypatch.setattr(model_error, "LAWS", {LAW: model_error.LAWS[LAW]})
    monkeypatch.setattr(model_error, "FEW", {"few": ("rho 20% low", 3)})
    seen = []
    monkeypatch.setattr(model_error, "mended", lambda prior, data, *args: seen.append(len(data)) or prior)
    for name in ("few", "rho 20% low, uncertain"):
        found = model_error.measure(name, TINY, tmp_path)
        assert found["laws"][LAW]["methods"]["NIDA"]["mse"] > 0
    assert seen == [3]
    assert {p.name for p in tmp_path.glob("*.ckpt")} == {"rho_20__low.ckpt", "rho_20__low__uncertain.ckpt"}


def test_errors_by_window_have_the_mean_that_is_tuned_on_and_their_chance():
    belief, law = model_error.BELIEFS["rho 20% low"], model_error.LAWS["x every 8th step"]
    neural = nk.NeuralIncremental.pretrained("lorenz63_small")
    make = model_error.with_physics(belief, neural, neural, 2)["NIDA, then 4D-Var"]
    truth, obs = common.observed(common.lorenz63(), law, 5, common.VALIDATION)
    with quiet():
        errors = model_error.by_window(make, law, 5, (0.2, 0.4))
        pairs = dict(model_error.by_noise(make, law, 5, (0.2, 0.4)))
        found = [common.lorenz63().score(make(q).assimilate(obs)["mean"], truth) for q in (0.2, 0.4)]
    assert errors.shape == (5, 2) and errors.columns.tolist() == [0.2, 0.4]
    assert pairs == pytest.approx(dict(zip((0.2, 0.4), found, strict=True)))


def test_what_a_q_is_worth_is_compared_window_by_window():
    generator = np.random.default_rng(0)
    hard = generator.exponential(size=4000)  # of each window, for every Q
    own = generator.normal(size=4000)
    found = model_error.beside(pd.DataFrame({0.2: hard, 0.4: hard + 0.1 + 0.05 * own}), 0.2)
    assert found.loc[0.2, ["difference", "difference_error"]].tolist() == [0, 0]
    assert found.loc[0.4, "difference"] == pytest.approx(0.1, abs=4 * 0.05 / 4000**0.5)
    assert found.loc[0.4, "difference_error"] == pytest.approx(0.05 / 4000**0.5, rel=0.1)
    # The chance of a root mean square, against what other draws of windows give.
    others = [generator.exponential(size=4000).mean() ** 0.5 for _ in range(400)]
    assert found.loc[0.2, "RMSE_error"] == pytest.approx(np.std(others), rel=0.2)


def test_other_seeds_stand_beside_the_right_physics():
    study = notebook.record("model_error")
    law = "x every 8th step"
    found = model_error.other_seeds(study, law, "rmse")
    again = study["beliefs"]["right, a third training"]["laws"][law]["methods"]["NIDA"]["mse"]
    assert list(found) == ["NIDA, second seed", "NIDA, third seed"]
    assert found["NIDA, third seed"] == {"right": again**0.5}


def test_what_notebook_10_says_of_the_study_is_on_record():
    """Section 4: how much larger errors are with wrong physics, and what the intervals hold then."""
    study = notebook.record("model_error")["beliefs"]
    rare, often = model_error.LAWS

    def row(belief, law, method):
        return study[belief]["laws"][law]["methods"][method]

    def error(belief, law, method):
        return row(belief, law, method)["mse"] ** 0.5

    off, one, many = ("rho 20% low", "rho 20% high"), "4D-Var", "4D-Var, 16 starts"
    for belief in off:
        for method in ("NIDA", one, many):
            worse = {law: error(belief, law, method) / error("right", law, method) for law in (rare, often)}
            assert 1.4 < worse[rare] < 2.2 and worse[often] > 3
            assert error(belief, rare, method) < 2 * error(belief, often, method)
            assert row(belief, rare, method)["coverage_90"] < 0.63
        assert error(belief, often, "NIDA") == pytest.approx(error(belief, often, many), rel=0.1)
        assert error(belief, rare, "NIDA") < error(belief, rare, many)
    assert error("rho 20% low", rare, f"{many}, Q from data") < error("rho 20% low", rare, "NIDA")
    noiseless = error("no model noise", rare, "NIDA")
    trained = [error(name, rare, "NIDA") for name in ("right", *model_error.AGAIN)]
    assert noiseless == pytest.approx(0.9 * min(trained), rel=0.02)
    assert error("no model noise", rare, f"{many}, Q tuned") == pytest.approx(error("right", rare, many), rel=0.01)
    low = {method: error("sigma 20% low", often, method) / error("right", often, method) for method in ("NIDA", many)}
    assert low["NIDA"] == pytest.approx(4 / 3, rel=0.05) and low[many] > 1.5
    posterior = {name: study[name]["posterior"] for name in ("right", *off)}
    assert all(posterior[name]["mse"] > 0.5 * posterior[name]["NIDA"] for name in off)
    assert posterior["right"]["mse"] < 0.5 * posterior["right"]["NIDA"]
