"""The only door to the Rust engine's searches: networks in its form, its result in ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import _search_rs
from harness._search_rs import STRATEGIES, Layer, Network, Search, SearchResult
from harness.errors import BudgetError, ConfigError, RunError
from harness.problem.candidates import Candidates
from harness.problem.cost import BITOPS, Resource, cost_table
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy

PolicyArray = npt.NDArray[np.uint8]
"""Policies as (n, layers, 2): weight bits, activation bits."""

Evaluate = Callable[[PolicyArray], Sequence[float]]
"""Returns one score per policy, lower is better."""

CLIMBS = 5
"""From how many of the best uniform policies within the budget greedy search goes up as well."""

EXCHANGE_EVALUATIONS = 200
"""Most policies that its last phase, one move up for one down, may ask for on top."""

DEFAULT_STRATEGY = STRATEGIES[0]

LARGEST_LIMIT = 2**64 - 1
"""The largest number that the engine takes. No search gets there, so it stands for any above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How to search; a strategy leaves unread what it does not know."""

    error_weight: float
    """Weight of the normalised score against the normalised cost saved."""
    strategy: str = DEFAULT_STRATEGY
    evaluations: int | None = None
    """Most policies that the search may ask for; None is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResult:
    """What came out of a search."""

    policy: Policy
    """The one with the lowest score within the target."""
    score: float
    num_evaluations: int
    """Different policies that the search asked for."""
    trace: list[dict[str, Any]]
    """The search's steps as they stand in policy.json, where a score is still called `error`."""


def engine_network(
    network: NetworkSpec, candidates: Candidates, resource: Resource = BITOPS
) -> Network:
    """Return the network in the engine's form: what each layer may take, and what that costs."""
    tables = cost_table(network, candidates, resource)
    return Network(
        [
            Layer(
                choice.name, weight_candidates=choice.weight, act_candidates=choice.act, costs=costs
            )
            for choice, costs in zip(candidates.layers, tables, strict=True)
        ]
    )


def run_search(
    network: NetworkSpec,
    limit: int,
    evaluate: Evaluate,
    *,
    candidates: Candidates,
    options: EngineOptions,
    resource: Resource = BITOPS,
) -> EngineResult:
    """Search the policy with the lowest score within a limit, by any of the engine's strategies.

    The same scores lead to the same steps. So a search is resumed by running it again with an
    `evaluate` that answers from what it knows.

    Args:
        network: The layers.
        limit: Hard budget for one input.
        evaluate: Scores a batch of policies, on the same images every time.
        candidates: What each layer may take now.
        options: How to search.
        resource: What the limit is of.

    Raises:
        HarnessError: The engine refuses the network, the limit or an option.
    """
    anchors = [policy.bits for policy in candidates.uniform_policies.values()]
    evaluations = options.evaluations
    try:
        search = Search(
            engine_network(network, candidates, resource),
            min(limit, LARGEST_LIMIT),
            strategy=options.strategy,
            error_weight=options.error_weight,
            evaluations=None if evaluations is None else min(evaluations, LARGEST_LIMIT),
            anchors=np.array(anchors, np.uint8) if anchors else None,
            climbs=CLIMBS,
            exchange_limit=EXCHANGE_EVALUATIONS if evaluations is None else 0,
        )
    except _search_rs.BudgetError as problem:
        raise BudgetError(
            f"target {problem.limit} {resource.unit} is below {problem.smallest_cost}, the least "
            "the network reaches with every layer at the smallest candidates it has now; raise "
            f"--target-{resource.name}"
        ) from None
    except _search_rs.SearchError as problem:
        kind = ConfigError if isinstance(problem, _search_rs.OptionError) else RunError
        raise kind(str(problem)) from None
    return _result(search.run(evaluate), resource)


def _result(result: SearchResult, resource: Resource) -> EngineResult:
    trace = [
        {"phase": s.phase, "changes": s.changes, "error": s.score, resource.name: s.cost}
        for s in result.trace
    ]
    return EngineResult(
        policy=Policy(result.policy.tolist()),
        score=result.score,
        num_evaluations=result.num_evaluations,
        trace=trace,
    )
