"""Reconstruct trajectories from sparse, noisy observations.

The package reads top to bottom as the data flows:

    simulate -> observe -> prior -> condition -> assimilate -> evaluate -> explore

    labels      dims, units and names: the one edge between xarray and tensors
    simulate    systems and their trajectories
    observe     observation operators and processes
    banded      the linear algebra: matrices that are block-banded in time
    gaussian    Gaussians over trajectories, and conditioning
    prior       what is known before observing: climatology, physics, networks
    assimilate  the loop over priors, the methods that it makes, and the particles that they are held against
    muon, train end-to-end training of a neural prior
    weights     trained priors on disk
    evaluate    scores
    setups      reference experiments
    line        Bayes on a line, the smallest assimilation
    experiment  one function behind every lab; then plots, studies and lab, which are imported by name only

>>> import nida_kit as nk
>>> truth = nk.Lorenz63().simulate(samples=2, steps=32, dt=0.05, seed=0)
>>> obs = nk.observe(truth, components=["x"], every=8, noise_std=0.4, seed=1)
>>> result = nk.NeuralIncremental.pretrained("lorenz63", temperatures=4).assimilate(obs)
>>> score = nk.rmse(result["mean"], truth)
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
    rmse,
    spread_error,
    spread_error_ratio,
    wasserstein,
)
from nida_kit.gaussian import Gaussian
from nida_kit.methods.compose import Chain, QuasiStatic
from nida_kit.methods.enkf import EnKF, EnKS
from nida_kit.methods.filters import ExtendedKalmanFilter, ThreeDVar
from nida_kit.methods.ienks import IEnKS
from nida_kit.methods.importance import ImportanceSampler
from nida_kit.methods.interpolation import ClimatologicalForecast, OptimalInterpolation
from nida_kit.methods.letkf import LETKF
from nida_kit.methods.method import Method
from nida_kit.methods.neural import NeuralIncremental
from nida_kit.methods.particle_filter import ParticleFilter
from nida_kit.methods.particle_smoother import ParticleSmoother
from nida_kit.methods.smoothers import KalmanSmoother
from nida_kit.methods.strong import StrongFourDVar
from nida_kit.methods.weak import WeakFourDVar
from nida_kit.observing.laws import mixture, regular
from nida_kit.observing.observe import observe
from nida_kit.priors.climatology import Climatology
from nida_kit.priors.paper import PaperPrior
from nida_kit.priors.physics import Physics
from nida_kit.priors.ring import RingPrior
from nida_kit.priors.temporal import NeuralPrior
from nida_kit.priors.weights import Card, load, save
from nida_kit.state import StateLabels
from nida_kit.systems.lorenz import Lorenz63, Lorenz96
from nida_kit.systems.pendulum import LinearOscillator, Pendulum
from nida_kit.systems.system import System
from nida_kit.systems.wrapped import OnAttractor, Started
from nida_kit.training.train import Settings, fixed, simulated, train

__all__ = [
    "LETKF",
    "Card",
    "Chain",
    "ClimatologicalForecast",
    "Climatology",
    "EnKF",
    "EnKS",
    "ExtendedKalmanFilter",
    "Gaussian",
    "IEnKS",
    "ImportanceSampler",
    "KalmanSmoother",
    "LinearOscillator",
    "Lorenz63",
    "Lorenz96",
    "Method",
    "NeuralIncremental",
    "NeuralPrior",
    "OnAttractor",
    "OptimalInterpolation",
    "PaperPrior",
    "ParticleFilter",
    "ParticleSmoother",
    "Pendulum",
    "Physics",
    "QuasiStatic",
    "RingPrior",
    "Settings",
    "Started",
    "StateLabels",
    "StrongFourDVar",
    "System",
    "ThreeDVar",
    "WeakFourDVar",
    "coverage",
    "crps",
    "crps_ensemble",
    "energy_score",
    "fixed",
    "load",
    "load_observations",
    "mixture",
    "mse",
    "observe",
    "rank_histogram",
    "regular",
    "reliability",
    "rmse",
    "save",
    "schedule",
    "setups",
    "simulated",
    "spread_error",
    "spread_error_ratio",
    "train",
    "wasserstein",
]
