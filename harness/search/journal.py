"""Every evaluated policy on disk as soon as it is known, so that a search can go on after a kill.

One JSON object per line: a header that says what the errors were counted with, then one line per
batch of policies, flushed to disk before the search goes on. A kill can tear the last line, which
is then dropped; damage anywhere else is refused, for what stands behind it would be lost.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, RunError
from harness.spec.files import FORMAT_VERSION, write_text
from harness.spec.network import NetworkSpec
from harness.spec.policy import Policy, check_trained


class Journal:
    """The evaluated policies of one search, in memory and in `journal.jsonl`.

    Attributes:
        errors: Wrong images by policy, in the order they were evaluated.
    """

    def __init__(self, path: Path | None, header: dict[str, Any], network: NetworkSpec) -> None:
        """Open a journal, or start it.

        Args:
            path: The file; None keeps nothing on disk (ranks beside the first).
            header: What the errors depend on: network, images, weights ...
            network: The network of the policies.

        Raises:
            RunError: The file was made with another header, or is damaged.
        """
        self.errors: dict[Policy, int] = {}
        self._path = path
        self._network = network
        if path is None:
            return
        head = {"format": FORMAT_VERSION, **header}
        if path.exists():
            self._load(path, head)
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
        try:
            *whole, torn = path.read_bytes().decode().split("\n")
        except UnicodeDecodeError as problem:
            raise _damaged(str(path), str(problem)) from None
        if not whole and json.dumps(head).startswith(torn):
            return  # Killed before the first line was whole.
        if not whole or _parsed(whole[0]) != json.loads(json.dumps(head)):
            raise RunError(
                f"journal {path} was made with other weights, images or settings; "
                "remove it or give another --out"
            )
        for number, line in enumerate(whole[1:], start=2):
            self.errors.update(self._read_batch(line, place=f"line {number} of {path}"))

    def _read_batch(self, line: str, *, place: str) -> dict[Policy, int]:
        try:
            return self._batch(json.loads(line))
        except (KeyError, TypeError, ValueError, PolicyError) as problem:
            raise _damaged(place, str(problem)) from None

    def _batch(self, values: dict[str, Any]) -> dict[Policy, int]:
        policies = [Policy(policy) for policy in values["policies"]]
        for policy in policies:
            if len(policy) != len(self._network.layers):
                raise ValueError(f"{len(policy)} layers, not {len(self._network.layers)}")
            check_trained(policy, self._network)
        errors = values["errors"]
        if not all(type(error) is int and error >= 0 for error in errors):
            raise ValueError("an error that is no count")
        return dict(zip(policies, errors, strict=True))


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _damaged(place: str, what: str) -> RunError:
    return RunError(
        f"journal: {place} is damaged ({what}); restore it, or give another --out to search anew"
    )
