"""An ensemble that spreads between observations, and contracts at each of them, as an animation."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.ticker import LogLocator, NullLocator

from nida_kit import checks
from nida_kit.plots.moving import Animation, frames_of
from nida_kit.plots.style import (
    CROSSES,
    GREYS,
    colour_of,
    component_names,
    figure,
    numbers_of,
    portrait,
    round_bounds,
    styled,
)
from nida_kit.state import COMPONENT, TIME

_WIDTH, _ROW = 8.0, 2.4  # inches


@styled
def animate_members(
    members: xr.DataArray,
    truth: xr.DataArray,
    value: xr.DataArray,
    unit: float = 1.0,
    every: int = 1,
    per_second: float = 8.0,
) -> Animation:
    """The members of one window in the plane of two components, and their spread and error against time.

    >>> import nida_kit as nk
    >>> from nida_kit import plots
    >>> truth = nk.Lorenz63().simulate(samples=1, steps=17, dt=0.02, seed=0)
    >>> obs = nk.observe(truth, every=8, noise_std=1.0, seed=1)
    >>> members = nk.EnKF(nk.Lorenz63(), members=10).sample(obs, 10)
    >>> len(plots.animate_members(members[:, 0], truth[0], obs["value"][0], every=4).frames)
    5

    Args:
        members: `(member, time, component)`, of two components or three.
        truth: `(time, component)`.
        value: observations of these components or of some, NaN where there are none.
        unit: of errors and spreads, in units of the state.
        every: steps from one frame to the next; observed times have one each.
        per_second: frames.

    Raises:
        ValueError: a state of one component or of many; numbers that are not positive.
    """
    per_second, unit = checks.positive("per_second", per_second), checks.positive("unit", unit)
    shown = portrait(truth.sizes[COMPONENT])
    if shown is None or truth.sizes[COMPONENT] > 3:
        raise ValueError(f"The plane is of two components of two or three; the state has {truth.sizes[COMPONENT]}.")
    x = members.transpose(TIME, "member", COMPONENT).values
    true = truth.transpose(TIME, COMPONENT).values
    seen = value.reindex({COMPONENT: truth[COMPONENT]}).transpose(TIME, COMPONENT).values
    time, observed = numbers_of(truth[TIME]), np.isfinite(seen).any(-1)
    spread = np.sqrt(x.var(1, ddof=1).mean(-1)) / unit
    error = np.sqrt(((x.mean(1) - true) ** 2).mean(-1)) / unit

    fig = figure(1.0, _WIDTH, _ROW)
    plane, line = fig.add_axes((0.08, 0.15, 0.38, 0.7)), fig.add_axes((0.58, 0.15, 0.4, 0.7))
    names, (across, up) = component_names(truth), shown
    everything = np.concatenate([x.reshape(-1, x.shape[-1]), true])
    plane.set(xlabel=names[across], ylabel=names[up])
    plane.set(xlim=round_bounds(everything[:, across]), ylim=round_bounds(everything[:, up]))
    plane.plot(true[:, across], true[:, up], color="#c8c8c8", linewidth=0.8)
    colour = colour_of("ensembles")
    dots_looks = {"color": colour, "marker": "o", "markersize": 5, "linestyle": "none", "alpha": 0.7}
    mean_looks = {"color": colour, "marker": "D", "markersize": 7, "linestyle": "none", "markeredgecolor": "black"}
    (dots,) = plane.plot([], [], label="members", **dots_looks)
    (mean,) = plane.plot([], [], label="their mean", **mean_looks)
    (now,) = plane.plot([], [], color="black", marker="o", markersize=6, linestyle="none", label="truth")
    (cross,) = plane.plot([], [], label="observation", **CROSSES | {"clip_on": True})
    for moment in time[observed]:
        line.axvline(moment, color=GREYS[1], linewidth=0.8, linestyle=(0, (3, 2)))
    (wide,) = line.plot([], [], color=colour, label="spread of the members")
    (wrong,) = line.plot([], [], color=colour, linestyle=(0, (7, 1.5, 1.2, 1.5)), label="error of their mean")
    both = np.concatenate([spread, error])
    line.set(xlim=(time[0], time[-1]), ylim=(both[both > 0].min() / 1.2, both.max() * 1.2), yscale="log")
    line.set(xlabel="time; dashed lines: observations", ylabel="[climatological std]" if unit != 1 else "")
    line.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    line.yaxis.set_major_formatter("{x:g}")
    line.yaxis.set_minor_locator(NullLocator())
    fig.legend(
        handles=[dots, mean, now, cross, wide, wrong],
        loc="upper center",
        ncols=6,
        fontsize="small",
        columnspacing=1.0,
        handlelength=2.0,
    )

    def show(t: int) -> None:
        dots.set_data(x[t, :, across], x[t, :, up])
        mean.set_data(*x[t].mean(0)[[across, up], None])
        now.set_data(*true[t][[across, up], None])
        cross.set_data(*(seen[t][[across, up], None] if observed[t] else ([], [])))
        wide.set_data(time[: t + 1], spread[: t + 1])
        wrong.set_data(time[: t + 1], error[: t + 1])

    moments = {*range(0, len(time), checks.count("every", every, 1)), *np.flatnonzero(observed), len(time) - 1}
    frames = frames_of(fig, show, sorted(moments))
    alt = (
        f"{x.shape[1]} members of an ensemble in the plane of {names[across]} and {names[up]}: they spread from one "
        f"observation to the next, and contract at each of {int(observed.sum())}; beside it their spread, which rises "
        "and drops, and the error of their mean."
    )
    return Animation(frames, per_second, alt)
