"""From a trained run and targets to `policy.json`, `frontier.json` and figures for a table."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.observer import SILENCE, Observer
from harness.problem.budget import parse_target, slack_warning
from harness.problem.cost import BITOPS, Resource
from harness.problem.network import NetworkSpec
from harness.process_group import decided_by_rank_0
from harness.run.files import remove_torn_writes
from harness.run.folder import RunDir
from harness.run.lock import locked
from harness.search.archive import PolicyArchive
from harness.search.engine import DEFAULT_STRATEGY, EngineOptions, EngineResult, run_search
from harness.search.evaluator import ProposalEvaluator
from harness.search.journal import Journal
from harness.search.report import Report, report
from harness.search.results import JOURNAL_FILE, holds_results, write_frontier, write_policy
from harness.trained_run import TrainedRun, load_run, load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome(Report):
    """One target's result."""

    strategy: str
    target_text: str
    resource: Resource
    """What the target limits."""
    limit: int
    """The target in the resource's unit."""
    evaluations: int
    """Policies that the search asked for, those known from a journal included."""
    seconds: float
    """Of the search: neither loading nor the choice among the finalists."""
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What a user may set for a search."""

    strategy: str = DEFAULT_STRATEGY
    resource: Resource = BITOPS
    """What the targets limit."""
    evaluations: int | None = None
    seed: int = 0
    resume: bool = False
    data_path: Path | None = None
    """Where the run's images lie now; None for where they lay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One budget of a call."""

    text: str
    """As the user typed it."""
    limit: int
    """In the resource's unit."""
    folder: Path
    """Where its files go."""


def search(
    run: RunDir,
    targets: Sequence[str],
    *,
    out: Path | None = None,
    options: SearchOptions,
    observer: Observer = SILENCE,
) -> list[SearchOutcome]:
    """Search a policy for each target; later targets reuse what earlier ones evaluated.

    Args:
        run: A supernet run.
        targets: Budgets as the user typed them.
        out: Folder that gets one folder per target; by default the run's `search/`.
        options: Strategy, resource and limits.
        observer: Told, on rank 0, how far it is.

    Raises:
        HarnessError: The input cannot be used; nothing was written over.
    """
    weights = load_weights(run)
    # A target is within reach of what the layers may take now, not of all they ever could.
    present = weights.supernet.network.narrowed(weights.candidates)
    budgets = _budgets(targets, present, out or run.path / "search", options)
    _check_free(budgets, options)
    trained = load_run(run, weights=weights, data_path=options.data_path)
    archive = PolicyArchive()
    if not trained.is_main_process:
        observer = SILENCE
    with ExitStack() as stack:

        def begin() -> None:
            for target in budgets:
                stack.enter_context(locked(target.folder))
            _check_free(budgets, options)  # Again: another search may have ended meanwhile.
            for target in budgets:
                remove_torn_writes(target.folder)

        decided_by_rank_0(begin)
        return [_search_target(trained, target, options, archive, observer) for target in budgets]


def _check_free(budgets: Sequence[Target], options: SearchOptions) -> None:
    for target in budgets:
        if not options.resume and holds_results(target.folder):
            raise RunError(
                f"{target.folder} holds a search already; give --resume to go on with it, "
                "or another --out"
            )


def _budgets(
    targets: Sequence[str], network: NetworkSpec, parent: Path, options: SearchOptions
) -> list[Target]:
    resource = options.resource
    # Folders under a BitOPs budget keep the names that they had before there were others.
    words = [options.strategy] if resource == BITOPS else [options.strategy, resource.name]
    budgets = [
        Target(
            text=text,
            limit=parse_target(text, network, resource),
            folder=parent / "_".join([*words, text.strip().replace("%", "pct")]),
        )
        for text in targets
    ]
    for target in budgets:
        warning = slack_warning(target.text, target.limit, network, resource)
        if warning is not None:
            logger.warning("%s", warning)
    if len({target.limit for target in budgets}) < len(budgets):
        raise RunError(f"a target is given twice; give each --target-{resource.name} once")
    return budgets


def _search_target(
    trained: TrainedRun,
    target: Target,
    options: SearchOptions,
    archive: PolicyArchive,
    observer: Observer,
) -> SearchOutcome:
    started = time.perf_counter()
    open_journal(trained, target.folder / JOURNAL_FILE, archive)
    work = observer.begin(f"{target.text}: policies evaluated")
    evaluator = ProposalEvaluator(trained, archive, work=work)
    resource = options.resource
    result = run_search(
        trained.network,
        target.limit,
        evaluator,
        candidates=trained.candidates,
        options=EngineOptions(
            strategy=options.strategy,
            error_weight=trained.config.search.error_weight,
            evaluations=options.evaluations,
        ),
        resource=resource,
    )
    seconds = time.perf_counter() - started
    work.end()
    figures = report(
        trained,
        archive.wrong_counts,
        target.limit,
        resource=resource,
        text=target.text,
        observer=observer,
    )
    if trained.is_main_process:
        provenance = _provenance(trained, target, options, result)
        write_frontier(target.folder, trained.network, archive.wrong_counts, resource)
        write_policy(target.folder, trained.network, figures.best, provenance=provenance)
    logger.info(
        "%s: %d policies evaluated in %.1f s", target.text, evaluator.num_evaluated, seconds
    )
    return SearchOutcome(
        best=figures.best,
        best_uniform=figures.best_uniform,
        dearer_uniform=figures.dearer_uniform,
        strategy=options.strategy,
        target_text=target.text,
        resource=resource,
        limit=target.limit,
        evaluations=result.num_evaluations,
        seconds=seconds,
        folder=target.folder,
    )


def open_journal(trained: TrainedRun, path: Path, archive: PolicyArchive) -> None:
    """Let the archive go on in a target's journal, which rank 0 alone reads and writes.

    Every rank is told what rank 0 read, or why it refused the file. A rank that knew less would
    evaluate other policies than the rest, which would wait for it for ever.

    Raises:
        RunError: The file was made with other weights, images or settings, or is damaged.
    """
    journal = Journal(path, _journal_header(trained), trained.candidates)
    contents = decided_by_rank_0(journal.read)
    archive.continue_in(journal if trained.is_main_process else None, contents)


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
        f"target_{options.resource.name}": target.limit,
        "evaluations": result.num_evaluations,
        "finalists": trained.config.search.finalists,
        "seed": options.seed,
        "trace": result.trace,
    }
