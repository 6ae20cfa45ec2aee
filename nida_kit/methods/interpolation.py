"""Optimal interpolation: the climatology N(mu, C) conditioned on the observations.

    x_hat = mu + C H' (H C H' + R)^-1 (y - H mu)

It is one step of the loop (`loop.py`), exact for Gaussian states and a linear h. Neural methods start there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks
from nida_kit.dates import model_times
from nida_kit.descent import conditioned
from nida_kit.edge import fold, time_step
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import nearest_at_sea
from nida_kit.linalg.rows import Sparse, Stack
from nida_kit.loop import incremental
from nida_kit.methods.method import Method
from nida_kit.notes import warn
from nida_kit.observing.observations import Observations
from nida_kit.priors.calibration import FEW, calibrated, held_out, windows_of
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.ensemble import EnsembleClimatology
from nida_kit.priors.modes import FieldClimatology, OfField, mask_of
from nida_kit.priors.moments import amount
from nida_kit.priors.multiscale import MultiscaleClimatology, MultiscalePosterior
from nida_kit.priors.weights import load
from nida_kit.reconstruction import Moments, Posterior, Reconstruction, of_solver
from nida_kit.record import SINCE
from nida_kit.state import COMPONENT, SAMPLE, TIME, GridLabels, Labels, StateLabels, labels_of, state_dims

_SMOOTH = 0.05  # of the spread, that draws may lack without a word
_TOO_FEW = (
    "The past is too short to hold some of it out (it takes ten records, or one of ten windows), and so standard "
    "deviations are not calibrated on what was not fitted: {}. Give more of it, or hold some values back and look at "
    "nk.coverage."
)


class OptimalInterpolation(Method):
    """The climatology conditioned on the observations: one step of the loop, exact for Gaussian states and linear h.

    There is one answer whatever the first guess: the climatology does not look at it.

    Args:
        climatology: mean and covariance of past trajectories.
        labels: the components' names and units, or those of a field.
        dt: the climatology's time step.
    """

    def __init__(self, climatology: Climatology | OfField, labels: Labels, dt: float):
        advice = "nk.OptimalInterpolation.fit(windows) makes one of past trajectories."
        checks.instance("climatology", climatology, Climatology | OfField, "an nk.Climatology", advice)
        self.climatology, self.labels, self.dt = climatology, *check_state(climatology, labels, dt)
        self.begins: float | None = None  # the time of its first step, where each step has its own mean and covariance
        if isinstance(climatology, FieldClimatology):
            self.settings = {"modes": len(climatology.modes), "longest_window": len(climatology.lags)}
        elif isinstance(climatology, EnsembleClimatology):
            members, longest, _ = climatology.members.shape
            self.settings = {"members": members, "octaves": climatology.octaves, "longest_window": longest}
        elif isinstance(climatology, MultiscaleClimatology):
            self.settings = {"scales": len(climatology.shares), "longest_window": climatology.memory.shape[-1]}
            self.settings |= {name: getattr(climatology, name) for name in ("draws", "tolerance")}
            self.noise_layers = climatology.noise_layers + 1
        else:
            self.settings = {"order": len(climatology.factor) - 1}
        if isinstance(climatology, FieldClimatology | MultiscaleClimatology):
            told = {"wider": climatology.wider, "unresolved": climatology.unresolved}
            self.settings |= {name: float(f"{value:.3g}") for name, value in told.items()}

    @classmethod
    def fit(cls, windows: xr.DataArray, order: int | None = None, shrinkage: float | str = 0.0) -> OptimalInterpolation:
        """From past trajectories `(sample, time, component)`, or those of a field, `(sample, time, y, x)`.

        Missing values are NaN. Order, shrinkage and errors as in `Climatology.fit`; `settings` record both.

        >>> import nida_kit as nk
        >>> past = nk.Pendulum().simulate(samples=8, steps=6, dt=0.1, seed=0)
        >>> method = nk.OptimalInterpolation.fit(past, shrinkage="auto")
        >>> 0 < method.settings["shrinkage"] < 1
        True
        """
        windows, values, labels = past_of(windows)
        if labels.shape != (values.shape[-1],) and (land := int(values.isnan().all((0, 1)).sum())):
            raise ValueError(
                f"{land} of {values.shape[-1]} points are NaN at all times, as land is, and a covariance of all points "
                "has none: nk.OptimalInterpolation.fit_field(windows, steps) leaves land out."
            )
        steps = values.shape[-2]
        order = steps - 1 if order is None else checks.count("order", order, 0, steps - 1)
        shrinkage = amount(shrinkage, values, order)
        method = cls(Climatology.fit(values, order, shrinkage), labels, time_step(windows["time"]))
        method.settings["shrinkage"] = shrinkage
        if method.settings["order"] == steps - 1 and SINCE not in windows[TIME].attrs:
            method.begins = float(model_times(windows[TIME], labels.time_units)[0])
        return method

    @classmethod
    def fit_field(
        cls, records: xr.DataArray, steps: int = 8, modes: int = 300, radius: float | None = None
    ) -> OptimalInterpolation:
        """For fields too large for a covariance of all their points: from records of the past by their leading modes.

        Few records make it too sure. So a tenth of them, or of the time of a long one, is held out of the fit, and on
        windows of it the standard deviations are calibrated (`priors/calibration.py`). A past of fewer than ten
        records, each shorter than ten windows, is fitted as a whole: its standard deviations are as they come, and a
        warning says so.

        >>> import nida_kit as nk
        >>> past = nk.QuasiGeostrophic(cells=17).simulate(samples=40, steps=20, dt=5.0, seed=0)
        >>> method = nk.OptimalInterpolation.fit_field(past, steps=5, modes=30, radius=5.0)
        >>> method.settings["modes"], 1 <= method.settings["wider"] < 2
        (30, True)

        Args:
            records: `(sample, time, y, x)`, or one `(time, y, x)`, at least four times as long as the windows; on
                land NaN at all times, and nothing is missing elsewhere.
            steps: of the longest window that will be reconstructed.
            modes: of the field. More of them are better and slower, as their number cubed.
            radius: beyond 3.65 times this many grid points values are taken to know nothing of each other; None is no
                such taper. Few records need one: choose it, as the modes, by the error on windows held out.

        Raises:
            ValueError: records that are too short, have gaps, or are not on a plane.
        """
        given, (records, values, labels) = records, _fields_of(records)
        _check_gaps(given, values, labels)
        steps = checks.count("steps", steps, 1)
        own, windows = held_out(values, steps, 4 * steps)
        if windows is None:
            warn(_TOO_FEW.format("they are as they come, and may be too small by far"), stacklevel=2)
        advice = "The records are too few for so much freedom: give more, a radius= (6.0, say), or fewer modes."
        return cls._calibrated(FieldClimatology.fit(own, steps, modes, radius), windows, labels, records, advice)

    @classmethod
    def fit_ensemble(
        cls, records: xr.DataArray, steps: int = 8, members: int = 400, octaves: int = 3
    ) -> OptimalInterpolation:
        """For fields, by localised mixtures of past windows: nothing is fitted.

        The values of a window are one system, solved exactly: of 8 x 65 x 65 points 600 take about a second and 2,400
        nine (`python -m nida_kit.studies.ocean`). More than 5,000, or some thousands between points, take conjugate
        gradients, and 16 draws for the spread, which is rough then. A two-hundredth of the climatological spread is
        added to each spread.

        >>> import nida_kit as nk
        >>> past = nk.QuasiGeostrophic(cells=17).simulate(samples=40, steps=20, dt=5.0, seed=0)
        >>> nk.OptimalInterpolation.fit_ensemble(past, steps=5, members=100, octaves=2)
        OptimalInterpolation(members=100, octaves=2, longest_window=5)

        Args:
            records: `(sample, time, y, x)`, or one `(time, y, x)`, as long as the windows or longer; on land
                NaN at all times, and nothing is missing elsewhere.
            steps: of the longest window that will be reconstructed.
            members: how many windows of the records; where they hold fewer, all of those, and `settings` say how many.
                `nk.save` does not take so many numbers: fit it again.
            octaves: places farther apart than about 2^octaves points know little of each other. Choose it by the error
                on windows held out.

        Raises:
            ValueError: records that are too short or too few, have gaps, or are not on a plane.
        """
        given, (records, values, labels) = records, _fields_of(records)
        _check_gaps(given, values, labels)
        return cls(EnsembleClimatology.fit(values, steps, members, octaves), labels, time_step(records["time"]))

    @classmethod
    def fit_scales(
        cls,
        records: xr.DataArray,
        steps: int = 8,
        sea: xr.DataArray | None = None,
        draws: int = 8,
        tolerance: float = 3e-3,
    ) -> OptimalInterpolation:
        """For fields of up to millions of values, by a few scales of noise: values vary together alike everywhere.

        What so few scales cannot hold is measured on windows of a tenth of the past, which is held out (of a short one
        on windows that were fitted, with a warning), and the standard deviations have it; draws, which are smooth, have
        not.

        >>> import nida_kit as nk
        >>> past = nk.QuasiGeostrophic(cells=33).simulate(samples=10, steps=20, dt=5.0, seed=0)
        >>> method = nk.OptimalInterpolation.fit_scales(past, steps=5, draws=4)
        >>> method.settings["scales"], 1 <= method.settings["wider"] < 2
        (2, True)

        Args:
            records: `(sample, time, y, x)`, or one `(time, y, x)`, at least twice as long as the windows, on an even
                grid; on land NaN at all times, and nothing is missing at sea.
            steps: of the longest window that will be reconstructed.
            sea: a mask `(y, x)` of where there is a field; None is wherever there is a value at any time.
            draws: of which std is made; fewer are quicker, and rougher.
            tolerance: of conjugate gradients; errors of observations far below the spread need no smaller one.

        Raises:
            ValueError: records that are too short, have gaps, or are not on an even plane; a mask without sea.
        """
        given, (records, values, labels) = records, _fields_of(records)
        sea = None if sea is None else mask_of(labels.ordered("sea", sea), labels.shape)
        _check_gaps(given, values, labels, sea)
        steps = checks.count("steps", steps, 1)
        own, windows = held_out(values, steps, 4 * steps, FEW)
        climatology = MultiscaleClimatology.fit(own, steps, sea, draws=draws, tolerance=tolerance)
        if windows is None:
            windows = windows_of(values, len(climatology.memory[0]), FEW)
            warn(_TOO_FEW.format("they are on what was, which the mean of the past knows"), stacklevel=2)
        advice = "The records are too few, or values do not vary together alike everywhere, as scales take it."
        return cls._calibrated(climatology, windows, labels, records, advice)

    @classmethod
    def _calibrated(
        cls, climatology: OfField, windows: Tensor | None, labels: Labels, records: xr.DataArray, advice: str
    ) -> OptimalInterpolation:
        """By a climatology whose spread is calibrated on windows of the past, if there are any."""
        climatology = climatology if windows is None else calibrated(climatology, windows, advice)
        return cls(climatology, labels, time_step(records["time"]))

    @classmethod
    def load(cls, path: str | Path) -> OptimalInterpolation:
        """What `nk.save` wrote of one; of a network's file, that of its climatology.

        Raises:
            ValueError: no such file, or none of ours.
        """
        prior, card = load(path)
        climatology = prior if isinstance(prior, Climatology | OfField) else prior.climatology
        method = cls(climatology, card.labels, card.dt)
        method.begins = card.about.get("begins")
        method.settings |= {name: value for name, value in card.about.items() if name == "shrinkage"}
        method.settings["weights"] = str(path)
        return method

    def laid_over(self, observations: Observations) -> Climatology | OfField:
        """The climatology of the observations' times: a full one knows those of its windows, and no others.

        Raises:
            ValueError: other times than those.
        """
        if self.begins is None or observations.times is None:
            return self.climatology
        known, steps = len(self.climatology.mean), observations.value.shape[-2]
        if steps > known:
            raise ValueError(
                f"The windows have {steps} steps, and the climatology has a mean and a covariance of its own for each "
                f"of {known} times: take fewer steps, nk.grid(..., steps={known}) or obs.isel(time=slice({known})); or "
                "fit it with order=1, say, which serves windows of any length."
            )
        first = (float(observations.times[0]) - self.begins) / self.dt
        k = round(first)
        if abs(first - k) > 1e-2 or k < 0 or k + steps > known:
            end, until = self.begins + (known - 1) * self.dt, float(observations.times[-1])
            raise ValueError(
                f"The climatology has a mean and a covariance of its own for each time from {self.begins:g} to "
                f"{end:g}; the observations lie from {float(observations.times[0]):g} to {until:g}. If the past has no "
                "fixed times, fit it with order=1, say, or to nk.windows(record, steps); if it has a season, use "
                "nk.Seasonal; if the observations only count from another zero, assign_coords their time."
            )
        return self.climatology if k == 0 else self.climatology.part(k, steps)

    takes_first_guess = False

    @property
    def land(self):
        return land_of(self.climatology)

    def doubts(self, observations):
        return outliers(self.climatology, observations)

    def implausibility(self, x, observations, dt):
        climatology = self.laid_over(observations)
        if isinstance(climatology, OfField):
            return super().implausibility(x, observations, dt)
        return climatology.misfit(x)

    def reconstruct(self, observations, dt, first_guess):
        climatology = self.laid_over(observations)
        start = climatology.over(observations.value.shape[-2])
        if first_guess is not None:
            start = start.at(first_guess)
        if isinstance(climatology, MultiscaleClimatology):
            posterior = posterior_of(climatology, observations)
            posterior.mean  # noqa: B018 (solved for now, and kept)
            return Reconstruction([posterior], [math.nan], start.mean, of_solver([posterior.gaussian.reached]))
        if isinstance(climatology, EnsembleClimatology):
            mean, std, reached = climatology.solved(_said(climatology, observations))
            return Reconstruction([Moments(mean, std)], [math.nan], start.mean, of_solver([reached]))
        found: Posterior = first_guess_of(climatology, observations, start)
        if isinstance(climatology, OfField):  # of which the marginals alone are known
            found = Moments(found.mean, found.std)
        return Reconstruction([found], [math.nan], start.mean)

    def calibrated(self, found, observations):
        climatology, last = self.climatology, found.posteriors[-1]
        if not isinstance(climatology, OfField) or (climatology.wider, climatology.unresolved) == (1.0, 0.0):
            return found
        value = noise_std = torch.full_like(last.std, math.nan)
        if observations.direct:
            value, noise_std = observations.value.to(last.std), observations.noise_std.to(last.std)
        told = Moments(last.mean, climatology.told(last.std, last.mean.to(last.std), value, noise_std))
        return replace(found, posteriors=[*found.posteriors[:-1], told])

    def draw(self, observations, dt, first_guess, noise):
        if not isinstance(self.climatology, MultiscaleClimatology):
            return super().draw(observations, dt, first_guess, noise)
        if (share := self.climatology.unresolved) > _SMOOTH:
            warn(
                f"Draws are smoother than the field: what its scales cannot hold, {share:.0%} of the spread, is in the "
                "standard deviations of assimilate, and in no draw. So intervals of draws alone are too narrow.",
                stacklevel=4,
            )
        return posterior_of(self.climatology, observations).sample(noise)


def past_of(
    past: xr.DataArray, name: str = "windows", alone: bool = False
) -> tuple[xr.DataArray, Float[Tensor, "N T n"], Labels]:
    """Past trajectories as methods are fitted to them: in the state's order, as vectors in double precision, labelled.

    Args:
        past: `(..., time, *state)`.
        name: of it, where it is refused.
        alone: whether one trajectory is enough; it needs no leading dim then.

    Raises:
        ValueError: dims or coordinates that are missing, numbers that are not real, fill values, or one trajectory
            alone.
    """
    if not isinstance(past, xr.DataArray):
        one = f": one of its variables, {name}[{next(iter(past), '...')!r}]" if isinstance(past, xr.Dataset) else ""
        raise ValueError(f"{name} is an xr.DataArray with labelled dims, not {type(past).__name__}{one}.")
    if TIME not in past.dims:
        raise ValueError(
            f"{name} has the dims {past.dims}, and none of them is {TIME!r}: rename the one that is, "
            f"{name}.rename(t={TIME!r}), say."
        )
    if not (own := state_dims(past)):
        raise ValueError(
            f"{name} has the dims {past.dims}: after {TIME!r} come those of the state, component, or of a field its "
            f"own: {name}.transpose(..., {TIME!r}, 'y', 'x'), say."
        )
    of_field = past.dims[past.dims.index(TIME) + 1 :] if COMPONENT not in own else ()
    missing = [d for d in past.dims if d in (TIME, *own, *of_field) and d not in (SAMPLE, *past.coords)]
    if missing:
        raise ValueError(f"{name} has no coordinates along {missing}: give it some by {name}.assign_coords(...).")
    past = past.transpose(..., TIME, *own)
    if past.dtype.kind not in "iuf":
        raise ValueError(f"{name} has dtype {past.dtype}; real numbers are needed.")
    if past.ndim == 1 + len(own):
        if not alone:
            raise ValueError(
                f"{name} has the dims {past.dims}; it needs a leading one, along which there are many windows: "
                "nk.windows(record, steps) cuts a record into some. (For a field of many points there is "
                "nk.OptimalInterpolation.fit_field(record), which takes it as it is.)"
            )
        past = past.drop_vars(SAMPLE, errors="ignore").expand_dims(SAMPLE)
    labels = labels_of(past)
    checks.no_fill(name, past, past.attrs)
    values = fold(torch.from_numpy(np.ascontiguousarray(past.values)).double(), labels.shape).flatten(0, -3)
    if isinstance(labels, GridLabels) and not alone:  # of one record, land may be told beside it
        checks.no_constant(name, values.numpy())
    if doubt := checks.doubtful(name, values.numpy()):
        warn(doubt, stacklevel=4)
    return past, values, labels


def sea_of(past: Float[Tensor, "N T n"], labels: Labels) -> Bool[Tensor, " n"]:
    """Which numbers of a state have a value at any time: of a field all but those on land; all of named components.

    Raises:
        ValueError: none has.
    """
    sea = ~past.isnan().flatten(0, 1).all(0)
    if not sea.any():
        raise ValueError("windows hold no value: all are NaN.")
    return sea if isinstance(labels, GridLabels) else torch.ones_like(sea)


def _fields_of(records: xr.DataArray) -> tuple[xr.DataArray, Float[Tensor, "N T y x"], Labels]:
    """The same of fields on a plane, of which one record is enough."""
    records, values, labels = past_of(records, "records", alone=True)
    checks.unhalved("records", records.dtype)
    if len(labels.shape) != 2:
        raise ValueError(f"A field on a plane has two dims, and these records have {list(labels.dims)}.")
    return records, values.unflatten(-1, labels.shape), labels


def _check_gaps(
    records: xr.DataArray, values: Float[Tensor, "N T y x"], labels: Labels, sea: Bool[Tensor, "y x"] | None = None
) -> None:
    """Raises a ValueError where a point at sea has no value at some time, with code for the dims that there are.

    Args:
        records: as they were given.
        values: of them.
        labels: of the field.
        sea: where there is a field; None is wherever there is a value at any time.
    """
    known = values.isfinite()
    asked = (~values.isnan()).any(0).any(0) if sea is None else sea
    gaps = asked & ~known.all(0).all(0)
    if not gaps.any():
        return
    over = [str(d) for d in records.dims if d not in labels.dims]
    whole = f"np.isfinite(records).all({over if len(over) > 1 else over[0]!r})"
    land = f"records.where({whole})" if sea is None else f"sea=sea & {whole}"
    fill = ""
    inside, each = known[..., gaps], known[..., gaps].sum(1)
    if not values[..., gaps].isinf().any() and bool((each > 1).all()):
        ends = "" if bool(inside[:, [0, -1]].all()) else ".interpolate_na('time', 'nearest', fill_value='extrapolate')"
        fill = f"Fill gaps at sea, records.interpolate_na('time'){ends}, or make"
    raise ValueError(
        f"Records of a field must be finite and without gaps; {int(gaps.sum())} of {gaps.numel()} points have a gap. "
        f"Land is NaN at all times. {fill or 'Make'} such points land, {land}."
    )


class ClimatologicalForecast(OptimalInterpolation):
    """The climatology alone, whatever was observed: what every method should beat.

    >>> import nida_kit as nk, torch
    >>> past = nk.Lorenz63().simulate(samples=200, steps=8, dt=0.05, seed=0)
    >>> climatology = nk.Climatology.fit(torch.from_numpy(past.values), order=1)
    >>> forecast = nk.ClimatologicalForecast(climatology, nk.Lorenz63.labels, dt=0.05)
    >>> obs = nk.observe(past[:2], every=4, noise_std=1.0)
    >>> bool((forecast.assimilate(obs)["mean"][0] == forecast.assimilate(obs)["mean"][1]).all())
    True
    """

    fits = False

    def reconstruct(self, observations, dt, first_guess):
        climatology = self.laid_over(observations)
        alone = climatology.over(observations.value.shape[-2])
        found = Moments(alone.mean, alone.std) if isinstance(climatology, OfField) else alone
        return Reconstruction([found], [math.nan], alone.mean)

    def calibrated(self, found, observations):
        return found  # of the climatology alone nothing is learnt, of which it could be too sure


def first_guess_of(
    climatology: Climatology | OfField, observations: Observations, start: Gaussian | None = None
) -> Gaussian:
    """x_0: the climatology's optimal interpolation, where neural priors start."""
    if isinstance(climatology, OfField):
        return climatology.given(_said(climatology, observations))
    start = climatology.over(observations.value.shape[-2]) if start is None else start
    return next(incremental(climatology, [1.0], observations, start, conditioned))


def posterior_of(climatology: MultiscaleClimatology, observations: Observations) -> MultiscalePosterior:
    """The same of a large field, of which there are draws, too."""
    return climatology.posterior(_said(climatology, observations))


def _said(climatology: OfField, observations: Observations) -> Gaussian:
    """What observations say, linearised at the climatological mean."""
    if isinstance(climatology, MultiscaleClimatology):  # whose noise is large, and made in its own precision
        observations = observations.to(climatology.mean.device, climatology.mean.dtype)
    lead = observations.value.shape[:-2]
    centre = climatology.over(observations.value.shape[-2]).centre.to(observations.value)
    said = observations.around(centre.expand(*lead, -1, -1))
    return said if climatology.mask is None else _at_sea(said, climatology)


def _at_sea(said: Gaussian, climatology: OfField) -> Gaussian:
    """The same, of which what lies between sea and land sees the nearest points at sea in the place of land."""
    (part,) = said.rows.parts
    if not isinstance(part, Sparse):
        return said
    n = len(climatology.mask)
    nearest = nearest_at_sea(climatology.mask, climatology.shape).to(part.index)
    index = part.index // n * n + nearest[part.index % n]
    return replace(said, rows=Stack((replace(part, index=index),)))


def land_of(climatology: Climatology | OfField) -> Bool[Tensor, " n"] | None:
    """Where a climatology knows no field."""
    mask = getattr(climatology, "mask", None)
    return None if mask is None else ~mask.cpu()


def outliers(climatology: Climatology | OfField, observations: Observations) -> list[str]:
    """What to say of values far outside what ever occurs: most often fill values, or in another unit."""
    if not observations.direct:
        return []
    spread = climatology.spread
    if isinstance(climatology, OfField):  # near walls fields vary little most of the time, and much at others
        spread = spread.square().mean().sqrt()
    away = (observations.value - climatology.mean[-1]).abs() / (spread + observations.noise_std)
    far = observations.value[away > 10]
    if not far.numel():
        return []
    if far.numel() == 1:
        what, asked = f"1 observed value, {far[0]:g}, lies", "Is it a fill value (make it NaN)"
    else:
        what = f"{far.numel()} observed values, {far[0]:g} among them, lie"
        asked = "Are they fill values (make them NaN)"
    return [f"{what} more than 10 standard deviations from the climatological mean. {asked}, or in another unit?"]


def check_state(climatology: Climatology | OfField, labels: Labels, dt: float) -> tuple[Labels, float]:
    """Labels and time step of the climatology's trajectories."""
    checks.instance(
        "labels",
        labels,
        StateLabels | GridLabels,
        "nk.StateLabels or nk.GridLabels",
        "Try those of a system, nk.Lorenz63().labels.",
    )
    n = climatology.mean.shape[-1]
    if labels.size != n:
        raise ValueError(
            f"The climatology has {n} components, the labels name {labels.size}: {labels}. Give the labels of the "
            "trajectories that it was fitted to."
        )
    if isinstance(climatology, OfField) and labels.shape != climatology.shape:
        raise ValueError(f"The climatology is of a field of {climatology.shape} points, the labels of {labels.shape}.")
    if isinstance(climatology, MultiscaleClimatology):
        for dim, points in labels.indexes.items():
            checks.even(
                dim,
                points,
                "the climatology knows correlations between points that are equally far apart. Interpolate to an even "
                f"grid, records.interp({dim}=np.linspace(...)), or take nk.OptimalInterpolation.fit_field.",
            )
    return labels, checks.positive("dt", dt)
