"""What is known of a trajectory before it is observed. Each prior is asked at an estimate, and answers with a Gaussian.

    climatology  mean and covariance of past trajectories, the same at every estimate
    moments      these of windows with gaps, or of few
    modes        those of large fields, by their leading modes
    ensemble     the same by localised windows of the past
    multiscale   the same of up to millions of values, by a few scales of noise; `scales` fits them
    calibration  how far to trust the spread of modes and of scales, measured on windows of the past
    physics      a start and the steps of a model, linearised at the estimate
    field_physics  the same for fields, with no covariance or slopes written down
    drawn        the spread of a field, from draws
    parts        what networks are made of, and `LocalPrior`, the base of all that look at the estimate
    temporal     the network for a few components that all differ
    ring         the network for like sites on a ring
    paper        the network of the paper, for windows of one length
    weights      trained networks on disk

No prior sees what is observed, so each serves any observations.
"""
