"""Whatever survives of what was not synced: nothing observed is lost, nothing made up is found."""

import random
from pathlib import Path

from fake_disk import Died, FakeDisk
from journals import FIRST_SEARCH, batches_in, batches_of, journal_at
from soak_budget import budget

PATH = Path("/nowhere/search/journal.jsonl")
BATCHES = batches_of(6)
NUM_STATES = budget(quick=3_000, soak=100_000)
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
        journal.append(FIRST_SEARCH, batch)
        observed.append(batch)


def test_no_power_cut_loses_what_was_observed():
    num_states = num_torn = 0
    for seed in range(NUM_STATES):
        rng = random.Random(seed)
        disk, observed = FakeDisk(), []
        disk.rng = rng
        for _ in range(rng.randint(1, 4)):
            disk.steps_left = rng.randrange(MOST_STEPS)
            try:
                live(disk, observed)
            except Died:
                disk.steps_left = None
                if rng.random() < 0.8:
                    disk = disk.lose_power()
                    num_states += 1
                    content = disk.content or b""
                    num_torn += not content.endswith(b"\n") and content != b""
        disk.steps_left = None
        live(disk, observed)
        assert observed == BATCHES
        assert batches_in(journal_at(PATH, disk=FakeDisk(disk.durable)).read()) == BATCHES
        assert disk.named
    assert num_states >= NUM_STATES
    assert num_torn > num_states / 20


def test_every_subset_of_the_pages_of_the_last_record_is_cut_off_or_whole():
    disk = FakeDisk()
    journal = journal_at(PATH, disk=disk)
    journal.recover()
    journal.append(FIRST_SEARCH, BATCHES[0])
    before = len(disk.content)
    journal.append(FIRST_SEARCH, BATCHES[1])
    content = disk.content
    num_pages = 12
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
