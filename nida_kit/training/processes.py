"""Several processes train one prior: each takes its share of a batch, and all take the mean of their gradients.

All draw the same windows, laws and observations, and then look at their own. So N processes descend as one does that
has N times the batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Processes:
    """Those that train together.

    Attributes:
        fabric: of lightning-fabric, launched; None is one process alone.
    """

    fabric: Any = None

    def __post_init__(self):
        if self.fabric is None:
            return
        names = ("world_size", "global_rank", "all_reduce", "broadcast", "autocast", "strategy", "device")
        if not all(hasattr(self.fabric, name) for name in names):
            raise ValueError(
                f"fabric={self.fabric!r} is no fabric of lightning-fabric: give lightning_fabric.Fabric(devices=2), "
                "launched."
            )
        if self.count > 1 and not torch.distributed.is_initialized():
            raise ValueError(f"This fabric of {self.count} processes has not been launched: call fabric.launch().")
        if (precision := self.fabric.strategy.precision.precision) not in PRECISIONS:
            raise ValueError(
                f"The fabric has the precision {precision!r}; give it one of {list(PRECISIONS)}: the weights stay in "
                "float32, and what is solved in float64."
            )

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def rank(self) -> int:
        """Which one this is, from 0; that one writes and shows the progress."""
        return 0 if self.fabric is None else self.fabric.global_rank

    def share(self, batch: int) -> slice:
        """Which windows of the whole batch are looked at here, `batch` of them."""
        return slice(self.rank * batch, (self.rank + 1) * batch)

    def precision(self) -> AbstractContextManager:
        """In which the network runs."""
        return nullcontext() if self.fabric is None else self.fabric.autocast()

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes."""
        return value if self.count == 1 else self.fabric.all_reduce(value, reduce_op="mean")

    def begin_alike(self, prior: nn.Module) -> None:
        """With the weights and the climatology of the first process."""
        if self.count > 1:
            prior.load_state_dict(self.fabric.broadcast(prior.state_dict()))

    def agree(self, parameters: Iterable[nn.Parameter]) -> None:
        """On the mean of the gradients."""
        if self.count > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            vector_to_parameters(self.mean(parameters_to_vector(gradients)), gradients)
