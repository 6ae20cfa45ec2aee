"""The two-layer ocean: conserved quantities, orders of accuracy, and the one-layer model as its limit."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.state import labels_of
from nida_kit.systems.quasigeostrophic import laplacian

DOUBLE = {"dtype": torch.float64, "device": torch.device("cpu")}
ONE = nk.QuasiGeostrophic(33)
TWO = nk.TwoLayerQuasiGeostrophic(ONE)


@pytest.fixture(scope="module")
def turbulent() -> torch.Tensor:
    """Two states in which both layers move."""
    return TWO.step(TWO.start(2, torch.Generator().manual_seed(0), **DOUBLE), 400.0)


def ideal(substep: float = 4.0, **others) -> nk.TwoLayerQuasiGeostrophic:
    upper = nk.QuasiGeostrophic(33, viscosity=0.0, wind=0.0, longest_substep=substep, **others)
    return nk.TwoLayerQuasiGeostrophic(upper, bottom_friction=0.0)


@pytest.mark.parametrize(("quantity", "beta"), [("energy", 1.0), ("energy", 0.0), ("enstrophy", 0.0)])
def test_what_no_force_and_no_friction_changes_is_conserved_by_the_scheme_in_space(quantity, beta, turbulent):
    """Enstrophy in each layer by itself. What is left is the time step's error, which falls with its fourth power."""
    before, off = getattr(TWO, quantity)(turbulent), []
    for substep in (2.0, 0.5):
        system = ideal(substep, beta=beta)
        off.append((getattr(system, quantity)(system.step(turbulent, 40.0)) / before - 1).abs().max())
    assert off[1] < 1e-9 and off[0] / off[1] > 100  # 4^4 is 256, 4^3 is 64


def test_layers_exchange_energy(turbulent):
    """Of the energies, only the sum is conserved: that of the lower layer changes by more than a thousandth."""
    system = ideal(1.0)
    below = [float(x[:, 1].square().sum()) for x in (turbulent, system.step(turbulent, 40.0))]
    assert abs(below[1] / below[0] - 1) > 1e-3


def test_over_an_infinitely_deep_ocean_at_rest_it_is_the_one_layer_model():
    deep = nk.TwoLayerQuasiGeostrophic(ONE, depth_ratio=0.0)
    x = deep.start(2, torch.Generator().manual_seed(0), **DOUBLE)
    later, alone = deep.step(x, 100.0), ONE.step(x[:, 0], 100.0)
    assert not later[:, 1].any()
    torch.testing.assert_close(later[:, 0], alone, rtol=1e-9, atol=1e-9)


def test_the_deeper_the_ocean_the_closer_it_is_to_the_one_layer_model():
    x = TWO.start(2, torch.Generator().manual_seed(0), **DOUBLE)
    alone = ONE.step(x[:, 0], 50.0)
    off = [
        float((nk.TwoLayerQuasiGeostrophic(ONE, depth_ratio=d).step(x, 50.0)[:, 0] - alone).norm())
        for d in (0.02, 0.01)
    ]
    assert off[0] / off[1] == pytest.approx(2, rel=0.1)


def test_layers_of_one_depth_that_move_alike_are_one_layer_without_a_surface(turbulent):
    """The barotropic mode: no shear, so nothing is stretched, and half the wind's force is on each."""
    both = nk.TwoLayerQuasiGeostrophic(nk.QuasiGeostrophic(33, wind=0.0), 1.0, 0.0)
    whole = nk.QuasiGeostrophic(33, wind=0.0, screening=0.0)
    x = turbulent[:, :1]
    later = both.step(x.expand(-1, 2, -1, -1), 20.0)
    torch.testing.assert_close(later[:, 0], later[:, 1])
    torch.testing.assert_close(later[:, 0], whole.step(x[:, 0], 20.0), rtol=1e-9, atol=1e-9)


def test_the_streamfunctions_of_vorticities_are_found_exactly():
    system = nk.TwoLayerQuasiGeostrophic(nk.QuasiGeostrophic(21), depth_ratio=0.3)
    q = torch.randn(4, 2, 19, 19, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    psi, F = system.inverted(q), system.upper.screening
    (above, below), zeta = psi.unbind(-3), laplacian(psi, 1 / 20)
    found = torch.stack([zeta[:, 0] + F * (below - above), zeta[:, 1] + 0.3 * F * (above - below)], -3)
    torch.testing.assert_close(found, q)


def test_the_scheme_in_time_has_order_four(turbulent):
    steps = (2.5, 1.25, 0.625)
    found = [
        nk.TwoLayerQuasiGeostrophic(nk.QuasiGeostrophic(33, longest_substep=h)).step(turbulent, 20.0) for h in steps
    ]
    coarse, fine = ((a - b).norm() for a, b in pairwise(found))
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.4)


def smooth(n: int) -> torch.Tensor:
    """Two smooth fields, zero around."""
    along = torch.linspace(0, 1, n, dtype=torch.float64)
    y, x = along[:, None] * math.pi, along * math.pi
    return (
        torch.stack([torch.sin(2 * y) * torch.sin(x) + torch.sin(y) * torch.sin(3 * x), torch.sin(2 * x + 0 * y)]) * 5
    )


def test_the_scheme_in_space_has_order_two():
    """Of tendencies at common points, against those of the finest grid."""
    found = [
        nk.TwoLayerQuasiGeostrophic(nk.QuasiGeostrophic(n, viscosity=1e-9, advection=1e-2)).tendency(
            smooth(n) * torch.sin(math.pi * torch.linspace(0, 1, n, dtype=torch.float64))[:, None]
        )[..., :: (n - 1) // 16, :: (n - 1) // 16]
        for n in (17, 33, 65)
    ]
    coarse, fine = ((a - b).norm() for a, b in pairwise(found))
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.3)


def test_states_of_a_batch_are_independent_and_float32_is_near_float64(turbulent):
    together = TWO.step(turbulent, 20.0)
    torch.testing.assert_close(together[1], TWO.step(turbulent[1], 20.0))
    single = TWO.step(turbulent.float(), 20.0)
    assert single.dtype == torch.float32
    assert float((single.double() - together).norm() / together.norm()) < 1e-4


def test_it_is_differentiable(turbulent):
    x = turbulent[0].clone().requires_grad_()
    u, w = torch.randn(2, 2, 33, 33, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u[:, [0, -1]] = u[:, :, [0, -1]] = 0
    (pulled,) = torch.autograd.grad(TWO.step(x, 10.0), x, w)
    h, x = 1e-4, x.detach()
    pushed = (TWO.step(x + h * u, 10.0) - TWO.step(x - h * u, 10.0)) / (2 * h)
    assert float((w * pushed).sum()) == pytest.approx(float((pulled * u).sum()), rel=1e-6)


def test_the_bottom_slows_the_lower_layer_and_the_wind_drives_the_upper_one():
    rest = torch.zeros(1, 2, 33, 33, dtype=torch.float64)
    above, below = TWO.tendency(rest).norm(dim=(-2, -1))[0]
    assert above > below > 0  # below through the pressure of the layer above
    assert TWO.energy(TWO.step(rest, 50.0)) > 0
    moving = TWO.step(TWO.start(1, torch.Generator().manual_seed(0), **DOUBLE), 100.0)
    rough = nk.TwoLayerQuasiGeostrophic(ONE, bottom_friction=1e-2)
    assert float(rough.step(moving, 20.0)[:, 1].norm()) < float(TWO.step(moving, 20.0)[:, 1].norm())


def test_its_upper_layer_is_the_state_of_the_one_layer_model():
    truth = TWO.simulate(samples=2, steps=3, dt=5.0, seed=0)
    assert truth.dims == ("sample", "time", "layer", "y", "x")
    np.testing.assert_array_equal(truth["layer"], [1, 2])
    assert truth.attrs["system"] == "TwoLayerQuasiGeostrophic"
    assert truth.attrs["depth_ratio"] == 0.1 and truth.attrs["screening"] == 1600.0
    for upper in (truth.sel(layer=1, drop=True), truth.isel(layer=0)):
        assert labels_of(upper) == ONE.labels
        result = nk.EnKS(ONE, members=4).assimilate(nk.observe(upper, every=2, noise_std=1.0, seed=0))
        assert np.isfinite(nk.rmse(result["mean"], upper))


def test_two_layers_are_no_two_windows_of_the_one_layer_model():
    truth = TWO.simulate(samples=2, steps=3, dt=5.0, seed=0)
    obs = nk.observe(truth, every=2, noise_std=1.0, seed=0)
    for given in (obs, obs.transpose("layer", "y", "x", "sample", "time")):
        with pytest.raises(ValueError, match=r"'layer', 'y', 'x'.*select one along 'layer', obs.sel\(layer=1, drop"):
            nk.EnKS(ONE, members=4).assimilate(given)


@pytest.mark.parametrize("wrong", [{"depth_ratio": -0.1}, {"bottom_friction": math.inf}, {"upper": nk.Lorenz63()}])
def test_parameters_out_of_range_are_a_named_value_error(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        nk.TwoLayerQuasiGeostrophic(**wrong)
