"""What the training loop asks of the kind of network that it trains.

The loop takes optimizer steps and knows no kind: a task says what a step minimises, how the network
is validated and what changes after an epoch. `assemble.create_task` alone chooses between tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from harness.run.folder import RunDir
from harness.training.engine import Engine
from harness.training.losses import StepLosses


class Task(ABC):
    """One kind of network in training.

    Attributes:
        model: The network itself. Passes run it as the engine has wrapped it, validation is given
            its averaged copy.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @abstractmethod
    def run_passes(
        self, engine: Engine, images: Tensor, labels: Tensor, *, step: int, progress: float = 0.0
    ) -> StepLosses:
        """Run forward and backward passes of one step; their gradients add up.

        Args:
            engine: Runs them.
            images: (N, C, H, W).
            labels: (N,).
            step: Index of the optimizer step, from 0; what a step draws follows from it.
            progress: Share of the training's steps that are done, 0 to 1.
        """

    @abstractmethod
    def passes(
        self, engine: Engine, *, step: int
    ) -> Sequence[tuple[str, Callable[[Tensor], Tensor]]]:
        """Return the passes of a step in order, to look at one of them again.

        Args:
            engine: Runs them.
            step: Index of the optimizer step in the whole training, from 0, among those of the
                epoch that runs: what earlier epochs drew from may have changed.

        Returns:
            What a pass is called, and the function from images (N, C, H, W) to its logits.
        """

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return accuracies (0..1) on the search split by label; every rank takes part.

        Args:
            model: The averaged copy of the network.
        """

    def calibrate(self) -> None:  # noqa: B027 - a task may have nothing to do.
        """Prepare the network for its first optimizer step; every rank takes part."""

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Change what the next epoch trains; called once after each epoch, before it is saved.

        Every rank takes part, and holds whole weights meanwhile.

        Args:
            epoch: The epoch that ended, from 1.

        Returns:
            What metrics.jsonl says about the change.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what the task keeps between steps, as JSON."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        assert not state, "a task that returns a state also takes it up"

    def check_description(self, run: RunDir) -> None:  # noqa: B027 - nor to compare.
        """Check that the network is the one that a run describes, before the run goes on.

        Raises:
            DataError: It is not, since it is given other images.
        """

    def write_description(self, run: RunDir) -> None:  # noqa: B027 - nor to say.
        """Write the files of the run that describe the network; on the main process."""
