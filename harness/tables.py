"""What the commands show: rich tables for people, and the same values as plain JSON objects."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from harness.problem.budget import format_amount
from harness.problem.cost import Resource, bitops, ledger, weight_bytes
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy, policy_rows
from harness.problem.units import MB

if TYPE_CHECKING:
    from harness.run.folder import RunDir
    from harness.search.driver import SearchOutcome
    from harness.search.report import ReportedPolicy


def ledger_json(network: NetworkSpec, policy: Policy) -> dict[str, Any]:
    """Return the cost of a policy, layer by layer."""
    rows = [
        {
            "name": row.name,
            "kind": row.kind,
            "macs": row.macs,
            "weight_bits": row.weight_bits,
            "act_bits": row.act_bits,
            "bitops": row.bitops,
        }
        for row in ledger(network, policy)
    ]
    return {
        "model": network.model_name,
        "bitops": bitops(network, policy),
        "weight_bytes": weight_bytes(network, policy),
        "num_layers": len(rows),
        "layers": rows,
    }


def ledger_table(network: NetworkSpec, policy: Policy) -> Table:
    """Return the cost of a policy as a table with a total."""
    size = weight_bytes(network, policy)
    channels, height, width = network.input_size
    table = Table(
        title=f"{network.model_name} at {channels} x {height} x {width}", show_footer=True, box=None
    )
    table.add_column("layer", footer="total")
    table.add_column("kind")
    table.add_column("W/A bits", justify="right")
    table.add_column("MACs", justify="right", footer=f"{sum(la.macs for la in network.layers):,}")
    table.add_column("BitOPs", justify="right", footer=format_amount(bitops(network, policy)))
    table.add_column("size", justify="right", footer=f"{size / MB:.3f} MB")
    for row in ledger(network, policy):
        row_size = row.size_bits / 8 / MB
        table.add_row(
            row.name,
            row.kind,
            f"{row.weight_bits}/{row.act_bits}",
            f"{row.macs:,}",
            format_amount(row.bitops),
            f"{row_size:.3f}",
        )
    return table


def evaluation_json(
    network: NetworkSpec, policy: Policy, *, accuracy: float, split: str
) -> dict[str, Any]:
    """Return a policy's accuracy on a split and its cost."""
    return {
        "model": network.model_name,
        "policy": policy_rows((layer.name for layer in network.layers), policy),
        "bitops": bitops(network, policy),
        "weight_bytes": weight_bytes(network, policy),
        "accuracy": {split: accuracy},
    }


def evaluation_table(values: dict[str, Any], *, label: str, split: str) -> Table:
    """Return `evaluation_json` as a table."""
    table = Table("policy", "BitOPs", "size", f"{split} accuracy", box=None)
    table.add_row(
        label,
        format_amount(values["bitops"]),
        f"{values['weight_bytes'] / MB:.3f} MB",
        f"{100 * values['accuracy'][split]:.2f} %",
    )
    return table


def outcomes_json(run: "RunDir", outcomes: "list[SearchOutcome]") -> dict[str, Any]:
    """Return the results of a search; the first target's values also stand at the top level."""
    network = run.load_network()
    results = [_outcome_json(network, outcome) for outcome in outcomes]
    return {
        "run": str(run.path),
        "strategy": outcomes[0].strategy,
        **results[0],
        "targets": results,
    }


def outcomes_table(outcomes: "list[SearchOutcome]") -> Table:
    """Return budgets, each with the policy of the search and the uniform policies beside it."""
    resource = outcomes[0].resource
    columns = ("budget", "policy", resource.unit, "search accuracy", "test accuracy")
    table = Table(*columns, box=None)
    for outcome in outcomes:
        budget = f"{outcome.target_text} = {format_amount(outcome.limit, resource)}"
        rows = [
            ("found", outcome.best),
            ("best uniform within the budget", outcome.best_uniform),
            ("uniform at equal or higher cost", outcome.dearer_uniform),
        ]
        for label, reported in rows:
            if reported is not None:
                table.add_row(budget, *_reported_cells(label, reported, resource))
                budget = ""
    return table


def _reported_cells(label: str, reported: "ReportedPolicy", resource: Resource) -> tuple[str, ...]:
    shown = label if label == "found" else f"{label}, {reported.label}"
    return (
        shown,
        format_amount(reported.cost, resource),
        f"{100 * reported.search_accuracy:.2f} %",
        f"{100 * reported.test_accuracy:.2f} %",
    )


def _outcome_json(network: NetworkSpec, outcome: "SearchOutcome") -> dict[str, Any]:
    resource = outcome.resource

    def reported(item: "ReportedPolicy | None") -> dict[str, Any] | None:
        if item is None:
            return None
        accuracy = {"search": item.search_accuracy, "test": item.test_accuracy}
        return {
            "policy": policy_rows((layer.name for layer in network.layers), item.policy),
            "bitops": item.bitops,
            "weight_bytes": weight_bytes(network, item.policy),
            resource.name: item.cost,
            "accuracy": accuracy,
        }

    best = reported(outcome.best)
    assert best is not None
    return {
        **best,
        f"target_{resource.name}": outcome.limit,
        "evaluations": outcome.evaluations,
        "seconds": outcome.seconds,
        "policy_file": str(outcome.folder / "policy.json"),
        "uniform_within": reported(outcome.best_uniform),
        "uniform_above": reported(outcome.dearer_uniform),
    }
