"""Nothing of the process is changed by being quiet."""

import threading
import warnings

import pytest

import nida_kit as nk
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


def test_notes_are_gathered_once_and_by_who_asks_last():
    with notes.gathered() as outer:
        with notes.gathered() as inner:
            notes.warn("a")
            notes.warn("a")
        notes.warn("b")
    assert (inner, outer) == (["a"], ["b"])
    with pytest.warns(UserWarning, match="c"):
        notes.warn("c")


def test_what_a_method_warns_of_stands_in_its_result():
    system = nk.LinearOscillator()
    obs = nk.observe(system.simulate(1, 6, 0.1, seed=2), noise_std=1e-4, seed=1)
    with pytest.warns(UserWarning, match="ewer than 10 particles count"):
        found = nk.ParticleSmoother(system, 0.1, particles=20, draws=4, repeats=1).assimilate(obs)
    assert "ewer than 10 particles count" in found.attrs["note"]
