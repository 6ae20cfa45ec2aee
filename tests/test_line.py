"""Bayes on a line, against closed forms and scipy's quadrature; and its figures."""

import math
from dataclasses import FrozenInstanceError, asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.integrate import quad
from scipy.stats import norm
from statements import from_precision, measured

import nida_kit as nk
from nida_kit import plots
from nida_kit.descent import conditioned
from nida_kit.linalg.banded import BlockBanded
from nida_kit.linalg.rows import Diagonal
from nida_kit.line import BOUNDS, GRID, OPERATORS, SPACING, LineParameters, line, run_line, update
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import as_operator

FUNCTIONS = {"identity": lambda x: x, "square": lambda x: x * x, "saturating": lambda x: 3 * math.tanh(x / 3)}
TORCH = {"identity": None, "square": torch.square, "saturating": lambda x: 3 * torch.tanh(x / 3)}
CASES = [(-1.0, 1.5, 3.0, 1.0), (0.5, 2.0, 4.0, 0.3), (2.0, 0.5, -1.0, 2.0), (-3.0, 2.5, 9.0, 0.3)]
every_case = pytest.mark.parametrize("case", CASES)
every_operator = pytest.mark.parametrize("operator", OPERATORS)


def numbers(name):
    return st.floats(*BOUNDS[name])


@settings(max_examples=30, deadline=None)
@given(*(numbers(name) for name in BOUNDS))
def test_a_linear_measurement_has_the_closed_form(m, s, y, r):
    ds = line(m, s, y, r)
    weight = s**2 / (s**2 + r**2)
    mean, std = m + weight * (y - m), (s**-2 + r**-2) ** -0.5
    for name, expected in (
        ("mean", mean),
        ("mode", mean),
        ("gaussian_mean", mean),
        ("std", std),
        ("gaussian_std", std),
        ("weight", weight),
        ("misplaced", 0),
    ):
        assert ds.attrs[name] == pytest.approx(expected, rel=1e-10, abs=1e-10), name
    for name, law in (("prior", norm(m, s)), ("posterior", norm(mean, std)), ("gaussian", norm(mean, std))):
        np.testing.assert_allclose(ds[name], law.pdf(GRID), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(ds["likelihood"], norm(y, r).pdf(GRID), rtol=1e-10, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(*(numbers(name) for name in BOUNDS), st.sampled_from(list(OPERATORS)))
def test_densities_are_normalised_and_end_within_the_grid(m, s, y, r, operator):
    ds = line(m, s, y, r, operator)
    for name in ("prior", "posterior"):
        assert ds[name].values.sum() * SPACING == pytest.approx(1, abs=1e-10)
        assert ds[name].values[[0, -1]].max() < 1e-8
    assert 0 <= ds.attrs["misplaced"] <= 1 + 1e-9


@every_operator
@every_case
def test_the_posterior_is_that_of_an_independent_quadrature(case, operator):
    m, s, y, r = case
    ds, h = line(*case, operator), FUNCTIONS[operator]

    def product(x):
        return math.exp(-(((x - m) / s) ** 2) / 2 - ((y - h(x)) / r) ** 2 / 2)

    peak = product(ds.attrs["mode"])

    def integral(f):
        pieces = pairwise(np.linspace(-20, 20, 81))
        return sum(quad(lambda x: f(x) * product(x) / peak, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in pieces)

    total = integral(lambda x: 1.0)
    mean = integral(lambda x: x) / total
    variance = integral(lambda x: (x - mean) ** 2) / total
    assert ds.attrs["mean"] == pytest.approx(mean, abs=1e-9)
    assert ds.attrs["std"] == pytest.approx(variance**0.5, abs=1e-9)
    for x in GRID[4000:6001:100]:
        density = product(x) / (total * peak)
        assert float(ds["posterior"].sel(x=x)) == pytest.approx(density, rel=1e-8, abs=1e-12)


@every_operator
@every_case
def test_the_mode_is_where_the_posterior_is_flat_and_highest(case, operator):
    m, s, y, r = case
    ds, h = line(*case, operator), FUNCTIONS[operator]
    mode = ds.attrs["mode"]

    def misfit(x):
        return ((x - m) / s) ** 2 / 2 + ((y - h(x)) / r) ** 2 / 2

    assert abs(misfit(mode + 1e-5) - misfit(mode - 1e-5)) / 2e-5 < 1e-5
    assert abs(mode - GRID[ds["posterior"].values.argmax()]) <= SPACING
    assert all(misfit(mode) <= misfit(x) + 1e-12 for x in GRID[::40])


def peaks(ds):
    p = ds["posterior"].values
    return GRID[1:-1][(p[1:-1] > p[:-2]) & (p[1:-1] >= p[2:]) & (p[1:-1] > 1e-6)]


def test_a_squared_measurement_has_two_peaks_of_which_the_prior_prefers_one():
    ds = line(-1.0, 1.5, 3.0, 1.0, "square")
    left, right = peaks(ds)
    # (x - m) / s^2 - 2 x (y - x^2) / r^2 = 0, with r = 1: 2 x^3 + (1 / s^2 - 2 y) x - m / s^2 = 0
    roots = np.sort(np.roots([2, 0, 1 / 1.5**2 - 6, 1 / 1.5**2]).real)
    assert left == pytest.approx(roots[0], abs=SPACING) and right == pytest.approx(roots[2], abs=SPACING)
    assert ds.attrs["mode"] == pytest.approx(roots[0], abs=1e-9)
    assert ds.attrs["mode"] < ds.attrs["mean"] < right


def test_without_a_preference_the_mean_lies_between_the_peaks_and_the_tangent_is_flat():
    ds = line(0.0, 1.5, 4.0, 1.0, "square")
    left, right = peaks(ds)
    assert left == pytest.approx(-right) and ds.attrs["mean"] == pytest.approx(0, abs=1e-12)
    assert ds.attrs["mode"] == pytest.approx(left, abs=SPACING)  # the left one of two equal peaks
    assert ds.attrs["weight"] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(ds["gaussian"], ds["prior"], atol=1e-12)


def test_a_negative_square_leaves_one_peak():
    assert len(peaks(line(0.0, 1.5, -2.0, 1.0, "square"))) == 1


@pytest.mark.parametrize("start", [-0.5, 0.5])
def test_the_gaussian_update_ends_on_the_peak_downhill_from_the_prior(start):
    ds = line(start, 1.5, 3.0, 1.0, "square")
    assert ds.attrs["gaussian_mean"] == pytest.approx(ds.attrs["mode"], abs=1e-3)
    assert np.sign(ds.attrs["gaussian_mean"]) == np.sign(start)
    slope = 2 * ds.attrs["gaussian_mean"]
    assert ds.attrs["gaussian_std"] == pytest.approx((1.5**-2 + slope**2) ** -0.5, rel=1e-6)
    assert ds.attrs["misplaced"] > 0.1


@every_operator
def test_the_update_is_that_of_the_package(operator):
    rng = np.random.default_rng(0)
    low, high = np.array([BOUNDS[name] for name in ("prior_mean", "value")]).T
    m, y = rng.uniform(low, high, (500, 2)).T
    low, high = np.log([BOUNDS[name] for name in ("prior_std", "noise_std")]).T
    s, r = np.exp(rng.uniform(low, high, (500, 2))).T

    tensors = (torch.from_numpy(x).reshape(-1, 1, 1) for x in (m, 1 / s, y, r))
    centre, weight, value, noise_std = tensors
    observed = Observations(value, noise_std, as_operator(TORCH[operator]))
    found = conditioned(nk.Gaussian.of(centre, Diagonal(weight)), observed)
    expected = torch.stack([found.mean, found.std], -1).reshape(-1, 2)
    own = [update(LineParameters(*case, operator)) for case in zip(m, s, y, r, strict=True)]
    np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-12)


def test_parameters_are_kept_and_cannot_be_changed():
    p = LineParameters(value=2.0, operator="saturating")
    assert asdict(p).items() <= run_line(p).attrs.items()
    assert run_line(p).identical(line(p.prior_mean, p.prior_std, 2.0, p.noise_std, "saturating"))
    with pytest.raises(FrozenInstanceError):
        p.value = 3.0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("prior_mean", 7.0),
        ("prior_mean", float("nan")),
        ("prior_std", 0.0),
        ("prior_std", -1.0),
        ("prior_std", "wide"),
        ("value", float("inf")),
        ("value", None),
        ("noise_std", 0.01),
        ("noise_std", True),
        ("operator", "cube"),
        ("operator", None),
    ],
)
def test_wrong_parameters_are_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=name):
        LineParameters(**{name: wrong})


# Figures


def pixels(fig) -> np.ndarray:
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


@every_operator
def test_updating_gives_the_same_pixels_as_making_anew(operator):
    artists = plots.make_line(plots.figure(rows=2), line(*CASES[0]))
    before, ids = pixels(artists.figure), {id(a) for a in artists.drawn.values()}
    limits = [(ax.get_xlim(), ax.get_position().bounds) for ax in artists.axes]
    other = line(*CASES[1], operator)
    plots.update_line(artists, other)
    made = plots.make_line(plots.figure(rows=2), other)
    assert (pixels(artists.figure) != before).any()
    np.testing.assert_array_equal(pixels(artists.figure), pixels(made.figure))
    assert {id(a) for a in artists.drawn.values()} == ids
    assert [(ax.get_xlim(), ax.get_position().bounds) for ax in artists.axes] == limits


def test_curves_and_marks_show_the_dataset():
    ds = line(*CASES[0], "square")
    drawn = plots.make_line(plots.figure(rows=2), ds).drawn
    for name in ("prior", "likelihood", "posterior", "gaussian", "predicted"):
        x, y = drawn[name].get_data()
        np.testing.assert_array_equal(y, ds[name].sel(x=x))
    assert drawn["mean"].get_xdata() == [ds.attrs["mean"]]
    assert drawn["mode"].get_ydata()[0] == pytest.approx(float(ds["posterior"].max()), rel=1e-4)
    np.testing.assert_allclose(drawn["agree"].get_xdata(), [-(3**0.5), 3**0.5], atol=1e-5)
    band = drawn["band"]
    assert band.get_y() + band.get_height() / 2 == pytest.approx(3)
    assert band.get_height() == pytest.approx(2 * norm.ppf(0.95))


def test_the_top_is_round_above_all_curves_or_fixed():
    wide, sharp = line(*CASES[0]), line(0.0, 1.0, 0.0, 0.3)
    artists = plots.make_line(plots.figure(rows=2), wide)
    assert artists.axes[0].get_ylim() == (0, 1)
    plots.update_line(artists, sharp)
    assert artists.axes[0].get_ylim() == (0, 2)
    artists = plots.make_line(plots.figure(rows=2), wide, top=1.5)
    plots.update_line(artists, sharp)
    assert artists.axes[0].get_ylim() == (0, 1.5)


def test_curves_differ_in_style_and_marks_in_shape():
    drawn = plots.make_line(plots.figure(rows=2), line(*CASES[0])).drawn
    styles = {str(drawn[name]._dash_pattern) for name in ("prior", "likelihood", "posterior", "gaussian")}
    assert len(styles) == 4
    assert len({drawn[name].get_marker() for name in ("prior_mean", "mean", "mode", "agree")}) == 4


def pair(correlation):
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]]).double()
    prior = from_precision(torch.zeros(1, 2).double(), BlockBanded.from_dense(torch.linalg.inv(covariance), 1))
    one = torch.ones(1, 1).double()
    return prior, prior.condition(measured(prior.centre, torch.tensor([[[1.0, 0.0]]]).double(), one, one))


def test_ellipses_hold_ninety_percent_around_the_means():
    panels = {"none": pair(0.0), "much": pair(0.9)}
    axes = plots.ellipses(plots.figure(rows=1.5), panels, value=1.0, noise_std=1.0)
    assert [ax.get_title() for ax in axes] == ["none", "much"]
    for ax, (prior, posterior) in zip(axes, panels.values(), strict=True):
        lines = {line.get_label(): line for line in ax.lines}
        for gaussian, name in ((prior, "prior"), (posterior, "posterior")):
            mean = gaussian.mean[0].numpy()
            np.testing.assert_array_equal(np.ravel(lines[f"{name} mean"].get_data()), mean)
            away = np.stack(lines[f"{name}, 90%"].get_data()).T - mean
            squared = np.einsum("ki,ij,kj->k", away, gaussian.precision.dense().numpy(), away)
            np.testing.assert_allclose(1 - np.exp(-squared / 2), 0.9)
        wide, tall = ax.get_position().size * ax.figure.get_size_inches()
        assert wide == pytest.approx(tall)
        assert ax.get_xlim() == ax.get_ylim()


def test_matrices_are_shown_beside_their_largest_entry():
    matrix = torch.tensor([[4.0, -1.0], [-1.0, 0.0]])
    axes = plots.matrices(plots.figure(), {"a": matrix, "b": 2 * matrix}, components=2)
    for ax in axes:
        np.testing.assert_allclose(ax.images[0].get_array(), [[1, 0.25], [0.25, 0]])
        assert ax.images[0].get_extent() == [-0.5, 0.5, 0.5, -0.5]
