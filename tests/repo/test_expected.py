"""What a search says that evaluations buy is what was measured."""

import json
from pathlib import Path

import pytest

from harness.search.engine import STRATEGIES
from harness.search.expected import BUYS, NETWORKS, what_it_buys

RESULTS = Path(__file__).parents[2] / "docs/results/strategies.json"


@pytest.mark.parametrize("strategy", BUYS)
def test_what_evaluations_buy_is_what_was_measured(strategy):
    assert strategy in STRATEGIES
    values = json.loads(RESULTS.read_text())
    rows = {
        row["model"]: [round(one["mean"], 2) for one in row["excess"]]
        for row in values["rows"]
        if (row["family"], row["noise"], row["strategy"]) == ("interactions", 0.3, strategy)
    }
    measured = zip(*(rows[network] for network in NETWORKS), strict=True)
    assert dict(zip(values["evaluations"], measured, strict=True)) == BUYS[strategy]


def test_a_strategy_that_was_not_measured_promises_nothing():
    assert what_it_buys("uniform") is None
