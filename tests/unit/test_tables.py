"""The ledger of a policy by every convention of counting BitOPs, and the results of a search."""

import dataclasses
import io

import pytest
from rich.console import Console
from small_network import NETWORK

from harness import tables
from harness.errors import BudgetError, ConfigError
from harness.problem.conventions import CONVENTIONS
from harness.problem.cost import same_bits_policy
from harness.problem.policy import Policy

PLACES = ("first", "inside", "inside", "last")
SIZED = dataclasses.replace(
    NETWORK,
    layers=tuple(
        dataclasses.replace(layer, place=place, input_count=2**18)
        for layer, place in zip(NETWORK.layers, PLACES, strict=True)
    ),
)
FOUR = same_bits_policy(SIZED, weight_bits=4, act_bits=4)
MIXED = Policy([(8, 8), (4, 4), (3, 3), (8, 8)])


def shown(convention: str, policy: Policy) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(tables.ledger_table(SIZED, policy, convention))
    return console.file.getvalue()


def test_json_holds_every_convention_and_size() -> None:
    values = tables.ledger_json(SIZED, FOUR, "all")
    inner = 16 * 388
    expected = {
        "paper": 64 * 140 + inner,
        "first-activation-32": 256 * 100 + 64 * 40 + inner,
        "ends-excluded": inner,
        "uniform": 16 * 528,
    }
    assert values["bitops_by_convention"] == expected
    assert (values["convention"], values["bitops"]) == ("paper", expected["paper"])
    assert (values["act_bytes_sum"], values["act_bytes_peak"]) == (3 * 2**18, 2**18)
    first = values["layers"][0]
    assert first["bitops_by_convention"] == {
        "paper": 6400, "first-activation-32": 25_600, "ends-excluded": 0, "uniform": 1600
    }  # fmt: skip
    for name, total in expected.items():
        alone = tables.ledger_json(SIZED, FOUR, name)
        assert (alone["bitops"], sum(row["bitops"] for row in alone["layers"])) == (total, total)


def test_a_mixed_policy_has_no_count_by_uniform() -> None:
    values = tables.ledger_json(SIZED, MIXED, "all")
    assert values["bitops_by_convention"]["uniform"] is None
    assert values["layers"][1]["bitops_by_convention"]["uniform"] is None
    assert shown("all", MIXED).splitlines()[-2].split().count("-") == 1
    for show in (tables.ledger_json, tables.ledger_table):
        with pytest.raises(
            ConfigError, match=r"^convention uniform counts every layer at the bits"
        ):
            show(SIZED, MIXED, "uniform")


def test_the_table_has_a_column_for_each_convention_shown() -> None:
    every = shown("all", FOUR)
    assert all(one.name in every for one in CONVENTIONS)
    total = next(line for line in every.splitlines() if line.strip().startswith("total"))
    assert total.split()[1:6] == ["528", "15.17K", "34.37K", "6.208K", "8.448K"]
    paper, excluded = shown("paper", FOUR), shown("ends-excluded", FOUR)
    assert "ends-excluded" in excluded
    assert "6.208K" in excluded
    assert "ends-excluded" not in paper
    assert "15.17K" in paper
    assert "largest 0.250" in paper


def test_a_network_whose_sizes_nobody_noted_has_no_ledger_without_a_word() -> None:
    with pytest.raises(BudgetError, match=r"^the size of what layer stem reads is not known"):
        tables.ledger_json(NETWORK, FOUR)
