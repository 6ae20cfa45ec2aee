"""Windows of Lorenz-96 that every second of 40 sites sees at every 4th step, with an error of 1.

The sites of Bocquet, Pires and Wu (2010, doi:10.1175/2010MWR3164.1), on windows of one time unit, about five days, that
start on the attractor; seen more rarely and more exactly than there. Nothing is published on these windows: they are
where the package's own prior is compared with the classical methods.
"""

from nida_kit.reference.setup import Setup, in_state_units
from nida_kit.systems.lorenz import Lorenz96
from nida_kit.systems.wrapped import OnAttractor

setup = Setup(
    name="half-lorenz96",
    system=OnAttractor(Lorenz96(), time=10.0),
    steps=20,
    dt=0.05,
    model_noise_std=0.1,
    noise_std=1.0,
    noise_unit=in_state_units,
    law={"components": [f"x{i}" for i in range(0, 40, 2)], "every": 4, "offset": "random"},
    source="this package, after doi:10.1175/2010MWR3164.1",
    climate=2000,
)
