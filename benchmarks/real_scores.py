"""What searches on a trained supernet are told, and what judges them, both kept on disk.

A search is told scores on a part of the search split that no other search is told of. Answers are
judged on the whole test split, statistics re-estimated as they are reported.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.kept_rows import KeptRows
from harness.accuracy import PolicyScorer
from harness.data import Batch, Draw, EvalBatches, ImageSplit, eval_batches
from harness.errors import ConfigError
from harness.problem.policy import Policy
from harness.run.config import Score
from harness.search.engine import PolicyArray
from harness.trained_run import TrainedRun

SCORED_AT_ONCE = 16
"""Policies scored between two writes."""
JUDGED_AT_ONCE = 4

Masks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a search is told of a policy."""

    score: Score = "kl"
    images: int = 500
    recalibrate_images: int = 125
    """Training images that re-estimate the statistics of each policy."""


class Part(ImageSplit):
    """Some images of a split."""

    def __init__(self, whole: ImageSplit, places: range) -> None:
        """Say which.

        Args:
            whole: The split.
            places: Of its images.
        """
        self.labels = whole.labels[list(places)]
        self.num_workers = 0
        self._whole = whole
        self._places = places

    def read(self, indices: Sequence[int], *, draw: Draw | None = None) -> Batch:
        """Return the images at `indices` of the part."""
        return self._whole.read([self._places[index] for index in indices], draw=draw)


def part_of(whole: ImageSplit, index: int, *, images: int, parts: int) -> Part:
    """Return one of several disjoint parts of a split, each spread over all of it.

    Raises:
        ConfigError: The split has too few images.
    """
    if images * parts > len(whole):
        raise ConfigError(
            f"{parts} parts of {images} images are more than the {len(whole)} of the split; "
            "take fewer"
        )
    stride = len(whole) // images
    return Part(whole, range(index, len(whole), stride)[:images])


class PartScores:
    """Scores of policies on one part of the search split, as the engine asks for them."""

    def __init__(
        self, trained: TrainedRun, folder: Path, told: Told, *, part: tuple[int, int]
    ) -> None:
        """Read what is kept.

        Args:
            trained: The run.
            folder: Where it is kept.
            told: What a search is told.
            part: Index of the part, and how many there are.
        """
        index, parts = part
        split = part_of(trained.splits.search, index, images=told.images, parts=parts)
        batches = eval_batches(split, batch_size=trained.config.eval.batch_size)
        stride = len(trained.splits.search) // told.images
        settings = {**_settings(trained), **asdict(told), "first": index, "stride": stride}
        self._kept = KeptRows(folder, "scores", settings)
        self._scorer = PolicyScorer(
            trained.supernet,
            batches,
            score=told.score,
            recalibration=_training(trained, told.recalibrate_images),
        )

    def __call__(self, policies: PolicyArray) -> list[list[float]]:
        """Return the scores by folds of the images."""
        asked = [Policy(one) for one in policies.tolist()]
        unknown = [one for one in dict.fromkeys(asked) if one not in self._kept]
        for start in range(0, len(unknown), SCORED_AT_ONCE):
            some = unknown[start : start + SCORED_AT_ONCE]
            parts = self._scorer.score(some).parts.tolist()
            self._kept.add(dict(zip(some, parts, strict=True)))
        return [self._kept[one] for one in asked]

    def sums(self, policies: PolicyArray) -> list[float]:
        """Return the scores as one number each."""
        return [sum(row) for row in self(policies)]


class Judge:
    """Which images of the test split policies classify rightly, as it is reported."""

    def __init__(self, trained: TrainedRun, folder: Path) -> None:
        """Read what is kept."""
        config = trained.config.eval
        settings = {**_settings(trained), "recalibrate_images": config.recalibrate_images}
        self._trained = trained
        self._kept = KeptRows(folder, "judged", settings)
        self._num_images = len(trained.splits.test)

    def right(self, policies: Sequence[Policy]) -> list[Masks]:
        """Return a mask (images,) for each policy."""
        unknown = [one for one in dict.fromkeys(policies) if one not in self._kept]
        for start in range(0, len(unknown), JUDGED_AT_ONCE):
            some = unknown[start : start + JUDGED_AT_ONCE]
            masks = self._trained.right_images(some, split="test")
            texts = [np.packbits(mask).tobytes().hex() for mask in masks]
            self._kept.add(dict(zip(some, texts, strict=True)))
        return [self._mask(self._kept[one]) for one in policies]

    def _mask(self, text: str) -> Masks:
        packed = np.frombuffer(bytes.fromhex(text), np.uint8)
        return np.unpackbits(packed, count=self._num_images).astype(np.bool_)


def _settings(trained: TrainedRun) -> dict[str, str | int]:
    return {
        "network": trained.network.fingerprint,
        "weights": trained.weights_digest,
        "search": trained.splits.identity.search.digest,
        "test": trained.splits.identity.test.digest,
        "train": trained.splits.identity.train.digest,
        "batch_size": trained.config.eval.batch_size,
    }


def _training(trained: TrainedRun, num_images: int) -> EvalBatches | None:
    return trained.batches("train", limit=num_images) if num_images else None
