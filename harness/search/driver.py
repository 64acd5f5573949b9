"""From a trained run and budgets to `policy.json`, `frontier.json` and figures for a table."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.observer import SILENCE, Observer
from harness.problem.cost import cost_table
from harness.problem.policy import Policy
from harness.process_group import decided_by_rank_0
from harness.run.config import SearchConfig
from harness.run.files import digest_of
from harness.run.folder import RunDir
from harness.scores import num_folds
from harness.search.archive import PolicyArchive
from harness.search.counts_journal import holds_counts, read_counts
from harness.search.engine import EngineOptions, EngineResult, EngineSearch, PolicyArray
from harness.search.engine_form import SearchProblem
from harness.search.evaluator import ProposalEvaluator, run_on_ranks
from harness.search.expected import how_it_stands, what_it_buys
from harness.search.journal import Journal, candidates_mark
from harness.search.outcome import SearchFigures, SearchOutcome, outcome_of
from harness.search.predicted import Expectations
from harness.search.preparation import Prepared, prepared
from harness.search.request import SearchOptions, Target
from harness.search.results import JOURNAL_FILE, holds_policy, write_frontier, write_policy
from harness.search.starts import GRADIENT, NONE, Start, check_start, start_of, usual_start
from harness.trained_run import TrainedRun

logger = logging.getLogger(__name__)

LEAST_FINALISTS = 4
"""Of each budget of a frontier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a folder's searches know."""

    archive: PolicyArchive
    counts: dict[Policy, int] = field(default_factory=dict)
    """Wrong images by policy from searches of older versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How the engine searches, and what tells that from other searches of the folder."""

    options: EngineOptions
    search_id: str
    start: str
    """What it begins with, in a word."""


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
    check_start(options.start, options.strategy)
    with prepared(run, targets, out=out, options=options) as ready:
        shown = observer if ready.trained.is_main_process else SILENCE
        return _search_budgets(ready, options, shown)


def _search_budgets(
    ready: Prepared, options: SearchOptions, observer: Observer
) -> list[SearchOutcome]:
    trained, problem, targets, parent = ready.trained, ready.problem, ready.targets, ready.parent
    started = time.perf_counter()
    mark = candidates_mark(proposes_frozen=ready.proposes_frozen)
    known = open_archive(trained, parent, targets, mark=mark)
    plan = _plan(ready, known, options)
    _say_what_it_buys(options)
    shortlist_size = _num_finalists(trained, options)
    result, num_evaluated = _evaluated(
        ready, known, plan, shortlist=shortlist_size, observer=observer
    )
    seconds = time.perf_counter() - started
    logger.info("%d policies evaluated in %.1f s", num_evaluated, seconds)
    _say_what_is_left(options, result)
    own = known.archive.known_to(plan.search_id)
    num_images = trained.proposal_batches().num_images
    expected = Expectations(
        problem, own.scores, own.wrong, num_images=num_images, hints=plan.options.hints
    )
    figures = SearchFigures(
        strategy=options.strategy,
        evaluations=result.num_evaluations,
        seconds=seconds,
        model_error=result.model_error and result.model_error / expected.num_images,
        effects=expected.effects(),
    )
    # Of this search alone: it stays the same, whatever other searches add meanwhile.
    sums = known.counts | {policy: sum(row) for policy, row in own.scores.items()}
    scores = {policy: total / expected.num_images for policy, total in sums.items()}
    outcomes = []
    for target, shortlist in zip(targets, result.shortlists, strict=True):
        outcome = outcome_of(trained, target, shortlist, expected, figures, observer=observer)
        if trained.is_main_process:
            write_frontier(target.folder, trained.network, scores, target.budget)
            provenance = _provenance(trained, target, options, result, start=plan.start)
            provenance = {**provenance, **mark}
            write_policy(target.folder, trained.network, outcome, provenance=provenance)
        outcomes.append(outcome)
    return outcomes


def _plan(ready: Prepared, known: _Known, options: SearchOptions) -> _Plan:
    """Return how the engine searches; a search that was begun without a start goes on without."""
    problem, settings = ready.problem, ready.trained.config.search
    engine_options = EngineOptions(
        strategy=options.strategy,
        evaluations=options.evaluations,
        seed=options.seed,
        error_weight=settings.error_weight,
        refine_share=settings.refine_share,
        significance=settings.significance,
    )
    search_id = _search_id(problem, engine_options, Start())
    usual = usual_start(options.strategy)
    if options.start is None and known.archive.of_search(search_id):
        if usual != NONE:
            logger.info("this search was begun without gradients and goes on without")
        usual = NONE
    word = usual if options.start is None else options.start
    start = start_of(ready, word)
    plan = _Plan(
        options=replace(engine_options, starts=start.policies, hints=start.hints),
        search_id=_search_id(problem, engine_options, start),
        start=word if word in (NONE, GRADIENT) else "archive",
    )
    if not known.archive.of_search(plan.search_id):
        _say_what_is_new(ready, known, options)
    return plan


def _say_what_is_new(ready: Prepared, known: _Known, options: SearchOptions) -> None:
    """Say what a search that begins finds, and what it will put its results over."""
    if options.resume:
        held = [target.folder for target in ready.targets if holds_policy(target.folder)]
        for folder in held:
            logger.warning(
                "%s holds the result of a search with other settings; a new one begins with what "
                "was evaluated, and its result takes that place",
                folder,
            )
        if not known.archive.scores and not known.counts:
            logger.warning("%s holds no search to go on with; a new one begins", ready.parent)
    if known.archive.scores:
        logger.info(
            "%d policies are known from other searches of %s: they are answers too",
            len(known.archive.scores),
            ready.parent,
        )


def _say_what_it_buys(options: SearchOptions) -> None:
    bought = what_it_buys(options.strategy)
    if options.evaluations is not None and bought is not None:
        logger.info("%d evaluations: %s", options.evaluations, bought)


def _say_what_is_left(options: SearchOptions, result: EngineResult) -> None:
    """Say that a search ended before its evaluations did."""
    if options.evaluations is not None and result.num_evaluations < options.evaluations:
        logger.info(
            "%d of %d evaluations were needed: %s finds no further policy within the budget",
            result.num_evaluations,
            options.evaluations,
            options.strategy,
        )


def _evaluated(
    ready: Prepared, known: _Known, plan: _Plan, *, shortlist: int, observer: Observer
) -> tuple[EngineResult, int]:
    """Let the engine search; return what it found, and how many policies that took."""
    options, search_id = plan.options, plan.search_id
    before = decided_by_rank_0(lambda: known.archive.begin(search_id))
    trained = ready.trained
    work = observer.begin("policies evaluated", total=options.evaluations)
    evaluator = ProposalEvaluator(
        trained,
        known.archive,
        search_id=search_id,
        counts=known.counts,
        num_due=_num_due(known.archive, search_id, options.evaluations),
        work=work,
    )
    num_images = trained.proposal_batches().num_images

    def searched(evaluate: Callable[[PolicyArray], list[list[float]]]) -> EngineResult:
        engine = EngineSearch(ready.problem, options, known=before)

        def asked(policies: PolicyArray) -> list[list[float]]:
            work.say(how_it_stands(engine.status, num_images))
            return evaluate(policies)

        return engine.run(asked, shortlist=shortlist)

    result = run_on_ranks(searched, evaluator, is_main_process=trained.is_main_process)
    work.end()
    return result, evaluator.num_evaluated


def _num_finalists(trained: TrainedRun, options: SearchOptions) -> int:
    """Return how many policies of a budget are scored as they are reported.

    Budgets of a frontier share what one has: to score them all would take longer than the search.
    """
    finalists = trained.config.search.finalists
    if not options.frontier:
        return finalists
    return max(finalists // options.frontier, min(LEAST_FINALISTS, finalists))


def _num_due(archive: PolicyArchive, search_id: str, evaluations: int | None) -> int | None:
    """Return how many policies a search may still evaluate: it may be gone on with."""
    if evaluations is None:
        return None
    done = sum(len(record.scores) for record in archive.of_search(search_id))
    return max(evaluations - done, 0)


def _search_id(problem: SearchProblem, options: EngineOptions, start: Start) -> str:
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
            "error_weight": options.error_weight,
            **_changed_settings(options),
            **start.identity,
        }
    )


def _changed_settings(options: EngineOptions) -> dict[str, float | None]:
    """Return the settings that came after searches had an identity, where they are not usual."""
    usual = SearchConfig()
    values = {"refine_share": options.refine_share, "significance": options.significance}
    return {name: value for name, value in values.items() if value != getattr(usual, name)}


def open_archive(
    trained: TrainedRun,
    parent: Path,
    targets: Sequence[Target],
    *,
    mark: Mapping[str, str] = MappingProxyType({}),
) -> _Known:
    """Return what the journal of a search folder holds, which rank 0 alone reads and writes.

    Every rank is told what rank 0 read, or why it refused the file. A rank that knew less would
    evaluate other policies than the rest, which would wait for it for ever.

    Args:
        trained: The run.
        parent: The folder of the journal.
        targets: Budgets whose folders may hold journals of an older version.
        mark: What sets the searches of this folder apart from others of the same weights.

    Raises:
        RunError: A file was made with other weights, images or settings, or is damaged.
    """
    header = {**_journal_header(trained), **mark}
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
    trained: TrainedRun,
    target: Target,
    options: SearchOptions,
    result: EngineResult,
    *,
    start: str,
) -> dict[str, Any]:
    return {
        "run": trained.run.path.name,
        "weights": trained.weights_digest,
        "strategy": options.strategy,
        "start": start,
        **target.budget.targets,
        "score": trained.config.search.score,
        "evaluations": result.num_evaluations,
        "finalists": _num_finalists(trained, options),
        "seed": options.seed,
        "trace": result.trace,
    }
