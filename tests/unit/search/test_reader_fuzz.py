"""Fuzz targets: whatever the bytes, the readers of journals and policies refuse them or are right.

`make soak` gives each target the whole of its budget.
"""

import json
import zlib
from pathlib import Path

from fake_disk import FakeDisk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from journals import CANDIDATES, HEADER, NETWORK, NUM_FOLDS, batches_of, journal_at, written
from soak_budget import budget

from harness.errors import HarnessError, PolicyError, RunError
from harness.problem.policy import MAX_BITS
from harness.run.policy_file import POLICY_FORMAT, load_policy, save_policy
from harness.search.counts_journal import read_counts
from harness.search.journal_lines import NEWLINE, crc32c, sealed

PATH = Path("/nowhere/journal.jsonl")
fuzzed = settings(
    max_examples=budget(quick=300, soak=10_000),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def whole_journal():
    disk = FakeDisk()
    written(PATH, batches_of(3), disk=disk)
    return disk.durable


WHOLE = whole_journal()
FIRST_LINE = WHOLE.partition(NEWLINE)[0] + NEWLINE
KNOWN_LINES = WHOLE.splitlines(keepends=True)

# Values as they may stand in a file: what is expected, what is near it, and what is not.
numbers = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2, 3, 4, 5, 6, 8]),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
)
anything = st.recursive(
    st.one_of(numbers, st.text(max_size=5)),
    lambda inside: st.one_of(
        st.lists(inside, max_size=4), st.dictionaries(st.text(max_size=3), inside, max_size=3)
    ),
    max_leaves=8,
)
bits = st.one_of(
    st.lists(st.tuples(numbers, numbers), min_size=3, max_size=5),
    st.sampled_from([list(p.bits) for b in batches_of(3) for p in b]),
    anything,
)
folds = st.one_of(st.lists(st.floats(), min_size=NUM_FOLDS, max_size=NUM_FOLDS), anything)
records = st.fixed_dictionaries(
    {
        "seq": st.one_of(st.integers(0, 5), anything),
        "search": st.one_of(st.just("00000000000000aa"), anything),
        "policies": st.one_of(st.lists(bits, max_size=3), anything),
        "scores": st.one_of(st.lists(folds, max_size=3), anything),
    },
    optional={"more": anything},
)


def with_crc32c(text):
    """Return a line that holds a text, with the CRC that this journal would give it."""
    body = text[:-1]
    return body + b', "crc": "%08x"}\n' % crc32c(body, seed=crc32c(FIRST_LINE))


lines = st.one_of(
    records.map(lambda values: with_crc32c(json.dumps(values).encode())),
    anything.map(lambda values: with_crc32c(json.dumps(values).encode())),
    st.binary(max_size=60).map(with_crc32c),
    st.binary(max_size=60),
    st.sampled_from(KNOWN_LINES),
)


@st.composite
def edited(draw, content):
    """Bytes of a file after some of them were cut out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(start + draw(st.integers(0, 40)), len(content))
        new = draw(st.one_of(st.binary(max_size=20), st.just(content[start:stop] * 2)))
        content = content[:start] + new + content[stop:]
    return content


def outcome_of(read):
    """Return what a reader returns, or the refusal; any other exception fails."""
    try:
        return read()
    except HarnessError as refusal:
        return refusal


def is_refused(outcome, kind):
    if isinstance(outcome, HarnessError):
        # Control characters of a file's values are escaped where messages are printed.
        assert isinstance(outcome, kind)
        return True
    return False


def check_journal(content):
    """Read it twice, recover it, and read it again: the same records, each of this network."""
    disk = FakeDisk(content)
    found = outcome_of(journal_at(PATH, disk=disk).read)
    assert disk.content == content
    if is_refused(found, RunError):
        return
    assert [record.seq for record in found] == list(range(1, len(found) + 1))
    for record in found:
        for policy, scores in record.scores.items():
            CANDIDATES.check(policy)
            assert len(scores) == NUM_FOLDS
    journal = journal_at(PATH, disk=disk)
    assert journal.recover() == found
    # What is kept is a beginning of what was there, and whole.
    assert disk.durable == FIRST_LINE or content.startswith(disk.durable)
    journal.append("00000000000000bb", {})
    assert journal_at(PATH, disk=FakeDisk(disk.durable)).read()[:-1] == found


@fuzzed
@given(st.binary(max_size=200))
@example(b"")
@example(b"[" * 10_000 + b"\n")
def test_journal_of_any_bytes(content):
    check_journal(content)


@fuzzed
@given(st.lists(lines, max_size=4))
def test_journal_of_any_lines_behind_the_header(tail):
    check_journal(FIRST_LINE + b"".join(tail))


@fuzzed
@given(edited(WHOLE))
def test_journal_that_was_edited(content):
    check_journal(content)


@fuzzed
@given(st.one_of(records, anything, st.fixed_dictionaries({"format": anything})))
def test_journal_with_any_header(values):
    if isinstance(values, dict) and values:
        check_journal(sealed_or_not(values) + NEWLINE + b"".join(KNOWN_LINES[1:]))
    check_journal(json.dumps(values).encode() + NEWLINE)


def sealed_or_not(values):
    try:
        return sealed(values)
    except ValueError:  # Not finite.
        return json.dumps(values).encode()


def with_crc32(values):
    crc = f"{zlib.crc32(json.dumps(values).encode()):08x}"
    return json.dumps({**values, "crc": crc}).encode()


@fuzzed
@given(
    st.sampled_from([1, 2]),
    st.lists(
        st.one_of(
            st.fixed_dictionaries(
                {"policies": st.one_of(st.lists(bits, max_size=2), anything)},
                optional={"errors": st.one_of(st.lists(numbers, max_size=2), anything)},
            ).map(with_crc32),
            st.binary(max_size=40),
        ),
        max_size=3,
    ),
    st.binary(max_size=10),
)
def test_journal_of_counts_with_any_lines(tmp_path, number, tail, torn):
    path = tmp_path / "journal.jsonl"
    first = {"format": number, **HEADER}
    first = with_crc32(first) if number == 2 else json.dumps(first).encode()
    path.write_bytes(NEWLINE.join([first, *tail, torn]))
    found = outcome_of(lambda: read_counts(path, HEADER, CANDIDATES))
    if is_refused(found, RunError):
        return
    for policy, count in found.items():
        CANDIDATES.check(policy)
        assert type(count) is int
        assert 0 <= count <= HEADER["images"]


def check_policy(path, content):
    """Load it: bits of this network's layers, or a refusal of one line."""
    path.write_bytes(content)
    found = outcome_of(lambda: load_policy(path, NETWORK))
    if is_refused(found, PolicyError):
        return
    assert len(found) == len(NETWORK.layers)
    assert all(type(b) is int and 1 <= b <= MAX_BITS for pair in found for b in pair)


LAYERS = [{"name": layer.name, "weight_bits": 8, "act_bits": 8} for layer in NETWORK.layers]
layer_lists = st.one_of(
    st.lists(
        st.fixed_dictionaries(
            {"weight_bits": numbers, "act_bits": numbers},
            optional={"name": st.one_of(st.sampled_from([r["name"] for r in LAYERS]), anything)},
        ),
        max_size=5,
    ),
    st.tuples(
        *(
            st.fixed_dictionaries(
                {"name": st.just(row["name"]), "weight_bits": numbers, "act_bits": numbers}
            )
            for row in LAYERS
        )
    ).map(list),
    anything,
)
policy_files = st.fixed_dictionaries(
    {},
    optional={
        "format": st.one_of(st.just(1), st.just(2), anything),
        "network": st.one_of(st.just(NETWORK.fingerprint), anything),
        "model": anything,
        "layers": layer_lists,
        "digest": anything,
        "more": anything,
    },
)


@fuzzed
@given(policy_files, st.booleans())
def test_policy_file_of_any_values(tmp_path, values, is_digested):
    if is_digested:
        values = POLICY_FORMAT.with_digest({k: v for k, v in values.items() if k != "digest"})
    check_policy(tmp_path / "policy.json", json.dumps(values).encode())


@fuzzed
@given(st.one_of(st.binary(max_size=100), anything.map(lambda v: json.dumps(v).encode())))
@example(b'{"format": 1, "network": "' + NETWORK.fingerprint.encode() + b'", "layers": []}')
@example(b'{"format": 2, "more": ' + b"[" * 900 + b"]" * 900 + b"}")
@example(b"[" * 100_000)
def test_policy_file_of_any_bytes(tmp_path, content):
    check_policy(tmp_path / "policy.json", content)


@fuzzed
@given(st.data())
def test_policy_file_that_was_edited(tmp_path, data):
    path = tmp_path / "policy.json"
    save_policy(path, CANDIDATES.largest, NETWORK, facts={"bitops": 3})
    check_policy(path, data.draw(edited(path.read_bytes())))


@fuzzed
@given(
    st.integers(1, 3_000),
    st.sampled_from(["layers", "more", "digest", "format"]),
)
def test_policy_file_that_is_nested(tmp_path, depth, key):
    head = json.dumps({"format": 2, "network": NETWORK.fingerprint, "digest": "0" * 16})[:-1]
    nested = "[" * depth + "]" * depth
    check_policy(tmp_path / "policy.json", f'{head}, "{key}": {nested}}}'.encode())
