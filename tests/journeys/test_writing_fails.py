"""What cannot be written is one line with the file's name, and what was saved stays whole."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from folder_contents import files_under
from journey_runs import QUICK

from harness.run import files
from harness.run.checkpoint_folder import damage_of, named_checkpoints
from harness.run.folder import RunDir

SET = [part for override in QUICK for part in ("--set", override)]


def harness_in_process(*arguments, max_file_bytes=None, **streams):
    """Run the command in a process whose files may have so many bytes."""

    def limit():
        if max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        preexec_fn=limit, text=True, timeout=150, check=False, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}, **streams,
    )  # fmt: skip


def one_line(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_a_checkpoint_that_becomes_too_large_is_named_and_training_goes_on_later(tmp_path):
    run = RunDir(tmp_path / "run")
    train = ("train", *SET, "--out", run.path)
    line = one_line(harness_in_process(*train, max_file_bytes=200_000))
    assert ".safetensors: file too large; raise the limit of file sizes (ulimit -f) and" in line
    assert named_checkpoints(run) == []
    assert not run.is_finished
    done = harness_in_process(*train)
    assert done.returncode == 0, done.stderr
    assert run.is_finished
    assert not list(run.checkpoints.glob(".*"))


def test_a_journal_that_becomes_too_large_is_named_and_goes_on_later(tmp_path, trained_run):
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    search = ("search", "--run", run.path, "--target-bitops", "60%", "--evaluations", 40)
    search = (*search, "--start", "none")  # Gradients are the larger file, and come first.
    line = one_line(harness_in_process(*search, max_file_bytes=3_000))
    assert "journal.jsonl: file too large; raise the limit" in line
    done = harness_in_process(*search, "--resume")
    assert done.returncode == 0, done.stderr
    assert (run.path / "search/guided_60pct/policy.json").is_file()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_standard_output_is_one_line(options):
    with Path("/dev/full").open("w") as full:
        done = harness_in_process("bitops", "resnet8", *options, stdout=full)
    assert one_line(done) == (
        "error: standard output: no space left on device; free some and run the command again"
    )


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m harness bitops resnet18 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("resnet18 at 3 x 224 x 224", "")


@contextmanager
def failing(call, number):
    """Let a call of the system fail without saying for which file, as writing does."""

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, call, fail)
        yield


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EIO, "input/output error; check the disk and run the command again"),
        (errno.EROFS, "read-only file system; write to another file system, or give another --out"),
        (errno.ENOSPC, "no space left on device; free some and run the command again"),
        (errno.EDQUOT, "disk quota exceeded; free some and run the command again"),
        (errno.EFBIG, "file too large; raise the limit of file sizes (ulimit -f) and run the comm"),
    ],
)
def test_every_reason_is_told_with_the_file_and_what_to_do(
    refused, tmp_path, trained_run, number, reason
):
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    before = files_under(run.path)
    with failing("fsync", number):
        line = refused("train", *SET, "--out", tmp_path / "new")
    assert line.startswith(str(tmp_path))
    assert f": {reason}" in line
    search = ("search", "--run", run.path, "--target-bitops", "60%", "--evaluations", 10)
    with failing("fsync", number):
        line = refused(*search)
    # Ranks are told by rank 0, which alone writes it.
    assert line == (
        f"journal {run.path}/search/journal.jsonl cannot be written: {reason.partition(';')[0]}; "
        "mend that or give another --out"
    )
    assert {name: before[name] for name in before} == {
        name: content for name, content in files_under(run.path).items() if name in before
    }
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_run_whose_disk_fails_goes_on_from_its_last_checkpoint(tmp_path, refused, harness):
    run = RunDir(tmp_path / "run")
    train = ("train", *SET, "--out", run.path)
    replace = os.replace
    saved = []

    def failing_after_two(source, target, **named):
        if Path(target).name.startswith("step_"):
            saved.append(target)
            if len(saved) > 2:
                raise OSError(errno.EIO, "Input/output error")
        return replace(source, target, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", failing_after_two)
        code, _, err = harness(*train)
    if code == 2:
        assert "input/output error" in err
    assert all(damage_of(path) is None for path in named_checkpoints(run))
    assert harness(*train)[0] == 0
    assert json.loads(run.summary_path.read_text())["steps"] == 16
