"""A further budget answered by what a search folder knows, without evaluating anything.

One set of evaluations serves every budget: the model is fitted again to the folder's journal, and
the exact knapsack over it takes milliseconds. Neither weights nor images are read, nor is torch
imported, so that an answer takes less than a second.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import ranks
from harness.errors import RunError
from harness.problem.cost import bitops, weight_bytes
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.run.checkpoint_facts import load_candidates, weights_digest
from harness.run.checkpoint_folder import existing_checkpoint
from harness.run.folder import RunDir
from harness.run.policy_file import save_policy
from harness.search.archive import PolicyArchive
from harness.search.engine_form import LayerValues, SearchProblem
from harness.search.journal import CANDIDATES, candidates_mark, journal_as_found, journal_header
from harness.search.kept_gradients import gradients_identity, kept_gradients
from harness.search.predicted import Expectations, PredictedAccuracy
from harness.search.request import (
    SearchOptions,
    Target,
    naming_frozen_bits,
    proposed_candidates,
    targets_of,
)
from harness.search.results import JOURNAL_FILE, POLICY_FILE

logger = logging.getLogger(__name__)

ARCHIVE = "archive"
"""What stands where other results have their strategy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAnswer:
    """One budget's policy by the model, as nobody has measured it."""

    target: Target
    policy: Policy
    costs: tuple[int, ...]
    """Of each resource that the budget limits."""
    num_known: int
    """Evaluated policies that the model was fitted to."""
    accuracy: PredictedAccuracy | None
    """None where the budget is far from what was evaluated, or the journal does not say how many
    images its policies have wrong."""
    score: float | None
    """Mean score where the policy happens to be one that was measured."""
    predicted: tuple[float, float] | None
    """Mean score that the model expects, with its standard deviation; None far from what was
    evaluated."""


def answer(
    run: RunDir, targets: Sequence[str], *, out: Path | None = None, options: SearchOptions
) -> list[ArchiveAnswer]:
    """Answer budgets from a search folder, and write each budget's `policy.json`.

    Args:
        run: The run that was searched.
        targets: Amounts of BitOPs, a budget each.
        out: The search folder; by default the run's `search/`.
        options: Further limits, tables of costs, a frontier.

    Raises:
        HarnessError: There is no journal, it is of other weights, or a budget cannot be met.
    """
    parent = out or run.path / "search"
    network, checkpoint = run.load_network(), existing_checkpoint(run)
    present = load_candidates(checkpoint, network)
    candidates = proposed_candidates(present, network, options)
    mark = candidates_mark(proposes_frozen=candidates != present)
    with naming_frozen_bits(candidates, network):
        found = targets_of(targets, network.narrowed(candidates), parent, options, name=ARCHIVE)
    problem = SearchProblem(
        network=network, candidates=candidates, budgets=[target.budget for target in found]
    )
    known = read_archive(parent / JOURNAL_FILE, problem, checkpoint, mark=mark)
    expected = known.expectations(problem)
    answers = [
        ArchiveAnswer(
            target=target,
            policy=one.policy,
            costs=target.budget.costs(network, one.policy),
            num_known=len(known.archive.scores),
            score=one.mean_score(known.num_images),
            predicted=expected.score(one.policy),
            accuracy=expected.accuracy(one.policy),
        )
        for target, (one, *_) in zip(found, expected.shortlists(1), strict=True)
    ]
    if ranks.is_main_process():
        for answered in answers:
            _warn_if_far(answered)
            _write(run, network, answered, mark=mark)
    return answers


def _warn_if_far(one: ArchiveAnswer) -> None:
    if one.predicted is None:
        logger.warning(
            "budget %s is far from what was evaluated, so nothing is predicted of its policy; "
            "measure it with --confirm 10, or search that budget",
            one.target.budget.text,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownArchive:
    """What a search folder knows."""

    archive: PolicyArchive
    num_images: int
    """On which its policies were scored."""
    hints: LayerValues | None
    """What gradients said when its search began; None where that is not kept."""

    def expectations(self, problem: SearchProblem) -> Expectations:
        """Return the models of it."""
        known = self.archive
        return Expectations(
            problem, known.scores, known.wrong, num_images=self.num_images, hints=self.hints
        )


def read_archive(
    path: Path, problem: SearchProblem, checkpoint: Path, *, mark: Mapping[str, str]
) -> KnownArchive:
    """Return what the folder of a journal knows.

    Args:
        path: The file.
        problem: What is asked.
        checkpoint: Of the weights that the journal must be of.
        mark: Of `candidates_mark`, which its header must have or not have.

    Raises:
        RunError: There is none, it is of other weights or damaged, or it knows nothing.
    """
    header = journal_header(path)
    own = gradients_identity(problem.network.fingerprint, weights_digest(checkpoint))
    for key, value in own.items():
        if header.get(key) != value:
            raise RunError(
                f"journal {path} was made with {key} {header.get(key)}, the run has {value}; "
                "search the run again, or give the --out of a search of these weights"
            )
    _check_proposed(path, header, mark)
    archive = PolicyArchive(records=journal_as_found(path, header, problem.candidates).read())
    if not archive.scores:
        raise RunError(f"journal {path} holds no evaluated policy; search the run first")
    hints = kept_gradients(path.parent, own, problem.candidates)
    return KnownArchive(archive=archive, num_images=header["images"], hints=hints)


def _check_proposed(path: Path, header: dict[str, Any], mark: Mapping[str, str]) -> None:
    """Check that a journal's searches proposed frozen bits if and only if an answer does."""
    if mark and CANDIDATES not in header:
        raise RunError(
            f"journal {path} is of searches without --all-candidates; leave that out, or give the "
            "--out of a search with it"
        )
    if not mark and CANDIDATES in header:
        raise RunError(
            f"journal {path} is of searches with --all-candidates; give that too, or the --out of "
            "a search without it"
        )


def _write(
    run: RunDir, network: NetworkSpec, one: ArchiveAnswer, *, mark: Mapping[str, str]
) -> None:
    """Write a budget's policy over an earlier answer: the journal, which it came from, stays."""
    one.target.folder.mkdir(exist_ok=True)
    facts = {
        "bitops": bitops(network, one.policy),
        "weight_bytes": weight_bytes(network, one.policy),
        "accuracy": {"predicted": None if one.accuracy is None else one.accuracy.accuracy},
        "provenance": provenance_of(run, one.target, num_known=one.num_known, mark=mark),
    }
    save_policy(one.target.folder / POLICY_FILE, one.policy, network, facts=facts)


def provenance_of(
    run: RunDir, target: Target, *, num_known: int, mark: Mapping[str, str]
) -> dict[str, Any]:
    """Return where an answer comes from, as policy.json says it."""
    return {
        "run": run.path.name,
        "strategy": ARCHIVE,
        **target.budget.targets,
        "evaluations": num_known,
        **mark,
    }
