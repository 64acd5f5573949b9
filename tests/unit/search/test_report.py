"""Which policies are scored again before one is reported, which is chosen, and what is said of it.

Masks of right images are made up where a test needs certain ones, else a real run's.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from made_networks import network_of
from watching import Watcher

from harness.problem.budget import Budget, Limit, parse_budget, target_budget
from harness.problem.cost import Resource, bitops, weight_bytes
from harness.problem.policy import Policy
from harness.problem.significance import wilson_interval
from harness.search.report import report, spending_uniform

NETWORK = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
CANDIDATES = NETWORK.candidates


def uniform(weight_bits, act_bits):
    return CANDIDATES.uniform(weight_bits=weight_bits, act_bits=act_bits)


TWO, THREE, TWO_THREE, THREE_TWO = (uniform(w, a) for w, a in ((2, 2), (3, 3), (2, 3), (3, 2)))
MIXED = Policy([(8, 8), (2, 3), (3, 2), (8, 8)])
CHEAPER = Policy([(8, 8), (2, 2), (3, 2), (8, 8)])


def amount(policy):
    return target_budget(f"{bitops(NETWORK, policy) / 1e3:.3f}K", NETWORK)


class MadeRun:
    """A run whose policies classify rightly the first so many images, by split."""

    network, candidates = NETWORK, CANDIDATES

    def __init__(self, right, num_images=1000, tested=None):
        self.counts = {"search": right, "test": right if tested is None else tested}
        self.num_images = num_images
        self.asked = []

    def right_images(self, policies, *, split, on_progress=None):
        self.asked.append((split, list(policies)))
        for _ in policies:
            on_progress(1.0)
        places = np.arange(self.num_images)
        return np.array([places < self.counts[split].get(policy, 0) for policy in policies])


def test_spending_uniform_have_no_other_with_more_bits_within_the_budget():
    trained = SimpleNamespace(network=NETWORK, candidates=CANDIDATES)
    found = spending_uniform(trained, amount(TWO_THREE))
    assert found == [TWO_THREE, THREE_TWO]
    assert spending_uniform(trained, target_budget("100%", NETWORK)) == [CANDIDATES.largest]
    assert spending_uniform(trained, amount(TWO)) == [TWO]
    both = parse_budget(["bitops=50%", "weight-bytes=70%"], NETWORK)
    policies = list(CANDIDATES.uniform_policies.values())
    within = [policy for policy in policies if both.allows(NETWORK, policy)]
    expected = [
        one
        for one in within
        if not any(
            other != one
            and all(a >= c and b >= d for (a, b), (c, d) in zip(other, one, strict=True))
            for other in within
        )
    ]
    assert spending_uniform(trained, both) == expected
    assert len(expected) > 1


def test_without_a_uniform_policy_within_the_budget_nothing_is_compared():
    """A kernel for 2/4 in one layer and for 4/2 in the other: no uniform policy is as fast."""
    fast = Policy([(8, 8), (2, 4), (4, 2), (8, 8)])
    pairs = dict(zip((layer.name for layer in NETWORK.layers), fast, strict=True))
    latency = Resource(
        name="latency", unit="latency", of_layer=lambda la, w, a: 1 + ((w, a) != pairs[la.name])
    )
    budget = Budget(limits=(Limit(resource=latency, text="4", amount=4),))
    assert budget.allows(NETWORK, fast)
    found = report(MadeRun({fast: 5}), [fast], budget)
    assert (found.best.policy, found.best.label) == (fast, "mixed")
    assert (found.best_uniform, found.is_told_apart) == (None, None)
    assert found.dearer_uniform.costs == (6,)


def test_the_whole_search_split_chooses_among_shortlist_and_uniform():
    right = {MIXED: 700, TWO_THREE: 690, THREE_TWO: 650, TWO: 600, THREE: 800}
    run = MadeRun(right)
    found = report(run, [CHEAPER, MIXED], amount(TWO_THREE))
    assert (found.best.policy, found.best.label) == (MIXED, "mixed")
    assert (found.best_uniform.policy, found.best_uniform.label) == (TWO_THREE, "2/3")
    assert (found.dearer_uniform.policy, found.dearer_uniform.label) == (THREE, "3/3")
    assert (found.best.search_accuracy, found.dearer_uniform.search_accuracy) == (0.7, 0.8)
    assert run.asked == [
        ("search", [CHEAPER, MIXED, TWO_THREE, THREE_TWO]),
        ("search", [THREE]),
        ("test", [MIXED, TWO_THREE, THREE]),
    ]


def test_a_uniform_policy_that_is_the_best_is_the_result():
    found = report(MadeRun({TWO_THREE: 500, MIXED: 499}), [MIXED], amount(TWO_THREE))
    assert found.best == found.best_uniform
    assert found.best.policy == TWO_THREE
    assert found.is_told_apart is False


@pytest.mark.parametrize("order", [[CHEAPER, MIXED], [MIXED, CHEAPER]])
def test_equal_accuracies_go_to_the_cheaper_policy(order):
    right = dict.fromkeys((CHEAPER, MIXED, TWO_THREE, THREE_TWO), 640)
    found = report(MadeRun(right), order, amount(TWO_THREE))
    assert found.best.policy == CHEAPER
    costs = {policy: bitops(NETWORK, policy) for policy in (TWO_THREE, THREE_TWO)}
    assert costs[TWO_THREE] == costs[THREE_TWO]
    assert found.best_uniform.policy == TWO_THREE  # The first of two that cost the same.


def test_ties_in_the_first_resource_go_to_the_second():
    """2/3 and 3/2 take the same BitOPs, fewer weight bits less memory."""
    budget = parse_budget(["bitops=40%", "weight-bytes=60%"], NETWORK)
    right = {TWO_THREE: 640, THREE_TWO: 640}
    found = report(MadeRun(right), [THREE_TWO, TWO_THREE], budget)
    assert found.best.policy == TWO_THREE
    assert weight_bytes(NETWORK, TWO_THREE) < weight_bytes(NETWORK, THREE_TWO)
    assert found.best.costs == budget.costs(NETWORK, TWO_THREE)


@pytest.mark.parametrize(
    ("best", "other", "expected"),
    [(700, 700, False), (700, 696, False), (700, 695, True), (700, 640, True), (640, 700, True)],
)
def test_policies_are_told_apart_on_the_test_split(best, other, expected):
    """Of images that one alone gets right, four against none may be chance, five are not."""
    right = {MIXED: 900, TWO_THREE: 800}
    tested = {MIXED: best, TWO_THREE: other}
    found = report(MadeRun(right, tested=tested), [MIXED], amount(TWO_THREE))
    assert (found.best.policy, found.best_uniform.policy) == (MIXED, TWO_THREE)
    assert found.is_told_apart is expected
    assert (found.best.search_accuracy, found.best.test_accuracy) == (0.9, best / 1000)


def test_each_accuracy_has_its_interval():
    right, tested = {MIXED: 950}, {MIXED: 1000}
    best = report(MadeRun(right, tested=tested), [MIXED], amount(TWO_THREE)).best
    assert best.search_interval == wilson_interval(950, 1000)
    assert best.search_interval[0] < 0.95 < best.search_interval[1]
    assert best.test_interval == wilson_interval(1000, 1000)
    assert best.test_interval[0] < best.test_accuracy == best.test_interval[1] == 1.0


def test_report_of_a_real_run_agrees_with_its_accuracies(trained):
    network, candidates = trained.network, trained.candidates
    pairs = ((2, 2), (2, 3), (3, 2))
    two, two_three, three_two = (
        candidates.uniform(weight_bits=weight, act_bits=act) for weight, act in pairs
    )
    budget = target_budget(f"{bitops(network, two_three) / 1e3:.3f}K", network)
    watcher = Watcher()
    result = report(trained, [two, three_two, two], budget, observer=watcher)

    finalists = list(dict.fromkeys([two, three_two, *spending_uniform(trained, budget)]))
    assert two_three in finalists
    assert all(budget.allows(network, policy) for policy in finalists)
    accuracies = dict(zip(finalists, trained.accuracy(finalists, split="search"), strict=True))
    assert result.best.search_accuracy == max(accuracies.values())
    assert result.best.search_accuracy == accuracies[result.best.policy]
    assert result.best == result.best_uniform  # All of them are uniform.
    assert result.dearer_uniform.label in {"2/2", "3/3"}
    assert result.dearer_uniform.bitops >= result.best.bitops
    (test_accuracy,) = trained.accuracy([result.best.policy], split="test")
    assert result.best.test_accuracy == test_accuracy
    assert result.best.test_interval == wilson_interval(round(200 * test_accuracy), 200)

    rows = {item.policy for item in (result.best, result.best_uniform, result.dearer_uniform)}
    assert [(task.name, task.total) for task in watcher.tasks] == [
        (f"{budget.text}: finalists scored", len(finalists)),
        (f"{budget.text}: policies tested", len(rows)),
    ]
    assert all(task.done == task.total and task.has_ended for task in watcher.tasks)


def test_the_cheapest_finalist_that_is_not_told_apart_is_reported():
    budget = amount(MIXED)
    cheapest = {MIXED: 900, CHEAPER: 899, TWO: 897}
    found = report(MadeRun(cheapest), [MIXED, CHEAPER, TWO], budget)
    assert found.best.policy == MIXED
    # One or three images of a thousand: as many would differ by chance.
    assert found.cheapest_equal.policy == TWO
    assert found.cheapest_equal.costs < found.best.costs
    # Twenty that only the best gets right are no chance.
    apart = report(MadeRun({MIXED: 900, CHEAPER: 899, TWO: 880}), [MIXED, CHEAPER, TWO], budget)
    assert apart.cheapest_equal.policy == CHEAPER
    alone = report(MadeRun({MIXED: 900, CHEAPER: 870, TWO: 870}), [MIXED, CHEAPER, TWO], budget)
    assert alone.cheapest_equal is None
