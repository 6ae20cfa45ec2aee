"""The network for fields on a plane: convolutions over three octaves, with the steps of a window as channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, silu

from nida_kit import checks, html
from nida_kit.gaussian import Gaussian
from nida_kit.linalg.fields import Pyramid, memory
from nida_kit.linalg.pyramid import Shape, shapes
from nida_kit.linalg.rows import Stack
from nida_kit.linalg.solvers import Solver, to_a_tolerance
from nida_kit.priors.drawn import LEAST
from nida_kit.priors.modes import FieldClimatology
from nida_kit.priors.parts import Seeded, embed

SCALES = 4  # of the noise, each an octave coarser; the finest is one octave coarser than the field


class FieldMix(nn.Module):
    """A residual block: each point sees those `dilation` points around it, and then its neighbours."""

    def __init__(self, width: int, dilation: int = 1):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "B c y x"]) -> Float[Tensor, "B c y x"]:
        power = x.square().mean(1, keepdim=True)
        return x + self.out(silu(self.mix(x * torch.rsqrt(power + 1e-4))))


class FieldClimate(nn.Module):
    """A climatology as buffers, so that it travels with the weights; its calibration stays in double precision."""

    def __init__(self, climatology: FieldClimatology):
        super().__init__()
        self.shape = climatology.shape
        for name in ("mean", "spread", "modes", "lags"):
            self.register_buffer(name, getattr(climatology, name).float().clone())
        self.register_buffer("mask", climatology.mask)
        self.told = climatology.wider, climatology.unresolved  # no buffer, which .float() rounds and MPS cannot hold
        self._made: tuple[list, FieldClimatology] | None = None

    def __call__(self) -> FieldClimatology:
        own = [self.mean, self.spread, self.modes, self.lags]
        state = [self.told, *((id(x), x._version) for x in own)]  # other numbers, in place or not, make another one
        if self._made is None or self._made[0] != state:
            told = dict(zip(("wider", "unresolved"), self.told, strict=True))
            made = FieldClimatology(self.mean, self.spread, self.shape, self.modes, self.lags, mask=self.mask, **told)
            self._made = state, made
        return self._made[1]

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}told"] = torch.tensor(self.told, dtype=torch.float64)

    def _load_from_state_dict(self, state_dict, prefix, *more):
        if f"{prefix}mean" in state_dict:  # a climatology, which older ones keep without its calibration
            told = state_dict.pop(f"{prefix}told", None)
            self.told = (1.0, 0.0) if told is None else tuple(told.tolist())
        super()._load_from_state_dict(state_dict, prefix, *more)


class FieldPrior(nn.Module):
    r"""A network's Gaussian around the current estimate of a field, known by its generator: x = mu + L z.

    >>> import nida_kit as nk
    >>> prior, card = nk.load("ocean")
    >>> isinstance(prior, nk.FieldPrior), card.dt
    (True, 5.0)

    It sees the estimate, the standard deviations of the first guess, the climatology and the temperature; never an
    observation. It returns a correction of the estimate, and the amplitude of noise of four scales at each point and
    step (`linalg.fields.Pyramid`), all bounded by the standard deviations of the first guess. Convolutions make it
    serve any grid of its spacing, and the climatology those some octaves finer (`on`).

    The first guess has seen the observations already, and the solve sees them again. Its answer is right, its
    spread is too small: a learned factor widens it (`wider`).

    Args:
        climatology: gives the first guess, and the units.
        steps: the longest window; a shorter one is extended by its last step.
        width: features at every second point.
        deep: features at every fourth point.
        temperatures: how many it is trained for. At more of them, or fewer, estimates are worse.
    """

    def __init__(
        self,
        climatology: FieldClimatology,
        steps: SupportsIndex = 8,
        width: SupportsIndex = 64,
        deep: SupportsIndex = 128,
        temperatures: SupportsIndex = 2,
    ):
        super().__init__()
        given = {"steps": steps, "width": width, "deep": deep, "temperatures": temperatures}
        self.settings = {name: checks.count(name, value, 1) for name, value in given.items()}
        steps, width, deep, _ = self.settings.values()
        advice = "nk.FieldClimatology.fit(records), or method.climatology of a fitted nk.OptimalInterpolation."
        checks.instance("climatology", climatology, FieldClimatology, "an nk.FieldClimatology", advice)
        if min(climatology.shape) < 2**SCALES:
            raise ValueError(
                f"A field of {climatology.shape} points has no room for {SCALES} scales, each an octave coarser: it "
                f"needs {2**SCALES} or more along each side. Take nk.OptimalInterpolation.fit_field for it."
            )
        self.climate = FieldClimate(climatology)
        self.solver: Callable[[Stack], Solver] = to_a_tolerance
        self.inside = nn.Conv2d(2 * steps + 4, width, 4, stride=2, padding=1)
        self.before = FieldMix(width)
        self.down = nn.Conv2d(width, deep, 3, stride=2, padding=1)
        self.temperature = nn.Linear(16, deep)
        self.blocks = nn.ModuleList([FieldMix(deep, dilation) for dilation in (1, 2, 1)])
        self.up = nn.Conv2d(deep, width, 1)
        self.after = FieldMix(width)
        self.correction = nn.ConvTranspose2d(width, steps, 4, stride=2, padding=1)
        self.fine = nn.Conv2d(width, steps, 1)
        self.coarse = nn.Conv2d(deep, (SCALES - 1) * steps, 1)
        for head in (self.correction, self.fine, self.coarse):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        # Logarithms: of the amplitude of each scale, in standard deviations of the first guess; of their memory, in
        # steps; of the factor by which draws are wider.
        self.amplitude = nn.Parameter(torch.tensor([-1.5, -0.7, -0.7, -1.5]))
        self.memory = nn.Parameter(torch.tensor([0.7, 0.9, 1.1, 1.3]))
        self.doubt = nn.Parameter(torch.zeros(()))

    def _repr_html_(self) -> str:
        about = {"weights": sum(p.numel() for p in self.parameters()), "grid": self.climatology.shape}
        return html.card(type(self).__name__, about | self.settings)

    @property
    def climatology(self) -> FieldClimatology:
        """The climatology that gives the first guess."""
        return self.climate()

    @property
    def wider(self) -> Tensor:
        """By how much draws lie further from the mean than the solve says."""
        return self.doubt.exp()

    @property
    def unresolved(self) -> Float[Tensor, " n"]:
        """Standard deviation of what its noise cannot hold: of what the first guess's modes leave over, half.

        The share is chosen on validation windows: with it intervals cover alike where little and where nearly all is
        observed.
        """
        climatology = self.climatology
        return (climatology.left_over / 2).sqrt() * climatology.varies

    @property
    def octaves(self) -> int:
        """By how many the grid is finer than the network's own."""
        return round(math.log2((self.climatology.shape[0] - 1) / (self.climate.modes.shape[-2] - 1)))

    def on(self, shape: Shape) -> FieldPrior:
        """The same network for a finer grid, of which it sees every second (fourth, ...) point.

        Raises:
            ValueError: any other grid.
        """
        with Seeded(0):  # torch's global random numbers stay where they are
            prior = type(self)(self.climatology.on(shape), **self.settings)
        prior.solver = self.solver
        kept = {name: value.clone() for name, value in self.state_dict().items() if not name.startswith("climate.")}
        prior.load_state_dict(kept, strict=False, assign=True)
        return prior.train(self.training)

    def forward(self, current: Gaussian, s: float | Tensor) -> Gaussian:
        climatology = self.climatology
        estimate, std = torch.broadcast_tensors(current.estimate, current.std)
        lead, steps = estimate.shape[:-2], estimate.shape[-2]
        grids = shapes(climatology.shape, self.octaves + SCALES)
        scale = climatology.spread.square().mean().sqrt()
        sd = self._seen(std / scale)
        features = torch.cat([self._seen((estimate - climatology.mean) / scale), self._shown(sd, scale)], 1)
        with torch.autocast(sd.device.type, torch.bfloat16, enabled=self.training):  # twice as fast
            said = self._network(features, embed(s, sd.flatten(2))[:, 0])
        correction, *logs = (x.float() for x in said)
        correction = 2 * correction * (sd + 2 * LEAST)
        if self.octaves:
            correction = interpolate(correction, climatology.shape, mode="bicubic", align_corners=True)
        sea = climatology.varies.to(sd).view(climatology.shape)
        correction = (correction * sea * scale).flatten(2)[:, :steps].reshape(estimate.shape)
        amplitude = []
        for log, base, grid in zip(logs, self.amplitude, grids[self.octaves + 1 :], strict=True):
            here = interpolate(sd, grid, mode="bilinear", align_corners=True) + LEAST
            log = interpolate(log, grid, mode="bilinear", align_corners=True)
            noise = here * (base + 2 * torch.tanh(log)).exp() * scale
            amplitude.append(noise[:, :steps].reshape(*lead, steps, *grid))
        generator = Pyramid(tuple(amplitude), tuple(memory(steps, time.exp()) for time in self.memory), sea)
        return replace(Gaussian.generated(estimate + correction, generator, generator.noise), solver=self.solver)

    def check_steps(self, steps: int) -> None:
        """Raises a ValueError where windows are longer than the network takes."""
        checks.within_reach(steps, self.settings["steps"], "the network takes up to")

    def _seen(self, x: Float[Tensor, "*batch T n"]) -> Float[Tensor, "B S y x"]:
        """A field as the network sees it: on its own grid, as many steps as it has channels for."""
        steps, most, every = x.shape[-2], self.settings["steps"], 2**self.octaves
        self.check_steps(steps)
        field = x.reshape(-1, *x.shape[-2:]).unflatten(-1, self.climatology.shape)[..., ::every, ::every]
        return torch.cat([field, field[:, -1:].expand(-1, most - steps, -1, -1)], 1)

    def _shown(self, sd: Float[Tensor, "B S y x"], scale: Tensor) -> Float[Tensor, "B c y x"]:
        """What else it sees: how well the first guess is known, where a point lies, and what it is like there."""
        every = 2**self.octaves
        climate = torch.stack([self.climatology.mean[0], self.climatology.spread]) / scale
        climate = climate.unflatten(-1, self.climatology.shape)[..., ::every, ::every]
        y, x = (torch.linspace(-1, 1, n).to(sd) for n in sd.shape[-2:])
        place = torch.stack(torch.meshgrid(y, x, indexing="ij"))
        fixed = torch.cat([place, climate]).expand(len(sd), -1, -1, -1)
        return torch.cat([((sd + 2 * LEAST) / 0.2).log() / 2, fixed], 1)

    def _network(self, features: Tensor, s: Float[Tensor, "B e"]) -> tuple[Tensor, ...]:
        """The correction, and the logarithmic amplitude of each scale."""
        ny, nx = features.shape[-2:]
        # With channels last convolutions are a tenth quicker.
        features = pad(features, (0, nx % 2, 0, ny % 2)).contiguous(memory_format=torch.channels_last)
        x = self.before(self.inside(features))
        h = self.down(silu(x)) + self.temperature(s)[:, :, None, None]
        for block in self.blocks:
            h = block(h)
        back = interpolate(self.up(silu(h)), x.shape[-2:], mode="bilinear", align_corners=True)
        x = silu(self.after(x + back))
        coarse = self.coarse(silu(h)).tensor_split(SCALES - 1, 1)
        return self.correction(x)[..., :ny, :nx], self.fine(x), *coarse
