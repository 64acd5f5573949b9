"""The one door for files of a run, in and out.

Files are written under a temporary name, fsynced, then renamed into place: a reader never sees
half a file, and an interrupted writer leaves the previous one whole. Only regular files of a
sensible size are read, and only with the contents that their digest was made of.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunError, short

MAX_NESTING = 64
"""Levels of JSON that are read; no file of the program has more than ten."""

MAX_BYTES = 64 * 2**20
"""Most bytes of a file that describes something; those of real runs have thousands."""

DIGEST_KEY = "digest"

_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")
"""Name of a file that `write_bytes` has not renamed yet."""

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
    digest_since: int | None = None
    """First format whose files carry a digest of what stands in them; None where none do."""

    @property
    def version(self) -> int:
        """The present version, which is the one written."""
        return 1 + len(self.upgrades)

    def with_digest(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a file of the present format as they are written."""
        whole = {"format": self.version, **values}
        return whole if self.digest_since is None else {**whole, DIGEST_KEY: digest_of(whole)}

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
        found = self._usable_version(values, path, remedy=remedy)
        for upgrade in self.upgrades[found - 1 :]:
            values = upgrade(values)
        return {**values, "format": self.version}

    def checked(
        self, values: dict[str, Any], path: Path, *, remedy: str | None = None
    ) -> dict[str, Any]:
        """Return the values of a whole file without their digest, after comparing it.

        A file that should have one is refused without: the bit that was flipped may be in its name.
        One that need not have any is compared all the same: the bit may be in the format's number.

        Raises:
            HarnessError: (`error`) They are not what was written, or of no usable version.
        """
        # The version first: what a newer program wrote is not damaged.
        found = self._usable_version(values, path, remedy=remedy)
        kept = {key: value for key, value in values.items() if key != DIGEST_KEY}
        is_owed = self.digest_since is not None and found >= self.digest_since
        if (is_owed or DIGEST_KEY in values) and values.get(DIGEST_KEY) != digest_of(kept):
            hint = remedy or "restore or recreate it"
            raise self.error(f"{self.name} {path} was altered after it was written; {hint}")
        return kept

    def _usable_version(self, values: dict[str, Any], path: Path, *, remedy: str | None) -> int:
        found = values.get("format")
        there = f"{self.name} {path} has format {short(str(found))}"
        limit = f"{there}, this version reads up to {self.version}"
        if type(found) is not int or found < 1:
            raise self.error(f"{limit}; {remedy or 'recreate it with this version'}")
        if found > self.version:
            raise self.error(f"{limit}; update harness")
        return found


def digest_of(values: dict[str, Any]) -> str:
    """Return 16 hex digits of plain values; how they are laid out in a file does not matter."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_bytes(path: Path, *, limit: int | None = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: It cannot be read, is a device, a pipe or a folder, or has more bytes than `limit`.
    """
    # Not blocking: to open a pipe would wait for somebody to write into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if limit is not None and status.st_size > limit:
            why = f"it has {status.st_size} bytes, the most is {limit}"
            raise OSError(errno.EFBIG, why, str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def parse_json(content: bytes) -> Any:
    """Return what stands in JSON text.

    Raises:
        ValueError: It is none, or nested deeper than any file of the program.
    """
    try:
        values = json.loads(content.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # What Python only just reads is too deep for whoever walks through it.
    level = [values]
    for _ in range(MAX_NESTING):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return values
    raise ValueError("it is nested too deeply")


def _inside(values: Any) -> Iterable[Any]:
    if isinstance(values, dict):
        return values.values()
    return values if isinstance(values, list) else ()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the system inside the block the file's name, where it has none.

    Writing into an open file, unlike opening it, raises errors that do not say which file it is.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either the old bytes or all of the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path):
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_torn_writes(folder: Path) -> None:
    """Remove what killed writers have left in a folder; for whoever holds its lock."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text like `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: dict[str, Any], *, file_format: FileFormat) -> None:
    """Write a JSON object with its format first, and its digest last where files have one."""
    text = json.dumps(file_format.with_digest(values), indent=2)
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
        values = parse_json(read_bytes(path))
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
    whole = file_format.checked(values, path, remedy=remedy)
    return file_format.upgraded(whole, path, remedy=remedy)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
