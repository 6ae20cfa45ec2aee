"""Dynamical systems x' = f(x), or f(x, t), and their trajectories.

    system            what a system is: a tendency, labels, a start; steps and trajectories follow from it
    lorenz            Lorenz (1963) and Lorenz (1996), chaotic
    pendulum          a pendulum, and its linear limit
    linear            a linear model of given steps, as it is fitted to data
    quasigeostrophic  a turbulent ocean in a box, of one layer
    two_layer         the same over water that moves as well
    wrapped           a system made of another one: with another start, or with fields as vectors

A system knows nothing of observations, priors or methods.
"""
