"""What a long benchmark has measured, kept line by line, so that it can be stopped and go on.

A file holds what was measured under one set of settings: its name has their digest, its first line
names them. Each further line is a JSON list of key and value. A last line without its end is what a
kill left; it is cut off.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.problem.policy import Policy
from harness.run.files import digest_of


class KeptRows:
    """A mapping from policies to JSON values that outlives the process."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        """Read what is there.

        Args:
            folder: Made where it is not there.
            name: What is kept.
            settings: All that decides the values.

        Raises:
            RunError: The file is damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}_{digest_of(dict(settings))}.jsonl"
        self._rows: dict[str, Any] = {}
        if not self._path.exists():
            self._append([dict(settings)])
        else:
            self._read(dict(settings))

    def __contains__(self, policy: Policy) -> bool:
        return _key(policy) in self._rows

    def __getitem__(self, policy: Policy) -> Any:
        return self._rows[_key(policy)]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: Mapping[Policy, Any]) -> None:
        """Keep values of further policies."""
        values = {_key(policy): value for policy, value in rows.items()}
        self._append([list(row) for row in values.items()])
        self._rows |= values

    def _append(self, rows: list[Any]) -> None:
        with self._path.open("a") as file:
            file.write("".join(f"{json.dumps(row)}\n" for row in rows))

    def _read(self, settings: dict[str, Any]) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._path.write_bytes(whole)
        lines = whole.decode(errors="replace").splitlines()
        if not lines:
            self._append([settings])
            return
        try:
            header, *rows = [json.loads(line) for line in lines]
            self._rows = {str(key): value for key, value in rows}
        except ValueError:
            header = None
        if header != settings:
            raise RunError(f"{self._path} is damaged; remove it to measure again")


def _key(policy: Policy) -> str:
    return " ".join(f"{weight}/{act}" for weight, act in policy)
