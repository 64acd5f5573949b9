"""Scores policies of a run on its images: for the search, and for the final report."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.accuracy import count_wrong_by_policy
from harness.checkpoint import EMA_FILE, load_supernet, newest_checkpoint
from harness.data import EvalBatches, ImageSplit, Splits, eval_batches, load_splits
from harness.problem.policy import Policy
from harness.quant.supernet import Supernet
from harness.run.config import Config
from harness.run.folder import RunDir
from harness.runtime import create_accelerator, lay_channels_last
from harness.search.engine import PolicyArray
from harness.search.journal import Journal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """A trained run in memory, on its device."""

    run: RunDir
    config: Config
    supernet: Supernet
    splits: Splits
    is_main_process: bool

    def recalibration(self, num_images: int) -> EvalBatches | None:
        """Return training images that re-estimate BN statistics; None for no images."""
        return self._batches(self.splits.train, num_images) if num_images else None

    def search_batches(self) -> EvalBatches:
        """Return the images that score proposals."""
        return self._batches(self.splits.search, self.config.search.images)

    def accuracy(
        self,
        policies: list[Policy],
        *,
        split: str,
        on_progress: Callable[[float], None] | None = None,
    ) -> list[float]:
        """Return each policy's accuracy (0..1) with its own BN statistics, as it is reported.

        Args:
            policies: Policies to report.
            split: `train`, `search` or `test`.
            on_progress: Called after each policy.
        """
        batches = self._batches(getattr(self.splits, split), None)
        recalibration = self.recalibration(self.config.eval.recalibrate_images)
        errors = count_wrong_by_policy(
            self.supernet, policies, batches, recalibration=recalibration, on_progress=on_progress
        )
        return [1 - count / batches.num_images for count in errors]

    def weights_digest(self) -> str:
        """Return 16 hex digits of the weights that are evaluated."""
        checkpoint = newest_checkpoint(self.run)
        assert checkpoint is not None, "the supernet was loaded from a checkpoint"
        return hashlib.sha256((checkpoint / EMA_FILE).read_bytes()).hexdigest()[:16]

    def _batches(self, split: ImageSplit, limit: int | None) -> EvalBatches:
        return eval_batches(split, batch_size=self.config.eval.batch_size, limit=limit)


def load_run(run: RunDir) -> TrainedRun:
    """Load a run's configuration, averaged weights and data.

    Raises:
        HarnessError: The run, its checkpoint or its data cannot be used.
    """
    config = run.load_config()
    accelerator = create_accelerator()
    if not run.is_finished and accelerator.is_main_process:
        logger.warning("%s is not finished; its newest checkpoint is used", run.path)
    # Channels last: the same counts without recalibration, a third less time on two CPU cores.
    supernet = load_supernet(run)
    lay_channels_last(supernet)
    return TrainedRun(
        run=run,
        config=config,
        supernet=supernet.to(accelerator.device),
        splits=load_splits(config.data, seed=config.seed),
        is_main_process=accelerator.is_main_process,
    )


class ProposalEvaluator:
    """The callable that the engine hands batches of policies to; it notes them in the journal."""

    def __init__(
        self,
        trained: TrainedRun,
        journal: Journal,
        *,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._supernet = trained.supernet
        self._batches = trained.search_batches()
        self._recalibration = trained.recalibration(trained.config.search.recalibrate_images)
        self._journal = journal
        self._on_progress = on_progress
        self.num_evaluated = 0

    def __call__(self, policies: PolicyArray) -> list[float]:
        """Return the wrong images of each policy, (n, layers, 2) to n counts."""
        batch = [Policy(policy) for policy in np.asarray(policies).tolist()]
        errors = count_wrong_by_policy(
            self._supernet,
            batch,
            self._batches,
            recalibration=self._recalibration,
            on_progress=self._on_progress,
        )
        self._journal.add(batch, errors)
        self.num_evaluated += len(batch)
        return [float(count) for count in errors]
