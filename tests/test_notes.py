"""Nothing of the process is changed by being quiet."""

import hashlib
import re
import threading
import warnings

import numpy as np
import pytest
import torch

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


def test_a_record_of_many_numbers_is_theirs_alone():
    numbers = np.random.default_rng(0).normal(size=80)
    record = notes.recorded(torch.from_numpy(numbers))
    span = f"{numbers.min():.6g} to {numbers.max():.6g}"
    assert re.fullmatch(rf"80 numbers from {span}, SHA-256 [0-9a-f]{{12}}\.\.\.", record)
    assert hashlib.sha256(numbers.tobytes()).hexdigest().startswith(record.split()[-1].removesuffix("..."))
    assert notes.recorded(torch.from_numpy(numbers.copy()).view(8, 10)) == record
    other = numbers.copy()
    other[[3, 4]] = other[[4, 3]]  # the same range
    assert notes.recorded(torch.from_numpy(other)) != record
    assert notes.recorded(torch.from_numpy(numbers[:50])) == numbers[:50].tolist()


def test_evenly_spaced_numbers_are_told_so_that_they_can_be_made_again():
    for made in (np.linspace(0.3, -0.7, 91), np.arange(60) * 0.05, np.full(70, 1 / 3)):
        record = notes.recorded(torch.from_numpy(made))
        ends = [float(x) for x in re.findall(r"-?[\d.]+(?:e-?\d+)?", record)[1:]]
        np.testing.assert_allclose(np.linspace(ends[0], ends[-1], len(made)), made, rtol=0, atol=1e-13)
    uneven = np.linspace(0.0, 1.0, 91)
    uneven[7] += 1e-6
    assert "SHA-256" in notes.recorded(torch.from_numpy(uneven))
