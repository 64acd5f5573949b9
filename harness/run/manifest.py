"""`manifest.json`: sizes and SHA-256 of a checkpoint's files, which tell when one was damaged."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError
from harness.run.files import FileFormat, read_bytes, read_json, write_json

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = FileFormat(name="checkpoint", error=CheckpointError)


def write_manifest(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the manifest of files with these contents."""
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    write_json(folder / MANIFEST_FILE, {"files": files}, file_format=MANIFEST_FORMAT)


def older_one(checkpoint: Path) -> str:
    """Return what to do about a checkpoint that cannot be read."""
    return f"remove {checkpoint} to go on from an older one"


def listed_files(checkpoint: Path) -> dict[str, Any]:
    """Return what the manifest says of each file, by its name.

    Raises:
        CheckpointError: There is no manifest that says it.
    """
    remedy = older_one(checkpoint)
    manifest = read_json(checkpoint / MANIFEST_FILE, file_format=MANIFEST_FORMAT, remedy=remedy)
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise CheckpointError(
            f"checkpoint file {checkpoint / MANIFEST_FILE} lists no files; {remedy}"
        )
    return files


def listed(checkpoint: Path, name: str) -> dict[str, Any]:
    """Return what the manifest says of a file: `bytes` and `sha256`.

    Raises:
        CheckpointError: It does not say.
    """
    expected = listed_files(checkpoint).get(name)
    if not isinstance(expected, dict) or not _is_usable(expected):
        raise CheckpointError(
            f"checkpoint file {checkpoint / MANIFEST_FILE} does not list {name}; "
            f"{older_one(checkpoint)}"
        )
    return expected


def read_checked(checkpoint: Path, name: str) -> bytes:
    """Return a file of the checkpoint after comparing it with the manifest.

    Raises:
        CheckpointError: The file is not what was written, or the manifest does not say.
    """
    expected, remedy = listed(checkpoint, name), older_one(checkpoint)
    path = checkpoint / name
    # Before its contents: what stands in its place may be larger than the memory.
    num_bytes = path.stat().st_size if path.is_file() else 0
    if num_bytes != expected["bytes"]:
        raise CheckpointError(
            f"checkpoint file {path} has {num_bytes} bytes, its manifest says "
            f"{expected['bytes']}; {remedy}"
        )
    try:
        content = read_bytes(path, limit=num_bytes)
    except OSError as problem:
        reason = (problem.strerror or "unreadable").lower()
        raise CheckpointError(
            f"checkpoint file {path} cannot be read: {reason}; {remedy}"
        ) from None
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise CheckpointError(
            f"checkpoint file {path} was altered, its SHA-256 is not the manifest's; {remedy}"
        )
    return content


def _is_usable(expected: dict[str, Any]) -> bool:
    num_bytes, digest = expected.get("bytes"), expected.get("sha256")
    return type(num_bytes) is int and num_bytes >= 0 and isinstance(digest, str)
