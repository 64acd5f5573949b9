"""Answers the engine: evaluates the policies that it asks for, each once in a folder's searches.

The engine runs on rank 0 alone: its arithmetic may differ between kinds of processors, and ranks
that were asked for different policies would wait for each other for ever. The others evaluate what
it asks.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np

from harness.errors import HarnessError, Stopped
from harness.observer import SILENCE, Work
from harness.problem.policy import Policy
from harness.process_group import decided_by_rank_0
from harness.search.archive import PolicyArchive
from harness.search.engine import PolicyArray
from harness.search.expected import duration
from harness.trained_run import TrainedRun

logger = logging.getLogger(__name__)

PACED = 5
"""Policies whose time says what a search will cost."""

Result = TypeVar("Result")


class ProposalEvaluator:
    """The callable that the engine hands batches of policies to, on every rank alike.

    What the archive holds is answered from there. So a search is resumed by searching anew: the
    engine asks the same questions, and the first ones cost nothing.

    Attributes:
        num_evaluated: Policies that were not known.
    """

    def __init__(
        self,
        trained: TrainedRun,
        archive: PolicyArchive,
        *,
        search_id: str,
        counts: Mapping[Policy, int] | None = None,
        num_due: int | None = None,
        work: Work | None = None,
    ) -> None:
        """Set up an evaluator.

        Args:
            trained: The run that is searched.
            archive: Where scores are looked up and kept.
            search_id: The search whose policies they are.
            counts: Wrong images by policy from a search of an older version.
            num_due: Policies that the search may still evaluate; None is no limit.
            work: Told of every policy that is evaluated.
        """
        self._trained = trained
        self._archive = archive
        self._search_id = search_id
        self._counts = counts or {}
        self._num_due = num_due
        self._work = work or SILENCE.begin("policies evaluated")
        self.num_evaluated = 0

    def __call__(self, policies: PolicyArray) -> list[list[float]]:
        """Return each policy's score by folds of the images, (n, layers, 2) to n rows.

        They are sums over the images, not means: counts of errors stay whole numbers, which tie
        where they are equal, however they fall to the folds.
        """
        batch = [Policy(policy) for policy in np.asarray(policies).tolist()]
        missing = [it for it in self._archive.missing(batch) if it not in self._counts]
        for some in self._portions(missing):
            began = time.perf_counter()
            self._score(some)
            if not self.num_evaluated:
                self._say_pace((time.perf_counter() - began) / len(some), len(some))
            self.num_evaluated += len(some)
        answers = [self._known(policy) for policy in batch]
        # A count has no folds; scores of one batch have them all, or none has.
        has_folds = len({len(row) for row in answers}) == 1
        return answers if has_folds else [[sum(row)] for row in answers]

    def _portions(self, missing: list[Policy]) -> list[list[Policy]]:
        """Return what is scored at once: the first few of a search by themselves, to time them."""
        # A search that goes on writes the records that it would have written.
        has_begun = any(record.scores for record in self._archive.of_search(self._search_id))
        cut = 0 if self.num_evaluated or has_begun else PACED
        return [some for some in (missing[:cut], missing[cut:]) if some]

    def _score(self, policies: list[Policy]) -> None:
        found = self._trained.score_proposals(policies, on_progress=self._work.advance)
        scores = dict(zip(policies, found.parts.tolist(), strict=True))
        wrong = dict(zip(policies, found.num_wrong.tolist(), strict=True))
        self._archive.add(self._search_id, scores, wrong)

    def _say_pace(self, seconds: float, count: int) -> None:
        left = 0 if self._num_due is None else self._num_due - count
        if left <= 0:
            return
        logger.info(
            "an evaluation takes %s, measured on the first %d; the other %d take about %s",
            duration(seconds),
            count,
            left,
            duration(left * seconds),
        )

    def _known(self, policy: Policy) -> list[float]:
        scores = self._archive.scores.get(policy)
        return [float(self._counts[policy])] if scores is None else list(scores)


def run_on_ranks(
    search: Callable[[Callable[[PolicyArray], list[list[float]]]], Result],
    evaluate: Callable[[PolicyArray], list[list[float]]],
    *,
    is_main_process: bool,
) -> Result:
    """Search on rank 0 while all ranks evaluate; return the result on all of them.

    Args:
        search: Called on rank 0 with what evaluates a batch on all ranks.
        evaluate: Evaluates this rank's share of a batch, and returns the same on all ranks.
        is_main_process: Whether this is rank 0.

    Raises:
        HarnessError: What `search` raised on rank 0, on every rank.
    """
    if not is_main_process:
        while (policies := decided_by_rank_0(_asked_of_rank_0)) is not None:
            evaluate(policies)
        told: Result = decided_by_rank_0(_asked_of_rank_0)
        return told
    is_evaluating = False

    def asked(policies: PolicyArray) -> list[list[float]]:
        nonlocal is_evaluating
        is_evaluating = True
        scores = evaluate(decided_by_rank_0(lambda: policies))
        is_evaluating = False
        return scores

    try:
        result = search(asked)
    except HarnessError as refusal:
        # What ends an evaluation ends it on all ranks, or they miss this one in it: none listens.
        # A signal is sent to all.
        if not is_evaluating and not isinstance(refusal, Stopped):
            decided_by_rank_0(partial(_refuse, refusal))
        raise
    decided_by_rank_0(lambda: None)
    return decided_by_rank_0(lambda: result)


def _refuse(refusal: HarnessError) -> None:
    raise refusal


def _asked_of_rank_0() -> Any:
    raise AssertionError("rank 0 alone decides")
