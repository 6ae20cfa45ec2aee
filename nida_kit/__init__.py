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
                          learn from); mixture, combinations, field_mixture, regular (how they are observed); save,
                          load, Card
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
    flags           quality flags: which values they call good
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
    commands        what the shell command `nida` does; `cli` gives it names and options
    notebook, html  parameters of notebooks are checked, records are read; how objects show themselves there
    names           public names: `__init__.pyi` lists them, with the module of each

A measurement becomes part of a Gaussian in two steps: `Observations.around` (observing/observations.py) writes it as
rows about the estimate, and `Gaussian.condition` (gaussian.py) stacks them under those of the prior. The gradient of
the one linear solve behind `Gaussian.mean` is taken in `_Implicit` (gaussian.py), by one more solve.
"""

from nida_kit import names

__getattr__, __dir__, __all__ = names.listed(__name__, __file__)
