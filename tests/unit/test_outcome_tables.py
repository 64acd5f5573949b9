"""The results of a search as tables and as JSON."""

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console
from small_network import NETWORK

from harness import outcome_tables
from harness.problem.budget import Budget, Limit, format_amount, parse_budget, target_budget
from harness.problem.cost import Resource, bitops, same_bits_policy, weight_bytes
from harness.problem.policy import Policy
from harness.problem.units import PICO, TIME_UNITS
from harness.search.engine import Marginal
from harness.search.from_archive import ArchiveAnswer
from harness.search.outcome import SearchFigures, SearchOutcome
from harness.search.predicted import PredictedAccuracy
from harness.search.report import ReportedPolicy
from harness.search.request import Target

SIZED = dataclasses.replace(
    NETWORK,
    layers=tuple(dataclasses.replace(layer, input_count=2**18) for layer in NETWORK.layers),
)
MIXED = Policy([(8, 8), (4, 4), (3, 3), (8, 8)])
LATENCY = Resource(
    name="latency", unit="latency", units=TIME_UNITS, per_unit=PICO, is_measured=True,
    key_unit="seconds", of_layer=lambda la, w, a: 10**6 * (w + a),
)  # fmt: skip
RUN = SimpleNamespace(path=Path("runs/made"), load_network=lambda: SIZED)
TWO, FOUR, SIX = (same_bits_policy(SIZED, weight_bits=n, act_bits=n) for n in (2, 4, 6))


def reported(policy: Policy, budget: Budget, test_accuracy: float) -> ReportedPolicy:
    return ReportedPolicy(
        policy=policy,
        label=SIZED.candidates.label(policy),
        bitops=bitops(SIZED, policy),
        costs=budget.costs(SIZED, policy),
        search_accuracy=0.5,
        test_accuracy=test_accuracy,
        search_interval=(0.4, 0.6),
        test_interval=(test_accuracy - 0.1, min(1.0, test_accuracy + 0.1)),
    )


FIGURES = SearchFigures(
    strategy="guided",
    evaluations=300,
    seconds=1.5,
    model_error=0.01,
    effects=[(0.0, 0.0), (0.25, 0.5), (0.125, 0.0625), (0.0, 0.0)],
)


MOVE = Marginal(layer_index=1, side="act", bits_from=4, bits_to=3, difference=0.25, deviation=0.125)


def outcome(budget: Budget, **changes) -> SearchOutcome:
    values = {
        "best": reported(MIXED, budget, 0.9),
        "cheapest_equal": None,
        "best_uniform": reported(TWO, budget, 0.8),
        "dearer_uniform": reported(SIX, budget, 0.95),
        "is_told_apart": True,
        "budget": budget,
        "search": FIGURES,
        "predicted": (0.125, 0.25),
        "marginals": [MOVE],
        "predicted_accuracy": PredictedAccuracy(accuracy=0.55, interval=(0.5, 0.625)),
        "score": 0.5,
        "folder": Path("runs/made/search/guided_75pct"),
    }
    return SearchOutcome(**{**values, **changes})


def table_of(outcomes: list[SearchOutcome]) -> list[str]:
    console = Console(file=io.StringIO(), width=220)
    console.print(outcome_tables.outcomes_table(outcomes))
    return [line.strip() for line in console.file.getvalue().splitlines()]


def test_outcomes_say_budget_costs_and_intervals() -> None:
    lines = table_of([outcome(target_budget("75%", SIZED))])
    assert lines[0].split() == [
        "budget", "policy", "BitOPs", "predicted", "search", "accuracy", "test", "accuracy"
    ]  # fmt: skip
    assert len(lines) == 4
    assert lines[1].split()[:5] == ["75%", "=", "17.2K", "found", "14.77K"]
    assert "(14.1 % left)  55.00 % (50.0 to 62.5)  50.00" in lines[1]
    assert "left" not in lines[2] + lines[3]
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
    return format_amount(budget.limits[1].amount, budget.limits[1].resource)


def test_json_of_outcomes_has_the_first_on_top_and_is_plain() -> None:
    several = parse_budget(["weight-bytes=90%", "latency=90%"], SIZED, measured=[LATENCY])
    first, second = target_budget("75%", SIZED), several
    values = outcome_tables.outcomes_json(
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
    assert top["uniform_above"]["bitops"] == bitops(SIZED, SIX)
    assert "target_bitops" not in other
    assert other["latency_seconds"] == (16 + 8 + 6 + 16) * 1e-6
    assert other["target_latency_seconds"] == second.limits[1].amount / PICO
    assert other["target_weight_bytes"] == -(-second.limits[0].amount // 8)
    assert other["weight_bytes"] == weight_bytes(SIZED, MIXED)
    assert (other["uniform_within"], other["score"], other["predicted_score"]) == (None,) * 3


def test_a_limit_is_named_where_it_is_not_of_bitops_alone() -> None:
    limit = Limit(resource=LATENCY, text="50us", amount=50 * 10**6)
    (cell,) = [line for line in table_of([outcome(Budget(limits=(limit,)))]) if "found" in line]
    assert cell.split()[:4] == ["latency=50us", "=", "50us", "found"]


def test_policies_that_the_test_images_do_not_tell_apart_are_called_so() -> None:
    budget = target_budget("75%", SIZED)
    lines = table_of([outcome(budget, is_told_apart=False)])
    assert lines[4] == "found and best uniform: not told apart by the test images"
    same = outcome(budget, is_told_apart=False, best=reported(TWO, budget, 0.8))
    assert len(table_of([same])) == 4


def test_the_cheapest_policy_that_is_as_good_is_shown() -> None:
    budget = target_budget("75%", SIZED)
    found = outcome(budget, cheapest_equal=reported(TWO, budget, 0.85))
    lines = table_of([found])
    assert lines[2].startswith("cheapest not told apart from it, 2/2")
    assert "10.51K" in lines[2]
    values = outcome_tables.outcomes_json(RUN, [found, outcome(budget)])
    assert values["cheapest_equal"]["accuracy"]["test"] == 0.85
    assert values["targets"][1]["cheapest_equal"] is None


def layers_of(outcomes: list[SearchOutcome]) -> list[str] | None:
    table = outcome_tables.layers_table(SIZED, outcomes)
    if table is None:
        return None
    console = Console(file=io.StringIO(), width=220)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_layers_show_their_bits_beside_what_few_bits_cost() -> None:
    budgets = [target_budget(text, SIZED) for text in ("75%", "80%")]
    second = outcome(budgets[1], best_uniform=None, best=reported(FOUR, budgets[1], 0.9))
    lines = layers_of([outcome(budgets[0]), second])
    assert lines is not None
    assert "(uniform 2/2)" in "".join(lines[:2])
    rows = [line.split() for line in lines[2:]]
    share = SIZED.layers[1].macs / sum(layer.macs for layer in SIZED.layers)
    assert rows[0] == ["a", f"{100 * share:.1f}", "%", "0.2500", "0.5000", "4+/4+", "4/4"]
    assert rows[1][3:] == ["0.1250", "0.0625", "3+/3+", "4/4"]
    assert len(rows) == 2
    assert (
        layers_of([outcome(budgets[0], search=dataclasses.replace(FIGURES, effects=None))]) is None
    )


def test_json_says_what_was_expected_and_what_is_left() -> None:
    first = outcome(target_budget("75%", SIZED))
    values = outcome_tables.outcomes_json(RUN, [first])
    assert (values["predicted_accuracy"], values["model_error"]) == (0.55, 0.01)
    assert values["predicted_accuracy_interval"] == (0.5, 0.625)
    limit = first.budget.limits[0].amount
    assert values["slack"] == {"bitops": 1 - values["bitops"] / limit}
    assert values["layers"][1] == {
        "name": "a", "score_of_fewest_weight_bits": 0.25, "score_of_fewest_act_bits": 0.5
    }  # fmt: skip
    assert values["moves"] == [
        {
            "name": "a", "side": "act", "from_bits": 4, "to_bits": 3, "score": 0.25,
            "deviation": 0.125,
        }
    ]  # fmt: skip
    assert (
        outcome_tables.outcomes_json(RUN, [outcome(first.budget, marginals=None)])["moves"] is None
    )
    unknown = dataclasses.replace(first, search=dataclasses.replace(FIGURES, effects=None))
    assert outcome_tables.outcomes_json(RUN, [unknown])["layers"] is None


def answered(budget: Budget, **changes) -> ArchiveAnswer:
    values = {
        "target": Target(budget=budget, folder=Path("runs/made/search/archive_75pct")),
        "policy": MIXED,
        "costs": budget.costs(SIZED, MIXED),
        "num_known": 300,
        "accuracy": PredictedAccuracy(accuracy=0.55, interval=(0.5, 0.625)),
        "score": None,
        "predicted": (0.125, 0.25),
    }
    return ArchiveAnswer(**{**values, **changes})


def test_answers_of_an_archive_say_what_is_expected() -> None:
    budget = target_budget("75%", SIZED)
    answers = [answered(budget), answered(budget, accuracy=None)]
    console = Console(file=io.StringIO(), width=220)
    console.print(outcome_tables.answers_table(answers))
    _, first, second = (line.strip() for line in console.file.getvalue().splitlines())
    assert "14.77K (14.1 % left)  55.00 % (50.0 to 62.5)" in first
    assert first.endswith("runs/made/search/archive_75pct/policy.json")
    assert "not known" in second
    values = json.loads(json.dumps(outcome_tables.answers_json(RUN, answers)))
    assert (values["run"], values["known"], values["predicted_accuracy"]) == (
        "runs/made",
        300,
        0.55,
    )
    assert values["targets"][1]["predicted_accuracy_interval"] is None
    assert [row["weight_bits"] for row in values["policy"]] == [8, 4, 3, 8]
