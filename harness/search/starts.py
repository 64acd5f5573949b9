"""What a search begins with: what gradients say, or the best policies of another search."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import eval_batches
from harness.errors import ConfigError, PolicyError, RunError, short
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.process_group import decided_by_rank_0
from harness.search.archive import PolicyArchive
from harness.search.engine import knapsack_policies
from harness.search.engine_form import LayerValues, SearchProblem
from harness.search.journal import journal_as_found, journal_header
from harness.search.kept_gradients import gradients_identity, keep_gradients, kept_gradients
from harness.search.predicted import MODELLED
from harness.search.preparation import Prepared
from harness.search.results import JOURNAL_FILE
from harness.sensitivity import BATCH_SIZE, IMAGES, gradient_sensitivities, pair_values
from harness.trained_run import TrainedRun

GRADIENT, NONE = "gradient", "none"
"""Words in the place of a folder."""

WARM_POLICIES = 10
"""For each budget, the best of another archive: beyond that a search finds better ones itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a search begins with, the same on every rank."""

    policies: tuple[Policy, ...] = ()
    """Measured first."""
    hints: LayerValues | None = None
    """What each pair of bits should add to the score, for the model of a guided search."""
    identity: dict[str, Any] = field(default_factory=dict)
    """What tells a search that begins so from others; nothing for one that begins with nothing, as
    searches of older versions do."""


STARTED = ("guided", "greedy", "evolution")
"""Strategies that measure what they are given first."""


def usual_start(strategy: str) -> str:
    """Return what a strategy begins with where the user does not say: what measured best."""
    return GRADIENT if strategy == MODELLED else NONE


def check_start(start: str | None, strategy: str) -> None:
    """Check that a strategy can begin with what the user asks for, before anything is loaded.

    Raises:
        ConfigError: It begins with nothing.
        RunError: There is no search in that folder.
    """
    if start in (None, NONE):
        return
    if strategy not in STARTED:
        raise ConfigError(
            f"strategy {strategy} has no use for --start {short(start or '')}; leave it out, or "
            f"choose {', '.join(STARTED)}"
        )
    if start != GRADIENT:
        journal_header(Path(start or "") / JOURNAL_FILE)


def start_of(ready: Prepared, start: str) -> Start:
    """Return what a search begins with.

    Args:
        ready: The run and its budgets.
        start: `gradient`, `none`, or the folder of another search of the same network.

    Raises:
        HarnessError: There is no such search, or it is of another network.
    """
    if start == NONE:
        return Start()
    if start == GRADIENT:
        values = _gradient_values(ready)
        policies = decided_by_rank_0(lambda: tuple(knapsack_policies(ready.problem, values)))
        # The search is known by the word, not by the numbers: where gradients.json is lost they are
        # made again, and may then differ in their last digits.
        return Start(policies=policies, hints=values, identity={"start": GRADIENT})
    journal = Path(start) / JOURNAL_FILE
    policies = decided_by_rank_0(lambda: _best_of_archive(journal, ready.problem))
    return Start(policies=policies, identity={"starts": [policy.bits for policy in policies]})


def _gradient_values(ready: Prepared) -> LayerValues:
    """Return what gradients say, from the search's folder where it is there; else put it there."""
    trained, folder = ready.trained, ready.parent
    identity = gradients_identity(trained.network.fingerprint, trained.weights_digest)
    kept = decided_by_rank_0(lambda: kept_gradients(folder, identity, trained.candidates))
    if kept is not None:
        return kept
    own = gradient_values(trained)

    def keep() -> LayerValues:
        keep_gradients(folder, identity, own)
        return own

    return decided_by_rank_0(keep)


def gradient_values(trained: TrainedRun) -> LayerValues:
    """Return for each layer what its pairs of bits add to the score, by gradients."""
    images = eval_batches(trained.splits.search, batch_size=BATCH_SIZE, limit=IMAGES)
    found = gradient_sensitivities(trained.supernet, images, candidates=trained.candidates)
    return list(_by_pair(pair_values(found, trained.candidates), trained.candidates))


def _by_pair(
    values: list[NDArray[np.float64]], candidates: Candidates
) -> Iterator[dict[tuple[int, int], float]]:
    for layer, table in zip(candidates.layers, values, strict=True):
        yield {
            (weight, act): float(table[row, column])
            for row, weight in enumerate(layer.weight)
            for column, act in enumerate(layer.act)
        }


def _best_of_archive(path: Path, problem: SearchProblem) -> tuple[Policy, ...]:
    """Return for each budget the policies with the lowest scores that another search knows.

    Its weights, images and score may be others: only the policies are taken.
    """
    header = journal_header(path)
    if header.get("network") != problem.network.fingerprint:
        raise RunError(
            f"journal {path} is of another network, so its policies mean nothing here; give "
            "--start the folder of a search of this network"
        )
    journal = journal_as_found(path, header, problem.network.candidates)
    scores = PolicyArchive(records=journal.read()).scores
    ranked = sorted(scores, key=lambda policy: (sum(scores[policy]), policy))
    usable = [policy for policy in ranked if _is_taken(policy, problem.candidates)]
    found: dict[Policy, None] = {}
    for budget in problem.budgets:
        within = (policy for policy in usable if budget.allows(problem.network, policy))
        found.update(dict.fromkeys(islice(within, WARM_POLICIES)))
    return tuple(found)


def _is_taken(policy: Policy, candidates: Candidates) -> bool:
    """Return whether a policy has only bits that are candidates still."""
    try:
        candidates.check(policy)
    except PolicyError:
        return False
    return True
