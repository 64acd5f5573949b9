"""What a journal asks of the file system, in one place, so that tests can stand in for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.run.files import naming, read_bytes, sync_folder, write_bytes


class JournalDisk:
    """The file system; each method is one thing that a power cut may come before or after."""

    def read(self, path: Path, *, limit: int) -> bytes:
        """Return the bytes of a regular file.

        Raises:
            OSError: It cannot be read, or has more bytes than `limit`.
        """
        return read_bytes(path, limit=limit)

    def replace(self, path: Path, content: bytes) -> None:
        """Make a file in one step, its folders too; returns when both are on disk."""
        write_bytes(path, content)

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """Give the descriptor of a file that is there, for the other methods; writes append."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            with naming(path):
                yield descriptor
        finally:
            os.close(descriptor)

    def size(self, descriptor: int) -> int:
        """Return how many bytes a file has."""
        return os.fstat(descriptor).st_size

    def write(self, descriptor: int, content: bytes) -> int:
        """Append bytes; return how many of them the system took."""
        return os.write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Return when what was written into a file, and its size, are on disk."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file off behind `size` bytes."""
        os.ftruncate(descriptor, size)

    def sync_folder(self, folder: Path) -> None:
        """Return when the entries of a folder are on disk."""
        sync_folder(folder)
