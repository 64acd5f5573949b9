"""Commands on two real ranks: each message once, one exit code, and a lost rank ends the other."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folder_contents import files_under
from rank_processes import (
    ROOT,
    bare_environment,
    ended,
    free_port,
    rank_variables,
    run_two,
    two_ranks,
)
from two_processes import OVERRIDES

import harness
from harness.run.checkpoint_facts import weights_digest
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.folder import RunDir
from harness.run.state_file import load_state

CONFIGURED = [word for value in OVERRIDES for word in ("--set", value)]
LONG = [*CONFIGURED, "--set", "train.epochs=300", "--set", "train.checkpoint_every_epochs=1"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    few = [
        "model.name=resnet8",
        "search.finalists=2",
        "quant.weight_candidates=[4,3,2]",
        "quant.act_candidates=[4,3,2]",
    ]
    sets = [*CONFIGURED, *(word for value in few for word in ("--set", value))]
    return out, run_two("demo", *sets, "--out", out, "--json")


def test_demo_runs_on_ranks_and_prints_once(demo):
    out, ranks = demo
    assert [rank.code for rank in ranks] == [0, 0], ranks
    assert len(json.loads(ranks[0].out)) > 1
    assert (ranks[1].out, ranks[1].err) == ("", "")
    assert RunDir(out).is_finished


def test_eval_runs_on_ranks_and_prints_once(demo):
    ranks = run_two("eval", "--run", demo[0], "--policy", "3/3", "--json")
    assert [rank.code for rank in ranks] == [0, 0], ranks
    assert 0 < json.loads(ranks[0].out)["accuracy"]["test"] <= 1
    assert (ranks[1].out, ranks[1].err) == ("", "")


def test_all_ranks_search_the_checkpoint_that_rank_0_chose(demo, tmp_path):
    """As where a training goes on beside, or through a file system that shows one rank less."""
    first, second = (shutil.copytree(demo[0], tmp_path / name) for name in ("first", "second"))
    newest = newest_checkpoint(RunDir(first))
    (newest / "ema.safetensors").unlink()
    shutil.rmtree(second / "checkpoints")
    rest = ("--target-bitops", "45%", "--evaluations", 5, "--out", tmp_path / "found", "--json")
    told, silent = run_two(
        "search", "--run", first, *rest, second=("search", "--run", second, *rest)
    )
    assert (told.code, silent.code) == (0, 0), (told, silent)
    assert told.err.count(f"{newest} is passed over, the one before is used: ") == 1
    assert (silent.out, silent.err) == ("", "")
    journal = (tmp_path / "found/journal.jsonl").read_text().splitlines()[0]
    before = newest_checkpoint(RunDir(first))
    assert json.loads(journal)["weights"] == weights_digest(before)


ENDED = "error: a rank ended while the others needed it; what was saved is kept"
SEARCH = ("--target-bitops", "60%", "--target-bitops", "45%", "--evaluations", 60)


def launch(*command, **variables):
    environment = bare_environment(**variables)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True,
        check=False, timeout=110,
    )  # fmt: skip


def alone(*command):
    done = launch(sys.executable, "-m", "harness", *command)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("strategy", ["guided", "greedy"])
def test_two_ranks_leave_the_files_of_one_process(demo, tmp_path, strategy):
    """The journal to the byte: the same questions in the same order, and the same scores."""
    command = ("search", "--run", demo[0], *SEARCH, "--strategy", strategy)
    ranks = run_two(*command, "--out", tmp_path / "two", "--json")
    assert [rank.code for rank in ranks] == [0, 0], ranks
    assert len(json.loads(ranks[0].out)["targets"]) == 2
    assert (ranks[1].out, ranks[1].err) == ("", "")
    alone(*command, "--out", tmp_path / "one")
    found = files_under(tmp_path / "two")
    assert set(found) == {
        "journal.jsonl",
        *(["gradients.json"] if strategy == "guided" else []),
        *(f"{strategy}_{share}pct/{name}.json" for share in (60, 45)
          for name in ("policy", "frontier")),
    }  # fmt: skip
    assert found == files_under(tmp_path / "one")


LONG_SEARCH = ("--target-bitops", "45%", "--evaluations", 200)


def wait_until_evaluated(journal):
    """Wait for the first batch of a search: header, mark of its beginning, batch."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (
        journal.exists() and journal.read_bytes().count(b"\n") > 2
    ):
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole_search(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    alone("search", "--run", demo[0], *LONG_SEARCH, "--out", folder)
    return files_under(folder)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_search_that_lost_a_rank_goes_on_in_one_process(demo, whole_search, tmp_path, victim):
    command = ("search", "--run", demo[0], *LONG_SEARCH, "--out", tmp_path)
    with two_ranks(*command) as processes:
        wait_until_evaluated(tmp_path / "journal.jsonl")
        processes[victim].send_signal(signal.SIGKILL)
        survivor = ended(processes[1 - victim], timeout=60)
    assert survivor.code == 2, survivor
    assert [error[: len(ENDED)] for error in survivor.errors] == [ENDED], survivor.err
    assert "Traceback" not in survivor.err
    assert set(files_under(tmp_path)) - {".lock"} == {"gradients.json", "journal.jsonl"}
    alone(*command, "--resume")
    assert files_under(tmp_path) == whole_search


def test_a_signal_to_both_ranks_stops_a_search_once(demo, whole_search, tmp_path):
    command = ("search", "--run", demo[0], *LONG_SEARCH, "--out", tmp_path)
    with two_ranks(*command) as processes:
        wait_until_evaluated(tmp_path / "journal.jsonl")
        for process in processes:
            process.send_signal(signal.SIGUSR1)
        ranks = [ended(process) for process in processes]
    assert [rank.code for rank in ranks] == [138, 138], ranks
    (error,) = ranks[0].errors + ranks[1].errors
    assert error.startswith("error: stopped by SIGUSR1, what was done is kept; ")
    again = run_two(*command, "--resume")
    assert [rank.code for rank in again] == [0, 0], again
    assert files_under(tmp_path) == whole_search


def test_a_journal_that_rank_0_refuses_ends_both_in_one_line(demo, tmp_path):
    (tmp_path / "journal.jsonl").write_text("mine\n")
    ranks = run_two("search", "--run", demo[0], *SEARCH, "--out", tmp_path)
    assert [rank.code for rank in ranks] == [2, 2], ranks
    (error,) = ranks[0].errors + ranks[1].errors
    assert f"line 1 of {tmp_path / 'journal.jsonl'} is damaged" in error
    assert "Traceback" not in ranks[0].err + ranks[1].err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--version"], f"harness {harness.__version__}\n"),
        (["--help"], "Usage: python -m harness"),
        (["bitops", "resnet8"], "resnet8 at 3 x 32 x 32"),
    ],
)
def test_what_needs_no_other_rank_is_printed_once(arguments, expected):
    first, second = run_two(*arguments)
    assert (first.code, second.code) == (0, 0)
    assert expected in first.out
    assert (second.out, second.err) == ("", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bitops", "nosuch"], "model nosuch is neither built in nor in timm"),
        (["train", "--set", "train.speed=9"], "unknown key train.speed"),
        (["eval", "--run", "nosuch", "--policy", "4/4"], "nosuch"),
        (["eval"], "Missing option"),
        (["--nosuch"], "No such option"),
    ],
)
def test_a_mistake_is_told_once_and_ends_every_rank_alike(arguments, expected):
    ranks = run_two(*arguments)
    assert [rank.code for rank in ranks] == [2, 2]
    assert sum(rank.err.count(expected) for rank in ranks) == 1, ranks
    assert "Traceback" not in ranks[0].err + ranks[1].err


def test_a_mistake_of_one_rank_alone_is_told(tmp_path):
    out = tmp_path / "run"
    command = ("train", *CONFIGURED, "--out", out)
    with two_ranks(*command, second=(*command, "--set", "train.speed=9")) as processes:
        alone = ended(processes[1])
    assert alone.code == 2
    assert [error for error in alone.errors if "unknown key train.speed" in error]


SILENT = "error: a rank did not answer within 4 seconds"


def wait_until_saved(run):
    """Wait for a checkpoint behind the one that a run begins with."""
    deadline = time.monotonic() + 90
    while not any(run.checkpoints.glob("step_*[1-9]*")) and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "victim", "message"),
    [(signal.SIGKILL, 0, ENDED), (signal.SIGSTOP, 0, SILENT), (signal.SIGSTOP, 1, SILENT)],
    ids=["rank 0 killed", "rank 0 stopped", "rank 1 stopped"],
)
def test_a_lost_rank_ends_the_other_in_one_line(tmp_path, number, message, victim):
    run = RunDir(tmp_path / "run")
    command = ("train", *LONG, "--set", "train.rank_timeout_seconds=4", "--out", run.path)
    with two_ranks(*command) as processes:
        wait_until_saved(run)
        processes[victim].send_signal(number)
        lost_at = time.monotonic()
        survivor = ended(processes[1 - victim], timeout=60)
    assert time.monotonic() - lost_at < 4 + 25
    assert survivor.code == 2
    assert [error[: len(message)] for error in survivor.errors] == [message], survivor.err
    assert "Traceback" not in survivor.err
    assert load_state(newest_checkpoint(run))["step"] > 0


def test_a_run_that_lost_a_rank_goes_on(tmp_path):
    run = RunDir(tmp_path / "run")
    command = ("train", *CONFIGURED, "--set", "train.checkpoint_every_epochs=1", "--out", run.path)
    with two_ranks(*command) as processes:
        wait_until_saved(run)
        processes[1].send_signal(signal.SIGKILL)
        survivor = ended(processes[0], timeout=60)
    assert survivor.code == 2
    assert [error[: len(ENDED)] for error in survivor.errors] == [ENDED], survivor.err
    again = run_two(*command)
    assert [rank.code for rank in again] == [0, 0], again
    assert run.is_finished


def test_a_signal_to_both_ranks_saves_once_and_says_so_once(tmp_path):
    run = RunDir(tmp_path / "run")
    with two_ranks("train", *LONG, "--out", run.path) as processes:
        wait_until_saved(run)
        for process in processes:
            process.send_signal(signal.SIGUSR1)
        ranks = [ended(process) for process in processes]
    assert [rank.code for rank in ranks] == [138, 138], ranks
    (error,) = ranks[0].errors + ranks[1].errors
    assert error.startswith("error: stopped by a signal at step ")


def test_torchrun_needs_no_variable_on_cpus(tmp_path):
    script = ROOT / "harness/train.py"
    command = ["torchrun", "--standalone", "--nproc_per_node", 2, script, *CONFIGURED]
    done = launch(*command, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    # Each alone would take 16 steps.
    assert newest_checkpoint(RunDir(tmp_path / "run")).name == "step_00000008"


def test_accelerate_launch_that_joins_nobody_is_refused(tmp_path):
    script = ROOT / "harness/train.py"
    command = ["accelerate", "launch", "--cpu", "--num_processes", 2, "--num_machines", 1]
    done = launch(*command, script, *CONFIGURED, "--out", tmp_path / "run")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0
    assert len(errors) == 1, done.stderr
    assert "several processes were started by accelerate launch" in errors[0]
    assert not (tmp_path / "run/checkpoints").exists()


def test_processes_of_mpirun_join_where_they_know_where_to_meet(tmp_path):
    port, processes = free_port(), []
    for rank in range(2):
        # What Open MPI sets; accelerate reads it. There is no mpirun on most machines.
        variables = {
            "OMPI_COMM_WORLD_SIZE": 2, "OMPI_COMM_WORLD_RANK": rank,
            "OMPI_COMM_WORLD_LOCAL_RANK": rank, "OMPI_COMM_WORLD_LOCAL_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        command = [sys.executable, "-m", "harness", "train", *CONFIGURED, "--out", tmp_path / "run"]
        processes.append(
            subprocess.Popen(
                command, env=bare_environment(**variables), stderr=subprocess.PIPE, text=True
            )
        )
    for process in processes:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    assert newest_checkpoint(RunDir(tmp_path / "run")).name == "step_00000008"


def test_ranks_that_nobody_meets_end_within_the_bound(tmp_path):
    variables = rank_variables(0, free_port())
    bound = ["--set", "train.rank_timeout_seconds=2"]
    command = [sys.executable, "-m", "harness", "train", *CONFIGURED, *bound]
    done = launch(*command, "--out", tmp_path / "run", **variables)
    assert done.returncode == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: 2 processes were started and do not find each other")
    assert not os.path.lexists(tmp_path / "run/checkpoints")
