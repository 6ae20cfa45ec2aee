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
from nida_kit.assimilate.ensemble import LETKF, EnKF, EnKS, IEnKS
from nida_kit.assimilate.method import Chain, Method, QuasiStatic
from nida_kit.assimilate.methods import (
    ClimatologicalForecast,
    KalmanSmoother,
    NeuralIncremental,
    OptimalInterpolation,
    WeakFourDVar,
)
from nida_kit.assimilate.particle import ImportanceSampler, ParticleFilter, ParticleSmoother
from nida_kit.assimilate.sequential import ExtendedKalmanFilter, ThreeDVar
from nida_kit.assimilate.strong import StrongFourDVar
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
from nida_kit.labels import StateLabels, load_observations
from nida_kit.observe import mixture, observe, regular
from nida_kit.prior import Climatology, NeuralPrior, PaperPrior, Physics, RingPrior
from nida_kit.simulate import LinearOscillator, Lorenz63, Lorenz96, OnAttractor, Pendulum, Started, System
from nida_kit.train import Settings, fixed, simulated, train
from nida_kit.weights import Card, load, save

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
