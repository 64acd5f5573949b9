"""The files of one target: `policy.json`, `frontier.json`, and beside them the journal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.problem.cost import Resource, policy_cost, weight_bytes
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.run.files import FileFormat, write_json
from harness.run.policy_file import save_policy
from harness.search.report import ReportedPolicy

JOURNAL_FILE = "journal.jsonl"
POLICY_FILE = "policy.json"
FRONTIER_FORMAT = FileFormat(name="frontier")

FRONTIER_FILE = "frontier.json"


def holds_results(folder: Path) -> bool:
    """Return whether a search has written any of its files into a folder."""
    return any((folder / name).exists() for name in (JOURNAL_FILE, POLICY_FILE, FRONTIER_FILE))


def write_policy(
    folder: Path, network: NetworkSpec, best: ReportedPolicy, *, provenance: dict[str, Any]
) -> None:
    """Write `policy.json`.

    Args:
        folder: The target's folder.
        network: The network of the policy.
        best: The policy with its figures.
        provenance: Which weights and which search it comes from.
    """
    facts = {
        "bitops": best.bitops,
        "weight_bytes": weight_bytes(network, best.policy),
        "accuracy": {"search": best.search_accuracy, "test": best.test_accuracy},
        "provenance": provenance,
    }
    save_policy(folder / POLICY_FILE, best.policy, network, facts=facts)


def write_frontier(
    folder: Path, network: NetworkSpec, wrong_counts: Mapping[Policy, int], resource: Resource
) -> None:
    """Write `frontier.json`: the policies that none evaluated beats in both cost and accuracy.

    Args:
        folder: The target's folder.
        network: The network of the policies.
        wrong_counts: Wrong images by evaluated policy.
        resource: What the cost is of.
    """
    rows = sorted(
        (policy_cost(network, policy, resource), n, policy) for policy, n in wrong_counts.items()
    )
    frontier: list[dict[str, Any]] = []
    for cost, count, policy in rows:
        if not frontier or count < frontier[-1]["errors"]:
            frontier.append({resource.name: cost, "errors": count, "bits": policy.bits})
    contents = {"network": network.fingerprint, "policies": frontier}
    write_json(folder / FRONTIER_FILE, contents, file_format=FRONTIER_FORMAT)
