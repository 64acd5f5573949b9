"""kill -9 at any moment, with real processes and files: nothing is lost, nothing done twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import journal_victim
import pytest
from journals import batches_in, journal_at
from soak_budget import budget

ROOT = Path(__file__).parents[3]
TIMEOUT_SECONDS = budget(quick=120, soak=3_000)


def events_of(folder):
    lines = (folder / journal_victim.LOG).read_text().splitlines()
    for what, policies in map(json.loads, lines):
        yield what, {tuple(map(tuple, bits)) for bits in policies}


def check(folder):
    """Check what the lives of one search did; return how many there were."""
    num_lives, observed = 0, set()
    for what, policies in events_of(folder):
        if what == "known":
            num_lives += 1
            assert observed <= policies, "what was observed is lost"
            observed = policies
        elif what == "evaluated":
            assert not observed & policies, "what was observed is evaluated again"
        else:
            observed |= policies
    return num_lives


@pytest.mark.parametrize(
    ("how", "num_kills"),
    [("steps", budget(quick=150, soak=3_000)), ("times", budget(quick=60, soak=3_000))],
)
def test_killed_searches_go_on_to_the_same_journal(tmp_path, how, num_kills):
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), *filter(None, sys.path)])
    subprocess.run(
        [sys.executable, journal_victim.__file__, tmp_path, how, str(num_kills)],
        env={**os.environ, "PYTHONPATH": path}, check=True, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    journal_victim.live(undisturbed)
    expected = (undisturbed / journal_victim.JOURNAL).read_bytes()
    assert batches_in(journal_at(undisturbed / journal_victim.JOURNAL).read())[1:] == (
        journal_victim.BATCHES
    )
    folders = [path for path in tmp_path.iterdir() if path != undisturbed]
    assert all((path / journal_victim.JOURNAL).read_bytes() == expected for path in folders)
    # A life that is killed before it has read the journal says nothing.
    assert sum(map(check, folders)) > num_kills / 3
