"""Every evaluated policy on disk as soon as it is known, so that a search can go on after a kill.

One JSON object per line: a header that says what the errors were counted with, then one line per
batch of policies, flushed to disk before the search goes on. A kill can tear the last line, which
is then dropped; damage anywhere else is refused, for what stands behind it would be lost.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, RunError
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.run.files import FileFormat, write_text

JOURNAL_FORMAT = FileFormat(name="journal")


class Journal:
    """The evaluated policies of one search, in memory and in `journal.jsonl`.

    Attributes:
        errors: Wrong images by policy, in the order they were evaluated.
    """

    def __init__(
        self,
        path: Path | None,
        header: dict[str, Any],
        network: NetworkSpec,
        *,
        known: Mapping[Policy, int] | None = None,
    ) -> None:
        """Open a journal, or start it.

        Args:
            path: The file; None keeps nothing on disk (ranks beside the first).
            header: What the errors depend on: network, number of images, weights ...
            network: The network of the policies.
            known: Wrong images by policy from elsewhere, kept too, so that this file alone leads to
                the same result again; what the file says goes before.

        Raises:
            RunError: The file was made with another header, or is damaged.
        """
        self.errors: dict[Policy, int] = {}
        self._path = path
        self._network = network
        self._num_images: int = header["images"]
        if path is None:
            return
        head = {"format": JOURNAL_FORMAT.version, **header}
        if path.exists():
            self._load(path, head)
        for policy, count in (known or {}).items():
            self.errors.setdefault(policy, count)
        # Written anew, so that a torn last line is gone.
        lines = [json.dumps(head), *([self._line(self.errors)] if self.errors else [])]
        write_text(path, "\n".join(lines) + "\n")

    def add(self, policies: Sequence[Policy], errors: Sequence[int]) -> None:
        """Keep a batch of evaluated policies; returns when it is on disk."""
        batch = dict(zip(policies, errors, strict=True))
        self.errors.update(batch)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(self._line(batch) + "\n")
                file.flush()
                os.fsync(file.fileno())

    @staticmethod
    def _line(batch: dict[Policy, int]) -> str:
        policies = [policy.bits for policy in batch]
        return json.dumps({"policies": policies, "errors": list(batch.values())})

    def _load(self, path: Path, head: dict[str, Any]) -> None:
        *whole, torn = path.read_bytes().split(b"\n")
        if not whole and json.dumps(head).encode().startswith(torn):
            return  # Killed before the first line was whole.
        first = _parsed([*whole, torn][0], place=f"line 1 of {path}")
        if "format" not in first:
            raise _damaged(f"line 1 of {path}", "no header of a journal")
        if not whole or first != json.loads(json.dumps(head)):
            raise RunError(
                f"journal {path} was made with other weights, images or settings; "
                "remove it or give another --out"
            )
        for number, line in enumerate(whole[1:], start=2):
            self._read_batch(line, place=f"line {number} of {path}")

    def _read_batch(self, line: bytes, *, place: str) -> None:
        values = _parsed(line, place=place)
        try:
            policies = [self._policy(bits) for bits in values["policies"]]
            counts = [self._count(error) for error in values["errors"]]
        except (KeyError, TypeError, ValueError, PolicyError) as problem:
            raise _damaged(place, str(problem).partition(";")[0]) from None
        if len(policies) != len(counts):
            raise _damaged(place, f"{len(policies)} policies with {len(counts)} errors")
        for policy, count in zip(policies, counts, strict=True):
            if self.errors.setdefault(policy, count) != count:
                raise _damaged(place, f"{count} errors, {self.errors[policy]} earlier")

    def _policy(self, pairs: Any) -> Policy:
        if not all(type(bits) is int for pair in pairs for bits in pair):
            raise ValueError("bits that are no whole numbers")
        policy = Policy(pairs)
        if len(policy) != len(self._network.layers):
            raise ValueError(f"{len(policy)} layers, not {len(self._network.layers)}")
        self._network.candidates.check(policy)
        return policy

    def _count(self, error: Any) -> int:
        if type(error) is not int or not 0 <= error <= self._num_images:
            raise ValueError(f"an error that is no count up to {self._num_images}")
        return error


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
