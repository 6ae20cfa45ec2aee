"""What every method has in common: labelled observations in, a labelled reconstruction out.

A method implements `reconstruct`, on tensors, and `draw` if its posterior is no Gaussian. The rest is here: checking
the input, records, what to say of the answer. Labels are `edge`'s, lazy Dask samples those of `lazy`.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit import checks, html
from nida_kit.edge import (
    COVARIANCE,
    NOISE,
    ObservedTensors,
    check_observations,
    flags_of,
    fold,
    label,
    label_next,
    label_values,
    place,
    read_observations,
    read_trajectory,
    without_land,
)
from nida_kit.methods.lazy import by_chunks
from nida_kit.methods.records import with_records
from nida_kit.methods.residuals import improbable, misfit, standardised
from nida_kit.methods.robust import Law, law_of, reweighted, weighted
from nida_kit.notes import gathered, versions, warn
from nida_kit.observing.errors import errors_of
from nida_kit.observing.observations import Observations
from nida_kit.observing.operators import Operator, as_operator, is_direct
from nida_kit.priors.drawn import Drawn
from nida_kit.priors.multiscale import MultiscalePosterior
from nida_kit.reconstruction import Moments, Reconstruction
from nida_kit.state import COMPONENT, MEMBER, TIME, Labels


def stream(seed: int) -> torch.Generator:
    """A method's own random numbers: never those that a system draws its true trajectories from for the same seed."""
    own = torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed))
    return torch.Generator().manual_seed(int(own))


class Method(ABC):
    """A way to reconstruct trajectories from observations.

    >>> import nida_kit as nk
    >>> truth = nk.LinearOscillator().simulate(samples=1, steps=20, dt=0.1, model_noise_std=0.1, seed=0)
    >>> obs = nk.observe(truth, every=4, noise_std=0.1, seed=1)
    >>> method = nk.KalmanSmoother(nk.LinearOscillator(), model_noise_std=0.1)
    >>> isinstance(method, nk.Method), method.assimilate(obs)["std"].dims
    (True, ('sample', 'time', 'component'))
    >>> method.sample(obs, samples=5).sizes["member"]
    5

    Attributes:
        labels: of the state.
        dt: the time step it works with; None takes the observations'.
        settings: for the records of each result; `seed` is among them if the method itself is random.
        stops_early: whether the number of steps depends on the observations.
        noise_layers: how many times unit noise over the whole window `draw` needs for each draw.
        template_steps: how many time steps say what a lazy result looks like; None is the whole window.
        fits: whether the answer should agree with the observations.
        takes_first_guess: whether the answer depends on where it starts.
        doubt_of_robust: what to say where `robust=` is asked for.
        remedy: what to do where its search has not converged.
        land: `(n,)`, at which points of a field there is no state: results are NaN there, and observations are refused;
            None is nowhere.
    """

    labels: Labels
    dt: float | None = None
    settings: dict[str, Any]
    stops_early: bool = False
    noise_layers: int = 1
    template_steps: int | None = None
    fits: bool = True
    takes_first_guess: bool = True
    doubt_of_robust: str = ""
    land: Bool[Tensor, " n"] | None = None
    remedy: str = "Start from a better first_guess, as in nk.Chain([interpolation, method]), or give more iterations."

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"

    def _repr_html_(self) -> str:
        about = {"state": html.state(self.labels), "time step": self.dt or "that of the observations"}
        return html.card(type(self).__name__, about | self.settings)

    def doubts(self, observations: Observations) -> list[str]:
        """What to say of observations before anything is made of them."""
        return []

    @abstractmethod
    def reconstruct(self, observations: Observations, dt: float, first_guess: Tensor | None) -> Reconstruction:
        """The method itself, on a batch of windows as float64 tensors `(..., T, n)`."""

    def calibrated(self, found: Reconstruction, observations: Observations) -> Reconstruction:
        """What it found, with the spread that a user is told; here the same."""
        return found

    def implausibility(self, x: Tensor, observations: Observations, dt: float) -> Float[Tensor, "*batch"]:
        """-log density of trajectories before anything is observed, up to a constant; 0 where none is known."""
        return x.new_zeros(x.shape[:-2])

    def draw(
        self,
        observations: Observations,
        dt: float,
        first_guess: Tensor | None,
        noise: Float[Tensor, "layers members *batch T n"],
    ) -> Float[Tensor, "members *batch T n"]:
        """Draws from the posterior, a function of independent unit normal noise: here, those of the last Gaussian."""
        last = self.reconstruct(observations, dt, first_guess).posteriors[-1]
        if isinstance(last, Moments):
            raise ValueError(
                f"{type(self).__name__} knows the mean and the spread of each value, but not how they vary together: "
                "draw from a smoother, nk.EnKS or nk.ParticleSmoother, or of a field from nk.NeuralIncremental."
            )
        return last.sample(noise[0].to(last.mean))

    def assimilate(
        self,
        obs: xr.Dataset,
        first_guess: xr.DataArray | None = None,
        *,
        operator=None,
        robust: str | Law | None = None,
        trace: bool = False,
    ) -> xr.Dataset:
        """Reconstruct the trajectories behind observations.

        Args:
            obs: `value (..., time, component)`, NaN where nothing was measured, and `noise_std`, which broadcasts
                over it; of a field, its own dims stand in the place of component. A dimension chunked by Dask
                (`obs.chunk(sample=100)`) stays lazy. Windows may have several labels, `obs.stack(window=("a", "b"))`;
                NetCDF has no such dims: `result.reset_index("window")` before `to_netcdf`.
            first_guess: where to start, `(..., time, component)`; None is the method's own.
            operator: what was observed, as given to `nk.observe`; None is the state's own components.
            robust: "student" or "huber" if errors may be gross: values far from what the others say count less, or for
                nothing (`methods/robust.py`); or a function of standardised residuals that gives such weights, 0 to 1.
            trace: keep every estimate on the way, along the dimension `step`, and the first guess.

        Returns:
            `mean` and `std (..., time, component)`; for each value its standardised `residual`, a unit normal number if
            prior and errors are what they are said to be, and with `robust` the `weight` that it counted with (behind
            an operator, both lie along `obs_component`); for each window how many values were `observed`, the `misfit`
            of the mean to them (root mean square, in standard deviations of their errors: about 1 or less) and what
            else the method says about it; records in `attrs`, beside the attributes of `obs`, and a `note` of what
            was warned of. (A lazy result warns as its chunks are computed, and has no note: look at its `misfit` and
            `residual`.)

        Raises:
            ValueError: input that cannot be used; it says which and what to try.
        """
        return self._labelled(obs, first_guess, operator, robust=robust, trace=trace)

    def sample(
        self,
        obs: xr.Dataset,
        samples: int,
        seed: int = 0,
        first_guess: xr.DataArray | None = None,
        *,
        operator=None,
        robust: str | Law | None = None,
    ) -> xr.DataArray:
        """Draws from the posterior, along the new leading dimension `member`; otherwise as `assimilate`."""
        samples, seed = checks.count("samples", samples, 1), checks.seed(seed)
        core = self.dims_of(operator)
        check_observations(obs, core[1:])
        lead = {d: n for d, n in obs["value"].sizes.items() if d not in core}
        own = dict(zip(self.labels.dims, self.labels.shape, strict=True))
        sizes = {"_layer": self.noise_layers, MEMBER: samples, **lead, TIME: obs.sizes[TIME], **own}
        # Drawn here for all windows, so that the draws do not depend on how Dask cuts them.
        noise = torch.randn(*sizes.values(), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        noise = xr.DataArray(noise.numpy(), dims=list(sizes))
        drawn = self._labelled(obs, first_guess, operator, robust=robust, noise=noise)
        own = {"method_seed": self.settings["seed"]} if "seed" in self.settings else {}
        return drawn["draws"].assign_attrs(drawn.attrs | own | {"seed": seed})

    def dims_of(self, operator) -> tuple[str, ...]:
        """What a window of observations lies along."""
        return (TIME, *(self.labels.dims if is_direct(operator) else (COMPONENT,)))

    def _labelled(self, obs, first_guess, operator, **how) -> xr.Dataset:
        check_observations(obs, self.dims_of(operator)[1:])
        operator = as_operator(operator, self.labels.shape)
        how["robust"] = None if how["robust"] is None else law_of(how["robust"])
        arrays = [*obs.variables.values(), first_guess]
        if any(isinstance(a, xr.Variable | xr.DataArray) and a.chunks for a in arrays):
            return by_chunks(self, obs, first_guess, operator, **how)
        return self.eagerly(obs, first_guess, operator, **how)

    def eagerly(
        self,
        obs: xr.Dataset,
        first_guess: xr.DataArray | None,
        operator: Operator,
        *,
        robust: Law | None = None,
        noise: xr.DataArray | None = None,
        trace: bool = False,
    ) -> xr.Dataset:
        """The result, now: that of `assimilate`, or with unit noise `(_layer, member, ..., time, *state)` the draws."""
        began = time.perf_counter()
        read = read_observations(obs, self.labels, self.dt, direct=is_direct(operator))
        if first_guess is not None:
            first_guess = read_trajectory(first_guess, read, self.labels, "first_guess", self.land)
        errors = errors_of(read.noise_std, read.noise_covariance, read.tracks)
        observations = Observations(read.value, errors, operator, read.times)
        if self.land is not None:
            _refuse_on_land(observations, self.land)
        notes = _empty(observations) + unused(obs, first_guess is not None and not self.takes_first_guess)
        notes += self.doubts(observations)
        with torch.no_grad(), gathered() as said:
            told, weight = observations, torch.ones_like(observations.value)
            if robust is not None:
                weight = reweighted(self, robust, told, read.dt, first_guess)
                observations = weighted(told, weight)
                notes += _gross(weight) + [self.doubt_of_robust] * bool(self.doubt_of_robust)
            given = observations, read.dt, first_guess
            if noise is None:
                found = self.reconstruct(*given)
                last = found.posteriors[-1]
                mean, std = (x.to(told.value.device) for x in (last.mean, last.std))
                # Of few draws a spread is too rough to tell how far an answer follows each value.
                std = torch.zeros_like(std) if isinstance(last, MultiscalePosterior) else std
                judged = observations
                if isinstance(last, Drawn) and isinstance(last.unresolved, Tensor):  # which no answer follows
                    told, judged = (each.widened(last.unresolved) for each in (told, observations))
                    std = last.resolved.to(told.value.device)
                residual, off = standardised(told, mean, std, weight), misfit(observations, mean)
                if self.fits:
                    counted = residual.where(weight > 0, math.nan)
                    missed = improbable(judged, mean, std, counted)
                    unfinished = self.remedy, found.diagnostics.get("converged")
                    notes += _contradictions(off, missed, counted, *unfinished, read, moved_by_grid(obs))
                    notes += _unfinished(found.diagnostics, missed, self.remedy)
                found = replace(found, diagnostics=found.diagnostics | {"misfit": off})
                values = {"residual": (residual, "standardised residual")}
                if robust is not None:
                    values |= {"weight": (weight.where(told.seen, math.nan), "weight of the observed value")}
                found = self.calibrated(found, observations)
                result, steps = _label(found, values, read, trace), {"iterations": len(found.posteriors)}
            else:
                draws = self.draw(*given, fold(torch.from_numpy(noise.values), self.labels.shape))
                result, steps = _label_draws(draws, read), {}
        if self.land is not None:
            result = without_land(result, self.land, self.labels)
        result.attrs = {"method": type(self).__name__, "seed": "none", **self.settings, **steps}
        result.attrs |= {"converted": read.converted} if read.converted else {}
        result.attrs |= {"seconds": time.perf_counter() - began, "versions": versions()}
        notes += said
        for note in notes:
            warn(note, stacklevel=4)
        result.attrs |= {"note": "\n".join(notes)} if notes else {}
        return with_records(result.assign_coords(read.coords), obs, self.labels, direct=is_direct(operator))


def _refuse_on_land(observations: Observations, land: Bool[Tensor, " n"]) -> None:
    """Raises a ValueError where values were observed on land, and says how many."""
    lost = int(observations.on_land(land).sum())
    if lost:
        raise ValueError(
            f"{lost} of {int(observations.seen.sum())} observed values lie on land, where the past is NaN at all times "
            "and the method knows no field. Leave them out: obs.assign(value=obs.value.where(sea)), where sea is "
            "past.isel(time=0).notnull(), say; of points between cells, nk.grid(data, method) does. If it is sea "
            "there, fit the method to a past that has values."
        )


def _empty(observations: Observations) -> list[str]:
    """What to say of windows without any observation."""
    empty = observations.value.isnan().flatten(-2).all(-1)
    if not empty.any():
        return []
    return [checks.in_windows(empty, "nothing is observed: the prior alone is shown.")]


def unused(obs: xr.Dataset, first_guess: bool = False) -> list[str]:
    """What to say of what was given and is not looked at."""
    notes = []
    flags = flags_of(obs)
    unknown = [str(name) for name in obs.data_vars if name not in ("value", NOISE, COVARIANCE, *flags)]
    if flags:
        notes.append(
            f"The quality flags {flags} were not looked at: nk.load_observations(obs, flag=...) keeps the good values."
        )
    if unknown:
        notes.append(f"obs holds {unknown}, which are not used: value and its error are.")
    if first_guess:
        notes.append("The first_guess was not used: this method has one answer wherever it starts.")
    return notes


def _gross(weight: Tensor) -> list[str]:
    """What to say of values that count for nothing."""
    gone = (weight == 0).sum()
    said = checks.counted(
        gone, "observed value was taken as a gross error", "observed values were taken as gross errors"
    )
    return [f"{said} and not used (weight 0)."] if gone else []


def _contradictions(
    misfit: Tensor,
    missed: Tensor,
    t: Tensor,
    remedy: str,
    converged: Tensor | None,
    read: ObservedTensors,
    moved: str,
) -> list[str]:
    """What to say of answers that miss what was observed: that, then what to do, and then where and why it may be."""
    if misfit.isinf().any():
        return [checks.in_windows(misfit.isinf(), "the answer is not finite.")]
    if not missed.any():
        return []
    far = t.abs().nan_to_num(nan=0.0).where(missed[..., None, None], 0.0)
    advice = 'If it is a gross error, try robust="student"; otherwise larger noise_std, or another prior or model.'
    if converged is not None and (stuck := missed & ~converged.to(missed)).any():
        where = "The" if missed.sum() == 1 else f"In {int(stuck.sum())} of them the"
        advice = f"{where} search has not converged: {remedy[0].lower()}{remedy[1:]}"
    said = (
        f"the answer misses what was observed, by up to {float(misfit[missed].max()):.3g} standard deviations of its "
        "error (root mean square), and more than chance would."
    )
    return [
        f"{checks.in_windows(missed, said)} {advice}{moved} Furthest off, by {float(far.max()):.3g} standard "
        f"deviations of what the other values leave open, is {place(int(far.argmax()), read)}. It may be a gross "
        "error, a bias, noise_std too small, a prior or a model of another system, or a search stuck in a wrong "
        "minimum."
    ]


def moved_by_grid(obs: xr.Dataset) -> str:
    """What to say of observations that `nk.grid` moved onto the model's steps and points; "" if it moved none."""
    moved = {name: obs.attrs.get(f"moved_{name}_max", 0) for name in obs["value"].dims}
    said = [f"{name} by up to {x if isinstance(x, str) else f'{x:.3g}'}" for name, x in moved.items() if _much(x)]
    if not said:
        return ""
    return f" nk.grid moved values along {', '.join(said)}: nk.grid(..., exact=True) keeps their true times and places."


def _much(shift: float | str) -> bool:
    """Whether a shift, as attributes of files hold it, is one."""
    return any(c in "123456789" for c in shift) if isinstance(shift, str) else bool(shift)


def _unfinished(diagnostics: dict[str, Tensor], missed: Tensor, remedy: str) -> list[str]:
    """What to say of searches that fit what was observed and yet are at no minimum."""
    if "distance" not in diagnostics:
        return []
    short = ~diagnostics["converged"] & ~missed
    if not short.any():
        return []
    return [
        checks.in_windows(
            short,
            "the search has not converged: one more step, undamped, may lead up to "
            f"{float(diagnostics['distance'][short].max()):.2g} standard deviations away. {remedy}",
        )
    ]


def _label(
    found: Reconstruction, values: dict[str, tuple[Tensor, str]], read: ObservedTensors, trace: bool
) -> xr.Dataset:
    """A reconstruction, and what is said of each observed value, as variables; every step along `step`, if asked."""
    last = found.posteriors[-1]
    arrays = {
        "mean": (last.mean, "posterior mean"),
        "std": (last.std, "posterior standard deviation"),
        "observed": ((~read.value.isnan()).sum((-2, -1)), "number of observed values"),
    }
    arrays |= {name: (x, name) for name, x in found.diagnostics.items()}
    said = label_values(values, read)
    if found.following is not None:
        said |= label_next(found.following.mean, found.following.covariance, read)
    if not trace:
        return xr.Dataset(label(arrays, read) | said)
    shape = (*read.value.shape[:-1], read.state.size)
    steps = {
        name: (torch.stack([getattr(x, name).expand(shape) for x in found.posteriors]), f"{long_name} after each step")
        for name, (_, long_name) in arrays.items()
        if name in ("mean", "std")
    }
    arrays |= {"first_guess": (found.first_guess.expand(shape), "first guess")}
    numbers = np.arange(1, len(found.posteriors) + 1)
    coords = {"step": numbers, "temperature": ("step", np.array(found.temperatures, float))}
    variables = label(arrays, read) | said | label(steps, read, ("step",))
    return xr.Dataset(variables, coords)


def _label_draws(draws: Tensor, read: ObservedTensors) -> xr.Dataset:
    """Draws `(members, ..., T, n)` as a variable."""
    return xr.Dataset(label({"draws": (draws, "")}, read, (MEMBER,)), {MEMBER: np.arange(len(draws))})
