"""Train, score and save a shipped prior: `python -m nida_kit.pretrained lorenz63 --checkpoint lorenz63.ckpt`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from nida_kit.training import ocean
from nida_kit.training.recipes import RECIPES, make


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*RECIPES, "ocean"])
    parser.add_argument("--checkpoint", type=Path, help="file to resume from, written every 100 batches")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the weights and the card")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.name == "ocean":
        ocean.make(arguments.checkpoint or Path("ocean.ckpt"), arguments.out)
    else:
        make(arguments.name, arguments.checkpoint, arguments.out, arguments.device)


if __name__ == "__main__":
    main()
