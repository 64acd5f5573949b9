"""A file system in memory that loses power: what no fsync followed survives in any part, or not.

It holds one file. The system shows what was written last (`content`); the disk has what was synced
(`durable`) and any subset of the pages written since. A name that was made or given to another
file is on disk only once its folder is synced.
"""

import random
from contextlib import contextmanager

from harness.search.journal_disk import JournalDisk


class Died(BaseException):
    """The process ends here, by a kill or with the whole machine."""


class FakeDisk(JournalDisk):
    def __init__(self, content=None):
        self.content = self.durable = content
        self.pending = []
        self.named = True
        self.replaced = None
        self.steps_left = None
        self.rng = random.Random(0)

    def step(self):
        """Die here if it is time."""
        if self.steps_left is not None:
            if self.steps_left == 0:
                raise Died
            self.steps_left -= 1

    # What a journal asks for.

    def read(self, path, *, limit):
        if self.content is None:
            raise FileNotFoundError(str(path))
        return self.content

    def replace(self, path, content):
        self.step()
        # `write_bytes` syncs the new file before it has the name.
        self.replaced = self.survived_file() if self.named else self.replaced
        self.content = self.durable = content
        self.pending, self.named = [], False
        self.step()
        self.named = True
        self.step()

    @contextmanager
    def opened(self, path):
        if self.content is None:
            raise FileNotFoundError(str(path))
        yield 3

    def size(self, descriptor):
        return len(self.content)

    def write(self, descriptor, content):
        try:
            self.step()
        except Died:  # A kill may let a part of a large write through.
            self._write(content[: self.rng.randrange(len(content))])
            raise
        self._write(content)
        self.step()
        return len(content)

    def _write(self, content):
        self.pending.append(("write", len(self.content), content))
        self.content += content

    def sync(self, descriptor):
        self.step()
        self.durable, self.pending = self.content, []
        self.step()

    def truncate(self, descriptor, size):
        self.step()
        self.pending.append(("truncate", size, b""))
        self.content = self.content[:size]
        self.step()

    def sync_folder(self, folder):
        self.step()
        self.named = True
        self.step()

    # What happens to it.

    def lose_power(self):
        """Return the disk as the next start finds it."""
        if not self.named and self.rng.random() < 0.5:
            return self._next(self.replaced)
        return self._next(self.survived_file())

    def _next(self, content):
        disk = FakeDisk(content)
        disk.rng = self.rng
        return disk

    def survived_file(self):
        """Return the file's bytes after any subset of what is pending has come to the disk."""
        if self.durable is None:
            return None
        survived = bytearray(self.durable)
        for kind, offset, content in self.pending:
            if kind == "truncate":
                if self.rng.random() < 0.5:
                    del survived[offset:]
            else:
                self._write_some(survived, offset, content)
        return bytes(survived)

    def _write_some(self, survived, offset, content):
        """Write a subset of the pages of a write; what is in none may be zeros or anything."""
        rng = self.rng
        page = rng.choice((1, 2, 8, 32, 128, 4096))
        # The length is on disk with or without the bytes: in whole, in part, or not at all.
        length = rng.choice((0, len(content), rng.randrange(len(content) + 1)))
        fill = rng.choice((b"zeros", b"any", b"text"))
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        survived.extend(bytes(max(0, offset + length - len(survived))))
        for start in range(0, length, page):
            stop = min(start + page, length)
            part = content[start:stop]
            if rng.random() >= share:
                part = {
                    b"zeros": bytes(stop - start),
                    b"any": rng.randbytes(stop - start),
                    b"text": bytes(rng.choice(b'\n"{}[]0123456789, ') for _ in part),
                }[fill]
            survived[offset + start : offset + stop] = part
