"""What a reference experiment is made of; the experiments themselves are the files of `setups`.

    setup    windows of a system, and the law that observes them
    cycling  one long trajectory, observed again and again: experiments of filters
    score    a number that somebody published, and the method that should reach it
    static   methods of a cycled experiment that carry nothing from one time to the next

An experiment is data: it says what is done, and `run` does it with any method.
"""
