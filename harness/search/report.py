"""From evaluated proposals to the policies that are reported, each with its own BN statistics.

The best of some hundred noisy scores is flattered by its noise. So the best proposals, and the
best uniform policies beside them, are scored again on the whole search split before one is chosen;
the test split is read last, and decides nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.observer import SILENCE, Observer
from harness.problem.candidates import Candidates
from harness.problem.cost import BITOPS, Resource, bitops, policy_cost
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.trained_run import TrainedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPolicy:
    """A policy with what it costs and how accurate it is, BN statistics re-estimated."""

    policy: Policy
    label: str
    """`W/A` of a uniform policy, else `mixed`."""
    bitops: int
    cost: int
    """Of the resource that the target limits."""
    search_accuracy: float
    test_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a target gives, and what it is compared with."""

    best: ReportedPolicy
    """The most accurate policy within the target, by the search split: the search's result."""
    best_uniform: ReportedPolicy | None
    """The most accurate uniform W/A policy within the target, by the search split."""
    dearer_uniform: ReportedPolicy | None
    """The cheapest policy with equal weight and activation bits that costs no less than `best`."""


def finalists(
    network: NetworkSpec,
    wrong_counts: Mapping[Policy, int],
    target: int,
    *,
    limit: int,
    resource: Resource = BITOPS,
) -> list[Policy]:
    """Return the policies within the target that get the fewest images wrong, the best first.

    Args:
        network: The network of the policies.
        wrong_counts: Wrong images by evaluated policy; ties go to the cheaper policy.
        target: The budget.
        limit: Most policies returned.
        resource: What the budget limits.
    """
    ranked = sorted(
        (count, policy_cost(network, policy, resource), policy)
        for policy, count in wrong_counts.items()
    )
    return [policy for _, cost, policy in ranked if cost <= target][:limit]


def report(
    trained: TrainedRun,
    wrong_counts: Mapping[Policy, int],
    target: int,
    *,
    text: str,
    resource: Resource = BITOPS,
    observer: Observer = SILENCE,
) -> Report:
    """Choose among the finalists on the whole search split; measure the choice on the test split.

    Args:
        trained: The run.
        wrong_counts: Wrong images by evaluated policy, one within the target at least.
        target: The budget.
        text: What the observer reads for the target.
        resource: What the budget limits.
        observer: Told how far it is.
    """
    network, candidates = trained.network, trained.candidates
    limit = trained.config.search.finalists
    uniform = set(candidates.uniform_policies.values())
    uniform_counts = {policy: n for policy, n in wrong_counts.items() if policy in uniform}
    choose = partial(finalists, network, target=target, limit=limit, resource=resource)
    uniform_finalists = choose(wrong_counts=uniform_counts)
    every_finalist = list(dict.fromkeys([*choose(wrong_counts=wrong_counts), *uniform_finalists]))
    cost = partial(policy_cost, network, resource=resource)
    accuracies = _accuracies(
        trained, every_finalist, "search", observer=observer, name=f"{text}: finalists scored"
    )

    def by_accuracy(policy: Policy) -> tuple[float, int]:
        return accuracies[policy], -cost(policy)

    best = max(every_finalist, key=by_accuracy)
    best_uniform = max(uniform_finalists, key=by_accuracy, default=None)
    dearer_uniform = _dearer_uniform(candidates, cost, cost(best))
    if dearer_uniform is not None and dearer_uniform not in accuracies:
        (accuracies[dearer_uniform],) = trained.accuracy([dearer_uniform], split="search")
    rows = [policy for policy in (best, best_uniform, dearer_uniform) if policy is not None]
    rows = list(dict.fromkeys(rows))
    name = f"{text}: policies tested"
    test_accuracies = _accuracies(trained, rows, "test", observer=observer, name=name)

    def reported(policy: Policy) -> ReportedPolicy:
        return ReportedPolicy(
            policy=policy,
            label=candidates.label(policy),
            bitops=bitops(network, policy),
            cost=cost(policy),
            search_accuracy=accuracies[policy],
            test_accuracy=test_accuracies[policy],
        )

    return Report(
        best=reported(best),
        best_uniform=None if best_uniform is None else reported(best_uniform),
        dearer_uniform=None if dearer_uniform is None else reported(dearer_uniform),
    )


def _accuracies(
    trained: TrainedRun, policies: Sequence[Policy], split: str, *, observer: Observer, name: str
) -> dict[Policy, float]:
    work = observer.begin(name, total=len(policies))
    accuracies = trained.accuracy(policies, split=split, on_progress=work.advance)
    work.end()
    return dict(zip(policies, accuracies, strict=True))


def _dearer_uniform(
    candidates: Candidates, cost: Callable[[Policy], int], least: int
) -> Policy | None:
    policies = candidates.equal_bits_policies.values()
    return min((p for p in policies if cost(p) >= least), key=cost, default=None)
