"""Maps of a field, its animation and its spectra show the data, and nothing else."""

import shutil
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from PIL import Image

import nida_kit as nk
from nida_kit import plots
from nida_kit.evaluate import BAND, spectrum
from nida_kit.plots.plane import ERROR, MEAN, SEEN, STD, TRUTH
from nida_kit.plots.style import UNKNOWN

FIELD = nk.QuasiGeostrophic(cells=17).simulate(samples=2, steps=4, dt=5.0, seed=0)


def dataset(seed: int) -> xr.Dataset:
    noise = FIELD.copy(data=np.random.default_rng(seed).standard_normal(FIELD.shape))
    obs = nk.observe(FIELD, noise_std=0.6, fraction=0.1, seed=seed)
    return obs.assign(truth=FIELD, mean=FIELD + noise, std=abs(noise) + 0.5)


def pixels(fig) -> np.ndarray:
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def test_each_map_shows_its_variable_at_the_time_that_is_asked_for():
    ds = dataset(1)
    made = plots.make_plane(plots.figure(plots.rows_of(ds)), ds, moment=2)
    one = ds.isel(sample=0, time=2)
    for title, expected in ((TRUTH, one["truth"]), (MEAN, one["mean"]), (STD, one["std"])):
        np.testing.assert_array_equal(made.images[title].get_array(), expected)
    np.testing.assert_allclose(made.images[ERROR].get_array(), one["mean"] - one["truth"])


def test_observations_are_marks_at_their_places_in_the_colours_of_the_state():
    ds = dataset(1)
    made = plots.make_plane(plots.figure(2), ds, moment=2)
    value = ds["value"].isel(sample=0, time=2).transpose("y", "x").stack(at=("y", "x")).dropna("at")
    np.testing.assert_array_equal(made.seen[SEEN].get_offsets(), np.stack([value["x"], value["y"]], -1))
    np.testing.assert_array_equal(made.seen[SEEN].get_array(), value)
    np.testing.assert_array_equal(made.seen[STD].get_xdata(), value["x"])
    assert made.seen[SEEN].get_clim() == made.images[TRUTH].get_clim() == made.images[MEAN].get_clim()


def test_there_is_one_bar_for_each_quantity_and_errors_lie_around_zero():
    made = plots.make_plane(plots.figure(2), dataset(1), moment=0)
    titles = {TRUTH, SEEN, MEAN, ERROR, STD}
    assert len([ax for ax in made.figure.axes if ax.get_title() not in titles]) == 3
    low, high = made.images[ERROR].get_clim()
    assert low == -high and made.images[STD].get_clim() == (0.0, high)


@pytest.mark.parametrize(("along", "over"), [("x", "x"), ("y", "y"), ("time", "time")])
def test_the_cut_goes_through_the_point(along, over):
    ds = dataset(1)
    made = plots.make_plane(plots.figure(2), ds, 1, along, {"y": 0.26, "x": 0.49})
    one = ds.isel(sample=0).sel(y=0.25, method="nearest") if along != "y" else ds.isel(sample=0)
    one = one.sel(x=0.5, method="nearest") if along != "x" else one
    one = one if along == "time" else one.isel(time=1)
    for name in ("truth", "mean", "value"):
        np.testing.assert_array_equal(made.cut[name].get_xdata(), one[over])
        np.testing.assert_array_equal(made.cut[name].get_ydata(), one[name])
    top = made.cut["band"].get_xy()[one[over].size : 2 * one[over].size][::-1]
    np.testing.assert_allclose(top[:, 1], one["mean"] + BAND * one["std"])
    way = made.ways[0]
    assert (set(way.get_ydata()) == {0.25}) == (along != "y") and (set(way.get_xdata()) == {0.5}) == (along != "x")


@pytest.mark.parametrize("wide", [0.1, 10.0])
def test_the_axis_of_the_cut_holds_the_band_and_stays_while_the_cut_moves(wide):
    ds = dataset(1)
    ds["std"] = wide * (1 + ds["std"])
    made, seen = plots.make_plane(plots.figure(2), ds, 0, "x", {"y": 0.5}), set()
    for moment, along, at in ((0, "x", {"y": 0.5}), (1, "y", {"x": 0.3}), (2, "time", {"y": 0.1, "x": 0.9})):
        plots.update_plane(made, ds, moment, along, at)
        low, high = made.cut["mean"].axes.get_ylim()
        seen.add((low, high))
        band = made.cut["band"].get_xy()[:, 1]
        assert low <= band.min() and band.max() <= high
    assert len(seen) == 1


def test_updating_a_plane_gives_the_same_pixels_as_making_anew():
    first, second, where = dataset(1), dataset(2), ("y", {"x": 0.3})
    updated = plots.make_plane(plots.figure(2), first, 0, "x", {"y": 0.5})
    plots.update_plane(updated, second, 3, *where)
    made = plots.make_plane(plots.figure(2), second, 3, *where)
    np.testing.assert_array_equal(pixels(updated.figure), pixels(made.figure))


def test_without_truth_and_spread_there_are_fewer_maps():
    made = plots.make_plane(plots.figure(1), dataset(1)[["mean", "value"]])
    assert set(made.images) == {MEAN} and set(made.seen) == {SEEN}
    np.testing.assert_array_equal(made.images[MEAN].get_array(), dataset(1)["mean"][0, -1])


def test_an_animation_has_a_frame_for_each_time_and_a_still(tmp_path):
    ds = dataset(1)
    moving = plots.animate(ds, title="a <gyre>", per_second=4.0)
    film = Image.open(BytesIO(moving.gif))
    assert film.n_frames == len(moving.frames) == ds.sizes["time"]
    assert film.info["duration"] == 250
    shown = [np.asarray(frame, int) for frame in moving.frames]
    assert all((one != other).any() for one, other in pairwise(shown))
    film.seek(2)
    assert np.abs(np.asarray(film.convert("RGB"), int) - shown[2]).mean() < 4  # of 255: 128 colours
    html = moving._repr_html_()
    assert "prefers-reduced-motion: reduce" in html and "a &lt;gyre&gt;" in html and len(html) < 1_000_000
    data, across, down = moving.sheet
    sheet = Image.open(BytesIO(data)).convert("RGB")
    width, height = moving.frames[0].size
    assert sheet.size == (across * width, down * height) and across * down >= len(moving.frames)
    for k in range(across * down):  # what is left over shows the last one
        left, top = k % across * width, k // across * height
        tile = np.asarray(sheet.crop((left, top, left + width, top + height)), int)
        assert np.abs(tile - shown[min(k, len(shown) - 1)]).mean() < 4
    for name in ("a.gif", "a.png"):
        moving.save(tmp_path / name)
        Image.open(tmp_path / name).load()
    with pytest.raises(ValueError, match=r"not as 'a\.avi'"):
        moving.save(tmp_path / "a.avi")
    with pytest.raises(ValueError, match="per_second"):
        plots.animate(ds, per_second=0.0)


def test_a_film_is_written_where_there_is_ffmpeg(tmp_path, monkeypatch):
    moving = plots.animate(dataset(1)[["mean"]])
    if shutil.which("ffmpeg"):
        moving.save(tmp_path / "a.mp4")
        assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="needs ffmpeg"):
        moving.save(tmp_path / "b.mp4")


def test_the_spectrum_of_a_wave_is_at_its_wavelength():
    x = np.arange(64) / 64
    wave = np.sin(2 * np.pi * 8 * x) + 0 * np.arange(3.0)[:, None, None] + 0 * np.arange(5.0)[:, None]
    field = xr.DataArray(wave, {"time": range(3), "y": range(5), "x": x}, ("time", "y", "x"))
    power = spectrum(field)
    assert power["freq_x"][power.argmax()] == pytest.approx(8)
    # A Hann window leaves 3/8 of a wave's power, here 1/2; a side of the spectrum has half of that.
    assert float(power.sum() * power["freq_x"][0]) == pytest.approx(0.5 * 3 / 8 / 2, rel=1e-2)
    with pytest.raises(ValueError, match="three points"):
        spectrum(field.isel(x=slice(2)))


def test_spectra_are_those_of_truth_estimates_and_errors_with_the_scales_that_are_resolved():
    smooth = FIELD.rolling(x=5, center=True, min_periods=1).mean()
    ax = plots.spectra(plots.figure(1), {"smooth": smooth}, FIELD)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["truth"].get_ydata(), spectrum(FIELD))
    np.testing.assert_array_equal(lines["smooth"].get_ydata(), spectrum(smooth))
    np.testing.assert_array_equal(lines["error of smooth"].get_ydata(), spectrum(smooth - FIELD))
    np.testing.assert_allclose(lines["truth"].get_xdata(), 1 / spectrum(FIELD)["freq_x"])
    scale = float(nk.resolved_scales(smooth, FIELD)["lambda_x"])
    (marked,) = (line for label, line in lines.items() if label.startswith("resolved by smooth"))
    assert set(marked.get_xdata()) == {scale}


def test_among_observations_land_is_grey_and_what_was_not_seen_is_white():
    ds = dataset(1)
    sea = (ds["x"] > 0.5) | (ds["y"] > 0.5)
    coast = ds.where(sea)
    made = plots.make_plane(plots.figure(2), coast, moment=0)
    ax = made.seen[SEEN].axes
    assert ax.get_facecolor() == to_rgba("white") and "land is grey" in ax.get_title()
    shown = pixels(made.figure)
    for x, y, colour in ((0.22, 0.22, UNKNOWN), (0.78, 0.47, "white")):
        column, row = ax.transData.transform((x, y)).round().astype(int)
        around = shown[-row - 3 : -row + 3, column - 3 : column + 3, :3].reshape(-1, 3)
        assert (around == np.round(255 * np.array(to_rgba(colour)[:3]))).all(-1).mean() > 0.5
    plots.update_plane(made, ds, moment=0)
    assert ax.get_facecolor() == to_rgba(UNKNOWN) and ax.get_title() == SEEN
    np.testing.assert_array_equal(pixels(made.figure), pixels(plots.make_plane(plots.figure(2), ds, 0).figure))


def test_what_an_estimate_lost_is_not_called_land():
    ds = dataset(1)
    lost = ds.assign(mean=ds["mean"].where(ds["x"] > 0.5))
    for shown, said in ((lost, SEEN), (lost.drop_vars("truth"), f"{SEEN} (grey has no value)")):
        made = plots.make_plane(plots.figure(2), shown, moment=0)
        assert made.land.axes.get_title() == said
    grey = np.isfinite(made.land.get_array().filled(np.nan))
    seen = ds["value"].isel(sample=0).notnull().any("time").values
    assert grey.any() and not (grey & seen).any()


def test_land_is_grey_and_stretches_no_colours():
    sea, ds = FIELD["x"] > 0.4, dataset(1)
    made = [plots.make_plane(plots.figure(plots.rows_of(x)), x) for x in (ds.where(sea), ds.sel(x=sea))]
    for title, image in made[0].images.items():
        assert image.get_clim() == made[1].images[title].get_clim()
        assert image.axes.get_facecolor() == to_rgba(UNKNOWN)
