"""Three real files of three kinds go through the first notebook, the command line and the lab, as README says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_notebooks import FOLDER, execute
from typer.testing import CliRunner

import nida_kit as nk
from nida_kit import lab
from nida_kit.cli import app

sample_data = pytest.importorskip("iris_sample_data")
datasets = pytest.importorskip("statsmodels.datasets")
pytest.importorskip("ipywidgets")

SAMPLES = Path(sample_data.path)


def index(folder: Path) -> tuple[xr.DataArray, str | None]:
    """A table at irregular dates: the El Nino index, whose anomalies a climatology of the first forty years knows."""
    wide = datasets.elnino.load_pandas().data.set_index("YEAR").T.unstack()
    months = xr.date_range("1950-01-01", periods=wide.size, freq="MS")
    record = xr.DataArray(wide.values[:, None], {"time": months, "component": ["sst"]}, ("time", "component"))
    season = nk.Season.fit(record.sel(time=slice("1989")))
    anomalies = season.anomalies(record)
    past = nk.windows(anomalies.sel(time=slice("1989")), steps=24)
    method = nk.OptimalInterpolation.fit(past, order=2)
    nk.save(method, folder / "prior.safetensors")
    truth = anomalies.sel(time=slice("1995", "1999"))
    random = np.random.default_rng(0)
    seen = np.sort(random.choice(60, 30, replace=False))
    days = truth["time"].values[seen] + random.integers(0, 27, 30).astype("m8[D]")
    table = pd.DataFrame({"when": days, "what": "sst", "value": truth.values[seen, 0] + random.normal(0, 0.2, 30)})
    table.to_csv(folder / "table.csv", index=False)
    back = pd.read_csv(folder / "table.csv", parse_dates=["when"])
    obs = nk.grid(back, method, time="when", error=0.2, start="1995-01-01", steps=60)
    assert obs["value"].notnull().sum() == 30
    obs.to_netcdf(folder / "obs.nc")
    return truth, None


def field(folder: Path) -> tuple[xr.DataArray, str | None]:
    """A gridded field with gaps, in degC where the past is in K."""
    sst = xr.load_dataset(SAMPLES / "ostia_monthly.nc")["surface_temperature"].astype(float)
    sst = sst.sel(longitude=slice(180, 230)).coarsen(latitude=6, longitude=10, boundary="trim").mean()
    sst = sst.drop_vars([name for name in sst.coords if name not in sst.dims])
    months = xr.date_range("2006-04-01", periods=sst.sizes["time"], freq="MS")
    sst = sst.assign_coords(time=months).assign_attrs(units="K")
    past = nk.windows(sst[:36], steps=6)
    nk.save(nk.OptimalInterpolation.fit(past, order=1, shrinkage="auto"), folder / "prior.safetensors")
    truth = sst[36:48]
    celsius = (truth - 273.15).assign_attrs(units="degC")
    where = np.random.default_rng(0).random(truth.shape) < 0.4
    obs = xr.Dataset({"value": celsius.where(where), "noise_std": xr.DataArray(0.2, attrs={"units": "K"})})
    obs.to_netcdf(folder / "obs.nc")
    return truth, None


def flagged(folder: Path) -> tuple[xr.DataArray, str | None]:
    """A record of a 360-day calendar with quality flags."""
    model = xr.load_dataset(SAMPLES / "A1B_north_america.nc")
    temperature = model["air_temperature"].astype(float)
    series = temperature.isel(latitude=[20], longitude=[20]).squeeze(("latitude", "longitude"), drop=True)
    series = series.drop_vars([name for name in series.coords if name != "time"]).expand_dims(component=["t"], axis=1)
    series = series.assign_coords(units=("component", ["K"]))
    past = nk.windows(series[:160], steps=8)
    nk.save(nk.OptimalInterpolation.fit(past, order=1, shrinkage="auto"), folder / "prior.safetensors")
    truth = series[160:184]
    flags = (np.arange(24)[:, None] % 5 == 0).astype("i1")
    value = truth + np.where(flags == 1, 30.0, 0.0) + np.random.default_rng(0).normal(0, 0.3, (24, 1))
    value = value.where(np.arange(24)[:, None] % 2 == 0)
    about = {"flag_values": np.array([0, 1], "i1"), "flag_meanings": "good bad"}
    obs = xr.Dataset({"value": value, "noise_std": 0.3, "value_qc": (value.dims, flags, about)})
    obs.to_netcdf(folder / "obs.nc")
    return truth, "good"


@pytest.mark.parametrize("make", [index, field, flagged])
def test_a_real_file_goes_through_notebook_command_line_and_lab(make, tmp_path, monkeypatch):
    monkeypatch.setenv("NIDA_STRICT", "1")
    truth, flag = make(tmp_path)
    prior = str(tmp_path / "prior.safetensors")
    obs = nk.load_observations(tmp_path / "obs.nc", flag=flag)
    expected = nk.method_of(prior).assimilate(obs)
    hidden = nk.method_of(prior).assimilate(obs.assign(value=obs["value"] * np.nan))
    close, far = (float(nk.rmse(x["mean"], truth)) for x in (expected, hidden))
    assert close < 0.8 * far
    assert 0.6 < float(nk.coverage(expected["mean"], expected["std"], truth)) <= 1

    asked = {"observations": "obs.nc", "prior": prior, "output": "notebook.nc", "figure": "notebook.png"}
    execute(FOLDER / "00_start_here.ipynb", tmp_path, asked | ({"flag": flag} if flag else {}))
    call = ["reconstruct", str(tmp_path / "obs.nc"), str(tmp_path / "shell.nc"), "--prior", prior]
    call += ["--figure", str(tmp_path / "shell.png"), *(["--flag", flag] if flag else [])]
    ran = CliRunner().invoke(app, call)
    assert ran.exit_code == 0, ran.output
    for name in ("notebook.nc", "shell.nc"):
        found = xr.load_dataset(tmp_path / name)
        np.testing.assert_allclose(found["mean"], expected["mean"], atol=1e-9)
        assert found["time"].equals(truth["time"])
        assert (tmp_path / name).with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    mine = lab.Lab(tmp_path / "lab.png", observations=tmp_path / "obs.nc", prior=prior, flag=flag, share=0.0)
    np.testing.assert_allclose(mine.model.result["mean"].isel(step=-1), expected["mean"], atol=1e-9)
    mine.buttons["at random"].click()
    hidden = mine.model.result["hidden"].notnull()
    assert hidden.sum() == mine.model.result.attrs["withheld"] > 0
    told = nk.method_of(prior).assimilate(obs.assign(value=obs["value"].where(~hidden)))
    np.testing.assert_allclose(mine.model.result["mean"].isel(step=-1), told["mean"], atol=1e-9)
