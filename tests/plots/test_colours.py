"""One colour, one meaning: a method has its own in all figures, and all can be told apart."""

from itertools import combinations

import matplotlib.colors
import numpy as np
import pytest
import xarray as xr

import nida_kit as nk
from nida_kit import plots
from nida_kit.experiment import METHODS, Parameters, run
from nida_kit.plots.line import ORANGE
from nida_kit.plots.style import GREYS, STYLES, colour_of, looks_of, reds
from nida_kit.plots.style import METHODS as KINDS

LINES = {
    "OI": "interpolation",
    "OI, then 4D-Var": "4D-Var",
    "NIDA, wrong physics": "NIDA",
    "NIDA (shipped), then 4D-Var": "hybrid",
    "LETKF, 7 members": "ensembles",
    "particle filter": "particles",
    "Kalman smoother": "Kalman smoother",
    "climatology": "climatology",
}
PAIRS = {name: [(1.0, 2.0), (2.0, 3.0)] for name in LINES}
CURVE = xr.DataArray([0.2, 0.4], {"level": [0.3, 0.6]}, name="coverage")
BINS = xr.Dataset({"spread": ("bin", [1.0, 2.0]), "error": ("bin", [1.0, 3.0])})
CASES = {name: {"a case": 1.0} for name in LINES}
HISTORY = xr.Dataset({"mse": ("batch", [1.0, 0.5])}, {"batch": [1, 2]})
PATH = nk.Lorenz63().simulate(samples=1, steps=3, dt=0.05, seed=0)
FIELD = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=4, dt=5.0, seed=0)
DRAWN = {
    "against": lambda fig: plots.against(fig, PAIRS, "x", "y"),
    "levels": lambda fig: plots.against(fig, {"score": PAIRS["OI"]}, "x", "y", dict.fromkeys(LINES, 1.0)),
    "by_case": lambda fig: plots.by_case(fig, {"score": CASES}),
    "by_effort": lambda fig: plots.by_effort(fig, {"x": PAIRS}, "y"),
    "growth": lambda fig: plots.growth(fig, {"y": PAIRS}, "x"),
    "learning": lambda fig: plots.learning(fig, dict.fromkeys(LINES, HISTORY)),
    "pareto": lambda fig: plots.pareto(fig, dict(reversed(PAIRS.items())), "x", "y"),
    "ranking": lambda fig: plots.ranking(fig, {name: 1.0 for name in LINES}, "x", "OI", ["NIDA, wrong physics"]),
    "reliability": lambda fig: plots.reliability(fig, dict.fromkeys(LINES, CURVE)),
    "spectra": lambda fig: plots.spectra(fig, dict.fromkeys(LINES, FIELD / 2), FIELD),
    "spread_error": lambda fig: plots.spread_error(fig, dict.fromkeys(LINES, BINS)),
    "time_to_accuracy": lambda fig: plots.time_to_accuracy(fig, {"a": PAIRS}, {}, {"a": {}}),
    "trajectories": lambda fig: plots.trajectories(fig, {"truth": PATH.copy()} | dict.fromkeys(LINES, PATH)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_method_has_its_colour_in_every_figure(name):
    fig = plots.figure()
    DRAWN[name](fig)
    found = {line.get_label(): line.get_color() for line in fig.axes[0].lines}
    assert {line: found[line] for line in LINES} == {line: KINDS[kind][1] for line, kind in LINES.items()}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "LETKF"])
def test_a_reconstruction_has_its_methods_colour_alone_and_beside_another(method):
    other = "optimal interpolation" if method == "neural" else "neural"
    small = {"temperatures": 1, "members": 5, "particles": 50}
    for main, beside in ((method, other), (other, method)):
        ds = run(Parameters(method=main, beside=(beside,), **small))
        drawn = plots.make(plots.figure(), ds, steps=[-1]).drawn[0][0]
        assert drawn["mean"].get_color() == colour_of(main) != colour_of(beside)
        assert drawn["band"].get_facecolor()[:3] == rgb(colour_of(main))
        assert drawn[f"beside {beside}"].get_color() == colour_of(beside)


def test_variants_of_one_method_differ_in_style_and_marker():
    looks = looks_of([f"NIDA, {k}" for k in range(len(STYLES))])
    assert {look["color"] for look in looks.values()} == {plots.RED}
    assert len({str(look["linestyle"]) for look in looks.values()}) == len(looks)
    assert len({look["marker"] for look in looks.values()}) == len(looks)


def test_what_is_no_method_has_no_methods_colour():
    looks = looks_of(["banded solve", "dense solve", "right physics"])
    taken = {colour for _, colour in KINDS.values()}
    assert not taken & {look["color"] for look in looks.values()} and not taken & {ORANGE, *GREYS}


def rgb(colour: str) -> tuple[float, float, float]:
    return matplotlib.colors.to_rgb(colour)


def linear(colour: str) -> np.ndarray:
    """Of sRGB (IEC 61966-2-1)."""
    x = np.array(rgb(colour))
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


# How protanopes and deuteranopes see linear RGB: Machado, Oliveira & Fernandes (2009), doi:10.1109/TVCG.2009.113
SEEN = {
    "all": np.eye(3),
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, seen: str) -> np.ndarray:
    """CIE 1976 L*a*b* under D65."""
    x = XYZ @ np.clip(SEEN[seen] @ linear(colour), 0, 1) / [0.9505, 1.0, 1.089]
    fx, fy, fz = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("seen", SEEN)
def test_any_two_kinds_of_method_differ_in_colour_for_colour_blind_readers_too(seen):
    """By far more than the 2.3 that are just noticed."""
    for (one, (_, a)), (two, (_, b)) in combinations(KINDS.items(), 2):
        assert np.linalg.norm(lab(a, seen) - lab(b, seen)) > 16, (one, two)


@pytest.mark.parametrize("colour", [*(colour for _, colour in KINDS.values()), *GREYS])
def test_colours_stand_out_from_white(colour):
    """By 3 to 1, which WCAG 2.1 asks of graphics."""
    assert 1.05 / (XYZ[1] @ linear(colour) + 0.05) > 3


def test_colder_temperatures_are_darker():
    light = [XYZ[1] @ linear(colour) for colour in reds(4)]
    assert light == sorted(light, reverse=True) and light[0] > 4 * light[-1] and not {*reds(3)} & {plots.RED}
