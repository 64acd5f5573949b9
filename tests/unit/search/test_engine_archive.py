"""Policies and scores from outside a search: starts, an archive that answers, values to add up."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from made_networks import network_of

from harness.errors import BudgetError, RunError
from harness.problem.budget import Budget, Limit
from harness.problem.candidates import Candidates
from harness.problem.cost import BITOPS, WEIGHT_BYTES, Resource, bitops, policy_cost
from harness.problem.extremes import least_cost
from harness.problem.policy import Policy
from harness.search.engine import (
    STRATEGIES,
    EngineOptions,
    EngineSearch,
    SearchProblem,
    knapsack_policies,
)

NETWORK = network_of([(10, 10), (400, 50), (100, 900), (30, 20), (5, 5)])


def budget_of(amounts):
    """Return a budget of amounts by resource."""
    limits = (Limit(resource=one, text="made", amount=amount) for one, amount in amounts.items())
    return Budget(limits=tuple(limits))


def share(part):
    """Return a budget of BitOPs between the least and the largest."""
    low, high = least_cost(NETWORK, BITOPS), bitops(NETWORK, NETWORK.candidates.largest)
    return budget_of({BITOPS: low + int((high - low) * part)})


def problem_of(*budgets, candidates=NETWORK.candidates):
    return SearchProblem(network=NETWORK, candidates=candidates, budgets=budgets)


def scores(policies):
    """Errors that add up; layers differ."""
    scale = np.array([0, 3, 1, 9, 0])[:, None] * np.array([1.0, 2.0])
    return (scale * 0.4 ** policies.astype(float)).sum(axis=(1, 2)).tolist()


def archive(count):
    draws = np.random.default_rng(1)
    policies = [NETWORK.candidates.sample(lambda n: int(draws.integers(n))) for _ in range(count)]
    each = scores(np.array([policy.bits for policy in policies]))
    return {policy: [score] for policy, score in zip(policies, each, strict=True)}


def sample_within(budget):
    policies = archive(200)
    return next(policy for policy in policies if budget.allows(NETWORK, policy))


@pytest.mark.parametrize("strategy", ["guided", "greedy", "evolution"])
def test_starts_are_scored_first(strategy):
    budget = share(0.4)
    start = sample_within(budget)
    outside = NETWORK.candidates.uniform(weight_bits=6, act_bits=5)
    assert not budget.allows(NETWORK, outside)
    asked = []

    def evaluate(policies):
        asked.extend(Policy(bits) for bits in policies.tolist())
        return scores(policies)

    options = EngineOptions(strategy=strategy, evaluations=60, starts=(outside, start))
    EngineSearch(problem_of(budget), options).run(evaluate)
    assert start in asked[:2]
    assert outside not in asked[:2]


def test_start_of_another_network_is_refused():
    other = network_of([(1, 1)] * 3).candidates.largest
    with pytest.raises(RunError, match=r"^policies have shape \(1, 3, 2\), not \(n, 5, 2\)"):
        EngineSearch(problem_of(share(0.4)), EngineOptions(starts=(other,)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_archive_answers_further_budgets_without_an_evaluation(strategy):
    known = archive(250)
    budgets = [share(0.3), share(0.6), budget_of({WEIGHT_BYTES: 3500})]
    search = EngineSearch(problem_of(*budgets), EngineOptions(strategy=strategy), known=known)
    result = search.conclude(shortlist=3)
    assert (result.num_evaluations, result.trace) == (0, [])
    gains = []
    for budget, shortlist in zip(budgets, result.shortlists, strict=True):
        assert 1 <= len(shortlist) <= 3
        assert all(budget.allows(NETWORK, found.policy) for found in shortlist)
        within = [parts[0] for policy, parts in known.items() if budget.allows(NETWORK, policy)]
        if strategy == "uniform":
            # What others found is not uniform; of its own none is in this archive.
            assert [found.score for found in shortlist] == [None]
            continue
        (true,) = scores(np.array([shortlist[0].policy.bits]))
        assert true <= min(within)
        gains.append(1 - true / min(within))
        if strategy == "guided":
            score, deviation = shortlist[0].predicted
            assert abs(score - true) < 4 * deviation
        else:
            assert shortlist[0].score == min(within)
    # The model sees beyond the archive.
    assert (
        (max(gains, default=0) > 0.05) == (result.model_error is not None) == (strategy == "guided")
    )


def test_marginals_say_why_each_side_has_its_bits():
    search = EngineSearch(problem_of(share(0.4)), EngineOptions(evaluations=150))
    found = search.run(scores).shortlists[0][0].policy
    marginals = search.marginals(found)
    sides = {(one.layer_index, one.side) for one in marginals}
    assert sides == {(index, side) for index in (1, 2, 3) for side in ("weight", "act")}
    for one in marginals:
        bits = [list(pair) for pair in found.bits]
        place = 0 if one.side == "weight" else 1
        assert bits[one.layer_index][place] == one.bits_from
        bits[one.layer_index][place] = one.bits_to
        before, after = scores(np.array([found.bits, bits]))
        true = after - before
        assert (one.difference > 0) == (true > 0) == (one.bits_to < one.bits_from)
        assert abs(one.difference - true) < 5 * one.deviation + 0.3 * abs(true)
    with pytest.raises(RunError, match="weight bits 6 of layer layer0 are not among its cand"):
        search.marginals(Policy([(6, 6), *found.bits[1:]]))
    greedy = EngineSearch(problem_of(share(0.4)), EngineOptions(strategy="greedy", evaluations=20))
    assert greedy.marginals(found) is None


def values_of(candidates, seed=0):
    """Return values of no order for every pair."""
    draws = np.random.default_rng(seed)
    return [
        {pair: float(draws.normal()) for pair in itertools.product(layer.weight, layer.act)}
        for layer in candidates.layers
    ]


@pytest.mark.parametrize("ties", [(), (((1, "act"), (2, "act")),)])
def test_knapsack_policies_are_those_counted_out(ties):
    narrow = [
        replace(layer, weight=layer.weight[::2], act=layer.act[::2])
        for layer in NETWORK.candidates.layers
    ]
    candidates = Candidates(tuple(narrow), ties)
    values = values_of(candidates)
    budgets = [share(0.2), share(0.5), budget_of({BITOPS: 12_000, WEIGHT_BYTES: 4_000})]
    found = knapsack_policies(problem_of(*budgets, candidates=candidates), values)
    free = [itertools.product(la.weight, la.act) for la in candidates.layers]
    every = [Policy(bits) for bits in itertools.product(*free)]
    tied = [p for p in every if not ties or p.bits[1][1] == p.bits[2][1]]

    def value(policy):
        return sum(of[pair] for of, pair in zip(values, policy.bits, strict=True))

    for budget, policy in zip(budgets, found, strict=True):
        best = min(value(one) for one in tied if budget.allows(NETWORK, one))
        assert policy in tied
        assert budget.allows(NETWORK, policy)
        assert value(policy) == pytest.approx(best)


def test_knapsack_refuses_values_that_cannot_be_added():
    problem = problem_of(share(0.5))
    values = values_of(NETWORK.candidates)
    with pytest.raises(RunError, match=r"^values are given for 4 layers, the network has 5"):
        knapsack_policies(problem, values[:-1])
    lacking = [{}, *values[1:]]
    message = "^values of layer layer0 lack 8/8 bits; give one for each pair of its candidates$"
    with pytest.raises(RunError, match=message):
        knapsack_policies(problem, lacking)
    for bad in (float("nan"), float("inf")):
        strange = [values[0], {**values[1], (3, 4): bad}, *values[2:]]
        message = "^value of layer layer1 at 3/4 bits is (NaN|inf), not a finite number; give what"
        with pytest.raises(RunError, match=message):
            knapsack_policies(problem, strange)


def test_limits_that_exclude_each_other_say_what_each_would_need():
    """One kernel alone is fast, and it is not that with the fewest bits."""
    latency = Resource(
        name="latency",
        unit="latency",
        of_layer=lambda la, w, a: la.macs * (1 if w == a == 4 else 9),
    )
    amounts = {BITOPS: least_cost(NETWORK, BITOPS), latency: least_cost(NETWORK, latency)}
    fast = NETWORK.candidates.uniform(weight_bits=4, act_bits=4)
    smallest = NETWORK.candidates.smallest
    needs = [policy_cost(NETWORK, fast, BITOPS), policy_cost(NETWORK, smallest, latency)]
    text = (
        rf"\(at least bitops {BITOPS.units.shown_upward(needs[0])} with the others kept, or "
        rf"latency {latency.units.shown_upward(needs[1])} with the others kept\); raise one"
    )
    with pytest.raises(BudgetError, match=text):
        EngineSearch(problem_of(budget_of(amounts)), EngineOptions())
    with pytest.raises(BudgetError, match=text):
        knapsack_policies(problem_of(budget_of(amounts)), values_of(NETWORK.candidates))


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "uniform"])
def test_two_free_layers_are_enough_to_spend_every_evaluation(strategy):
    network = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
    low, high = least_cost(network, BITOPS), bitops(network, network.candidates.largest)
    budget = budget_of({BITOPS: low + (high - low) // 2})
    problem = SearchProblem(network=network, candidates=network.candidates, budgets=[budget])
    asked = []

    def evaluate(policies):
        asked.extend(Policy(bits) for bits in policies.tolist())
        return policies.astype(float).sum(axis=(1, 2)).tolist()

    result = EngineSearch(problem, EngineOptions(strategy=strategy, evaluations=100)).run(evaluate)
    assert result.num_evaluations == len(set(asked)) == len(asked) == 100
    asked.clear()
    EngineSearch(problem, EngineOptions(strategy=strategy, evaluations=1000)).run(evaluate)
    free = [itertools.product(la.weight, la.act) for la in network.candidates.layers]
    every = {Policy(bits) for bits in itertools.product(*free)}
    assert {one for one in every if budget.allows(network, one)} <= set(asked)
