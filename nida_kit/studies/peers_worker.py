"""One contender in a process of its own, which works when it is told to.

    python -P peers_worker.py FILE FUNCTION DATA ANSWER

FILE is `peers_ours.py` or `peers_theirs.py`; FUNCTION there takes the arrays of DATA (npz) and gives a function without
arguments. Each line of the standard input calls that, and is answered by a line of JSON: the processor's seconds, and
by how many megabytes the process' peak has grown. The first answer is kept in ANSWER. A later turn calls it twice, and
the second call counts: while a process waits, its memory leaves the caches. This file runs in the peers' environment,
too, so it needs nothing of this package.
"""

import importlib.util
import json
import resource
import sys
from time import process_time

import numpy as np


def load(file: str, function: str):
    """A function of a file, which is imported by its place."""
    spec = importlib.util.spec_from_file_location("contenders", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)


def peak() -> float:
    """Most memory that this process has held, in megabytes; Linux counts in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main(file: str, function: str, data: str, answer: str) -> None:
    """Serve until the input ends."""
    out, sys.stdout = sys.stdout, sys.stderr  # packages print as they please; the answers go elsewhere
    with np.load(data) as arrays:
        work = load(file, function)(dict(arrays))
    before, kept = peak(), False
    for _ in sys.stdin:
        if kept:
            work()
        began = process_time()
        found = work()
        seconds = process_time() - began
        print(json.dumps({"seconds": seconds, "megabytes": peak() - before}), file=out, flush=True)
        if not kept:
            np.save(answer, np.asarray(found))
            kept = True


if __name__ == "__main__":
    main(*sys.argv[1:])
