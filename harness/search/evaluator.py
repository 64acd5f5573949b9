"""Answers the engine: evaluates the policies that it asks for, each only once in a search call."""

import numpy as np

from harness.observer import SILENCE, Work
from harness.problem.policy import Policy
from harness.search.archive import PolicyArchive
from harness.search.engine import PolicyArray
from harness.trained_run import TrainedRun


class ProposalEvaluator:
    """The callable that the engine hands batches of policies to.

    What the archive holds is answered from there. So a search is resumed by searching anew: the
    engine asks the same questions, and the first ones cost nothing.

    Attributes:
        num_evaluated: Policies that were not in the archive.
    """

    def __init__(
        self, trained: TrainedRun, archive: PolicyArchive, *, work: Work | None = None
    ) -> None:
        """Set up an evaluator.

        Args:
            trained: The run that is searched.
            archive: Where counts are looked up and kept.
            work: Told of every policy that is evaluated.
        """
        self._trained = trained
        self._archive = archive
        self._work = work or SILENCE.begin("policies evaluated")
        self.num_evaluated = 0

    def __call__(self, policies: PolicyArray) -> list[float]:
        """Return the wrong images of each policy, (n, layers, 2) to n counts."""
        batch = [Policy(policy) for policy in np.asarray(policies).tolist()]
        missing = self._archive.missing(batch)
        if missing:
            wrong_counts = self._trained.count_wrong_proposals(
                missing, on_progress=self._work.advance
            )
            self._archive.add(dict(zip(missing, wrong_counts, strict=True)))
            self.num_evaluated += len(missing)
        return [float(self._archive.wrong_counts[policy]) for policy in batch]
