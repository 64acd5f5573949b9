"""The section `train` of a configuration: the optimizer step, what it minimises, its schedule."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from harness.run.section import Section
from harness.run.settings import DECIDES_NO_WEIGHTS, Since


class TrainConfig(Section):
    """The optimizer step, its schedule and how often a run validates and saves."""

    mode: Literal["supernet", "float"] = "supernet"
    """`supernet` trains every bit-width at once; `float` trains the plain network."""
    epochs: int = Field(default=40, ge=0)
    """Passes over the training images (paper: 150); 0 calibrates step sizes and stops."""
    batch_size: int = Field(default=128, ge=2)
    """Images per process and step (paper: 4 processes of 128); batch normalisation takes two."""
    num_random_passes: int = Field(default=3, ge=0)
    """K, the random policies trained beside the max pass in every step (paper: 3)."""
    min_pass: Annotated[bool, Since(format=5, before=False)] = False
    """Whether every step also trains the smallest candidates of all layers, as the sandwich rule of
    slimmable networks does (arXiv 1903.05134); it is taught as random passes are, and has lines of
    its own in metrics.jsonl (`min_ce` ...)."""
    teacher: Annotated[str | None, Since(format=5, before=None)] = None
    """Name of a built-in or timm float network whose logits teach every pass in place of the max
    pass's own, the max pass included (arXiv 2502.01199); null has none."""
    teacher_weights: Annotated[Path | None, Since(format=5, before=None)] = None
    """Its weights: the folder of a float run, or a `.safetensors` file; null takes timm's
    pretrained ones."""
    learning_rate: float = Field(default=0.04, gt=0)
    """Peak rate of SGD on weights, biases and batch normalisation (paper: 0.04)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Nesterov momentum of SGD (paper: 0.9)."""
    weight_decay: float = Field(default=2.5e-5, ge=0)
    """L2 decay of convolution weights only (paper: 2.5e-5)."""
    step_learning_rate: float = Field(default=2e-4, gt=0)
    """Peak rate of Adam on the quantizers' step sizes (paper: 1e-5, from pretrained weights)."""
    warmup_epochs: float = Field(default=2.0, ge=0)
    """Epochs of linear warm-up before the cosine (paper: 5)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing of the cross entropy in the max pass."""
    mixup: Annotated[float, Since(format=5, before=0.0)] = Field(default=0.0, ge=0)
    """Mixup (arXiv 1710.09412) of every batch with itself in reverse order, labels included: both
    parameters of the beta distribution of their shares (timm: 0.2 to 0.8); 0 leaves it out."""
    cutmix: Annotated[float, Since(format=5, before=0.0)] = Field(default=0.0, ge=0)
    """The same for CutMix (arXiv 1905.04899), which pastes a rectangle (timm: 1.0). Beside mixup,
    each batch takes one of the two by the toss of a coin."""
    distortion_weight: Annotated[float, Since(format=5, before=0.0)] = Field(default=0.0, ge=0)
    """Weight of information distortion mitigation (arXiv 2401.01543, section 3.3; paper: 0.01): the
    mean squared error, summed over layers at their smallest weight candidate, of the feature behind
    the layer's normalisation to that of the max pass. 0 leaves it out."""
    distortion_max_bytes: Annotated[int, Since(format=5, before=2**30)] = Field(default=2**30, ge=0)
    """The most that features kept for it take on each process; layers beyond are left out."""
    dampening_weight: Annotated[float, Since(format=5, before=0.0)] = Field(default=0.0, ge=0)
    """Weight at the end of training of oscillation dampening (arXiv 2203.11086, equation 8; paper:
    0.1): the squared distance of weights inside their range to the grid, of layers above their
    smallest candidate. 0 leaves it out."""
    dampening_start: Annotated[float, Since(format=5, before=0.27)] = Field(
        default=0.27, ge=0, lt=1
    )
    """Share of training after which that weight rises from 0 on a cosine (paper: 40 of 150)."""
    two_bit_weight_decay: Annotated[float | None, Since(format=5, before=None)] = Field(
        default=None, ge=0
    )
    """L2 decay inside the range of convolutions whose weights have 2 bits in a pass of the step, in
    place of `weight_decay` (the paper's code has 0); null is `weight_decay` for them too."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Gradients are clipped element-wise to plus or minus this (paper: 1)."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay per step of the averaged weights that are evaluated (paper: 0.9997)."""
    calibration_images: int = Field(default=512, ge=1)
    """Training images whose activations set the first step sizes."""
    bit_scheduler: Annotated[bool, Since(format=5, before=False)] = False
    """Whether layers with many weights near rounding boundaries lose their smallest weight
    candidate for a while (paper: on; `training/bit_scheduler.py` has when and which)."""
    scheduler_start_epoch: Annotated[int | None, Since(format=5, before=None)] = Field(
        default=None, ge=1
    )
    """Epochs before the bit-width scheduler first acts (paper: 6 of 150); null is that share of
    `epochs`, and one at least."""
    validate_every_epochs: Annotated[int, DECIDES_NO_WEIGHTS] = Field(default=5, ge=1)
    """Epochs between validations of the uniform policies on the search split."""
    checkpoint_every_epochs: Annotated[int, DECIDES_NO_WEIGHTS] = Field(default=5, ge=1)
    """Epochs between checkpoints; the last epoch always saves one."""
    keep_checkpoints: Annotated[int, DECIDES_NO_WEIGHTS] = Field(default=2, ge=1)
    """Newest checkpoints kept; older ones are removed."""
    trackers: Annotated[
        tuple[str, ...], DECIDES_NO_WEIGHTS, Since(format=5, before=["tensorboard"])
    ] = ("tensorboard",)
    """What shows the metrics beside metrics.jsonl, by Accelerate's names: tensorboard, wandb,
    trackio, mlflow ..., or `all` that are installed; [] shows them nowhere else. Only tensorboard
    comes with harness."""
    explosion_factor: Annotated[float, DECIDES_NO_WEIGHTS, Since(format=5, before=0.0)] = Field(
        default=100.0, ge=0
    )
    """A run stops where the loss of a pass, without penalties of features and weights, is more than
    this times log(classes), the cross entropy of guessing; 0 sets no limit. Passes of trainings
    that learn stayed below 1.2 times, at 2 bits too; at 2,500 times the default learning rate they
    went beyond 100 within 21 steps."""
    rank_timeout_seconds: Annotated[int, DECIDES_NO_WEIGHTS, Since(format=3, before=1800)] = Field(
        default=1800, ge=1, le=86_400
    )
    """Longest wait of a process for another of the same run, in training, search and evaluation:
    those that work end when one was stopped or hangs. Longer than rank 0 takes to save."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(
                f"batch_size {self.batch_size} is odd, train.mixup and train.cutmix mix pairs of "
                "images; make it even or set both to 0"
            )
        return self

    @model_validator(mode="after")
    def _check_teacher(self) -> Self:
        if self.teacher_weights is not None and self.teacher is None:
            raise ValueError(
                f"teacher_weights {self.teacher_weights} need train.teacher, the name of their "
                "network; give it or leave both out"
            )
        return self
