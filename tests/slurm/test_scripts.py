"""The job scripts are sound shell, and refuse with a sentence outside SLURM; no SLURM is needed."""

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
