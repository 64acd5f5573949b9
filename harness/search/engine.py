"""The only door to the Rust engine: networks and policies in its form, its result in ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import _search_rs
from harness._search_rs import GreedySearch, Layer, Network, SearchResult
from harness.errors import BudgetError, ConfigError, HarnessError, RunError
from harness.problem.candidates import Candidates
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy

PolicyArray = npt.NDArray[np.uint8]
"""Policies as (n, layers, 2): weight bits, activation bits."""

Evaluate = Callable[[PolicyArray], Sequence[float]]
"""Returns one score per policy, lower is better."""

CLIMBS = 5
"""From how many of the best uniform policies within the budget the search goes up as well."""

EXCHANGE_EVALUATIONS = 200
"""Most policies that the last phase, one move up for one down, may ask for on top."""

LARGEST_LIMIT = 2**64 - 1
"""The largest number that the engine takes. No search gets there, so it stands for any above."""

ERRORS: dict[type[_search_rs.SearchError], type[HarnessError]] = {
    _search_rs.BudgetError: BudgetError,
    _search_rs.OptionError: ConfigError,
}
"""Whose mistake the engine's refusals are; the others say that a file of the run is damaged."""


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


def engine_network(network: NetworkSpec, candidates: Candidates) -> Network:
    """Return the network in the engine's form, its layers free to take these candidates."""
    layers = zip(network.layers, candidates.layers, strict=True)
    return Network(
        [
            Layer(
                layer.name,
                macs=layer.macs,
                weight_count=layer.weight_count,
                weight_candidates=choice.weight,
                act_candidates=choice.act,
            )
            for layer, choice in layers
        ]
    )


def greedy_search(
    network: NetworkSpec,
    target_bitops: int,
    evaluate: Evaluate,
    *,
    candidates: Candidates,
    error_weight: float,
    evaluations: int | None = None,
) -> EngineResult:
    """Run the bidirectional greedy search (arXiv 2401.01543, section 3.4; search_rs/src/greedy.rs).

    The same scores lead to the same steps. So a search is resumed by running it again with an
    `evaluate` that answers from what it knows.

    Args:
        network: The layers.
        target_bitops: Hard budget for one input.
        evaluate: Scores a batch of policies, on the same images every time.
        candidates: What each layer may take now.
        error_weight: Weight of the normalised score against the normalised BitOPs saved.
        evaluations: Most policies that `evaluate` may be asked for; None is no limit.

    Raises:
        HarnessError: The engine refuses the network, the target or an option.
    """
    anchors = [policy.bits for policy in candidates.uniform_policies.values()]
    try:
        search = GreedySearch(
            engine_network(network, candidates),
            min(target_bitops, LARGEST_LIMIT),
            error_weight=error_weight,
            evaluations=None if evaluations is None else min(evaluations, LARGEST_LIMIT),
            anchors=np.array(anchors, np.uint8) if anchors else None,
            climbs=CLIMBS,
            exchange_limit=EXCHANGE_EVALUATIONS if evaluations is None else 0,
        )
    except _search_rs.SearchError as problem:
        raise ERRORS.get(type(problem), RunError)(str(problem)) from None
    return _result(search.run(evaluate))


def _result(result: SearchResult) -> EngineResult:
    trace = [
        {"phase": s.phase, "changes": s.changes, "error": s.score, "bitops": s.bitops}
        for s in result.trace
    ]
    return EngineResult(
        policy=Policy(result.policy.tolist()),
        score=result.score,
        num_evaluations=result.num_evaluations,
        trace=trace,
    )
