"""What observations show, and what they never show."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import xarray as xr
from advection import Advection
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import nida_kit as nk
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.rows import Banded, Diagonal
from nida_kit.observing.laws import either, field_mixture, mixture, regular
from nida_kit.observing.observations import Observations
from nida_kit.observing.observe import observe
from nida_kit.observing.operators import as_operator

TRUTH = nk.Lorenz63().simulate(samples=3, steps=12, dt=0.05, seed=0)


def seen(obs):
    return obs["value"].notnull().values


def identical(a, b):
    """Labels and every bit of every value."""
    return a.identical(b) and all(a[v].values.tobytes() == b[v].values.tobytes() for v in a)


# Patterns


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, np.ones((12, 3))),
        ({"every": 5}, np.eye(12)[[0, 5, 10]].sum(0)[:, None] * np.ones(3)),
        ({"every": 5, "offset": 3}, np.eye(12)[[3, 8]].sum(0)[:, None] * np.ones(3)),
        ({"components": ["z", "x"]}, np.ones((12, 1)) * [1, 0, 1]),
        ({"times": [0.1, 0.55]}, np.eye(12)[[2, 11]].sum(0)[:, None] * np.ones(3)),
        ({"times": [0.1], "components": ["y"]}, np.eye(12)[2][:, None] * [0, 1, 0]),
        ({"operator": np.array([True, False, True])}, np.ones((12, 1)) * [1, 0, 1]),
        ({"operator": np.eye(12, 3) > 0, "every": 2}, np.eye(12, 3) * (np.arange(12) % 2 == 0)[:, None]),
    ],
)
def test_a_pattern_is_seen_and_nothing_else(how, expected):
    obs = observe(TRUTH, noise_std=0.1, **how)
    np.testing.assert_array_equal(seen(obs), np.broadcast_to(expected > 0, (3, 12, 3)))
    assert (np.abs(obs["value"] - TRUTH).max() < 0.1 * 5).all()


@given(arrays(bool, (12, 3)))
def test_any_mask_is_seen_and_nothing_else(mask):
    if mask.any():
        obs = observe(TRUTH, noise_std=0.1, operator=mask)
        np.testing.assert_array_equal(seen(obs), np.broadcast_to(mask, (3, 12, 3)))
    else:
        with pytest.raises(ValueError, match="Nothing is observed"):
            observe(TRUTH, noise_std=0.1, operator=mask)


@given(st.integers(1, 12), st.integers(0, 99))
def test_a_random_offset_starts_each_window_within_the_first_spacing(every, seed):
    obs = observe(TRUTH, every=every, offset="random", noise_std=0.1, seed=seed)
    for window in seen(obs).all(-1):
        (when,) = window.nonzero()
        assert when[0] < every
        np.testing.assert_array_equal(when, np.arange(when[0], 12, every))


def test_random_offsets_are_uniform():
    many = nk.Pendulum().simulate(samples=4000, steps=4, dt=0.1)
    first = seen(observe(many, every=4, offset="random", noise_std=0.1, seed=3)).all(-1).argmax(-1)
    assert (np.abs(np.bincount(first, minlength=4) / 4000 - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)).all()


def test_a_fraction_is_a_random_share_and_smaller_ones_are_nested():
    many = nk.Pendulum().simulate(samples=200, steps=50, dt=0.1)
    masks = [seen(observe(many, fraction=share, noise_std=0.1, seed=2)) for share in (0.2, 0.7)]
    for mask, share in zip(masks, (0.2, 0.7), strict=True):
        assert mask.mean() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / mask.size))
    assert not (masks[0] & ~masks[1]).any()


@pytest.mark.parametrize("dims", [("time", "component"), ("component", "sample", "time"), ("run", "sample", "time")])
def test_the_order_of_dimensions_does_not_matter(dims):
    truth = TRUTH.expand_dims(run=2) if "run" in dims else TRUTH
    truth = truth.transpose(*dims, ...) if "sample" in dims else truth[0]
    obs = observe(truth, every=4, noise_std=0.1)
    assert obs["value"].dims[-2:] == ("time", "component")
    assert set(obs["value"].dims) == set(truth.dims)
    assert np.abs(obs["value"] - truth).max() < 0.5


def test_times_are_in_the_records():
    attrs = observe(TRUTH, noise_std=0.1, times=np.array([0.1, 0.2])).attrs
    assert attrs == {"times": [0.1, 0.2], "fraction": 1.0, "seed": 0}
    attrs = observe(TRUTH, noise_std=0.1, every=2).attrs
    assert attrs == {"every": 2, "offset": 0, "fraction": 1.0, "seed": 0}


MASK = xr.DataArray(np.random.default_rng(0).random((3, 12, 3)) < 0.5, TRUTH.coords, TRUTH.dims)


@pytest.mark.parametrize("dims", [("time", "component"), ("component", "time"), ("time",), ("component", "sample")])
def test_a_labelled_mask_is_matched_by_name(dims):
    mask = MASK.isel({d: 0 for d in MASK.dims if d not in dims}, drop=True).transpose(*dims)
    expected = mask.broadcast_like(TRUTH).transpose(*TRUTH.dims).values
    for same in (mask, mask[::-1], mask.isel({dims[-1]: slice(None, None, -1)})):
        same = mask if "sample" in dims else same  # samples have no labels here
        np.testing.assert_array_equal(seen(observe(TRUTH, noise_std=0.1, operator=same)), expected)


def test_a_labelled_mask_may_know_more_than_the_truth():
    expected = seen(observe(TRUTH, noise_std=0.1, operator=MASK))[:, 2:7, :2]
    part = TRUTH.isel(time=slice(2, 7), component=slice(2))
    np.testing.assert_array_equal(seen(observe(part, noise_std=0.1, operator=MASK)), expected)


# Noise


def test_noise_is_drawn_once_per_seed_and_only_scales():
    small, large = (observe(TRUTH, every=2, noise_std=std, seed=4) for std in (0.1, 2.0))
    np.testing.assert_allclose((small["value"] - TRUTH) / 0.1, (large["value"] - TRUTH) / 2.0, atol=1e-12)


def test_noise_is_unit_normal():
    many = nk.Pendulum().simulate(samples=500, steps=20, dt=0.1)
    error = ((observe(many, noise_std=0.3, seed=1)["value"] - many) / 0.3).values
    assert error.mean() == pytest.approx(0, abs=5 / math.sqrt(error.size))
    assert error.std() == pytest.approx(1, abs=5 / math.sqrt(2 * error.size))


@pytest.mark.parametrize("more", [{"components": ["x", "z"]}, {"every": 1}, {"fraction": 1.0}, {"components": None}])
def test_a_value_stays_when_others_are_observed_as_well(more):
    less = {"components": ["x"], "every": 3, "fraction": 0.7}
    few, many = (observe(TRUTH, noise_std=0.1, seed=5, **how) for how in (less, less | more))
    assert seen(many).sum() > seen(few).sum()
    np.testing.assert_array_equal(many["value"].values[seen(few)], few["value"].values[seen(few)])


@pytest.mark.parametrize("dims", [("component",), ("time",), ("sample",), ("time", "component"), ("component", "time")])
def test_noise_std_broadcasts_by_name(dims):
    std = (0.1 + abs(TRUTH)).isel({d: 0 for d in TRUTH.dims if d not in dims}, drop=True).transpose(*dims)
    unit, scaled = observe(TRUTH, noise_std=1.0), observe(TRUTH, noise_std=std)
    np.testing.assert_allclose((scaled["value"] - TRUTH) / std, unit["value"] - TRUTH, rtol=1e-9, atol=1e-9)
    xr.testing.assert_equal(scaled["noise_std"].drop_attrs(), std.drop_attrs())


def test_noise_std_may_lack_what_is_not_observed():
    std = xr.DataArray([0.2], dims="component", coords={"component": ["y"]})
    whole = observe(TRUTH, components=["y"], noise_std=0.2)
    xr.testing.assert_equal(observe(TRUTH, components=["y"], noise_std=std)["value"], whole["value"])


def test_a_seed_says_everything():
    how = {"every": 3, "offset": "random", "fraction": 0.5, "noise_std": 0.1}
    assert identical(observe(TRUTH, seed=1, **how), observe(TRUTH, seed=1, **how))
    assert not observe(TRUTH, seed=1, **how).equals(observe(TRUTH, seed=2, **how))


@pytest.mark.parametrize("hidden", [0.0, 1e30, np.inf, np.nan])
@pytest.mark.parametrize(
    "how",
    [
        {"components": ["x"], "every": 4, "offset": "random"},
        {"fraction": 0.3},
        {"times": [0.2]},
        {"operator": np.eye(12, 3) > 0},
    ],
)
def test_nothing_of_the_truth_shows_where_nothing_is_observed(how, hidden):
    obs = observe(TRUTH, noise_std=0.1, seed=6, **how)
    other = TRUTH.where(obs["value"].notnull(), hidden)
    assert identical(observe(other, noise_std=0.1, seed=6, **how), obs)


# Operators


def bend(x):
    return torch.stack([x[..., 0] * x[..., 1], x[..., 2].sin()], -1)


OPERATORS = {
    "matrix": np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 2.0]]),
    "whole numbers": np.array([[1, 1, 0], [0, 0, 2]]),
    "tensor": torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 2.0]]),
    "nonlinear": bend,
    "network": torch.nn.Linear(3, 2, dtype=torch.float64),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_acts_on_every_state(name):
    H = OPERATORS[name]
    obs = observe(TRUTH, noise_std=1e-9, operator=H)
    apply = H if callable(H) and not isinstance(H, torch.Tensor) else lambda x: np.asarray(H, float) @ x.numpy()
    assert obs["component"].values.tolist() == ["h0", "h1"]
    for value, state in zip(obs["value"].values.reshape(-1, 2), TRUTH.values.reshape(-1, 3), strict=True):
        np.testing.assert_allclose(value, torch.as_tensor(apply(torch.from_numpy(state))).detach(), atol=1e-7)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_linearise_equals_finite_differences(name, batch):
    h = as_operator(OPERATORS[name])
    generator = torch.Generator().manual_seed(0)
    x, move = torch.randn(2, *batch, 5, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(*batch, 5, 2, generator=generator, dtype=torch.float64)
    local = Observations(y, torch.full_like(y, 0.5), h).around(x)
    (rows,), (residual,) = local.rows.parts, local.residual
    assert isinstance(rows, Banded) and rows.factor.shape == (*batch, 5, 1, 2, 3)
    slope = (h(x + 1e-5 * move) - h(x - 1e-5 * move)) / 2e-5
    # Both in standard deviations of the error, 0.5.
    torch.testing.assert_close(0.5 * rows.push(move), slope, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(0.5 * residual, h(x) - y)
    assert torch.equal(local.centre, x)


def test_direct_observations_linearise_to_the_identity():
    y = torch.tensor([[1.0, torch.nan], [torch.nan, 2.0]], dtype=torch.float64)
    local = Observations(y, torch.full_like(y, 0.5)).around(torch.zeros_like(y))
    (rows,), (residual,) = local.rows.parts, local.residual
    assert isinstance(rows, Diagonal)
    torch.testing.assert_close(rows.weight, 2 * torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(residual, torch.tensor([[-2.0, 0.0], [0.0, -4.0]], dtype=torch.float64))


@pytest.mark.parametrize("name", OPERATORS)
def test_misfit_is_half_the_squared_whitened_error_of_what_was_observed(name):
    h = as_operator(OPERATORS[name])
    x = torch.from_numpy(TRUTH.values)
    y = (h(x) + 0.3).detach()
    y[0, 2:, 1] = torch.nan
    misfit = Observations(y, torch.full_like(y, 0.1), h).misfit(x)
    torch.testing.assert_close(misfit, torch.tensor([24 - 10, 24, 24.0]).double() * 0.5 * 3.0**2)


def test_values_of_h_that_are_not_observed_do_not_matter():
    x = torch.tensor([[2.0], [-1.0], [0.0]], dtype=torch.float64).expand(2, 3, 1)
    y = torch.tensor([[1.0], [torch.nan], [torch.nan]], dtype=torch.float64).expand(2, 3, 1)
    observations = Observations(y, torch.ones_like(y), torch.log)
    misfit = observations.misfit(x)
    torch.testing.assert_close(misfit, torch.full_like(misfit, (1 - math.log(2)) ** 2 / 2))
    local = observations.around(x)
    mean = Gaussian.of(x, Diagonal(torch.ones_like(x))).condition(local).mean
    assert local.rows.parts[0].factor.isfinite().all() and local.residual[0].isfinite().all()
    assert torch.equal(mean[:, 1:], x[:, 1:])
    torch.testing.assert_close(mean[0, 0, 0], 2 + torch.tensor((1 - math.log(2)) * 0.5 / 1.25).double())


def test_an_observed_value_that_h_does_not_have_costs_nan_and_is_no_update():
    x = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    observations = Observations(torch.ones_like(x), torch.ones_like(x), torch.log)
    assert observations.misfit(x).isnan()
    with pytest.raises(ValueError, match=r"NaN or infinite values or slopes for 1 of 2 observed values.*clamp"):
        observations.around(x)


def test_an_infinite_slope_where_something_was_observed_is_no_update():
    x = torch.zeros(2, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="slopes for 2 of 2"):
        Observations(x, torch.ones_like(x), torch.sqrt).around(x)


def test_linearise_applies_the_operator_once():
    calls = []

    def counted(x):
        calls.append(x)
        return bend(x)

    y = torch.zeros(4, 2, dtype=torch.float64)
    observations = Observations(y, torch.ones_like(y), counted)
    observations.around(torch.ones(4, 3, dtype=torch.float64))  # the first time, it is checked as well
    checked = len(calls)
    for times in (checked + 1, checked + 2):
        observations.around(torch.ones(4, 3, dtype=torch.float64))
        assert len(calls) == times


def test_linearise_says_what_an_operator_must_return():
    y = torch.zeros(4, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"return x\[..., :1\]"):
        Observations(y, torch.ones_like(y), lambda x: x[..., 0]).around(torch.ones(4, 3, dtype=torch.float64))


# Errors


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"components": ["x", "w"]}, r"\['w'\] are not among those observed"),
        ({"components": ["x", "w"]}, r"\['x', 'y', 'z'\].*choose from these"),
        ({"components": "x"}, r"""components="x" is one text.*: \['x'\]"""),
        ({"components": "xz"}, r"""components="xz" is one text.* some of \['x', 'y', 'z'\]"""),
        ({"components": []}, "Nothing is observed"),
        ({"times": [0.1], "every": 2}, "times= says which.*every=2"),
        ({"times": [0.1], "offset": 1}, "times= says which.*offset=1"),
        ({"times": [0.1], "offset": "random"}, "times= says which.*offset=random"),
        ({"every": 0}, "every=0"),
        ({"fraction": 0.0}, "fraction=0"),
        ({"fraction": 1.5}, "fraction=1.5"),
        ({"fraction": math.nan}, "fraction=nan"),
        ({"offset": 12}, "offset=12"),
        ({"offset": -1}, "offset=-1"),
        ({"offset": "any"}, "offset='any'"),
        ({"times": [0.07]}, r"times \[0.07\] are not on the grid from 0 to 0.55"),
        ({"times": []}, "Nothing is observed"),
        ({"noise_std": 0.0}, "noise_std must be positive"),
        ({"noise_std": -1.0}, "noise_std must be positive"),
        ({"noise_std": math.inf}, "noise_std must be positive"),
        ({"noise_std": xr.DataArray([1.0], dims="q")}, r"noise_std has the dims \['q'\]"),
        ({"noise_std": xr.ones_like(TRUTH["time"]).assign_coords(time=np.arange(12.0))}, "on the same coordinates"),
        ({"operator": np.array([True, False])}, r"mask has the shape \(2,\)"),
        ({"operator": np.ones(3)}, r"shape \(3,\); give a boolean mask"),
        ({"operator": np.full((2, 3), np.nan)}, "6 NaN or infinite entries.*weight 0"),
        ({"operator": xr.DataArray(np.ones((2, 3)), dims=("obs", "component"))}, r"labelled array.*\.values"),
        ({"operator": MASK.rename(sample="run")}, r"dims \['run'\].*rename"),
        ({"operator": MASK.isel(component=[0, 1])}, r"lacks \['z'\] along 'component'.*fill_value=False"),
        ({"operator": MASK.assign_coords(time=MASK["time"] + 1)}, "lacks .* along 'time'"),
        ({"operator": MASK.isel(component=[0, 1, 2, 2])}, "repeats a label"),
        ({"operator": MASK.isel(sample=[0, 1])}, "2 along 'sample', the values 3"),
        ({"operator": np.ones((2, 4))}, "cannot be applied to states"),
        ({"operator": lambda x: x[..., 0]}, r"return x\[..., :1\]"),
        ({"operator": lambda x: x[..., 3:4] + x[..., 7]}, "cannot be applied to states"),
    ],
)
def test_what_cannot_be_observed_is_a_named_value_error(how, said):
    with pytest.raises(ValueError, match=said):
        observe(TRUTH, **({"noise_std": 0.1} | how))


def test_truth_without_coordinates_is_an_error():
    with pytest.raises(ValueError, match="time and component"):
        observe(TRUTH.drop_vars("time"), noise_std=0.1)


def test_another_operator_than_the_one_observed_with_is_an_error():
    y = torch.zeros(4, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="gives 2 values per time step, the observations have 3"):
        Observations(y, torch.ones_like(y), bend).around(y)


# Laws


@given(st.integers(1, 12), st.integers(0, 99), st.sets(st.integers(0, 2), min_size=1))
def test_the_regular_law_sees_its_components_at_its_spacing(every, seed, components):
    mask, std = regular(
        (5, 12, 3), torch.Generator().manual_seed(seed), components=sorted(components), every=every, noise_std=0.2
    )
    assert (std == 0.2).all() and std.shape == mask.shape
    for window in mask:
        assert set(window.any(0).nonzero().flatten().tolist()) == components
        when = window[:, min(components)].nonzero().flatten()
        assert when[0] < every
        assert torch.equal(when, torch.arange(int(when[0]), 12, every))
        assert torch.equal(window, window[:, [min(components)]] & window.any(0))


def mixed(batch=2000, steps=32, seed=0, **how):
    scale = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    mask, std = mixture((batch, steps, 3), torch.Generator().manual_seed(seed), scale=scale, **how)
    return mask, std / scale


def test_the_mixture_sees_something_in_every_window_as_long_as_its_spacing():
    for longest in (1, 4, 16):
        mask, _ = mixed(steps=longest, spacing=(1, longest), count=(1, 3))
        assert mask.flatten(1).any(1).all()


def test_the_mixture_draws_one_noise_per_window_log_uniformly():
    _, std = mixed(noise=(0.02, 0.5))
    torch.testing.assert_close(std, std[:, :1, :1].expand_as(std))
    level = (std[:, 0, 0] / 0.02).log() / math.log(0.5 / 0.02)
    assert 0 <= level.min() < 0.01 and 0.99 < level.max() <= 1
    assert float(level.mean()) == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / 2000))


def is_regular(window):
    """Whole components at an even spacing."""
    when, which = window.any(1), window.any(0)
    gaps = set(when.nonzero().flatten().diff().tolist())
    return len(gaps) <= 1 and torch.equal(window, when[:, None] & which)


def test_the_mixture_holds_regular_and_scattered_windows_of_every_set_of_components():
    # Spacings of at most 4 see at least 8 of the 32 times, more than the scattered windows' values.
    mask, _ = mixed(spacing=(2, 4), count=(3, 6))
    regularly = torch.tensor([is_regular(w) and int(w.any(1).sum()) >= 8 for w in mask])
    assert float(regularly.double().mean()) == pytest.approx(2 / 3, abs=5 * math.sqrt(2 / 9 / 2000))
    non_empty = set(product([True, False], repeat=3)) - {(False,) * 3}
    assert {tuple(row) for row in mask[regularly].any(1).tolist()} == non_empty
    assert set(mask[regularly].any(2).sum(1).tolist()) == {8, 10, 11, 16}
    assert set(mask[~regularly].flatten(1).sum(1).tolist()) == {3, 4, 5, 6}


def test_the_mixture_sees_at_least_so_many_components():
    mask, _ = mixed(least=2, spacing=(1, 4), count=(20, 20))
    assert set(mask.any(1).sum(1).tolist()) == {2, 3}


def test_the_mixture_depends_on_its_generator_alone():
    first, again, other = mixed(seed=1), mixed(seed=1), mixed(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_either_law_has_its_share_of_the_windows():
    often = partial(nk.regular, components=[0], every=2, noise_std=0.1)
    seldom = partial(nk.regular, components=[1], every=8, noise_std=0.3)
    generator = torch.Generator().manual_seed(0)
    seen, noise_std = either((4000, 16, 2), generator, law=often, other=seldom, share=0.3)
    first = seen[..., 0].any(-1)
    assert float(first.double().mean()) == pytest.approx(0.3, abs=0.03)
    assert not seen[first][..., 1].any() and (seen[first].sum((1, 2)) == 8).all()
    assert (seen[~first].sum((1, 2)) == 2).all()
    assert (noise_std[first] == 0.1).all() and (noise_std[~first] == 0.3).all()


CELLS = (20, 31)  # points of a field


def of_fields(batch=200, steps=3, seed=0, noise_std=0.2, **counts):
    return field_mixture(
        (batch, steps, math.prod(CELLS)),
        torch.Generator().manual_seed(seed),
        grid=CELLS,
        counts=counts,
        noise_std=noise_std,
    )


def test_tracks_of_the_mixture_of_fields_are_those_that_shift():
    mask, std = of_fields(tracks=(20, 60))
    assert (std == 0.2).all() and std.shape == mask.shape
    every = []
    for window in mask:
        places = [step.nonzero().flatten() for step in window]
        gaps = {int(gap) for where in places for gap in where.diff()}
        (gap,) = gaps  # one for the window
        assert all(where[0] < gap and where[-1] + gap >= mask.shape[-1] for where in places)
        every.append(gap)
    assert min(every) == 620 // 60 and max(every) == 620 // 20
    first = mask.int().argmax(-1).flatten() / torch.tensor(every).repeat_interleave(3)
    assert float(first.double().mean()) == pytest.approx(0.5 - 0.5 / 18, abs=0.05)


def test_random_cells_of_the_mixture_of_fields_are_so_many_and_anywhere():
    mask, _ = of_fields(batch=600, random=(3, 48))
    counts = mask.sum(-1)
    assert (counts == counts[:, :1]).all()  # one number for a window
    assert counts.min() == 3 and counts.max() == 48
    assert float((counts[:, 0] < 12).double().mean()) == pytest.approx(0.5, abs=0.1)  # log-uniform
    assert float(mask.double().mean((0, 1)).std()) < 2 * math.sqrt(float(mask.double().mean()) / 1800)


@pytest.mark.parametrize("count", [20, 200])
def test_lines_of_the_mixture_of_fields_are_straight_and_as_wide_as_they_must(count):
    mask, _ = of_fields(batch=60, lines=(count, count))
    assert (mask.sum(-1) == count).all()
    assert not torch.equal(mask[:, 0], mask[:, 1])
    y, x = np.meshgrid(*map(np.arange, CELLS), indexing="ij")
    points = np.stack([y.ravel(), x.ravel()], -1).astype(float)
    angles = np.linspace(0, np.pi, 721)
    for step in mask.flatten(0, 1).numpy():
        # Of some direction, no cell that is not seen lies between two that are: a strip.
        across = points @ np.stack([np.cos(angles), -np.sin(angles)])
        low, high = across[step].min(0), across[step].max(0)
        between = ((across > low + 0.3) & (across < high - 0.3) & ~step[:, None]).sum(0)
        assert between.min() <= 0.02 * count


def test_kinds_of_the_mixture_of_fields_come_equally_often():
    mask, std = of_fields(batch=900, steps=2, tracks=(10, 10), random=(40, 40), lines=(90, 90), noise_std=(0.1, 0.4))
    counts = mask.sum(-1)[:, 0]
    for count in (10, 40, 90):
        assert float((counts == count).double().mean()) == pytest.approx(1 / 3, abs=0.08)
    torch.testing.assert_close(std, std[:, :1, :1].expand_as(std))
    level = (std[:, 0, 0] / 0.1).log() / math.log(4)
    assert level.min() >= 0 and level.max() <= 1
    assert float(level.mean()) == pytest.approx(0.5, abs=0.05)
    again, _ = of_fields(batch=900, steps=2, tracks=(10, 10), random=(40, 40), lines=(90, 90), noise_std=(0.1, 0.4))
    assert torch.equal(mask, again)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"counts": {"swaths": (3, 4)}}, r"no kinds of observations \['swaths'\]; there are \['tracks', 'random'"),
        ({"counts": {}}, "must name one kind or more"),
        ({"counts": {"random": (4, 700)}}, "up to the 620 values"),
        ({"counts": {"random": (4, 3)}}, "the least and the most"),
        ({"counts": [3, 4]}, "a dict"),
        ({"grid": (20, 30)}, r"grid=\(20, 30\) must be the points"),
        ({"noise_std": 0.0}, "noise_std=0.0"),
    ],
)
def test_a_mixture_of_fields_that_cannot_be_is_refused(how, said):
    usual = {"grid": CELLS, "counts": {"random": (3, 4)}, "noise_std": 0.2}
    with pytest.raises(ValueError, match=said):
        field_mixture((2, 3, 620), torch.Generator(), **usual | how)


# Fields

FIELD = Advection().simulate(samples=3, steps=6, dt=0.1, seed=0)
POINTS = np.random.default_rng(0).random((8, 9)) < 0.4


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, np.ones((6, 8, 9))),
        ({"every": 4, "offset": 1}, np.eye(6)[[1, 5]].sum(0)[:, None, None] * np.ones((8, 9))),
        ({"times": [0.2]}, np.eye(6)[2][:, None, None] * np.ones((8, 9))),
        ({"operator": POINTS}, POINTS * np.ones((6, 8, 9))),
        (
            {"operator": xr.DataArray(POINTS.T, FIELD[0, 0].coords, ("x", "y")).drop_vars("time")},
            POINTS * np.ones((6, 8, 9)),
        ),
    ],
)
def test_a_field_is_observed_on_its_grid(how, expected):
    obs = observe(FIELD, noise_std=0.1, **how)
    assert obs["value"].dims == ("sample", "time", "y", "x") and obs["value"].attrs["units"] == "K"
    np.testing.assert_array_equal(seen(obs), np.broadcast_to(expected > 0, FIELD.shape))
    assert (np.abs(obs["value"] - FIELD).max() < 0.1 * 5).all()


def test_a_random_offset_of_a_field_is_one_for_each_window():
    whole = seen(observe(FIELD, every=3, offset="random", noise_std=0.1, seed=4)).reshape(3, 6, 72)
    assert (whole.all(-1) == whole.any(-1)).all() and (whole.all(-1).sum(-1) == 2).all()


def test_the_order_of_the_dims_of_a_field_does_not_matter():
    turned = FIELD.transpose("x", "time", "y", "sample")
    assert identical(observe(turned, noise_std=0.1, fraction=0.5), observe(FIELD, noise_std=0.1, fraction=0.5))


def test_a_field_made_by_hand_has_its_dims_after_time():
    plain = xr.DataArray(FIELD.values, dims=("sample", "time", "lat", "lon"))
    plain = plain.assign_coords(time=FIELD["time"].values, lat=np.arange(8), lon=np.arange(9))
    np.testing.assert_array_equal(observe(plain, noise_std=0.1)["value"], observe(FIELD, noise_std=0.1)["value"])


def test_a_field_has_no_components():
    with pytest.raises(ValueError, match=r"components=\['y'\] selects values by name.*operator=mask"):
        observe(FIELD, components=["y"], noise_std=0.1)
    with pytest.raises(ValueError, match="time and, after it, those of a grid"):
        observe(FIELD.drop_vars(["y", "x"]), noise_std=0.1)


class Turning(nk.System):
    """Three numbers whose tendency depends on time."""

    labels = nk.StateLabels(("a", "b", "c"), ("m",) * 3, ("a", "b", "c"))
    longest_substep = 0.05

    def tendency(self, x, t):
        a, b, c = x.unbind(-1)
        t = t[..., 0]
        return torch.stack([b * torch.cos(t) - 0.3 * a, -a * torch.cos(t) - 0.1 * c, 0.5 * b - 0.2 * c], -1)

    def start(self, samples, generator, dtype, device):
        return torch.randn(samples, 3, generator=generator, dtype=dtype, device=device)


TURNING = Turning().simulate(3, 8, 0.2, seed=1, start_time=3.0)


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (lambda x: x.cumsum(0), "values of one window depend on other windows"),
        (lambda x, t: x.cumsum(0) * t, "values of one window depend on other windows"),
        (nk.over_window(lambda x: x.cumsum(0)), "values of one window depend on other windows"),
        (nk.over_window(lambda x, t: x.mean(0, keepdim=True) * t + x), "values of one window depend on other windows"),
        (lambda x, t: torch.cat([x[..., :1, :], x[..., :-1, :] + x[..., 1:, :]], -2) * t, "mixes times.*over_window"),
        (lambda x, t: torch.cat([x[..., :1, :], x[..., 1:2, :] + x[..., :1, :], x[..., 2:, :]], -2), "mixes times"),
        (nk.over_window(lambda x: x.mean(-2)), "over a window it gives a row of values for each time step"),
        (lambda x: x.sel(component=["a"]), "AttributeError.*no attribute 'sel'.*torch tensors"),
        (lambda x: {}["a"], "KeyError"),
        ([[1, 2], [3]], "must be a boolean mask, a real matrix"),
    ],
)
def test_an_operator_that_mixes_or_fails_is_refused_whatever_its_kind(operator, said):
    with pytest.raises(ValueError, match=said):
        nk.observe(TURNING, noise_std=0.3, operator=operator, seed=1)


def test_a_matrix_that_has_gradients_serves_as_one_that_has_not():
    one, two = (nk.observe(TURNING, noise_std=0.3, operator=torch.ones(1, 3).requires_grad_(g)) for g in (True, False))
    xr.testing.assert_equal(one, two)


@pytest.mark.parametrize("method", [nk.KalmanSmoother, nk.WeakFourDVar, nk.ExtendedKalmanFilter])
def test_slopes_that_were_lost_are_missed_where_they_are_needed(method):
    def lost(x):
        return torch.from_numpy(np.tanh(x.detach().numpy())[..., :2])

    obs = nk.observe(TURNING, noise_std=0.3, operator=lost, seed=1)
    with pytest.raises(ValueError, match="values but no slopes"):
        method(Turning(), 0.1).assimilate(obs, operator=lost)
    nk.EnKF(Turning(), 0.1, members=8).assimilate(obs, operator=lost)
    constant = lambda x: torch.ones_like(x[..., :1])  # noqa: E731
    obs = nk.observe(TURNING, noise_std=0.3, operator=constant, seed=1)
    assert method(Turning(), 0.1).assimilate(obs, operator=constant)["mean"].notnull().all()


@pytest.mark.parametrize("times", [3.0, {}, "a", ["a"], [[3.0]], {3.0}, len], ids=repr)
def test_times_are_a_list_of_numbers(times):
    with pytest.raises(ValueError, match=r"times=.*must be a list of times"):
        nk.observe(TURNING, noise_std=0.3, times=times)


@pytest.mark.parametrize("components", [3, [["a"]], [None], len], ids=repr)
def test_components_are_a_list_of_names(components):
    with pytest.raises(ValueError, match=r"must be a list|not among those observed"):
        nk.observe(TURNING, noise_std=0.3, components=components)


def test_lists_come_in_arrays_of_any_kind():
    expected = nk.observe(TURNING, noise_std=0.3, times=[3.2, 3.6], components=["a", "c"])
    times = TURNING["time"][[1, 3]]
    for when in (times, times.values, torch.from_numpy(times.values)):
        for which in (("a", "c"), np.array(["a", "c"]), TURNING["component"][[0, 2]]):
            found = nk.observe(TURNING, noise_std=0.3, times=when, components=which)
            xr.testing.assert_equal(found, expected)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"noise_covariance": [[1, 2], [3]]}, r"noise_covariance=\[\[1, 2\], \[3\]\] must be"),
        ({"noise_covariance": "a"}, "noise_covariance='a' must be"),
        (
            {
                "noise_covariance": xr.DataArray(
                    np.stack([np.eye(3)] * 5), dims=("time", "component", "other_component")
                )
            },
            "5 along 'time', the values 8",
        ),
        ({"noise_std": [[1], [1, 2]]}, "noise_std=.*must be a number"),
        ({"noise_std": "a"}, "noise_std='a' must be a number"),
        ({"noise_std": xr.DataArray(np.ones(5), dims="time")}, "5 along 'time', the values 8"),
    ],
)
def test_errors_that_cannot_be_read_are_a_named_value_error(how, said):
    with pytest.raises(ValueError, match=said):
        nk.observe(TURNING, **how)


def test_labels_that_are_off_by_rounding_are_those_of_the_truth():
    off = TURNING["time"].values + 1e-15
    assert (off != TURNING["time"].values).any()
    R = np.eye(3) + 0.5 * np.ones((8, 3, 3)) * np.arange(1, 9)[:, None, None]
    dims = ("time", "component", "other_component")
    std, mask = np.linspace(0.1, 0.8, 8), np.arange(8) % 3 == 0

    def seen(time):
        coords = {"time": time, "component": ["a", "b", "c"]}
        return (
            nk.observe(TURNING, noise_covariance=xr.DataArray(R, coords, dims)),
            nk.observe(TURNING, noise_std=xr.DataArray(std, {"time": time}, ["time"])),
            nk.observe(TURNING, noise_std=0.3, operator=xr.DataArray(mask, {"time": time}, ["time"])),
        )

    for one, two in zip(seen(off), seen(TURNING["time"].values), strict=True):
        xr.testing.assert_equal(one, two)
    with pytest.raises(ValueError, match=r"other coordinates|wherever something is observed"):
        nk.observe(TURNING, noise_std=xr.DataArray(std, {"time": off + 0.1}, ["time"]))


def test_errors_that_have_gradients_serve_as_those_that_have_not():
    for name, value in (("noise_covariance", 0.3 * torch.eye(3)), ("noise_std", torch.tensor(0.3))):
        one, two = (nk.observe(TURNING, **{name: value.clone().requires_grad_(g)}) for g in (True, False))
        xr.testing.assert_equal(one, two)


@pytest.mark.parametrize("kind", [complex, str, bool, object])
def test_a_truth_is_of_real_numbers(kind):
    with pytest.raises(ValueError, match=r"truth has dtype.*real numbers are needed"):
        nk.observe(TURNING.astype(kind), noise_std=0.3)


@pytest.mark.parametrize("name", ["value", "noise_std", "noise_covariance"])
def test_a_truth_has_no_name_that_observations_have(name):
    for truth in (TURNING.rename(sample=name), TURNING.assign_coords({name: ("sample", [1.0, 2.0, 3.0])})):
        with pytest.raises(ValueError, match=f"truth has a dim or coordinate '{name}'.*rename"):
            nk.observe(truth, noise_std=0.3)


@pytest.mark.parametrize("method", [nk.KalmanSmoother, nk.WeakFourDVar, nk.ExtendedKalmanFilter])
@pytest.mark.parametrize(
    "partly",
    [
        lambda x: torch.stack([x[..., 0], x[..., 1].detach() ** 2], -1),
        lambda x: (10 * x).long(),
        lambda x, t: t * x * x.roll(1, -1).detach(),
    ],
    ids=["one value", "whole numbers", "one factor"],
)
def test_slopes_that_were_lost_in_part_are_missed_too(method, partly):
    obs = nk.observe(TURNING, noise_std=0.3, operator=partly, seed=1)
    with pytest.raises(ValueError, match=r"The operator has values.*slopes"):
        method(Turning(), 0.1).assimilate(obs, operator=partly)


def test_whatever_a_users_function_raises_is_said_once():
    def fails(x):
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match=r"^The operator cannot be applied to states of shape.*: no such thing\. It"):
        nk.observe(TURNING, noise_std=0.3, operator=fails)


def test_errors_widened_by_a_spread_of_the_state_add_its_square():
    value, std = torch.zeros(2, 3, 4), torch.tensor([0.0, 1.0, 2.0, 3.0])
    wide = Observations(value, torch.full_like(value, 2.0)).widened(std)
    torch.testing.assert_close(wide.noise_std, (4 + std.square()).sqrt().expand(2, 3, 4))
    behind = Observations(value[..., :1], torch.ones(2, 3, 1), as_operator(lambda x: x[..., :1], (4,)))
    assert behind.widened(std) is behind
