"""Weight files: what is saved comes back, and what is damaged is refused."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

import nida_kit as nk
from nida_kit.priors import weights
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.paper import PaperPrior
from nida_kit.priors.ring import RingPrior
from nida_kit.priors.temporal import NeuralPrior

NAME = "inside.maps.0.bias"  # one of the tensors
CARD = weights.Card(nk.Pendulum().labels, 0.1, {"seed": 3, "scores": {"mse": 0.1}})


def priors():
    generator = torch.Generator().manual_seed(0)
    climatology = Climatology.fit(torch.randn(50, 4, 2, generator=generator))
    torch.manual_seed(0)
    return {
        "neural": NeuralPrior(climatology, width=4, dilations=(1, 2)),
        "paper": PaperPrior(climatology, steps=4, rank=2, width=4),
        "ring": RingPrior(climatology, width=4, dilations=(1,), reach=0),
        "float64": NeuralPrior(climatology, width=4, dilations=(1,)).double(),
    }


@pytest.fixture
def path(tmp_path):
    """A file as it should be."""
    weights.save(priors()["neural"], tmp_path / "good.safetensors", CARD)
    return tmp_path / "good.safetensors"


def rewrite(path, change_tensors=lambda t: t, **metadata):
    """The same file with other tensors or another header; a key of None is left out."""
    with weights.safe_open(path, "pt") as file:
        metadata = {k: v for k, v in (file.metadata() | metadata).items() if v is not None}
    save_file(change_tensors(load_file(path)), path, metadata)


@pytest.mark.parametrize("name", priors())
def test_what_is_saved_comes_back_bit_for_bit(name, tmp_path):
    prior = priors()[name]
    weights.save(prior, tmp_path / "a.safetensors", CARD)
    again, card = weights.load(tmp_path / "a.safetensors")
    assert type(again) is type(prior)
    assert again.settings == prior.settings
    assert card == CARD
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    state = again.state_dict()
    assert state.keys() == prior.state_dict().keys()
    for key, value in prior.state_dict().items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], value)


def test_the_card_stands_beside_the_weights_as_json(path):
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["kind"] == "NeuralPrior"
    assert card["about"] == CARD.about
    assert card["labels"]["components"] == ["angle", "momentum"]


@pytest.mark.parametrize("length", [0, 7, 200, -1])
def test_a_truncated_file_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"good.safetensors is damaged.*Copy it again"):
        weights.load(path)


def test_a_corrupt_header_is_refused(path):
    content = bytearray(path.read_bytes())
    content[8:12] = b"\xff\x00\xff\x00"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        weights.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "nida_kit prior 0"}])
def test_a_foreign_file_is_refused(tmp_path, metadata):
    save_file({"a": torch.ones(2)}, tmp_path / "foreign.safetensors", metadata)
    with pytest.raises(ValueError, match="is not a nida_kit prior: its format is"):
        weights.load(tmp_path / "foreign.safetensors")


def other_card(**changes):
    """The card with entries changed; None removes one."""

    def change(path):
        card = json.loads(path.with_suffix(".json").read_text()) | changes
        rewrite(path, card=json.dumps({k: v for k, v in card.items() if v is not None}))

    return change


WRONG = {
    "another width": other_card(settings={"width": 8, "dilations": [1, 2]}),
    "more blocks": other_card(settings={"width": 4, "dilations": [1, 2, 4]}),
    "an unknown setting": other_card(settings={"depth": 4}),
    "an unknown kind": other_card(kind="Oracle"),
    "no labels": other_card(labels=None),
    "labels of another form": other_card(labels=["angle"]),
    "no time step": other_card(dt=None),
    "a negative time step": other_card(dt=-0.1),
    "an infinite time step": other_card(dt=float("inf")),
    "a time step that is no number": other_card(dt="0.1"),
    "another number of components": other_card(
        labels={"components": ["a"], "units": ["1"], "long_names": ["a"], "time_units": "1"}
    ),
    "no account": other_card(about=None),
    "no json": lambda path: rewrite(path, card="{"),
    "json of another form": lambda path: rewrite(path, card="[1]"),
    "no card": lambda path: rewrite(path, card=None),
    "a missing tensor": lambda path: rewrite(path, lambda t: {k: v for k, v in t.items() if k != NAME}),
    "no climatology": lambda path: rewrite(path, lambda t: {k: v for k, v in t.items() if "climate" not in k}),
    "a mean of no axis": lambda path: rewrite(path, lambda t: t | {"climate.mean": torch.tensor(1.0)}),
    "a mean of one axis": lambda path: rewrite(path, lambda t: t | {"climate.mean": t["climate.mean"][0]}),
    "a factor of three axes": lambda path: rewrite(path, lambda t: t | {"climate.factor": t["climate.factor"][0]}),
    "a factor of other length": lambda path: rewrite(path, lambda t: t | {"climate.factor": t["climate.factor"][:2]}),
    "a spread of two axes": lambda path: rewrite(path, lambda t: t | {"climate.spread": t["climate.spread"][None]}),
    "one tensor more": lambda path: rewrite(path, lambda t: t | {"extra": torch.ones(1)}),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_do_not_fit_their_card_are_refused(path, name):
    WRONG[name](path)
    with pytest.raises(ValueError, match=r"good.safetensors: its weights do not fit its card"):
        weights.load(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(path, value):
    rewrite(path, lambda t: t | {NAME: torch.full_like(t[NAME], value)})
    with pytest.raises(ValueError, match="not finite"):
        weights.load(path)


def test_an_unknown_name_is_told_what_there_is():
    shipped = sorted(p.stem for p in weights._FOLDER.glob("*.safetensors"))
    with pytest.raises(ValueError, match="no weight file lorenz36") as error:
        weights.load_pretrained("lorenz36")
    assert all(repr(name) in str(error.value) for name in shipped)


def test_a_file_of_ones_own_is_loaded_by_its_path(path):
    assert weights.load_pretrained(path)[1] == CARD
    assert weights.load_pretrained(str(path))[1] == CARD


@pytest.mark.parametrize("order", [None, 1])
@pytest.mark.parametrize("card", [None, nk.Card(nk.Lorenz63().labels, 0.05, {"made": "today"})])
def test_a_fitted_interpolation_comes_back_from_its_file(tmp_path, order, card):
    past = nk.Lorenz63().simulate(300, 8, 0.05, seed=1)
    method = nk.OptimalInterpolation.fit(past, order=order)
    nk.save(method, tmp_path / "oi.safetensors", card)
    again = nk.OptimalInterpolation.load(tmp_path / "oi.safetensors")
    obs = nk.observe(past.isel(sample=slice(3)), every=3, noise_std=0.5, seed=2)
    xr.testing.assert_equal(again.assimilate(obs), method.assimilate(obs))
    assert again.labels == method.labels and again.dt == method.dt
    if order is None:
        with pytest.raises(ValueError, match="observations lie from 3"):
            again.assimilate(obs.assign_coords(time=obs["time"] + 3))
    with pytest.raises(ValueError, match=r"a climatology and no network: nk.OptimalInterpolation.load"):
        nk.NeuralIncremental.pretrained(tmp_path / "oi.safetensors")
    climatology, kept = nk.load(tmp_path / "oi.safetensors")
    assert torch.equal(climatology.factor, method.climatology.factor) and kept.labels == method.labels
    assert card is None or kept.about.items() >= card.about.items()


def test_a_field_s_interpolation_and_a_network_s_climatology_come_back(tmp_path):
    labels = nk.GridLabels({"y": (0.0, 1.0), "x": (0.0, 2.0)}, "K", "temperature", {"y": "km"})
    values = np.random.default_rng(0).normal(size=(60, 4, 2, 2))
    coords = {"time": np.arange(4.0), **labels.coordinates()}
    past = xr.DataArray(values, coords, ("sample", "time", "y", "x"), attrs=labels.attributes)
    nk.save(nk.OptimalInterpolation.fit(past, order=1), tmp_path / "field.safetensors")
    assert nk.OptimalInterpolation.load(tmp_path / "field.safetensors").labels == labels
    neural = nk.NeuralIncremental.pretrained("lorenz63")
    shipped = nk.OptimalInterpolation.load(weights._FOLDER / "lorenz63.safetensors")
    assert torch.equal(shipped.climatology.mean, neural.prior.climatology.mean)


@pytest.mark.parametrize(
    ("prior", "card", "said"),
    [
        (nk.NeuralIncremental.pretrained("lorenz63"), None, "must be a network.*method.prior"),
        (nk.NeuralIncremental.pretrained("lorenz63").prior, None, "card=None must be an nk.Card"),
        (nk.Lorenz63(), None, "must be a network"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, prior, card, said):
    with pytest.raises(ValueError, match=said):
        nk.save(prior, tmp_path / "no.safetensors", card)
