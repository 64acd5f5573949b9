"""Run by torchrun in two processes: a signal reaches one rank while it validates.

Then a batch of which there are fewer than ranks, images of one rank that are no numbers, and a loss
of one rank that explodes. Each rank notes what it raised.
"""

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from two_processes import OVERRIDES

from harness.errors import HarnessError
from harness.process_group import exit_rank, leave_process_group
from harness.run.config import load_config
from harness.training.supernet_task import SupernetTask
from harness.training.trainer import train

torch.set_num_threads(1)


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    validate = SupernetTask.validate

    def interrupted(*arguments: object) -> dict[str, float]:
        accuracies = validate(*arguments)
        if rank == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        return accuracies

    SupernetTask.validate = interrupted
    report = {
        "stopped": _raised(folder / "stopped"),
        "too few": _raised(folder / "few", "train.batch_size=300"),
    }
    SupernetTask.validate = validate
    run_passes = SupernetTask.run_passes

    def spoiled(
        task: SupernetTask,
        model: Any,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        step: int,
        **named: Any,
    ) -> dict[str, torch.Tensor]:
        if rank == 1 and step == 5 and what == "images":
            images.mul_(math.nan)
        if rank == 1 and step == 5 and what == "head":
            task.model.get_parameter("model.fc.bias").data[0] += 1e6
        return run_passes(task, model, images, labels, step=step, **named)

    SupernetTask.run_passes = spoiled
    for what in ("images", "head"):
        report[what] = _raised(folder / what, "train.checkpoint_every_epochs=1")
    (folder / f"rank{rank}.json").write_text(json.dumps(report), encoding="utf-8")
    leave_process_group()
    exit_rank(0)


def _raised(out: Path, *overrides: str) -> str:
    try:
        train(load_config(None, overrides=[*OVERRIDES, *overrides]), out=out)
    except HarnessError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


if __name__ == "__main__":
    main()
