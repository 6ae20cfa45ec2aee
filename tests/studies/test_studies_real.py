"""The study of two real records: what is withheld stays so, and what is measured is there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import nida_kit as nk
from nida_kit import notebook
from nida_kit.studies import real

pytest.importorskip("statsmodels")
pytest.importorskip("iris_sample_data")


@pytest.fixture(scope="module", params=real.TASKS)
def task(request):
    return real.TASKS[request.param]()


def test_blocks_make_up_the_record(task):
    whole = xr.concat([task.block(k) for k in range(len(task.blocks))], "time")
    xr.testing.assert_equal(whole, task.record)
    assert task.record.notnull().all()


def test_nothing_that_is_fitted_knows_the_block_that_is_withheld(task):
    last = len(task.blocks) - 1
    dates = task.block(last)["time"]
    other = replace(task, record=task.record + 9 * task.record["time"].isin(dates))
    (season, cut), (again, same) = (real.past(each, range(last)) for each in (task, other))
    xr.testing.assert_equal(cut, same)
    xr.testing.assert_equal(season.coefficients, again.coefficients)
    for kind, choice in ((real.INTERPOLATION, {"order": 1, "shrinkage": 0.1}), (real.SMOOTHER, {"shrinkage": 0.1})):
        _, obs = task.observe(task.block(last), 0, 1)
        found = [real.fitted(each, range(last), kind, choice).assimilate(obs)["mean"] for each in (task, other)]
        xr.testing.assert_equal(*found)


def test_windows_do_not_reach_over_the_block_between(task):
    _, cut = real.past(task, [0, 2])
    begins = cut["begins"].values.astype("datetime64[M]")
    first, last = (np.datetime64(month, "M") for month in task.blocks[1])
    assert not ((begins + task.window - 1 >= first) & (begins <= last)).any()


def test_anomalies_are_as_large_as_those_of_a_new_year():
    """Independent years: about the mean of five others, a year's anomaly has 6 / 5 of the variance."""
    rng, time = np.random.default_rng(0), xr.date_range("2000-01-01", periods=72, freq="MS")
    values = np.repeat(rng.normal(size=(6, 4000)), 12, axis=0)
    record = xr.DataArray(values, {"time": time, "component": np.arange(4000)}, ("time", "component"))
    years = [(f"{year}-01", f"{year}-12") for year in range(2000, 2006)]
    task = replace(real.el_nino(), record=record, blocks=years, window=12)
    season, cut = real.past(task, range(5))
    assert float((cut**2).mean()) == pytest.approx(1.2, rel=0.05)
    assert float((season.anomalies(task.block(5)) ** 2).mean()) == pytest.approx(1.2, rel=0.05)


def test_only_instruments_report_and_not_always(task):
    seen, noise = task.reporting((200, 24, task.at.size), torch.Generator().manual_seed(0))
    at = torch.from_numpy(task.at.values.ravel())
    assert not seen[..., ~at].any() and (noise == task.noise).all()
    share = float(seen[..., at].double().mean())
    assert 0.5 * (1 - task.lost) < share < 1 - task.lost


def test_a_dozen_buoys_stand_in_boxes_of_their_own():
    assert int(real.pacific().at.sum()) == len(real.BUOYS) == 12


def test_scores_are_of_what_was_not_observed():
    task = real.pacific()
    method = real.fitted(task, range(4), real.CLIMATOLOGY, {"order": 0, "shrinkage": 1.0})
    found = real.scores(task, method, 4)
    truth, obs = task.observe(task.block(4), real.TEST + 4)
    away = (method.season.at(truth["time"]) - truth).where(obs["value"].isnull())
    assert found["all"]["mse"] == pytest.approx(float((away**2).mean()), rel=1e-2)  # its mean is not quite 0
    assert found["all"]["values"] == found["points"]["values"] + found["months"]["values"]
    assert found["points"]["values"] == real.REPEATS * 6 * 36


def test_a_network_that_was_not_trained_is_optimal_interpolation():
    task, choice = real.el_nino(), {"order": 2}
    method, history = real.network(task, range(5), choice, None)
    _, obs = task.observe(task.block(5), 0, 1)
    other = real.fitted(task, range(5), real.INTERPOLATION, choice)
    assert history is None
    for name in ("mean", "std"):
        np.testing.assert_allclose(method.assimilate(obs)[name], other.assimilate(obs)[name], rtol=1e-6)


def test_the_study_runs_small():
    short = nk.Settings(steps=2, batch=4, longest=2, look=1)
    task = replace(real.el_nino(), settings=[short], menu=real.el_nino().menu | {real.INTERPOLATION: [{"order": 1}]})
    found = real.cross_validate(task, 1, [5])
    assert list(found["methods"]) == [real.CLIMATOLOGY, real.INTERPOLATION, real.SMOOTHER, real.NEURAL]
    rows = {name: row["all"] for name, row in found["methods"].items()}
    assert rows[real.SMOOTHER]["rmse"] == pytest.approx(rows[real.INTERPOLATION]["rmse"], rel=1e-2)
    assert rows[real.NEURAL]["rmse"] == pytest.approx(rows[real.INTERPOLATION]["rmse"], rel=0.1)
    assert all(rows[name]["rmse"] < rows[real.CLIMATOLOGY]["rmse"] for name in (real.INTERPOLATION, real.NEURAL))
    assert found["blocks"][0]["withheld"] == ["2000-01", "2010-12"]


def test_each_buoy_is_scored_at_its_own_box():
    task = real.pacific()
    obs = task.observe(task.block(0), 1, 1)[1].isel(sample=0)

    def values_there(method, obs, latitude, longitude):
        return int(obs["value"].sel(latitude=latitude, longitude=longitude).notnull().sum())

    found = real.by_buoy({"any": None}, obs, values_there)
    assert list(found.index) == list(real.BUOYS)
    assert (found["any"] > 0).all() and found["any"].sum() == obs["value"].notnull().sum()


def test_the_record_is_read_by_method_and_by_block():
    found = notebook.record("real")
    table = real.table(found["Pacific"], {"points": "boxes without a buoy"})
    assert list(table.index) == [real.CLIMATOLOGY, real.INTERPOLATION, real.SMOOTHER, real.NEURAL]
    of_smoother = found["Pacific"]["methods"][real.SMOOTHER]
    unit = found["Pacific"]["methods"][real.CLIMATOLOGY]["all"]["rmse"]
    assert table.loc[real.SMOOTHER, real.ERROR] == pytest.approx(of_smoother["all"]["rmse"] / unit, abs=5e-4)
    assert table.loc[real.SMOOTHER, "in boxes without a buoy [K]"] == round(of_smoother["points"]["rmse"], 3)
    panels = real.by_block(found["Pacific"])
    assert list(panels[real.ERROR][real.NEURAL])[-1] == "2010-04 to 2010-09"
    assert next(iter(real.by_block(found["El Nino"])[real.ERROR][real.NEURAL])) == "1950 to 1959"
    row = found["Pacific"]["blocks"][0]["NIDA, seed 0"]
    assert panels[real.COVERED][real.NEURAL]["2006-04 to 2007-03"] == row["coverage_90"]


def test_series_at_places_are_those_of_the_nearest_boxes():
    field = real.pacific().record
    latitude, longitude = (float(field[dim][2]) for dim in ("latitude", "longitude"))
    found = real.at_places(field, {"here": (latitude + 0.1, longitude - 0.1)})
    assert found.dims == ("time", "component") and found["units"].values.tolist() == ["K"]
    np.testing.assert_array_equal(found.sel(component="here"), field.sel(latitude=latitude, longitude=longitude))
