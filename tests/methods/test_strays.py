"""Members that left the domain of the model or of the operator."""

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.methods.sequential import survivors


class LotkaVolterra(nk.System):
    """Hares and lynxes; there is no slope where one of them is negative."""

    labels = nk.StateLabels(("hares", "lynxes"), ("1", "1"), ("hares", "lynxes"))
    longest_substep = 0.05

    def tendency(self, x):
        a, b = x.unbind(-1)
        slope = torch.stack([a - 0.5 * a * b, 0.5 * a * b - b], -1)
        return slope.where((x > 0).all(-1, keepdim=True), torch.nan)

    def start(self, samples, generator, dtype, device):
        return 1 + 2 * torch.rand(samples, 2, generator=generator, dtype=dtype, device=device)


@pytest.fixture(scope="module")
def case():
    truth = LotkaVolterra().simulate(samples=2, steps=60, dt=0.1, seed=1)
    return truth, nk.observe(truth, ["hares", "lynxes"], every=5, noise_std=0.2, seed=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "method",
    [
        nk.ParticleFilter(LotkaVolterra(), 0.2, particles=500),
        nk.EnKF(LotkaVolterra(), 0.2, members=50),
        nk.EnKS(LotkaVolterra(), 0.2, members=50),
    ],
    ids=lambda m: type(m).__name__,
)
def test_strays_do_not_stop_a_method(method, case):
    truth, obs = case
    found = method.assimilate(obs)
    assert np.isfinite(found["std"]).all()
    assert nk.rmse(found["mean"], truth) < 0.6


def test_others_take_turns_in_the_places_of_strays():
    E = torch.tensor([[[1.0], [torch.nan], [3.0], [torch.inf], [torch.nan]]])
    assert survivors(E).tolist() == [[0, 0, 2, 2, 0]]
    assert survivors(E[:, :1]) is None
    with pytest.raises(ValueError, match="positive"):
        survivors(E[:, 1:2])


def test_a_smoother_without_lag_is_the_filter():
    s = nk.LinearOscillator()
    obs = nk.observe(s.simulate(1, 13, 0.1, seed=2), ["angle"], every=4, noise_std=0.2, seed=1)
    found = nk.EnKS(s, 0.05, members=20, lag=0).assimilate(obs)
    np.testing.assert_array_equal(found["mean"], found["analysis"])
    one = nk.EnKS(s, 0.05, members=20, lag=1).assimilate(obs)
    assert (abs(one["mean"] - one["analysis"]).isel(time=slice(0, 12)) > 1e-9).any("component").all()
