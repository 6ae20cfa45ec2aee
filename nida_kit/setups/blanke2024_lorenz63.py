"""Lorenz-63 of Blanke, Fablet and Lelarge (2024, arXiv:2406.15076): 4 values of x see a window of 96.

The scores on record were measured by scripts of our own before this package: the paper shows figures, no table. Windows
differ in difficulty, so compare methods on the same ones.
"""

from nida_kit.methods.compose import Chain
from nida_kit.methods.interpolation import OptimalInterpolation
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.reference.score import Score
from nida_kit.reference.setup import Setup, in_spreads
from nida_kit.systems.lorenz import Lorenz63


def _interpolation(setup: Setup) -> OptimalInterpolation:
    return OptimalInterpolation.fit(setup.windows(10_000, seed=2))


def _four_d_var(setup: Setup) -> Chain:
    return Chain([_interpolation(setup), WeakFourDVar(setup.system, setup.model_noise_std)])


setup = Setup(
    name="blanke2024-lorenz63",
    system=Lorenz63(),
    steps=32,
    dt=0.05,
    model_noise_std=0.05**0.5,
    noise_std=0.05,
    noise_unit=in_spreads,
    law={"components": ["x"], "every": 8, "offset": "random"},
    source="arXiv:2406.15076",
    published={
        "optimal interpolation": Score(0.52, 200, "the first guess: climatology of the windows", 0.05, _interpolation),
        "4D-Var": Score(
            0.32, 200, "weak constraint, 30 Levenberg-Marquardt steps from optimal interpolation", 0.2, _four_d_var
        ),
        "Blanke et al. (2024)": Score(
            0.150, None, "the authors' network on their budget, 1,800 windows and 300 epochs, on its own test windows"
        ),
        "Bayes limit": Score(0.055, 1000, "posterior mean by importance weights on 1.4 million simulated windows"),
    },
)
