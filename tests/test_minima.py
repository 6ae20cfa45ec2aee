"""Descents of 4D-Var, and the cost between a start, its minimum and the truth."""

import numpy as np
import pytest
import xarray as xr

import nida_kit as nk
from nida_kit import minima
from nida_kit.minima import MinimaParameters, run_minima
from nida_kit.studies import common


@pytest.fixture(scope="module")
def lost():
    return run_minima(MinimaParameters())


def test_descents_begin_at_their_starts_and_end_where_4d_var_does():
    setup = common.lorenz63()
    _, obs = common.observed(setup, common.LAWS["paper"], 2)
    starts = setup.windows(3, seed=5).rename(sample="guess")
    costs, found = minima.descents(setup, obs.isel(sample=1), starts, iterations=8)
    assert costs.dims == ("guess", "step")
    assert (costs.diff("step") <= 1e-9).all()
    same = xr.concat([obs.isel(sample=1)] * 3, "guess")
    np.testing.assert_allclose(costs[:, 0], minima.cost(setup, same, starts))
    alone = nk.WeakFourDVar(setup.system, setup.model_noise_std, iterations=8)
    for i in range(3):
        np.testing.assert_allclose(
            costs[i, -1], alone.assimilate(obs.isel(sample=1), starts.isel(guess=i))["cost"], rtol=1e-6
        )
    np.testing.assert_allclose(found["cost"], costs[:, -1], rtol=1e-9)


def test_the_cost_along_the_lines_is_that_of_their_ends_and_the_descent_never_climbs(lost):
    a = lost.attrs
    np.testing.assert_allclose(
        lost["line_cost"].sel(place=[0.0, 1.0, 2.0]), [a["start_cost"], a["minimum_cost"], a["true_cost"]]
    )
    assert (np.diff(lost["step_cost"]) <= 1e-9).all()
    np.testing.assert_allclose(lost["step_cost"][[0, -1]], [a["start_cost"], a["minimum_cost"]], rtol=1e-9)
    np.testing.assert_allclose(lost["step_place"][[0, -1]], [0, 1], atol=1e-12)
    np.testing.assert_array_equal(lost["mean"][0], lost["first_guess"])


def test_a_wrong_minimum_lies_behind_a_barrier_and_a_start_at_the_truth_does_not(lost):
    right = run_minima(MinimaParameters(place=1.0))
    np.testing.assert_allclose(right["first_guess"], right["truth"])
    assert lost.attrs["barrier"] > 100 and lost.attrs["rmse"] > 1
    assert right.attrs["barrier"] < 1 and right.attrs["rmse"] < 0.2
    assert right.attrs["minimum_cost"] < right.attrs["true_cost"]  # which has the model's noise in it


@pytest.mark.parametrize("wrong", [{"place": 3.0}, {"every": 0}, {"noise_std": 0.0}, {"iterations": 0}, {"seed": -1}])
def test_parameters_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MinimaParameters(**wrong)
