"""The network for like sites on a ring: convolutions in time and around it, for any number of sites."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from nida_kit import checks
from nida_kit.linalg.rows import Ring
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.parts import LocalPrior, embed, normalised, temperature_features

PIECE = 256  # sites of a large ring that the network sees at once


class SiteMix(nn.Module):
    """A residual block: each site sees itself `dilation` steps before and after, and its neighbours on the ring."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.mix = nn.Linear((3 + 4) * width, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, h: Float[Tensor, "B T n c"]) -> Float[Tensor, "B T n c"]:
        (x,) = normalised([h])
        d, (steps, n) = self.dilation, x.shape[-3:-1]
        wide = pad(x, (0, 0, 0, 0, d, d))
        around = x.index_select(-2, torch.arange(-2, n + 2, device=x.device) % n)
        in_time = [wide[..., i : i + steps, :, :] for i in (0, 2 * d)]
        in_space = [around[..., i : i + n, :] for i in (4, 3, 2, 1, 0)]
        return h + self.out(relu(self.mix(torch.cat([*in_time, *in_space], -1))))


class RingPrior(LocalPrior):
    r"""The network for like sites on a ring, as those of Lorenz-96.

    >>> import nida_kit as nk
    >>> prior, card = nk.load("lorenz96")
    >>> isinstance(prior, nk.RingPrior), len(card.labels.components)
    (True, 40)

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
        self,
        climatology: Climatology,
        width: SupportsIndex = 48,
        dilations: Iterable[SupportsIndex] = (1, 2, 4, 1, 2),
        reach: SupportsIndex = 4,
    ):
        width, reach = checks.count("width", width, 1), checks.count("reach", reach, 0)
        dilations = checks.counts("dilations", dilations, 1)
        super().__init__(climatology)
        self.settings = {"width": width, "dilations": dilations, "reach": reach}
        self.inside = nn.Linear(3, width)
        self.temperature = temperature_features(width)
        self.blocks = nn.ModuleList([SiteMix(width, d) for d in dilations])
        self.outside = nn.Linear(width, 2 + 2 * reach + 1)
        for weights in self.outside.parameters():
            nn.init.zeros_(weights)

    def on(self, sites: SupportsIndex) -> RingPrior:
        """The same network for another number of sites; errors as in `Climatology.on_ring`."""
        prior = type(self)(self.climatology.on_ring(sites), **self.settings)
        kept = {name: value.clone() for name, value in self.state_dict().items() if not name.startswith("climate.")}
        prior.load_state_dict(kept, strict=False, assign=True)  # in their dtype, and where they are
        return prior.train(self.training)

    def local_model(self, scaled, log_std, s):
        out = self._by_pieces(scaled, log_std, s).double()
        correction, log_scale, w = out.tensor_split([1, 2], -1)
        n, reach = scaled.shape[-1], self.settings["reach"]
        most = min(reach, n // 2)  # on a small ring the reach goes around it
        offset = (torch.arange(-reach, reach + 1, device=w.device) + most) % n
        around = w.new_zeros(*w.shape[:-1], 2 * most + 1).index_add(-1, offset, w)
        return correction.squeeze(-1), torch.cat([log_scale.clamp(-8, 8).exp(), around], -1).mT

    def _by_pieces(self, scaled: Tensor, log_std: Tensor, s: float | Tensor) -> Float[Tensor, "*batch T n k"]:
        """What the network says of each site; of a large ring piece by piece, so that its features fit in the cache.

        A piece has as many sites more on either side as the network sees.
        """
        n, seen = scaled.shape[-1], 2 * len(self.blocks)
        if n <= PIECE + 2 * seen or torch.is_grad_enabled():
            return self._features(scaled, log_std, s)
        sites = torch.arange(n, device=scaled.device)
        pieces = []
        for piece in sites.split(PIECE):
            wide = torch.arange(int(piece[0]) - seen, int(piece[-1]) + 1 + seen, device=sites.device) % n
            pieces.append(self._features(scaled[..., wide], log_std[..., wide], s)[..., seen:-seen, :])
        return torch.cat(pieces, -2)

    def _features(self, scaled: Tensor, log_std: Tensor, s: float | Tensor) -> Float[Tensor, "*batch T n k"]:
        h = self.inside(torch.stack([scaled, log_std, torch.ones_like(scaled)], -1))
        h = (h + self.temperature(embed(s, scaled)).unsqueeze(-2)).reshape(-1, *h.shape[-3:])
        for block in self.blocks:
            h = block(h)
        return self.outside(normalised([h])[0]).reshape(*scaled.shape, -1)

    def rows_of(self, factor, spread):
        """Of u and w, one under the other, `(..., T, 1 + 2 r + 1, n)`."""
        u, w = factor.tensor_split([1], -2)
        reach = w.shape[-2] // 2
        around = torch.stack([spread.roll(reach - k) for k in range(w.shape[-2])])
        return Ring(u.squeeze(-2) / spread, w * (spread / around))
