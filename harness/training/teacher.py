"""An external teacher: a float network whose logits teach every pass, the max pass too."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harness.data import Splits
from harness.run.config import Config, ModelConfig
from harness.training.float_task import build_float_network


class Teacher:
    """A float network that stands still; no part of the run's model, average or checkpoints."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Take a network with its weights.

        Args:
            model: The network.
            device: Where the images of a step lie.
        """
        self._model = model.to(device).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes), detached."""
        logits: Tensor = self._model(images)
        return logits


def build_teacher(config: Config, splits: Splits, accelerator: Accelerator) -> Teacher | None:
    """Return the teacher that the configuration names; None where it names none.

    Raises:
        ModelError: The model or its weights are not to be had, or are of other classes.
    """
    name, weights = config.train.teacher, config.train.teacher_weights
    if name is None:
        return None
    model = ModelConfig(name=name, weights=weights, pretrained=weights is None)
    as_teacher = config.model_copy(update={"model": model})
    network = build_float_network(as_teacher, splits, setting="train.teacher_weights")
    return Teacher(network, accelerator.device)
