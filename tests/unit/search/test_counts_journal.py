"""Journals of formats 1 and 2 are read as they were written, or refused."""

import json
import zlib
from pathlib import Path

import pytest
from made_networks import network_of

from harness.errors import RunError
from harness.problem.policy import Policy
from harness.run.network_file import load_network
from harness.search.counts_journal import holds_counts, read_counts

HEADER = {"network": "abc", "images": 10, "data": {"channels": 1}}
CANDIDATES = network_of([(1, 1), (1, 1), (1, 1)]).candidates
LOW, HIGH = Policy([(8, 8), (2, 2), (8, 8)]), Policy([(8, 8), (6, 6), (8, 8)])
GOLDEN_RUNS = Path(__file__).parents[2] / "golden/runs"


def with_crc(values):
    crc = f"{zlib.crc32(json.dumps(values).encode()):08x}"
    return json.dumps({**values, "crc": crc}).encode()


def batch_line(wrong_counts):
    policies = [policy.bits for policy in wrong_counts]
    return with_crc({"policies": policies, "errors": list(wrong_counts.values())})


def counts_at(path, header=HEADER):
    return read_counts(path, header, CANDIDATES)


@pytest.fixture
def path(tmp_path):
    """A journal of format 2 with two batches."""
    path = tmp_path / "journal.jsonl"
    lines = [with_crc({"format": 2, **HEADER}), batch_line({LOW: 7}), batch_line({HIGH: 3})]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize(
    "folder",
    # Since format 3 one journal serves all targets, and holds scores.
    sorted(path.parents[3].name for path in GOLDEN_RUNS.glob("*/finished/search/*/journal.jsonl")),
)
def test_recorded_journals_are_read(folder):
    run = GOLDEN_RUNS / folder / "finished"
    path = run / "search/greedy_30pct/journal.jsonl"
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    if first["format"] > 2:
        pytest.skip("a journal of scores")
    expected = {
        Policy(bits): count
        for line in lines
        for bits, count in zip(line["policies"], line["errors"], strict=True)
    }
    header = {key: value for key, value in first.items() if key not in ("format", "crc")}
    network = load_network(run / "network.json")
    assert read_counts(path, {"data": None, **header}, network.candidates) == expected
    assert len(expected) > 50


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        (b'{"format": 1}\nmore', True),
        (b'{"format": 2, "images": 3}', True),
        (b'{"format": 3}\n', False),
        (b'{"format": [1]}\n', False),
        (b'{"form": 1}\n', False),
        (b"mine", False),
    ],
)
def test_a_journal_of_counts_says_so(tmp_path, content, holds):
    path = tmp_path / "journal.jsonl"
    assert not holds_counts(path)
    path.write_bytes(content)
    assert holds_counts(path) is holds


def test_where_there_is_no_file_there_are_no_counts(tmp_path):
    assert counts_at(tmp_path / "journal.jsonl") == {}


def test_every_prefix_reads_as_whole_batches(path):
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        num_batches = max(0, content[:length].count(b"\n") - 1)
        assert counts_at(path) == dict([(LOW, 7), (HIGH, 3)][:num_batches])


def test_a_last_line_whose_end_was_altered_is_damaged(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(RunError, match=rf"line 3 of {path} is damaged \(it has no end\)"):
        counts_at(path)


GOOD = {"policies": [[[8, 8], [2, 2], [8, 8]]], "errors": [7]}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "'policies'"),
        ({**GOOD, "errors": [7, 8]}, "1 policies with 2 counts"),
        ({**GOOD, "errors": 7}, "'int' object is not iterable"),
        ({**GOOD, "errors": [None]}, "a count that is no whole number up to 10"),
        ({**GOOD, "errors": [-1]}, "a count that is no whole number up to 10"),
        ({**GOOD, "errors": [11]}, "a count that is no whole number up to 10"),
        ({**GOOD, "errors": [7.0]}, "a count that is no whole number up to 10"),
        ({**GOOD, "errors": [8]}, "8 wrong images, 7 earlier"),
        ({**GOOD, "policies": [[[8, 8], [8, 8]]]}, "policy has 2 layers, the network has 3"),
        ({**GOOD, "policies": [[[8, 8], [2], [8, 8]]]}, "not enough values to unpack"),
        ({**GOOD, "policies": [[[8, 8], [9, 2], [8, 8]]]}, "layer layer1 has 9 weight bits"),
        ({**GOOD, "policies": [[[8, 8], [2.5, 2], [8, 8]]]}, "bits that are no whole numbers"),
    ],
)
def test_a_line_that_says_something_else_is_refused(path, values, reason):
    path.write_bytes(path.read_bytes() + with_crc(values) + b"\n")
    with pytest.raises(
        RunError,
        match=rf"^journal: line 4 of {path} is damaged \({reason}[^;]*\); restore it, or give",
    ):
        counts_at(path)


def test_flipped_bits_are_refused_or_have_no_effect(path):
    whole, content = counts_at(path), bytearray(path.read_bytes())
    num_refused = 0
    places = range(0, 8 * len(content), 5)
    for place in places:
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            assert counts_at(path) == whole, (place, bytes(content))
        except RunError:
            num_refused += 1
        content[place // 8] ^= 1 << place % 8
    assert num_refused > 0.9 * len(places)


def test_counts_of_other_images_are_refused(path):
    with pytest.raises(RunError, match="other weights, images or settings: data is"):
        counts_at(path, {**HEADER, "data": {"channels": 3}})


def test_format_1_says_nothing_of_the_images(path):
    header = {"format": 1, "network": "abc", "images": 10}
    path.write_text(json.dumps(header) + "\n" + json.dumps(GOOD) + "\n")
    assert counts_at(path) == {LOW: 7}
    with pytest.raises(RunError, match="images or settings: images is 10 there and 11 here"):
        counts_at(path, {**HEADER, "images": 11})


def test_a_folder_in_the_place_of_a_journal_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"cannot be read: .*; remove it or give another --out"):
        counts_at(tmp_path)


@pytest.mark.parametrize("content", [b"\n", b"[1]\n", b"{}\n", b"\xff\n", b"mine"])
def test_what_has_no_header_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"^journal: line 1 of {path} is damaged \(.*\); restore"):
        counts_at(path)
