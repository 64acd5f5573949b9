"""The journal file: whole after a kill, refused where it is damaged or of other settings."""

import json

import pytest
from made_networks import network_of

from harness.errors import RunError
from harness.problem.policy import Policy
from harness.search.journal import Journal, _with_crc

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


def line_with_crc(line):
    """Return a line with the CRC of what stands in it, where it is an object."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return line
    return _with_crc(values).encode() if isinstance(values, dict) else line


GOOD = b'{"policies": [[[8, 8], [2, 2], [8, 8]]], "errors": [7]}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD[:20], "Expecting"),
        (b"", "Expecting value"),
        (b"[" * 100_000, "it is nested too deeply"),
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
    path.write_bytes(path.read_bytes() + line_with_crc(line) + b"\n" + GOOD + b"\n")
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


def test_a_refusal_says_what_differs(tmp_path):
    begun(tmp_path / "journal.jsonl", {LOW: 7})
    message = (
        "images or settings: images is 10 there and 11 here, weights is absent there and ab her"
    )
    with pytest.raises(RunError, match=message):
        journal_at(tmp_path / "journal.jsonl", {**HEADER, "images": 11, "weights": "ab"}).read()


def test_every_flipped_bit_is_refused_or_has_no_effect(tmp_path):
    """As the disk may return them; a line may be lost only where a kill could have torn it."""
    path = tmp_path / "journal.jsonl"
    journal = begun(path, {LOW: 7})
    journal.append({HIGH: 3})
    whole, content = journal.read(), bytearray(path.read_bytes())
    num_refused = 0
    for place in range(8 * len(content)):
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            assert journal_at(path).read() == whole, (place, bytes(content))
        except RunError:
            num_refused += 1
        content[place // 8] ^= 1 << place % 8
    assert num_refused > 0.9 * 8 * len(content)


def test_a_journal_of_format_1_is_read_and_goes_on_in_the_present_one(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(json.dumps({"format": 1, **HEADER}).encode() + b"\n" + GOOD + b"\n")
    journal = journal_at(path, {**HEADER, "data": {"channels": 1}})
    assert journal.read() == {LOW: 7}
    journal.rewrite(journal.read())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["format"] == 2
    assert all("crc" in line for line in lines)
    assert journal.read() == {LOW: 7}


def test_a_journal_of_other_images_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal_at(path, {**HEADER, "data": {"channels": 1}}).rewrite({LOW: 7})
    with pytest.raises(RunError, match="was made with other weights, images or settings: data is"):
        journal_at(path, {**HEADER, "data": {"channels": 3}}).read()


def test_a_header_alone_whose_end_was_altered_is_damaged(tmp_path):
    path = tmp_path / "journal.jsonl"
    begun(path, {})
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(RunError, match=r"line 1 of .* is damaged \(.*\); restore it, or give"):
        journal_at(path).read()
