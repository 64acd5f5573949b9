"""The state of a run between two optimizer steps: what a checkpoint holds, and nothing else."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timm.utils import ModelEmaV3

from harness.checkpoint import fill, load_checkpoint
from harness.errors import CheckpointError
from harness.quant.finite import first_unusable
from harness.run.data_file import DataIdentity
from harness.run.manifest import older_one
from harness.training.optim import GroupedOptimizer
from harness.training.task import Task


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """What changes while a run trains, and the settings it changes under."""

    task: Task
    """With the network, whose weights are in training."""
    ema: ModelEmaV3
    """The averaged copy of the network, which is validated and searched."""
    optimizer: GroupedOptimizer
    """As it was built; the engine may lay its state out in another way."""
    configuration: dict[str, Any] = field(default_factory=dict)
    """The settings that decide the weights, by name."""
    data: DataIdentity | None = None
    """Which images it is trained on."""
    steps_per_epoch: int = 0
    """Of every rank alike; known once Accelerate has shared the images out."""
    step: int = 0
    """Optimizer steps taken."""

    @property
    def epochs_done(self) -> int:
        """Epochs that have ended."""
        return self.step // self.steps_per_epoch if self.steps_per_epoch else 0

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimizer's state, by name, for `save_checkpoint`."""
        return {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "configuration": self.configuration,
            "data": self.data,
            "task": self.task.state_dict(),
            "model": self.task.model.state_dict(),
            "ema": self.ema.module.state_dict(),
        }

    def restore(self, checkpoint: Path) -> None:
        """Take up what a checkpoint holds.

        Configuration and images stay: they were compared with the checkpoint's before.

        Raises:
            CheckpointError: The checkpoint is incomplete, damaged, or of another network.
        """
        groups = {group["name"]: group["param_names"] for group in self.optimizer.param_groups}
        saved = load_checkpoint(checkpoint, optimizer_groups=groups)
        self.step = saved["step"]
        self.steps_per_epoch = saved["steps_per_epoch"]
        try:
            self.task.load_state_dict(saved["task"])
            self.optimizer.load_named_state(saved["optimizer"])
        except (KeyError, TypeError, ValueError) as problem:
            raise CheckpointError(
                f"checkpoint {checkpoint} does not fit the network: {problem}; "
                f"{older_one(checkpoint)}"
            ) from None
        fill(self.task.model, saved["model"], checkpoint=checkpoint)
        fill(self.ema.module, saved["ema"], checkpoint=checkpoint)
        unusable = first_unusable({"optimizer": saved["optimizer"]})
        if unusable is not None:
            raise CheckpointError(f"checkpoint {checkpoint}: {unusable}; {older_one(checkpoint)}")
