"""The study of large fields, tiny."""

import os

import numpy as np
import pytest
import xarray as xr

from nida_kit.studies import fields_scale as study


def test_the_truth_does_not_depend_on_how_it_is_cut():
    of = study.climatology((160, 144), 2)
    whole = study.truth(of, slice(0, 160), slice(0, 144))
    part = study.truth(of, slice(72, 120), slice(80, 144))
    np.testing.assert_allclose(part, whole[:, 72:120, 80:144], atol=1e-4)


def test_one_field_and_its_tiles_are_measured():
    found = study.one(33, 3)
    assert found["values"] == 3267 and 0 < found["error"] < 0.5
    assert found["seconds"] > 0 and found["memory"] > 0.05
    found = study.against_whole(side=65, steps=2, tile=32)["halo"]
    assert found["0"]["error"] > found["32"]["error"] == pytest.approx(1, abs=0.01)


def test_a_store_is_made_part_by_part(tmp_path):
    of = study.climatology((64, 64), 2)
    study.store_of(of, tmp_path / "obs.zarr", 32)
    obs = xr.open_zarr(tmp_path / "obs.zarr", consolidated=False)
    assert obs["value"].dtype == np.float32
    assert float(obs["value"].notnull().mean()) == pytest.approx(1 / study.EVERY, rel=0.1)
    error = obs["value"] - study.truth(of, slice(0, 64), slice(0, 64))
    assert float(error.std()) == pytest.approx(study.NOISE, rel=0.2)


def test_memory_is_watched():
    with study.Watch([os.getpid()]) as watch:
        watch._over.wait(1.2)
    assert watch.most >= watch.most_until(0.5) > 0.1


def test_an_estimate_grows_with_what_it_is_made_from():
    run = {"values": 10**8, "steps": 8, "tile": 512, "halo": 32, "seconds": 720.0, "memory": 4.0, "workers": 2}
    found = study.billion(run, cores=22)
    assert found["core hours"] == 2.0
    assert found["tiles"] == 484 and found["hours"] == pytest.approx(2 / 22, rel=1e-3)
    assert found["memory of a core, GB"] == 2.0
    rows = [{"values": 10.0**k, "seconds": 3e-6 * 10 ** (1.1 * k)} for k in range(5)]
    assert study.exponent(rows, "values") == pytest.approx(1.1)
