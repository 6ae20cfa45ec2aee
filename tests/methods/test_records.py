"""What results say of themselves, and their files."""

import json
import warnings

import numpy as np
import pytest
import xarray as xr

import nida_kit as nk
from nida_kit import plots

METHOD = nk.NeuralIncremental.pretrained("pendulum", temperatures=1)
TRUTH = nk.Pendulum().simulate(samples=2, steps=12, dt=0.1, seed=0)
OBS = nk.observe(TRUTH, components=["angle"], every=4, noise_std=0.1, seed=1)
HERE = {"title": "a pendulum", "seed": 7, "levels": np.array([1, 2]), "Conventions": "CF-1.8"}


def test_the_attributes_of_observations_stay_beside_the_records():
    found = METHOD.assimilate(OBS.assign_attrs(HERE)).attrs
    assert (found["title"], found["levels"], found["obs_seed"], found["seed"]) == ("a pendulum", [1, 2], 7, "none")
    assert found["method"] == "NeuralIncremental" and found["Conventions"].startswith("CF-")


def test_the_path_of_the_file_is_on_record_and_the_record_is_plain_json(tmp_path):
    OBS.assign_attrs(HERE).to_netcdf(tmp_path / "mine.nc")
    obs = nk.load_observations(tmp_path / "mine.nc")
    result = METHOD.assimilate(obs)
    assert result.attrs["observations_file"] == str(tmp_path / "mine.nc")
    plots.save(plots.figure(), tmp_path / "f.png", result.attrs)
    assert json.loads((tmp_path / "f.json").read_text())["levels"] == [1, 2]
    assert METHOD.sample(obs, 2).attrs["title"] == "a pendulum"


def test_lazy_results_have_them_too():
    lazy = METHOD.assimilate(OBS.assign_attrs(title="a pendulum").chunk(sample=1))
    assert lazy.attrs["title"] == "a pendulum" and lazy["mean"].chunks


def test_variables_have_the_names_and_units_of_the_conventions():
    obs = nk.observe(nk.Lorenz63().simulate(1, 8, 0.05), components=["x"], every=4, noise_std=0.4)
    obs["value"].attrs["standard_name"] = "air_temperature"
    found = nk.NeuralIncremental.pretrained("lorenz63", temperatures=1).assimilate(obs)
    assert found["mean"].attrs["units"] == found["std"].attrs["units"] == "1"
    assert found["mean"].attrs["standard_name"] == "air_temperature"
    assert found["std"].attrs["standard_name"] == "air_temperature standard_error"
    assert found["observed"].attrs["standard_name"] == "number_of_observations"
    assert found["time"].attrs["axis"] == "T"
    # rad and rad s-1: the array as a whole has no unit, each component has
    assert "units" not in METHOD.assimilate(OBS)["mean"].attrs


@pytest.mark.parametrize("kind", ["result", "observations", "truth"])
def test_texts_are_written_to_zarr_without_a_warning_and_read_as_they_were(kind, tmp_path):
    data = {"result": METHOD.assimilate(OBS), "observations": OBS, "truth": TRUTH.to_dataset(name="truth")}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.to_zarr(tmp_path / "store", consolidated=False)
    data.to_netcdf(tmp_path / "file.nc")
    for again in (xr.open_zarr(tmp_path / "store", consolidated=False).load(), xr.load_dataset(tmp_path / "file.nc")):
        xr.testing.assert_equal(again, data)
        assert again["component"].values.tolist() == data["component"].values.tolist()
