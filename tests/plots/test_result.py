"""`nk.plot` draws results of any state."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

import nida_kit as nk

TRUTH = nk.Pendulum().simulate(samples=3, steps=9, dt=0.1, seed=0)
OBS = nk.observe(TRUTH, components=["angle"], every=4, noise_std=0.1, seed=1)
RESULT = nk.NeuralIncremental.pretrained("pendulum", temperatures=1).assimilate(OBS)


def lines(ax) -> dict[str, np.ndarray]:
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    return drawn | {c.get_label(): c.lines[0].get_ydata() for c in ax.containers}


def test_the_panels_show_the_numbers_of_the_window():
    fig = nk.plot(RESULT, OBS, TRUTH, window=2)
    assert isinstance(fig, Figure) and len(fig.axes) == 2
    shown = lines(fig.axes[0])
    np.testing.assert_array_equal(shown["truth"], TRUTH[2, :, 0])
    np.testing.assert_array_equal(shown["reconstruction"], RESULT["mean"][2, :, 0])
    np.testing.assert_array_equal(shown["observation"].astype(float), OBS["value"][2, :, 0])
    assert "observation" not in lines(fig.axes[1])
    (band,) = fig.axes[0].collections[:1]
    top = float((RESULT["mean"] + 1.6448536 * RESULT["std"])[2, :, 0].max())
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(top, rel=1e-3)
    assert "angle [rad]" in fig.axes[0].get_ylabel()


def test_a_result_alone_is_drawn_and_one_window_without_leading_dims():
    assert set(lines(nk.plot(RESULT.isel(sample=0)).axes[0])) == {"reconstruction"}


@pytest.mark.parametrize(
    "time",
    [
        pd.date_range("2020-01-01", periods=9),
        xr.date_range("2020-02-01", periods=9, calendar="360_day", use_cftime=True),
        pd.to_timedelta(np.arange(9), "h"),
    ],
    ids=["dates", "360 days", "durations"],
)
def test_times_of_any_kind_are_drawn(time, tmp_path):
    fig = nk.plot(RESULT.assign_coords(time=time), OBS.assign_coords(time=time))
    fig.savefig(tmp_path / "f.png")


def test_many_components_and_fields_are_images(tmp_path):
    many = nk.Lorenz96().simulate(2, 5, 0.05)
    fig = nk.plot(xr.Dataset({"mean": many, "std": 0 * many + 1}), truth=many, window=1)
    assert [ax.get_title() for ax in fig.axes[:3]] == ["reconstruction", "standard deviation", "truth"]
    np.testing.assert_array_equal(fig.axes[0].collections[0].get_array(), many[1].T)
    grid = nk.GridLabels({"y": (0.0, 1.0), "x": (0.0, 1.0, 2.0)}, "K", "temperature")
    values = np.arange(12.0).reshape(2, 2, 3)
    field = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": [0.0, 1.0], **grid.coordinates()})
    fig = nk.plot(field.to_dataset(name="mean"))
    np.testing.assert_array_equal(fig.axes[0].images[0].get_array(), values[-1])
    fig.savefig(tmp_path / "f.png")


def test_a_plane_is_shown_with_what_is_known_of_it():
    grid = nk.GridLabels({"y": (0.0, 1.0), "x": (0.0, 1.0, 2.0)}, "K", "temperature")
    values = np.arange(12.0).reshape(2, 2, 3)
    truth = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": [0.0, 1.0], **grid.coordinates()})
    obs = xr.Dataset({"value": truth.where(truth > 8).isel(x=[2, 0]), "noise_std": 0.1})
    fig = nk.plot(xr.Dataset({"mean": truth + 1, "std": 0 * truth + 2}), obs, truth)
    titles = [ax.get_title() for ax in fig.axes if ax.get_title() not in ("", "[K]")]
    assert titles == ["truth", "observations", "reconstruction", "error", "standard deviation"]
    seen = next(ax for ax in fig.axes if ax.get_title() == "observations").collections[0]
    assert sorted(seen.get_array()) == [9.0, 11.0]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="window=3: there are 3"):
        nk.plot(RESULT, window=3)
    with pytest.raises(ValueError, match="no mean along time"):
        nk.plot(OBS)
    with pytest.raises(ValueError, match="no value"):
        nk.plot(RESULT, RESULT)
    with pytest.raises(ValueError, match="truth="):
        nk.plot(RESULT, truth=OBS)
    field = nk.QuasiGeostrophic(cells=17).simulate(samples=1, steps=9, dt=5.0, seed=0)
    points = nk.observe(field, at=nk.tracks(field, repeat=20.0, passes=8), noise_std=0.1)
    with pytest.raises(ValueError, match="into the nearest ones"):
        nk.plot(field.to_dataset(name="mean"), points)
