"""The network for fields, and NIDA with it, on a small field."""

import numpy as np
import pytest
import torch
from drifting import drifting

import nida_kit as nk
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Diagonal
from nida_kit.methods.interpolation import first_guess_of
from nida_kit.methods.neural import steps_of_field
from nida_kit.observing.observations import Observations
from nida_kit.priors.drawn import Drawn

PAST = drifting(30, 60, seed=0)
INTERPOLATION = nk.OptimalInterpolation.fit_field(PAST, steps=4, modes=80)
TRUTH = drifting(3, 4, seed=1)


def some(truth, share=0.15, seed=0):
    seen = np.random.default_rng(seed).random(truth.shape) < share
    return nk.observe(truth, noise_std=0.3, seed=2).assign(value=lambda ds: ds["value"].where(seen))


def _tensors(obs):
    value = torch.from_numpy(obs["value"].values).flatten(-2).float()
    return Observations(value, torch.full_like(value, float(obs["noise_std"])))


def network(**settings):
    torch.manual_seed(0)
    prior = nk.FieldPrior(INTERPOLATION.climatology, steps=4, **({"width": 8, "deep": 8} | settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # as a trained one has
        for head in (prior.correction, prior.fine, prior.coarse):
            head.weight.normal_(0, 0.05, generator=generator)
    return prior


METHOD = nk.NeuralIncremental(network(), INTERPOLATION.labels, 5.0)


def test_interpolation_of_a_field_is_better_than_its_climatology_and_knows_how_good_it_is():
    obs = some(TRUTH)
    result = INTERPOLATION.assimilate(obs)
    alone = nk.ClimatologicalForecast(INTERPOLATION.climatology, INTERPOLATION.labels, 5.0).assimilate(obs)
    assert result["mean"].dims == TRUTH.dims
    assert nk.rmse(result["mean"], TRUTH) < 0.5 * nk.rmse(alone["mean"], TRUTH)
    assert 0.75 < float(nk.coverage(result["mean"], result["std"], TRUTH)) < 0.99


def test_untrained_the_network_stays_near_its_first_guess():
    prior = nk.FieldPrior(INTERPOLATION.climatology, steps=4, width=8, deep=8)
    obs = some(TRUTH)
    guess, result = (
        INTERPOLATION.assimilate(obs),
        nk.NeuralIncremental(prior, INTERPOLATION.labels, 5.0).assimilate(obs),
    )
    assert nk.rmse(result["mean"], guess["mean"]) < 0.3 * nk.rmse(guess["mean"], TRUTH)


def test_what_it_says_is_bounded_by_the_spread_of_the_first_guess():
    prior = network()
    with torch.no_grad():
        prior.fine.bias.fill_(1e6)
    shape = 2, 4, 17 * 17
    sd = 0.1 + torch.rand(shape, generator=torch.Generator().manual_seed(0))
    local = prior(Gaussian.of(torch.zeros(shape), Diagonal(1 / sd)), 1.0)
    scale = float(prior.climatology.spread.square().mean().sqrt())
    finest = local.generator.amplitude[0]
    assert finest.max() <= (float(sd.max()) + 0.005 * scale) * np.exp(-1.5 + 2) * 1.0001
    assert finest.max() > 0.5 * float(sd.min())


def test_windows_may_be_shorter_and_records_longer():
    obs = some(TRUTH)
    short = METHOD.assimilate(obs.isel(time=slice(0, 2)))
    assert short.sizes["time"] == 2
    with pytest.raises(ValueError, match=r"nk.Cycled\(method, window=4\)"):
        METHOD.assimilate(some(PAST.isel(sample=[0], time=slice(0, 6))))
    whole = nk.OptimalInterpolation(INTERPOLATION.climatology, INTERPOLATION.labels, 5.0)
    with pytest.raises(ValueError, match=r"over 4: nk.Cycled\(method, window=4\).*steps=4.*fit it with steps=6"):
        whole.assimilate(some(PAST.isel(sample=[0], time=slice(0, 6))))
    long = PAST.isel(sample=0, time=slice(0, 10))
    cycled = nk.Cycled(METHOD, window=4, overlap=2).assimilate(some(long))
    assert nk.rmse(cycled["mean"], long) < 0.7 * float(long.std())


def test_results_do_not_depend_on_the_windows_beside_them():
    obs = some(TRUTH)
    both, one = METHOD.assimilate(obs, trace=True), METHOD.assimilate(obs.isel(sample=[1]), trace=True)
    for name in ("mean", "std"):
        np.testing.assert_allclose(one[name].values, both[name].isel(sample=[1]).values, rtol=0, atol=1e-3)
    assert (both["std"] > 0).all()
    lazily = METHOD.assimilate(obs.chunk(sample=1))
    np.testing.assert_allclose(lazily["mean"].values, both["mean"].isel(step=-1).values, rtol=0, atol=1e-3)


def test_a_result_says_how_far_conjugate_gradients_came():
    obs = some(TRUTH)
    result = METHOD.assimilate(obs)
    assert result["solver_iterations"].dims == ("sample",) and (result["solver_residual"] <= 1e-3).all()
    alone = METHOD.with_temperatures([1.0]).assimilate(obs)
    assert (alone["solver_iterations"] > 0).all()
    assert (alone["solver_iterations"] < result["solver_iterations"]).all()  # of both temperatures
    assert "solver_residual" not in INTERPOLATION.assimilate(obs)  # solved directly


@pytest.mark.parametrize("noise_std", [3e-3, 1e-8])
def test_very_exact_observations_are_met_and_make_nothing_worse(noise_std):
    seen = some(TRUTH)["value"].notnull()
    exact = nk.observe(TRUTH, noise_std=noise_std, seed=2).assign(value=lambda ds: ds["value"].where(seen))
    result = METHOD.assimilate(exact)
    assert "converged" not in result.attrs["note"] and np.isfinite(result["std"]).all()
    assert "the answer is better with noise_std=(noise_std**2 + " in result.attrs["note"]
    assert "is better with" not in METHOD.assimilate(some(TRUTH)).attrs.get("note", "")
    assert nk.rmse(result["mean"], TRUTH) < nk.rmse(METHOD.assimilate(some(TRUTH))["mean"], TRUTH)
    assert float(np.abs(result["mean"] - TRUTH).where(seen).max()) < 0.05 * float(TRUTH.std())


def test_its_spread_has_what_its_noise_cannot_hold():
    start = first_guess_of(INTERPOLATION.climatology, _tensors(some(TRUTH)))
    *_, last = steps_of_field(METHOD.prior, [1.0, 0.5], _tensors(some(TRUTH)), start)
    alone = Drawn(last, METHOD.prior.climatology, float(METHOD.prior.wider)).std
    expected = (alone.square() + METHOD.prior.climatology.left_over / 2 * METHOD.prior.climatology.varies).sqrt()
    with torch.no_grad():
        found = METHOD.assimilate(some(TRUTH))["std"].values.reshape(3, 4, -1)
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-2)  # solved to a tolerance


def test_a_gross_error_is_said_and_nothing_else():
    obs = some(TRUTH)
    assert "misses" not in METHOD.assimilate(obs).attrs.get("note", "")
    where = np.argwhere(obs["value"][1].notnull().values)[50]
    obs["value"][(1, *where)] += 4 * float(TRUTH.std())
    assert "In 1 of 3 windows the answer misses what was observed" in METHOD.assimilate(obs).attrs["note"]


def test_what_makes_fields_worse_is_said():
    with pytest.warns(UserWarning, match="temperatures=3: this network is trained for 2"):
        METHOD.with_temperatures(3)
    result = METHOD.assimilate(some(TRUTH), robust="student")
    assert "robust= makes this method's fields worse" in result.attrs["note"]
    assert "robust" not in METHOD.assimilate(some(TRUTH)).attrs.get("note", "")


def test_draws_spread_as_the_std_says():
    drawn = METHOD.sample(some(TRUTH), 200, seed=3)
    result = METHOD.assimilate(some(TRUTH))
    inner = {"y": slice(2, -2), "x": slice(2, -2)}
    ratio = drawn.std("member").isel(inner).mean() / result["std"].isel(inner).mean()
    assert 0.7 < float(ratio) < 1.05  # the std has a floor and its share of neighbours
    assert nk.rmse(drawn.mean("member"), result["mean"]) < 0.2 * float(result["std"].mean()) + 0.02


def test_a_file_keeps_the_network(tmp_path):
    nk.save(METHOD.prior, tmp_path / "mine.safetensors", nk.Card(INTERPOLATION.labels, 5.0))
    again = nk.NeuralIncremental.pretrained(tmp_path / "mine.safetensors")
    assert again.temperatures == [1.0, 0.5]
    obs = some(TRUTH)
    first, second = METHOD.assimilate(obs), again.assimilate(obs)
    assert nk.rmse(first["mean"], second["mean"]) < 0.15 * nk.rmse(first["mean"], TRUTH)
    truth, finer = drifting(2, 4, seed=5, side=33), nk.QuasiGeostrophic(cells=33).labels
    fine = nk.NeuralIncremental.pretrained(tmp_path / "mine.safetensors", labels=finer)
    assert nk.rmse(fine.assimilate(some(truth))["mean"], truth) < 0.5 * float(truth.std())
    with pytest.raises(ValueError, match=r"grid of \(33, 33\) points.*pretrained\(.*mine.safetensors', labels="):
        again.assimilate(some(truth))
    elsewhere = nk.GridLabels({"y": range(33), "x": range(33)}, "1", "streamfunction")
    with pytest.raises(ValueError, match=r"same ends.*\[\(33, 33\), \(65, 65\)\] points and so on"):
        nk.NeuralIncremental.pretrained(tmp_path / "mine.safetensors", labels=elsewhere)
    with pytest.raises(ValueError, match="serves"):
        nk.NeuralIncremental.pretrained(tmp_path / "mine.safetensors", labels=nk.QuasiGeostrophic(cells=20).labels)


def test_points_between_cells_are_taken_as_they_come():
    truth = TRUTH.isel(sample=0, drop=True)
    where = nk.tracks(truth, repeat=20.0, passes=6, seed=1)
    measured = nk.observe(truth, at=where, noise_std=0.3, seed=3)
    obs, between = nk.grid(measured, INTERPOLATION, dt=5.0, start=float(truth.time[0]), steps=4, exact=True)
    result = METHOD.assimilate(obs, operator=between)
    assert nk.rmse(result["mean"], truth) < float(truth.std())
    draws = METHOD.sample(obs, 2, operator=between)
    assert draws.sizes["member"] == 2


def test_what_knows_each_value_by_itself_draws_no_fields():
    for method in (INTERPOLATION, nk.ClimatologicalForecast(INTERPOLATION.climatology, INTERPOLATION.labels, 5.0)):
        with pytest.raises(ValueError, match=r"not how they vary together.*nk.NeuralIncremental"):
            method.sample(some(TRUTH), 2)


def test_a_window_without_observations_is_solved_without_a_word():
    obs = some(TRUTH)
    obs["value"][1] = np.nan
    result = METHOD.assimilate(obs)
    assert "not converged" not in result.attrs["note"]
    assert np.isfinite(result["mean"]).all()


def test_other_numbers_make_another_first_guess():
    prior = network()
    before = prior.climatology.patterns.clone()
    state = prior.state_dict()
    prior.load_state_dict({k: 2 * v if k == "climate.modes" else v for k, v in state.items()})
    torch.testing.assert_close(prior.climatology.patterns, 2 * before)


def test_a_finer_grid_leaves_torchs_random_numbers_alone():
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    network_ = METHOD.prior.on((33, 33))
    assert network_.octaves == 1
    assert torch.equal(torch.rand(1), first)


def test_a_file_keeps_no_finer_grid(tmp_path):
    labels = nk.QuasiGeostrophic(cells=33).labels
    with pytest.raises(ValueError, match="take that to the finer grid when it is read"):
        nk.save(METHOD.prior.on((33, 33)), tmp_path / "fine.safetensors", nk.Card(labels, 5.0))


def test_what_lies_elsewhere_or_is_too_small_is_refused(tmp_path):
    nk.save(METHOD.prior, tmp_path / "mine.safetensors", nk.Card(INTERPOLATION.labels, 5.0))
    twice = nk.GridLabels({"y": np.linspace(0, 2, 33), "x": np.linspace(0, 2, 33)})
    for labels in (twice, nk.GridLabels({"y": np.linspace(0, 1, 33), "x": np.linspace(0, 1, 33)}, "km")):
        with pytest.raises(ValueError, match="a finer grid has the same ends"):
            nk.NeuralIncremental.pretrained(tmp_path / "mine.safetensors", labels=labels)
    small = nk.FieldClimatology.fit(torch.from_numpy(PAST.values[:, :, :9, :9]), 4, 20)
    with pytest.raises(ValueError, match="16 or more along each side"):
        nk.FieldPrior(small)


def test_very_exact_observations_are_fitted():
    for noise in (1e-3, 1e-5):
        obs = nk.observe(TRUTH, noise_std=noise, seed=2)
        seen = np.random.default_rng(1).random(TRUTH.shape) < 0.05
        result = INTERPOLATION.assimilate(obs.assign(value=obs["value"].where(seen)))
        off = (result["mean"] - TRUTH).where(seen)
        assert float(abs(off).max()) < 10 * noise


def test_spreads_and_draws_between_points_do_not_depend_on_the_windows_beside_them():
    where = nk.tracks(TRUTH, repeat=20.0, passes=6, seed=1)
    measured = nk.observe(TRUTH, at=where, noise_std=0.3, seed=3)
    some_lost = measured["value"].where(np.random.default_rng(4).random(measured["value"].shape) < 0.7)
    obs, between = nk.grid(measured.assign(value=some_lost), INTERPOLATION, dt=5.0, start=0.0, steps=4, exact=True)
    both, one = METHOD.assimilate(obs, operator=between), METHOD.assimilate(obs.isel(sample=[0]), operator=between)
    # Conjugate gradients stop at a thousandth, when the last window has come there. One draw more changes it by 0.15.
    np.testing.assert_allclose(one["std"].values, both["std"].isel(sample=[0]).values, rtol=0, atol=5e-3)


def test_a_rougher_spread_stays_when_temperatures_change():
    method = nk.NeuralIncremental(network(), INTERPOLATION.labels, 5.0)
    method.draws = 4
    assert method.with_temperatures(1).draws == 4
