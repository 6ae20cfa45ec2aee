from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
from nida_kit.gaussian import Gaussian
from nida_kit.linalg import fields
from nida_kit.linalg.rows import Diagonal, Sparse, Whole
from nida_kit.methods.interpolation import posterior_of
from nida_kit.observing.observations import Observations
from nida_kit.priors.modes import departures

SHAPE, STEPS, N = (20, 18), 3, 360


def sea():
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[12:, 12:] = False
    return mask


def climate(**settings):
    spread = torch.linspace(0.5, 2.0, N).view(SHAPE)
    return nk.MultiscaleClimatology.of(
        SHAPE, length=3.0, time=2.0, steps=STEPS, mean=4.0, spread=spread, sea=sea(), **settings
    )


def covariance(of):
    """Of a window, N = T n, dense."""
    generator = of.generator(STEPS)
    L = generator.push(torch.eye(generator.noise[-1]).unsqueeze(1)).flatten(1).double().mT
    return L @ L.mT


def at_cells(of):
    generator = torch.Generator().manual_seed(5)
    weight = 3 * ((torch.rand(STEPS, N, generator=generator) < 0.1) & of.varies).float()
    residual = weight * torch.randn(STEPS, N, generator=generator)
    return Gaussian.of(of.mean.expand(STEPS, -1), Diagonal(weight), residual), torch.diag(weight.flatten())


def between_cells(of):
    generator = torch.Generator().manual_seed(6)
    at = torch.nonzero(of.varies.repeat(STEPS)).squeeze(-1)
    index = at[torch.randint(len(at), (40, 4), generator=generator)]
    rows = Sparse(index, torch.rand(40, 4, generator=generator), (STEPS, N))
    residual = torch.randn(1, 40, generator=generator)
    return Gaussian.of(of.mean.expand(STEPS, -1), rows, residual), rows.flat


def dense(of, J, residual):
    C, J = covariance(of), J.double()
    K = torch.linalg.solve(J @ C @ J.mT + torch.eye(len(J), dtype=J.dtype), J @ C).mT
    return -(K @ residual.flatten().double()), C - K @ J @ C


def test_its_variance_is_the_spread_at_sea_and_nothing_on_land():
    of = climate()
    variance = covariance(of).diagonal().view(STEPS, N)
    right = (of.spread.square() * of.varies).double()
    torch.testing.assert_close(variance, right.expand(STEPS, -1), rtol=1e-4, atol=1e-6)
    assert int(of.varies.sum()) == int(sea().sum())


@pytest.mark.parametrize("length", [3.0, 4.0, 10.0])
def test_its_correlation_over_distance_and_time_is_about_the_one_asked_for(length):
    of = nk.MultiscaleClimatology.of((65, 65), length, time=2.0, steps=3)
    generator = of.generator(3)
    middle = torch.zeros(3, 65 * 65)
    middle[0, 32 * 65 + 32] = 1.0
    row = generator.push(generator.pull(middle)).view(3, 65, 65)
    r = torch.arange(33)
    target = torch.exp(-((r / length) ** 2) / 2)
    assert (row[0, 32, 32:] - target).abs().max() < 0.1
    assert (row[0, 32:, 32] - target).abs().max() < 0.1
    torch.testing.assert_close(row[:, 32, 32], torch.exp(-((torch.arange(3) / 2.0) ** 2) / 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("observed", [at_cells, between_cells])
def test_its_answer_is_that_of_dense_algebra(observed):
    of = climate(tolerance=1e-5, draws=32)
    statement, J = observed(of)
    found = of.posterior(statement)
    mean, left = dense(of, J, statement.residual[0])
    assert ((found.mean - of.mean).flatten() - mean).norm() < 1e-3 * mean.norm()
    at = of.varies.repeat(STEPS)
    ratio = found.std.flatten()[at] / left.diagonal()[at].sqrt()
    assert 0.95 < ratio.mean() < 1.1  # points beside one that was seen lend it some of their spread
    assert ratio.std() < 0.25


@pytest.mark.parametrize("exact", [10, 100, 1000])
def test_however_exact_the_observations_its_mean_is_within_its_spread(exact):
    of = climate(draws=1)
    generator = torch.Generator().manual_seed(5)
    seen = (torch.rand(STEPS, N, generator=generator) < 0.1) & of.varies
    weight = exact * seen / of.spread
    truth = of.drawn_before(STEPS, 7)
    error = torch.randn(STEPS, N, generator=generator)
    residual = weight * (of.mean - truth) + seen * error
    found = of.posterior(Gaussian.of(of.mean.expand(STEPS, -1), Diagonal(weight), residual))
    mean, left = dense(of, torch.diag(weight.flatten()), residual)
    at = of.varies.repeat(STEPS)
    off = ((found.mean - of.mean).flatten() - mean)[at].square() / left.diagonal()[at]
    assert off.mean().sqrt() < 0.25


def test_where_nothing_is_seen_the_spread_is_the_climatology_s_whatever_the_draws():
    of = climate(draws=1)
    nothing = Gaussian.of(of.mean.expand(STEPS, -1), Diagonal(torch.zeros(STEPS, N)), torch.zeros(STEPS, N))
    std = of.posterior(nothing).std
    at = of.varies
    torch.testing.assert_close(std[:, at], of.spread[at].double().expand(STEPS, -1), rtol=1e-4, atol=0)


def test_draws_vary_as_dense_algebra_says():
    of = climate(tolerance=1e-4)
    statement, J = at_cells(of)
    noise = torch.randn(2, 1500, STEPS, N, generator=torch.Generator().manual_seed(1))
    draws = of.posterior(statement).sample(noise).flatten(1)
    _, left = dense(of, J, statement.residual[0])
    scale = left.diagonal().sqrt().clamp(min=1e-6)
    found = torch.cov(draws.mT) / scale / scale[:, None]
    at = of.varies.repeat(STEPS)
    off = (found - left / scale / scale[:, None])[at][:, at]
    # A sampled correlation is off by (1 + rho^2)^(1/2) / sqrt(1500), 0.037 at most.
    assert off.square().mean().sqrt() < 0.037


def test_a_record_gives_back_the_scales_that_it_was_made_of():
    of = nk.MultiscaleClimatology.of((48, 40), length=4.0, time=2.0, steps=12, mean=1.0, spread=2.0)
    past = torch.stack([of.drawn_before(12, k) for k in range(60)]).unflatten(-1, of.shape)
    found = nk.MultiscaleClimatology.fit(past, steps=4)
    for lag in range(4):
        target = np.exp(-((lag / 2.0) ** 2) / 2)
        assert float(torch.tensor(found.shares) @ found.memory[:, lag]) == pytest.approx(target, abs=0.05)
    line = [covariance_in_line(each) for each in (of, found)]
    assert (line[0] - line[1]).abs().max() < 0.05
    assert found.spread.mean() == pytest.approx(2.0, rel=0.05)


def covariance_in_line(of):
    generator = of.generator(1)
    middle = torch.zeros(1, of.spread.numel())
    middle[0, 24 * 40 + 20] = 1 / of.spread[24 * 40 + 20]
    row = generator.push(generator.pull(middle))[0] / of.spread
    return row.view(of.shape)[24]


@pytest.mark.parametrize(
    "of",
    [
        climate(draws=2, seed=4),
        nk.MultiscaleClimatology.of(SHAPE, 3.0, 2.0, STEPS),
        replace(climate(draws=2), origin=(0, 256), largest=500.0),  # a part of a larger field
    ],
)
def test_it_comes_back_from_a_file_as_it_was(of, tmp_path):
    interpolation, (_, obs) = method(of), field(of)
    obs = obs.assign(value=obs["value"].where(xr.DataArray(of.sea.numpy() > 0, dims=("y", "x"))))
    nk.save(interpolation, tmp_path / "scales.safetensors")
    again = nk.method_of(tmp_path / "scales.safetensors")
    assert again.settings | {"weights": ""} == interpolation.settings | {"weights": ""}
    assert (again.climatology.mask is None) == (of.mask is None)
    assert (again.climatology.origin, again.climatology.largest) == (of.origin, of.largest)
    wanted = interpolation.assimilate(obs)
    xr.testing.assert_equal(again.assimilate(obs)[["mean", "std"]], wanted[["mean", "std"]])
    tensors = of.packed()
    with pytest.raises(ValueError, match="spread has the shape"):
        nk.MultiscaleClimatology.unpacked(tensors | {"spread": tensors["spread"][1:]})


def test_parts_of_a_field_are_drawn_as_the_whole_is():
    of = nk.MultiscaleClimatology.of((160, 96), length=3.0, time=2.0, steps=2, seed=3)
    whole = of.drawn_before(2, 0).view(2, 160, 96)
    y, x = slice(64, 144), slice(16, 80)
    part = of.part(y, x).drawn_before(2, 0).view(2, 80, 64)
    inner = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(part[inner], whole[:, y, x][inner], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="multiples of"):
        of.part(slice(3, 80), x)


def field(of, seed=0):
    """A truth and what is seen of it, labelled."""
    value = of.drawn_before(of.memory.shape[-1], 1000 + seed).unflatten(-1, of.shape).numpy().astype(float)
    dims = ("time", "y", "x")
    coords = {dim: np.arange(n, dtype=float) for dim, n in zip(dims, value.shape, strict=True)}
    truth = xr.DataArray(value, coords, dims)
    return truth, nk.observe(truth, fraction=0.1, noise_std=0.1, seed=seed)


def method(of):
    labels = nk.GridLabels({dim: np.arange(n, dtype=float) for dim, n in zip("yx", of.shape, strict=True)})
    return nk.OptimalInterpolation(of, labels, 1.0)


def test_fields_are_reconstructed_with_a_spread_that_covers_and_without_false_alarms():
    of = nk.MultiscaleClimatology.of((65, 65), length=4.0, time=2.0, steps=5)
    truth, obs = field(of)
    result = method(of).assimilate(obs)
    assert nk.mse(result["mean"], truth) < 0.05
    assert 0.85 < nk.coverage(result["mean"], result["std"], truth) < 0.93
    assert float(result["std"].where(obs["value"].notnull()).max()) <= 0.1 * (1 + 1e-6)  # no worse than what was seen
    assert "note" not in result.attrs
    draws = method(of).sample(obs, samples=2, seed=0)
    assert 1.5 < float(((draws - truth) ** 2).mean() / nk.mse(result["mean"], truth)) < 2.5


def test_the_finest_scales_take_more_noise_than_values_and_are_drawn_too():
    of = nk.MultiscaleClimatology.of((17, 17), length=1.0, time=2.0, steps=2)
    _, obs = field(of)
    draws = method(of).sample(obs, samples=3, seed=0)
    off = (draws - method(of).assimilate(obs)["mean"]).std()
    assert method(of).noise_layers == 3
    assert 0.5 < float(off) < 1.5


def test_its_marginals_are_those_of_its_posterior():
    of = climate()
    statement, _ = at_cells(of)
    marginals, posterior = of.given(statement), of.posterior(statement)
    torch.testing.assert_close(marginals.mean.double(), posterior.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(marginals.std.double(), posterior.std, rtol=1e-5, atol=0)


def test_it_is_fitted_to_a_labelled_record_and_takes_the_mask_of_the_sea():
    of = nk.MultiscaleClimatology.of((33, 33), length=4.0, time=2.0, steps=10)
    past = xr.concat([field(of, k)[0] for k in range(20)], "sample")
    mask = xr.ones_like(past.isel(sample=0, time=0), dtype=bool)
    mask[20:, 20:] = False
    fitted = nk.OptimalInterpolation.fit_scales(past.where(mask), steps=5, sea=mask.transpose("x", "y"))
    assert (fitted.climatology.varies.view(33, 33).numpy() == mask.values).all()
    truth, obs = field(of, 99)
    obs = obs.isel(time=slice(5)).assign(value=obs["value"].where(mask))
    error = (fitted.assimilate(obs)["mean"] - truth).where(mask)
    assert (error**2).mean() < 0.15


def test_values_between_the_points_go_through_the_same_solve():
    of = nk.MultiscaleClimatology.of((33, 33), length=4.0, time=2.0, steps=6)
    truth, _ = field(of)
    numbers = np.random.default_rng(0)
    points = xr.Dataset(coords={d: ("obs", numbers.uniform(0, n, 500)) for d, n in (("time", 5), ("y", 32), ("x", 32))})
    obs, between = nk.grid(
        nk.observe(truth, at=points, noise_std=0.1, seed=1), method(of), start=0.0, steps=6, exact=True
    )
    result = method(of).assimilate(obs, operator=between)
    assert nk.mse(result["mean"], truth) < 0.15


def test_what_cannot_be_used_is_refused():
    of = climate()
    fit, past = nk.MultiscaleClimatology.fit, torch.randn(3, 12, 8, 8)
    with pytest.raises(ValueError, match="no field to reconstruct"):
        nk.MultiscaleClimatology.of(SHAPE, 3.0, 2.0, sea=torch.zeros(SHAPE, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask of"):
        nk.MultiscaleClimatology.of(SHAPE, 3.0, 2.0, sea=torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="In grid points"):
        nk.MultiscaleClimatology.of(SHAPE, 0.1, 2.0)
    with pytest.raises(ValueError, match=r"astype\('float32'\)"):
        fit(past.half(), steps=3)
    with pytest.raises(ValueError, match="need records of 16"):
        fit(past, steps=8)
    with pytest.raises(ValueError, match="without gaps"):
        fit(torch.where(past > 2, torch.nan, past), steps=3)
    with pytest.raises(ValueError, match="no field to reconstruct"):
        fit(past, steps=3, sea=torch.zeros(8, 8, dtype=torch.bool))
    on_land = Observations(torch.ones(STEPS, N), torch.ones(STEPS, N))
    with pytest.raises(ValueError, match="lie on land"):
        posterior_of(of, on_land)
    with pytest.raises(ValueError, match="Cycled"):
        posterior_of(of, Observations(torch.ones(9, N), torch.ones(9, N)))
    whole = Gaussian.of(of.mean.expand(STEPS, -1), Whole(torch.zeros(1, STEPS, N)), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="at points of its grid"):
        of.posterior(whole)
    with pytest.raises(ValueError, match="draws=0"):
        replace(of, draws=0)


@pytest.mark.parametrize(
    ("fit", "given"),
    [
        ("fit_field", {"modes": 5}),
        ("fit_ensemble", {"members": 5, "octaves": 1}),
        ("fit_scales", {}),
    ],
)
def test_one_record_of_a_field_is_fitted_as_it_is(fit, given):
    past = nk.QuasiGeostrophic(cells=9).simulate(samples=1, steps=12, dt=5.0, seed=0)
    seen = past.isel(sample=0, y=slice(None, None, -1))  # as latitudes often come
    found, wanted = (getattr(nk.OptimalInterpolation, fit)(x, steps=3, **given) for x in (seen, past))
    obs = nk.observe(past.isel(time=slice(3)), fraction=0.3, noise_std=0.1, seed=0)
    xr.testing.assert_allclose(
        found.assimilate(obs.sel(y=seen.y))["mean"].sel(y=past.y), wanted.assimilate(obs)["mean"], rtol=0.05, atol=0.05
    )


def test_a_record_of_a_field_that_cannot_be_fitted_hears_what_to_give():
    past = nk.QuasiGeostrophic(cells=9).simulate(samples=1, steps=12, dt=5.0, seed=0)
    with pytest.raises(ValueError, match=r"records\[None\]"):
        departures(torch.zeros(12, 9, 9))
    with pytest.raises(ValueError, match="Give the whole record"):
        nk.OptimalInterpolation.fit_scales(nk.windows(past[0], steps=3), steps=3)
    with pytest.raises(ValueError, match=r"nk.windows\(record, steps\).*fit_field\(record\)"):
        nk.OptimalInterpolation.fit(past[0])


@pytest.mark.parametrize("fit", ["fit_field", "fit_ensemble", "fit_scales"])
def test_records_in_half_precision_are_refused_by_all_fits(fit):
    past = nk.QuasiGeostrophic(cells=9).simulate(samples=2, steps=8, dt=5.0, seed=0).astype(np.float16)
    with pytest.raises(ValueError, match=r"float16.*astype\('float32'\)"):
        getattr(nk.OptimalInterpolation, fit)(past, steps=2)


def test_grids_unlike_the_climatology_s_are_refused():
    of = nk.MultiscaleClimatology.of((6, 8), length=2.0, time=2.0, steps=2)
    with pytest.raises(ValueError, match="uneven along 'x'"):
        nk.OptimalInterpolation(of, nk.GridLabels({"y": range(6), "x": [0, 1, 2, 3, 4, 5, 6, 9]}), 1.0)
    with pytest.raises(ValueError, match=r"\(6, 8\) points"):
        nk.OptimalInterpolation(of, nk.GridLabels({"y": range(8), "x": range(6)}), 1.0)
    _, obs = field(of)
    with pytest.raises(ValueError, match=r"2\.5"):
        method(of).assimilate(obs.assign_coords(y=2.5 * obs["y"]))


def test_large_fields_go_step_by_step_and_come_out_the_same(monkeypatch):
    generator = climate().generator(STEPS)
    z, w = torch.randn(2, *generator.noise), torch.randn(2, STEPS, N)
    x, back = generator.push(z), generator.pull(w)
    monkeypatch.setattr(fields, "_LARGE", 1)
    torch.testing.assert_close(generator.push(z), x)
    torch.testing.assert_close(generator.pull(w), back)


def test_walls_that_do_not_vary_may_be_observed():
    past = torch.randn(4, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    past[..., 0] = 3.0
    of = nk.MultiscaleClimatology.fit(past, steps=3)
    found = posterior_of(of, Observations(torch.full((3, 64), 3.1), torch.full((3, 64), 0.5)))
    assert (found.mean.view(3, 8, 8)[..., 0] == 3.0).all()
    assert (found.std.view(3, 8, 8)[..., 0] < 0.01).all()
