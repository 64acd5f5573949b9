"""No damage of a journal is silent: it is refused, without effect, or that of the last record.

The last record alone can also be one that a power cut tore, so it is cut off, with a warning; its
policies are evaluated again.
"""

import itertools
import logging
import random
from pathlib import Path

import pytest
from fake_disk import FakeDisk
from journals import FIRST_SEARCH, batches_in, batches_of, journal_at, written, wrong_of
from soak_budget import budget

from harness.errors import RunError

PATH = Path("/nowhere/journal.jsonl")
BATCHES = batches_of(4)
NUM_FLIPS = budget(quick=10_000, soak=300_000)


def whole_journal():
    disk = FakeDisk()
    written(PATH, BATCHES, disk=disk)
    return disk.durable


def outcome_of(content, caplog):
    """Return `refused`, `same` or `cut`; anything else fails."""
    caplog.clear()
    disk = FakeDisk(content)
    try:
        found = batches_in(journal_at(PATH, disk=disk).recover())
    except RunError:
        assert disk.content == content
        return "refused"
    if found == BATCHES:
        # Not the values alone: what is kept is what was written.
        assert not caplog.records
        return "same"
    assert found == BATCHES[:-1]
    (warning,) = caplog.records
    assert "is a torn record, which does not count" in warning.getMessage()
    return "cut"


def flipped(content, rng):
    """Return bytes with some bits flipped: one, several anywhere, a burst, or in two records."""
    damaged = bytearray(content)
    kind = rng.choice(("one", "some", "burst", "last two"))
    start = rng.randrange(8 * len(content))
    if kind == "one":
        places = [start]
    elif kind == "some":
        places = rng.sample(range(8 * len(content)), rng.randint(2, 16))
    elif kind == "burst":
        places = [p for p in range(start, start + 64) if rng.random() < 0.5]
    else:
        last = content.rindex(b"\n", 0, -1) + 1
        before = content.rindex(b"\n", 0, last - 1) + 1
        places = [rng.randrange(8 * before, 8 * last)]
        places += [rng.randrange(8 * last, 8 * len(content)) for _ in range(rng.randint(1, 3))]
    for place in places:
        if place < 8 * len(content):
            damaged[place // 8] ^= 1 << place % 8
    first = min(place // 8 for place in places)
    return bytes(damaged), first


def test_no_flip_is_silent(caplog):
    caplog.set_level(logging.WARNING)
    content = whole_journal()
    last = content.rindex(b"\n", 0, -1) + 1
    outcomes = []
    for seed in range(NUM_FLIPS):
        damaged, first = flipped(content, random.Random(seed))
        outcome = outcome_of(damaged, caplog)
        assert outcome != "same" or damaged == content, seed
        # What was on disk before the last record was begun is never lost.
        assert outcome != "cut" or first >= last, seed
        outcomes.append(outcome)
    assert outcomes.count("refused") > NUM_FLIPS / 2
    assert outcomes.count("cut") > NUM_FLIPS / 100


def test_every_single_flip_before_the_last_record_is_refused(caplog):
    content = whole_journal()
    last = content.rindex(b"\n", 0, -1) + 1
    for place in range(8 * last):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        assert outcome_of(bytes(damaged), caplog) == "refused", place


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b" ", b"\n", b'"}\n'])
def test_lost_sectors_before_the_last_record_are_refused(caplog, fill):
    content = whole_journal()
    last = content.rindex(b"\n", 0, -1) + 1
    for size, start in itertools.product((1, 16, 64, 512), range(0, last, 3)):
        stop = min(start + size, last)
        lost = (fill * size)[: stop - start]
        damaged = content[:start] + lost + content[stop:]
        if damaged != content:
            assert outcome_of(damaged, caplog) == "refused", (size, start)


def test_lines_that_are_missing_doubled_or_moved_are_refused(caplog):
    lines = whole_journal().splitlines(keepends=True)
    orders = set(itertools.permutations(range(len(lines))))
    orders |= {order for n in range(2, 5) for order in itertools.permutations(range(5), n)}
    orders |= {(0, 1, 1, 2, 3, 4), (0, 1, 2, 3, 4, 4), (0, 0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 1)}
    for order in sorted(orders):
        # Whole records from the first on are those of an earlier moment.
        if order != tuple(range(len(order))):
            content = b"".join(lines[index] for index in order)
            assert outcome_of(content, caplog) == "refused", order


def test_what_was_cut_off_is_evaluated_again_to_the_same_file():
    content = whole_journal()
    disk = FakeDisk(content[:-9] + b"\0" * 9)
    journal = journal_at(PATH, disk=disk)
    for batch in BATCHES[len(journal.recover()) :]:
        journal.append(FIRST_SEARCH, batch, wrong_of(batch))
    assert disk.durable == content
