"""What computes gradients over the ranks of a run and takes the optimizer's steps.

One process and DistributedDataParallel need no more than Accelerate gives; DeepSpeed, which lays
parameters and moments out in partitions, has its own engine in `zero.py`. The training loop and the
tasks know this class alone.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from accelerate import Accelerator
from accelerate.utils import is_compiled_module
from torch import Tensor, nn

from harness.errors import ConfigError
from harness.run.optimizer_file import NamedState
from harness.training.optim import GroupedOptimizer


class Engine:
    """Runs one process, or several by DistributedDataParallel.

    Attributes:
        model: The network as passes call it.
        optimizer: As Accelerate has wrapped it; its `param_groups` are those of the bare one.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, optimizer: Any) -> None:
        """Take what `Accelerator.prepare` returned."""
        self.model = model
        self.optimizer = optimizer
        self._accelerator = accelerator

    @property
    def is_compiled(self) -> bool:
        """Whether the model is compiled (`accelerate launch --dynamo_backend`).

        What passes compute then must not differ in anything but numbers in tensors.
        """
        return bool(is_compiled_module(self.model))

    def adding_up(self) -> AbstractContextManager[None]:
        """Add up gradients over the passes inside the block, which are those of one step."""
        return nullcontext()

    def one_pass(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Run a forward and a backward pass of a step inside the block.

        Ranks exchange gradients once, in the last pass, when all of them have added up.
        """
        return nullcontext() if is_last else self._accelerator.no_sync(self.model)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the step."""
        self._accelerator.backward(loss)

    def step(self) -> None:
        """Take the optimizer's step with the mean over ranks of the gradients, and drop those."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def whole_weights(self) -> AbstractContextManager[None]:
        """Have every rank hold every weight inside the block, to read them outside a pass."""
        return nullcontext()

    def optimizer_state(self) -> NamedState:
        """Return the whole state of the optimizer by name; every rank takes part."""
        bare: GroupedOptimizer = self.optimizer.optimizer
        return bare.named_state()


def prepare(
    accelerator: Accelerator, model: nn.Module, loader: Any, optimizer: GroupedOptimizer
) -> tuple[Engine, Any]:
    """Return the engine for the ranks of this run, and the batches of this rank.

    Args:
        accelerator: Of this process.
        model: The network on its device.
        loader: The batches of all ranks.
        optimizer: Of its parameters; a state that it has is kept.

    Raises:
        ConfigError: The launcher was told to accumulate gradients.
    """
    num_steps = accelerator.gradient_accumulation_steps
    if num_steps != 1:  # Accelerate would divide each loss by it, and every step would be taken.
        raise ConfigError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS is {num_steps}, a step has one batch per "
            "process (and adds up its passes by itself); take it out of the environment or of the "
            "file that accelerate launch is given"
        )
    model, loader, wrapped = accelerator.prepare(model, loader, optimizer)
    return Engine(accelerator, model, wrapped), loader
