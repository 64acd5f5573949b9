"""A kernel lock on a folder: two processes never write into one run or one search at a time.

The kernel drops it with the process that holds it, however that ends, so a run that was killed is
gone on with at once. The file that carries the lock says who holds it; it is no part of a run.
"""

import errno
import fcntl
import json
import logging
import os
import platform
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from harness.errors import RunError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems say that have no locks."""

FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""What stands in the place of the lock is never another file, reached by a link, nor waited for."""

MAX_COMMAND = 120
"""Characters of the holder's command that are kept."""

_held: set[int] = set()


def _leave_to_parent() -> None:
    """Close the locks that a forked process was born with, and that its parent goes on holding.

    Otherwise workers that outlive a killed training for some seconds would hold its lock so long.
    """
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder inside the block; the folder is made where it is not there.

    Raises:
        RunError: Another process holds it.
    """
    is_new = not folder.exists()
    descriptor = _acquire(folder)
    _held.add(descriptor)
    try:
        yield
    finally:
        _held.discard(descriptor)
        # While it is still held: whoever opens the file next opens another one.
        with suppress(OSError):
            (folder / LOCK_FILE).unlink()
        os.close(descriptor)
        if is_new:
            with suppress(OSError):  # Something was written: it stays.
                folder.rmdir()


def _acquire(folder: Path) -> int:
    path = folder / LOCK_FILE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, FLAGS, 0o644)
        except FileNotFoundError:
            continue  # Another process that wrote nothing has removed the folder meanwhile.
        except OSError as problem:
            if problem.errno in (errno.ELOOP, errno.EISDIR):
                raise _no_lock(path) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _no_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 4096)
            os.close(descriptor)
            raise RunError(
                f"{folder} is in use by {_in_words(holder)}; wait for it to end, or give another "
                "--out"
            ) from None
        except OSError as problem:
            if problem.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            logger.warning(
                "the file system of %s has no locks (%s): nothing stops a second process there",
                folder,
                (problem.strerror or "").lower(),
            )
            return descriptor
        if _is_still_there(descriptor, path):
            _write_holder(descriptor)
            return descriptor
        os.close(descriptor)  # Its last holder has removed it meanwhile.


def _no_lock(path: Path) -> RunError:
    return RunError(f"{path} is no file that a lock wrote; remove it")


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _write_holder(descriptor: int) -> None:
    holder = {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:MAX_COMMAND],
    }
    with suppress(OSError):  # On a full disk the lock holds all the same, without a name.
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(holder).encode())


def _in_words(holder: bytes) -> str:
    try:
        values = json.loads(holder)
        return (
            f"process {values['pid']} on {values['host']} since {values['since']} "
            f"({values['command']})"
        )
    except (ValueError, KeyError, TypeError):
        return "another process"  # It has not said yet who it is.
