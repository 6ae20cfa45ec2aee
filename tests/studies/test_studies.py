"""The studies of error and training, small: what they claim to measure, they do."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import xarray as xr
from statements import from_precision

import nida_kit as nk
from nida_kit.linalg.banded import BlockBanded
from nida_kit.studies import common, laws, limit, training
from nida_kit.training.recipes import RECIPES

EVERY_LAW = common.LAWS | {"z only": common.Z_ONLY}


@pytest.mark.parametrize("name", EVERY_LAW)
def test_a_law_observes_what_it_says_with_its_noise(name):
    setup, law = common.lorenz63(), EVERY_LAW[name]
    truth, obs = common.observed(setup, law, 300)
    seen = obs["value"].notnull()
    assert (seen.sum(("time", "component")) > 0).all()
    exact = (
        truth if law.operator is None else (truth.sel(component="x") + truth.sel(component="z")).expand_dims("h", -1)
    )
    error = ((obs["value"].values - exact.values) / obs["noise_std"].broadcast_like(obs["value"]).values)[seen.values]
    assert float(np.std(error)) == pytest.approx(1, abs=5 / (2 * error.size) ** 0.5)


def test_three_laws_and_more_lie_outside_the_training():
    untrained = [law for law in common.LAWS.values() if not law.trained]
    recipe = RECIPES["lorenz63"]
    low, high = recipe.law["noise"]
    assert len(untrained) >= 3
    combined = any(more.combined for more in recipe.refinements)
    for law in common.LAWS.values():
        within = low <= law.noise <= high and (law.operator is None or combined) and "times" not in law.how
        assert law.trained == (within and law.how.get("every", 1) <= recipe.law["spacing"][1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_refinement_sees_linear_combinations_in_its_share_of_the_batches(share):
    recipe, prior = RECIPES["lorenz63_small"], nk.NeuralIncremental.pretrained("lorenz63_small").prior
    law, generator = recipe.observing(prior, 0.3, share), torch.Generator().manual_seed(0)
    assert {len(law((4, 32, 3), generator)) for _ in range(5)} == {3 if share else 2}  # with an operator or none


def test_training_validation_and_test_windows_differ():
    scored = {common.VALIDATION, common.VALIDATION + 1, common.TEST, common.TEST + 1, common.TEST + 2}
    refined = {more.settings.seed for recipe in RECIPES.values() for more in recipe.refinements}
    trained = {recipe.settings.seed for recipe in RECIPES.values()} | refined | {1, 2}  # budget, first guess
    assert len(scored) == 5 and not scored & trained


def test_the_limit_is_below_every_method_and_near_the_importance_weights():
    setup = common.lorenz63()
    truth, obs = common.observed(setup, common.LAWS["paper"], 12)
    methods = limit.smoothers(setup, 500, 4000)
    found = limit.limit(setup, methods, truth, obs)
    means, _, counting = limit.weighted_moments(setup, obs, 200_000)
    enough = (counting > 50).numpy()
    assert enough.sum() >= 5
    weighted = truth.copy(data=means.numpy())
    few = {"sample": enough}
    smooth = limit.posterior(methods, obs)["mean"]
    first = nk.OptimalInterpolation.fit(setup.windows(2000, seed=2)).assimilate(obs)["mean"]
    assert setup.score(smooth.isel(few), weighted.isel(few)) < 0.1 * setup.score(smooth.isel(few), first.isel(few))
    assert found["mse"] < 0.5 * setup.score(first, truth)
    assert found["mse"] == pytest.approx(setup.score(smooth, truth) - found["monte_carlo_share"])


def test_windows_with_too_few_particles_are_done_again_with_more():
    setup = common.lorenz63()
    _, obs = common.observed(setup, common.LAWS["paper"], 6)
    little, much = (limit.posterior(limit.smoothers(setup, n), obs) for n in (200, 3000))
    both = limit.posterior(limit.smoothers(setup, 200, 3000), obs)
    poor = little["effective_particles"] < limit.ENOUGH
    assert poor.any()
    for name in ("mean", "std", "mean_error"):
        np.testing.assert_array_equal(both[name], much[name].where(poor, little[name]))


def test_the_expected_ratio_is_that_of_many_truths():
    setup = common.lorenz63()
    exact = xr.Dataset({"mean": setup.windows(4, seed=3), "std": 0.3 * xr.ones_like(setup.windows(4, seed=3))})
    exact["mean_error"] = 0 * exact["std"]
    methods = {"first guess": nk.OptimalInterpolation.fit(setup.windows(2000, seed=2))}
    found = laws.beyond(setup, methods, exact)["first guess"]["expected_over_limit"]
    _, obs = common.observed(setup, common.LAWS["paper"], 4)
    estimate = methods["first guess"].assimilate(obs)["mean"]
    noise = np.random.default_rng(0).normal(size=(4000, *exact["mean"].shape))
    errors = ((estimate.values - exact["mean"].values - 0.3 * noise) / setup.spread.values) ** 2
    assert found == pytest.approx(errors.mean() / ((0.3 * noise / setup.spread.values) ** 2).mean(), rel=0.01)


def test_weights_in_pieces_are_weights_at_once():
    setup = common.lorenz63()
    _, obs = common.observed(setup, common.LAWS["noisy"], 2)
    start = setup.system.start(3000, torch.Generator().manual_seed(common.TEST + 2), torch.float64, torch.device("cpu"))
    generator = torch.Generator().manual_seed(common.TEST + 2)
    assert torch.equal(setup.system.start(3000, generator, torch.float64, torch.device("cpu")), start)
    x = setup.system.trajectories(start, setup.steps, setup.dt, setup.model_noise_std, generator).numpy()
    misfit = (x[:, None] - obs["value"].values) / obs["noise_std"].broadcast_like(obs["value"]).values
    log_p = -0.5 * np.nansum(misfit**2, (-2, -1))
    weights = np.exp(log_p - log_p.max(0))
    expected = np.einsum("nb,ntc->btc", weights / weights.sum(0), x)
    means, variances, counting = limit.weighted_moments(setup, obs, 3000)
    np.testing.assert_allclose(means, expected, rtol=1e-9)
    spread = np.einsum("nb,nbtc->btc", weights / weights.sum(0), (x[:, None] - expected) ** 2)
    np.testing.assert_allclose(variances, spread, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(counting, weights.sum(0) ** 2 / (weights**2).sum(0), rtol=1e-9)


def test_the_table_has_every_law_and_method_and_its_ratio_to_the_limit(tmp_path):
    known = {"windows": 2, "mse": 0.5}
    path = tmp_path / "limit.json"
    path.write_text(json.dumps({"lorenz63": {"paper": known}, "pendulum": known}))
    found = laws.measure(3, tmp_path)
    assert set(found["lorenz63"]) == set(EVERY_LAW)
    setup = common.lorenz63()
    truth, obs = common.observed(setup, common.LAWS["paper"], 3)
    mean = nk.NeuralIncremental.pretrained("lorenz63").assimilate(obs)["mean"]
    row = found["lorenz63"]["paper"]["shipped prior, 4 temperatures"]
    assert row["mse"] == pytest.approx(setup.score(mean, truth), rel=1e-3)
    first = {"sample": slice(0, 2)}
    assert row["mse_over_limit"] == pytest.approx(setup.score(mean.isel(first), truth.isel(first)) / 0.5, rel=1e-3)
    assert "mse_over_limit" not in found["lorenz63"]["noisy"]["optimal interpolation"]


@pytest.mark.parametrize("name", training.VARIANTS)
def test_every_variant_trains(name):
    variant = training.VARIANTS[name]
    settings = variant.settings | {"batch": 2, "longest": min(variant.settings.get("longest", 2), 2)}
    prior, minutes = training.trained(replace(variant, length=1, settings=settings), batches=2)
    untrained = RECIPES["lorenz63"].begin()
    assert minutes > 0 and isinstance(prior, nk.NeuralPrior)
    assert {"width", "odd", "order"} <= set(prior.settings)
    if prior.settings == untrained.settings:
        assert any(not torch.equal(a, b) for a, b in zip(prior.parameters(), untrained.parameters(), strict=True))


def test_a_network_that_is_not_told_the_spread_does_not_know_it():
    prior = training.VARIANTS["not told the current spread"].recipe["kind"](RECIPES["lorenz63"].begin().climatology, 16)
    torch.nn.init.normal_(prior.outside.maps[0].weight, std=0.1)
    wide = prior.climatology.over(8)
    narrow = from_precision(wide.mean, BlockBanded(100 * wide.precision.blocks))
    assert torch.equal(prior(wide, 0.5).mean, prior(narrow, 0.5).mean)


def test_records_say_how_to_make_them_again(tmp_path):
    common.record(tmp_path / "new" / "a.json", "limit", {"number": 1.5})
    found = json.loads((tmp_path / "new" / "a.json").read_text())
    assert found["number"] == 1.5
    assert found["command"] == "python -m nida_kit.studies.limit" and "torch" in found["machine"]


def dense(factor):
    """The lower triangle F of a climatology, whose row t holds F[t, t - d] at [t, d]."""
    length, n = factor.shape[1:3]
    full = factor.new_zeros(length, n, length, n)
    for t in range(length):
        for d in range(t + 1):
            full[t, :, t - d] = factor[t, d]
    return full.view(length * n, length * n)


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_prior_is_what_its_recipe_makes(name):
    prior, card = nk.load(f"{nk.__path__[0]}/pretrained/{name}.safetensors")
    recipe = RECIPES[name]
    fresh = recipe.begin()
    assert type(prior) is type(fresh) and prior.settings == fresh.settings
    one, two = prior.climatology, fresh.climatology
    factors = dense(one.factor), dense(two.factor)
    # Processors sum a million products in other orders: by some sqrt(1e6) eps of the standard deviations the
    # covariances differ, far less than by one of 10,000 windows, which is 5e-5.
    roots = [torch.linalg.solve_triangular(F, torch.eye(len(F)).double(), upper=False) for F in factors]
    std = roots[0].norm(dim=1, keepdim=True)
    of_shipped, of_fresh = ((root / std) @ (root / std).mT for root in roots)
    torch.testing.assert_close(of_fresh, of_shipped, rtol=0, atol=1e-10)
    torch.testing.assert_close(two.spread, one.spread, rtol=1e-10, atol=0)
    # That does not see the directions that hardly vary. What the shipped one calls independent and of variance 1 must
    # be so for the fresh one; there the rounding counts for as much more as the condition says. Entry by entry the
    # pendulum's factors agree to 4e-6 only.
    allowed = 1000 * torch.finfo(torch.float64).eps * float(torch.linalg.cond(factors[0] * std.mT)) ** 2
    assert allowed < 1e-3
    whitened = torch.linalg.solve_triangular(factors[1], factors[0], upper=False, left=False)
    torch.testing.assert_close(whitened, torch.eye(len(whitened)).double(), rtol=0, atol=allowed)
    apart = factors[0] @ (one.mean - two.mean).flatten()
    torch.testing.assert_close(apart, torch.zeros_like(apart), rtol=0, atol=allowed)
    # Cards that were written before validation or combinations were there say nothing of them, and there were none.
    unsaid = {"look": 50, "patience": None}
    assert unsaid | card.about["settings"] == asdict(recipe.settings)
    refined = [
        {"combined": 0.0} | more | {"settings": unsaid | more["settings"]} for more in card.about.get("refinements", [])
    ]
    assert refined == [asdict(more) for more in recipe.refinements]


def test_a_study_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    asked = []

    def begin(weights, rows="ab"):
        kept = common.Kept(tmp_path, "some", {"weights": weights})
        for name in rows:
            kept.row("rows", name, make=lambda name=name: asked.append(name) or {"error": 0.5})
        return kept.found

    begin("first", rows="a")
    assert begin("first")["rows"] == {"a": {"error": 0.5}, "b": {"error": 0.5}} and asked == ["a", "b"]
    assert begin("first")["command"] == "python -m nida_kit.studies.some" and asked == ["a", "b"]
    assert set(begin("other")["rows"]) == {"a", "b"} and asked == ["a", "b", "a", "b"]
