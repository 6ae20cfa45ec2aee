"""Reconstruct trajectories from sparse, noisy observations.

>>> import nida_kit as nk
>>> truth = nk.Lorenz63().simulate(samples=2, steps=32, dt=0.05, seed=0)
>>> obs = nk.observe(truth, components=["x"], every=8, noise_std=0.4, seed=1)
>>> result = nk.NeuralIncremental.pretrained("lorenz63", temperatures=4).assimilate(obs)
>>> score = nk.rmse(result["mean"], truth)

What there is, by what one wants to do; `help(nk.observe)` and so on say more:

    read observations     load_observations, grid; extend (further steps, to forecast)
    make some             Lorenz63, Lorenz96, Pendulum, LinearOscillator, LinearModel, QuasiGeostrophic,
                          TwoLayerQuasiGeostrophic, System (a system of your own), Started, OnAttractor, Continued,
                          Transformed (positive states, say); observe, over_window; tracks, shifting_points, clouds
                          (where and when a field is seen)
    reconstruct them      NeuralIncremental, OptimalInterpolation, ClimatologicalForecast, Seasonal, KalmanSmoother,
                          WeakFourDVar, FieldFourDVar, StrongFourDVar, ExtendedKalmanFilter, ThreeDVar, EnKF, EnKS,
                          LETKF, IEnKS, ParticleFilter, ParticleSmoother, ImportanceSampler; Chain, QuasiStatic (of
                          several); Cycled (a long record, window by window); tiled (a field larger than memory);
                          method_of (weights); schedule (of temperatures); each is a Method:
                          assimilate(obs), sample(obs, samples)
    look at the result    plot, table
    score it              rmse, mse, coverage, reliability, crps, crps_ensemble, energy_score, wasserstein,
                          rank_histogram, spread_error, spread_error_ratio; resolved_scales (of fields)
    train a prior         train, Settings, NeuralPrior, RingPrior, FieldPrior, PaperPrior; simulated, fixed (windows to
                          learn from); mixture, field_mixture, regular (how they are observed); save, load, Card
    know the past         Climatology, FieldClimatology, EnsembleClimatology, MultiscaleClimatology, Season, windows,
                          Physics, FieldPhysics, Gaussian
    name a state          StateLabels, GridLabels
    repeat experiments    setups: setups.list(), setups.run(name)

In a shell, `nida --help`.

The package reads top to bottom as the data flows:

    simulate -> observe -> prior -> condition -> assimilate -> evaluate -> explore

Each folder's own `__init__` lists its modules.

    state           a state's dims, coordinates and units
    units, dates    declared units are converted; dates become numbers in a method's unit of time
    record          a record of the past: its season, its windows
    edge            labelled arrays become tensors, fields are folded to vectors; and back
    checks          what users give is checked, each question in one place
    linalg          whitened rows J of a trajectory, and the ways to solve with them
    gaussian        r + J (x - c) ~ N(0, I): a Gaussian, or a statement that becomes one beside others; conditioning
    statement       what the loop asks for: statements that can be linearised, and priors
    systems         dynamical systems and their trajectories
    observing       what is measured, with which errors, and what it says of a trajectory
    priors          what is known before observing: climatology, physics, networks; and networks on disk
    loop            the loop over priors: ask, condition, move; `schedule` has its temperatures
    descent         the loop with damping, for what is not linear
    methods         `Method.assimilate`: everything that reconstructs; `reconstruction` is what it found
    training        networks are trained end to end, through the solve
    pretrained      shipped weights
    evaluate        scores
    reference       what a reference experiment is made of
    setups          reference experiments, a short file each, with published scores
    line            Bayes on a line, the smallest assimilation
    minima          4D-Var's cost between a start, its minimum and the truth
    experiment      one function behind every lab: parameters in, a dataset out
    ocean           the same of an ocean seen by satellites
    worlds          the same of a truth, and of a belief about it
    table, show     results as tables and figures: `nk.table`, `nk.plot`
    plots, lab      figures and labs, which are imported by their own names only
    studies         the measurements behind README and notebooks
    doctor          what a machine lacks for all this
    exercises       checks of the exercises in notebooks
    challenges      games with a score
    commands        what the shell command `nida` does
    notebook, html  parameters of notebooks are checked, records are read; how objects show themselves there

A measurement becomes part of a Gaussian in two steps: `Observations.around` (observing/observations.py) writes it as
rows about the estimate, and `Gaussian.condition` (gaussian.py) stacks them under those of the prior. The gradient of
the one linear solve behind `Gaussian.mean` is taken in `_Implicit` (gaussian.py), by one more solve.
"""

from nida_kit import schedule, setups
from nida_kit.edge import load_observations
from nida_kit.evaluate import (
    coverage,
    crps,
    crps_ensemble,
    energy_score,
    mse,
    rank_histogram,
    reliability,
    resolved_scales,
    rmse,
    spread_error,
    spread_error_ratio,
    wasserstein,
)
from nida_kit.gaussian import Gaussian
from nida_kit.methods.compose import Chain, QuasiStatic
from nida_kit.methods.cycled import Cycled
from nida_kit.methods.enkf import EnKF, EnKS
from nida_kit.methods.field_weak import FieldFourDVar
from nida_kit.methods.filters import ExtendedKalmanFilter, ThreeDVar
from nida_kit.methods.ienks import IEnKS
from nida_kit.methods.importance import ImportanceSampler
from nida_kit.methods.interpolation import ClimatologicalForecast, OptimalInterpolation
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental, method_of
from nida_kit.methods.particle_filter import ParticleFilter
from nida_kit.methods.particle_smoother import ParticleSmoother
from nida_kit.methods.seasonal import Seasonal
from nida_kit.methods.smoothers import KalmanSmoother
from nida_kit.methods.strong import StrongFourDVar
from nida_kit.methods.tiled import tiled
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.observing.extend import extend
from nida_kit.observing.grid import grid
from nida_kit.observing.laws import field_mixture, mixture, regular
from nida_kit.observing.observe import observe
from nida_kit.observing.operators import over_window
from nida_kit.observing.tracks import clouds, shifting_points, tracks
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.ensemble import EnsembleClimatology
from nida_kit.priors.field import FieldPrior
from nida_kit.priors.field_physics import FieldPhysics
from nida_kit.priors.modes import FieldClimatology
from nida_kit.priors.multiscale import MultiscaleClimatology
from nida_kit.priors.paper import PaperPrior
from nida_kit.priors.physics import Physics
from nida_kit.priors.ring import RingPrior
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.priors.weights import Card, load, save
from nida_kit.record import Season, windows
from nida_kit.show import plot
from nida_kit.state import GridLabels, StateLabels
from nida_kit.systems.linear import LinearModel
from nida_kit.systems.lorenz import Lorenz63, Lorenz96
from nida_kit.systems.pendulum import LinearOscillator, Pendulum
from nida_kit.systems.quasigeostrophic import QuasiGeostrophic
from nida_kit.systems.system import System
from nida_kit.systems.two_layer import TwoLayerQuasiGeostrophic
from nida_kit.systems.wrapped import Continued, OnAttractor, Started, Transformed
from nida_kit.table import table
from nida_kit.training.train import Settings, fixed, simulated, train

__all__ = [
    "LETKF",
    "Card",
    "Chain",
    "ClimatologicalForecast",
    "Climatology",
    "Continued",
    "Cycled",
    "EnKF",
    "EnKS",
    "EnsembleClimatology",
    "ExtendedKalmanFilter",
    "FieldClimatology",
    "FieldFourDVar",
    "FieldPhysics",
    "FieldPrior",
    "Gaussian",
    "GridLabels",
    "IEnKS",
    "ImportanceSampler",
    "KalmanSmoother",
    "LinearModel",
    "LinearOscillator",
    "Lorenz63",
    "Lorenz96",
    "Method",
    "MultiscaleClimatology",
    "NeuralIncremental",
    "NeuralPrior",
    "OnAttractor",
    "OptimalInterpolation",
    "PaperPrior",
    "ParticleFilter",
    "ParticleSmoother",
    "Pendulum",
    "Physics",
    "QuasiGeostrophic",
    "QuasiStatic",
    "RingPrior",
    "Season",
    "Seasonal",
    "Settings",
    "Started",
    "StateLabels",
    "StrongFourDVar",
    "System",
    "ThreeDVar",
    "Transformed",
    "TwoLayerQuasiGeostrophic",
    "WeakFourDVar",
    "clouds",
    "coverage",
    "crps",
    "crps_ensemble",
    "energy_score",
    "extend",
    "field_mixture",
    "fixed",
    "grid",
    "load",
    "load_observations",
    "method_of",
    "mixture",
    "mse",
    "observe",
    "over_window",
    "plot",
    "rank_histogram",
    "regular",
    "reliability",
    "resolved_scales",
    "rmse",
    "save",
    "schedule",
    "setups",
    "shifting_points",
    "simulated",
    "spread_error",
    "spread_error_ratio",
    "table",
    "tiled",
    "tracks",
    "train",
    "wasserstein",
    "windows",
]
