"""Trained priors on disk: a safetensors file whose header holds its card.

The card says how to rebuild the network, what state it knows, and where it comes from: data law, seed, settings,
minutes, scores.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nida_kit.labels import StateLabels
from nida_kit.prior import Climatology, NeuralPrior, PaperPrior

FORMAT = "nida_kit prior 1"
_KINDS = {"NeuralPrior": NeuralPrior, "PaperPrior": PaperPrior}


@dataclass(frozen=True)
class Card:
    """What a weight file says of itself.

    Attributes:
        labels: the state's components.
        dt: time step.
        about: data law, seed, settings, minutes, scores, command; free form.
    """

    labels: StateLabels
    dt: float
    about: dict[str, Any] = field(default_factory=dict)


def save(prior: NeuralPrior | PaperPrior, path: str | Path, card: Card) -> None:
    """Write weights and card; beside it the card alone, as readable JSON."""
    header = {"kind": type(prior).__name__, "settings": prior.settings, **asdict(card)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in prior.state_dict().items()}
    save_file(tensors, path, {"format": FORMAT, "card": json.dumps(header)})
    Path(path).with_suffix(".json").write_text(json.dumps(header, indent=2) + "\n")


def load(path: str | Path) -> tuple[NeuralPrior | PaperPrior, Card]:
    """Read what `save` wrote.

    Raises:
        ValueError: no such file, not a safetensors file, not ours, or weights that do not fit the card.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no weight file {path}. {_shipped()}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}). Copy it again, or retrain.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a nida_kit prior: its format is {metadata.get('format')!r}, not {FORMAT!r}.")
    try:
        header = json.loads(metadata["card"])
        names = {k: tuple(header["labels"][k]) for k in ("components", "units", "long_names")}
        labels = StateLabels(**names, time_units=header["labels"]["time_units"])
        climatology = Climatology(*(tensors[f"climate.{k}"] for k in ("mean", "factor", "spread")))
        prior = _KINDS[header["kind"]](climatology, **header["settings"])
        prior.load_state_dict(tensors, assign=True)  # in the dtype of the file
        card = Card(labels, header["dt"], header["about"])
    except (KeyError, TypeError, AttributeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: its weights do not fit its card ({error}). It is damaged or from another version."
        ) from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError(f"{path} holds weights that are not finite; its training failed.")
    return prior.eval(), card


_FOLDER = Path(__file__).parent / "pretrained"


def _shipped() -> str:
    return f"Shipped are {sorted(p.stem for p in _FOLDER.glob('*.safetensors'))}; a path to a file of yours works too."


def load_pretrained(name: str | Path) -> tuple[NeuralPrior | PaperPrior, Card]:
    """Shipped weights by name, or a file by path; errors as in `load`."""
    shipped = _FOLDER / f"{name}.safetensors"
    return load(shipped if shipped.is_file() else name)
