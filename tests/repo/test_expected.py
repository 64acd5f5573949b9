"""What a search says that evaluations buy is what was measured."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.search.engine import STRATEGIES
from harness.search.expected import BUYS, NETWORKS, how_it_stands, what_it_buys

RESULTS = Path(__file__).parents[2] / "docs/results/strategies.json"


@pytest.mark.parametrize("strategy", BUYS)
def test_what_evaluations_buy_is_what_was_measured(strategy):
    assert strategy in STRATEGIES
    values = json.loads(RESULTS.read_text())["made_up"]
    rows = {
        row["model"]: [round(one["mean"], 2) for one in row["excess"]]
        for row in values["rows"]
        if (row["family"], row["noise"], row["strategy"]) == ("interactions", 0.3, strategy)
    }
    measured = zip(*(rows[network] for network in NETWORKS), strict=True)
    assert dict(zip(values["evaluations"], measured, strict=True)) == BUYS[strategy]


def test_a_strategy_that_was_not_measured_promises_nothing():
    assert what_it_buys("uniform") is None


def test_how_a_search_stands_is_said_in_means_over_the_images():
    status = SimpleNamespace(
        phase="draws",
        best_scores=[12.5, None, 7.0],
        best_errors=[0.5, None, None],
        model_error=0.25,
    )
    assert how_it_stands(status, 100) == "draws; best 0.125 ± 0.01, 0.07; model off by 0.0025"
    begun = SimpleNamespace(
        phase="survey", best_scores=[None], best_errors=[None], model_error=None
    )
    assert how_it_stands(begun, 100) == "survey"
