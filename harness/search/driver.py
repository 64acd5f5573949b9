"""From a trained run and budgets to `policy.json`, `frontier.json` and figures for a table."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.observer import SILENCE, Observer
from harness.problem.budget import Budget
from harness.problem.cost import cost_table
from harness.problem.policy import Policy
from harness.process_group import decided_by_rank_0
from harness.run.files import digest_of, remove_torn_writes
from harness.run.folder import RunDir
from harness.run.lock import locked
from harness.scores import num_folds
from harness.search.archive import PolicyArchive
from harness.search.counts_journal import holds_counts, read_counts
from harness.search.engine import (
    EngineOptions,
    EngineResult,
    EngineSearch,
    Found,
    SearchProblem,
)
from harness.search.evaluator import ProposalEvaluator, run_on_ranks
from harness.search.journal import Journal
from harness.search.report import Report, report
from harness.search.request import SearchOptions, Target, check_free, targets_of
from harness.search.results import JOURNAL_FILE, write_frontier, write_policy
from harness.trained_run import TrainedRun, load_run, load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome(Report):
    """One budget's result."""

    strategy: str
    budget: Budget
    evaluations: int
    """Policies that the search asked for, over all budgets, those in its journal included."""
    seconds: float
    """Of the search over all budgets: neither loading nor the choice among the finalists."""
    predicted: tuple[float, float] | None
    """Mean score that the model expects of the policy, with its standard deviation."""
    score: float | None
    """Mean score measured on the images for proposals; None where it was not."""
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a folder's searches know."""

    archive: PolicyArchive
    counts: dict[Policy, int] = field(default_factory=dict)
    """Wrong images by policy from searches of older versions."""

    @property
    def sums(self) -> dict[Policy, float]:
        """Score by policy, the sum over the images."""
        return self.counts | {policy: sum(row) for policy, row in self.archive.scores.items()}


def search(
    run: RunDir,
    targets: Sequence[str],
    *,
    out: Path | None = None,
    options: SearchOptions,
    observer: Observer = SILENCE,
) -> list[SearchOutcome]:
    """Search a policy for each budget; one set of evaluations serves all.

    Args:
        run: A supernet run.
        targets: Amounts of BitOPs as the user typed them, a budget each; none where
            `options.limits` are a budget by themselves.
        out: Folder that gets the journal and a folder per budget; by default the run's `search/`.
        options: Strategy, limits and how many evaluations.
        observer: Told, on rank 0, how far it is.

    Raises:
        HarnessError: The input cannot be used; nothing was written over.
    """
    weights = load_weights(run)
    # A target is within reach of what the layers may take now, not of all they ever could.
    present = weights.supernet.network.narrowed(weights.candidates)
    parent = out or run.path / "search"
    budgets = targets_of(targets, present, parent, options)
    problem = SearchProblem(
        network=weights.supernet.network,
        candidates=weights.candidates,
        budgets=[target.budget for target in budgets],
    )
    # Refuses limits that no policy keeps together before anything is loaded or written.
    EngineSearch(problem, _engine_options(options))
    check_free(budgets, options)
    trained = load_run(run, weights=weights, data_path=options.data_path)
    if not trained.is_main_process:
        observer = SILENCE
    with ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(locked(parent))
            check_free(budgets, options)  # Again: another search may have ended meanwhile.
            remove_torn_writes(parent)
            for target in budgets:
                target.folder.mkdir(exist_ok=True)
                remove_torn_writes(target.folder)

        decided_by_rank_0(begin)
        return _search_budgets(trained, problem, budgets, parent, options, observer)


def _search_budgets(
    trained: TrainedRun,
    problem: SearchProblem,
    targets: Sequence[Target],
    parent: Path,
    options: SearchOptions,
    observer: Observer,
) -> list[SearchOutcome]:
    started = time.perf_counter()
    known = open_archive(trained, parent, targets)
    search_id = _search_id(problem, options, error_weight=trained.config.search.error_weight)
    before = decided_by_rank_0(lambda: known.archive.begin(search_id))
    work = observer.begin("policies evaluated", total=options.evaluations)
    evaluator = ProposalEvaluator(
        trained, known.archive, search_id=search_id, counts=known.counts, work=work
    )
    config = trained.config.search
    engine_options = _engine_options(options, error_weight=config.error_weight)
    result = run_on_ranks(
        lambda evaluate: EngineSearch(problem, engine_options, known=before).run(
            evaluate, shortlist=config.finalists
        ),
        evaluator,
        is_main_process=trained.is_main_process,
    )
    seconds = time.perf_counter() - started
    work.end()
    logger.info("%d policies evaluated in %.1f s", evaluator.num_evaluated, seconds)
    num_images = trained.proposal_batches().num_images
    scores = {policy: total / num_images for policy, total in known.sums.items()}
    outcomes = []
    for index, target in enumerate(targets):
        outcome = _outcome(trained, target, options, (result, index), seconds, observer)
        if trained.is_main_process:
            write_frontier(target.folder, trained.network, scores, target.budget)
            provenance = _provenance(trained, target, options, result)
            write_policy(target.folder, trained.network, outcome, provenance=provenance)
        outcomes.append(outcome)
    return outcomes


def _engine_options(options: SearchOptions, *, error_weight: float = 1.0) -> EngineOptions:
    return EngineOptions(
        strategy=options.strategy,
        evaluations=options.evaluations,
        seed=options.seed,
        error_weight=error_weight,
    )


def _outcome(
    trained: TrainedRun,
    target: Target,
    options: SearchOptions,
    found: tuple[EngineResult, int],
    seconds: float,
    observer: Observer,
) -> SearchOutcome:
    result, index = found
    shortlist = result.shortlists[index]
    num_images = trained.proposal_batches().num_images
    figures = report(trained, [one.policy for one in shortlist], target.budget, observer=observer)
    chosen = next((one for one in shortlist if one.policy == figures.best.policy), None)
    score, predicted = _means(chosen, num_images)
    return SearchOutcome(
        best=figures.best,
        best_uniform=figures.best_uniform,
        dearer_uniform=figures.dearer_uniform,
        is_told_apart=figures.is_told_apart,
        strategy=options.strategy,
        budget=target.budget,
        evaluations=result.num_evaluations,
        seconds=seconds,
        predicted=predicted,
        score=score,
        folder=target.folder,
    )


def _means(
    chosen: Found | None, num_images: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Return score and prediction of a policy as means over the images, as far as it has them."""
    if chosen is None:
        return None, None
    score, predicted = chosen.score, chosen.predicted
    return (
        None if score is None else score / num_images,
        None if predicted is None else (predicted[0] / num_images, predicted[1] / num_images),
    )


def _search_id(problem: SearchProblem, options: SearchOptions, *, error_weight: float) -> str:
    """Return what tells this search from others of the folder: all that decides what it does.

    Beyond that there is what decides the scores, which stands in the journal's header.
    """
    measured = [resource for resource in problem.resources if resource.is_measured]
    return digest_of(
        {
            "strategy": options.strategy,
            "budgets": [
                {limit.resource.name: limit.amount for limit in budget.limits}
                for budget in problem.budgets
            ],
            "costs": [
                cost_table(problem.network, problem.candidates, resource) for resource in measured
            ],
            "evaluations": options.evaluations,
            "seed": options.seed,
            "error_weight": error_weight,
        }
    )


def open_archive(trained: TrainedRun, parent: Path, targets: Sequence[Target]) -> _Known:
    """Return what the journal of a search folder holds, which rank 0 alone reads and writes.

    Every rank is told what rank 0 read, or why it refused the file. A rank that knew less would
    evaluate other policies than the rest, which would wait for it for ever.

    Args:
        trained: The run.
        parent: The folder of the journal.
        targets: Budgets whose folders may hold journals of an older version.

    Raises:
        RunError: A file was made with other weights, images or settings, or is damaged.
    """
    header = _journal_header(trained)
    score = trained.config.search.score
    journal = Journal(
        parent / JOURNAL_FILE,
        {"score": score, **header},
        trained.candidates,
        num_folds=num_folds(header["images"]),
    )

    def counted() -> dict[Policy, int]:
        found: dict[Policy, int] = {}
        for target in targets:
            path = target.folder / JOURNAL_FILE
            if path.exists() and holds_counts(path):
                found |= read_counts(path, header, trained.candidates)
        return found

    counts = decided_by_rank_0(counted)
    records = decided_by_rank_0(journal.recover)
    archive = PolicyArchive(journal if trained.is_main_process else None, records)
    return _Known(archive=archive, counts=counts if score == "errors" else {})


def _journal_header(trained: TrainedRun) -> dict[str, Any]:
    config = trained.config
    return {
        "network": trained.network.fingerprint,
        "weights": trained.weights_digest,
        "images": trained.proposal_batches().num_images,
        "batch_size": config.eval.batch_size,
        "recalibrate_images": config.search.recalibrate_images,
        "data": trained.splits.identity.to_json(),
    }


def _provenance(
    trained: TrainedRun, target: Target, options: SearchOptions, result: EngineResult
) -> dict[str, Any]:
    return {
        "run": trained.run.path.name,
        "weights": trained.weights_digest,
        "strategy": options.strategy,
        **{
            f"target_{limit.resource.key}": limit.resource.in_unit(limit.amount)
            for limit in target.budget.limits
        },
        "score": trained.config.search.score,
        "evaluations": result.num_evaluations,
        "finalists": trained.config.search.finalists,
        "seed": options.seed,
        "trace": result.trace,
    }
