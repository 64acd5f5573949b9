"""What a search is asked for: budgets as a user typed them, each with its folder, and settings."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BudgetError, RunError
from harness.problem.budget import (
    Budget,
    frontier_texts,
    parse_budget,
    slack_warnings,
    target_budget,
)
from harness.problem.candidates import Candidates
from harness.problem.cost import Resource
from harness.problem.network import NetworkSpec
from harness.run.cost_file import measured_resource
from harness.search.engine import DEFAULT_EVALUATIONS, DEFAULT_STRATEGY
from harness.search.results import holds_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What a user may set for a search."""

    strategy: str = DEFAULT_STRATEGY
    evaluations: int | None = DEFAULT_EVALUATIONS
    """Most policies evaluated, over all budgets; None is no limit."""
    seed: int = 0
    start: str | None = None
    """`gradient`, `none`, or the folder of a search of the same network; None for what is usual for
    the strategy."""
    resume: bool = False
    data_path: Path | None = None
    """Where the run's images lie now; None for where they lay."""
    limits: Sequence[str] = ()
    """`NAME=AMOUNT`, limits that hold in every budget, beside its BitOPs."""
    costs: Sequence[str] = ()
    """`NAME:UNIT=FILE`, tables of what layers were measured at."""
    frontier: int = 0
    """Budgets of BitOPs between the cheapest and the dearest policy, beside the named ones."""
    all_candidates: bool = False
    """Propose also bits that are frozen: all that the layers began with."""


@contextmanager
def naming_frozen_bits(present: Candidates, network: NetworkSpec) -> Iterator[None]:
    """Have a refused budget say that bits are frozen, which is why less cannot be reached.

    Args:
        present: What is proposed.
        network: The network as it began.
    """
    try:
        yield
    except BudgetError as error:
        pairs = zip(present.layers, network.candidates.layers, strict=True)
        num_frozen = sum(own != full for own, full in pairs)
        if not num_frozen:
            raise
        raise BudgetError(
            f"{error} (the bit-width scheduler has frozen bits of {num_frozen} layers; "
            "--all-candidates proposes them too)"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One budget of a call."""

    budget: Budget
    folder: Path
    """Where its files go."""


def proposed_candidates(
    present: Candidates, network: NetworkSpec, options: SearchOptions
) -> Candidates:
    """Return what a search may propose: what the layers may take now, or all that they ever could.

    Args:
        present: What the layers may take now.
        network: The network as it began.
        options: Whether frozen bits are proposed too; a warning says where there are none.
    """
    if not options.all_candidates:
        return present
    if present == network.candidates:
        logger.warning("--all-candidates changes nothing: no bits of this run are frozen")
    return network.candidates


def check_free(targets: Sequence[Target], options: SearchOptions) -> None:
    """Check that no target's folder holds results that would be lost.

    Raises:
        RunError: One does, and the search is not to go on with it.
    """
    for target in targets:
        if not options.resume and holds_results(target.folder):
            raise RunError(
                f"{target.folder} holds a search already; give --resume to go on with it, "
                "or another --out"
            )


def targets_of(
    targets: Sequence[str],
    network: NetworkSpec,
    parent: Path,
    options: SearchOptions,
    *,
    name: str | None = None,
) -> list[Target]:
    """Return the budgets of a call, each with its folder; a warning says which bind nothing.

    Args:
        targets: Amounts of BitOPs as the user typed them, a budget each.
        network: The network, narrowed to what its layers may take now.
        parent: The search's folder.
        options: Further limits, tables of costs, and how many budgets of a frontier.
        name: What the names of the budgets' folders begin with; by default the strategy.

    Raises:
        HarnessError: A budget is none, or cannot be met; a table cannot be used.
    """
    if options.frontier:
        targets = [*targets, *frontier_texts(network, options.frontier)]
    measured = _measured(network, options)
    by_itself = [target_budget(text, network) for text in targets]
    if by_itself and not options.limits:
        found = by_itself
    else:
        joint = [[f"bitops={text}"] for text in targets] or [[]]
        found = [parse_budget([*one, *options.limits], network, measured=measured) for one in joint]
    limited = {limit.resource.name for budget in found for limit in budget.limits}
    for resource in measured:
        if resource.name not in limited:
            raise BudgetError(
                f"costs of {resource.name} are given and no limit of it, so they decide nothing; "
                f"add --budget {resource.name}=AMOUNT or leave them out"
            )
    warnings = (warning for budget in found for warning in slack_warnings(budget, network))
    for warning in dict.fromkeys(warnings):
        logger.warning("%s", warning)
    if len({tuple(limit.amount for limit in budget.limits) for budget in found}) < len(found):
        raise RunError("a target is given twice; give each --target-bitops once")
    return [
        Target(budget=budget, folder=parent / f"{name or options.strategy}_{budget.folder_name}")
        for budget in found
    ]


def _measured(network: NetworkSpec, options: SearchOptions) -> list[Resource]:
    measured: dict[str, Resource] = {}
    for text in options.costs:
        resource = measured_resource(text, network)
        if resource.name in measured:
            raise BudgetError(f"costs of {resource.name} are given twice; give one table of it")
        measured[resource.name] = resource
    return list(measured.values())
