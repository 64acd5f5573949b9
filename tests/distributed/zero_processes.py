"""Run by accelerate launch in two processes, with or without DeepSpeed: train each run asked for.

Arguments: a folder, then names of runs; `name@5` stops the run after its fifth step, `name!5` gives
rank 1 images in that step that are no numbers, and notes what each rank raised.
"""

import math
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from engine_steps import distance_to_plain_torch
from two_processes import OVERRIDES

from harness.errors import NotFiniteError, Stopped
from harness.process_group import exit_rank, leave_process_group
from harness.run.config import load_config
from harness.runtime import create_accelerator
from harness.training import loop
from harness.training.supernet_task import SupernetTask
from harness.training.trainer import train

run_passes = SupernetTask.run_passes

TERMS = (
    "train.distortion_weight=0.01",
    "train.dampening_weight=0.1",
    "train.dampening_start=0",
    "train.two_bit_weight_decay=0",
)
"""Those that look at features and weights inside a pass, where ZeRO 3 has the weights whole."""


def main() -> None:
    torch.set_num_threads(1)
    loop.LOG_EVERY_STEPS = 1
    folder = Path(sys.argv[1])
    # Before the runs, whose batches are of another size.
    distance = distance_to_plain_torch(create_accelerator())
    (folder / f"{sys.argv[2]}_rank{os.environ['RANK']}.txt").write_text(str(distance))
    config = load_config(None, overrides=[*OVERRIDES, *TERMS])
    for argument in sys.argv[2:]:
        name, how, step = re.fullmatch(r"(\w+)([@!]?)(\d*)", argument).groups()
        SupernetTask.run_passes = _disturbed(how, int(step)) if how else run_passes
        try:
            train(config, out=folder / name)
            assert not how
        except Stopped:
            assert how == "@"
        except NotFiniteError as error:
            assert how == "!"
            (folder / f"{name}_raised{os.environ['RANK']}.txt").write_text(str(error))
    leave_process_group()
    exit_rank(0)


def _disturbed(how: str, disturbed_step: int) -> Any:
    def passes(
        task: SupernetTask, engine: Any, images: Any, labels: Any, *, step: int, **named: Any
    ) -> Any:
        if step + 1 == disturbed_step and os.environ["RANK"] == "1":
            if how == "@":
                os.kill(os.getpid(), signal.SIGUSR1)
            else:
                images.mul_(math.nan)
        return run_passes(task, engine, images, labels, step=step, **named)

    return passes


if __name__ == "__main__":
    main()
