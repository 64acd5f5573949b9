"""The same command twice at once: the second is told who is there, the first is not disturbed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from folder_contents import files_under
from journey_runs import QUICK, quick_config

from harness.run.folder import RunDir
from harness.training.trainer import train

SET = [part for override in QUICK for part in ("--set", override)]


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(path, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    assert path.exists()


@pytest.fixture
def training(tmp_path):
    """A training that goes on for long, and its folder."""
    run = RunDir(tmp_path / "run")
    process = started("train", *SET, "--set", "train.epochs=500", "--out", run.path)
    try:
        wait_for(run.metrics_path, process)
        yield process, run
    finally:
        process.kill()
        process.communicate()


def test_a_second_training_is_refused_and_the_first_goes_on(training, refused):
    process, run = training
    train_again = ("train", *SET, "--set", "train.epochs=500", "--out", run.path)
    line = refused(*train_again)
    assert line.startswith(f"{run.path} is in use by process {process.pid} on ")
    assert line.endswith("; wait for it to end, or give another --out")
    assert process.poll() is None
    # A search reads what is there; it is another folder's lock that it takes.
    wait_for(run.checkpoints / "step_00000000", process)


def test_a_killed_training_is_in_nobodys_way(training, harness):
    process, run = training
    wait_for(run.checkpoints / "step_00000000", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = started("train", *SET, "--set", "train.epochs=500", "--out", run.path)
    time.sleep(1)
    again.send_signal(signal.SIGTERM)
    _, err = again.communicate(timeout=60)
    assert "is in use" not in err


def test_of_two_searches_into_one_folder_one_is_refused(tmp_path, trained_run):
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    target = ("--target-bitops", "40%", "--evaluations", 120)
    search = ("search", "--run", run.path, *target, "--json")
    both = [started(*search), started(*search)]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in both]
    codes = sorted(code for _, _, code in ended)
    assert codes == [0, 2], ended
    (out,) = [out for out, _, code in ended if code == 0]
    (err,) = [err for _, err, code in ended if code == 2]
    assert "is in use by process" in err or "holds a search already" in err
    assert json.loads(out)["policy_file"].startswith(str(run.path))
    assert not list(run.path.rglob(".lock"))


def test_a_refused_training_leaves_no_folder(tmp_path, refused):
    out = tmp_path / "new"
    refused("train", *SET, "--resume", tmp_path / "absent", "--out", out)
    assert not out.exists()


def test_nothing_of_the_lock_is_left_in_a_finished_run(tmp_path):
    run = train(quick_config("train.epochs=1"), out=tmp_path / "run")
    assert ".lock" not in files_under(run.path)
