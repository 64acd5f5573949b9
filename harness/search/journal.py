"""Every evaluated policy on disk as soon as it is known, so that a search can go on after a kill.

One JSON object per line: a header that says what the errors were counted with, then one line per
batch of policies, flushed to disk before the search goes on. A torn last line is dropped.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.spec.files import FORMAT_VERSION, write_text
from harness.spec.policy import Policy


class Journal:
    """The evaluated policies of one search, in memory and in `journal.jsonl`.

    Attributes:
        errors: Wrong images by policy, in the order they were evaluated.
    """

    def __init__(self, path: Path | None, header: dict[str, Any]) -> None:
        """Open a journal, or start it.

        Args:
            path: The file; None keeps nothing on disk (ranks beside the first).
            header: What the errors depend on: network, images, weights ...

        Raises:
            RunError: The file was made with another header.
        """
        self.errors: dict[Policy, int] = {}
        self._path = path
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
        lines = path.read_text(encoding="utf-8").splitlines()
        try:
            found = json.loads(lines[0]) if lines else None
        except ValueError:
            found = None
        if found != json.loads(json.dumps(head)):
            raise RunError(
                f"journal {path} was made with other weights, images or settings; "
                "remove it or give another --out"
            )
        for line in lines[1:]:
            try:
                batch = json.loads(line)
            except ValueError:
                return  # Torn by a kill; what follows it was never written.
            policies = map(Policy, batch["policies"])
            self.errors.update(zip(policies, batch["errors"], strict=True))
