"""From evaluated proposals to the policies that are reported, each with its own BN statistics.

The best of some hundred noisy scores is flattered by its noise. So the best proposals, and the
best uniform policies beside them, are scored again on the whole search split before one is chosen;
the test split is read last, and decides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.observer import SILENCE, Observer
from harness.problem.candidates import Candidates
from harness.problem.cost import bitops
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
    network: NetworkSpec, wrong_counts: Mapping[Policy, int], target: int, *, limit: int
) -> list[Policy]:
    """Return the policies within the target that get the fewest images wrong, the best first.

    Args:
        network: The network of the policies.
        wrong_counts: Wrong images by evaluated policy; ties go to the cheaper policy.
        target: Budget in BitOPs.
        limit: Most policies returned.
    """
    ranked = sorted(
        (count, bitops(network, policy), policy) for policy, count in wrong_counts.items()
    )
    return [policy for _, cost, policy in ranked if cost <= target][:limit]


def report(
    trained: TrainedRun,
    wrong_counts: Mapping[Policy, int],
    target: int,
    *,
    text: str,
    observer: Observer = SILENCE,
) -> Report:
    """Choose among the finalists on the whole search split; measure the choice on the test split.

    Args:
        trained: The run.
        wrong_counts: Wrong images by evaluated policy, one within the target at least.
        target: Budget in BitOPs.
        text: What the observer reads for the target.
        observer: Told how far it is.
    """
    network, candidates = trained.network, trained.candidates
    limit = trained.config.search.finalists
    uniform = set(candidates.uniform_policies.values())
    uniform_counts = {policy: n for policy, n in wrong_counts.items() if policy in uniform}
    uniform_finalists = finalists(network, uniform_counts, target, limit=limit)
    every_finalist = list(
        dict.fromkeys([*finalists(network, wrong_counts, target, limit=limit), *uniform_finalists])
    )
    accuracies = _accuracies(
        trained, every_finalist, "search", observer=observer, name=f"{text}: finalists scored"
    )

    def by_accuracy(policy: Policy) -> tuple[float, int]:
        return accuracies[policy], -bitops(network, policy)

    best = max(every_finalist, key=by_accuracy)
    best_uniform = max(uniform_finalists, key=by_accuracy, default=None)
    dearer_uniform = _dearer_uniform(network, candidates, bitops(network, best))
    if dearer_uniform is not None and dearer_uniform not in accuracies:
        (accuracies[dearer_uniform],) = trained.accuracy([dearer_uniform], split="search")
    rows = [policy for policy in (best, best_uniform, dearer_uniform) if policy is not None]
    test_accuracies = _accuracies(
        trained,
        list(dict.fromkeys(rows)),
        "test",
        observer=observer,
        name=f"{text}: policies tested",
    )

    def reported(policy: Policy) -> ReportedPolicy:
        return ReportedPolicy(
            policy=policy,
            label=candidates.label(policy),
            bitops=bitops(network, policy),
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
    task = observer.begin(name, total=len(policies))
    accuracies = trained.accuracy(policies, split=split, on_progress=task.advance)
    task.end()
    return dict(zip(policies, accuracies, strict=True))


def _dearer_uniform(network: NetworkSpec, candidates: Candidates, cost: int) -> Policy | None:
    policies = candidates.equal_bits_policies.values()
    dearer = [policy for policy in policies if bitops(network, policy) >= cost]
    return min(dearer, key=lambda policy: bitops(network, policy), default=None)
