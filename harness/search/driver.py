"""From a trained run and targets to `policy.json`, `frontier.json` and figures for a table."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from rich.progress import Progress

from harness.errors import RunError
from harness.problem.budget import parse_target
from harness.problem.cost import bitops, weight_bytes
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.run.files import FileFormat, write_json
from harness.run.folder import RunDir
from harness.run.policy_file import save_policy
from harness.runtime import progress
from harness.search.engine import Found, greedy_search
from harness.search.evaluator import ProposalEvaluator, TrainedRun, load_run
from harness.search.journal import Journal
from harness.search.report import Report, report

logger = logging.getLogger(__name__)

RESULTS = ("journal.jsonl", "policy.json", "frontier.json")
"""Files of one target's folder."""

FRONTIER_FORMAT = FileFormat(name="frontier")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome(Report):
    """One target's result."""

    target_text: str
    target_bitops: int
    evaluations: int
    seconds: float
    """Of the search: neither loading nor the choice among the finalists."""
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What a user may set for a search."""

    strategy: str = "greedy"
    evaluations: int | None = None
    seed: int = 0
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One budget of a call."""

    text: str
    """As the user typed it."""
    bitops: int
    folder: Path
    """Where its files go."""


def search(
    run: RunDir, targets: Sequence[str], *, out: Path | None = None, options: SearchOptions
) -> list[SearchOutcome]:
    """Search a policy for each target; later targets reuse what earlier ones evaluated.

    Args:
        run: A supernet run.
        targets: Budgets as the user typed them.
        out: Folder that gets one folder per target; by default the run's `search/`.
        options: Strategy and limits.

    Raises:
        HarnessError: The input cannot be used; nothing was written over.
    """
    network = run.load_network()
    parent = out or run.path / "search"
    budgets = [
        Target(
            text=text,
            bitops=parse_target(text, network),
            folder=parent / f"{options.strategy}_{text.strip().replace('%', 'pct')}",
        )
        for text in targets
    ]
    if len({target.bitops for target in budgets}) < len(budgets):
        raise RunError("a target is given twice; give each --target-bitops once")
    _check_folders([target.folder for target in budgets], resume=options.resume)
    trained = load_run(run)
    known: dict[Policy, int] = {}
    with progress(enabled=trained.is_main_process) as bar:
        return [_search_target(trained, target, options, known, bar) for target in budgets]


def _search_target(
    trained: TrainedRun,
    target: Target,
    options: SearchOptions,
    known: dict[Policy, int],
    bar: Progress,
) -> SearchOutcome:
    started = time.perf_counter()
    network = trained.supernet.network
    journal = _open_journal(trained, target, known)
    searching = bar.add_task(f"{target.text}: policies evaluated", total=None)
    evaluator = ProposalEvaluator(trained, journal, on_progress=partial(bar.advance, searching))
    found = greedy_search(
        network,
        target.bitops,
        evaluator,
        error_weight=trained.config.search.error_weight,
        evaluations=options.evaluations,
        known=list(known.items()),
    )
    known.update(journal.errors)
    seconds = time.perf_counter() - started
    bar.update(searching, total=evaluator.num_evaluated)
    chosen = report(trained, known, target.bitops, bar=bar, text=target.text)
    outcome = SearchOutcome(
        found=chosen.found,
        uniform_within=chosen.uniform_within,
        uniform_above=chosen.uniform_above,
        target_text=target.text,
        target_bitops=target.bitops,
        evaluations=found.num_evaluations,
        seconds=seconds,
        folder=target.folder,
    )
    if trained.is_main_process:
        _write(trained, outcome, found, options, known)
    logger.info(
        "%s: %d policies evaluated in %.1f s", target.text, evaluator.num_evaluated, seconds
    )
    return outcome


def _open_journal(trained: TrainedRun, target: Target, known: dict[Policy, int]) -> Journal:
    """Return the target's journal; every rank then knows what rank 0 read, or why it cannot be.

    Ranks that knew less would ask for different evaluations.
    """
    path = target.folder / "journal.jsonl" if trained.is_main_process else None
    header, network = _journal_header(trained), trained.supernet.network
    problem: RunError | None = None
    journal = Journal(None, header, network)
    try:
        journal = Journal(path, header, network, known=known)
    except RunError as error:
        problem = error
    read, problem = broadcast_object_list([journal.errors, problem])
    if problem is not None:
        raise problem
    known.update(read)
    return journal


def _write(
    trained: TrainedRun,
    outcome: SearchOutcome,
    found: Found,
    options: SearchOptions,
    known: dict[Policy, int],
) -> None:
    network = trained.supernet.network
    reported = outcome.found
    provenance = {
        "run": trained.run.path.name,
        "weights": trained.weights_digest(),
        "strategy": options.strategy,
        "target_bitops": outcome.target_bitops,
        "evaluations": found.num_evaluations,
        "finalists": trained.config.search.finalists,
        "seed": options.seed,
        "trace": found.trace,
    }
    accuracy = {"search": reported.search_accuracy, "test": reported.test_accuracy}
    facts = {
        "bitops": reported.bitops,
        "weight_bytes": weight_bytes(network, reported.policy),
        "accuracy": accuracy,
        "provenance": provenance,
    }
    frontier = {"network": network.fingerprint, "policies": _frontier(network, known)}
    write_json(outcome.folder / "frontier.json", frontier, file_format=FRONTIER_FORMAT)
    save_policy(outcome.folder / "policy.json", reported.policy, network, facts=facts)


def _frontier(network: NetworkSpec, known: dict[Policy, int]) -> list[dict[str, Any]]:
    """Return the evaluated policies that none evaluated beats in both BitOPs and errors."""
    rows = sorted((bitops(network, policy), wrong, policy) for policy, wrong in known.items())
    best: list[dict[str, Any]] = []
    for cost, wrong, policy in rows:
        if not best or wrong < best[-1]["errors"]:
            best.append({"bitops": cost, "errors": wrong, "bits": policy.bits})
    return best


def _journal_header(trained: TrainedRun) -> dict[str, Any]:
    config = trained.config
    return {
        "network": trained.supernet.network.fingerprint,
        "weights": trained.weights_digest(),
        "images": trained.search_batches().num_images,
        "batch_size": config.eval.batch_size,
        "recalibrate_images": config.search.recalibrate_images,
    }


def _check_folders(folders: Sequence[Path], *, resume: bool) -> None:
    for folder in folders:
        if not resume and any((folder / name).exists() for name in RESULTS):
            raise RunError(
                f"{folder} holds a search already; give --resume to go on with it, or another --out"
            )
