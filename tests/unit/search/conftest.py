"""A real trained run, small enough for a unit test."""

import shutil
from pathlib import Path

import pytest

from harness.run.folder import RunDir
from harness.trained_run import TrainedRun, load_run

GOLDEN_RUN = Path(__file__).parents[2] / "golden/runs/format1/finished"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """resnet8 after 20 steps on the digits."""
    folder = tmp_path_factory.mktemp("golden") / "run"
    return load_run(RunDir(shutil.copytree(GOLDEN_RUN, folder)))
