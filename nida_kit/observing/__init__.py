"""What is measured of a trajectory, y = h(x) + eta, and what that says about it.

    operators     h: a matrix or a function of states, of their time, or of whole windows
    errors        eta ~ N(0, R): independent, correlated at each time, over the window, or along tracks
    observations  both as one statement about trajectories: here a measurement becomes part of a Gaussian
    observe       sparse, noisy observations of simulated trajectories, labelled
    tracks        where and when satellites measure a field, and what clouds hide
    points        fields at points between the grid's
    table         a user's table or dataset as checked columns, a row for each value
    axes          where these lie between the steps and points of the model's grid
    grid          as observations on that grid: combined by their errors, or interpolating
    extend        further steps at which nothing is observed
    laws          random patterns of observations, for training

Systems, observing and priors do not import one another; methods bring them together.
"""
