"""From a search's shortlist to the policies that are reported, each with its own BN statistics.

The best of some hundred noisy scores is flattered by its noise. So the best proposals, and the
uniform policies that spend the budget beside them, are scored again on the whole search split
before one is chosen; the test split is read last, and decides nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.accuracy import accuracy_of
from harness.observer import SILENCE, Observer
from harness.problem.budget import Budget
from harness.problem.cost import bitops
from harness.problem.policy import Policy
from harness.problem.significance import are_told_apart, wilson_interval
from harness.trained_run import TrainedRun

Interval = tuple[float, float]
"""Least and largest accuracy (0..1) that the images leave likely, at 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPolicy:
    """A policy with what it costs and how accurate it is, BN statistics re-estimated."""

    policy: Policy
    label: str
    """`W/A` of a uniform policy, else `mixed`."""
    bitops: int
    costs: tuple[int, ...]
    """Of each resource that the budget limits."""
    search_accuracy: float
    test_accuracy: float
    search_interval: Interval
    test_interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a budget gives, and what it is compared with."""

    best: ReportedPolicy
    """The most accurate policy within the budget, by the search split: the search's result."""
    cheapest_equal: ReportedPolicy | None
    """The cheapest finalist that the search split does not tell apart from `best` (McNemar), where
    one is cheaper. It is not taken by itself: among few images it costs accuracy
    (docs/results/strategies.md)."""
    best_uniform: ReportedPolicy | None
    """The most accurate uniform W/A policy within the budget, by the search split."""
    dearer_uniform: ReportedPolicy | None
    """The cheapest policy with equal weight and activation bits that costs no less than `best`."""
    is_told_apart: bool | None
    """Whether `best` and `best_uniform` differ on the test split by McNemar's test; None without a
    uniform policy within the budget."""


def spending_uniform(trained: TrainedRun, budget: Budget) -> list[Policy]:
    """Return the uniform policies within a budget of which no other has more bits on both sides."""
    network, uniform = trained.network, trained.candidates.uniform_policies.values()
    within = [policy for policy in uniform if budget.allows(network, policy)]
    return [policy for policy in within if not any(_exceeds(other, policy) for other in within)]


def report(
    trained: TrainedRun,
    shortlist: Sequence[Policy],
    budget: Budget,
    *,
    observer: Observer = SILENCE,
) -> Report:
    """Choose among the finalists on the whole search split; measure the choice on the test split.

    Args:
        trained: The run.
        shortlist: The search's policies within the budget, the best first, at least one.
        budget: The budget.
        observer: Told how far it is.
    """
    network, candidates = trained.network, trained.candidates
    uniform = spending_uniform(trained, budget)
    every_finalist = list(dict.fromkeys([*shortlist, *uniform]))
    right = _right(trained, every_finalist, "search", observer, f"{budget.text}: finalists scored")

    def by_accuracy(policy: Policy) -> tuple[int, tuple[int, ...]]:
        costs = budget.costs(network, policy)
        return int(right[policy].sum()), tuple(-cost for cost in costs)

    best = max(every_finalist, key=by_accuracy)
    best_uniform = max(uniform, key=by_accuracy, default=None)
    cheapest_equal = _cheapest_equal(right, best, partial(budget.costs, network))
    dearer_uniform = _dearer_uniform(trained, budget, best)
    if dearer_uniform is not None and dearer_uniform not in right:
        right |= _right(trained, [dearer_uniform], "search", SILENCE, "")
    every_row = (best, cheapest_equal, best_uniform, dearer_uniform)
    rows = [policy for policy in every_row if policy is not None]
    rows = list(dict.fromkeys(rows))
    tested = _right(trained, rows, "test", observer, f"{budget.text}: policies tested")

    def reported(policy: Policy | None) -> ReportedPolicy | None:
        if policy is None:
            return None
        return ReportedPolicy(
            policy=policy,
            label=candidates.label(policy),
            bitops=bitops(network, policy),
            costs=budget.costs(network, policy),
            search_accuracy=accuracy_of(right[policy]),
            test_accuracy=accuracy_of(tested[policy]),
            search_interval=_interval(right[policy]),
            test_interval=_interval(tested[policy]),
        )

    chosen = reported(best)
    assert chosen is not None
    return Report(
        best=chosen,
        cheapest_equal=reported(cheapest_equal),
        best_uniform=reported(best_uniform),
        dearer_uniform=reported(dearer_uniform),
        is_told_apart=None
        if best_uniform is None
        else are_told_apart(tested[best], tested[best_uniform]),
    )


def _cheapest_equal(
    right: Mapping[Policy, NDArray[np.bool_]],
    best: Policy,
    costs_of: Callable[[Policy], tuple[int, ...]],
) -> Policy | None:
    """Return the cheapest policy that is not told apart from the best, if one is cheaper."""
    equal = [policy for policy in right if not are_told_apart(right[best], right[policy])]
    cheapest = min(equal, key=lambda policy: (costs_of(policy), -int(right[policy].sum())))
    return cheapest if costs_of(cheapest) < costs_of(best) else None


def _exceeds(one: Policy, other: Policy) -> bool:
    pairs = zip(one, other, strict=True)
    return one != other and all(a[0] >= b[0] and a[1] >= b[1] for a, b in pairs)


def _right(
    trained: TrainedRun, policies: Sequence[Policy], split: str, observer: Observer, name: str
) -> dict[Policy, NDArray[np.bool_]]:
    work = observer.begin(name, total=len(policies))
    masks = trained.right_images(policies, split=split, on_progress=work.advance)
    work.end()
    return dict(zip(policies, masks, strict=True))


def _interval(right: NDArray[np.bool_]) -> Interval:
    return wilson_interval(int(right.sum()), len(right))


def _dearer_uniform(trained: TrainedRun, budget: Budget, best: Policy) -> Policy | None:
    """Return the cheapest policy of equal bits that costs no less, by the first limit."""
    network = trained.network

    def cost(policy: Policy) -> int:
        return budget.costs(network, policy)[0]

    policies = trained.candidates.equal_bits_policies.values()
    return min((p for p in policies if cost(p) >= cost(best)), key=cost, default=None)
