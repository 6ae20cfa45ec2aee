"""The quasi-geostrophic ocean: conserved quantities, orders of accuracy, exact solutions."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

import nida_kit as nk
from nida_kit.systems.quasigeostrophic import jacobian, laplacian

DOUBLE = {"dtype": torch.float64, "device": torch.device("cpu")}


def turbulent(system: nk.QuasiGeostrophic, samples: int = 2, after: float = 200.0) -> torch.Tensor:
    return system.step(system.start(samples, torch.Generator().manual_seed(0), **DOUBLE), after)


def ideal(**others) -> nk.QuasiGeostrophic:
    return nk.QuasiGeostrophic(33, viscosity=0.0, wind=0.0, **others)


def inner(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    along = torch.linspace(0, 1, n, dtype=torch.float64)[1:-1]
    return along[:, None], along


@pytest.mark.parametrize(("quantity", "beta"), [("energy", 1.0), ("energy", 0.0), ("enstrophy", 0.0)])
def test_what_no_force_and_no_friction_changes_is_conserved_by_the_scheme_in_space(quantity, beta):
    """What is left is the time step's error: it falls with its fourth power or faster, and is tiny."""
    system = ideal(beta=beta)
    x = turbulent(nk.QuasiGeostrophic(33))
    before = getattr(system, quantity)(x)
    off = []
    for substep in (4.0, 2.0):
        after = getattr(ideal(beta=beta, longest_substep=substep), quantity)
        off.append((after(ideal(beta=beta, longest_substep=substep).step(x, 80.0)) / before - 1).abs().max())
    assert off[1] < 1e-5 and off[0] / off[1] > 12


def test_friction_and_viscosity_take_energy_and_the_wind_gives_it():
    x = turbulent(nk.QuasiGeostrophic(33))
    change = {}
    for name, given in {"friction": {"friction": 1e-3}, "none": {}}.items():
        system = ideal(**given)
        change[name] = (system.energy(system.step(x, 20.0)) - system.energy(x)).mean()
    assert change["friction"] < 10 * -change["none"].abs()
    viscous = nk.QuasiGeostrophic(33, wind=0.0)
    assert (viscous.energy(viscous.step(x, 20.0)) < viscous.energy(x)).all()
    rest = torch.zeros(1, 33, 33, dtype=torch.float64)
    windy = nk.QuasiGeostrophic(33)
    assert windy.energy(windy.step(rest, 50.0)) > 0


def test_the_scheme_in_time_has_order_four():
    x = turbulent(nk.QuasiGeostrophic(33))
    found = [nk.QuasiGeostrophic(33, longest_substep=h).step(x, 40.0) for h in (5.0, 2.5, 1.25)]
    coarse, fine = ((a - b).norm() for a, b in pairwise(found))
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.4)


def test_the_schemes_in_space_have_order_two():
    """Of a = sin(pi x) sin(2 pi y), b = sin(3 pi x) sin(pi y), whose derivatives are known."""
    off = []
    for n in (33, 65):
        y, x = inner(n)
        p = math.pi
        a, b = torch.sin(p * x) * torch.sin(2 * p * y), torch.sin(3 * p * x) * torch.sin(p * y)
        a_x, a_y = p * torch.cos(p * x) * torch.sin(2 * p * y), 2 * p * torch.sin(p * x) * torch.cos(2 * p * y)
        b_x, b_y = 3 * p * torch.cos(3 * p * x) * torch.sin(p * y), p * torch.sin(3 * p * x) * torch.cos(p * y)
        found = jacobian(a, b, 1 / (n - 1)), laplacian(a, 1 / (n - 1))
        off.append(
            [
                float((got - want).abs().max())
                for got, want in zip(found, (a_x * b_y - a_y * b_x, -5 * p**2 * a), strict=True)
            ]
        )
    np.testing.assert_allclose(np.log2(np.divide(*off)), 2, atol=0.1)


def test_the_jacobian_is_antisymmetric_and_conserves_both_squares():
    a, b = torch.randn(2, 3, 11, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    J = jacobian(a, b, 0.1)
    torch.testing.assert_close(jacobian(b, a, 0.1), -J)
    for weight in (a, b):  # zero around, so that what one cell loses another one gains
        assert ((weight * J).sum((-2, -1)).abs() < 1e-9 * (weight * J).abs().sum((-2, -1))).all()


def test_the_streamfunction_of_a_vorticity_is_found_exactly():
    system = nk.QuasiGeostrophic(21)
    q = torch.randn(4, 19, 19, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    psi = system.inverted(q)
    torch.testing.assert_close(laplacian(psi, 1 / 20) - system.screening * psi, q)


def test_a_wave_moves_west_as_the_dispersion_relation_says():
    """Linear, without wind: psi = sin(pi y) cos(k x + w t), w = beta k / (k^2 + pi^2 + F), far from the walls."""
    system = nk.QuasiGeostrophic(129, viscosity=0.0, wind=0.0, advection=0.0, screening=10.0)
    y, x = (torch.linspace(0, 1, 129, dtype=torch.float64)[:, None], torch.linspace(0, 1, 129, dtype=torch.float64))
    k, width = 16 * math.pi, 0.1
    packet = torch.sin(math.pi * y) * torch.exp(-(((x - 0.5) / width) ** 2)) * torch.cos(k * x)
    packet[:, [0, -1]] = 0
    speed = system.beta * k / (k**2 + math.pi**2 + system.screening) / k
    later = system.step(packet, 50.0)
    middle = later[64]
    phases = [torch.sum(row * torch.exp(-1j * k * x)).angle() for row in (packet[64], middle)]
    moved = float((phases[1] - phases[0]) / k) % (2 * math.pi / k)
    assert moved == pytest.approx(speed * 50 % (2 * math.pi / k), rel=0.05)


def test_states_of_a_batch_are_independent_and_float32_is_near_float64():
    system = nk.QuasiGeostrophic(33)
    x = turbulent(system, 3)
    together = system.step(x, 20.0)
    torch.testing.assert_close(together[1], system.step(x[1], 20.0))
    single = system.step(x.float(), 20.0)
    assert single.dtype == torch.float32
    assert float((single.double() - together).norm() / together.norm()) < 1e-4


def test_it_is_differentiable():
    system = nk.QuasiGeostrophic(17)
    x = turbulent(system, 1, 50.0)[0].requires_grad_()
    u, w = torch.randn(2, 17, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u[[0, -1]] = u[:, [0, -1]] = 0
    (pulled,) = torch.autograd.grad(system.step(x, 20.0), x, w)
    h = 1e-4
    pushed = (system.step(x.detach() + h * u, 20.0) - system.step(x.detach() - h * u, 20.0)) / (2 * h)
    assert float((w * pushed).sum()) == pytest.approx(float((pulled * u).sum()), rel=1e-6)


def test_its_start_is_as_strong_as_its_turbulence_and_zero_around():
    system = nk.QuasiGeostrophic(65)
    x = system.start(8, torch.Generator().manual_seed(0), torch.float32, torch.device("cpu"))
    assert float(x[:, 1:-1, 1:-1].std()) == pytest.approx(6.8, rel=0.1)
    assert not x[:, [0, -1]].any() and not x[:, :, [0, -1]].any()
    later = system.step(x, 200.0)
    assert float(later.std() / x.std()) == pytest.approx(1, abs=0.15)


def test_trajectories_are_fields_with_names():
    truth = nk.QuasiGeostrophic(9).simulate(samples=2, steps=3, dt=5.0, seed=0)
    assert truth.dims == ("sample", "time", "y", "x") and truth.sizes["y"] == 9
    np.testing.assert_allclose(truth["x"], np.linspace(0, 1, 9))
    assert truth.attrs["system"] == "QuasiGeostrophic"


@pytest.mark.parametrize(
    "wrong",
    [
        {"cells": 8},
        {"cells": 9.5},
        {"viscosity": math.inf},
        {"viscosity": -1e-12},
        {"friction": -1.0},
        {"screening": "large"},
        {"screening": -1.0},
        {"longest_substep": 0.0},
    ],
)
def test_parameters_out_of_range_are_a_named_value_error(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        nk.QuasiGeostrophic(**wrong).step(torch.zeros(9, 9), 1.0)


def test_states_of_another_shape_are_a_named_value_error():
    with pytest.raises(ValueError, match=r"shape \(2, 9\); those of QuasiGeostrophic end in \(9, 9\)"):
        nk.QuasiGeostrophic(9).step(torch.zeros(2, 9), 1.0)
    with pytest.raises(ValueError, match=r"shape \(9,\)"):
        nk.QuasiGeostrophic(9).step(torch.zeros(9), 1.0)


def test_substeps_that_are_too_long_are_said():
    many = {"samples": 1, "steps": 3, "dt": 500.0, "seed": 0}
    with pytest.warns(UserWarning, match=r"Substeps of 500 are too long for QuasiGeostrophic.*longest_substep"):
        x = nk.QuasiGeostrophic(17, longest_substep=500.0).simulate(**many)
    assert float(x.std()) > 1e3  # far from the turbulence
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nk.QuasiGeostrophic(17).simulate(**many)
