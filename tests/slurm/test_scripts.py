"""The job scripts are sound shell, and refuse with a sentence outside SLURM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted((ROOT / "slurm").glob("*.sh")), ROOT / ".ci" / "run"]
JOBS = ["train.sh", "search.sh"]
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def run(*command, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")} | variables
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_scripts_are_there():
    assert {"_common.sh", "train.sh", "search.sh", "run"} <= {script.name for script in SCRIPTS}


@each_script
def test_script_is_sound_bash(script):
    result = run("bash", "-n", str(script))
    assert (result.returncode, result.stderr) == (0, "")


@each_script
def test_script_passes_shellcheck(script):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    result = run(str(shellcheck), "--external-sources", str(script))
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("name", JOBS)
def test_job_says_how_to_submit_it_outside_slurm(name):
    result = run("bash", f"slurm/{name}")
    assert result.returncode != 0
    assert "SLURM_SUBMIT_DIR: is not set; submit this script with sbatch" in result.stderr


@pytest.mark.parametrize("name", JOBS)
def test_job_says_how_to_make_the_environment(name, tmp_path):
    slurm = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT), "VIRTUAL_ENV": str(tmp_path)}
    result = run("bash", f"slurm/{name}", **slurm)
    assert result.returncode == 2
    assert f"{tmp_path}/bin/harness is not there; run make install or activate" in result.stderr


@pytest.fixture
def slurm(tmp_path):
    """A stand-in for SLURM's two commands that runs the task of node 1 of 2 here."""
    tools = {
        "harness": 'printf "harness"; printf " <%s>" "$@"; echo',
        "accelerate": 'printf "accelerate"; printf " <%s>" "$@"; echo',
        # Slow enough that a reader that stops after the first line is gone before the second.
        "scontrol": "echo first; sleep 0.2; echo second",
        "srun": 'while [[ $1 == --* ]]; do shift; done; SLURM_NODEID=1 exec "$@"',
    }
    (tmp_path / "bin").mkdir()
    for name, body in tools.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(0o755)
    return {
        "VIRTUAL_ENV": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
    }


def test_train_job_launches_one_launcher_per_node(slurm):
    result = run("bash", "slurm/train.sh", "--config", "a file.yaml", **slurm)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == (
        "accelerate <launch> <--num_machines> <2> <--num_processes> <8> <--main_process_ip> "
        "<first> <--main_process_port> <20007> <--deepspeed_multinode_launcher> <standard> "
        "<--machine_rank> <1> <harness/train.py> <--config> <a file.yaml>"
    )
    assert "command: accelerate launch" in result.stdout


def test_search_job_passes_its_arguments_on(slurm):
    result = run("bash", "slurm/search.sh", "--target-bitops", "31.6G", **slurm)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "harness <search> <--target-bitops> <31.6G>"
