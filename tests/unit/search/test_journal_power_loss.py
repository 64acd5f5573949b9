"""Whatever survives of what was not synced: nothing observed is lost, nothing made up is found."""

import random
from itertools import chain
from pathlib import Path

import pytest
from fake_disk import Died, FakeDisk
from journals import FIRST_SEARCH, batches_in, batches_of, journal_at, wrong_of
from soak_budget import budget

from harness.errors import RunError

PATH = Path("/nowhere/search/journal.jsonl")
BATCHES = batches_of(6)
NUM_STATES = budget(quick=2_000, soak=100_000)
MOST_STEPS = 30
"""More than a life that writes all batches has."""


def live(disk, observed):
    """Recover the journal and write what is missing, until the end or an untimely one.

    What was observed stands in `observed` at any moment.
    """
    journal = journal_at(PATH, disk=disk)
    found = batches_in(journal.recover())
    # Only what was being written may have come to be beyond what was observed.
    assert found in (BATCHES[: len(observed)], BATCHES[: len(observed) + 1])
    observed[:] = found
    for batch in BATCHES[len(found) :]:
        journal.append(FIRST_SEARCH, batch, wrong_of(batch))
        observed.append(batch)


def power_cuts(seed, kind=FakeDisk):
    """Let searches die up to four times, then end; yield the file after each power cut."""
    rng = random.Random(seed)
    disk, observed = kind(), []
    disk.rng = rng
    for _ in range(rng.randint(1, 4)):
        disk.steps_left = rng.randrange(MOST_STEPS)
        try:
            live(disk, observed)
        except Died:
            disk.steps_left = None
            if rng.random() < 0.8:
                disk = disk.lose_power()
                yield disk.content or b""
    disk.steps_left = None
    live(disk, observed)
    assert observed == BATCHES
    # What is on the disk, not what the system shows of it.
    assert disk.named
    assert batches_in(journal_at(PATH, disk=FakeDisk(disk.durable)).read()) == BATCHES


def test_no_power_cut_loses_what_was_observed():
    num_states = num_torn = seed = 0
    while num_states < NUM_STATES:
        for content in power_cuts(seed):
            num_states += 1
            num_torn += content[-1:] not in (b"", b"\n")
        seed += 1
    assert num_torn > num_states / 20


@pytest.mark.parametrize("method", ["sync", "sync_folder", "truncate"])
def test_the_model_notices_a_step_that_is_not_taken(method):
    """A disk that only says that it did what it was asked for loses something in some power cut."""

    def _next(self, content):
        disk = liar(content)
        disk.rng = self.rng
        return disk

    liar = type("Liar", (FakeDisk,), {method: lambda *_: None, "_next": _next})
    with pytest.raises((AssertionError, RunError)):
        list(chain.from_iterable(power_cuts(seed, liar) for seed in range(500)))


def test_every_subset_of_the_pages_of_the_last_record_is_cut_off_or_whole():
    disk = FakeDisk()
    journal = journal_at(PATH, disk=disk)
    journal.recover()
    journal.append(FIRST_SEARCH, BATCHES[0], wrong_of(BATCHES[0]))
    before = len(disk.content)
    journal.append(FIRST_SEARCH, BATCHES[1], wrong_of(BATCHES[1]))
    content = disk.content
    num_pages = 11
    page = -(-(len(content) - before) // num_pages)
    for fill in (b"\0", b"\n", b"}", b'"'):
        for subset in range(2**num_pages):
            survived = bytearray(content)
            for index in range(num_pages):
                if not subset >> index & 1:
                    start = before + index * page
                    stop = min(start + page, len(content))
                    survived[start:stop] = fill * (stop - start)
            found = batches_in(journal_at(PATH, disk=FakeDisk(bytes(survived))).read())
            assert found == BATCHES[: 2 if survived == content else 1]
