r"""Priors: what is known about a trajectory before it is observed, as a Gaussian around the current estimate.

A prior is a function of the current Gaussian (its mean is the estimate) and the temperature s, 1 = coarse, 0 = sharp:

    prior(current, s) -> Gaussian

* `Climatology` does not look at the estimate: mean and covariance of past trajectories.
* `Physics` linearises the dynamics x_{t+1} ~ N(M(x_t), Q) at the estimate.
* `NeuralPrior` is a network that corrects the estimate and says how sure it is, with no physics at run time.
* `RingPrior` is such a network for a ring of like sites, of any number.
* `PaperPrior` is the network of Blanke et al. (2024), for comparison.

All but the last write their precision as P = F' F with a block-banded F, whose row t is what they know of x_t given the
steps before it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from nida_kit.banded import BlockBanded
from nida_kit.gaussian import Gaussian, gaspari_cohn, linearise

Streams = list[Tensor]
"""Features `(B, T, c)`: the even ones, and where the system has a symmetry the odd ones."""


@runtime_checkable
class Prior(Protocol):
    """What the assimilation loop asks."""

    def __call__(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        """The local Gaussian prior around the current estimate at temperature s (a number, or one per window)."""


@dataclass(frozen=True)
class Climatology:
    r"""Mean and covariance of past trajectories, Markov of order w: x_t given the w steps before it.

    F is the inverse Cholesky factor of the covariance of w + 1 consecutive states; its last row is repeated for windows
    longer than that. With w = T - 1 it holds the full sample covariance of windows of T steps, the paper's
    choice; a small w is a vector autoregression, with memory and cost linear in T, for large states and any length.

    Attributes:
        mean: `(w + 1, n)`.
        factor: rows of F, `(w + 1, w + 1, n, n)`: `factor[t, d]` multiplies x_{t - d}.
        spread: standard deviation of each component over all windows and times, `(n,)`.
    """

    mean: Float[Tensor, "w n"]
    factor: Float[Tensor, "w w n n"]
    spread: Float[Tensor, " n"]

    @classmethod
    def fit(cls, windows: Float[Tensor, "N T n"], order: int | None = None) -> Climatology:
        """From N windows; `order` w = None is T - 1. Smaller orders pool all stretches of w + 1 steps.

        Raises:
            ValueError: not enough windows for an invertible covariance, constant components, or values that are not
                finite.
        """
        if not isinstance(windows, Tensor):
            raise ValueError(
                f"windows is a tensor (N, T, n), not a {type(windows).__name__}: torch.from_numpy(windows.values) of "
                "an xr.DataArray (sample, time, component)."
            )
        if not windows.isfinite().all():
            raise ValueError("windows hold NaN or infinite values: drop the windows that have any.")
        _, steps, n = windows.shape
        order = steps - 1 if order is None else order
        if not 0 <= order < steps:
            raise ValueError(f"order={order} must lie within 0 and T - 1 = {steps - 1}.")
        stretches = windows.double().unfold(1, order + 1, 1).flatten(0, 1).mT.flatten(1)
        if stretches.shape[0] <= stretches.shape[1]:
            raise ValueError(
                f"{stretches.shape[0]} stretches cannot give an invertible covariance of {order + 1} steps of {n} "
                "components: give more windows, or a smaller order."
            )
        return cls.from_covariance(
            stretches.mean(0).view(order + 1, n), stretches.T.cov(), spread=windows.double().std((0, 1))
        )

    @classmethod
    def from_covariance(
        cls, mean: Float[Tensor, "w n"], covariance: Float[Tensor, "N N"], spread: Float[Tensor, " n"]
    ) -> Climatology:
        """From the mean and covariance of w + 1 consecutive states, N = (w + 1) n.

        Raises:
            ValueError: a covariance that is not positive definite.
        """
        lower, info = torch.linalg.cholesky_ex(covariance)
        if info:
            raise ValueError(
                "The covariance is singular (a constant component, or noise-free linear dynamics): "
                "give a smaller order (1, say), or windows that differ."
            )
        length, n = mean.shape
        inverse = torch.linalg.solve_triangular(lower, torch.eye(len(lower)).to(lower), upper=False)
        rows = inverse.view(length, n, length, n).transpose(1, 2)
        t = torch.arange(length)
        inside = (t[:, None] >= t)[:, :, None, None]
        return cls(mean, rows[t[:, None], (t[:, None] - t).clamp(min=0)] * inside, spread)

    def on_ring(self, sites: int) -> Climatology:
        """The same for another number of like sites on a ring.

        Around a number of sites that divides their own the covariance is folded. Around any other it is first tapered
        to nothing at half of the way around its own ring, for there is nothing known of longer ways, and only so it
        stays positive definite.

        Raises:
            ValueError: no whole number of sites, sites that differ in mean or covariance, or no invertible covariance.
        """
        if not isinstance(sites, int) or sites < 1:
            raise ValueError(f"sites={sites!r} must be a whole number of at least 1.")
        length, n = self.mean.shape
        covariance = torch.linalg.inv(self.over(length).precision.dense()).view(length, n, length, n)
        at = torch.arange(n, device=covariance.device)
        away = (at[:, None] + at) % n
        turned = covariance.transpose(1, 2)[:, :, at[:, None], away]  # (w + 1, w + 1, site, offset)
        alike = turned.mean(-2)
        scale = self.spread.square().mean()
        if (turned - alike.unsqueeze(-2)).abs().max() > 1e-6 * scale or self.mean.std(-1).max() > 1e-6 * scale.sqrt():
            raise ValueError(
                "The sites differ in their mean or covariance: fit the climatology to windows and all their turns "
                "around the ring."
            )
        offset = (at + n // 2) % n - n // 2
        if n % sites:
            alike = alike * gaspari_cohn(offset.abs().to(alike), n / 4 / math.sqrt(10 / 3))
        folded = alike.new_zeros(length, length, sites).index_add(-1, offset % sites, alike)
        to = torch.arange(sites, device=at.device)
        index = (to - to[:, None]) % sites
        square = folded[..., index].transpose(1, 2).reshape(length * sites, length * sites)
        mean = self.mean.mean(-1, keepdim=True).expand(length, sites)
        return type(self).from_covariance(mean, square, self.spread.mean().expand(sites))

    def over(self, steps: int) -> Gaussian:
        """The Gaussian over a window of that many steps."""
        index = torch.arange(steps, device=self.factor.device).clamp(max=len(self.factor) - 1)
        return Gaussian(self.mean[index], BlockBanded.gram(self.factor[index, : min(steps, len(self.factor))]))

    def __call__(self, current: Gaussian, s: float | Tensor = 1.0) -> Gaussian:
        return self.over(current.centre.shape[-2])


@dataclass(frozen=True)
class Physics:
    """The dynamics, linearised at the estimate: the Gauss-Newton view of weak-constraint 4D-Var.

    x_0 ~ N(start_mean, start_std^2) and x_{t+1} ~ N(M(x_t), noise_std^2), componentwise: B and Q are diagonal. Around
    the estimate x, with Jacobians J_t of M, the prior's log density is that of the residuals r_0 = x_0 - start_mean,
    r_{t+1} = x_{t+1} - M(x_t); hence row t of F is (I, -J_{t-1}) / noise_std, and the information that pulls away from
    x is -F' r.

    Attributes:
        step: M, from `(..., n)` to `(..., n)`, torch, one time step.
        noise_std: of the model error per step, `(n,)`, positive.
        start_mean: `(n,)`.
        start_std: `(n,)`, positive.
    """

    step: Callable[[Tensor], Tensor]
    noise_std: Float[Tensor, " n"]
    start_mean: Float[Tensor, " n"]
    start_std: Float[Tensor, " n"]

    def __post_init__(self):
        for name in ("noise_std", "start_std"):
            std = getattr(self, name)
            if not (std.isfinite() & (std > 0)).all():
                raise ValueError(
                    f"{name} = {std.tolist()} must be positive: with an exact model the trajectory's precision is "
                    "infinite. Give a small model noise, or use a strong-constraint method."
                )

    def _scales(self, steps: int) -> Tensor:
        return torch.stack([self.start_std] + [self.noise_std] * (steps - 1))

    def _residuals(self, x: Tensor, forecast: Tensor) -> Tensor:
        """R / std, the whitened residuals of a trajectory whose states forecast `forecast`."""
        expected = torch.cat([self.start_mean.expand_as(x[..., :1, :]), forecast], -2)
        return (x - expected) / self._scales(x.shape[-2])

    def __call__(self, current: Gaussian, s: float | Tensor = 0.0) -> Gaussian:
        return self.around(current.mean)

    def around(self, x: Float[Tensor, "*batch T n"]) -> Gaussian:
        """The linearised prior, centred at x."""
        forecast, J = linearise(self.step, x[..., :-1, :])
        scales = self._scales(x.shape[-2])
        now = torch.diag_embed(1 / scales).expand(*x.shape, -1)
        before = pad(-J, (0, 0, 0, 0, 1, 0)) / scales.unsqueeze(-1)
        residuals = self._residuals(x, forecast)
        pull = -(residuals / scales)
        pull = pull - pad((before[..., 1:, :, :].mT @ residuals[..., 1:, :, None]).squeeze(-1), (0, 0, 0, 1))
        return Gaussian(x, BlockBanded.gram(torch.stack([now, before], -3)), pull)

    def misfit(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "*batch"]:
        """-log density up to a constant: half the squared whitened residuals."""
        return self._residuals(x, self.step(x[..., :-1, :])).square().sum((-2, -1)) / 2

    def forecast(self, steps: int) -> Float[Tensor, "T n"]:
        """The noise-free trajectory from the start's mean: a first guess that needs no data."""
        states = [self.start_mean]
        for _ in range(steps - 1):
            states.append(self.step(states[-1]))
        return torch.stack(states)


def _embed(s: float | Tensor, like: Tensor, waves: int = 8) -> Float[Tensor, "*batch one e"]:
    """Sines and cosines of the temperature at geometric frequencies, continuous in s: `(..., 1, 2 waves)`."""
    s = torch.as_tensor(s, dtype=like.dtype, device=like.device).expand(like.shape[:-2])[..., None, None]
    angles = s * math.pi * 2.0 ** torch.linspace(-1, 4, waves, dtype=like.dtype, device=like.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


def _warmth(width: int) -> nn.Sequential:
    """From the embedded temperature to what it adds to the features."""
    return nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))


class _Climate(nn.Module):
    """A climatology as buffers, so that it travels with the weights."""

    def __init__(self, climatology: Climatology):
        super().__init__()
        for name in ("mean", "factor", "spread"):
            self.register_buffer(name, getattr(climatology, name).double().clone())

    def __call__(self) -> Climatology:
        return Climatology(self.mean, self.factor, self.spread)


class _Linear(nn.Module):
    """A linear map of each stream on its own; a constant is even, so only the even stream has a bias."""

    def __init__(self, streams: int, inside: int, outside: int):
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(inside, outside, bias=i == 0) for i in range(streams)])

    def forward(self, h: Streams) -> Streams:
        return [linear(x) for linear, x in zip(self.maps, h, strict=True)]


def _normalised(h: Streams) -> Streams:
    """Unit mean square over all channels of all streams (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    power = sum(x.square().mean(-1, keepdim=True) for x in h) / len(h)
    scale = torch.rsqrt(power + 1e-6)
    return [x * scale for x in h]


def _rectified(h: Streams) -> Streams:
    """Twice the even and odd part of a rectified unit and of its mirror image; of one stream alone, the unit itself."""
    if len(h) == 1:
        return [relu(h[0])]
    even, odd = h
    here, mirrored = relu(even + odd), relu(even - odd)
    return [here + mirrored, here - mirrored]


class TemporalMix(nn.Module):
    """A residual block: each time step sees itself and the two steps `dilation` before and after it."""

    def __init__(self, streams: int, width: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.mix = _Linear(streams, 3 * width, 2 * width)
        self.out = _Linear(streams, 2 * width, width)

    def _taps(self, x: Float[Tensor, "B T c"]) -> Float[Tensor, "B T d"]:
        d, steps = self.dilation, x.shape[-2]
        wide = pad(x, (0, 0, d, d))
        return torch.cat([wide[..., i : i + steps, :] for i in (0, d, 2 * d)], -1)

    def forward(self, h: Streams) -> Streams:
        update = self.out(_rectified(self.mix([self._taps(x) for x in _normalised(h)])))
        return [x + y for x, y in zip(h, update, strict=True)]


class LocalPrior(nn.Module, ABC):
    r"""A network's Gaussian around the current estimate.

    It sees the estimate, the log marginal standard deviation of the current Gaussian, and the temperature; never an
    observation or its operator, so it serves any. It returns a correction of the estimate, and a row of F for each
    step, all in climatological units.

    Attributes:
        settings: the constructor's, for the weight file.
        temperature: the features that the temperature adds.
    """

    settings: dict[str, Any]
    temperature: nn.Sequential

    def __init__(self, climatology: Climatology):
        super().__init__()
        self.climate = _Climate(climatology)

    @property
    def climatology(self) -> Climatology:
        """The climatology that gives the first guess."""
        return self.climate()

    def forward(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        climatology = self.climatology
        estimate, spread = current.mean, climatology.spread
        dtype = self.temperature[0].weight.dtype
        scaled = ((estimate - climatology.mean[-1]) / spread).to(dtype)
        log_std = (current.std / spread).log().to(dtype).detach()
        correction, factor = self.says(*torch.broadcast_tensors(scaled, log_std), s)
        return Gaussian(estimate + correction * spread, BlockBanded.gram(factor / spread))

    @abstractmethod
    def says(
        self, scaled: Float[Tensor, "*batch T n"], log_std: Float[Tensor, "*batch T n"], s: float | Tensor
    ) -> tuple[Float[Tensor, "*batch T n"], Float[Tensor, "*batch T w n n"]]:
        """The correction, and the rows of F as `BlockBanded.gram` takes them, in float64 and climatological units."""


class NeuralPrior(LocalPrior):
    r"""The network for a few components that all differ.

    Convolutions in time make it serve any window length. Its row of F is U_t (x_t - mu_t - W_t (x_{t-1} - mu_{t-1})),
    the network's own linear model W (over `order` steps) and triangular inverse error factor U.

    Many systems look the same in a mirror that changes the sign of some components about their mean: Lorenz-63 with
    (x, y) -> (-x, -y), a pendulum with (angle, momentum) -> (-angle, -momentum). Told which, the network is mirrored by
    construction: it carries an even and an odd stream of features, linear maps keep them apart, and what it says of the
    mirrored estimate is the mirror image of what it says of the estimate. There is half as much to learn, and half as
    much to compute for the same width.

    Args:
        climatology: gives the first guess, and the units.
        width: features per time step, over all streams.
        dilations: of the residual blocks.
        odd: indices of the components that change sign in the mirror, about their climatological mean; none is no
            symmetry. Fit the climatology to windows and their mirror images, so that the first guess is mirrored too.
        order: steps before x_t that its row of F sees, the bandwidth of the precision; 0 is block-diagonal.
    """

    def __init__(
        self,
        climatology: Climatology,
        width: int = 96,
        dilations: Sequence[int] = (1, 2, 4, 8, 1, 2),
        odd: Sequence[int] = (),
        order: int = 1,
    ):
        n = climatology.mean.shape[-1]
        if not set(odd) <= set(range(n)):
            raise ValueError(f"odd={list(odd)} must be indices of the {n} components, from 0 to {n - 1}.")
        streams = 2 if odd else 1
        if order < 0 or width < streams or width % streams:
            raise ValueError(
                f"order={order} must not be negative, and width={width} be a positive multiple of {streams}: with odd "
                "components, half of the features are even and half are odd."
            )
        super().__init__(climatology)
        self.settings = {"width": width, "dilations": list(dilations), "odd": list(odd), "order": order}
        width = width // streams
        self.inside = _Linear(streams, 2 * n + 1, width)
        self.temperature = _warmth(width)
        self.blocks = nn.ModuleList([TemporalMix(streams, width, d) for d in dilations])
        self.outside = _Linear(streams, width, n + n * (n + 1) // 2 + order * n * n)
        for weights in self.outside.parameters():
            nn.init.zeros_(weights)

        is_odd = torch.tensor([i in odd for i in range(n)])
        rows, columns = torch.tril_indices(n, n)
        # An entry of U or W that couples an even with an odd component is odd itself.
        mixed = (is_odd[:, None] ^ is_odd).flatten()
        parity = torch.cat([is_odd, is_odd[rows] ^ is_odd[columns], mixed.repeat(order)])
        self.register_buffer("_odd_inputs", torch.cat([is_odd, is_odd.new_zeros(n + 1)]), persistent=False)
        self.register_buffer("_odd_outputs", parity, persistent=False)

    def says(self, scaled, log_std, s):
        # The constant tells steps within the window from the zeros around it.
        return self._read(self._network(torch.cat([scaled, log_std, torch.ones_like(scaled[..., :1])], -1), s).double())

    def _network(self, seen: Float[Tensor, "*batch T i"], s: float | Tensor) -> Float[Tensor, "*batch T o"]:
        """From what is seen at each time step to the correction and the entries of U and W."""
        h = [seen]
        if self._odd_inputs.any():
            h = [seen.masked_fill(self._odd_inputs, 0), seen.masked_fill(~self._odd_inputs, 0)]
        even, *odd = self.inside(h)
        h = [x.reshape(-1, *x.shape[-2:]) for x in (even + self.temperature(_embed(s, seen)), *odd)]
        for block in self.blocks:
            h = block(h)
        even, *odd = self.outside(_normalised(h))
        out = torch.where(self._odd_outputs, odd[0], even) if odd else even
        return out.reshape(*seen.shape[:-1], -1)

    def _read(self, out: Float[Tensor, "*batch T o"]) -> tuple[Tensor, Tensor]:
        """The correction `(..., T, n)`, and the rows of F `(..., T, order + 1, n, n)`, in climatological units."""
        n = len(self.climate.spread)
        triangular = n * (n + 1) // 2
        correction, triangle, W = out.tensor_split([n, n + triangular], -1)
        U = out.new_zeros(*out.shape[:-1], n, n)
        rows, columns = torch.tril_indices(n, n, device=out.device)
        U[..., rows, columns] = triangle
        U = (U.tril(-1) + torch.diag_embed(U.diagonal(dim1=-2, dim2=-1).clamp(-8, 8).exp())).unsqueeze(-3)
        return correction, torch.cat([U, -U @ W.unflatten(-1, (-1, n, n))], -3) if W.shape[-1] else U


class SiteMix(nn.Module):
    """A residual block: each site sees itself `dilation` steps before and after, and its neighbours on the ring."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.mix = nn.Linear((3 + 4) * width, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, h: Float[Tensor, "B T n c"]) -> Float[Tensor, "B T n c"]:
        (x,) = _normalised([h])
        d, steps = self.dilation, x.shape[-3]
        wide = pad(x, (0, 0, 0, 0, d, d))
        in_time = [wide[..., i : i + steps, :, :] for i in (0, 2 * d)]
        in_space = [x.roll(shift, -2) for shift in (-2, -1, 0, 1, 2)]
        return h + self.out(relu(self.mix(torch.cat([*in_time, *in_space], -1))))


class RingPrior(LocalPrior):
    r"""The network for like sites on a ring, as those of Lorenz-96.

    Every site has features of its own, and the same weights: convolutions in time and around the ring make it serve any
    window length and any number of sites, and turn its answer with its input. Site i has the row of F

        u_i,t (x_i,t - mu_i,t - sum_o w_i,o,t (x_{i+o},{t-1} - mu_{i+o},{t-1})),    |o| <= reach,

    a linear model of the neighbourhood one step before, with independent errors.

    Args:
        climatology: gives the first guess, and the units. Only one that is the same at each site turns with its input,
            and can be taken to another number of sites.
        width: features per site and time step.
        dilations: in time, of the residual blocks.
        reach: sites on either side that act on a site within one time step.
    """

    def __init__(
        self, climatology: Climatology, width: int = 48, dilations: Sequence[int] = (1, 2, 4, 1, 2), reach: int = 4
    ):
        if width < 1 or reach < 0:
            raise ValueError(f"{width=} must be positive, and {reach=} not negative.")
        super().__init__(climatology)
        self.settings = {"width": width, "dilations": list(dilations), "reach": reach}
        self.inside = nn.Linear(3, width)
        self.temperature = _warmth(width)
        self.blocks = nn.ModuleList([SiteMix(width, d) for d in dilations])
        self.outside = nn.Linear(width, 2 + 2 * reach + 1)
        for weights in self.outside.parameters():
            nn.init.zeros_(weights)

    def on(self, sites: int) -> RingPrior:
        """The same network for another number of sites; errors as in `Climatology.on_ring`."""
        prior = type(self)(self.climatology.on_ring(sites), **self.settings)
        kept = {name: value.clone() for name, value in self.state_dict().items() if not name.startswith("climate.")}
        prior.load_state_dict(kept, strict=False, assign=True)  # in their dtype, and where they are
        return prior.train(self.training)

    def says(self, scaled, log_std, s):
        h = self.inside(torch.stack([scaled, log_std, torch.ones_like(scaled)], -1))
        h = (h + self.temperature(_embed(s, scaled)).unsqueeze(-2)).reshape(-1, *h.shape[-3:])
        for block in self.blocks:
            h = block(h)
        out = self.outside(_normalised([h])[0]).double().reshape(*scaled.shape, -1)
        correction, log_scale, w = out.tensor_split([1, 2], -1)
        n, reach = scaled.shape[-1], self.settings["reach"]
        sites = torch.arange(n, device=w.device)
        # By how far to the right; on a small ring the reach goes around it.
        around = w.new_zeros(*w.shape[:-1], n).index_add(-1, torch.arange(-reach, reach + 1, device=w.device) % n, w)
        W = around.gather(-1, ((sites - sites[:, None]) % n).expand_as(around))
        now = torch.eye(n).to(W).expand_as(W)
        factor = torch.stack([now, -W], -3) * log_scale.clamp(-8, 8).exp().unsqueeze(-3)
        return correction.squeeze(-1), factor


class PaperPrior(nn.Module):
    """The network of Blanke et al. (2024): two perceptrons of 4 x 64 tanh layers on the whole window of fixed length.

    One gives mu, the other a factor L of rank 10; P = I + L L', in units of each time step's climatological spread.
    """

    def __init__(self, climatology: Climatology, steps: int, rank: int = 10, width: int = 64):
        super().__init__()
        size = steps * climatology.mean.shape[-1]
        self.settings = {"steps": steps, "rank": rank, "width": width}
        self.climate = _Climate(climatology)
        self.mean = self._perceptron(size, width, size)
        self.low_rank = self._perceptron(size, width, size * rank)

    @staticmethod
    def _perceptron(size: int, width: int, out: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Linear(size + 16, width), nn.Tanh()]
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(width, out))

    @property
    def climatology(self) -> Climatology:
        """The climatology that gives the first guess."""
        return self.climate()

    def forward(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        x = current.mean
        steps, n = x.shape[-2:]
        if steps != self.settings["steps"]:
            raise ValueError(f"This network takes windows of {self.settings['steps']} steps only, not {steps}.")
        base = self.climatology.over(steps)
        spread = base.std
        scaled = ((x - base.mean) / spread).flatten(-2).to(self.mean[0].weight.dtype)
        h = torch.cat([scaled, _embed(s, scaled.unsqueeze(-2)).squeeze(-2)], -1)
        mean = base.mean + spread * self.mean(h).double().unflatten(-1, (steps, n))
        low_rank = self.low_rank(h).double().unflatten(-1, (steps * n, -1)) / math.sqrt(self.settings["rank"])
        precision = torch.eye(steps * n).to(low_rank) + low_rank @ low_rank.mT
        precision = precision / (spread.flatten()[:, None] * spread.flatten())
        return Gaussian(mean, BlockBanded.from_dense(precision, steps))


Network = LocalPrior | PaperPrior
"""What can be trained."""
