"""What a training has come to, on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write all of it; never a half-written file."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


def read_checkpoint(path: Path, device: torch.device | str, identity: dict[str, Any]) -> dict[str, Any]:
    """Read what was written, if it is of the training that is asked for.

    Args:
        path: of the file.
        device: where its tensors go.
        identity: what must not change between two parts of one training.

    Raises:
        ValueError: a file that is damaged, none of ours, or of another training.
    """
    try:
        saved = torch.load(path, weights_only=True, map_location=device)
        found = {name: saved[name] for name in identity}
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        raise ValueError(f"{path} is damaged or no checkpoint ({error}). Remove it to start anew.") from error
    if found != identity:
        raise ValueError(
            f"{path} belongs to another training: {found}, where {identity} is asked. Name another file, or remove it "
            "to start anew."
        )
    return saved
