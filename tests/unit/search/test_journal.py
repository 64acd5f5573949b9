"""The journal file: whole after a kill, refused where it is damaged or of other settings."""

import json

import pytest
from made_networks import network_of

from harness.errors import RunError
from harness.problem.policy import Policy
from harness.search.journal import Journal

HEADER = {"network": "abc", "images": 10}
NETWORK = network_of([(1, 1), (1, 1), (1, 1)])
LOW, HIGH = Policy([(8, 8), (2, 2), (8, 8)]), Policy([(8, 8), (6, 6), (8, 8)])


def journal_at(path, header=HEADER):
    return Journal(path, header, NETWORK.candidates)


def begun(path, wrong_counts):
    journal = journal_at(path)
    journal.rewrite(wrong_counts)
    return journal


def test_journal_read_back_tells_what_was_written(tmp_path):
    path = tmp_path / "journal.jsonl"
    assert journal_at(path).read() == {}
    begun(path, {LOW: 7}).append({HIGH: 3})
    assert journal_at(path).read() == {LOW: 7, HIGH: 3}


def test_every_prefix_of_the_file_reads_as_whole_batches(tmp_path):
    path = tmp_path / "journal.jsonl"
    begun(path, {LOW: 7}).append({HIGH: 3})
    content = path.read_bytes()
    head = content.index(b"\n") + 1
    for length in range(head, len(content) + 1):
        path.write_bytes(content[:length])
        assert journal_at(path).read() in ({}, {LOW: 7}, {LOW: 7, HIGH: 3})


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
        (GOOD.replace(b"[7]", b"[7, 8]"), "1 policies with 2 counts"),
        (GOOD.replace(b"[7]", b"7"), "'int' object is not iterable"),
        (GOOD.replace(b"[7]", b"[null]"), "a count that is no whole number up to 10"),
        (GOOD.replace(b"[7]", b"[-1]"), "a count that is no whole number up to 10"),
        (GOOD.replace(b"[7]", b"[11]"), "a count that is no whole number up to 10"),
        (GOOD.replace(b"[7]", b"[7.0]"), "a count that is no whole number up to 10"),
        (GOOD.replace(b"[2, 2], ", b""), "2 layers, not 3"),
        (GOOD.replace(b"[2, 2]", b"[2]"), "not enough values to unpack"),
        (GOOD.replace(b"[2, 2]", b"[99, 2]"), "layer layer1 has 99 weight bits.* 3, 2"),
        (GOOD.replace(b"[2, 2]", b"[Infinity, 2]"), "bits that are no whole numbers"),
        (GOOD.replace(b"[2, 2]", b"[2.5, 2]"), "bits that are no whole numbers"),
        (GOOD.replace(b"[2, 2]", b'"22"'), "bits that are no whole numbers"),
        (GOOD.replace(b"[2, 2]", b"2"), "'int' object is not iterable"),
        (GOOD.replace(b"[2, 2]", b"[6, 6]"), "7 wrong images, 3 earlier"),
        (b"\xff", "invalid start byte"),
    ],
)
def test_damage_before_the_last_line_is_refused_and_kept(tmp_path, line, reason):
    path = tmp_path / "journal.jsonl"
    begun(path, {}).append({HIGH: 3})
    path.write_bytes(path.read_bytes() + line + b"\n" + GOOD + b"\n")
    before = path.read_bytes()
    with pytest.raises(
        RunError,
        match=rf"^journal: line 3 of {path} is damaged \(.*{reason}[^;]*\); "
        r"restore it, or give another --out to search anew$",
    ):
        journal_at(path).read()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"\n", b"[1]\n", b"{}\n", b"\xff\n", b"\xff", b"mine"])
def test_what_has_no_header_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"^journal: line 1 of {path} is damaged \(.*\); restore"):
        journal_at(path).read()
    assert path.read_bytes() == content


@pytest.mark.parametrize("torn", [b"\xff\x00", b'{"policies": [[[8, 8'])
def test_torn_last_line_may_be_any_bytes_and_is_gone_from_the_next_file(tmp_path, torn):
    path = tmp_path / "journal.jsonl"
    begun(path, {LOW: 7})
    path.write_bytes(path.read_bytes() + torn)
    journal = journal_at(path)
    assert journal.read() == {LOW: 7}
    journal.rewrite({LOW: 7})
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("length", [0, 1, 10])
def test_journal_killed_in_its_first_line_is_empty(tmp_path, length):
    path = tmp_path / "journal.jsonl"
    begun(path, {LOW: 7})
    path.write_bytes(path.read_bytes()[:length])
    assert journal_at(path).read() == {}


def test_journal_of_other_settings_is_refused_and_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    begun(path, {LOW: 7})
    before = path.read_bytes()
    with pytest.raises(RunError, match="was made with other weights, images or settings"):
        journal_at(path, {**HEADER, "images": 11}).read()
    assert path.read_bytes() == before
