"""Journals of formats 1 and 2: one target's wrong images by policy, as older versions left them.

They are read as a source of counts and never written. A header says what the images were counted
with; each further line holds a batch of policies. Since format 2 each line ends with a CRC-32 of
what stands in it. A kill can have torn the last line, which is left out.
"""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, RunError
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.run.files import FileFormat, read_bytes
from harness.run.settings import difference
from harness.search.journal_lines import damaged, parsed_object, without_crc

MAX_JOURNAL_BYTES = 2**31
"""Some million policies of fifty layers."""

FIRST_WITH_CRC = 2


def to_format_2(old: dict[str, Any]) -> dict[str, Any]:
    """Return a header of format 1 as one of format 2, which says which images the run was given."""
    return {"data": None, **old}


COUNTS_FORMAT = FileFormat(name="journal", upgrades=(to_format_2,))


def read_counts(path: Path, header: dict[str, Any], candidates: Candidates) -> dict[Policy, int]:
    """Return wrong images by policy; none where there is no file.

    Args:
        path: A journal of format 1 or 2.
        header: What its counts depend on: network, number of `images`, weights ...
        candidates: What the layers of its policies may take.

    Raises:
        RunError: The file was made with another header, or is damaged.
    """
    here = json.loads(json.dumps({"format": COUNTS_FORMAT.version, **header}))
    wrong_counts: dict[Policy, int] = {}
    for place, values in _batches(path, here):
        batch = _parsed_batch(values, candidates, num_images=header["images"], place=place)
        for policy, count in batch:
            if wrong_counts.setdefault(policy, count) != count:
                earlier = wrong_counts[policy]
                raise damaged(place, f"{count} wrong images, {earlier} earlier")
    return wrong_counts


def holds_counts(path: Path) -> bool:
    """Return whether a file says that it is a journal of counts; `read_counts` checks it."""
    try:
        first, _, _ = read_bytes(path, limit=MAX_JOURNAL_BYTES).partition(b"\n")
        return parsed_object(first, place="")["format"] in range(1, COUNTS_FORMAT.version + 1)
    except (OSError, RunError, KeyError):
        return False


def _batches(path: Path, header: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and contents of the whole lines behind the header, which is checked."""
    try:
        content = read_bytes(path, limit=MAX_JOURNAL_BYTES)
    except FileNotFoundError:
        return
    except OSError as problem:
        reason = (problem.strerror or "unreadable").lower()
        raise RunError(
            f"journal {path} cannot be read: {reason}; remove it or give another --out"
        ) from None
    *whole, torn = content.split(b"\n")
    if not whole and _with_crc(header).startswith(torn):
        return  # Killed before the first line was whole.
    has_crc = _check_header([*whole, torn][0], header, path=path, is_whole=bool(whole))
    for number, line in enumerate(whole[1:], start=2):
        place = f"line {number} of {path}"
        yield place, _parsed(line, place=place, has_crc=has_crc)
    if has_crc and _is_whole_line(torn[:-1]):
        # What a kill leaves is the beginning of a line. Here only the end of one was altered.
        raise damaged(f"line {len(whole) + 1} of {path}", "it has no end")


def _check_header(line: bytes, here: dict[str, Any], *, path: Path, is_whole: bool) -> bool:
    """Check that the file was made with this header; return whether its lines have a CRC."""
    place = f"line 1 of {path}"
    there = parsed_object(line, place=place)
    if "format" not in there:
        raise damaged(place, "no header of a journal")
    upgraded = COUNTS_FORMAT.upgraded(without_crc(there), path)
    has_crc: bool = there["format"] >= FIRST_WITH_CRC
    if has_crc or "crc" in there:
        _parsed(line, place=place, has_crc=True)
    if upgraded.get("data") is None:  # Nobody noted the images; the run itself was compared.
        here = {**here, "data": None}
    parts = difference(upgraded, here)
    if parts is None and not is_whole:
        raise damaged(place, "it has no end")
    if parts is not None:
        raise RunError(
            f"journal {path} was made with other weights, images or settings: {parts}; "
            "remove it or give another --out"
        )
    return has_crc


def _parsed_batch(
    values: dict[str, Any], candidates: Candidates, *, num_images: int, place: str
) -> list[tuple[Policy, int]]:
    try:
        policies = [_policy(bits, candidates) for bits in values["policies"]]
        wrong_counts = [_wrong_count(count, num_images) for count in values["errors"]]
    except (KeyError, TypeError, ValueError, PolicyError) as problem:
        raise damaged(place, str(problem).partition(";")[0]) from None
    if len(policies) != len(wrong_counts):
        raise damaged(place, f"{len(policies)} policies with {len(wrong_counts)} counts")
    return list(zip(policies, wrong_counts, strict=True))


def _policy(pairs: Any, candidates: Candidates) -> Policy:
    if not all(type(bits) is int for pair in pairs for bits in pair):
        raise ValueError("bits that are no whole numbers")
    policy = Policy(pairs)
    candidates.check(policy)
    return policy


def _wrong_count(value: Any, num_images: int) -> int:
    if type(value) is not int or not 0 <= value <= num_images:
        raise ValueError(f"a count that is no whole number up to {num_images}")
    return value


def _with_crc(values: dict[str, Any]) -> bytes:
    return json.dumps({**values, "crc": _crc(values)}).encode()


def _crc(values: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values).encode()):08x}"


def _is_whole_line(line: bytes) -> bool:
    try:
        _parsed(line, place="", has_crc=True)
    except RunError:
        return False
    return True


def _parsed(line: bytes, *, place: str, has_crc: bool) -> dict[str, Any]:
    values = parsed_object(line, place=place)
    kept = without_crc(values)
    if has_crc and values.get("crc") != _crc(kept):
        raise damaged(place, "its CRC is of something else")
    return kept if has_crc else values
