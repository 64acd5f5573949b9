"""The one door for writing files: under a temporary name, fsynced, then renamed into place.

A reader never sees half a file, and an interrupted writer leaves the previous one whole.
"""

import json
import os
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunError

FORMAT_VERSION = 1
"""Version that every JSON file of a run folder carries under `format`."""


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


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object with the format version as its first key."""
    write_text(path, json.dumps({"format": FORMAT_VERSION, **values}, indent=2) + "\n")


def read_json(
    path: Path, *, what: str, error: type[HarnessError] = RunError, remedy: str | None = None
) -> dict[str, Any]:
    """Read a JSON object written by `write_json`.

    Args:
        path: File to read.
        what: What the file is, for the message: "network", "policy" ...
        error: Class raised on any problem.
        remedy: What to do about any of them, where the caller knows better than this.

    Raises:
        RunError: (or `error`) the file is missing, not JSON, or of another format version.
    """
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
    if not isinstance(values, dict) or values.get("format") != FORMAT_VERSION:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise error(
            f"{what} {path} has format {found}, this version reads {FORMAT_VERSION}; "
            f"{remedy or 'recreate it with this version'}"
        )
    return values


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
