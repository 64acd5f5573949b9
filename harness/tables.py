"""What the commands show: rich tables for people, and the same values as plain JSON objects."""

from typing import Any

from rich.table import Table

from harness.errors import ConfigError
from harness.problem.budget import format_amount
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
    bitops,
    ledger,
    policy_cost,
    weight_bytes,
)
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy, policy_rows
from harness.problem.units import BYTE, MB


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
