"""The journal: on disk before it returns, whole after a kill, refused under other settings."""

import json

import pytest
from made_networks import network_of

from harness.errors import RunError
from harness.problem.policy import Policy
from harness.search.journal import Journal

HEADER = {"network": "abc", "images": 10}
NETWORK = network_of([(1, 1), (1, 1), (1, 1)])
LOW, HIGH = Policy([(8, 8), (2, 2), (8, 8)]), Policy([(8, 8), (6, 6), (8, 8)])


def test_reopened_journal_knows_what_was_added(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, NETWORK).add([LOW, HIGH], [7, 3])
    assert Journal(path, HEADER, NETWORK).errors == {LOW: 7, HIGH: 3}


def test_every_prefix_of_the_file_opens_to_whole_batches(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, HEADER, NETWORK)
    journal.add([LOW], [7])
    journal.add([HIGH], [3])
    content = path.read_bytes()
    head = content.index(b"\n") + 1
    for length in range(head, len(content) + 1):
        path.write_bytes(content[:length])
        assert Journal(path, HEADER, NETWORK).errors in ({}, {LOW: 7}, {LOW: 7, HIGH: 3})


def test_journal_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, NETWORK).add([LOW], [7])
    with path.open("a") as file:
        file.write('{"policies": [[[8, 8')
    Journal(path, HEADER, NETWORK).add([HIGH], [3])
    assert Journal(path, HEADER, NETWORK).errors == {LOW: 7, HIGH: 3}
    assert all(json.loads(line) for line in path.read_text().splitlines())


GOOD = b'{"policies": [[[8, 8], [2, 2], [8, 8]]], "errors": [7]}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD[:20], "Expecting"),
        (b"", "Expecting value"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
        (b"[1]", "a list, not an object"),
        (b"null", "a NoneType, not an object"),
        (b"{}", "'policies'"),
        (GOOD.replace(b"[7]", b"[7, 8]"), "1 policies with 2 errors"),
        (GOOD.replace(b"[7]", b"7"), "'int' object is not iterable"),
        (GOOD.replace(b"[7]", b"[null]"), "an error that is no count up to 10"),
        (GOOD.replace(b"[7]", b"[-1]"), "an error that is no count up to 10"),
        (GOOD.replace(b"[7]", b"[11]"), "an error that is no count up to 10"),
        (GOOD.replace(b"[7]", b"[7.0]"), "an error that is no count up to 10"),
        (GOOD.replace(b"[2, 2], ", b""), "2 layers, not 3"),
        (GOOD.replace(b"[2, 2]", b"[2]"), "not enough values to unpack"),
        (GOOD.replace(b"[2, 2]", b"[99, 2]"), "layer layer1 has 99 weight bits.* 3, 2"),
        (GOOD.replace(b"[2, 2]", b"[Infinity, 2]"), "bits that are no whole numbers"),
        (GOOD.replace(b"[2, 2]", b"[2.5, 2]"), "bits that are no whole numbers"),
        (GOOD.replace(b"[2, 2]", b'"22"'), "bits that are no whole numbers"),
        (GOOD.replace(b"[2, 2]", b"2"), "'int' object is not iterable"),
        (GOOD.replace(b"[2, 2]", b"[6, 6]"), "7 errors, 3 earlier"),
        (b"\xff", "invalid start byte"),
    ],
)
def test_damage_before_the_last_line_is_refused_and_kept(tmp_path, line, reason):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, NETWORK).add([HIGH], [3])
    path.write_bytes(path.read_bytes() + line + b"\n" + GOOD + b"\n")
    before = path.read_bytes()
    with pytest.raises(
        RunError,
        match=rf"^journal: line 3 of {path} is damaged \(.*{reason}[^;]*\); "
        r"restore it, or give another --out to search anew$",
    ):
        Journal(path, HEADER, NETWORK)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"\n", b"[1]\n", b"{}\n", b"\xff\n", b"\xff", b"mine"])
def test_what_has_no_header_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"^journal: line 1 of {path} is damaged \(.*\); restore"):
        Journal(path, HEADER, NETWORK)
    assert path.read_bytes() == content


def test_torn_last_line_may_be_any_bytes(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, NETWORK).add([LOW], [7])
    path.write_bytes(path.read_bytes() + b"\xff\x00")
    assert Journal(path, HEADER, NETWORK).errors == {LOW: 7}


def test_journal_starts_with_what_is_known_in_one_write(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    # A kill between two writes would leave a journal that lacks what was known.
    monkeypatch.setattr(Journal, "add", None)
    Journal(path, HEADER, NETWORK, known={LOW: 7})
    assert Journal(path, HEADER, NETWORK, known={HIGH: 3}).errors == {LOW: 7, HIGH: 3}
    assert Journal(path, HEADER, NETWORK).errors == {LOW: 7, HIGH: 3}


def test_journal_goes_before_what_is_known_from_elsewhere(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, NETWORK).add([LOW], [7])
    assert Journal(path, HEADER, NETWORK, known={LOW: 8, HIGH: 3}).errors == {LOW: 7, HIGH: 3}


@pytest.mark.parametrize("length", [0, 1, 10])
def test_journal_killed_in_its_first_line_starts_anew(tmp_path, length):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, NETWORK)
    path.write_bytes(path.read_bytes()[:length])
    assert Journal(path, HEADER, NETWORK).errors == {}


def test_journal_of_other_settings_is_refused_and_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, NETWORK).add([LOW], [7])
    before = path.read_bytes()
    with pytest.raises(RunError, match="was made with other weights, images or settings"):
        Journal(path, {**HEADER, "images": 11}, NETWORK)
    assert path.read_bytes() == before


def test_ranks_beside_the_first_keep_nothing_on_disk(tmp_path):
    journal = Journal(None, HEADER, NETWORK)
    journal.add([LOW], [7])
    assert journal.errors == {LOW: 7}
