"""An external teacher: a float network whose logits teach every pass, the max pass too."""

import hashlib

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harness.data import Splits, eval_batches
from harness.errors import CheckpointError, ModelError, short
from harness.models import NetworkSettings, num_pretrained_classes
from harness.run.config import Config, ModelConfig
from harness.runtime import lay_channels_last
from harness.training.float_task import build_float_network

SETTINGS = NetworkSettings(
    name="train.teacher",
    weights="train.teacher_weights",
    is_pretrained="train.teacher_weights is not given",
    otherwise="give train.teacher_weights, a float run on these images",
)


class Teacher:
    """A float network that stands still; no part of the run's model, average or checkpoints.

    Attributes:
        digest: 16 hex digits over its weights, by which a checkpoint knows it again.
    """

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        """Take a network with its weights, in float32 on the CPU.

        Args:
            model: The network.
            accelerator: Of this process: where the images of a step lie, and in which precision
                passes run.
        """
        self.digest = _digest(model)
        self._accelerator = accelerator
        self._model = model.to(accelerator.device).eval().requires_grad_(requires_grad=False)
        lay_channels_last(self._model)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes), float32, detached."""
        # The engine wraps the run's own network into this; nothing else wraps the teacher.
        with self._accelerator.autocast():
            logits: Tensor = self._model(images)
        return logits.float()


def build_teacher(config: Config, splits: Splits, accelerator: Accelerator) -> Teacher | None:
    """Return the teacher that the configuration names; None where it names none.

    Raises:
        ModelError: The model or its weights are not to be had, are of other classes, or give no
            usable logits for these images.
    """
    name, weights = config.train.teacher, config.train.teacher_weights
    if name is None:
        return None
    if weights is None:
        _check_pretrained_classes(name, splits.num_classes)
    model = ModelConfig(name=name, weights=weights, pretrained=weights is None)
    as_teacher = config.model_copy(update={"model": model})
    network = build_float_network(as_teacher, splits, settings=SETTINGS)
    teacher = Teacher(network, accelerator)
    _check_logits(teacher, name, splits, accelerator.device)
    return teacher


def check_same_teacher(there: str | None, teacher: Teacher | None, config: Config) -> None:
    """Check that the teacher is the one that a run had.

    Args:
        there: The digest that the run kept; None where it is older than that, or had no teacher.
        teacher: The one that would teach it from here on.
        config: Names the teacher.

    Raises:
        CheckpointError: Its weights are others.
    """
    if there is None or teacher is None or there == teacher.digest:
        return
    weights = config.train.teacher_weights
    what = (
        f"the pretrained weights of {SETTINGS.name} {config.train.teacher}"
        if weights is None
        else f"the weights at {SETTINGS.weights} {weights}"
    )
    raise CheckpointError(
        f"{what} are not those that taught the run until here ({short(str(there))} there, "
        f"{teacher.digest} here); restore them, or train a new run"
    )


def _digest(model: nn.Module) -> str:
    whole = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        # As bytes, for numpy has no bfloat16.
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()[:16]


def _check_pretrained_classes(name: str, num_classes: int) -> None:
    """Refuse a teacher whose last layer timm would make up, which would teach noise."""
    known = num_pretrained_classes(name)
    if known is not None and known != num_classes:
        raise ModelError(
            f"the pretrained weights of {SETTINGS.name} {name} know {known} classes, the images "
            f"have {num_classes}; {SETTINGS.otherwise}"
        )


def _check_logits(teacher: Teacher, name: str, splits: Splits, device: torch.device) -> None:
    """Run the teacher on a training image, before anything of the run is written."""
    images, _ = eval_batches(splits.train, batch_size=1, limit=1)[0]
    try:
        logits = teacher(images.to(device))
    except Exception as error:  # Networks refuse a size in as many ways as there are.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        size = " x ".join(map(str, splits.input_size))
        raise ModelError(
            f"{SETTINGS.name} {name} cannot be run on images of {size} "
            f"({short(reason.rstrip('.'))}); give another teacher, or set data.image_size to what "
            "it takes"
        ) from error
    expected = (1, splits.num_classes)
    if logits.shape != expected:
        raise ModelError(
            f"{SETTINGS.name} {name} gives values of shape {tuple(logits.shape)} for an image of "
            f"{splits.num_classes} classes, not logits of shape {expected}; give another teacher"
        )
    if not logits.isfinite().all():
        raise ModelError(
            f"the logits of {SETTINGS.name} {name} are no finite numbers on the first training "
            f"image; give other {SETTINGS.weights}"
        )
