"""From evaluated proposals to the policies that are reported, each with its own BN statistics.

The best of some hundred noisy scores is flattered by its noise. So the best proposals, and the
best uniform policies beside them, are scored again on the whole search split before one is chosen;
the test split is read last, and decides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich.progress import Progress

from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.search.evaluator import TrainedRun


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

    found: ReportedPolicy
    uniform_within: ReportedPolicy | None
    """The most accurate uniform W/A policy within the target, by the search split."""
    uniform_above: ReportedPolicy | None
    """The cheapest policy with equal weight and activation bits that costs at least as much."""


def finalists(
    network: NetworkSpec, known: Mapping[Policy, int], target: int, *, limit: int
) -> list[Policy]:
    """Return the policies within the target that have the fewest errors; ties go to the cheaper.

    Args:
        network: The network of the policies.
        known: Wrong images by evaluated policy.
        target: Budget in BitOPs.
        limit: Most policies returned.
    """
    ranked = sorted(
        (wrong, bitops(network, policy), policy.bits, policy) for policy, wrong in known.items()
    )
    return [policy for _, cost, _, policy in ranked if cost <= target][:limit]


def report(
    trained: TrainedRun, known: Mapping[Policy, int], target: int, *, bar: Progress, text: str
) -> Report:
    """Choose among the finalists on the whole search split; measure the choice on the test split.

    Args:
        trained: The run.
        known: Wrong images by evaluated policy, one within the target at least.
        target: Budget in BitOPs.
        bar: Display that shows how far it is.
        text: What the display calls the target.
    """
    network = trained.supernet.network
    limit = trained.config.search.finalists
    pairs = set(network.candidates.uniform_policies.values())
    uniform_known = {policy: wrong for policy, wrong in known.items() if policy in pairs}
    uniform_best = finalists(network, uniform_known, target, limit=limit)
    best = finalists(network, known, target, limit=limit)
    contenders = list(dict.fromkeys([*best, *uniform_best]))
    scores = _accuracies(trained, contenders, "search", bar=bar, text=f"{text}: finalists scored")

    def merit(policy: Policy) -> tuple[float, int]:
        return scores[policy], -bitops(network, policy)

    found = max(contenders, key=merit)
    within = max(uniform_best, key=merit, default=None)
    above = _equal_bits_above(network, bitops(network, found))
    if above is not None and above not in scores:
        (scores[above],) = trained.accuracy([above], split="search")
    shown = list(dict.fromkeys(policy for policy in (found, within, above) if policy is not None))
    on_test = _accuracies(trained, shown, "test", bar=bar, text=f"{text}: policies tested")

    def reported(policy: Policy) -> ReportedPolicy:
        return ReportedPolicy(
            policy=policy,
            label=network.candidates.label(policy),
            bitops=bitops(network, policy),
            search_accuracy=scores[policy],
            test_accuracy=on_test[policy],
        )

    return Report(
        found=reported(found),
        uniform_within=None if within is None else reported(within),
        uniform_above=None if above is None else reported(above),
    )


def _accuracies(
    trained: TrainedRun, policies: Sequence[Policy], split: str, *, bar: Progress, text: str
) -> dict[Policy, float]:
    task = bar.add_task(text, total=len(policies))
    on_progress = partial(bar.advance, task)
    accuracies = trained.accuracy(list(policies), split=split, on_progress=on_progress)
    return dict(zip(policies, accuracies, strict=True))


def _equal_bits_above(network: NetworkSpec, cost: int) -> Policy | None:
    policies = network.candidates.equal_bits_policies.values()
    dearer = [policy for policy in policies if bitops(network, policy) >= cost]
    return min(dearer, key=lambda policy: bitops(network, policy), default=None)
