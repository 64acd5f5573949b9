"""Mix the images of a batch, and their labels with them: mixup and CutMix, as timm has them.

A batch is mixed with itself in reverse order (arXiv 1710.09412; CutMix 1905.04899), by a share that
is a pure function of (seed, step, rank). All passes of a step see the same mixed images.
"""

import numpy as np
from timm.data.mixup import Mixup
from torch import Tensor

from harness.data import draws
from harness.data.augmenting import global_draws_kept
from harness.run.config import TrainConfig


class BatchMixing:
    """Mixes every batch of one rank as the configuration says."""

    def __init__(self, train: TrainConfig, *, num_classes: int, seed: int, rank: int) -> None:
        """Take what a draw depends on.

        Args:
            train: Says how; where both shares are 0 nothing is mixed.
            num_classes: Of the labels.
            seed: Of the run.
            rank: Of this process.
        """
        self._seed = seed
        self._rank = rank
        self._mixup = None
        if train.mixup or train.cutmix:
            self._mixup = Mixup(
                mixup_alpha=train.mixup,
                cutmix_alpha=train.cutmix,
                label_smoothing=0.0,  # Terms of the loss smooth, and not all of them.
                num_classes=num_classes,
            )

    def __call__(self, images: Tensor, labels: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch that a step trains on; the one given stays as it was.

        Args:
            images: (N, C, H, W), N even.
            labels: Class indices, (N,).
            step: Index of the optimizer step, from 0.

        Returns:
            Images (N, C, H, W) and the share of each class, float (N, classes); where nothing is
            mixed what was given.
        """
        if self._mixup is None:
            return images, labels
        key = np.random.SeedSequence([draws.MIXING, self._seed, step, self._rank])
        with global_draws_kept():
            np.random.seed(key.generate_state(1))  # noqa: NPY002 - timm draws from the global one.
            mixed: tuple[Tensor, Tensor] = self._mixup(images.clone(), labels)
        return mixed
