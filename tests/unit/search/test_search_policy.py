"""`harness.search_policy`, the engine with an accuracy function of one's own."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from small_network import NETWORK

import harness
from harness.errors import BudgetError, ConfigError, RunError
from harness.problem.budget import parse_budget, target_budget
from harness.problem.cost import bitops, weight_bytes
from harness.search.engine import DEFAULT_EVALUATIONS, DEFAULT_STRATEGY, STRATEGIES

SCALES = np.random.default_rng(1).random((len(NETWORK.layers), 2))


class Evaluation:
    """Errors that fall with the bits of each layer and side; what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, policies):
        assert isinstance(policies, np.ndarray)
        assert (policies.dtype, policies.shape[1:]) == (np.uint8, (len(NETWORK.layers), 2))
        self.asked.extend(policies.tolist())
        return (SCALES * 4.0 ** -policies.astype(float)).sum(axis=(1, 2))


@pytest.mark.parametrize("strategy", [None, *STRATEGIES])
@pytest.mark.parametrize("evaluations", [None, 40])
def test_every_strategy_finds_a_policy_within_the_budget(strategy, evaluations):
    evaluate = Evaluation()
    found = harness.search_policy(
        NETWORK, "70%", evaluate, strategy=strategy, evaluations=evaluations
    )
    NETWORK.candidates.check(found.policy)
    assert target_budget("70%", NETWORK).allows(NETWORK, found.policy)
    assert found.num_evaluations == len(evaluate.asked) <= (evaluations or DEFAULT_EVALUATIONS)
    (score,) = evaluate(np.array([found.policy.bits], np.uint8))
    assert found.score in (None, score)
    assert (found.predicted is None) == (strategy not in (None, "guided"))


def test_the_best_strategy_is_taken_where_none_is_named():
    results = [
        harness.search_policy(NETWORK, "70%", Evaluation(), strategy=strategy, seed=3)
        for strategy in (None, DEFAULT_STRATEGY)
    ]
    assert results[0] == results[1]
    assert inspect.signature(harness.search_policy).parameters["strategy"].default is None


def test_the_seed_decides_what_is_asked():
    first, again, other = Evaluation(), Evaluation(), Evaluation()
    for evaluate, seed in ((first, 1), (again, 1), (other, 2)):
        harness.search_policy(NETWORK, "70%", evaluate, evaluations=60, seed=seed)
    assert first.asked == again.asked != other.asked


@pytest.mark.parametrize(
    "budget",
    ["15K", ["bitops=15K"], target_budget("15K", NETWORK), parse_budget(["bitops=15K"], NETWORK)],
    ids=["target", "limits", "target budget", "parsed budget"],
)
def test_a_budget_is_the_same_in_every_form(budget):
    found = harness.search_policy(NETWORK, budget, Evaluation(), evaluations=60)
    assert bitops(NETWORK, found.policy) <= 15_000
    assert found == harness.search_policy(NETWORK, "0.000015G", Evaluation(), evaluations=60)


def test_several_limits_hold_at_once():
    limits = ["bitops=80%", "weight-bytes=70%"]
    found = harness.search_policy(NETWORK, limits, Evaluation())
    largest = NETWORK.candidates.largest
    assert bitops(NETWORK, found.policy) <= 0.8 * bitops(NETWORK, largest)
    assert weight_bytes(NETWORK, found.policy) <= 0.7 * weight_bytes(NETWORK, largest)


def test_parts_of_scores_may_be_given():
    whole = harness.search_policy(NETWORK, "70%", Evaluation(), strategy="greedy")

    def in_parts(policies):
        # Halves add up without rounding.
        return np.repeat(Evaluation()(policies)[:, None] / 2, 2, axis=1)

    parts = harness.search_policy(NETWORK, "70%", in_parts, strategy="greedy")
    assert parts == whole


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"budget": "1K"}, BudgetError, r"^target 1K BitOPs is below .*; raise --target-bitops"),
        ({"budget": ["weight-bytes"]}, BudgetError, "^budget weight-bytes has no `=`; write"),
        ({"budget": []}, BudgetError, "^no budget is given; write"),
        ({"strategy": "luck"}, ConfigError, "^strategy luck is not among guided, greedy"),
        ({"evaluations": 0}, ConfigError, "^evaluations is 0, at least 1 is needed; raise it$"),
        ({"seed": -7}, ConfigError, "^seed -7 is outside 0 to "),
        (
            {"evaluate": lambda policies: [float("inf")] * len(policies)},
            RunError,
            "^score 0 is inf, not a finite number; return an error count or a rate$",
        ),
        ({"evaluate": lambda policies: "no"}, RunError, "^evaluation gave "),
        ({"evaluate": lambda policies: None}, RunError, "^evaluation gave "),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(changes, error, message):
    arguments = {"budget": "70%", "evaluate": Evaluation(), **changes}
    with pytest.raises(error, match=message) as refusal:
        harness.search_policy(NETWORK, arguments.pop("budget"), **arguments)
    assert "\n" not in str(refusal.value)


def test_what_evaluate_raises_passes_through():
    def evaluate(policies):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        harness.search_policy(NETWORK, "70%", evaluate)


def test_the_door_says_what_it_takes_and_loads_nothing_before_it_is_asked():
    document = harness.search_policy.__doc__
    names = inspect.signature(harness.search_policy).parameters
    assert list(names) == ["network", "budget", "evaluate", "strategy", "evaluations", "seed"]
    assert all(f"{name}:" in document for name in names)
    assert ">>> found = search_policy(" in document
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'search_all'"):
        _ = harness.search_all
    code = (
        "import sys, harness; before = 'numpy' in sys.modules or 'torch' in sys.modules; "
        "harness.search_policy; sys.exit(2 * before + ('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
