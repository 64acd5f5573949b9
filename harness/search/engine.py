"""The only door to the Rust engine: networks and policies in its form, its result in ours."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import _search_rs
from harness._search_rs import GreedySearch, Network, SearchResult
from harness.errors import BudgetError, ConfigError, HarnessError, RunError
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy

PolicyArray = npt.NDArray[np.uint8]
"""Policies as (n, layers, 2): weight bits, activation bits."""

Evaluate = Callable[[PolicyArray], Sequence[float]]
"""Returns one error per policy, lower is better."""

CLIMBS = 5
"""From how many of the best uniform policies within the budget the search goes up as well."""

EXCHANGE_EVALUATIONS = 200
"""Most policies that the last phase, one move up for one down, may need on top."""

LARGEST_LIMIT = 2**64 - 1
"""What the engine counts to; no search reaches it, so a limit beyond is this one."""

ERRORS: dict[type[_search_rs.SearchError], type[HarnessError]] = {
    _search_rs.BudgetError: BudgetError,
    _search_rs.OptionError: ConfigError,
}
"""Whose mistake the engine's refusals are; the others say that a file of the run is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found."""

    policy: Policy
    error: float
    num_evaluations: int
    num_restored: int
    trace: list[dict[str, Any]]


def engine_network(network: NetworkSpec) -> Network:
    """Return the network in the engine's form."""
    return Network(
        [
            (
                layer.name,
                layer.macs,
                layer.weight_count,
                layer.weight_candidates,
                layer.act_candidates,
            )
            for layer in network.layers
        ]
    )


def greedy_search(
    network: NetworkSpec,
    target_bitops: int,
    evaluate: Evaluate,
    *,
    error_weight: float,
    evaluations: int | None = None,
    known: Iterable[tuple[Policy, float]] = (),
) -> Found:
    """Run the bidirectional greedy search (arXiv 2401.01543, section 3.4; search_rs/src/greedy.rs).

    Args:
        network: Layers and candidates.
        target_bitops: Hard budget for one input.
        evaluate: Scores a batch of policies on the same images every time.
        error_weight: Weight of the normalised error against the normalised BitOPs saved.
        evaluations: Most policies whose error may be needed, known ones included; None is no limit.
        known: Policies with their errors from a journal, which are not evaluated again.

    Raises:
        HarnessError: The engine refuses the network, the target, an option or a known policy.
    """
    try:
        search = GreedySearch(
            engine_network(network),
            min(target_bitops, LARGEST_LIMIT),
            error_weight=error_weight,
            evaluations=None if evaluations is None else min(evaluations, LARGEST_LIMIT),
            climbs=CLIMBS,
            exchange_limit=EXCHANGE_EVALUATIONS if evaluations is None else 0,
        )
        pairs = list(known)
        if pairs:
            search.restore(
                np.array([policy.bits for policy, _ in pairs], np.uint8), [e for _, e in pairs]
            )
    except _search_rs.SearchError as problem:
        raise ERRORS.get(type(problem), RunError)(str(problem)) from None
    return _found(search.run(evaluate))


def _found(result: SearchResult) -> Found:
    trace = [
        {"phase": s.phase, "changes": s.changes, "error": s.error, "bitops": s.bitops}
        for s in result.trace
    ]
    return Found(
        policy=Policy(result.policy.tolist()),
        error=result.error,
        num_evaluations=result.num_evaluations,
        num_restored=result.num_restored,
        trace=trace,
    )
