"""The spread of a field's climatology holds what few records, or few scales, do not know."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
from nida_kit.priors.calibration import _factors, held_out

SIDE, STEPS = 20, 3


def told(climatology) -> tuple[float, float]:
    return climatology.wider, climatology.unresolved


def smooth(samples: int, steps: int, seed: int) -> xr.DataArray:
    """Waves of many lengths, about 5 points, that move: smoother than any spline."""
    random = np.random.default_rng(seed)
    k = random.normal(size=(samples, 60, 2)) / 5
    speed, phase = 0.4 * random.normal(size=(samples, 60)), random.uniform(0, 2 * np.pi, (samples, 60))
    t, y, x = (np.arange(float(n)) for n in (steps, SIDE, SIDE))
    along = [np.exp(1j * np.multiply.outer(k[..., axis], place)) for axis, place in enumerate((y, x))]
    in_time = np.exp(1j * (np.multiply.outer(speed, t) + phase[..., None]))
    field = np.einsum("nwt,nwy,nwx->ntyx", in_time, *along).real * np.sqrt(2 / 60)
    return xr.DataArray(field, {"time": t, "y": y, "x": x}, ("sample", "time", "y", "x"))


def test_factors_are_those_that_errors_were_made_with():
    random = np.random.default_rng(0)
    s2 = torch.from_numpy(np.exp(random.uniform(-8, 0, 4_000)))
    e2 = (1.5**2 * s2 + 0.2**2) * torch.from_numpy(random.standard_normal(4_000)) ** 2
    wider, unresolved = _factors(e2, s2)
    assert wider == pytest.approx(1.5, rel=0.15) and unresolved == pytest.approx(0.2, rel=0.2)
    assert _factors(0.01 * s2, s2)[0] == 1.0  # what is not too sure stays as it is


def test_scales_that_are_too_sure_of_a_smooth_field_are_so_no_more():
    method = nk.OptimalInterpolation.fit_scales(smooth(10, 9, seed=0), steps=STEPS, draws=4, tolerance=1e-2)
    truth = smooth(1, STEPS, seed=1)
    obs = nk.observe(truth, fraction=0.2, noise_std=0.02, seed=2)
    plain = replace(method.climatology, wider=1.0, unresolved=0.0)
    results = [
        nk.OptimalInterpolation(each, method.labels, 1.0).assimilate(obs) for each in (plain, method.climatology)
    ]
    before, after = (float(nk.coverage(each["mean"], each["std"], truth)) for each in results)
    assert before < 0.7 < 0.8 < after
    seen, last = obs["value"].notnull(), results[1]
    own = np.hypot(0.02, obs["value"] - last["mean"])
    assert (last["std"].where(seen) <= own * 1.001).sum() == seen.sum()
    with pytest.warns(UserWarning, match="Draws are smoother than the field"):
        method.sample(obs, samples=2)


def test_a_value_that_the_answer_misses_is_not_known_to_its_own_error():
    method = nk.OptimalInterpolation.fit_scales(smooth(10, 9, seed=0), steps=STEPS, draws=4, tolerance=1e-2)
    climatology = replace(method.climatology, wider=1.0, unresolved=0.9)
    n = SIDE**2
    std, mean, value = torch.full((1, n), 0.01), torch.zeros(1, n), torch.full((1, n), torch.nan)
    value[0, 0], value[0, 1] = 0.3, 0.0
    told = climatology.told(std, mean, value, torch.full((1, n), 0.1))[0] / 1.0
    assert told[0] == pytest.approx(np.hypot(0.1, 0.3), rel=1e-5) and told[1] == pytest.approx(0.1, rel=1e-5)
    assert (told[2:] > 0.5).all() and (told[2:] <= climatology.spread[2:]).all()


def test_few_records_are_known_to_be_few():
    past, truth = smooth(12, 12, seed=0), smooth(10, STEPS, seed=1)
    method = nk.OptimalInterpolation.fit_field(past, steps=STEPS, modes=60)
    obs = nk.observe(truth, fraction=0.05, noise_std=0.1, seed=2)
    result = method.assimilate(obs)
    ratio = float(nk.spread_error_ratio(result["mean"], result["std"], truth))
    plain = replace(method.climatology, wider=1.0, unresolved=0.0)
    before = nk.OptimalInterpolation(plain, method.labels, 1.0).assimilate(obs)
    assert float(nk.spread_error_ratio(before["mean"], before["std"], truth)) < 0.9 < ratio < 1.6
    assert (
        method.settings["wider"] == pytest.approx(method.climatology.wider, rel=0.01) and method.climatology.wider > 1.2
    )


def test_nothing_is_known_worse_than_before_anything_was_seen():
    method = nk.OptimalInterpolation.fit_field(smooth(12, 12, seed=0), steps=STEPS, modes=60)
    spread = method.climatology.spread.view(SIDE, SIDE).numpy()
    nothing = nk.observe(smooth(1, STEPS, seed=1), fraction=0.05, noise_std=0.1, seed=2)
    nothing["value"] = nothing["value"] * np.nan
    with pytest.warns(UserWarning, match="Nothing is observed"):
        alone = method.assimilate(nothing)["std"]
    np.testing.assert_allclose(alone, np.broadcast_to(spread, alone.shape), rtol=0.05)
    forecast = nk.ClimatologicalForecast(method.climatology, method.labels, 1.0)
    seen = nk.observe(smooth(1, STEPS, seed=1), fraction=0.2, noise_std=0.1, seed=2)
    std = forecast.assimilate(seen)["std"]
    np.testing.assert_allclose(std, np.broadcast_to(spread, std.shape))


def test_what_is_held_out_is_not_fitted():
    records = torch.rand(20, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    own, windows = held_out(records, 2, 8)
    assert torch.equal(own, records[:18]) and set(windows.unique().tolist()) <= set(records[18:].unique().tolist())
    long = torch.arange(100.0)[None, :, None, None].expand(1, 100, 4, 4)
    own, windows = held_out(long, 5, 20)
    assert own.shape[1] == 85 and windows[:, 0, 0].tolist() == [90.0, 95.0]
    assert held_out(long[:, :30], 5, 20)[1] is None


@pytest.mark.parametrize("every", [1, 3])
def test_windows_that_overlap_those_held_out_are_not_fitted(every):
    record = torch.rand(60, 2, 2, generator=torch.Generator().manual_seed(0))
    windows = torch.stack([record[k : k + 6] for k in range(0, 54, every)])
    own, held = held_out(windows, 3, 12)
    assert not set(own.unique().tolist()) & set(held.unique().tolist())
    assert len(own) == len(windows) - len(windows) // 10 - 5 // every


def test_a_past_too_short_to_hold_some_out_says_so():
    for fit in (nk.OptimalInterpolation.fit_field, nk.OptimalInterpolation.fit_scales):
        with pytest.warns(UserWarning, match="too short to hold some of it out"):
            fit(smooth(2, 13, seed=0), steps=STEPS)


def test_a_fit_that_is_worse_than_the_mean_of_the_past_says_so():
    noise = torch.randn(10, 12, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    own = {"time": range(12), "y": range(8), "x": range(8)}
    past = xr.DataArray(noise.numpy(), own, ("sample", "time", "y", "x"))
    with pytest.warns(UserWarning, match="the mean of the past is better"):
        nk.OptimalInterpolation.fit_field(past, steps=3)


def test_calibration_is_kept_in_files(tmp_path):
    for fit in (nk.OptimalInterpolation.fit_scales, nk.OptimalInterpolation.fit_field):
        method = fit(smooth(12, 12, seed=0), steps=STEPS)
        nk.save(method, tmp_path / "mine.safetensors")
        again = nk.OptimalInterpolation.load(tmp_path / "mine.safetensors")
        assert told(again.climatology) == told(method.climatology) != (1.0, 0.0)
        assert again.settings.items() >= {k: method.settings[k] for k in ("wider", "unresolved")}.items()


def test_calibration_is_kept_by_a_network_and_in_its_file(tmp_path):
    climatology = replace(
        nk.FieldClimatology.fit(torch.randn(4, 12, 16, 16, generator=torch.Generator().manual_seed(0)), 3, 20),
        wider=1.3,
        unresolved=0.2,
    )
    prior = nk.FieldPrior(climatology, steps=3, width=4, deep=4)
    labels = nk.GridLabels({"y": range(16), "x": range(16)})
    nk.save(prior, tmp_path / "mine.safetensors", nk.Card(labels, 1.0))
    again, _ = nk.load(tmp_path / "mine.safetensors")
    of_file = nk.OptimalInterpolation.load(tmp_path / "mine.safetensors").climatology
    assert told(prior.climatology) == told(again.climatology) == told(of_file) == (1.3, 0.2)
    other = nk.FieldPrior(replace(climatology, wider=1.0), steps=3, width=4, deep=4)
    other.load_state_dict(prior.state_dict())
    assert told(other.climatology) == told(copy.deepcopy(other).float().climatology) == (1.3, 0.2)
    assert not any(x.dtype == torch.float64 for x in (*other.parameters(), *other.buffers()))
    other.load_state_dict(dict(other.named_parameters()), strict=False)
    assert told(other.climatology) == (1.3, 0.2)
    other.load_state_dict({k: v for k, v in prior.state_dict().items() if k != "climate.told"})  # an older one
    assert told(other.climatology) == (1.0, 0.0)
