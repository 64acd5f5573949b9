"""Lines of a journal: JSON objects that end with a CRC32C, and how a torn one is told from damage.

A record is begun only once the one before it is on disk. So at most one record, the last, can be
torn by a kill or a power cut; whatever else is not as it was written was damaged later.
"""

import json
from typing import Any

import google_crc32c

from harness.errors import RunError
from harness.run.files import parse_json

NEWLINE = b"\n"
SEAL = b', "crc": "........"}'
"""What ends a line: the CRC of all that stands before it, in the place of the dots."""

SEAL_BYTES = len(SEAL)

LEAST_OF_SEAL = 8
"""Of its twelve bytes that are always the same, how many make a seal that was damaged."""

START = b'{"seq": '
"""What each record begins with; it stands nowhere else."""

TRACES = (b'"search": ', b'"policies": ', b'"scores": ', b'"wrong": ', b'"crc": ')
"""What no record has twice."""


def crc32c(content: bytes, *, seed: int = 0) -> int:
    """Return the CRC32C (Castagnoli) of bytes, going on from that of the bytes before them."""
    crc: int = google_crc32c.extend(seed, content)
    return crc


def sealed(values: dict[str, Any], *, seed: int = 0) -> bytes:
    """Return values as a line without its end.

    Floats are written so that they are read back exactly (`repr`).

    Args:
        values: One key at least, and none called `crc`.
        seed: CRC of what the line stands behind. Lines of another file are then told from its own.

    Raises:
        ValueError: A float is not finite.
    """
    body = json.dumps(values, allow_nan=False)[:-1].encode()
    return body + _seal(body, seed)


def unsealed(line: bytes, *, seed: int = 0) -> bytes | None:
    """Return the JSON text of a line as it was written; None where its CRC is of something else."""
    body, seal = line[:-SEAL_BYTES], line[-SEAL_BYTES:]
    return body + b"}" if seal == _seal(body, seed) else None


def is_torn_record(tail: bytes) -> bool:
    """Return whether a file's end, not a whole record, can be what is left of its last one.

    A kill leaves a beginning of the record. A power cut leaves any subset of its bytes, with zeros
    or what the disk held before in the place of others, and any length up to its own: a newline
    behind a record's CRC is then the last byte of all. Where another record begins in
    the tail, or there are traces of two, one of them was on disk before the other was begun.

    Args:
        tail: From the start of the first line that is not whole to the end of the file.
    """
    first, _, behind = tail.partition(NEWLINE)
    if behind and _ends_like_a_record(first):
        return False
    return tail.find(START, 1) < 0 and all(tail.count(trace) <= 1 for trace in TRACES)


def parsed_object(line: bytes, *, place: str) -> dict[str, Any]:
    """Return the JSON object of a line.

    Args:
        line: Its text.
        place: Where it stands, for messages.

    Raises:
        RunError: It is none.
    """
    try:
        values = parse_json(line)
    except ValueError as problem:
        raise damaged(place, str(problem)) from None
    if not isinstance(values, dict):
        raise damaged(place, f"a {type(values).__name__}, not an object")
    return values


def without_crc(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a line without what it ends with."""
    return {key: value for key, value in values.items() if key != "crc"}


def damaged(place: str, what: str) -> RunError:
    """Return the error of a journal that does not say what was written."""
    return RunError(
        f"journal: {place} is damaged ({what}); restore it, or give another --out to search anew"
    )


def _seal(body: bytes, seed: int) -> bytes:
    return b', "crc": "%08x"}' % crc32c(body, seed=seed)


def _ends_like_a_record(line: bytes) -> bool:
    """Return whether most of what stands around a CRC is there, or was before a few bits flipped.

    What the disk held before may end in a brace, or in two. It does not look like this.
    """
    end = line[-SEAL_BYTES:]
    matches = sum(found == written for found, written in zip(end, SEAL, strict=False))
    return len(end) == SEAL_BYTES and matches >= LEAST_OF_SEAL
