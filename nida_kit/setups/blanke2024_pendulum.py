"""The pendulum of Blanke, Fablet and Lelarge (2024, arXiv:2406.15076): the angle at 5 of 100 times."""

from nida_kit.reference.setup import Setup, in_state_units
from nida_kit.systems.pendulum import Pendulum

setup = Setup(
    name="blanke2024-pendulum",
    system=Pendulum(),
    steps=100,
    dt=0.1,
    model_noise_std=0.0,
    noise_std=0.001,  # rad
    noise_unit=in_state_units,
    law={"components": ["angle"], "every": 20, "offset": "random"},
    source="arXiv:2406.15076",
)
