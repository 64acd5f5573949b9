"""A search that is killed again and again, in processes of its own; run by test_journal_kill.py.

Without torch and without threads, so that each life is a fork and costs a few milliseconds. What
each life did stands in a log that kill -9 cannot take back: one write for each line.
"""

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from journals import FIRST_SEARCH, batches_of, journal_at, wrong_of

from harness.search.archive import PolicyArchive
from harness.search.journal_disk import JournalDisk

BATCHES = batches_of(12)
JOURNAL, LOG = "journal.jsonl", "log"


class KillingDisk(JournalDisk):
    """Kills the process before, in or after one of the things that are asked of the disk."""

    def __init__(self, steps_left):
        self._steps_left = steps_left

    def _step(self):
        if self._steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._steps_left -= 1

    def replace(self, path, content):
        self._step()
        super().replace(path, content)
        self._step()

    def write(self, descriptor, content):
        if self._steps_left == 0:
            super().write(descriptor, content[: len(content) // 2])
        self._step()
        num_written = super().write(descriptor, content)
        self._step()
        return num_written

    def sync(self, descriptor):
        super().sync(descriptor)
        self._step()

    def truncate(self, descriptor, size):
        super().truncate(descriptor, size)
        self._step()


def live(folder, disk=None):
    """Search until the end: the policies that are not known are evaluated, batch by batch."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(what, policies):
        os.write(log, (json.dumps([what, [policy.bits for policy in policies]]) + "\n").encode())

    journal = journal_at(folder / JOURNAL, disk=disk)
    archive = PolicyArchive(journal, journal.recover())
    say("known", archive.scores)
    archive.begin(FIRST_SEARCH)
    for batch in BATCHES:
        missing = archive.missing(batch)
        if missing:
            say("evaluated", missing)
            new = {policy: batch[policy] for policy in missing}
            archive.add(FIRST_SEARCH, new, wrong_of(new))
            say("observed", missing)


def outlived(folder, *, disk=None, after=None):
    """Live in a process of its own; return whether it came to the end before it was killed.

    Args:
        folder: Of the search.
        disk: May kill the process.
        after: (bytes, seconds): it is killed so long after its log has grown by so much.
    """
    log = folder / LOG
    before = log.stat().st_size if log.exists() else 0
    process = os.fork()
    if process == 0:
        try:
            live(folder, disk)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    status = None
    if after is not None:
        while not (log.exists() and log.stat().st_size >= before + after[0]):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                break
            status = None
            time.sleep(0.0005)
        if status is None:
            time.sleep(after[1])
            os.kill(process, signal.SIGKILL)
    if status is None:
        _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return code == 0


def main(parent, how, num_kills):
    """Kill `num_kills` lives in all, one search after the other; each ends in the end."""
    rng = random.Random(7)
    for number in itertools.count():
        if num_kills == 0:
            break
        folder = parent / str(number)
        folder.mkdir()
        # Some searches are killed often and early, others once and late.
        most = rng.choice((3, 8, 25, 60))
        while num_kills > 0:
            if how == "steps":
                ended = outlived(folder, disk=KillingDisk(rng.randrange(most)))
            else:
                ended = outlived(folder, after=(rng.randrange(100 * most), rng.random() / 100))
            if ended:
                break
            num_kills -= 1
        assert outlived(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
