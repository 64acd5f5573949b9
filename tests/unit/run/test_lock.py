"""One process at a time: the second is told who holds the lock, and a killed one holds none."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest

from harness.errors import RunError
from harness.run.lock import LOCK_FILE, locked

HOLD = (
    "import sys, time; from pathlib import Path; from harness.run.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_holds_it(tmp_path, holder):
    message = (
        rf"run is in use by process {holder.pid} on \S+ since \S+ \(-c .*run\); wait for it to "
        "end, or give another --out$"
    )
    with pytest.raises(RunError, match=message), locked(tmp_path / "run"):
        pass


def test_a_killed_process_holds_no_lock(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK_FILE).exists()
    with locked(tmp_path / "run"):
        pass


def test_the_lock_leaves_nothing_behind(tmp_path):
    with locked(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run" / LOCK_FILE).is_file()
    assert not (tmp_path / "new" / "run").exists()
    with locked(tmp_path / "kept"):
        (tmp_path / "kept" / "file").write_text("x")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]


def test_a_lock_can_be_taken_again_and_again(tmp_path):
    for _ in range(3):
        with (
            locked(tmp_path),
            pytest.raises(RunError, match=f"process {os.getpid()} on"),
            locked(tmp_path),
        ):
            pass


def test_a_file_system_without_locks_goes_on_with_a_word(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    logging.getLogger("harness").propagate = True
    with locked(tmp_path):
        pass
    assert "has no locks (no locks available): nothing stops a second process" in caplog.text


def test_of_many_at_once_one_holds_it(tmp_path):
    """Each notes when it came and went while it held the lock; no two may overlap."""
    script = (
        "import sys, time; from pathlib import Path; from harness.run.lock import locked\n"
        "from harness.errors import RunError\n"
        "end = time.time() + 4\n"
        "while time.time() < end:\n"
        "    try:\n"
        "        with locked(Path(sys.argv[1])):\n"
        "            a = time.time(); time.sleep(0.002); print(a, time.time())\n"
        "    except RunError: pass\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    spans = []
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        spans += [tuple(map(float, line.split())) for line in out.splitlines()]
    spans.sort()
    assert len(spans) > 50
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_worker_that_outlives_a_killed_process_holds_no_lock(tmp_path):
    """As the processes that decode images do for some seconds."""
    script = (
        "import os, sys, time; from pathlib import Path; from harness.run.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    if not os.fork(): print(os.getpid(), flush=True)\n"
        "    time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    try:
        with pytest.raises(RunError, match="is in use by process"), locked(tmp_path / "run"):
            pass
        process.kill()
        process.wait()
        os.kill(worker, 0)  # It is still there.
        with locked(tmp_path / "run"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        process.stdout.close()


def test_a_folder_that_its_last_holder_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
    folder, opened = tmp_path / "run", os.open

    def removed_before(path, *arguments):
        if path == folder / LOCK_FILE:
            monkeypatch.undo()
            folder.rmdir()  # As the end of another `locked` block does between making and opening.
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", removed_before)
    with locked(folder):
        assert (folder / LOCK_FILE).is_file()


@pytest.mark.parametrize("put", ["link to nowhere", "link to a file", "folder", "fifo"])
@pytest.mark.timeout(20)
def test_what_stands_in_the_place_of_the_lock_is_refused_and_kept(tmp_path, put):
    path, precious = tmp_path / "run" / LOCK_FILE, tmp_path / "precious"
    path.parent.mkdir()
    precious.write_text("kept")
    if put == "folder":
        path.mkdir()
    elif put == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(precious if put == "link to a file" else tmp_path / "gone")
    message = r"run/\.lock is no file that a lock wrote; remove it"
    with pytest.raises(RunError, match=message), locked(path.parent):
        pass
    assert precious.read_text() == "kept"
    assert os.path.lexists(path)


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path, monkeypatch):
    write = os.write

    def refuse(descriptor, content):
        if b"since" in content:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", refuse)
    with locked(tmp_path / "run"):
        message = "run is in use by another process; wait"
        with pytest.raises(RunError, match=message), locked(tmp_path / "run"):
            pass
