"""What the commands show: rich tables for people, and the same values as plain JSON objects."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from harness.errors import ConfigError
from harness.problem.budget import Budget, format_amount
from harness.problem.conventions import (
    ALL,
    CONVENTIONS,
    PAPER,
    Convention,
    convention_named,
)
from harness.problem.cost import (
    ACT_BYTES_PEAK,
    ACT_BYTES_SUM,
    WEIGHT_BYTES,
    Resource,
    bitops,
    ledger,
    policy_cost,
    weight_bytes,
)
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy, policy_rows
from harness.problem.units import BYTE, MB

if TYPE_CHECKING:
    from harness.run.folder import RunDir
    from harness.search.driver import SearchOutcome
    from harness.search.report import ReportedPolicy


def ledger_json(
    network: NetworkSpec, policy: Policy, convention: str = PAPER.name
) -> dict[str, Any]:
    """Return the cost of a policy, layer by layer.

    Args:
        network: The network of the policy.
        policy: Its bits.
        convention: How BitOPs are counted under `bitops`; `all` counts them there as the paper.

    Raises:
        ConfigError: There is no such convention, or it does not know this policy.
    """
    shown = PAPER if convention == ALL else convention_named(convention)
    counted = _layer_bitops(shown, network, policy)
    every = {one.name: one.of_layers(network, policy) for one in CONVENTIONS}
    rows = [
        {
            "name": row.name,
            "kind": row.kind,
            "macs": row.macs,
            "weight_bits": row.weight_bits,
            "act_bits": row.act_bits,
            "bitops": amount,
            "bitops_by_convention": {
                name: None if amounts is None else amounts[index] for name, amounts in every.items()
            },
        }
        for index, (row, amount) in enumerate(zip(ledger(network, policy), counted, strict=True))
    ]
    sizes = (WEIGHT_BYTES, ACT_BYTES_SUM, ACT_BYTES_PEAK)
    return {
        "model": network.model_name,
        "convention": shown.name,
        "bitops": sum(counted),
        "bitops_by_convention": {
            name: None if amounts is None else sum(amounts) for name, amounts in every.items()
        },
        **{one.key: one.in_unit(policy_cost(network, policy, one)) for one in sizes},
        "num_layers": len(rows),
        "layers": rows,
    }


def ledger_table(network: NetworkSpec, policy: Policy, convention: str = PAPER.name) -> Table:
    """Return the cost of a policy as a table with totals, a column for each convention shown.

    Raises:
        ConfigError: There is no such convention, or it does not know this policy.
    """
    conventions = CONVENTIONS if convention == ALL else (convention_named(convention),)
    if len(conventions) == 1:
        _layer_bitops(conventions[0], network, policy)  # Refuses what it does not know.
    amounts = [one.of_layers(network, policy) for one in conventions]
    totals = [_amount_cell(None if column is None else sum(column)) for column in amounts]
    size = weight_bytes(network, policy)
    read, largest = (policy_cost(network, policy, one) for one in (ACT_BYTES_SUM, ACT_BYTES_PEAK))
    channels, height, width = network.input_size
    table = Table(
        title=f"{network.model_name} at {channels} x {height} x {width}", show_footer=True, box=None
    )
    table.add_column("layer", footer="total")
    table.add_column("kind")
    table.add_column("W/A bits", justify="right")
    table.add_column("MACs", justify="right", footer=f"{sum(la.macs for la in network.layers):,}")
    for one, total in zip(conventions, totals, strict=True):
        header = "BitOPs" if one is PAPER and len(conventions) == 1 else f"BitOPs\n{one.name}"
        table.add_column(header, justify="right", footer=total)
    table.add_column("size", justify="right", footer=f"{size / MB:.3f} MB")
    inputs = f"{read / BYTE / MB:.3f} MB\nlargest {largest / BYTE / MB:.3f}"
    table.add_column("input", justify="right", footer=inputs)
    for index, row in enumerate(ledger(network, policy)):
        assert row.input_bits is not None, "the sums above know every size"
        table.add_row(
            row.name,
            row.kind,
            f"{row.weight_bits}/{row.act_bits}",
            f"{row.macs:,}",
            *(_amount_cell(None if column is None else column[index]) for column in amounts),
            f"{row.size_bits / BYTE / MB:.3f}",
            f"{row.input_bits / BYTE / MB:.3f}",
        )
    return table


def _layer_bitops(convention: Convention, network: NetworkSpec, policy: Policy) -> list[int]:
    amounts = convention.of_layers(network, policy)
    if amounts is None:
        raise ConfigError(
            f"convention {convention.name} counts every layer at the bits of a uniform policy, "
            "this one is mixed; choose another convention"
        )
    return amounts


def _amount_cell(amount: int | None) -> str:
    return "-" if amount is None else format_amount(amount)


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
    resources = list(dict.fromkeys(lim.resource for one in outcomes for lim in one.budget.limits))
    units = [resource.unit for resource in resources]
    table = Table("budget", "policy", *units, "search accuracy", "test accuracy", box=None)
    for outcome in outcomes:
        budget = _budget_cell(outcome.budget)
        rows = [
            ("found", outcome.best),
            ("best uniform within the budget", outcome.best_uniform),
            ("uniform at equal or higher cost", outcome.dearer_uniform),
        ]
        for label, reported in rows:
            if reported is not None:
                by_resource = _amounts_by_resource(outcome.budget, reported.costs)
                amounts = [by_resource.get(resource, "") for resource in resources]
                table.add_row(budget, *_reported_cells(label, reported, amounts))
                budget = ""
    return table


def _budget_cell(budget: Budget) -> str:
    limits = budget.limits
    if budget.text == limits[0].text:
        return f"{budget.text} = {format_amount(limits[0].amount, limits[0].resource)}"
    return "\n".join(
        f"{limit.named_text} = {format_amount(limit.amount, limit.resource)}" for limit in limits
    )


def _amounts_by_resource(budget: Budget, costs: Sequence[int]) -> dict[Resource, str]:
    limits = zip(budget.limits, costs, strict=True)
    return {limit.resource: format_amount(cost, limit.resource) for limit, cost in limits}


def _reported_cells(
    label: str, reported: "ReportedPolicy", amounts: Sequence[str]
) -> tuple[str, ...]:
    shown = label if label == "found" else f"{label}, {reported.label}"
    return (
        shown,
        *amounts,
        _accuracy_cell(reported.search_accuracy, reported.search_interval),
        _accuracy_cell(reported.test_accuracy, reported.test_interval),
    )


def _accuracy_cell(accuracy: float, interval: tuple[float, float]) -> str:
    low, high = (100 * end for end in interval)
    return f"{100 * accuracy:.2f} % ({low:.1f} to {high:.1f})"


def _outcome_json(network: NetworkSpec, outcome: "SearchOutcome") -> dict[str, Any]:
    limits = outcome.budget.limits

    def reported(item: "ReportedPolicy | None") -> dict[str, Any] | None:
        if item is None:
            return None
        costs = zip(limits, item.costs, strict=True)
        return {
            "policy": policy_rows((layer.name for layer in network.layers), item.policy),
            "bitops": item.bitops,
            "weight_bytes": weight_bytes(network, item.policy),
            **{limit.resource.key: limit.resource.in_unit(cost) for limit, cost in costs},
            "accuracy": {"search": item.search_accuracy, "test": item.test_accuracy},
            "accuracy_interval": {"search": item.search_interval, "test": item.test_interval},
        }

    best = reported(outcome.best)
    assert best is not None
    targets = {
        f"target_{limit.resource.key}": limit.resource.in_unit(limit.amount) for limit in limits
    }
    return {
        **best,
        **targets,
        "evaluations": outcome.evaluations,
        "seconds": outcome.seconds,
        "score": outcome.score,
        "predicted_score": None if outcome.predicted is None else outcome.predicted[0],
        "predicted_deviation": None if outcome.predicted is None else outcome.predicted[1],
        "policy_file": str(outcome.folder / "policy.json"),
        "uniform_within": reported(outcome.best_uniform),
        "uniform_above": reported(outcome.dearer_uniform),
        "differs_from_uniform": outcome.is_told_apart,
    }
