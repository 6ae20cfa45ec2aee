"""The scaling study, tiny: what is timed computes the same by every way, and the record has what the notebook reads."""

import json
import math

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
from nida_kit import plots
from nida_kit.linalg.banded import BlockBanded
from nida_kit.studies import scaling


def test_an_exponent_is_the_power_of_a_power_law():
    line = [(2**k, 3e-6 * 2 ** (2.5 * k)) for k in range(6)]
    assert scaling.exponent(line) == pytest.approx(2.5)
    # Small sizes, where calls take the time, do not count.
    assert scaling.exponent([(1, 1.0), (2, 1.0), *[(4 * x, y) for x, y in line[:4]]]) == pytest.approx(2.5)


def test_calls_take_turns():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    found = scaling.in_turns(calls, repeats=2, least=0)
    assert order == ["a", "a", "b", "b"] + ["a", "b"] * 2  # how long they take, then two turns
    assert set(found) == {"a", "b"} and all(0 <= s < 1 for s in found.values())


def test_a_turn_lasts_long_enough_to_be_timed():
    calls = []
    scaling.in_turns({"a": lambda: calls.append(sum(range(20_000)))}, repeats=1, least=0.02)
    assert len(calls) > 10


@pytest.mark.parametrize("n", [1, 3])
def test_banded_and_dense_compute_the_same(n):
    A, b = scaling.problem(6, n)
    full = A.dense()
    np.testing.assert_allclose(scaling.dense_solve(full, b).flatten(), np.linalg.solve(full, b.flatten()), rtol=1e-10)
    np.testing.assert_allclose(A.solve(b), scaling.dense_solve(full, b), rtol=1e-10)
    np.testing.assert_allclose(
        scaling.dense_variances(full, 6).flatten(), np.linalg.inv(full.numpy()).diagonal(), rtol=1e-10
    )
    np.testing.assert_allclose(A.variances, scaling.dense_variances(full, 6), rtol=1e-10)


@pytest.mark.parametrize("way", scaling.WAYS.values(), ids=scaling.WAYS)
def test_every_way_solves_and_has_the_gradient_of_the_dense_inverse(way):
    A, b = scaling.problem(5, 2)
    full = A.dense()
    x = torch.linalg.solve(full, b.flatten())
    np.testing.assert_allclose(way(A.blocks, b).flatten(), x, rtol=1e-10)
    adjoint = torch.linalg.solve(full, 2 * x)
    blocks, for_b = scaling.gradient(way, A.blocks, b)
    np.testing.assert_allclose(for_b.flatten(), adjoint, rtol=1e-10)
    # Of a symmetric matrix: entry (i, j) and its mirror image move together.
    entries = -(torch.outer(adjoint, x) + torch.outer(x, adjoint))
    expected = BlockBanded.from_dense(entries, 5).blocks[:, :2]
    np.testing.assert_allclose(blocks[:-1, 1], expected[:-1, 1], rtol=1e-9)
    main = (blocks[:, 0] + blocks[:, 0].mT) / 2
    np.testing.assert_allclose(main, expected[:, 0] / 2, rtol=1e-9)


def test_what_is_kept_for_the_gradient_is_counted():
    A, b = scaling.problem(16, 3)
    kept = {name: scaling.saved_bytes(way, A.blocks, b) for name, way in scaling.WAYS.items()}
    # The solution, and the banded factor: as many rows as two blocks have.
    assert kept["implicit, banded"] == 8 * (16 * 3 + 6 * 16 * 3)
    assert kept["autograd, dense"] > 8 * 48**2
    assert kept["implicit, banded"] < kept["autograd, step by step"] < kept["autograd, dense"]


def well_formed(found, sizes):
    json.dumps(found)
    for name, line in found["seconds"].items():
        assert [size for size, _ in line] == sizes[: len(line)] and line, name
        assert all(seconds > 0 for _, seconds in line)
        assert len(line) < 2 or math.isfinite(found["exponents"][name])


def test_the_algebra_against_the_length():
    found = scaling.algebra([8, 16, 32], dense_up_to=16, repeats=1)
    well_formed(found, [8, 16, 32])
    assert set(found["seconds"]) == {"banded solve", "banded variances", "dense solve", "dense variances"}
    assert [len(line) for line in found["seconds"].values()] == [3, 3, 2, 2]
    assert 0 < found["largest_difference"] < 1e-10
    assert found["bytes"]["banded"][-1] == (32, 32 * 2 * 9 * 8) and found["bytes"]["dense"][-1] == (32, 96**2 * 8)


def test_gradients_against_the_length():
    found = scaling.gradients([8, 16], dense_up_to=8, repeats=1)
    well_formed(found, [8, 16])
    assert set(found["exponents"]) == {"implicit, banded", "autograd, step by step"}
    assert found["largest_difference"] < 1e-10
    assert {name: len(line) for name, line in found["bytes"].items()} == {
        "implicit, banded": 2,
        "autograd, step by step": 2,
        "autograd, dense": 1,
    }


def test_methods_against_the_length():
    found = scaling.by_length([16, 32], batch=2, members=4, particles=50, repeats=1)
    well_formed(found, [16, 32])
    assert set(found["seconds"]) == {
        "optimal interpolation",
        "NIDA, 4 temperatures",
        "NIDA, one of a batch of 2",
        "EnKF, 4 members",
        "particle filter, 50",
        "4D-Var, one step",
    }
    assert found["mse"]["NIDA, 4 temperatures"][1][1] < found["mse"]["optimal interpolation"][1][1]


def test_methods_against_the_size_of_the_state():
    found = scaling.by_state([8, 12], steps=8, cycles=30, members=(12, 6), repeats=1)
    well_formed(found, [8, 12])
    assert set(found["seconds"]) == {
        "banded solve",
        "RingPrior, the network",
        "RingPrior, one step",
        "4D-Var, one step",
        "EnKF, 12 members",
        "LETKF, 6 members",
    }
    for line in found["rmse"].values():
        assert all(error < 0.6 for _, error in line)  # observation errors are 1, the climate's spread is 3.6
    assert found["bytes"]["precision of a window"][0] == (8, 8 * 2 * 8 * 64)


def test_an_untrained_network_serves_its_ring_as_a_trained_one():
    prior = scaling.untrained(10)
    assert isinstance(prior, nk.RingPrior)
    start = prior.climatology.over(6)
    with torch.no_grad():
        assert prior(start, 0.5).mean.shape == (6, 10)


def test_sizes_that_measure_nothing_are_refused():
    for wrong in ({"lengths": []}, {"lengths": [8, 4]}, {"lengths": [8], "repeats": 0}, {"lengths": [8], "n": 0}):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            scaling.algebra(**wrong)
    with pytest.raises(ValueError, match="lengths"):
        scaling.by_length([4])
    with pytest.raises(ValueError, match="sites"):
        scaling.by_state([5])


def test_the_record_has_every_sweep_under_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "MEASURES", {"algebra": scaling.algebra})
    monkeypatch.setattr(scaling, "SIZES", {"algebra": [8, 16]})
    found = scaling.measure(1, tmp_path)
    well_formed(found["algebra"], [8, 16])
    assert "1 turn" in found["timing"]
    assert set(scaling.MEASURES) <= set(found)


def test_growth_draws_every_line_and_the_expected_powers():
    panels = {
        "seconds": {"a": [(8, 1.0), (16, 2.0), (32, 4.0)], "b": [(8, 1.0), (16, 8.0)]},
        "bytes": {"a": [(8, 10.0), (16, 20.0)]},
    }
    axes = plots.growth(plots.figure(rows=2), panels, "size", {"seconds": {"a": 1, "b": 3}})
    assert [ax.get_ylabel() for ax in axes] == ["seconds", "bytes"]
    assert [len(ax.lines) for ax in axes] == [4, 1]
    np.testing.assert_allclose(axes[0].lines[2].get_ydata(), [1, 2, 4])  # exactly linear, so the guide lies on it
    assert axes[0].lines[0].get_linestyle() != axes[0].lines[1].get_linestyle()
    assert axes[0].lines[0].get_color() == axes[1].lines[0].get_color()


def test_learning_draws_every_batch_and_their_running_median():
    mse = np.linspace(1.0, 0.1, 40)
    history = xr.Dataset({"mse": ("batch", mse)}, {"batch": range(1, 41)})
    ax = plots.learning(plots.figure(), {"mine": history}, {"interpolation": 0.5}, smooth=3)
    points, line, level = ax.lines
    np.testing.assert_array_equal(points.get_ydata(), mse**0.5)
    np.testing.assert_allclose(line.get_ydata()[1:-1], mse[1:-1] ** 0.5)  # the median of three falling values
    assert set(level.get_ydata()) == {0.5}


FOUND = {
    "algebra": lambda: scaling.algebra([8, 16], dense_up_to=16, repeats=1),
    "by_length": lambda: scaling.by_length([16, 32], repeats=1),
    "by_state": lambda: scaling.by_state([8, 12], steps=8, cycles=30, repeats=1),
}


@pytest.mark.parametrize("sweep", FOUND)
def test_each_sweep_is_drawn_and_its_powers_stand_beside_their_laws(sweep):
    found = FOUND[sweep]()
    fig = plots.figure(rows=1.8)
    drawn = scaling.panels(sweep, found)
    axes = plots.growth(fig, **drawn)
    assert [ax.get_ylabel() for ax in axes] == list(drawn["panels"])
    for ax, lines in zip(axes, drawn["panels"].values(), strict=True):
        shown = {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}
        for name, line in lines.items():
            np.testing.assert_allclose(shown[name], line)
    table = scaling.powers(sweep, found)
    assert table["measured power"].to_dict() == found["exponents"]
    assert table["law"].to_dict() == scaling.LAWS[sweep]


def test_errors_are_drawn_in_climatological_standard_deviations():
    found = {"mse": {"NIDA": [(8, 0.25)]}, "seconds": {}, "batch": 2}
    assert scaling.panels("by_length", found)["panels"][scaling.RMSE] == {"NIDA": [(8, 0.5)]}
    ring = nk.setups.load("sakov2008-lorenz96")
    found = {"rmse": {"EnKF": [(40, ring.climatological_std)]}, "seconds": {}, "bytes": {}}
    assert scaling.panels("by_state", found)["panels"][scaling.RMSE]["EnKF"] == [(40, pytest.approx(1.0))]
