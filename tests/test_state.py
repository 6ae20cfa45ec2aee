"""What a state says of itself."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from advection import Advection

import nida_kit as nk
from nida_kit.state import state_dims

GRID = Advection.labels


def test_both_kinds_of_labels_say_the_same_of_themselves():
    names = nk.Lorenz63().labels
    assert (names.dims, names.shape, names.size) == (("component",), (3,), 3)
    assert (GRID.dims, GRID.shape, GRID.size) == (("y", "x"), (8, 9), 72)
    assert names.indexes == {"component": ("x", "y", "z")}
    assert GRID.indexes["y"] == tuple(np.arange(8) * 2.0)


def test_grids_compare_hash_and_pickle():
    again = nk.GridLabels({d: list(v) for d, v in GRID.coords}, "K", "temperature", coord_units={"y": "km", "x": "km"})
    assert again == GRID and hash(again) == hash(GRID) and pickle.loads(pickle.dumps(GRID)) == GRID
    assert nk.GridLabels({"x": range(9)}) != nk.GridLabels({"x": range(8)})


def test_a_grid_knows_the_units_of_its_coordinates():
    coords = GRID.coordinates()
    assert {dim: c[2]["units"] for dim, c in coords.items()} == {"y": "km", "x": "km"}
    assert nk.GridLabels({"x": range(3)}).coordinates()["x"][2]["units"] == "1"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"coords": {}}, "needs a dim"),
        ({"coords": {"x": range(3)}, "coord_units": {"y": "m"}}, r"\['y'\] are no dims"),
        *[
            ({"coords": {name: range(3)}}, f"dim '{name}', a name that.*rename")
            for name in ("time", "component", "sample", "step", "temperature", "member", "draws", "other_time", "mean")
        ],
        ({"coords": {3: range(3)}}, "dim 3"),
        ({"coords": {"x": "abc"}}, "sequence of finite numbers"),
        ({"coords": {"x": 4}}, "sequence of finite numbers"),
        ({"coords": {"x": [0, np.nan]}}, "sequence of finite numbers"),
        ({"coords": {"x": [0, 1, 0]}}, "none twice"),
        ({"coords": {"x": []}}, "one or more"),
        *[({"coords": coords}, "coords=.*a mapping from dims") for coords in ([1, 2], None, "yx", 3)],
        *[
            ({"coords": {"y": values}}, "coordinates of 'y'.*sequence of finite numbers")
            for values in (None, {1, 2}, np.array(3.0), np.ones((2, 2)), [True, False], [1j], [10**400])
        ],
        ({"coords": {"y": [1, 2]}, "coord_units": "km"}, "coord_units='km' must be a mapping"),
        ({"coords": {"y": [1, 2]}, "coord_units": {"y": 3}}, "coord_units.*=3 must be a text"),
        *[
            ({"coords": {"y": [1, 2]}, n: None}, f"{n}=None must be a text")
            for n in ("units", "long_name", "time_units")
        ],
    ],
)
def test_a_grid_that_cannot_be_is_a_named_value_error(how, said):
    with pytest.raises(ValueError, match=said):
        nk.GridLabels(**how)


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.0, 2.5]),
        torch.tensor([0.0, 2.5], requires_grad=True),
        xr.DataArray([0.0, 2.5], dims="y"),
        pd.Index([0, 2.5]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_coordinates_and_names_come_in_arrays_of_any_kind(values):
    grid = nk.GridLabels({"y": values})
    assert grid == nk.GridLabels({"y": [0.0, 2.5]}) and hash(grid) == hash(nk.GridLabels({"y": [0.0, 2.5]}))
    truth = nk.Lorenz63().simulate(1, 2, 0.1)
    labels = nk.StateLabels(truth["component"], truth["units"].values, list(truth["long_name"].values))
    assert labels.components == ("x", "y", "z") and labels == nk.StateLabels(
        *map(tuple, (labels.components, labels.units, labels.long_names))
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a", "a"), "different names"),
        ((), "one or more"),
        (None, "components=None must be a list"),
        ("ab", "components='ab' must be a list"),
        ((1, 2), "a list of names"),
    ],
)
def test_components_that_no_state_has_are_a_named_value_error(given, said):
    with pytest.raises(ValueError, match=said):
        nk.StateLabels(given, ("1",) * 2, ("a", "b"))
    with pytest.raises(ValueError, match="time_units=3 must be a text"):
        nk.StateLabels(("a",), ("1",), ("a",), 3)


def test_the_dims_of_a_state_are_found_in_any_order():
    truth = Advection().simulate(2, 3, 0.1)
    assert state_dims(truth) == ("y", "x")
    assert state_dims(truth.transpose("x", "time", "sample", "y")) == ("y", "x")
    assert state_dims(truth.isel(y=0)) == ("x",)
    assert state_dims(nk.Lorenz63().simulate(2, 3, 0.1)) == ("component",)
    assert state_dims(nk.Lorenz63().simulate(2, 3, 0.1).isel(component=0)) == ()
    assert state_dims(xr.DataArray(np.zeros((2, 3, 4, 5)), dims=("sample", "time", "lat", "lon"))) == ("lat", "lon")
