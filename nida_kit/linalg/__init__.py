"""The linear algebra: whitened rows, the matrices that they make, and the ways to solve with them.

    rows         linear maps J, known by J v and J' w
    solvers      chooses how to solve with them, and checks the answer
    banded       J' J by its blocks in time: LAPACK and odd-even elimination
    square_root  J itself, triangular along time, where J' J would lose too many digits
    cg           conjugate gradients, where J' J is too large to be written down
    arcs         a large ring by overlapping arcs of near sites
    covariance   covariances that whiten and colour
    pyramid      finer and coarser grids by splines
    fields       generators of fields, x = c + L z
    jacobian     slopes of functions of single states
    taper        correlations that end at a distance

Only this folder opens a band's blocks.
"""
