"""Run by torchrun in two processes: RandAugment and mixup, with and without a stop in between."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from two_processes import OVERRIDES

from harness.errors import Stopped
from harness.process_group import exit_rank, leave_process_group
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.config import load_config
from harness.training.supernet_task import SupernetTask
from harness.training.trainer import train

torch.set_num_threads(1)
AUGMENTED = ("data.rand_augment=rand-m9-mstd0.5-inc1", "train.mixup=0.4", "train.cutmix=1.0")


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    config = load_config(None, overrides=[*OVERRIDES, *AUGMENTED])
    run_passes = SupernetTask.run_passes
    shares: list[str] = []

    def noted(self: SupernetTask, *arguments: Any, **named: Any) -> dict[str, torch.Tensor]:
        shares.append(hashlib.sha256(arguments[1].numpy().tobytes()).hexdigest())
        return run_passes(self, *arguments, **named)

    def interrupted(self: SupernetTask, *arguments: Any, **named: Any) -> dict[str, torch.Tensor]:
        if rank == 1 and named["step"] == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return noted(self, *arguments, **named)

    SupernetTask.run_passes = noted
    report = {"whole": _digest(train(config, out=folder / "whole"))}
    report["images"], shares[:] = list(shares), []
    SupernetTask.run_passes = interrupted
    try:
        train(config, out=folder / "stopped")
    except Stopped as stopped:
        report["stopped"] = str(stopped)
    SupernetTask.run_passes = noted
    report["resumed"] = _digest(train(config, out=folder / "stopped"))
    report["images again"] = shares
    (folder / f"rank{rank}.json").write_text(json.dumps(report), encoding="utf-8")
    leave_process_group()
    exit_rank(0)


def _digest(run: Any) -> str:
    content = (newest_checkpoint(run) / "model.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
