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
        ValueError: neither callable, mask, nor a finite matrix.
    """
    if operator is None:
        return _identity
    if callable(operator) and not isinstance(operator, Tensor | xr.DataArray):
        return operator
    array = torch.as_tensor(np.asarray(operator))
    if array.dtype == torch.bool:
        return _identity
    if array.ndim != 2 or not (array.is_floating_point() or array.dtype in (torch.int32, torch.int64)):
        raise ValueError(
            f"operator= has dtype {array.dtype} and shape {tuple(array.shape)}; give a boolean mask, a real matrix "
            "(observed, component), or a torch callable on (..., component)."
        )
    if not array.double().isfinite().all():
        raise ValueError("operator= holds NaN or infinite entries.")
    return partial(_apply_matrix, array.double())


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
        raise ValueError(f"The operator cannot be applied to states of shape {tuple(x.shape)}: {error}") from error
    if not isinstance(value, Tensor) or value.shape[:-1] != x.shape[:-1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"The operator made {got} of states {tuple(x.shape)}; it must act on the last axis alone and keep it: "
            "for one observed value per time step, return x[..., :1], not x[..., 0]."
        )
    return value


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

    def linearise(self, x: Float[Tensor, "*batch T n"]) -> tuple[Tensor, Tensor, Tensor]:
        """(H, R, y) for `Gaussian.condition`: h(x') = h(x) + H (x' - x), with y moved accordingly."""
        if self.operator is _identity:
            return torch.eye(x.shape[-1]).to(x).expand(*x.shape, -1), self.noise_std**2, self.value
        predicted = _apply(self.operator, x)
        if predicted.shape[-1] != self.value.shape[-1]:
            raise ValueError(
                f"The operator gives {predicted.shape[-1]} values per time step, the observations have "
                f"{self.value.shape[-1]}: pass the operator they were made with."
            )
        predicted, H = linearise(self.operator, x)
        return H, self.noise_std**2, self.value - predicted + (H @ x.unsqueeze(-1)).squeeze(-1)

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """1/2 (y - h(x))' R^-1 (y - h(x)) over what was observed."""
        error = (self.value - _apply(self.operator, x)) / self.noise_std
        return error.nan_to_num(nan=0.0).square().sum((-2, -1)) / 2


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
        operator: what is observed, see the module; a mask `(component,)` or `(time, component)` also selects.

    Returns:
        `value` (NaN where not observed) and `noise_std`.

    Raises:
        ValueError: unknown components or times, a pattern without any observation, or a noise that is not positive.
    """
    if not isinstance(truth, xr.DataArray) or any(d not in truth.dims or d not in truth.coords for d in CORE):
        raise ValueError("truth is an xr.DataArray with the dims and coordinates time and component.")
    truth = truth.transpose(..., *CORE)
    value = _apply(as_operator(operator), torch.from_numpy(truth.values.astype(float))).numpy()
    names = truth[COMPONENT].values.tolist() if is_direct(operator) else [f"h{i}" for i in range(value.shape[-1])]
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal(value.shape)
    uniform = generator.random(value.shape)
    start = generator.random(value.shape[:-2])

    unknown = set(components or ()) - set(names)
    if unknown:
        raise ValueError(f"Components {sorted(unknown)} are not among those observed, {names}.")
    if not 0 < fraction <= 1 or int(every) != every or every < 1:
        raise ValueError(f"every={every} must be a positive whole number and fraction={fraction} within (0, 1].")
    if isinstance(offset, str):
        if offset != "random":
            raise ValueError(f'offset={offset!r} must be "random" or a whole number.')
        first = np.floor(start * every)[..., None]
    else:
        if not 0 <= offset < truth.sizes[TIME]:
            raise ValueError(f"offset={offset} must lie within the {truth.sizes[TIME]} time steps.")
        first = np.asarray(offset)
    index = np.arange(truth.sizes[TIME])
    if times is None:
        when = (index >= first) & ((index - first) % every == 0)
    else:
        grid = truth[TIME].values
        index = np.abs(grid[:, None] - np.asarray(times, float)).argmin(0)
        missed = np.asarray(times)[~np.isclose(grid[index], times, atol=1e-6 * max(1.0, np.abs(grid).max()))]
        if missed.size:
            raise ValueError(f"times {missed.tolist()} are not on the grid from {grid[0]:g} to {grid[-1]:g}.")
        when = np.isin(np.arange(grid.size), index)
    seen = when[..., None] & np.array([components is None or name in components for name in names])
    mask = np.asarray(operator) if operator is not None and not callable(operator) else None
    if mask is not None and mask.dtype == bool:
        try:
            seen = seen & np.broadcast_to(mask, value.shape)
        except ValueError:
            raise ValueError(f"The mask of shape {mask.shape} does not broadcast over {value.shape}.") from None
    seen = np.broadcast_to(seen, value.shape) & (uniform < fraction)
    if not seen.any():
        raise ValueError("Nothing is observed: widen components, times, fraction or the mask.")

    like = xr.DataArray(
        value, dims=truth.dims, coords={k: v for k, v in truth.coords.items() if COMPONENT not in v.dims}
    ).assign_coords({COMPONENT: names})
    if is_direct(operator):
        like = like.assign_coords({k: v for k, v in truth.coords.items() if COMPONENT in v.dims})
    noise_std = xr.DataArray(noise_std)
    if not (np.isfinite(noise_std.values) & (noise_std.values > 0)).all():
        raise ValueError("noise_std must be positive and finite; an exact measurement is a small positive noise_std.")
    observed = (like + like.copy(data=noise) * noise_std).transpose(*truth.dims).where(seen)
    observed.attrs = {"long_name": "observed value", "comment": "NaN where nothing was observed"}
    noise_std.attrs = {"long_name": "standard deviation of the observation error"}
    attrs = {"every": every, "offset": offset, "fraction": fraction, "seed": seed}
    return xr.Dataset({"value": observed, "noise_std": noise_std}, attrs=attrs)


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


def mixture(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    scale: Tensor,
    noise: tuple[float, float] = (0.02, 0.5),
    longest: int = 16,
    most: int = 24,
) -> tuple[Bool[Tensor, "B T n"], Float[Tensor, "B T n"]]:
    """A different law for every window, so that a prior trained on it serves them all.

    Half of the windows are regular: a random non-empty set of components at a spacing of 1 to `longest` steps. The
    others hold 1 to `most` values at random places, in components drawn as before. The noise is log-uniform within
    `noise`, in units of `scale` (n,), the climatological standard deviations.
    """
    batch, steps, n = shape
    subset = torch.randint(1, 2**n, (batch, 1), generator=generator)
    which = (subset >> torch.arange(n)) & 1 > 0
    # Spacings are drawn log-uniformly: sparse laws are the hard ones, dense ones the many.
    spacing = (longest ** torch.rand(batch, 1, generator=generator)).round().long()
    offset = (spacing * torch.rand(batch, 1, generator=generator)).long()
    grid = ((torch.arange(steps) - offset) % spacing == 0)[:, :, None] & which[:, None]
    places = torch.rand(shape, generator=generator).where(which[:, None].expand(shape), 2.0).flatten(1)
    count = torch.randint(1, most + 1, (batch, 1), generator=generator)
    scattered = ((places.argsort(1).argsort(1) < count) & (places < 2)).view(shape)
    seen = torch.where(torch.rand(batch, 1, 1, generator=generator) < 0.5, grid, scattered)
    low, high = noise
    level = low * (high / low) ** torch.rand(batch, 1, 1, generator=generator, dtype=torch.float64)
    return seen, (level * scale.double()).expand(shape)
