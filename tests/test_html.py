"""What objects show of themselves in a notebook."""

import pytest
import torch

import nida_kit as nk
from nida_kit import html

NEURAL = nk.NeuralIncremental.pretrained("pendulum", temperatures=2)
SHOWN = {
    "method": (NEURAL, ["<strong>NeuralIncremental", "angle [rad], momentum [rad s-1]", "pendulum"]),
    "setup": (nk.setups.load("blanke2024-lorenz63"), ["32 steps of 0.05", "x, y, z", "2406.15076"]),
    "cycles": (nk.setups.load("sakov2012-lorenz63"), ["every 25 steps of 0.01", "EnKF"]),
    "network": (NEURAL.prior, ["NeuralPrior", str(sum(p.numel() for p in NEURAL.prior.parameters())), "width"]),
    "paper": (nk.NeuralIncremental.pretrained("lorenz63_paper").prior, ["PaperPrior", "rank"]),
    "climatology": (NEURAL.prior.climatology, ["Climatology", "<td>2</td>"]),
    "physics": (nk.Physics(lambda x: x, torch.ones(2), torch.zeros(2), torch.ones(2)), ["Physics", "[1.0, 1.0]"]),
    "card": (nk.Card(nk.Pendulum.labels, 0.1, {"windows": 7}), ["angle [rad]", "<td>0.1</td>", "<td>7</td>"]),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_objects_show_what_they_are_made_of(kind):
    thing, texts = SHOWN[kind]
    shown = thing._repr_html_()
    assert shown.startswith("<div>") and len(shown) < 2000
    for text in texts:
        assert text in shown


def test_text_is_escaped_long_values_are_cut_and_many_components_counted():
    shown = html.card("<b>", {"a": "x" * 500, "none": None})
    assert "&lt;b&gt;" in shown and "x" * 158 not in shown and "none" not in shown
    assert html.state(nk.Lorenz96().labels) == "x0, x1, x2, ..., x39 (40 components)"
    assert html.state(nk.GridLabels({"y": (0.0, 1.0)}, "K", "t")) == "GridLabels(2 y, t in K)"
