"""Ways to reconstruct a trajectory from observations. All give the same labelled answer, `Method.assimilate`.

    method, lazy, records             what all share: labels, checks, records, draws, Dask
    interpolation, smoothers, neural  one loop over priors: climatology, a model, a network
    weak, strong, starts              4D-Var: descents to the most probable trajectory, from one start or many
    field_weak                        4D-Var for fields, by conjugate gradients
    residuals, robust                 what an answer leaves of the observations; errors with heavy tails
    compose, seasonal                 methods after one another, windows that grow; methods of anomalies
    cycled                            long records, window by window
    tiled                             fields larger than memory, tile by tile
    sequential, cycling               what walks through time shares: forecast and analysis, windows with a lag
    filters                           3D-Var and the extended Kalman filter
    ensemble, enkf, letkf, ienks      covariances from members that the model carries along
    particles, particle_filter, particle_smoother, importance   the posterior itself, by weighted simulations

A method implements `Method.reconstruct`, on tensors; everything else is inherited.
"""
