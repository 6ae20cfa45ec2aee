"""What a state says of itself."""

import pickle

import numpy as np
import pytest
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
    ],
)
def test_a_grid_that_cannot_be_is_a_named_value_error(how, said):
    with pytest.raises(ValueError, match=said):
        nk.GridLabels(**how)


def test_the_dims_of_a_state_are_found_in_any_order():
    truth = Advection().simulate(2, 3, 0.1)
    assert state_dims(truth) == ("y", "x")
    assert state_dims(truth.transpose("x", "time", "sample", "y")) == ("y", "x")
    assert state_dims(truth.isel(y=0)) == ("x",)
    assert state_dims(nk.Lorenz63().simulate(2, 3, 0.1)) == ("component",)
    assert state_dims(nk.Lorenz63().simulate(2, 3, 0.1).isel(component=0)) == ()
    assert state_dims(xr.DataArray(np.zeros((2, 3, 4, 5)), dims=("sample", "time", "lat", "lon"))) == ("lat", "lon")
