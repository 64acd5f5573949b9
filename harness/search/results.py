"""What a budget's folder holds, `policy.json` and `frontier.json`; budgets share a journal."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.problem.budget import Budget
from harness.problem.cost import policy_cost, weight_bytes
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.run.files import FileFormat, write_json
from harness.run.policy_file import save_policy

if TYPE_CHECKING:
    from harness.search.outcome import SearchOutcome

JOURNAL_FILE = "journal.jsonl"
POLICY_FILE = "policy.json"
FRONTIER_FORMAT = FileFormat(name="frontier")

FRONTIER_FILE = "frontier.json"


def holds_results(folder: Path) -> bool:
    """Return whether a search has written any of its files into a folder."""
    return any((folder / name).exists() for name in (JOURNAL_FILE, POLICY_FILE, FRONTIER_FILE))


def holds_policy(folder: Path) -> bool:
    """Return whether a search has ended in a folder."""
    return (folder / POLICY_FILE).exists()


def write_policy(
    folder: Path, network: NetworkSpec, found: "SearchOutcome", *, provenance: dict[str, Any]
) -> None:
    """Write `policy.json`.

    Args:
        folder: The budget's folder.
        network: The network of the policy.
        found: The policy with its figures.
        provenance: Which weights and which search it comes from.
    """
    best = found.best
    facts = {
        "bitops": best.bitops,
        "weight_bytes": weight_bytes(network, best.policy),
        "accuracy": {"search": best.search_accuracy, "test": best.test_accuracy},
        "provenance": provenance,
    }
    save_policy(folder / POLICY_FILE, best.policy, network, facts=facts)


def write_frontier(
    folder: Path, network: NetworkSpec, scores: Mapping[Policy, float], budget: Budget
) -> None:
    """Write `frontier.json`: the policies that none evaluated beats in both cost and score.

    Args:
        folder: The budget's folder.
        network: The network of the policies.
        scores: Score by evaluated policy, lower is better.
        budget: The cost is of the first resource that it limits.
    """
    resource = budget.limits[0].resource
    costed = ((policy_cost(network, policy, resource), n, policy) for policy, n in scores.items())
    rows = sorted(costed)
    frontier: list[dict[str, Any]] = []
    for cost, score, policy in rows:
        if not frontier or score < frontier[-1]["score"]:
            amount = resource.in_unit(cost)
            frontier.append({resource.key: amount, "score": score, "bits": policy.bits})
    contents = {"network": network.fingerprint, "policies": frontier}
    write_json(folder / FRONTIER_FILE, contents, file_format=FRONTIER_FORMAT)
