"""Trained priors on disk: a safetensors file whose header holds its card.

The card says how to rebuild the network, what state it knows, and where it comes from: data law, seed, settings,
minutes, scores.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nida_kit import checks, html
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.field import FieldPrior
from nida_kit.priors.modes import FieldClimatology, OfField
from nida_kit.priors.multiscale import MultiscaleClimatology
from nida_kit.priors.paper import Network, PaperPrior
from nida_kit.priors.parts import LocalPrior
from nida_kit.priors.ring import RingPrior
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.state import GridLabels, Labels, StateLabels

FORMAT = "nida_kit prior 1"
Kept = Climatology | FieldClimatology | MultiscaleClimatology
"""Climatologies that files keep, beside networks."""


@dataclass(frozen=True)
class Card:
    """What a weight file says of itself.

    >>> import nida_kit as nk
    >>> prior, card = nk.load("lorenz63")
    >>> isinstance(card, nk.Card), card.dt, card.labels.components
    (True, 0.05, ('x', 'y', 'z'))

    Attributes:
        labels: of the state.
        dt: time step.
        about: data law, seed, settings, minutes, scores, command; free form.
    """

    labels: Labels
    dt: float
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        checks.store(self, dt=checks.positive("dt", self.dt))

    def _repr_html_(self) -> str:
        return html.card("Card", {"state": html.state(self.labels), "time step": self.dt} | self.about)


def save(prior, path: str | Path, card: Card | None = None) -> None:
    """Write a prior and its card to `path`, which ends in .safetensors; beside it the card alone, as readable JSON.

    >>> import nida_kit as nk, tempfile
    >>> interpolation = nk.OptimalInterpolation.fit(nk.Lorenz63().simulate(200, 8, 0.05), order=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nk.save(interpolation, f"{folder}/mine.safetensors")
    ...     again = nk.OptimalInterpolation.load(f"{folder}/mine.safetensors")
    >>> again.dt
    0.05

    Args:
        prior: a network, a climatology, or a fitted `nk.OptimalInterpolation`.
        path: of the file.
        card: what it says of itself; a fitted method knows it.

    Raises:
        ValueError: another ending, no prior, or a card that is missing or of another state.
    """
    if not isinstance(prior, Network | Kept):
        if not isinstance(getattr(prior, "climatology", None), Kept):
            kinds = (
                "a network, a climatology or a fitted nk.OptimalInterpolation, but not past windows as fit_ensemble's"
            )
            raise checks.refused("prior", prior, kinds, "A method with a network has it as method.prior.")
        known = {"begins": getattr(prior, "begins", None), "shrinkage": prior.settings.get("shrinkage")}
        about = {name: value for name, value in known.items() if value is not None}
        card = Card(prior.labels, prior.dt) if card is None else card
        if isinstance(card, Card):
            card = replace(card, about=card.about | about)
        prior = prior.climatology
    checks.instance("card", card, Card, "an nk.Card", "Try nk.Card(system.labels, dt).")
    of_network = isinstance(prior, Network)
    components = (prior.climatology if of_network else prior).mean.shape[-1]
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{str(path)!r} must end in .safetensors.")
    if card.labels.size != components:
        raise ValueError(f"The prior has {components} components, the card names {card.labels.size}: {card.labels}.")
    header = checks.strict(
        {"kind": type(prior).__name__, "settings": prior.settings if of_network else {}, **asdict(card)}
    )
    tensors = {k: v.detach().cpu().contiguous() for k, v in _tensors(prior).items()}
    save_file(tensors, path, {"format": FORMAT, "card": json.dumps(header, allow_nan=False)})
    Path(path).with_suffix(".json").write_text(json.dumps(header, indent=2, allow_nan=False) + "\n")


_TENSORS = ("mean", "factor", "spread")  # of a climatology


def _tensors(prior: Network | Kept) -> dict[str, Tensor]:
    """What a file keeps of a prior: of a field's network bytes, each feature's weights in units of their largest."""
    if isinstance(prior, FieldPrior):
        own = {k: v for k, v in prior.state_dict().items() if not k.startswith("climate.")}
        for name, weight in [(k, v) for k, v in own.items() if v.ndim > 1]:
            own[name], own[name + _UNIT] = _in_bytes(weight)
        return own | _of_climate(prior.climatology.in_bytes())
    if isinstance(prior, Network):
        return prior.state_dict()
    return _of_climate(prior.packed() if isinstance(prior, OfField) else {k: getattr(prior, k) for k in _TENSORS})


def _of_climate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"climate.{name}": tensor for name, tensor in tensors.items()}


_UNIT = ".unit"  # of weights that are kept in bytes


def _in_bytes(weight: Float[Tensor, "features ..."]) -> tuple[Tensor, Tensor]:
    """Weights in bytes, and the unit of each feature."""
    unit = weight.abs().flatten(1).amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    unit = unit.view(-1, *[1] * (weight.ndim - 1))
    return (weight / unit).round().to(torch.int8), unit


def load(path: str | Path) -> tuple[Network | Kept, Card]:
    """Read what `save` wrote.

    >>> import nida_kit as nk
    >>> prior, card = nk.load("pendulum")
    >>> card.labels.components
    ('angle', 'momentum')

    Args:
        path: of the file, or the name of shipped weights.

    Raises:
        ValueError: no such file, not a safetensors file, not ours, or weights that do not fit the card.
    """
    if not isinstance(path, str | Path):
        raise ValueError(f"{path!r} is neither a name nor a path. {_shipped()}")
    shipped = _FOLDER / f"{path}.safetensors"
    metadata, tensors = _read(shipped if shipped.is_file() else Path(path))
    try:
        prior, card = _rebuild(json.loads(metadata["card"]), tensors)
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path}: its weights do not fit its card ({error}). It is damaged or from another version: copy it again, "
            "or retrain."
        ) from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError(
            f"{path} holds weights that are not finite; it is damaged, or its training failed. Copy or retrain it."
        )
    return prior.eval() if isinstance(prior, Network) else prior, card


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of one of our files."""
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
    return metadata, tensors


class _Unfilled(TorchFunctionMode):
    """Parameters stay as memory has them, for those of a file follow; a mode is its thread's own.

    So torch's global random numbers stay where they are.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        fills = getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.uniform_, Tensor.normal_)
        kwargs = kwargs or {}
        return (args[0] if args else kwargs["tensor"]) if fills else func(*args, **kwargs)


def _rebuild(header: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[Network | Kept, Card]:
    """Prior and card; any error means that they do not fit."""
    given = header["labels"]
    if "coords" in given:
        coords, units = ({dim: own for dim, own in given[k]} for k in ("coords", "coord_units"))
        labels = GridLabels(coords, given["units"], given["long_name"], units, given["time_units"])
    else:
        names = {k: tuple(given[k]) for k in ("components", "units", "long_names")}
        labels = StateLabels(**names, time_units=given["time_units"])
    card = Card(labels, header["dt"], header["about"])
    if header["kind"] == Climatology.__name__:
        return _climatology(tensors, labels.size), card
    of_field = {k.removeprefix("climate."): v for k, v in tensors.items() if k.startswith("climate.")}
    for kind in (FieldClimatology, MultiscaleClimatology):
        if header["kind"] == kind.__name__:
            return kind.unpacked(of_field), card
    if header["kind"] == FieldPrior.__name__:
        with _Unfilled():
            prior = FieldPrior(FieldClimatology.unpacked(of_field), **header["settings"])
        own = {k: v.float() for k, v in tensors.items() if not k.startswith("climate.") and not k.endswith(_UNIT)}
        own |= {k: v * tensors[k + _UNIT] for k, v in own.items() if k + _UNIT in tensors}
        missing, _ = prior.load_state_dict(own, strict=False, assign=True)
        if lost := [name for name in missing if not name.startswith("climate.")]:
            raise ValueError(f"{lost} are missing")
        return prior, card
    kinds = {kind.__name__: kind for kind in (NeuralPrior, RingPrior, PaperPrior)} | LocalPrior.kinds
    if header["kind"] not in kinds:
        raise ValueError(f"there is no network {header['kind']}, only {[*kinds]}: import the module that has it first")
    with _Unfilled():
        prior = kinds[header["kind"]](_climatology(tensors, labels.size), **header["settings"])
    prior.load_state_dict(tensors, assign=True)  # in the dtype of the file
    return prior, card


def _climatology(tensors: dict[str, Tensor], n: int) -> Climatology:
    """Of n components; its shapes say how long it is, and must agree."""
    mean, factor, spread = (tensors[f"climate.{k}"] for k in _TENSORS)
    length = len(mean) if mean.ndim else 0
    for name, tensor, shape in (
        ("mean", mean, (length, n)),
        ("factor", factor, (length, length, n, n)[: max(factor.ndim, 3)]),
        ("spread", spread, (n,)),
    ):
        if not length or tensor.shape != shape:
            raise ValueError(f"climate.{name} has the shape {tuple(tensor.shape)} where {shape} is needed")
    return Climatology(mean, factor, spread)


_FOLDER = Path(__file__).parents[1] / "pretrained"


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.safetensors"))


def _shipped() -> str:
    return f"Shipped are {shipped()}; a path to a file of yours works too."


def load_pretrained(name: str | Path) -> tuple[Network, Card]:
    """A network: shipped weights by name, or a file by path; errors as in `load`."""
    prior, card = load(name)
    if not isinstance(prior, Network):
        raise ValueError(f"{name} holds a climatology and no network: nk.OptimalInterpolation.load({str(name)!r}).")
    return prior, card
