"""`journal.jsonl`: every evaluated policy on disk at once, so that a killed search can go on.

One JSON object per line: a header that says what the wrong images were counted with, then one line
per batch of policies, flushed to disk before the search goes on. A kill can tear the last line,
which is then dropped. Damage anywhere else is refused: everything behind it would be lost in
silence.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, RunError
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.run.files import FileFormat, write_text

JOURNAL_FORMAT = FileFormat(name="journal")


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
        self._candidates = candidates
        self._num_images: int = header["images"]

    def read(self) -> dict[Policy, int]:
        """Return wrong images by policy; none where there is no file.

        Raises:
            RunError: The file was made with another header, or is damaged.
        """
        wrong_counts: dict[Policy, int] = {}
        for number, line in enumerate(self._batch_lines(), start=2):
            place = f"line {number} of {self._path}"
            for policy, count in self._parsed_batch(line, place=place):
                if wrong_counts.setdefault(policy, count) != count:
                    earlier = wrong_counts[policy]
                    raise _damaged(place, f"{count} wrong images, {earlier} earlier")
        return wrong_counts

    def rewrite(self, wrong_counts: Mapping[Policy, int]) -> None:
        """Start the file anew with these policies, in one write that a kill cannot tear."""
        batch = [self._line(wrong_counts)] if wrong_counts else []
        write_text(self._path, "\n".join([json.dumps(self._header), *batch]) + "\n")

    def append(self, wrong_counts: Mapping[Policy, int]) -> None:
        """Add a batch of evaluated policies; returns when it is on disk."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._line(wrong_counts) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _line(wrong_counts: Mapping[Policy, int]) -> str:
        policies = [policy.bits for policy in wrong_counts]
        return json.dumps({"policies": policies, "errors": list(wrong_counts.values())})

    def _batch_lines(self) -> list[bytes]:
        """Return the whole lines behind the header, which is checked."""
        if not self._path.exists():
            return []
        *whole, torn = self._path.read_bytes().split(b"\n")
        if not whole and json.dumps(self._header).encode().startswith(torn):
            return []  # Killed before the first line was whole.
        place = f"line 1 of {self._path}"
        header = _parsed([*whole, torn][0], place=place)
        if "format" not in header:
            raise _damaged(place, "no header of a journal")
        if not whole or header != json.loads(json.dumps(self._header)):
            raise RunError(
                f"journal {self._path} was made with other weights, images or settings; "
                "remove it or give another --out"
            )
        return whole[1:]

    def _parsed_batch(self, line: bytes, *, place: str) -> list[tuple[Policy, int]]:
        values = _parsed(line, place=place)
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


def _parsed(line: bytes, *, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line.decode())
    except (ValueError, RecursionError) as problem:
        raise _damaged(place, str(problem)) from None
    if not isinstance(values, dict):
        raise _damaged(place, f"a {type(values).__name__}, not an object")
    return values


def _damaged(place: str, what: str) -> RunError:
    return RunError(
        f"journal: {place} is damaged ({what}); restore it, or give another --out to search anew"
    )
