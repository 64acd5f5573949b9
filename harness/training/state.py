"""The state of a run between two optimizer steps: what a checkpoint holds, and nothing else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timm.utils import ModelEmaV3
from torch import Tensor
from torch.optim import Optimizer

from harness.checkpoint import fill, load_checkpoint
from harness.errors import CheckpointError
from harness.quant.finite import first_unusable
from harness.run.manifest import older_one
from harness.training.task import Task


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """What changes while a run trains, and the settings it changes under."""

    task: Task
    """With the network, whose weights are in training."""
    ema: ModelEmaV3
    """The averaged copy of the network, which is validated and searched."""
    optimizers: dict[str, Optimizer]
    """By name; as Accelerate has wrapped them, once it has."""
    configuration: dict[str, Any] = field(default_factory=dict)
    """The settings that decide the weights, by name."""
    steps_per_epoch: int = 0
    """Of every rank alike; known once Accelerate has shared the images out."""
    step: int = 0
    """Optimizer steps taken."""

    @property
    def epochs_done(self) -> int:
        """Epochs that have ended."""
        return self.step // self.steps_per_epoch if self.steps_per_epoch else 0

    def state_dict(self) -> dict[str, Any]:
        """Return everything by name; `checkpoint.save_checkpoint` writes it."""
        return {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "configuration": self.configuration,
            "task": self.task.state_dict(),
            "model": self.task.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
        }

    def first_unusable(self) -> str | None:
        """Return what is wrong with a tensor of the state that nothing can be computed with."""
        return first_unusable(self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        states: dict[str, Any] = {
            "model": self.task.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizers": {name: one.state_dict() for name, one in self.optimizers.items()},
        }
        return dict(_named_tensors(states))

    def restore(self, checkpoint: Path) -> None:
        """Take up what a checkpoint holds.

        The configuration stays: it was compared with the checkpoint's before anything was built.

        Raises:
            CheckpointError: The checkpoint is incomplete, damaged, or of another network.
        """
        saved = load_checkpoint(checkpoint)
        self.step = saved["step"]
        self.steps_per_epoch = saved["steps_per_epoch"]
        try:
            self.task.load_state_dict(saved["task"])
        except (KeyError, TypeError, ValueError) as problem:
            raise CheckpointError(
                f"checkpoint {checkpoint} does not fit the network: {problem}; "
                f"{older_one(checkpoint)}"
            ) from None
        fill(self.task.model, saved["model"], checkpoint=checkpoint)
        fill(self.ema.module, saved["ema"], checkpoint=checkpoint)
        for name, state in saved["optimizers"].items():
            self.optimizers[name].load_state_dict(state)
        unusable = first_unusable(dict(_named_tensors({"optimizers": saved["optimizers"]})))
        if unusable is not None:
            raise CheckpointError(f"checkpoint {checkpoint}: {unusable}; {older_one(checkpoint)}")


def _named_tensors(values: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested state dicts with their paths."""
    for key, value in values.items():
        if isinstance(value, Tensor):
            yield f"{path}{key}", value
        elif isinstance(value, Mapping):
            yield from _named_tensors(value, f"{path}{key}.")
