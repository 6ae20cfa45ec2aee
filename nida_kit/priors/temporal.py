"""The network for a few components that all differ: convolutions in time, mirrored where the system is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from nida_kit import checks
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.parts import (
    LocalPrior,
    Streams,
    StreamwiseLinear,
    embed,
    normalised,
    rectified,
    temperature_features,
)


class TemporalMix(nn.Module):
    """A residual block: each time step sees itself and the two steps `dilation` before and after it."""

    def __init__(self, streams: int, width: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.mix = StreamwiseLinear(streams, 3 * width, 2 * width)
        self.out = StreamwiseLinear(streams, 2 * width, width)

    def _taps(self, x: Float[Tensor, "B T c"]) -> Float[Tensor, "B T d"]:
        d, steps = self.dilation, x.shape[-2]
        wide = pad(x, (0, 0, d, d))
        return torch.cat([wide[..., i : i + steps, :] for i in (0, d, 2 * d)], -1)

    def forward(self, h: Streams) -> Streams:
        update = self.out(rectified(self.mix([self._taps(x) for x in normalised(h)])))
        return [x + y for x, y in zip(h, update, strict=True)]


class NeuralPrior(LocalPrior):
    r"""The network for a few components that all differ.

    >>> import nida_kit as nk, torch
    >>> past = nk.simulated(nk.Lorenz63(), steps=8, dt=0.05)(200, torch.Generator().manual_seed(0))
    >>> prior = nk.NeuralPrior(nk.Climatology.fit(past, order=1), width=8, odd=(0, 1))
    >>> prior.settings["width"]
    8

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
        anchored: whether the network corrects the climatology rather than the estimate. Untrained it then is the
            climatology, and the loop's answer optimal interpolation: the start for few windows.
    """

    def __init__(
        self,
        climatology: Climatology,
        width: SupportsIndex = 96,
        dilations: Iterable[SupportsIndex] = (1, 2, 4, 8, 1, 2),
        odd: Iterable[SupportsIndex] = (),
        order: SupportsIndex = 1,
        anchored: bool = False,
    ):
        n = climatology.mean.shape[-1]
        odd, order = checks.counts("odd", odd, 0, n - 1), checks.count("order", order, 0)
        streams = 2 if odd else 1
        width, dilations = checks.count("width", width, streams), checks.counts("dilations", dilations, 1)
        if width % streams:
            advice = "With odd components, half of the features are even and half are odd."
            raise checks.refused("width", width, f"a multiple of {streams}", advice)
        super().__init__(climatology)
        self.settings = {"width": width, "dilations": dilations, "odd": odd, "order": order}
        self.anchored = checks.flag("anchored", anchored)
        if anchored:
            self.settings["anchored"] = True
        width = width // streams
        self.inside = StreamwiseLinear(streams, 2 * n + 1, width)
        self.temperature = temperature_features(width)
        self.blocks = nn.ModuleList([TemporalMix(streams, width, d) for d in dilations])
        self.outside = StreamwiseLinear(streams, width, n + n * (n + 1) // 2 + order * n * n)
        for weights in self.outside.parameters():
            nn.init.zeros_(weights)

        is_odd = torch.tensor([i in odd for i in range(n)])
        rows, columns = torch.tril_indices(n, n)
        # An entry of U or W that couples an even with an odd component is odd itself.
        mixed = (is_odd[:, None] ^ is_odd).flatten()
        parity = torch.cat([is_odd, is_odd[rows] ^ is_odd[columns], mixed.repeat(order)])
        self.register_buffer("_odd_inputs", torch.cat([is_odd, is_odd.new_zeros(n + 1)]), persistent=False)
        self.register_buffer("_odd_outputs", parity, persistent=False)

    def local_model(self, scaled, log_std, s):
        # The constant tells steps within the window from the zeros around it.
        seen = torch.cat([scaled, log_std, torch.ones_like(scaled[..., :1])], -1)
        correction, factor = self._read(self._network(seen, s).double())
        return self._about_the_climatology(scaled, correction, factor) if self.anchored else (correction, factor)

    def _network(self, seen: Float[Tensor, "*batch T i"], s: float | Tensor) -> Float[Tensor, "*batch T o"]:
        """From what is seen at each time step to the correction and the entries of U and W."""
        h = [seen]
        if self._odd_inputs.any():
            h = [seen.masked_fill(self._odd_inputs, 0), seen.masked_fill(~self._odd_inputs, 0)]
        even, *odd = self.inside(h)
        h = [x.reshape(-1, *x.shape[-2:]) for x in (even + self.temperature(embed(s, seen)), *odd)]
        for block in self.blocks:
            h = block(h)
        even, *odd = self.outside(normalised(h))
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

    def _about_the_climatology(self, scaled: Tensor, correction: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """The climatology's mean and rows in place of the estimate and of no rows at all."""
        climate, steps = self.climatology, scaled.shape[-2]
        index = torch.arange(steps, device=scaled.device).clamp(max=len(climate.mean) - 1)
        mean = (climate.mean[index] - climate.mean[-1]) / climate.spread
        own = climate.factor[index, : min(steps, len(climate.mean))] * climate.spread
        inverse_error, coupling = factor.tensor_split([1], -3)
        own, more = inverse_error @ own, torch.cat([torch.zeros_like(inverse_error), coupling], -3)
        lags = max(own.shape[-3], more.shape[-3])
        own, more = (pad(rows, (0, 0, 0, 0, 0, lags - rows.shape[-3])) for rows in (own, more))
        return correction + mean - scaled.double(), own + more
