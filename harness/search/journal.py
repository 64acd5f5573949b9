"""`journal.jsonl`: every evaluated policy on disk at once, so that a killed search can go on.

One JSON object per line: a header that says what the wrong images were counted with, then one line
per batch of policies, flushed to disk before the search goes on. Each line ends with a CRC of what
stands in it. A kill can tear the last line, which is then dropped. Damage anywhere else is refused:
everything behind it would be lost in silence.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, RunError
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.run.files import FileFormat, naming, parse_json, read_bytes, write_text
from harness.run.settings import difference

JOURNAL_FORMAT = FileFormat(name="journal", upgrades=(lambda old: {"data": None, **old},))
"""Since format 2 the header says which images the run was given, and each line has a CRC."""

CRC, FIRST_WITH_CRC = "crc", 2

MAX_JOURNAL_BYTES = 2**31
"""Some million policies of fifty layers."""


class Journal:
    """The file of one target; `PolicyArchive` holds its contents in memory."""

    def __init__(self, path: Path, header: dict[str, Any], candidates: Candidates) -> None:
        """Name a journal; nothing is read or written yet.

        Args:
            path: The file.
            header: What the counts depend on: network, number of `images`, weights ...
            candidates: What the layers of its policies may take.
        """
        self._path = path
        self._header = {"format": JOURNAL_FORMAT.version, **header}
        # As it is read back: tuples are lists.
        self._header = json.loads(json.dumps(self._header))
        self._candidates = candidates
        self._num_images: int = header["images"]

    def read(self) -> dict[Policy, int]:
        """Return wrong images by policy; none where there is no file.

        Raises:
            RunError: The file was made with another header, or is damaged.
        """
        wrong_counts: dict[Policy, int] = {}
        for place, values in self._batches():
            for policy, count in self._parsed_batch(values, place=place):
                if wrong_counts.setdefault(policy, count) != count:
                    earlier = wrong_counts[policy]
                    raise _damaged(place, f"{count} wrong images, {earlier} earlier")
        return wrong_counts

    def rewrite(self, wrong_counts: Mapping[Policy, int]) -> None:
        """Start the file anew with these policies, in one write that a kill cannot tear."""
        batch = [self._line(wrong_counts)] if wrong_counts else []
        write_text(self._path, "\n".join([_with_crc(self._header), *batch]) + "\n")

    def append(self, wrong_counts: Mapping[Policy, int]) -> None:
        """Add a batch of evaluated policies; returns when it is on disk."""
        with naming(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(self._line(wrong_counts) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _line(wrong_counts: Mapping[Policy, int]) -> str:
        policies = [policy.bits for policy in wrong_counts]
        return _with_crc({"policies": policies, "errors": list(wrong_counts.values())})

    def _batches(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield place and contents of the whole lines behind the header, which is checked."""
        try:
            content = read_bytes(self._path, limit=MAX_JOURNAL_BYTES)
        except FileNotFoundError:
            return
        except OSError as problem:
            reason = (problem.strerror or "unreadable").lower()
            raise RunError(
                f"journal {self._path} cannot be read: {reason}; remove it or give another --out"
            ) from None
        *whole, torn = content.split(b"\n")
        if not whole and _with_crc(self._header).encode().startswith(torn):
            return  # Killed before the first line was whole.
        has_crc = self._check_header([*whole, torn][0], is_whole=bool(whole))
        for number, line in enumerate(whole[1:], start=2):
            place = f"line {number} of {self._path}"
            yield place, _parsed(line, place=place, has_crc=has_crc)
        if has_crc and _is_whole_line(torn[:-1]):
            # What a kill leaves is the beginning of a line. Here only the end of one was altered.
            raise _damaged(f"line {len(whole) + 1} of {self._path}", "it has no end")

    def _check_header(self, line: bytes, *, is_whole: bool) -> bool:
        """Check that the file was made with this header; return whether its lines have a CRC."""
        place = f"line 1 of {self._path}"
        there = _parsed(line, place=place, has_crc=False)
        if "format" not in there:
            raise _damaged(place, "no header of a journal")
        upgraded = JOURNAL_FORMAT.upgraded({k: v for k, v in there.items() if k != CRC}, self._path)
        has_crc: bool = there["format"] >= FIRST_WITH_CRC
        if has_crc or CRC in there:
            _parsed(line, place=place, has_crc=True)
        here = self._header
        if upgraded.get("data") is None:  # Nobody noted the images; the run itself was compared.
            here = {**here, "data": None}
        parts = difference(upgraded, here)
        if parts is None and not is_whole:
            raise _damaged(place, "it has no end")
        if parts is not None:
            raise RunError(
                f"journal {self._path} was made with other weights, images or settings: {parts}; "
                "remove it or give another --out"
            )
        return has_crc

    def _parsed_batch(self, values: dict[str, Any], *, place: str) -> list[tuple[Policy, int]]:
        try:
            policies = [self._policy(bits) for bits in values["policies"]]
            wrong_counts = [self._wrong_count(count) for count in values["errors"]]
        except (KeyError, TypeError, ValueError, PolicyError) as problem:
            raise _damaged(place, str(problem).partition(";")[0]) from None
        if len(policies) != len(wrong_counts):
            raise _damaged(place, f"{len(policies)} policies with {len(wrong_counts)} counts")
        return list(zip(policies, wrong_counts, strict=True))

    def _policy(self, pairs: Any) -> Policy:
        if not all(type(bits) is int for pair in pairs for bits in pair):
            raise ValueError("bits that are no whole numbers")
        policy = Policy(pairs)
        if len(policy) != len(self._candidates.layers):
            raise ValueError(f"{len(policy)} layers, not {len(self._candidates.layers)}")
        self._candidates.check(policy)
        return policy

    def _wrong_count(self, value: Any) -> int:
        if type(value) is not int or not 0 <= value <= self._num_images:
            raise ValueError(f"a count that is no whole number up to {self._num_images}")
        return value


def _with_crc(values: dict[str, Any]) -> str:
    """Return a line of the file."""
    return json.dumps({**values, CRC: _crc(values)})


def _crc(values: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values).encode()):08x}"


def _is_whole_line(line: bytes) -> bool:
    try:
        _parsed(line, place="", has_crc=True)
    except RunError:
        return False
    return True


def _parsed(line: bytes, *, place: str, has_crc: bool) -> dict[str, Any]:
    try:
        values = parse_json(line)
    except ValueError as problem:
        raise _damaged(place, str(problem)) from None
    if not isinstance(values, dict):
        raise _damaged(place, f"a {type(values).__name__}, not an object")
    if not has_crc:
        return values
    kept = {key: value for key, value in values.items() if key != CRC}
    if values.get(CRC) != _crc(kept):
        raise _damaged(place, "its CRC is of something else")
    return kept


def _damaged(place: str, what: str) -> RunError:
    return RunError(
        f"journal: {place} is damaged ({what}); restore it, or give another --out to search anew"
    )
