r"""Observation operators and processes: y = h(x) + eta, eta ~ N(0, noise_std^2), at each time step.

h is `None` or a mask (the state's own components), a matrix `(p, n)`, or any torch callable from `(..., n)` to
`(..., p)`. Where nothing is observed there is NaN and nothing else: no method can see the truth through its input. The
noise is drawn as unit noise over the whole grid before anything is masked, so for one seed it only scales with
noise_std, and no value changes when another is observed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from nida_kit.gaussian import linearise
from nida_kit.labels import COMPONENT, CORE, TIME

Operator = Callable[[Tensor], Tensor]


def _identity(x: Tensor) -> Tensor:
    return x


def _apply_matrix(matrix: Tensor, x: Tensor) -> Tensor:
    return x @ matrix.to(x).mT


def as_operator(operator: np.ndarray | Tensor | xr.DataArray | Operator | None) -> Operator:
    """What `operator=` may be, as a torch callable on states: None and boolean masks are the identity.

    Raises:
        ValueError: neither callable, mask, nor a finite matrix without labels.
    """
    if operator is None:
        return _identity
    if callable(operator) and not isinstance(operator, Tensor | xr.DataArray):
        return operator
    array = np.asarray(operator)
    if array.dtype == bool:
        return _identity
    if isinstance(operator, xr.DataArray):
        raise ValueError(
            f"operator= is a labelled array with the dims {operator.dims}, but a matrix acts by position: order its "
            "columns as the state's components, and pass its .values, (observed, component)."
        )
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise ValueError(
            f"operator= has dtype {array.dtype} and shape {array.shape}; give a boolean mask, a real matrix "
            "(observed, component), or a torch callable on (..., component)."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"operator= holds {(~np.isfinite(array)).sum()} NaN or infinite entries: what does not enter a value has "
            "the weight 0, and a value that is not observed has no row."
        )
    return partial(_apply_matrix, torch.from_numpy(array.astype(float)))


def is_direct(operator) -> bool:
    """Whether observations through it are values of the state's own components."""
    return as_operator(operator) is _identity


def _apply(operator: Operator, x: Tensor) -> Tensor:
    """h(x), with its shape checked.

    Raises:
        ValueError: the operator cannot take such states, or gives no `(..., p)` tensor.
    """
    try:
        value = operator(x)
    except (RuntimeError, IndexError, TypeError) as error:
        raise ValueError(
            f"The operator cannot be applied to states of shape {tuple(x.shape)}: {error}. It takes and gives torch "
            "tensors, by torch functions (numpy's have no gradients); a matrix is (values, components)."
        ) from error
    if not isinstance(value, Tensor) or value.shape[:-1] != x.shape[:-1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"The operator made {got} of states {tuple(x.shape)}; it must act on the last axis alone and keep it: "
            "for one observed value per time step, return x[..., :1], not x[..., 0]."
        )
    return value


@runtime_checkable
class Observing(Protocol):
    """What the loop asks of observations, whatever they are of."""

    def linearise(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...

    def misfit(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Observations:
    """Observations of a batch of windows, as the methods see them.

    Attributes:
        value: y, `(..., T, p)`, NaN where not observed.
        noise_std: `(..., T, p)`, positive.
        operator: h.
    """

    value: Float[Tensor, "*batch T p"]
    noise_std: Float[Tensor, "*#batch T p"]
    operator: Operator = _identity

    @property
    def direct(self) -> bool:
        """Whether they are values of the state's own components."""
        return self.operator is _identity

    @property
    def linear(self) -> bool:
        """Whether h is known to be linear: none, a mask, or a matrix."""
        return self.direct or getattr(self.operator, "func", None) is _apply_matrix

    def to(self, device: torch.device) -> Observations:
        """The same observations on another device."""
        return Observations(self.value.to(device), self.noise_std.to(device), self.operator)

    def at(self, t: int) -> Observations:
        """Those of one time step, T = 1."""
        return Observations(self.value[..., t : t + 1, :], self.noise_std[..., t : t + 1, :], self.operator)

    def predicted(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch p"]:
        """h(x).

        Raises:
            ValueError: an operator that cannot take such states, or makes another number of values than were observed.
        """
        value = _apply(self.operator, x)
        if value.shape[-1] != self.value.shape[-1]:
            raise ValueError(
                f"The operator gives {value.shape[-1]} values per time step, the observations have "
                f"{self.value.shape[-1]}: pass the operator they were made with."
            )
        return value

    def linearise(self, x: Float[Tensor, "*batch T n"]) -> tuple[Tensor, Tensor, Tensor]:
        """(H, R, y) for `Gaussian.condition`: h(x') = h(x) + H (x' - x), with y moved accordingly.

        Raises:
            ValueError: an operator that does not fit, or has no finite value or slope where something was observed.
        """
        if self.operator is _identity:
            return torch.eye(x.shape[-1]).to(x).expand(*x.shape, -1), self.noise_std**2, self.value
        predicted, H = linearise(self.predicted, x)
        seen = ~self.value.isnan()
        bad = seen & ~(predicted.isfinite() & H.isfinite().all(-1))
        if bad.any():
            raise ValueError(
                f"At the current estimate, the operator gives NaN or infinite values or slopes for {int(bad.sum())} of "
                f"{int(seen.sum())} observed values. Estimates may leave the range of true states: use an operator "
                "that is smooth everywhere (x.clamp(min=...) before a log), or start from another first_guess."
            )
        H = H.where(seen.unsqueeze(-1), 0.0)  # NaN times no weight would be NaN
        return H, self.noise_std**2, self.value - predicted + (H @ x.unsqueeze(-1)).squeeze(-1)

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """1/2 (y - h(x))' R^-1 (y - h(x)) over what was observed; NaN where h(x) is."""
        error = (self.value - self.predicted(x)) / self.noise_std
        return error.where(~self.value.isnan(), 0.0).square().sum((-2, -1)) / 2


def observe(
    truth: xr.DataArray,
    components: Sequence[str] | None = None,
    every: int = 1,
    *,
    noise_std: float | xr.DataArray,
    seed: int = 0,
    offset: int | str = 0,
    times: Sequence[float] | None = None,
    fraction: float = 1.0,
    operator=None,
) -> xr.Dataset:
    """Sparse, noisy observations of trajectories.

    Args:
        truth: `(..., time, component)`.
        components: which are observed; None is all. With a matrix or callable as operator: which of its values h0,
            h1, ...
        every: observe each `every`-th time step,
        offset: from this index on; "random" draws it for each window.
        times: observe at these times only (each must be a time of the grid), instead of `every`.
        fraction: of these, the random share that is really measured.
        noise_std: of each error, in units of what is observed; a number, or anything that broadcasts over the values.
        seed: of noise and random patterns.
        operator: what is observed, see the module; a mask also selects: an array `(component,)` or
            `(time, component)`, or an `xr.DataArray`, which is matched by its labels.

    Returns:
        `value` (NaN where not observed) and `noise_std`.

    Raises:
        ValueError: unknown components or times, a pattern without any observation, or a noise that is not positive.
    """
    if not isinstance(truth, xr.DataArray) or any(d not in truth.dims or d not in truth.coords for d in CORE):
        raise ValueError("truth is an xr.DataArray with the dims and coordinates time and component.")
    if not isinstance(fraction, Real) or not isinstance(every, Real):
        raise ValueError(f"{every=} and {fraction=} must be numbers.")
    if not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"{seed=} must be a whole number, not negative.")
    if not 0 < fraction <= 1 or int(every) != every or every < 1:
        raise ValueError(f"every={every} must be a positive whole number and fraction={fraction} within (0, 1].")
    if times is not None and (every != 1 or offset != 0):
        raise ValueError(f"times= says which steps are observed, and so do every={every}, offset={offset}: give one.")
    exact = _measured(truth.transpose(..., *CORE), operator)
    generator = np.random.default_rng(seed)
    noise = exact.copy(data=generator.standard_normal(exact.shape))
    uniform = generator.random(exact.shape)
    start = generator.random(exact.shape[:-2])
    when = _on_grid(truth[TIME].values, times) if times is not None else _regularly(exact, every, offset, start)
    seen = when[..., None] & _among(components, exact[COMPONENT].values.tolist()) & _unmasked(operator, exact)
    seen = seen & (uniform < fraction)
    if not seen.any():
        raise ValueError("Nothing is observed: name some components, and widen times, fraction or the mask.")
    if not np.isfinite(exact.values[seen]).all():
        raise ValueError(
            "truth holds NaN or infinite values where it is observed; leave those out, by times or a mask."
        )

    noise_std = _read_noise(noise_std, exact, seen)
    observed = (exact + noise * noise_std).transpose(*exact.dims).where(seen)
    observed.attrs = {"long_name": "observed value", "comment": "NaN where nothing was observed"}
    noise_std.attrs = {"long_name": "standard deviation of the observation error"}
    pattern = {"every": every, "offset": offset} if times is None else {"times": np.asarray(times, float).tolist()}
    attrs = pattern | {"fraction": fraction, "seed": seed}
    return xr.Dataset({"value": observed, "noise_std": noise_std}, attrs=attrs)


def _measured(truth: xr.DataArray, operator) -> xr.DataArray:
    """h(truth), labelled: with the state's components, or h0, h1, ..."""
    value = _apply(as_operator(operator), torch.from_numpy(truth.values.astype(float))).detach().numpy()
    if is_direct(operator):
        return xr.DataArray(value, truth.coords, truth.dims)
    coords = {name: c for name, c in truth.coords.items() if COMPONENT not in c.dims}
    return xr.DataArray(value, coords | {COMPONENT: [f"h{i}" for i in range(value.shape[-1])]}, truth.dims)


def _regularly(exact: xr.DataArray, every: int, offset: int | str, start: np.ndarray) -> np.ndarray:
    """Which time steps are observed, `(T,)`, or `(..., T)` from random offsets on."""
    index = np.arange(exact.sizes[TIME])
    if offset == "random":
        first = np.floor(start * every)[..., None]
    elif isinstance(offset, str) or int(offset) != offset or not 0 <= offset < index.size:
        raise ValueError(f'offset={offset!r} must be "random" or a whole number within the {index.size} time steps.')
    else:
        first = offset
    return (index >= first) & ((index - first) % every == 0)


def _on_grid(grid: np.ndarray, times: Sequence[float]) -> np.ndarray:
    """Which time steps lie at the given times, `(T,)`."""
    times = np.asarray(times, float)
    nearest = np.abs(grid[:, None] - times).argmin(0)
    missed = times[~np.isclose(grid[nearest], times, atol=1e-6 * max(1.0, np.abs(grid).max()))]
    if missed.size:
        raise ValueError(f"times {missed.tolist()} are not on the grid from {grid[0]:g} to {grid[-1]:g}.")
    return np.isin(np.arange(grid.size), nearest)


def _among(components: Sequence[str] | None, names: list[str]) -> np.ndarray:
    """Which values are observed, `(p,)`."""
    if isinstance(components, str):
        raise ValueError(f'components="{components}" is one name; give a list of them: ["{components}"].')
    unknown = sorted(set(components or ()) - set(names))
    if unknown:
        raise ValueError(f"Components {unknown} are not among those observed, {names}: choose from these.")
    return np.array([components is None or name in components for name in names])


def _unmasked(operator, like: xr.DataArray) -> np.ndarray:
    """Where a mask lets the values `like` be observed: everywhere, if the operator is none."""
    if isinstance(operator, xr.DataArray):
        return _aligned(operator, like)
    mask = np.asarray(True if operator is None or callable(operator) else operator)
    try:
        return np.broadcast_to(mask if mask.dtype == bool else True, like.shape)
    except ValueError:
        raise ValueError(
            f"The mask of shape {mask.shape} does not broadcast over {like.shape}: give (component,), "
            "(time, component), or an xr.DataArray, which is matched by name."
        ) from None


def _aligned(mask: xr.DataArray, like: xr.DataArray) -> np.ndarray:
    """A labelled mask on the labels of the values `like`, which it must cover.

    Raises:
        ValueError: dims that there are not, or labels that are missing or come twice.
    """
    foreign = sorted(map(str, set(mask.dims) - set(like.dims)))
    if foreign:
        raise ValueError(f"The mask has the dims {foreign}, the values {like.dims}: rename, or select one of each.")
    for dim in mask.dims:
        if dim in mask.coords and dim in like.coords:
            missing = np.setdiff1d(like[dim], mask[dim])
            if missing.size or not mask.get_index(dim).is_unique:
                raise ValueError(
                    f"The mask lacks {missing.tolist()} along {dim!r}, or has a label twice; it needs each label of "
                    f"truth once: mask.reindex({dim}=truth.{dim}, fill_value=False)."
                )
            mask = mask.sel({dim: like[dim]})
        elif mask.sizes[dim] != like.sizes[dim]:
            raise ValueError(f"The mask has {mask.sizes[dim]} along {dim!r}, the values {like.sizes[dim]}: label it.")
    return mask.broadcast_like(like).transpose(*like.dims).values


def _read_noise(noise_std: float | xr.DataArray, like: xr.DataArray, seen: np.ndarray) -> xr.DataArray:
    """noise_std on the coordinates of the values `like`; it may lack those that are not seen.

    Raises:
        ValueError: it does not broadcast over the values, or is not positive where they are seen.
    """
    noise_std = xr.DataArray(noise_std)
    if set(noise_std.dims) - set(like.dims) or noise_std.dtype.kind not in "iuf":
        raise ValueError(
            f"noise_std has dims {noise_std.dims} and dtype {noise_std.dtype}; give a number, or an xr.DataArray of "
            f"numbers with some of the dims {like.dims}."
        )
    noise_std = noise_std.reindex_like(like)
    needed = noise_std.broadcast_like(like).transpose(*like.dims).values[seen]
    if not (np.isfinite(needed) & (needed > 0)).all():
        raise ValueError(
            "noise_std must be positive and finite wherever something is observed, on the same coordinates; an exact "
            "measurement is a small positive noise_std."
        )
    return noise_std


# Laws of random observation processes: law(shape, generator) -> (seen, noise_std), for training and experiments

Law = Callable[[tuple[int, int, int], torch.Generator], tuple[Tensor, Tensor]]


def regular(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    components: Sequence[int],
    every: int,
    noise_std: float | Tensor,
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """Some components at every `every`-th step from a random offset on: the paper's laws."""
    batch, steps, n = shape
    offset = torch.randint(every, (batch, 1), generator=generator)
    when = (torch.arange(steps) - offset) % every == 0
    which = torch.zeros(n, dtype=torch.bool)
    which[list(components)] = True
    return when[:, :, None] & which, torch.as_tensor(noise_std, dtype=torch.float64).expand(shape)


def either(
    shape: tuple[int, int, int], generator: torch.Generator, *, law: Law, other: Law, share: float
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """One law for a random share of the windows, another one for the rest."""
    first, second = law(shape, generator), other(shape, generator)
    chosen = torch.rand(shape[0], 1, 1, generator=generator) < share
    return tuple(torch.where(chosen, a, b) for a, b in zip(first, second, strict=True))


def mixture(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    scale: Tensor,
    noise: tuple[float, float] = (0.02, 0.2),
    spacing: tuple[int, int] = (2, 12),
    count: tuple[int, int] = (4, 20),
    least: int = 1,
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """A different law for every window, so that a prior trained on it serves them all.

    Two windows in three are regular, at a random spacing within `spacing` steps from a random offset on; the others
    hold a random `count` of values at random places. Of all windows, half see `least` random components and the other
    half a random set of `least` to n: sparse laws, where there is most to learn, come often. The noise is log-uniform
    within `noise`, in units of `scale` (n,), the climatological standard deviations.
    """
    batch, steps, n = shape
    if not 1 <= least <= n:
        raise ValueError(f"least={least} must lie from 1 to the {n} components.")

    def coin(share: float) -> Tensor:
        return torch.rand(batch, 1, generator=generator) < share

    size = torch.randint(least, n + 1, (batch, 1), generator=generator).where(coin(0.5), least)
    which = torch.rand(batch, n, generator=generator).argsort(1).argsort(1) < size
    every = torch.randint(spacing[0], spacing[1] + 1, (batch, 1), generator=generator)
    offset = (every * torch.rand(batch, 1, generator=generator)).long()
    grid = ((torch.arange(steps) - offset) % every == 0)[:, :, None] & which[:, None]
    places = torch.rand(shape, generator=generator).where(which[:, None].expand(shape), 2.0).flatten(1)
    values = torch.randint(count[0], count[1] + 1, (batch, 1), generator=generator)
    scattered = ((places.argsort(1).argsort(1) < values) & (places < 2)).view(shape)
    seen = torch.where(coin(2 / 3)[:, :, None], grid, scattered)
    low, high = noise
    level = low * (high / low) ** torch.rand(batch, 1, 1, generator=generator, dtype=torch.float64)
    return seen, (level * scale.double()).expand(shape)
