"""The journal file: whole after a kill, refused where it is damaged or of other settings."""

import errno
import json
import logging
import math
import os
import pickle
import stat

import pytest
from fake_disk import FakeDisk
from journals import (
    CANDIDATES,
    FIRST_SEARCH,
    HEADER,
    NUM_FOLDS,
    OTHER_SEARCH,
    batches_in,
    batches_of,
    journal_at,
    policies_of,
    scores_of,
    written,
    wrong_of,
)

from harness.errors import RunError
from harness.problem.policy import Policy
from harness.search.archive import PolicyArchive
from harness.search.journal_disk import JournalDisk
from harness.search.journal_lines import crc32c, sealed

BATCHES = batches_of(3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "search/journal.jsonl"


def seed_of(path):
    return crc32c(path.read_bytes().partition(b"\n")[0] + b"\n")


def values_of(line):
    return {key: value for key, value in json.loads(line).items() if key != "crc"}


def test_crc_is_that_of_castagnoli():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", seed=crc32c(b"12345")) == crc32c(b"123456789")


def test_journal_read_back_tells_what_was_written(path):
    assert journal_at(path).read() == []
    assert not path.exists()
    journal = written(path, BATCHES[:2])
    journal.append(OTHER_SEARCH, BATCHES[2])
    records = journal_at(path).read()
    assert [record.seq for record in records] == [1, 2, 3]
    assert [record.search_id for record in records] == [FIRST_SEARCH, FIRST_SEARCH, OTHER_SEARCH]
    assert batches_in(records) == BATCHES
    assert [list(record.scores) for record in records] == [list(batch) for batch in BATCHES]


def test_append_returns_the_record_that_is_read_back(path):
    journal = written(path, BATCHES[:1])
    record = journal.append(OTHER_SEARCH, BATCHES[1])
    assert journal.read()[1] == record
    assert pickle.loads(pickle.dumps(record)) == record  # Ranks are told of it.


def test_wrong_images_are_read_back_where_they_were_noted(path):
    journal = written(path, BATCHES[:1])
    journal.append(OTHER_SEARCH, BATCHES[1])
    noted, silent = journal_at(path).read()
    assert (noted.wrong, silent.wrong) == (wrong_of(BATCHES[0]), {})
    archive = PolicyArchive(records=[noted, silent])
    assert dict(archive.wrong) == wrong_of(BATCHES[0])
    assert archive.scores.keys() == BATCHES[0].keys() | BATCHES[1].keys()


def test_a_journal_of_format_3_is_gone_on_with_as_it_is(path):
    """It was written before wrong images were noted: the older version can still read it."""
    path.parent.mkdir()
    header = sealed({"format": 3, **HEADER, "folds": NUM_FOLDS}) + b"\n"
    path.write_bytes(header)
    journal = written(path, BATCHES)
    assert path.read_bytes().startswith(header)
    assert b"wrong" not in path.read_bytes()
    records = journal.read()
    assert batches_in(records) == BATCHES
    assert not any(record.wrong for record in records)


@pytest.mark.parametrize(
    "score", [0.0, -0.0, 0.1, 1 / 3, 5e-324, math.nextafter(1, 2), 1e308, -1e22, 2.0**53 + 2]
)
def test_scores_are_read_back_to_the_bit(path, score):
    (policy,) = policies_of(1)
    written(path, [{policy: (score, 1.0, 2.0)}])
    found = journal_at(path).read()[0].scores[policy][0]
    assert found.hex() == score.hex()


def test_a_record_without_policies_says_that_a_search_begins(path):
    journal = written(path, [])
    journal.append(OTHER_SEARCH, {})
    (record,) = journal_at(path).read()
    assert (record.search_id, record.scores) == (OTHER_SEARCH, {})


class CountingDisk(JournalDisk):
    def __init__(self):
        self.calls = []

    def write(self, descriptor, content):
        self.calls.append("write")
        return super().write(descriptor, content)

    def sync(self, descriptor):
        self.calls.append("sync")
        super().sync(descriptor)


def test_a_record_is_one_write_and_one_sync(path):
    disk = CountingDisk()
    journal = written(path, [], disk=disk)
    disk.calls.clear()
    before = path.read_bytes()
    journal.append(FIRST_SEARCH, BATCHES[0])
    assert disk.calls == ["write", "sync"]
    assert path.read_bytes().startswith(before)


def test_what_a_disk_takes_in_parts_is_whole(path):
    class SlowDisk(JournalDisk):
        def write(self, descriptor, content):
            return super().write(descriptor, content[:50])

    written(path, BATCHES, disk=SlowDisk())
    assert batches_in(journal_at(path).read()) == BATCHES


def test_tail_cut_at_every_byte_goes_on_after_three_restarts(path):
    whole = FakeDisk()
    written(path, BATCHES, disk=whole)
    for length in range(len(whole.durable) + 1):
        disk = FakeDisk(whole.durable[:length])
        num_known = max(0, disk.durable.count(b"\n") - 1)  # Batches; the first line is no batch.
        for _ in range(3):
            journal = journal_at(path, disk=disk)
            assert batches_in(journal.recover()) == BATCHES[:num_known]
            if num_known < len(BATCHES):
                journal.append(FIRST_SEARCH, BATCHES[num_known], wrong_of(BATCHES[num_known]))
                num_known += 1
            disk = FakeDisk(disk.durable)
            assert batches_in(journal_at(path, disk=disk).read()) == BATCHES[:num_known]
        assert disk.durable == whole.durable


def test_a_torn_record_is_cut_off_on_disk_and_said(path, caplog):
    journal = written(path, BATCHES[:2])
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[:-5])
    with caplog.at_level(logging.WARNING):
        assert batches_in(journal.read()) == BATCHES[:1]
        assert path.read_bytes() == whole[:-5]  # Reading alone changes nothing.
        caplog.clear()
        journal_at(path).recover()
    assert f"line 3, at byte {start}, of {path} is a torn record" in caplog.text
    assert path.read_bytes() == whole[:start]


def test_a_last_record_of_zeros_or_with_another_crc_was_never_on_disk(path):
    written(path, BATCHES[:2])
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    tails = [bytes(len(whole) - start), whole[start:-4] + b"\0\0\0\n", whole[start:-1] + b"\0"]
    for tail in tails:
        path.write_bytes(whole[:start] + tail)
        assert batches_in(journal_at(path).recover()) == BATCHES[:1]
        assert path.read_bytes() == whole[:start]


def test_what_the_disk_held_before_may_look_a_little_like_a_record(path):
    """A torn record whose lost pages hold other text, newlines and braces among it."""
    written(path, BATCHES[:2])
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for other in (b'{,"}\n{"se', b'"}\n"}\n"}\n', b'{"other": "file"}\n[1, 2]\n{}\n', b"\n" * 9):
        for place in range(start + 1, len(whole) - len(other)):
            path.write_bytes(whole[:place] + other + whole[place + len(other) :])
            assert batches_in(journal_at(path).read()) == BATCHES[:1]


def test_damage_of_what_was_on_disk_is_refused_with_its_place_and_kept(path):
    written(path, BATCHES)
    lines = path.read_bytes().splitlines(keepends=True)
    starts = [sum(map(len, lines[:n])) for n in range(4)]
    for number in (1, 2):
        for line in (lines[number].replace(b"[", b"<"), b"\0" * (len(lines[number]) - 1) + b"\n"):
            content = b"".join([*lines[:number], line, *lines[number + 1 :]])
            path.write_bytes(content)
            place = f"line {number + 1}, at byte {starts[number]}, of {path}"
            for use in (journal_at(path).read, journal_at(path).recover):
                with pytest.raises(
                    RunError,
                    match=rf"^journal: {place} is damaged \(its CRC is of something else\); "
                    r"restore it, or give another --out to search anew$",
                ):
                    use()
            assert path.read_bytes() == content


def test_two_damaged_records_at_the_end_are_no_torn_one(path):
    written(path, BATCHES)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [line.replace(b"[[8", b"[[9", 1) for line in lines[-2:]]
    for last in (damaged[1], damaged[1][:-1], damaged[1][:5], damaged[1][:1]):
        path.write_bytes(b"".join([*lines[:-2], damaged[0], last]))
        with pytest.raises(RunError, match="line 3, at byte"):
            journal_at(path).read()


def test_a_lost_newline_between_two_records_is_damage(path):
    written(path, BATCHES)
    content = path.read_bytes()
    place = content.rindex(b"\n", 0, -1)
    path.write_bytes(content[:place] + b"*" + content[place + 1 :])
    with pytest.raises(RunError, match=r"line 3, at byte .*its CRC is of something else"):
        journal_at(path).read()


GOOD = {
    "seq": 2, "search": OTHER_SEARCH, "policies": [CANDIDATES.smallest.bits],
    "scores": [[0.5, 1.5, 2.5]],
}  # fmt: skip
BITS = [[8, 8], [2, 2], [2, 2], [8, 8]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seq": 1}, "record 1 where 2 is due"),
        ({"seq": 3}, "record 3 where 2 is due"),
        ({"seq": 2.0}, "record 2.0 where 2 is due"),
        ({"seq": True}, "record True where 2 is due"),
        ({"seq": 10**4000}, r"record 1000.*\.\.\. \(4001 characters\) where 2 is due"),
        ({"search": "aa"}, "a search without an id of 16 hex digits"),
        ({"search": 1}, "a search without an id of 16 hex digits"),
        ({"search": "A" * 16}, "a search without an id of 16 hex digits"),
        ({"more": 1}, r"its keys are \['seq', 'search', 'policies', 'scores', 'more'\]"),
        ({"scores": []}, "1 policies with scores of 0"),
        ({"scores": [[0.5, 1.5]]}, "2 scores of a policy, not 3"),
        ({"scores": [[0.5, 1.5, 2]]}, "a score that is no finite number"),
        ({"scores": [[0.5, 1.5, None]]}, "a score that is no finite number"),
        ({"scores": [0.5]}, r"object of type 'float' has no len\(\)"),
        ({"scores": 0.5}, "'float' object is not iterable"),
        ({"policies": 3}, "'int' object is not iterable"),
        ({"policies": [BITS[:3]]}, "policy has 3 layers, the network has 4"),
        ({"policies": [[[8, 8], [2], [2, 2], [8, 8]]]}, "not enough values to unpack"),
        ({"policies": [[[8, 8], [7, 2], [2, 2], [8, 8]]]}, "layer layer1 has 7 weight bits"),
        ({"policies": [[[8, 8], [2.5, 2], [2, 2], [8, 8]]]}, "bits that are no whole numbers"),
        ({"policies": [[[8, 8], "22", [2, 2], [8, 8]]]}, "bits that are no whole numbers"),
        ({"wrong": [1, 2]}, "1 policies with wrong images of 2"),
        ({"wrong": []}, "1 policies with wrong images of 0"),
        ({"wrong": [1.0]}, "wrong images that are no count"),
        ({"wrong": [True]}, "wrong images that are no count"),
        ({"wrong": [-1]}, "wrong images that are no count"),
        ({"wrong": 1}, r"object of type 'int' has no len\(\)"),
        ({"policies": [BITS] * 2, "scores": [[0.0] * 3] * 2}, "a policy stands there twice"),
    ],
)
@pytest.mark.parametrize("is_last", [True, False])
def test_a_record_that_says_something_else_is_refused(path, changes, reason, is_last):
    written(path, BATCHES[:1])
    line = sealed({**GOOD, **changes}, seed=seed_of(path)) + b"\n"
    path.write_bytes(path.read_bytes() + line * (1 if is_last else 2))
    with pytest.raises(
        RunError,
        match=rf"^journal: line 3, at byte \d+, of {path} is damaged \({reason}[^;]*\); "
        r"restore it, or give another --out to search anew$",
    ):
        journal_at(path).read()


@pytest.mark.parametrize("text", [b"[1]", b"null", b"{", b"[" * 100_000, b"1e999", b"\xff"])
def test_a_line_with_a_crc_that_holds_no_object_is_refused(path, text):
    written(path, BATCHES[:1])
    crc = crc32c(text, seed=seed_of(path))
    path.write_bytes(path.read_bytes() + text + b', "crc": "%08x"}\n' % crc)
    with pytest.raises(RunError, match=r"^journal: line 3, at byte \d+, of .* is damaged \("):
        journal_at(path).read()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(path, number):
    written(path, [])
    body = json.dumps({**GOOD, "seq": 1})[:-1].replace("2.5", number).encode()
    crc = crc32c(body, seed=seed_of(path))
    path.write_bytes(path.read_bytes() + body + b', "crc": "%08x"}\n' % crc)
    with pytest.raises(RunError, match="a score that is no finite number"):
        journal_at(path).read()


def test_a_repeated_policy_may_have_its_scores_again_but_no_others(path):
    policy, *_ = BATCHES[0]
    written(path, BATCHES[:1]).append(OTHER_SEARCH, {policy: scores_of(policy)})
    assert batches_in(journal_at(path).read())[1] == {policy: scores_of(policy)}
    journal = journal_at(path)
    journal.recover()
    journal.append(OTHER_SEARCH, {policy: (1.0, 2.0, 3.0)})
    with pytest.raises(RunError, match=r"a policy with scores \(1.0, 2.0, 3.0\), \(.*\) earlier"):
        journal_at(path).read()


def test_a_record_of_another_journal_is_refused(path, tmp_path):
    written(path, BATCHES[:1])
    other = tmp_path / "other.jsonl"
    written(other, BATCHES[:2], num_folds=NUM_FOLDS).read()
    header = {**HEADER, "weights": "other"}
    written_other = journal_at(other.with_name("third.jsonl"), header)
    written_other.recover()
    for batch in BATCHES[:2]:
        written_other.append(FIRST_SEARCH, batch, wrong_of(batch))
    taken = other.with_name("third.jsonl").read_bytes().splitlines(keepends=True)[2]
    path.write_bytes(path.read_bytes() + taken + taken)
    with pytest.raises(RunError, match=r"line 3, at byte .*its CRC is of something else"):
        journal_at(path).read()


@pytest.mark.parametrize("content", [b"\n", b"[1]\n", b"{}\n", b"\xff\n", b"\xff", b"mine", b"\0"])
def test_what_has_no_header_is_refused_and_kept(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"^journal: line 1 of {path} is damaged \(.*\); restore"):
        journal_at(path).recover()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({**HEADER, "images": 11}, "settings: images is 100 there and 11 here; remove it or give"),
        ({**HEADER, "weights": "ab"}, "settings: weights is absent there and ab here; remove it"),
        ({**HEADER, "score": "errors"}, "settings: score is kl there and errors here; remove it"),
    ],
)
def test_journal_of_other_settings_is_refused_and_kept(path, header, message):
    written(path, BATCHES)
    before = path.read_bytes()
    with pytest.raises(RunError, match=f"was made with other weights, images or {message}"):
        journal_at(path, header).recover()
    assert path.read_bytes() == before


def test_journal_of_other_folds_is_refused(path):
    written(path, BATCHES)
    with pytest.raises(RunError, match="settings: folds is 3 there and 2 here"):
        journal_at(path, num_folds=2).read()


def test_the_order_of_a_header_does_not_matter(path):
    written(path, BATCHES[:2])
    reversed_header = dict(reversed(HEADER.items()))
    journal = journal_at(path, reversed_header)
    assert batches_in(journal.recover()) == BATCHES[:2]
    journal.append(FIRST_SEARCH, BATCHES[2])
    assert batches_in(journal_at(path).read()) == BATCHES


def test_journal_of_an_older_format_is_refused(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"format": 2, **HEADER}) + "\n")
    with pytest.raises(
        RunError,
        match=rf"^journal {path} has format 2, which holds one target's counts; searches go on "
        "from format 3, give another --out$",
    ):
        journal_at(path).read()


def test_journal_of_a_newer_format_is_refused(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"format": 5, **HEADER}) + "\n")
    with pytest.raises(RunError, match="has format 5, this version reads up to 4; update harness"):
        journal_at(path).read()


@pytest.mark.parametrize("length", [0, 1, 10, -1])
def test_journal_cut_in_its_first_line_begins_anew_and_says_so(path, caplog, length):
    written(path, [])
    path.write_bytes(path.read_bytes()[:length])
    with caplog.at_level(logging.WARNING):
        journal = journal_at(path)
        assert journal.recover() == []
    assert "in its first line; it begins anew" in caplog.text
    journal.append(FIRST_SEARCH, BATCHES[0])
    assert batches_in(journal_at(path).read()) == BATCHES[:1]


def test_a_header_alone_whose_end_was_altered_is_damaged(path):
    written(path, [])
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(RunError, match=r"line 1 of .* is damaged \(.*\); restore it, or give"):
        journal_at(path).read()


def test_a_record_needs_a_journal_that_was_recovered(path):
    message = r"cannot take a record: it was not recovered, or the record before was not written"
    with pytest.raises(RunError, match=f"{message}; run the search again with --resume$"):
        journal_at(path).append(FIRST_SEARCH, BATCHES[0])


def test_a_second_writer_is_noticed(path):
    first, second = written(path, []), written(path, [])
    second.append(OTHER_SEARCH, BATCHES[0])
    before = path.read_bytes()
    with pytest.raises(
        RunError,
        match=rf"^journal {path} has {len(before)} bytes, \d+ were written; let one search at a "
        "time write into it$",
    ):
        first.append(FIRST_SEARCH, BATCHES[1])
    assert path.read_bytes() == before


def test_a_journal_that_is_gone_is_named(path):
    journal = written(path, [])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"journal\.jsonl"):
        journal.append(FIRST_SEARCH, BATCHES[0])
    assert not path.exists()


@pytest.mark.parametrize(
    ("search_id", "scores"),
    [
        ("aa", BATCHES[0]),
        (FIRST_SEARCH, {CANDIDATES.smallest: (math.nan, 0.0, 0.0)}),
        (FIRST_SEARCH, {CANDIDATES.smallest: (0.0, 0.0)}),
    ],
)
def test_what_could_not_be_read_back_is_not_written(path, search_id, scores):
    journal = written(path, [])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"16 hex digits|not JSON compliant|2 scores of a policy"):
        journal.append(search_id, scores)
    assert path.read_bytes() == before
    journal.append(FIRST_SEARCH, BATCHES[0])
    assert batches_in(journal_at(path).read()) == BATCHES[:1]


class FailingDisk(FakeDisk):
    """Fails once: in the middle of a write, or with an fsync whose data the system then forgets."""

    fails_in = None

    def write(self, descriptor, content):
        if self.fails_in == "write":
            self.fails_in = None
            self._write(content[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(descriptor, content)

    def sync(self, descriptor):
        if self.fails_in == "sync":
            self.fails_in = None
            self.pending = []
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)


@pytest.mark.parametrize("fails_in", ["write", "sync"])
def test_after_a_failure_nothing_is_written_until_the_next_start(path, fails_in):
    disk = FailingDisk()
    journal = written(path, BATCHES[:1], disk=disk)
    disk.fails_in = fails_in
    with pytest.raises(OSError, match=r"No space left|Input/output error"):
        journal.append(FIRST_SEARCH, BATCHES[1])
    with pytest.raises(RunError, match="the record before was not written"):
        journal.append(FIRST_SEARCH, BATCHES[1])
    # What the next start sees is on the disk.
    assert disk.content == disk.durable
    journal = journal_at(path, disk=disk)
    assert batches_in(journal.recover()) == BATCHES[:1]
    journal.append(FIRST_SEARCH, BATCHES[1])
    assert batches_in(journal_at(path, disk=FakeDisk(disk.durable)).read()) == BATCHES[:2]


def test_what_cannot_be_recovered_is_refused_in_one_line(path):
    class FullDisk(JournalDisk):
        def replace(self, path, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    message = f"journal {path} cannot be written: no space left on device; mend that or give"
    with pytest.raises(RunError, match=message):
        journal_at(path, disk=FullDisk()).recover()


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "journal.jsonl")
    with pytest.raises(RunError, match=r"cannot be read: it is no regular file; remove it or give"):
        journal_at(tmp_path / "journal.jsonl").recover()
    assert stat.S_ISFIFO((tmp_path / "journal.jsonl").stat().st_mode)


def test_policies_are_those_of_the_network(path):
    """Bits that are candidates no more are no policies of these weights."""
    written(path, BATCHES)
    records = journal_at(path).read()
    assert all(type(policy) is Policy for record in records for policy in record.scores)
    for record in records:
        for policy in record.scores:
            CANDIDATES.check(policy)
