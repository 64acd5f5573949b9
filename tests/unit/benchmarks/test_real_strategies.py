import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from benchmarks import strategies
from benchmarks.real_scores import Told
from benchmarks.real_strategies import GRADIENT, ONE_SET, Plan, RealStrategies, difference
from benchmarks.strategy_figure import figure
from benchmarks.strategy_tables import markdown, real_markdown, verdicts
from harness.problem.cost import bitops
from harness.search.engine import STRATEGIES

PLAN = Plan(
    evaluations=25,
    parts=2,
    told=Told(images=40, recalibrate_images=30),
    finalists=3,
    budgets=("2/2 to 3/3", "middle of both"),
)


def test_difference_is_paired_on_the_same_images():
    others = [np.array([True, True, False, True]), np.array([True, False, False, True])]
    masks = [np.array([True, False, False, True]), np.array([True, True, True, True])]
    found = difference(masks, others)
    assert found["each"] == [25.0, -50.0]
    assert found["mean"] == -12.5
    assert found["half_width"] == pytest.approx(12.706 * 75 / 2**0.5 / 2**0.5, rel=1e-3)
    # By image, mean over the parts: 0, 0, -50, 0.
    assert found["image_half_width"] == pytest.approx(1.96 * np.std([0, 0, -50, 0], ddof=1) / 2)
    assert difference(masks[:1], others[:1])["half_width"] is None


def test_every_strategy_is_compared_within_the_budget(small_run):
    partial = []
    result = RealStrategies(small_run, PLAN).measured(
        on_budget=lambda one: partial.append(json.loads(json.dumps(one)))
    )
    assert [len(one["budgets"]) for one in partial] == [1, 2]
    assert partial[-1] == json.loads(json.dumps(result))
    for row in result["budgets"]:
        assert set(row["strategies"]) == {*STRATEGIES, "paper", ONE_SET, GRADIENT}
        uniform = row["strategies"]["uniform"]
        assert uniform["minus_uniform"]["each"] == [0, 0]
        for values in row["strategies"].values():
            assert values["bitops"] <= row["target_bitops"]
            minus = np.array(values["errors"]) - np.array(uniform["errors"])
            assert values["minus_uniform"]["each"] == pytest.approx(100 * minus)
            assert values["minus_best_uniform"]["mean"] >= values["minus_uniform"]["mean"] - 1e-9
        assert min(one["search's first not told apart"] for one in row["finalists"].values()) < 100


def test_budgets_lie_between_the_uniform_policies_they_are_named_by(small_run):
    result = RealStrategies(small_run, replace(PLAN, finalists=0)).measured(
        ["uniform"], on_budget=lambda _: None
    )
    uniform = small_run.candidates.equal_bits_policies
    two, three, four = (bitops(small_run.network, uniform[f"{b}/{b}"]) for b in (2, 3, 4))
    targets = [row["target_bitops"] for row in result["budgets"]]
    assert targets == [(two + three) // 2, ((two + three) // 2 + (three + four) // 2) // 2]
    assert all(row["finalists"] is None for row in result["budgets"])


def made_result(minus, against_greedy):
    """A result with one budget, differences as (mean, half width)."""

    def one(values):
        mean, half = values
        return {"mean": mean, "half_width": half, "image_half_width": 0.1, "each": [mean]}

    def row(values, against):
        return {
            "errors": [0.1],
            "bitops": 1,
            "minus_uniform": one(values),
            "minus_best_uniform": one(values),
            "default_minus_it": one(against),
        }

    strategies = {"guided": row(minus, (0, 0)), "greedy": row((0, 1), against_greedy)}
    budget = {
        "budget": "2/2 to 3/3",
        "default": "guided",
        "target_bitops": 10,
        "uniform": ["2/3"],
        "best_uniform": "2/3",
        "strategies": strategies,
        "finalists": {"1000": {"a rule": 0.25}},
    }
    return {
        "run": "a network <of tests>",
        "layers": 3,
        "epochs": 1,
        "training_images": 5,
        "test_images": 4,
        "evaluations": 60,
        "parts": 5,
        "score": "kl",
        "images": 6,
        "recalibrate_images": 7,
        "uniform_errors": {"2/2": 0.2},
        "budgets": [budget],
    }


def test_verdicts_follow_the_intervals():
    good = verdicts(made_result((-0.5, 0.4), (0.3, 0.4)))
    assert good[0] == (
        "The default, guided, is never worse than another strategy by more than its interval."
    )
    assert "it is better than the best uniform policy" in good[1]
    bad = verdicts(made_result((-0.3, 0.4), (0.5, 0.4)))
    assert bad[0] == (
        "The default, guided, is worse than greedy (2/2 to 3/3) by more than its interval."
    )
    assert "it is not better than the best uniform policy" in bad[1]


def test_tables_hold_every_figure():
    text = real_markdown(made_result((-0.5, 0.4), (0.3, 0.4)))
    row = "| guided | 10.00 | -0.50 ± 0.40 | ± 0.10 | -0.50 ± 0.40 | +0.00 ± 0.00 |"
    assert row in text.splitlines()
    assert "| 1000 | +0.250 |" in text.splitlines()
    assert text.strip() in markdown(None, [made_result((-0.5, 0.4), (0.3, 0.4))])


def test_figure_is_xml_with_a_dot_for_each_strategy_and_budget():
    text = figure([made_result((-0.5, 0.4), (0.3, 0.4))] * 2)
    root = ET.fromstring(text)
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 2 + 2 * 2  # The legend, and two panels.
    height = float(root.attrib["viewBox"].split()[3])
    assert all(0 < float(circle.attrib["cy"]) < height for circle in circles)
    guided, greedy = circles[2:4]
    assert float(guided.attrib["cy"]) > float(greedy.attrib["cy"])  # Lower errors stand lower.


def test_results_of_other_runs_and_of_made_up_errors_stay(monkeypatch, tmp_path):
    monkeypatch.setattr(strategies, "RESULTS", tmp_path / "strategies")
    cell = {"mean": 0.5, "half_width": 0.1}
    row = {"model": "m", "family": "f", "noise": 0.1, "strategy": "s", "excess": [cell, cell]}
    made_up = {"evaluations": [100, 300], "seeds": 6, "first_seed": 9, "rows": [row]}
    first, second = (made_result((-0.5, 0.4), (0.3, 0.4)) | {"run": name} for name in "ab")
    strategies._keep(real=first)
    strategies._keep(made_up=made_up)
    strategies._keep(real=second)
    strategies._keep(real=first | {"evaluations": 80})
    kept = json.loads((tmp_path / "strategies.json").read_text())
    assert kept["made_up"] == made_up
    assert [(one["run"], one["evaluations"]) for one in kept["real"]] == [("a", 80), ("b", 60)]
    tables = (tmp_path / "strategies.md").read_text()
    assert "| m | f | 0.1 | s | 0.50 ± 0.10 | 0.50 ± 0.10 |" in tables
    assert "### a: 3 layers, 80 evaluations" in tables
    assert "### b: 3 layers, 60 evaluations" in tables
    assert (tmp_path / "strategies.svg").read_text() == figure(kept["real"])


def test_made_up_errors_are_relative_to_the_best_uniform_policy():
    values = strategies._made_up(["uniform", "knapsack"], full=False)
    uniform, knapsack = values["rows"]
    assert values["evaluations"] == (100,)
    # Noise can make another uniform policy look best, never one with a lower true error.
    assert uniform["excess"][0]["mean"] >= 1
    assert 0 < knapsack["excess"][0]["mean"] < 1.2
