import json
import warnings

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

import nida_kit as nk
from nida_kit import plots
from nida_kit.experiment import Parameters, ablate_temperature, run


@pytest.fixture(scope="module")
def lorenz():
    return run(Parameters(temperatures=2, samples=2))


@pytest.fixture(scope="module")
def pendulum():
    return run(Parameters(system="pendulum", temperatures=3))


def pixels(fig) -> np.ndarray:
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def test_rows_are_temperatures_and_columns_are_components_with_a_phase_portrait(lorenz):
    artists = plots.make(plots.figure(rows=2), lorenz)
    assert artists.axes.shape == (2, 4)
    errors = [f"{float(error):.3f}" for error in lorenz["step_rmse"]]
    labels = [label.get_text() for label in artists.labels]
    assert labels == [f"s = 1, RMSE {errors[0]}", f"s = 0.5, RMSE {errors[1]}"]
    titles = [ax.get_title() for ax in artists.axes[0]]
    assert titles == [*lorenz["long_name"].values, "phase portrait"]


def test_every_line_shows_the_first_window_of_its_variable(lorenz):
    artists = plots.make(plots.figure(rows=2), lorenz)
    for row in range(2):
        for column in range(3):
            drawn = artists.drawn[row][column]
            window = lorenz.isel(sample=0, component=column)
            np.testing.assert_array_equal(drawn["mean"].get_ydata(), window["mean"].isel(step=row))
            for name in ("truth", "first_guess", "value"):
                np.testing.assert_array_equal(drawn[name].get_ydata(), window[name])
                np.testing.assert_array_equal(drawn[name].get_xdata(), window["time"])


def test_the_band_is_the_central_ninety_percent_of_a_gaussian(lorenz):
    artists = plots.make(plots.figure(rows=2), lorenz)
    one = lorenz.isel(sample=0, step=1, component=2)
    outline = artists.drawn[1][2]["band"].get_xy()
    np.testing.assert_allclose(outline[:32, 1], one["mean"] - 1.6448536 * one["std"], rtol=1e-6)
    np.testing.assert_allclose(outline[63:31:-1, 1], one["mean"] + 1.6448536 * one["std"], rtol=1e-6)


def test_three_components_are_portrayed_as_x_against_z_and_two_as_one_against_the_other(lorenz, pendulum):
    for ds, (across, up) in ((lorenz, (0, 2)), (pendulum, (0, 1))):
        artists = plots.make(plots.figure(rows=1), ds, steps=[-1])
        line = artists.drawn[0][-1]["truth"]
        np.testing.assert_array_equal(line.get_xdata(), ds["truth"].isel(sample=0, component=across))
        np.testing.assert_array_equal(line.get_ydata(), ds["truth"].isel(sample=0, component=up))


def test_units_come_from_the_dataset_and_units_of_one_are_left_out(lorenz, pendulum):
    assert plots.make(plots.figure(), pendulum, steps=[0]).axes[0, 0].get_title() == "angle [rad]"
    assert "[" not in plots.make(plots.figure(), lorenz, steps=[0]).axes[0, 0].get_title()


def test_updating_gives_the_same_pixels_as_making_anew(lorenz):
    other = run(Parameters(temperatures=2, seed=5, noise_std=0.3))
    updated = plots.make(plots.figure(rows=2), lorenz)
    before = pixels(updated.figure)
    plots.update(updated, other)
    made = plots.make(plots.figure(rows=2), other)
    assert (pixels(updated.figure) != before).any()
    np.testing.assert_array_equal(pixels(updated.figure), pixels(made.figure))


def test_updating_draws_no_new_artist(lorenz):
    artists = plots.make(plots.figure(rows=2), lorenz)
    before = {id(a) for a in artists.figure.findobj()}
    plots.update(artists, run(Parameters(temperatures=2, seed=5)))
    drawn = [a for row in artists.drawn for panel in row for a in panel.values()]
    assert {id(a) for a in drawn} <= before


def test_another_number_of_rows_must_be_made_anew(lorenz, pendulum):
    artists = plots.make(plots.figure(rows=2), lorenz)
    with pytest.raises(ValueError, match="2 rows"):
        plots.update(artists, run(Parameters(temperatures=3)))


def test_a_result_without_truth_samples_and_steps_is_drawn(lorenz):
    bare = lorenz.isel(sample=0, step=-1, drop=True)[["mean", "std", "value"]]
    artists = plots.make(plots.figure(), bare)
    assert set(artists.drawn[0][0]) == {"mean", "band", "value"}
    assert np.isfinite(pixels(artists.figure)).all()


@pytest.mark.parametrize("known", ["no truth of y", "no truth at all", "one time"])
def test_an_estimate_is_seen_where_the_truth_says_nothing_of_the_frame(lorenz, known):
    ds = lorenz.isel(time=slice(1)) if known == "one time" else lorenz
    if known != "one time":
        ds = ds.assign(truth=ds["truth"].where((ds["component"] != "y") & (known == "no truth of y")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        artists = plots.make(plots.figure(rows=2), ds)
    for panels, drawn in zip(artists.axes[:, :3].T, zip(*(row[:3] for row in artists.drawn), strict=True), strict=True):
        for ax, names in zip(panels, drawn, strict=True):
            low, high = ax.get_ylim()
            inside = (names["mean"].get_ydata() >= low) & (names["mean"].get_ydata() <= high)
            assert high - low > 0.1 and inside.mean() > 0.5


def test_limits_hold_both_lobes_and_stay_while_another_component_is_seen():
    limits = set()
    for components in ("x",), ("z",):
        ds = run(Parameters(temperatures=1, components=components))
        artists = plots.make(plots.figure(), ds)
        limits.add(tuple(ax.get_ylim() for ax in artists.axes[0]))
        below = plots.make_added(plots.figure(rows=2), ds).axes[0]
        assert [ax.get_ylim() for ax in below] == [ax.get_ylim() for ax in artists.axes[0, :3]]
        band = [panel["band"].get_xy()[:, 1] for panel in artists.drawn[0][:3]]
    assert len(limits) == 1
    for (low, high), values in zip(limits.pop(), band, strict=False):
        assert np.mean((low < values) & (values < high)) > 0.9  # of z alone, where x and y may have either sign


def test_a_method_without_a_spread_is_drawn_without_a_band(lorenz):
    artists = plots.make(plots.figure(rows=2), lorenz.drop_vars("std"))
    assert "band" not in artists.drawn[0][0]


def test_lines_differ_in_style_and_not_only_in_colour(lorenz):
    drawn = plots.make(plots.figure(rows=2), lorenz).drawn[0][0]
    assert len({str(drawn[name]._dash_pattern) for name in ("truth", "first_guess", "mean")}) == 3


def test_no_text_leaves_the_figure_or_lies_on_another(lorenz, pendulum):
    for ds in (lorenz, pendulum):
        fig = plots.figure(rows=ds.sizes["step"])
        plots.make(fig, ds)
        renderer = FigureCanvasAgg(fig).get_renderer()
        shown = [t for t in fig.findobj(lambda a: hasattr(a, "get_text")) if t.get_visible() and t.get_text()]
        labels = [t for ax in fig.axes for t in (ax.title, ax.xaxis.label, ax.yaxis.label)]
        boxes = [t.get_window_extent(renderer) for t in labels if t in shown]
        assert all(fig.bbox.x0 <= b.x0 and b.x1 <= fig.bbox.x1 and b.y1 <= fig.bbox.y1 for b in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_one_window_is_picked_over_all_leading_dims():
    data = xr.DataArray(
        np.arange(24.0).reshape(2, 3, 4, 1), dims=("year", "sample", "time", "component"), coords={"component": ["x"]}
    )
    picked = plots.pick(data.to_dataset(name="value").assign(noise_std=0.1), window=4)
    np.testing.assert_array_equal(picked["value"][:, 0], data[1, 1, :, 0])
    assert plots.pick(picked, 0).equals(picked)
    with pytest.raises(ValueError, match="there are 6"):
        plots.pick(data, 6)


def test_trajectories_share_their_panels(lorenz):
    axes = plots.trajectories(plots.figure(), {"a": lorenz["truth"], "b": lorenz["first_guess"]}, window=1)
    assert axes.shape == (1, 3)
    np.testing.assert_array_equal(axes[0, 1].lines[1].get_ydata(), lorenz["first_guess"].isel(sample=1, component=1))


def test_the_ablation_shows_every_variant_and_the_first_guess():
    ds = ablate_temperature(most=2, held=[0.5], samples=2)
    ax = plots.temperature_ablation(plots.figure(), ds)
    assert [line.get_label() for line in ax.lines] == [*ds["variant"].values, "first guess"]
    np.testing.assert_array_equal(ax.lines[3].get_ydata(), ds["mse"].sel(variant="s = 0.5 held") ** 0.5)
    falling, held = ({line.get_color() for line in some} for some in (ax.lines[:3], ax.lines[3:-1]))
    assert falling == {plots.RED} and ax.lines[-1].get_color() == plots.BLUE and not held & {plots.RED, plots.BLUE}


def test_errors_are_shown_from_step_zero_on():
    ax = plots.error_by_step(plots.figure(), {"neural": [0.9, 0.5, 0.4]})
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(ax.lines[0].get_ydata() ** 2, [0.9, 0.5, 0.4])


def labelled(lines):
    return {line.get_label(): line for line in lines if not line.get_label().startswith("_")}


def inside(fig) -> bool:
    """Is all that is drawn within the figure?"""
    FigureCanvasAgg(fig).draw()
    drawn, page = fig.get_tightbbox(), fig.bbox_inches
    return (drawn.min >= page.min).all() and (drawn.max <= page.max).all()


@pytest.fixture
def forecast():
    """Draws, truth and observations of five windows, with names and units."""
    generator = np.random.default_rng(0)
    labels = {
        "component": ["a", "b"],
        "long_name": ("component", ["angle", "rate"]),
        "units": ("component", ["rad"] * 2),
    }
    coords = {"time": np.arange(6) * 0.5} | labels
    dims = ("sample", "time", "component")
    draws = xr.DataArray(generator.normal(size=(9, 5, 6, 2)), coords, ("member", *dims))
    truth = xr.DataArray(generator.normal(size=(5, 6, 2)), coords, dims)
    return draws, truth, truth.where(truth["time"] % 1 == 0).isel(component=[0])


def test_draws_are_thin_lines_of_one_window_below_truth_mean_and_observations(forecast):
    draws, truth, value = forecast
    fig = plots.figure()
    axes = plots.samples(fig, draws, truth, draws.mean("member"), value, window=3)
    assert axes.shape == (1, 2) and axes[0, 1].get_title() == "rate [rad]" and inside(fig)
    for ax, component in zip(axes[0], "ab", strict=True):
        window = draws.sel(component=component).isel(sample=3)
        np.testing.assert_array_equal([line.get_ydata() for line in ax.lines[:9]], window.transpose("member", "time"))
        lines = labelled(ax.lines)
        assert set(lines) == {"draws", "truth", "mean", "observation"}
        np.testing.assert_array_equal(lines["truth"].get_ydata(), truth.sel(component=component).isel(sample=3))
        np.testing.assert_allclose(lines["mean"].get_ydata(), window.mean("member"))
        assert all(line.get_linewidth() < lines["truth"].get_linewidth() for line in ax.lines[:9])
        assert lines["mean"].is_dashed() and not lines["truth"].is_dashed()
    assert [np.isfinite(labelled(ax.lines)["observation"].get_ydata()).sum() for ax in axes[0]] == [3, 0]


def test_draws_of_one_component_fill_the_figure(forecast):
    draws, truth, _ = forecast
    axes = plots.samples(plots.figure(), draws, truth, component="b")
    assert axes.shape == (1, 1)
    np.testing.assert_array_equal(axes[0, 0].lines[2].get_ydata(), draws.sel(component="b")[2, 0])


def test_ranks_are_bars_around_the_flat_line(forecast):
    draws, truth, _ = forecast
    fig = plots.figure()
    counts = nk.rank_histogram(draws, truth, dim=("sample", "time"))
    axes = plots.rank_histogram(fig, counts)
    assert [ax.get_title() for ax in axes] == ["angle [rad]", "rate [rad]"] and inside(fig)
    for ax, component in zip(axes, "ab", strict=True):
        np.testing.assert_array_equal(ax.patches[0].get_data().values, counts.sel(component=component))
        np.testing.assert_array_equal(ax.patches[0].get_data().edges, np.arange(11) + 0.5)
        assert set(ax.lines[0].get_ydata()) == {30 / 10}
    (ax,) = plots.rank_histogram(fig, nk.rank_histogram(draws, truth))
    np.testing.assert_array_equal(ax.patches[0].get_data().values, counts.sum("component"))


def test_coverage_is_drawn_against_the_level(forecast):
    draws, truth, _ = forecast
    curve = nk.reliability(draws.mean("member"), draws.std("member"), truth)
    fig = plots.figure()
    ax = plots.reliability(fig, {"one": curve, "another": curve / 2})
    lines = labelled(ax.lines)
    assert list(lines) == ["one", "another", "calibrated"] and inside(fig)
    np.testing.assert_array_equal(lines["one"].get_xydata(), np.stack([curve["level"], curve], -1))
    assert lines["one"].get_marker() != lines["another"].get_marker()
    assert str(lines["one"]._dash_pattern) != str(lines["another"]._dash_pattern)


def test_error_is_drawn_against_spread_with_the_diagonal_through_all(forecast):
    draws, truth, _ = forecast
    pairs = nk.spread_error(draws.mean("member"), draws.std("member"), truth, bins=4)
    fig = plots.figure()
    ax = plots.spread_error(fig, {"one": pairs, "narrow": pairs.assign(spread=pairs["spread"] / 10)})
    lines = labelled(ax.lines)
    np.testing.assert_array_equal(lines["narrow"].get_xdata(), pairs["spread"] / 10)
    np.testing.assert_array_equal(lines["narrow"].get_ydata(), pairs["error"])
    np.testing.assert_array_equal(*lines["calibrated"].get_data())
    assert ax.get_xlim() == ax.get_ylim() and ax.get_xlim()[0] < pairs["spread"].min() / 10 and inside(fig)


def test_methods_are_lines_or_single_markers_above_their_floor():
    points = {"4D-Var": [(1, 0.9), (10, 0.2), (1e4, 0.15)], "network": [(0.2, 0.25)]}
    fig = plots.figure()
    ax = plots.pareto(fig, points, "milliseconds per window", "mean squared error", floor=0.1, floor_label="limit")
    lines = labelled(ax.lines)
    assert list(lines) == ["4D-Var", "network", "limit"] and inside(fig)
    for name, pairs in points.items():
        np.testing.assert_array_equal(lines[name].get_xydata(), pairs)
    assert set(lines["limit"].get_ydata()) == {0.1}
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert list(labelled(plots.pareto(fig, points, "cost", "error").lines)) == ["4D-Var", "network"]


def test_each_system_has_its_own_errors_limit_and_times_that_nobody_can_save():
    panels = {"a": {"NIDA": [(0.1, 0.2), (0.2, 0.19)], "4D-Var": [(1, 0.3)]}, "b": {"4D-Var": [(5, 0.4)]}}
    marks = {"a": {"read": 1e-4, "run": 1e-2}, "b": {"read": 1e-3, "run": 0.1}}
    fig = plots.figure(width=13.0)
    first, second = plots.time_to_accuracy(fig, panels, {"a": 0.18}, marks)
    lines = labelled(first.lines)
    assert list(lines) == ["NIDA", "4D-Var", "Bayes limit", "read", "run"] and inside(fig)
    np.testing.assert_array_equal(lines["NIDA"].get_xydata(), panels["a"]["NIDA"])
    assert set(lines["run"].get_xdata()) == {1e-2} and set(lines["Bayes limit"].get_ydata()) == {0.18}
    assert list(labelled(second.lines)) == ["4D-Var", "read", "run"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == list(lines)


@pytest.mark.parametrize("top", [3.0, 30.0, 3e5])
def test_logarithmic_axes_have_some_plain_numbers_but_not_too_many(top):
    fig = plots.figure()
    ax = plots.pareto(fig, {"one": [(2.1, 2.1), (top, top)]}, "cost", "error")
    FigureCanvasAgg(fig).draw()
    low, high = ax.get_ylim()
    shown = [t for t, where in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True) if low <= where <= high]
    assert 2 <= len(shown) <= 12 and all(float(t.get_text()) > 0 for t in shown)
    boxes = [t.get_window_extent() for t in shown]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_ranking_has_the_best_at_the_top_and_a_line_through_the_reference():
    errors = {"a": 0.3, "b": 0.1, "c": 0.2}
    ax = plots.ranking(plots.figure(), errors, "error", "c")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "c", "b"]
    line, *dots = ax.lines
    assert [float(dot.get_xdata()[0]) for dot in dots] == [0.3, 0.2, 0.1]
    assert set(line.get_xdata()) == {0.2}


def test_a_ranking_draws_the_range_of_repeats_of_the_reference():
    errors = {"a": 0.3, "a again": 0.35, "b": 0.1, "a once more": 0.2}
    ax = plots.ranking(plots.figure(), errors, "error", "a", ["a again", "a once more"])
    (band,) = ax.patches
    assert band.get_extents().transformed(ax.transData.inverted()).intervalx == pytest.approx([0.2, 0.35])
    colours = {line.get_label(): line.get_color() for line in ax.lines}
    assert {colours[name] for name in errors if name != "b"} == {plots.RED} and colours["b"] != plots.RED


def test_a_line_per_temperature_begins_before_the_first_epoch():
    ax = plots.epochs(plots.figure(), {"s = 1": [0.7, 0.4], "s = 0.5": [0.7, 0.3]}, 0.7)
    lines = labelled(ax.lines)
    assert list(lines) == ["s = 1", "s = 0.5", "first guess"]
    np.testing.assert_array_equal(lines["s = 0.5"].get_xydata(), [[0, 0.7], [1, 0.3]])


def test_saving_writes_the_numbers_with_seed_and_versions(lorenz, tmp_path):
    fig = plots.figure()
    plots.make(fig, lorenz, steps=[-1])
    plots.save(fig, tmp_path / "new" / "a.png", {"seed": 3, "mse": [0.1, 0.2]})
    record = json.loads((tmp_path / "new" / "a.json").read_text())
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert record["seed"] == 3 and record["mse"] == [0.1, 0.2]
    assert "nida_kit" in record["versions"] and "matplotlib" in record["versions"]


@pytest.mark.parametrize(("name", "numbers"), [("a.png", {}), ("a.jpg", {"seed": 0})])
def test_a_figure_without_seed_or_as_no_png_is_refused(tmp_path, name, numbers):
    with pytest.raises(ValueError, match=r"seed|png"):
        plots.save(plots.figure(), tmp_path / name, numbers)
    assert not list(tmp_path.iterdir())


def test_scores_are_drawn_against_a_setting_without_those_that_failed():
    fig = plots.figure()
    ax = plots.against(
        fig, {"a": [(1.0, 2.0), (2.0, np.nan), (3.0, 4.0)], "b": [(1.0, np.nan)]}, "setting", "error", {"level": 5.0}
    )
    assert [line.get_label() for line in ax.lines] == ["a", "b", "level"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[1, 2], [3, 4]])
    assert ax.get_ylim()[0] == 0 and set(ax.lines[2].get_ydata()) == {5.0}
    ax = plots.against(fig, {"a": [(20.0, 2.0), (500.0, 1.0)]}, "x", "y", logarithmic=True)
    assert ax.get_yscale() == "log" and [text.get_text() for text in ax.get_xticklabels()] == ["20", "500"]


@pytest.fixture(scope="module")
def field():
    return run(Parameters("lorenz96", "optimal interpolation", seed=1)), run(Parameters("lorenz96", "neural", seed=2))


def test_a_field_is_images_of_truth_estimate_and_error(field):
    ds = field[0]
    made = plots.make_field(plots.figure(), ds)
    last = ds.isel(sample=0, step=-1)
    expected = {
        "truth": last["truth"],
        "reconstruction": last["mean"],
        "error / posterior std": (last["mean"] - last["truth"]) / last["std"],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(made.images[name].get_array(), values.transpose("component", "time"))
    limits = {made.images[name].get_clim() for name in ("truth", "reconstruction")}
    assert len(limits) == 1  # the same colours for the same values
    assert len(made.marks[0]["value"].get_xdata()) == ds.attrs["observed"]


def test_updating_a_field_gives_the_same_pixels_as_making_anew(field):
    def pixels(fig):
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    first, second = field
    fig, anew = plots.figure(), plots.figure()
    plots.update_field(plots.make_field(fig, first), second)
    plots.make_field(anew, second)
    np.testing.assert_array_equal(pixels(fig), pixels(anew))


def test_maps_share_a_scale_but_for_those_that_stand_alone():
    y, x = np.arange(2.0), np.arange(3.0)
    truth = xr.DataArray(np.arange(6.0).reshape(2, 3), {"y": y, "x": x}, ("y", "x"), attrs={"units": "K"})
    fig = plots.figure(rows=3)
    axes = plots.maps(fig, {"truth": truth, "mean": truth / 2, "std": truth / 9}, truth > 4, alone=("std",))
    limits = [ax.collections[0].get_clim() for ax in axes]
    assert limits[0] == limits[1] == (0, 5) and limits[2] == (0, 5 / 9)
    for ax in axes:
        assert ax.lines[0].get_xydata().tolist() == [[2.0, 1.0]]
    pixels(fig)


def test_maps_lie_side_by_side_and_are_empty_where_nothing_is_known():
    truth = xr.DataArray(np.arange(6.0).reshape(2, 3), {"y": np.arange(2.0), "x": np.arange(3.0)}, ("y", "x"))
    seen = truth.where(truth > 2)
    axes = plots.maps(plots.figure(rows=2), {"truth": truth, "seen": seen, "mean": truth}, columns=2)
    assert [ax.get_title() for ax in axes] == ["truth", "seen", "mean"]
    np.testing.assert_array_equal(axes[1].collections[0].get_array(), seen)
    assert axes[1].collections[0].get_clim() == (0, 5) and not axes[1].lines


def test_an_animation_of_members_has_a_frame_for_each_observed_time():
    truth = nk.Lorenz63().simulate(samples=1, steps=17, dt=0.02, seed=0)
    obs = nk.observe(truth, every=8, noise_std=1.0, seed=1)
    members = nk.EnKF(nk.Lorenz63(), members=6).sample(obs, 6)[:, 0]
    moving = plots.animate_members(members, truth[0], obs["value"][0], unit=8.0, every=5)
    assert len(moving.frames) == len({0, 5, 10, 15} | {0, 8, 16})
    assert "contract at each of 3" in moving.alt and len(moving._repr_html_()) < 1_000_000
    with pytest.raises(ValueError, match="of two or three; the state has 1"):
        plots.animate_members(members[..., :1], truth[0, :, :1], obs["value"][0, :, :1])


def test_chance_is_a_bar_around_each_score():
    fig = plots.figure(rows=1.6)
    ax = plots.against(fig, {"a": [(1, 2.0), (2, 3.0)], "b": [(1, 1.0)]}, "n", "error", chance={"a": [0.5, 0.25]})
    (bars,) = ax.collections
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [[1.5, 2.5], [2.75, 3.25]]
