"""Muon: descent along orthogonal matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

The momentum M = U S V' of a weight matrix is replaced by about U V', so that no direction of it is left behind because
its gradients are small. A few Newton-Schulz iterations X <- a X + (b X X' + c (X X')^2) X come close enough. The
update is scaled to the size that AdamW's usually has (Liu et al. 2025, arXiv:2502.16982), so that both share one rate.

`torch.optim.Muon` does the same with products in bfloat16: ten times slower on processors that have none, and these
networks are trained there.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan et al. (2024): steepest at 0, about 1 elsewhere on (0, 1]


def orthogonalised(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """About U V' of the matrix U S V': its singular values move to between 0.65 and 1.2, if not tiny."""
    wide = matrix.shape[0] <= matrix.shape[1]
    X = matrix if wide else matrix.mT
    X = X / (X.norm() + 1e-12)
    for _ in range(iterations):
        gram = X @ X.mT
        X = _A * X + (_B * gram + _C * gram @ gram) @ X
    return X if wide else X.mT


class Muon(torch.optim.Optimizer):
    """For weight matrices between hidden features; everything else is AdamW's.

    Args:
        matrices: the weights, `(m, n)` each; those of a convolution `(m, n, ...)` as one matrix of m rows.
        rate: learning rate.
        decay: decoupled weight decay, per unit of rate.
        momentum: share of the past gradients that is kept (Nesterov).
    """

    def __init__(self, matrices: Iterable[Tensor], rate: float, decay: float = 0.0, momentum: float = 0.95):
        super().__init__(matrices, {"lr": rate, "decay": decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._move(weights, **{k: group[k] for k in ("lr", "decay", "momentum")})

    def _move(self, weights: Tensor, lr: float, decay: float, momentum: float) -> None:
        past = self.state[weights].setdefault("past", torch.zeros_like(weights))
        past.lerp_(weights.grad, 1 - momentum)
        direction = orthogonalised(torch.lerp(weights.grad, past, momentum).flatten(1))
        weights.mul_(1 - lr * decay).sub_(direction.view_as(weights), alpha=lr * 0.2 * max(direction.shape) ** 0.5)
