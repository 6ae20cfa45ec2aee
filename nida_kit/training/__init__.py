"""Networks are trained end to end, through the linear solve.

    train       the loss, the loop over random windows and observations, checkpoints
    processes   several processes, GPUs or machines train one prior
    validation  windows held out: how well they are told, and by optimal interpolation
    checkpoint  what a training has come to, on disk
    fields      the network of a field, in two stages; `ocean` is how the shipped one was made
    muon        the optimiser of the matrices within a network
    own         a prior for trajectories of one's own, in one call
    recipes     how each shipped prior was made, and how it is scored

Training changes a network's weights; its climatology stays as it was given.
"""
