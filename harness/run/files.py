"""The one door for writing files: under a temporary name, fsynced, then renamed into place.

A reader never sees half a file, and an interrupted writer leaves the previous one whole.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunError

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns what a file held in format n into what the same file holds in format n + 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """A kind of file, and how its older versions become the present one.

    The module that writes a kind of file owns its format. Whoever changes what stands in the file
    adds an upgrade step, which raises the version; a step is never changed again.

    >>> network = FileFormat(name="network", upgrades=(lambda old: {**old, "classes": 10},))
    >>> network.version, network.upgraded({"format": 1}, Path("network.json"))
    (2, {'format': 2, 'classes': 10})
    """

    name: str
    """What the file is, for messages: "network", "policy" ..."""
    upgrades: tuple[Upgrade, ...] = ()
    """The step from format 1 to 2, then from 2 to 3 ..."""
    error: type[HarnessError] = RunError
    """Raised when a file of this kind cannot be used."""

    @property
    def version(self) -> int:
        """The present version, which is the one written."""
        return 1 + len(self.upgrades)

    def upgraded(
        self, values: dict[str, Any], path: Path, *, remedy: str | None = None
    ) -> dict[str, Any]:
        """Return the values of a file in the present format.

        Args:
            values: As read, with the version under `format`.
            path: The file, for the message.
            remedy: What to do about a file without a usable version.

        Raises:
            HarnessError: (`error`) The version is newer than the present one, or is none at all.
        """
        found = values.get("format")
        limit = f"{self.name} {path} has format {found}, this version reads up to {self.version}"
        if type(found) is not int or found < 1:
            raise self.error(f"{limit}; {remedy or 'recreate it with this version'}")
        if found > self.version:
            raise self.error(f"{limit}; update harness")
        for upgrade in self.upgrades[found - 1 :]:
            values = upgrade(values)
        return {**values, "format": self.version}


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either the old bytes or all of the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text like `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: dict[str, Any], *, file_format: FileFormat) -> None:
    """Write a JSON object with the version of its format as its first key."""
    text = json.dumps({"format": file_format.version, **values}, indent=2)
    write_text(path, text + "\n")


def read_json(path: Path, *, file_format: FileFormat, remedy: str | None = None) -> dict[str, Any]:
    """Read a JSON object written by `write_json`, by this version or by an older one.

    Args:
        path: File to read.
        file_format: What kind of file it is.
        remedy: What to do about a file that is missing or damaged, where the caller knows better.

    Raises:
        HarnessError: (the format's own class) the file is missing, not JSON, or of a newer version.
    """
    what, error = file_format.name, file_format.error
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        reason = (problem.strerror or "unreadable").lower()
        raise error(
            f"{what} {path} cannot be read: {reason}; {remedy or 'check the path'}"
        ) from None
    except ValueError:
        hint = remedy or "restore or recreate it"
        raise error(f"{what} {path} is not whole JSON; {hint}") from None
    if not isinstance(values, dict):
        hint = remedy or "restore or recreate it"
        raise error(f"{what} {path} holds a {type(values).__name__}, not an object; {hint}")
    return file_format.upgraded(values, path, remedy=remedy)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
