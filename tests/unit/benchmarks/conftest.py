"""One small trained run for tests of benchmarks."""

import shutil
from pathlib import Path

import pytest

from harness.run.folder import RunDir
from harness.trained_run import TrainedRun, load_run

GOLDEN_RUN = Path(__file__).parents[2] / "golden/runs/format1/finished"


@pytest.fixture
def small_run(tmp_path: Path) -> TrainedRun:
    """resnet8 after 20 steps on the digits."""
    return load_run(RunDir(shutil.copytree(GOLDEN_RUN, tmp_path / "run")))
