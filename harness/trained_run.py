"""A trained run in memory: what search, evaluation, export and reports have in common.

Everything is fixed when the run is loaded, the weights' digest too: a training that goes on beside
it and saves newer weights changes nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.accuracy import PolicyScorer, accuracy_of, right_by_policy
from harness.checkpoint import load_supernet
from harness.data import (
    EvalBatches,
    Splits,
    check_same_data,
    check_same_images,
    eval_batches,
    load_splits,
)
from harness.errors import CheckpointError
from harness.problem.candidates import Candidates
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.process_group import decided_by_rank_0, is_so_on_any_rank
from harness.quant.supernet import Supernet
from harness.run.checkpoint_facts import load_candidates, weights_digest
from harness.run.checkpoint_folder import existing_checkpoint
from harness.run.config import Config, Score
from harness.run.data_file import DataIdentity
from harness.run.folder import RunDir
from harness.run.state_file import load_state
from harness.runtime import create_accelerator, lay_channels_last
from harness.scores import PolicyScores
from harness.shares import OnProgress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedWeights:
    """What search and evaluation take from one checkpoint, all of it read at once."""

    supernet: Supernet
    """With the averaged weights, on the CPU."""
    candidates: Candidates
    """What each layer may take now."""
    data: DataIdentity | None
    """Which images it was trained on; None where nobody noted it."""
    digest: str
    """16 hex digits of the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """A run's averaged weights on their device, with its data."""

    run: RunDir
    config: Config
    supernet: Supernet
    candidates: Candidates
    """What each layer may take now."""
    splits: Splits
    weights_digest: str
    """16 hex digits of the weights that were loaded."""
    is_main_process: bool
    _scorers: dict[Score, PolicyScorer] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What scores proposals, once it is asked for: it keeps images on the device."""

    @property
    def network(self) -> NetworkSpec:
        """The quantized layers."""
        return self.supernet.network

    def batches(self, split: str, *, limit: int | None = None) -> EvalBatches:
        """Return the first `limit` images of a split in evaluation batches.

        Args:
            split: `train`, `search` or `test`.
            limit: Most images; None is all.
        """
        images = getattr(self.splits, split)
        return eval_batches(images, batch_size=self.config.eval.batch_size, limit=limit)

    def proposal_batches(self) -> EvalBatches:
        """Return the images that score the proposals of a search."""
        return self.batches("search", limit=self.config.search.images)

    def score_proposals(
        self, policies: Sequence[Policy], *, on_progress: OnProgress | None = None
    ) -> PolicyScores:
        """Return each policy's `search.score` and wrong images on the images for proposals.

        Args:
            policies: Policies to score.
            on_progress: Told how far the work is, in policies.

        Returns:
            The score of a policy is the sum of its parts over the number of images of
            `proposal_batches`.

        Raises:
            NotFiniteError: A policy's logits are no finite numbers.
        """
        return self._scorer(self.config.search.score).score(policies, on_progress=on_progress)

    def right_images(
        self, policies: Sequence[Policy], *, split: str, on_progress: OnProgress | None = None
    ) -> NDArray[np.bool_]:
        """Return which images of a split each policy classifies rightly, as it is reported.

        Each policy has its own BN statistics. What tells two policies apart is the images that one
        of them alone gets right (`harness.problem.significance`).

        Args:
            policies: Policies to report.
            split: `train`, `search` or `test`.
            on_progress: Told how far the work is, in policies.

        Returns:
            (policies, images), images in the order of the split.
        """
        return right_by_policy(
            self.supernet,
            policies,
            self.batches(split),
            recalibration=self._recalibration(self.config.eval.recalibrate_images),
            on_progress=on_progress,
        )

    def accuracy(
        self, policies: Sequence[Policy], *, split: str, on_progress: OnProgress | None = None
    ) -> list[float]:
        """Return each policy's accuracy (0..1) with its own BN statistics, as it is reported.

        Args:
            policies: Policies to report.
            split: `train`, `search` or `test`.
            on_progress: Told how far the work is, in policies.
        """
        right = self.right_images(policies, split=split, on_progress=on_progress)
        return [accuracy_of(images) for images in right]

    def _scorer(self, score: Score) -> PolicyScorer:
        if score not in self._scorers:
            self._scorers[score] = PolicyScorer(
                self.supernet,
                self.proposal_batches(),
                score=score,
                recalibration=self._recalibration(self.config.search.recalibrate_images),
            )
        return self._scorers[score]

    def _recalibration(self, num_images: int) -> EvalBatches | None:
        """Return the training images that re-estimate statistics; 0 is none."""
        return self.batches("train", limit=num_images) if num_images else None


def load_weights(run: RunDir) -> TrainedWeights:
    """Load the newest whole checkpoint of a run, the same one on every rank.

    A training that goes on beside may remove it while it is read: then there is a later one.

    Raises:
        RunError: The run has no supernet, or no checkpoint that can be used.
    """
    timeout_seconds = run.load_config().train.rank_timeout_seconds
    accelerator = create_accelerator(rank_timeout_seconds=timeout_seconds)
    if not run.is_finished and accelerator.is_main_process:
        logger.warning("%s is not finished; its newest checkpoint is used", run.path)
    while True:
        checkpoint = decided_by_rank_0(lambda: existing_checkpoint(run))
        refusal: CheckpointError | None = None
        try:
            weights = _read_weights(run, checkpoint)
        except CheckpointError as problem:
            refusal = problem
        if is_so_on_any_rank(refusal is not None and not checkpoint.exists()):
            continue
        if refusal is not None:
            raise refusal
        return weights


def _read_weights(run: RunDir, checkpoint: Path) -> TrainedWeights:
    digest = weights_digest(checkpoint)
    supernet = load_supernet(run, checkpoint=checkpoint)
    return TrainedWeights(
        supernet=supernet,
        candidates=load_candidates(checkpoint, supernet.network),
        data=load_state(checkpoint)["data"],
        digest=digest,
    )


def load_run(
    run: RunDir, *, weights: TrainedWeights | None = None, data_path: Path | None = None
) -> TrainedRun:
    """Load a run's configuration, averaged weights and data.

    Args:
        run: The run.
        weights: Of `load_weights`, where the caller has them.
        data_path: Where its images lie now; None for where they lay.

    Raises:
        HarnessError: The run, its checkpoint or its data cannot be used.
    """
    config = run.load_config().with_data_path(data_path)
    # Before the images, which may take long to look through: a damaged checkpoint is said at once.
    weights = weights or load_weights(run)
    accelerator = create_accelerator(rank_timeout_seconds=config.train.rank_timeout_seconds)
    network = weights.supernet.network
    splits = load_splits(config.data, seed=config.seed)
    check_same_data(weights.data, splits.identity, run=run.path)
    check_same_images(
        splits, input_size=network.input_size, num_classes=network.num_classes, run=run.path
    )
    # Channels last: the same counts without recalibration, a third less time on two CPU cores.
    lay_channels_last(weights.supernet)
    return TrainedRun(
        run=run,
        config=config,
        supernet=weights.supernet.to(accelerator.device),
        candidates=weights.candidates,
        splits=splits,
        weights_digest=weights.digest,
        is_main_process=accelerator.is_main_process,
    )
