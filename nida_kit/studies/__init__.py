"""The measurements behind README and notebooks: one short file, one command and one JSON beside it each.

The JSON of `peers` is in `figures/`, for no notebook reads it.

    limit         the least error that any method can have, and the posterior itself under the paper's law (NetCDF)
    laws          error of every method under many observation laws, beside that limit
    training      what matters in training, by ablation on validation windows
    epochs        error against training epoch, a line per temperature
    until         how long a training takes to an error
    fresh         shipped priors on windows that no other study draws, beside the limit
    few           a prior from few windows of a real record
    real          two real records, reconstructed where values were withheld
    calibration   whether the spread is a probability forecast
    sampling      draws against the particle reference
    cost          error against time, physics steps and model evaluations
    published     the classical methods against scores that others published
    classical     the classical methods on the windows of Lorenz-63
    ring          the same on Lorenz-96, and the prior on rings of other sizes
    speed         cycles per second, alone and in a batch
    faster        what would make NIDA faster, and what of its error that would cost
    peers         time, error, lines and memory beside other packages, each in its own best settings
    scaling       cost against window length and state size
    growth        exponents of the cost in windows, steps, sites, cells, members and workers
    fields_scale  cost of fields of millions of values, and of one larger than memory
    model_error   priors and 4D-Var built on wrong physics
    history       300 cycles of the ocean: filters, smoothers, and windows that know a past
    ocean         methods beside each other on windows of the ocean
    accuracy      error against seconds of everyone on three systems, as the studies before found them
    figures       draws the notebooks' figures anew

`python -m nida_kit.studies.limit` measures and writes; every function behind it takes sizes, so that notebooks and
tests run the same thing small.
"""
