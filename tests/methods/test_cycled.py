"""Long records, window by window: against the smoother of the whole record, and against one run in two parts."""

import numpy as np
import pytest
import torch
import xarray as xr
from advection import Advection

import nida_kit as nk

SYSTEM = nk.LinearOscillator()
KALMAN = nk.KalmanSmoother(SYSTEM, 0.05, start_mean=[0.3, -0.2], start_std=[1.0, 0.7])
TRUTH = SYSTEM.simulate(samples=2, steps=60, dt=0.1, model_noise_std=0.05, seed=1)
OBS = nk.observe(TRUTH, components=["angle"], every=3, noise_std=0.1, seed=2)
LORENZ = nk.Lorenz63()
CHAOS = nk.observe(LORENZ.simulate(2, 60, 0.05, seed=3), components=["x"], every=4, noise_std=0.4, seed=4)
NEURAL = nk.NeuralIncremental.pretrained("lorenz63_small", temperatures=1)
PAST = nk.Lorenz63().simulate(100, 20, 0.05, seed=5)
INTERPOLATION = nk.OptimalInterpolation.fit(PAST, order=1)


def same(found, expected, tolerance=1e-8):
    for name in ("mean", "std"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("window", "overlap"), [(20, 8), (7, 3), (2, 0), (40, 38)])
def test_a_linear_system_has_the_smoother_of_all_that_its_window_and_the_past_know(window, overlap):
    found = nk.Cycled(KALMAN, window, overlap).assimilate(OBS)
    begins = [*range(0, 60 - window, window - overlap), 60 - window]
    for begin, until in zip(begins, [*begins[1:], 60], strict=True):
        here = slice(begin, until)
        known = KALMAN.assimilate(OBS.isel(time=slice(begin + window)))
        same(found.isel(time=here), known.isel(time=here))


def test_without_overlap_it_is_the_filter_at_the_ends_of_windows():
    found = nk.Cycled(KALMAN, window=15, overlap=0).assimilate(OBS)
    start = {"start_mean": [0.3, -0.2], "start_std": [1.0, 0.7]}
    for end in (14, 29, 44, 59):
        until = OBS.isel(time=slice(end + 1))
        filtered = nk.KalmanSmoother(SYSTEM, 0.05, **start).assimilate(until)
        same(found.isel(time=end), filtered.isel(time=-1))


def test_it_nears_the_smoother_of_the_whole_record_as_the_overlap_grows():
    whole = KALMAN.assimilate(OBS)["mean"]
    off = [float(nk.rmse(nk.Cycled(KALMAN, 30, k).assimilate(OBS)["mean"], whole).mean()) for k in (0, 8, 16, 24)]
    assert off[0] > off[1] > off[2] > off[3]


def test_a_record_that_is_no_longer_than_a_window_is_one_window():
    same(nk.Cycled(KALMAN, window=100, overlap=10).assimilate(OBS), KALMAN.assimilate(OBS), 1e-12)


@pytest.mark.parametrize(
    ("method", "obs"), [(KALMAN, OBS), (nk.KalmanSmoother(LORENZ, 0.3), CHAOS)], ids=["linear", "Lorenz-63"]
)
def test_going_on_from_a_file_equals_one_run_over_both_records(method, obs, tmp_path):
    cycled = nk.Cycled(method, window=16, overlap=6)
    whole = cycled.assimilate(obs)
    cycled.assimilate(obs.isel(time=slice(30))).to_netcdf(tmp_path / "earlier.nc")
    after = cycled.assimilate(obs.isel(time=slice(30, None)), start=xr.load_dataset(tmp_path / "earlier.nc"))
    same(after, whole.isel(time=slice(30, None)), 1e-6)
    for name in ("next_mean", "next_covariance"):
        np.testing.assert_allclose(after[name], whole[name], rtol=1e-6, atol=1e-7)
    assert after.attrs["start"] == "next_mean and next_covariance of an earlier result"


def test_the_next_state_is_the_forecast_of_the_step_after_the_record():
    found = nk.Cycled(KALMAN, window=16, overlap=6).assimilate(OBS)
    forecast = KALMAN.assimilate(nk.extend(OBS, 1)).isel(time=-1)
    np.testing.assert_allclose(found["next_mean"], forecast["mean"], atol=1e-9)
    variances = np.diagonal(found["next_covariance"].values, axis1=-2, axis2=-1)
    np.testing.assert_allclose(np.sqrt(variances), forecast["std"], atol=1e-9)
    np.testing.assert_allclose(found["next_time"], 6.0)
    assert found["next_covariance"].dims == ("sample", "component", "other_component")


def test_four_d_var_of_a_linear_system_is_the_same():
    descent = nk.WeakFourDVar(SYSTEM, 0.05, start_mean=[0.3, -0.2], start_std=[1.0, 0.7])
    found = nk.Cycled(descent, window=20, overlap=8).assimilate(OBS)
    same(found, nk.Cycled(KALMAN, window=20, overlap=8).assimilate(OBS), 1e-4)
    assert found["converged"].dims == ("sample",) and found["converged"].all()


def test_a_chain_carries_the_state_of_its_last_method():
    chain = nk.Chain([INTERPOLATION, nk.WeakFourDVar(LORENZ, 0.3)])
    cycled = nk.Cycled(chain, window=24, overlap=12)
    found = cycled.assimilate(CHAOS)
    assert found.attrs["system"] == LORENZ.name
    assert cycled.assimilate(CHAOS.assign_coords(time=CHAOS["time"] + 3.0), start=found)["mean"].notnull().all()


@pytest.mark.parametrize("method", [INTERPOLATION, NEURAL], ids=["interpolation", "NIDA"])
def test_without_a_model_each_answer_is_that_of_one_window_and_they_change_in_the_middle_of_the_overlap(method):
    found = nk.Cycled(method, window=20, overlap=10).assimilate(CHAOS)
    assert "next_mean" not in found
    for begin, kept in ((0, slice(0, 15)), (10, slice(15, 25)), (30, slice(35, 45)), (40, slice(45, 60))):
        alone = method.assimilate(CHAOS.isel(time=slice(begin, begin + 20)))
        same(found.isel(time=kept), alone.isel(time=slice(kept.start - begin, kept.stop - begin)), 1e-3)


@pytest.mark.parametrize("operator", [lambda x: x[..., :1].square(), lambda x, t: x[..., :1] * (1 + t)])
def test_operators_see_their_states_and_times(operator):
    truth = LORENZ.simulate(1, 32, 0.05, seed=3)
    obs = nk.observe(truth, operator=operator, every=4, noise_std=0.4, seed=4)
    for method in (INTERPOLATION, nk.KalmanSmoother(LORENZ, 0.3)):
        found = nk.Cycled(method, window=16, overlap=0).assimilate(obs, operator=operator)
        alone = method.assimilate(obs.isel(time=slice(16)), operator=operator)
        same(found.isel(time=slice(16)), alone, 1e-6)


class Driven(nk.LinearOscillator):
    """A linear system that knows the time."""

    def tendency(self, x, t):
        return super().tendency(x) + torch.cat([torch.zeros_like(t), t.cos()], -1).to(x)


def test_a_system_that_knows_the_time_is_told_it():
    method = nk.KalmanSmoother(Driven(), 0.05, start_mean=[0.3, -0.2], start_std=[1.0, 0.7])
    found = nk.Cycled(method, window=20, overlap=10).assimilate(OBS)
    same(found.isel(time=slice(10, 20)), method.assimilate(OBS.isel(time=slice(30))).isel(time=slice(10, 20)))
    same(found.isel(time=slice(40, 60)), method.assimilate(OBS).isel(time=slice(40, 60)))


def test_errors_correlated_at_each_time_are_cut_along():
    R = xr.DataArray(0.1 * np.eye(3) + 0.05, dims=("component", "other_component")).assign_coords(
        component=["x", "y", "z"], other_component=["x", "y", "z"]
    )
    obs = nk.observe(LORENZ.simulate(1, 32, 0.05, seed=3), every=4, noise_covariance=R, seed=4)
    found = nk.Cycled(INTERPOLATION, window=16, overlap=0).assimilate(obs)
    same(found.isel(time=slice(16, None)), INTERPOLATION.assimilate(obs.isel(time=slice(16, None))))


def test_a_climatology_of_fixed_times_is_asked_for_no_others():
    full = nk.OptimalInterpolation.fit(PAST)
    with pytest.raises(ValueError, match="a mean and a covariance of its own for each time"):
        nk.Cycled(full, window=20, overlap=10).assimilate(CHAOS)


def test_a_first_guess_is_cut_along():
    guess = LORENZ.simulate(2, 60, 0.05, seed=9)
    found = nk.Cycled(NEURAL, window=20, overlap=10).assimilate(CHAOS, guess)
    alone = NEURAL.assimilate(CHAOS.isel(time=slice(20)), guess.isel(time=slice(20)))
    same(found.isel(time=slice(15)), alone.isel(time=slice(15)), 1e-3)


def test_lazy_records_and_robust_errors_go_through():
    cycled = nk.Cycled(KALMAN, window=20, overlap=0)
    found = cycled.assimilate(OBS)
    same(cycled.assimilate(OBS.chunk(sample=1)).compute(), found, 1e-12)
    bad = OBS.isel(time=slice(20, 40)).copy(deep=True)
    bad["value"][0, 10, 0] += 20.0
    with pytest.warns(UserWarning, match="1 observed value was taken as a gross error"):
        robust = cycled.assimilate(bad, start=cycled.assimilate(OBS.isel(time=slice(20))), robust="student")
    assert float(robust["weight"][0, 10, 0]) == 0
    assert abs(robust["mean"] - found["mean"].isel(time=slice(20, 40))).max() < 0.15


def test_dates_are_carried(tmp_path):
    dates = np.datetime64("2024-02-28T23:59:58", "ns") + np.arange(60) * np.timedelta64(100, "ms")
    obs, cycled = OBS.assign_coords(time=dates), nk.Cycled(KALMAN, window=20, overlap=10)
    earlier = cycled.assimilate(obs.isel(time=slice(20)))
    assert (earlier["next_time"] == np.datetime64("2024-02-29T00:00:00")).all()
    earlier.to_netcdf(tmp_path / "earlier.nc")
    on = cycled.assimilate(obs.isel(time=slice(20, None)), start=xr.load_dataset(tmp_path / "earlier.nc"))
    same(on, cycled.assimilate(OBS).isel(time=slice(20, None)), 1e-4)  # of dates, steps are known to so many digits


def test_a_field_is_carried_along_its_own_dims():
    system = Advection()
    obs = nk.observe(system.simulate(1, 12, 0.1, seed=0), fraction=0.3, noise_std=0.1, seed=1)
    cycled = nk.Cycled(nk.KalmanSmoother(system, 0.1), window=4, overlap=1)
    earlier = cycled.assimilate(obs.isel(time=slice(6)))
    assert earlier["next_covariance"].dims == ("sample", "y", "x", "other_y", "other_x")
    on = cycled.assimilate(obs.isel(time=slice(6, None)), start=earlier)
    same(on, cycled.assimilate(obs).isel(time=slice(6, None)))


def test_around_it_a_season_stands_and_no_state_is_left_that_lacks_it():
    dates = xr.date_range("2000-01-01", periods=60, freq="MS")
    season = nk.Season.fit(TRUTH.isel(sample=0).assign_coords(time=dates), by="month")
    own = xr.Dataset({"value": OBS["value"].isel(sample=0), "noise_std": 0.1}).assign_coords(time=dates)
    past = nk.windows(season.anomalies(TRUTH.isel(sample=0).assign_coords(time=dates)), steps=12)
    found = nk.Seasonal(nk.Cycled(nk.OptimalInterpolation.fit(past, order=1), 20, 10), season).assimilate(own)
    assert found["mean"].notnull().all() and "next_mean" not in found


def test_a_progress_bar_counts_windows(capsys):
    nk.Cycled(KALMAN, window=20, overlap=0).assimilate(OBS, progress=True)
    assert "6/6" in capsys.readouterr().err
    nk.Cycled(KALMAN, window=20, overlap=0).assimilate(OBS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nk.Cycled(KALMAN, window=1), "window=1 must be a whole number of at least 2"),
        (lambda: nk.Cycled(KALMAN, window=10, overlap=10), "overlap=10 must be less than the window"),
        (lambda: nk.Cycled(nk.EnKF(SYSTEM, 20), window=10), "walks through time by itself"),
        (lambda: nk.Cycled(nk.EnKS(SYSTEM, 20), window=10), "walks through time by itself"),
        (lambda: nk.Cycled(nk.Cycled(KALMAN, 10), window=10), "nk.KalmanSmoother, nk.WeakFourDVar"),
        (lambda: nk.Cycled("kalman", window=10), "method='kalman' must be a method"),
        (lambda: nk.Cycled(KALMAN, window=10).sample(OBS, 2), "draw from one window"),
        (lambda: nk.Cycled(KALMAN, window=10).assimilate(OBS, start=OBS), "start lacks"),
        (lambda: nk.Cycled(KALMAN, window=10).assimilate(OBS, start=3), "start is a int"),
        (lambda: nk.Cycled(NEURAL, window=10).assimilate(CHAOS, start=OBS), "begins each window anew"),
        (
            lambda: nk.Cycled(KALMAN, window=10).assimilate(OBS, start=nk.Cycled(KALMAN, 10).assimilate(OBS)),
            "start is the state at the time 6",
        ),
        (
            lambda: nk.Cycled(KALMAN, 10).assimilate(
                OBS, start=nk.Cycled(nk.KalmanSmoother(LORENZ, 0.3), 10).assimilate(CHAOS)
            ),
            "start is a state of",
        ),
        (
            lambda: nk.Cycled(KALMAN, 10).assimilate(
                OBS, start=nk.Cycled(nk.KalmanSmoother(LORENZ, 0.3), 10).assimilate(CHAOS).drop_attrs(deep=False)
            ),
            "start is the state of another system: along 'component'",
        ),
        (
            lambda: nk.Cycled(KALMAN, 10).assimilate(
                OBS.assign_coords(time=OBS["time"] + 6.0), start=nk.Cycled(KALMAN, 10).assimilate(OBS.isel(sample=0))
            ),
            "records along",
        ),
        (
            lambda: nk.Cycled(KALMAN, 10).assimilate(
                OBS.assign_coords(time=OBS["time"] + 6.0, sample=[3, 4]),
                start=nk.Cycled(KALMAN, 10).assimilate(OBS.assign_coords(sample=[4, 3])),
            ),
            "other coordinates along 'sample'",
        ),
        (
            lambda: nk.Cycled(KALMAN, 10).assimilate(
                OBS.assign_coords(time=OBS["time"] + 6.0), start=nk.Cycled(KALMAN, 10).assimilate(OBS) * np.nan
            ),
            "NaN",
        ),
        (
            lambda: nk.Cycled(KALMAN, 10).assimilate(
                OBS.chunk(sample=1).assign_coords(time=OBS["time"] + 6.0), start=nk.Cycled(KALMAN, 10).assimilate(OBS)
            ),
            "in memory",
        ),
        (
            lambda: nk.Cycled(KALMAN, 10).assimilate(OBS, operator=nk.over_window(lambda x: x[..., :1])),
            r"nk.grid with exact=True.*one window, without nk.Cycled",
        ),
    ],
)
def test_what_cannot_be_cycled_is_refused_with_words(make, says):
    with pytest.raises(ValueError, match=says):
        make()
