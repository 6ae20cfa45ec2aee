"""Lorenz-63 of Blanke, Fablet and Lelarge (2024, arXiv:2406.15076): 4 values of x see a window of 96."""

from nida_kit.setups.setup import Setup
from nida_kit.simulate import Lorenz63

setup = Setup(
    name="blanke2024-lorenz63",
    system=Lorenz63(),
    steps=32,
    dt=0.05,
    model_noise_std=0.05**0.5,
    noise_std=0.05,
    noise_unit="spread",
    law={"components": ["x"], "every": 8, "offset": "random"},
    source="arXiv:2406.15076",
)
