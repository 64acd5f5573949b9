"""The job scripts on a real SLURM of two nodes: one job, stopped and requeued, one result."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import ROOT, Cluster, Job, let_go

SHAPE = (
    "data.train_images=320", "data.search_images=200", "data.test_images=60", "train.epochs=2",
    "train.batch_size=4", "train.num_random_passes=2", "train.warmup_epochs=0",
    "train.checkpoint_every_epochs=2", "train.validate_every_epochs=2",
    "eval.recalibrate_images=40", "eval.batch_size=30", "search.recalibrate_images=120",
    "search.finalists=2",
)  # fmt: skip
STEPS_PER_EPOCH = 320 // (2 * 4)
CONFIGURED = [word for value in SHAPE for word in ("--set", value)]
WARNED = 1 << (signal.SIGUSR1 - 1)
CPU_CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""


def train(slurm: Cluster, out: Path, *options: str, **variables: str) -> Job:
    return slurm.submit(
        "train.sh", *CONFIGURED, "--out", out, options=options or ("--nodes=2",), **variables
    )


def steps_logged(run: Path) -> int:
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return max((row.get("step", 0) for row in rows), default=0)


def saved_steps(run: Path) -> list[int]:
    """Return the steps of the checkpoints, but for the one that a run begins with."""
    steps = (int(path.name[5:]) for path in (run / "checkpoints").glob("step_*"))
    return sorted(step for step in steps if step)


def weights(run: Path) -> list[bytes]:
    (checkpoint,) = (run / "checkpoints").glob(f"step_{2 * STEPS_PER_EPOCH:08d}")
    return [(checkpoint / f"{name}.safetensors").read_bytes() for name in ("ema", "model")]


def hold_in_first_epoch(job: Job, run: Path) -> list[int]:
    """Stop both ranks after some steps, so that what is sent to them meets them in mid-epoch."""
    job.wait_until(lambda: steps_logged(run) >= 10, name="steps are taken")
    ranks = job.hold()
    assert len(ranks) == 2
    return ranks


def is_mid_epoch(run: Path) -> bool:
    return saved_steps(run)[0] < STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def undisturbed(slurm, tmp_path_factory):
    run = tmp_path_factory.mktemp("jobs") / "undisturbed"
    job = train(slurm, run)
    assert job.wait()["JobState"] == "COMPLETED", job.log
    return run, job


def test_two_nodes_train_as_one_job(undisturbed):
    run, job = undisturbed
    # Alone each node would take twice as many steps.
    assert saved_steps(run) == [2 * STEPS_PER_EPOCH]
    assert job.log.count("step sizes set from") == 1
    assert job.look()["Comment"] == "finished"


def test_a_job_requeued_in_mid_epoch_ends_with_the_same_weights(slurm, undisturbed, tmp_path):
    run = tmp_path / "run"
    job = train(slurm, run)
    ranks = hold_in_first_epoch(job, run)
    slurm.run("scontrol", "requeue", str(job.number))
    let_go(ranks)
    job.wait_until(lambda: saved_steps(run), name="the run is saved")
    assert is_mid_epoch(run), job.log
    assert job.wait()["JobState"] == "COMPLETED", job.log
    assert job.look()["Restarts"] == "1"
    assert f"going on from step {saved_steps(run)[0]}" in job.log.replace("\n", " ")
    assert weights(run) == weights(undisturbed[0])


def test_the_warning_before_the_time_limit_saves_and_requeues(slurm, undisturbed, tmp_path):
    run = tmp_path / "run"
    job = train(slurm, run, "--nodes=2", "--time=1", "--signal=USR1@50")
    ranks = hold_in_first_epoch(job, run)
    # SLURM looks at the limits twice a minute.
    job.wait_until(lambda: all(is_warned(pid) for pid in ranks), name="SLURM warns the ranks")
    let_go(ranks)
    assert job.wait()["JobState"] == "COMPLETED", job.log
    assert is_mid_epoch(run), job.log
    assert any(state == "PENDING: saved, requeue" for state in job.history), job.history
    assert int(job.look()["Restarts"]) >= 1
    assert job.look()["Comment"] == "finished"
    assert weights(run) == weights(undisturbed[0])
    assert job.log.count("error: stopped by a signal at step") == 1


def is_warned(pid: int) -> bool:
    """Return whether a process was sent the signal; SLURM may have let it go on with it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    pending = re.findall(r"^S(?:ig|hd)Pnd:\s*(\w+)", status, flags=re.MULTILINE)
    return any(int(mask, 16) & WARNED for mask in pending)


def test_two_processes_of_one_node_train_like_one_of_two_nodes(slurm, undisturbed, tmp_path):
    run = tmp_path / "run"
    job = train(slurm, run, "--nodes=1", HARNESS_PROCESSES_PER_NODE="2")
    assert job.wait()["JobState"] == "COMPLETED", job.log
    assert weights(run) == weights(undisturbed[0])


def test_a_configuration_of_accelerate_joins_the_nodes_as_well(slurm, undisturbed, tmp_path):
    run, config = tmp_path / "run", tmp_path / "cpu.yaml"
    config.write_text(CPU_CONFIG)
    job = train(slurm, run, HARNESS_ACCELERATE_CONFIG=str(config))
    ranks = hold_in_first_epoch(job, run)
    slurm.run("scancel", "--signal=USR1", str(job.number))
    let_go(ranks)
    assert job.wait()["JobState"] == "COMPLETED", job.log
    assert is_mid_epoch(run), job.log
    assert job.look()["Restarts"] == "1"
    assert weights(run) == weights(undisturbed[0])


def test_two_nodes_train_with_deepspeed(slurm, undisturbed, tmp_path):
    run = tmp_path / "run"
    job = train(slurm, run, HARNESS_ACCELERATE_CONFIG="configs/accelerate/zero2.yaml")
    assert job.wait()["JobState"] == "COMPLETED", job.log
    assert job.look()["Comment"] == "finished"
    # One that was to use DeepSpeed and does not is refused; alone, each takes twice the steps.
    assert saved_steps(run) == [2 * STEPS_PER_EPOCH]


def test_a_job_that_fails_says_so_once_and_stays_failed(slurm, tmp_path):
    job = slurm.submit("train.sh", "--set", "train.speed=9", options=("--nodes=2",))
    facts = job.wait()
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "2:0"), job.log
    assert (facts["Restarts"], facts["Comment"]) == ("0", "failed, exit code 2")
    assert job.log.count("unknown key train.speed") == 1
    assert "Traceback" not in job.log


@pytest.mark.parametrize("name", ["train.sh", "search.sh"])
def test_processes_per_node_are_a_whole_number(slurm, name):
    job = slurm.submit(name, HARNESS_PROCESSES_PER_NODE="two")
    assert job.wait()["ExitCode"] == "2:0"
    assert "HARNESS_PROCESSES_PER_NODE is two; give a whole number from 1" in job.log


def test_a_search_survives_a_requeue_and_finds_what_one_process_finds(slurm, undisturbed, tmp_path):
    search = ["--run", undisturbed[0], "--target-bitops", "40%", "--evaluations", "120"]
    job = slurm.submit(
        "search.sh", *search, "--out", tmp_path / "job", options=("--nodes=2",),
        HARNESS_PROCESSES_PER_NODE="1",
    )  # fmt: skip
    results = Path("guided_40pct")
    journal = tmp_path / "job" / "journal.jsonl"
    job.wait_until(lambda: journal.exists() and lines(journal) > 2, name="policies are evaluated")
    ranks = job.hold()
    assert len(ranks) == 2
    slurm.run("scancel", "--signal=USR1", str(job.number))
    let_go(ranks)
    assert job.wait()["JobState"] == "COMPLETED", job.log
    assert job.look()["Restarts"] == "1"
    assert any(state == "PENDING: saved, requeue" for state in job.history), job.history
    alone = [sys.executable, "-m", "harness", "search", *search, "--out", tmp_path / "alone"]
    subprocess.run(
        [str(word) for word in alone],
        cwd=ROOT, env=slurm.environment, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    for name in ("policy.json", "frontier.json"):
        found, expected = (
            json.loads((tmp_path / folder / results / name).read_text())
            for folder in ("job", "alone")
        )
        assert found == expected


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines())


def test_tasks_of_srun_that_join_nobody_are_refused(slurm, tmp_path):
    done = subprocess.run(
        ["srun", "--nodes=2", "--ntasks=2", sys.executable, "-m", "harness", "train",
         *CONFIGURED, "--out", str(tmp_path / "run")],
        cwd=ROOT, env=slurm.environment, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(errors)) == (2, 1), done.stderr
    assert "2 processes were started by srun and this one works alone" in errors[0]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_tasks_of_srun_print_once(slurm):
    command = ["srun", "--nodes=2", "--ntasks=2", sys.executable, "-m", "harness", "--version"]
    assert slurm.run(*command).count("harness") == 1


def test_one_process_in_a_job_of_two_tasks_trains(slurm, tmp_path):
    """What a user runs in an allocation without srun is one process."""
    command = f"{sys.executable} -m harness train {' '.join(CONFIGURED)} --out {tmp_path / 'run'}"
    number = slurm.run(
        "sbatch", "--parsable", "--nodes=2", "--ntasks=2", "--output", str(tmp_path / "log"),
        "--wrap", command,
    )  # fmt: skip
    job = Job(slurm, int(number), tmp_path / "log")
    assert job.wait()["JobState"] == "COMPLETED", job.log
    assert saved_steps(tmp_path / "run") == [4 * STEPS_PER_EPOCH]
