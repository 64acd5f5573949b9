"""What a search compares policies by, from logits: a score of each image, lower is better.

A policy's score is the mean over images. It is kept as sums over folds of the images, image i of
the split in fold i mod `NUM_FOLDS`: folds give the standard error of a score, and of the difference
of two on the same images. Everything is float64, and each sum has one order, so that equal logits
give equal bits whoever else is evaluated.
"""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from harness.run.config import Score

NUM_FOLDS = 32
"""Folds of the images; a split of fewer images has one fold for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyScores:
    """What policies score on the same images, and how many of them each classifies wrongly."""

    parts: NDArray[np.float64]
    """(policies, folds): sums of the score over the images of each fold."""
    num_wrong: NDArray[np.int64]
    """(policies,): wrong images by the largest logit, whatever the score is."""


def num_folds(num_images: int) -> int:
    """Return how many folds that many images have."""
    return min(NUM_FOLDS, num_images)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log softmax in float64, (N, classes) to the same; finite for finite logits."""
    return logits.double().log_softmax(dim=1)


def score_of_images(
    score: Score, logits: Tensor, labels: Tensor, *, teacher: Tensor | None = None
) -> Tensor:
    """Return the score of each image, float64 (N,), at least 0.

    Args:
        score: Which one; `search.score` describes them.
        logits: Of the policy, (N, classes).
        labels: Right classes, int64 (N,).
        teacher: Log probabilities under the max policy, (N, classes); `kl` needs them.
    """
    if score == "errors":
        return _is_wrong(logits, labels).double()
    given = log_probabilities(logits)
    if score == "cross_entropy":
        return -given.gather(1, labels.unsqueeze(1)).squeeze(1)
    assert teacher is not None, "the KL divergence is one from the max policy's outputs"
    # KL(softmax(t) || softmax(logits)), the term of arXiv 2401.01543 that trains random policies.
    return (teacher.exp() * (teacher - given)).sum(dim=1).clamp(min=0)


def num_wrong_images(logits: Tensor, labels: Tensor) -> Tensor:
    """Return on how many images another class has the largest logit, int64 () on the device."""
    return _is_wrong(logits, labels).sum()


def fold_sums(values: Tensor, *, first: int, folds: int) -> Tensor:
    """Return the sum of the values in each fold, (N,) to (folds,).

    Args:
        values: Of consecutive images.
        first: Place of the first one in its split.
        folds: How many folds there are.
    """
    # Zeros change no sum; adding by index would add in any order on a GPU.
    before = first % folds
    after = -(before + len(values)) % folds
    return F.pad(values, (before, after)).view(-1, folds).sum(dim=0)


def _is_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(dim=1) != labels
