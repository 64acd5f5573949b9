"""The ledger of a policy by every convention of counting BitOPs, and the results of a search."""

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from small_network import NETWORK

from harness import tables
from harness.errors import BudgetError, ConfigError
from harness.problem.budget import Budget, Limit, parse_budget, target_budget
from harness.problem.conventions import CONVENTIONS
from harness.problem.cost import Resource, same_bits_policy
from harness.problem.policy import Policy
from harness.problem.units import PICO, TIME_UNITS
from harness.search.driver import SearchOutcome
from harness.search.report import ReportedPolicy

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


LATENCY = Resource(
    name="latency", unit="latency", units=TIME_UNITS, per_unit=PICO, is_measured=True,
    key_unit="seconds", of_layer=lambda la, w, a: 10**6 * (w + a),
)  # fmt: skip
RUN = SimpleNamespace(path=Path("runs/made"), load_network=lambda: SIZED)
TWO, THREE, SIX = (same_bits_policy(SIZED, weight_bits=n, act_bits=n) for n in (2, 3, 6))


def reported(policy: Policy, budget: Budget, test_accuracy: float) -> ReportedPolicy:
    return ReportedPolicy(
        policy=policy,
        label=SIZED.candidates.label(policy),
        bitops=tables.bitops(SIZED, policy),
        costs=budget.costs(SIZED, policy),
        search_accuracy=0.5,
        test_accuracy=test_accuracy,
        search_interval=(0.4, 0.6),
        test_interval=(test_accuracy - 0.1, min(1.0, test_accuracy + 0.1)),
    )


def outcome(budget: Budget, **changes) -> SearchOutcome:
    values = {
        "best": reported(MIXED, budget, 0.9),
        "best_uniform": reported(TWO, budget, 0.8),
        "dearer_uniform": reported(SIX, budget, 0.95),
        "is_told_apart": True,
        "strategy": "guided",
        "budget": budget,
        "evaluations": 300,
        "seconds": 1.5,
        "predicted": (0.125, 0.25),
        "score": 0.5,
        "folder": Path("runs/made/search/guided_75pct"),
    }
    return SearchOutcome(**{**values, **changes})


def table_of(outcomes: list[SearchOutcome]) -> list[str]:
    console = Console(file=io.StringIO(), width=220)
    console.print(tables.outcomes_table(outcomes))
    return [line.strip() for line in console.file.getvalue().splitlines()]


def test_outcomes_say_budget_costs_and_intervals() -> None:
    lines = table_of([outcome(target_budget("75%", SIZED))])
    assert lines[0].split() == [
        "budget", "policy", "BitOPs", "search", "accuracy", "test", "accuracy"
    ]  # fmt: skip
    assert len(lines) == 4
    assert lines[1].split()[:5] == ["75%", "=", "17.2K", "found", "14.77K"]
    assert lines[1].endswith("50.00 % (40.0 to 60.0)  90.00 % (80.0 to 100.0)")
    assert "best uniform within the budget, 2/2" in lines[2]
    assert "10.51K" in lines[2]
    assert "uniform at equal or higher cost, 6/6" in lines[3]
    assert [line.startswith("75%") for line in lines] == [False, True, False, False]


def test_outcomes_have_a_column_for_each_resource_that_is_limited_somewhere() -> None:
    several = parse_budget(
        ["bitops=75%", "weight-bytes=90%", "latency=90%"], SIZED, measured=[LATENCY]
    )
    weights = parse_budget(["weight-bytes=90%"], SIZED)
    lines = table_of([outcome(several), outcome(weights, best_uniform=None)])
    assert lines[0].split()[:6] == ["budget", "policy", "BitOPs", "weight", "bytes", "latency"]
    budgets = [line.split("  ")[0].strip() for line in lines[1:5]]
    assert budgets[:3] == [
        "bitops=75% = 17.2K", f"weight-bytes=90% = {_weight_limit(several)}",
        "latency=90% = 50.4us",
    ]  # fmt: skip
    alone = next(line for line in lines if line.startswith("weight-bytes=90%") and "found" in line)
    assert alone.count("us") == 0
    assert sum("best uniform" in line for line in lines) == 1


def _weight_limit(budget: Budget) -> str:
    return tables.format_amount(budget.limits[1].amount, budget.limits[1].resource)


def test_json_of_outcomes_has_the_first_on_top_and_is_plain() -> None:
    several = parse_budget(["weight-bytes=90%", "latency=90%"], SIZED, measured=[LATENCY])
    first, second = target_budget("75%", SIZED), several
    values = tables.outcomes_json(
        RUN, [outcome(first), outcome(second, predicted=None, score=None, best_uniform=None)]
    )
    assert json.loads(json.dumps(values)) is not None
    assert (values["run"], values["strategy"]) == ("runs/made", "guided")
    assert {key: values[key] for key in values["targets"][0]} == values["targets"][0]
    top, other = values["targets"]
    assert (top["bitops"], top["target_bitops"]) == (14_769, first.limits[0].amount)
    assert top["accuracy"] == {"search": 0.5, "test": 0.9}
    assert top["accuracy_interval"] == {"search": (0.4, 0.6), "test": (0.8, 1.0)}
    assert (top["evaluations"], top["seconds"], top["score"]) == (300, 1.5, 0.5)
    assert (top["predicted_score"], top["predicted_deviation"]) == (0.125, 0.25)
    assert top["policy_file"] == "runs/made/search/guided_75pct/policy.json"
    assert top["differs_from_uniform"] is True
    assert [row["weight_bits"] for row in top["policy"]] == [8, 4, 3, 8]
    assert top["uniform_within"]["accuracy"]["test"] == 0.8
    assert top["uniform_above"]["bitops"] == tables.bitops(SIZED, SIX)
    assert "target_bitops" not in other
    assert other["latency_seconds"] == (16 + 8 + 6 + 16) * 1e-6
    assert other["target_latency_seconds"] == second.limits[1].amount / PICO
    assert other["target_weight_bytes"] == -(-second.limits[0].amount // 8)
    assert other["weight_bytes"] == tables.weight_bytes(SIZED, MIXED)
    assert (other["uniform_within"], other["score"], other["predicted_score"]) == (None,) * 3


def test_a_limit_is_named_where_it_is_not_of_bitops_alone() -> None:
    limit = Limit(resource=LATENCY, text="50us", amount=50 * 10**6)
    (cell,) = [line for line in table_of([outcome(Budget(limits=(limit,)))]) if "found" in line]
    assert cell.split()[:4] == ["latency=50us", "=", "50us", "found"]
