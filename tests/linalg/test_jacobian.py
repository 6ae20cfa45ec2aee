"""Slopes that were lost are missed; those that there are pass, whatever their scale and shape."""

import numpy as np
import pytest
import torch

from nida_kit.linalg.jacobian import check_slopes, linearise

X = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_numpy(x):
    return torch.from_numpy(np.sin(x.detach().numpy()))


def without_gradients(x):
    with torch.no_grad():
        return x.sin()


LOST = {
    "by numpy": by_numpy,
    "detached": lambda x: -x.detach(),
    "no_grad": without_gradients,
    "one value of three": lambda x: torch.stack([x[..., 0], x[..., 1].detach(), x[..., 2]], -1),
    "a small value of two": lambda x: torch.stack([x[..., 0], 1e-4 * x[..., 1].detach()], -1),
    "one factor": lambda x: x * x.roll(1, -1).detach(),
    "one summand": lambda x: x + 0.3 * by_numpy(x),
    "whole numbers": lambda x: (10 * x).long(),
    "rounded": lambda x: x.round(),
    "a threshold": lambda x: (x > 0.5).to(x),
}


@pytest.mark.parametrize("function", LOST.values(), ids=LOST)
def test_lost_slopes_are_missed(function):
    with pytest.raises(ValueError, match=r"h has values.*numpy, detach.*nk.EnKF"):
        check_slopes("h", function, X)


THERE = {
    "linear": lambda x: x @ torch.ones(3, 2).to(x),
    "of two scales": lambda x: x * torch.tensor([1e-8, 1.0, 1e8]).to(x),
    "steep": lambda x: x.pow(5) - x.exp(),
    "kinks": lambda x: torch.cat([x.abs(), x.relu(), x.clamp(-0.1, 0.1)], -1),
    "kinks out of reach": lambda x: (x - 100).relu(),
    "beside a constant": lambda x: torch.cat([x, torch.ones_like(x)], -1),
    "beside a threshold": lambda x: torch.cat([x, (x > 0).to(x)], -1),
    "constant": lambda x: torch.ones_like(x),
    "zero": lambda x: 0 * x,
    "not a number somewhere": lambda x: x.log(),
    "single precision": lambda x: x.float().sin().to(x),
    "of a network": torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.GELU(), torch.nn.Linear(8, 2)).double(),
}


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("function", THERE.values(), ids=THERE)
def test_slopes_that_there_are_pass(function, scale):
    check_slopes("h", lambda x: function(x / scale), scale * X)


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_states_at_rest_or_at_a_kink_pass(start):
    for function in (torch.abs, torch.relu, lambda x: x.clamp(min=1.0), lambda x: x.square().sum(-1, keepdim=True)):
        check_slopes("h", function, torch.full((2, 3), start, dtype=torch.float64))


def test_a_function_without_gradients_is_linearised_only_if_it_is_constant():
    with pytest.raises(ValueError, match="values but no slopes"):
        linearise(lambda x: x.detach(), X)
    assert not linearise(lambda x: torch.ones_like(x), X)[1].any()
