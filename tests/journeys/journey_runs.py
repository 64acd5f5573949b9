"""What several journeys start from."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.run.config import Config, load_config
from harness.run.folder import RunDir
from harness.training.metrics import IMAGES_PER_SECOND
from harness.training.supernet_task import SupernetTask

QUICK = (
    "data.train_images=400",
    "data.search_images=100",
    "data.test_images=100",
    "train.epochs=2",
    "train.batch_size=50",
    "train.num_random_passes=1",
    "train.warmup_epochs=0.5",
    "train.checkpoint_every_epochs=1",
    "eval.recalibrate_images=100",
    "search.recalibrate_images=50",
    "search.finalists=4",
)
"""The embedded digits job, cut to seconds."""


def quick_config(*overrides: str) -> Config:
    return load_config(None, overrides=[*QUICK, *overrides])


def repeating_metrics(run: RunDir) -> list[dict[str, Any]]:
    """Return all lines of a run's metrics, without the one value that is a time."""
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert all(line.pop(IMAGES_PER_SECOND) > 0 for line in lines if "max_pass_ce" in line)
    return lines


@contextmanager
def signal_in_step(number: int, step: int) -> Iterator[None]:
    """Send a signal to this process while it takes a step of a supernet, counted from 1."""
    run_passes = SupernetTask.run_passes

    def interrupted(self: SupernetTask, *arguments: Any, **named: Any) -> Any:
        if named["step"] + 1 == step:
            os.kill(os.getpid(), number)
        return run_passes(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SupernetTask, "run_passes", interrupted)
        yield
