"""Nothing of the process is changed by being quiet."""

import threading
import warnings

import pytest

from nida_kit import notes


def test_threads_that_overlap_leave_the_filters_as_they_were():
    before, inside, leave = list(warnings.filters), threading.Event(), threading.Event()

    def first():
        with notes.quiet():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with pytest.warns(UserWarning, match="heard"):  # another thread is quiet, this one is not
        notes.warn("heard")
    leave.set()
    thread.join()
    assert warnings.filters == before


def test_nothing_is_said_where_it_is_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with notes.quiet():
            notes.warn("never heard")
