"""The journal: on disk before it returns, whole after a kill, refused under other settings."""

import json

import pytest

from harness.errors import RunError
from harness.search.journal import Journal
from harness.spec.policy import Policy

HEADER = {"network": "abc", "images": 10}
LOW, HIGH = Policy([(8, 8), (2, 2)]), Policy([(8, 8), (6, 6)])


def test_reopened_journal_knows_what_was_added(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER).add([LOW, HIGH], [7, 3])
    assert Journal(path, HEADER).errors == {LOW: 7, HIGH: 3}


def test_every_prefix_of_the_file_opens_to_whole_batches(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, HEADER)
    journal.add([LOW], [7])
    journal.add([HIGH], [3])
    content = path.read_bytes()
    head = content.index(b"\n") + 1
    for length in range(head, len(content) + 1):
        path.write_bytes(content[:length])
        assert Journal(path, HEADER).errors in ({}, {LOW: 7}, {LOW: 7, HIGH: 3})


def test_journal_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER).add([LOW], [7])
    with path.open("a") as file:
        file.write('{"policies": [[[8, 8')
    Journal(path, HEADER).add([HIGH], [3])
    assert Journal(path, HEADER).errors == {LOW: 7, HIGH: 3}
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_journal_of_other_settings_is_refused_and_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER).add([LOW], [7])
    before = path.read_bytes()
    with pytest.raises(RunError, match="was made with other weights, images or settings"):
        Journal(path, {**HEADER, "images": 11})
    assert path.read_bytes() == before


def test_ranks_beside_the_first_keep_nothing_on_disk(tmp_path):
    journal = Journal(None, HEADER)
    journal.add([LOW], [7])
    assert journal.errors == {LOW: 7}
