import numpy as np
import pytest

import nida_kit as nk
from nida_kit.experiment import METHODS, Parameters, ablate_temperature, methods_of, run
from nida_kit.priors import weights


@pytest.mark.parametrize("method", methods_of("lorenz63"))
def test_every_method_runs_on_the_same_truth_observations_and_first_guess(method):
    ds, neural = run(Parameters(method=method, samples=2, every=2)), run(Parameters(samples=2, every=2))
    for name in ("truth", "value", "noise_std", "first_guess"):
        np.testing.assert_allclose(ds[name], neural[name])
    assert np.isfinite(ds["mean"]).all() and (ds["std"] > 0).all()


def test_localisation_serves_sites_alone():
    assert methods_of("lorenz96") == list(METHODS)
    assert set(METHODS) - set(methods_of("pendulum")) == {"LETKF"}
    with pytest.raises(ValueError, match="methods that serve lorenz63"):
        Parameters(beside=("LETKF",))


def test_sites_are_reconstructed_by_every_setting_of_the_ensemble():
    found = [
        run(Parameters("lorenz96", "LETKF", **how)) for how in ({}, {"members": 5}, {"inflation": 1.2}, {"radius": 1.0})
    ]
    assert all(np.isfinite(ds["mean"]).all() for ds in found)
    assert not any(ds["mean"].equals(found[0]["mean"]) for ds in found[1:])


def test_methods_beside_are_those_methods_on_the_same_observations():
    ds = run(Parameters(beside=("4D-Var", "EnKS"), members=7))
    assert ds["beside"].dims[0] == "other" and ds["other"].values.tolist() == ["4D-Var", "EnKS"]
    for name in ds["other"].values:
        alone = run(Parameters(method=name, members=7))
        np.testing.assert_allclose(ds["beside"].sel(other=name), alone["mean"].isel(step=-1))
        assert float(ds["beside_rmse"].sel(other=name)) == pytest.approx(alone.attrs["rmse"])


def test_the_neural_method_on_its_own_starts_from_the_same_first_guess():
    ds = run(Parameters(samples=2))
    alone = nk.NeuralIncremental.pretrained("lorenz63").assimilate(ds[["value", "noise_std"]], trace=True)
    np.testing.assert_allclose(alone["first_guess"], ds["first_guess"])
    np.testing.assert_allclose(alone["mean"], ds["mean"])


def test_scores_are_those_of_numpy_in_units_of_the_climatological_spread():
    ds = run(Parameters(samples=3))
    unit = nk.setups.load("blanke2024-lorenz63").spread.mean("time").values

    def by_hand(estimate):
        return np.sqrt((((estimate - ds["truth"].values) / unit) ** 2).mean())

    assert ds.attrs["first_guess_rmse"] == pytest.approx(by_hand(ds["first_guess"].values))
    np.testing.assert_allclose(ds["step_rmse"], [by_hand(mean) for mean in ds["mean"].values])
    assert ds.attrs["rmse"] == pytest.approx(float(ds["step_rmse"][-1]))
    np.testing.assert_allclose((ds["component_rmse"] ** 2).mean("component"), ds["step_rmse"] ** 2)
    assert ds.attrs["observed"] == 3 * 4


def test_equal_parameters_give_equal_results_and_another_seed_others():
    first, again, other = (run(Parameters(seed=seed)) for seed in (1, 1, 2))
    assert first.drop_attrs().equals(again.drop_attrs())
    assert not first["truth"].equals(other["truth"])


def test_components_spacing_noise_and_length_are_as_asked():
    ds = run(Parameters(components=("y", "z"), every=4, noise_std=0.3, steps=16))
    seen = ds["value"].notnull().isel(sample=0)
    assert seen.sum("time").values.tolist() == [0, 4, 4]
    spread = nk.setups.load("blanke2024-lorenz63").spread.mean("time")
    np.testing.assert_allclose(ds["noise_std"], 0.3 * spread)


@pytest.mark.parametrize(
    "wrong",
    [
        {"system": "moon"},
        {"method": "guess"},
        {"beside": ("guess",)},
        {"method": "LETKF"},
        {"members": 1},
        {"inflation": 0.0},
        {"radius": -1.0},
        {"particles": 1},
        {"schedule": "up"},
        {"temperatures": 0},
        {"samples": 0},
        {"every": -1},
        {"noise_std": 0.0},
        {"temperatures": True},
        {"every": 2.0},
        {"noise_std": float("nan")},
        {"noise_std": float("inf")},
        {"noise_std": "a"},
        {"noise_std": True},
        {"seed": True},
        {"seed": -1},
    ],
)
def test_parameters_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Parameters(**wrong)


def test_the_weights_are_read_from_disk_once(monkeypatch):
    run(Parameters(seed=1))
    monkeypatch.setattr(weights, "load", None)
    run(Parameters(seed=2))
    run(Parameters(seed=2, method="optimal interpolation"))


@pytest.mark.parametrize("components", [(), ("q",)])
def test_observing_nothing_or_the_unknown_is_refused(components):
    with pytest.raises(ValueError, match=r"[Oo]bserved|Nothing"):
        run(Parameters(components=components))


def test_the_ablation_agrees_with_running_each_variant_by_itself():
    found = ablate_temperature(most=3, held=[0.5], samples=4, seed=2)
    setup = nk.setups.load("blanke2024-lorenz63")
    truth = setup.windows(4, seed=2)
    obs = setup.observe(truth, seed=3)
    variants = {"linear": [1.0, 2 / 3, 1 / 3], "geometric": [1.0, 0.5, 0.25], "s = 0.5 held": [0.5] * 3}
    for name, temperatures in variants.items():
        mean = nk.NeuralIncremental.pretrained("lorenz63", temperatures).assimilate(obs)["mean"]
        assert float(found["mse"].sel(variant=name, steps=3)) == pytest.approx(setup.score(mean, truth))
    held = nk.NeuralIncremental.pretrained("lorenz63", [0.5] * 2).assimilate(obs)["mean"]
    assert float(found["mse"].sel(variant="s = 0.5 held", steps=2)) == pytest.approx(setup.score(held, truth))


def test_held_at_a_temperature_of_one_every_step_sees_the_first_guess():
    method = nk.NeuralIncremental.pretrained("lorenz63", [1.0] * 3)
    seen = []
    method.prior.register_forward_pre_hook(lambda _, given: seen.append(given[0].mean.numpy()))
    ds = run(Parameters(samples=2))
    method.assimilate(ds[["value", "noise_std"]])
    np.testing.assert_allclose(seen, [ds["first_guess"].values] * 3)


def test_with_one_step_all_schedules_are_one():
    found = ablate_temperature(most=1, held=[1.0], samples=2)
    np.testing.assert_allclose(found["mse"], float(found["mse"][0, 0]))
