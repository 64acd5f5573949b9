"""The Python side of the engine: costs agree, the budget holds, candidates bound the search."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_networks import network_of

from harness.errors import BudgetError, ConfigError, RunError
from harness.problem.cost import RESOURCES, Resource, bitops, policy_cost
from harness.problem.policy import Policy
from harness.search.engine import EngineOptions, engine_network, run_search

SIZES = st.lists(st.tuples(st.integers(1, 10**10), st.integers(1, 10**8)), min_size=3, max_size=12)


def smallest_bitops(network):
    return bitops(network, network.candidates.smallest)


def largest_bitops(network):
    return bitops(network, network.candidates.largest)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
@given(sizes=SIZES, data=st.data())
def test_rust_and_python_costs_agree(resource, sizes, data):
    network = network_of(sizes)
    engine = engine_network(network, network.candidates, resource)
    policy = Policy(
        (
            data.draw(st.sampled_from(la.weight_candidates)),
            data.draw(st.sampled_from(la.act_candidates)),
        )
        for la in network.layers
    )
    assert engine.costs([policy.bits]) == [policy_cost(network, policy, resource)]
    assert engine.smallest_cost == policy_cost(network, network.candidates.smallest, resource)
    assert engine.largest_cost == policy_cost(network, network.candidates.largest, resource)


def additive_scores(policies):
    return [float(sum(100 // w + 60 // a for w, a in policy)) for policy in policies.tolist()]


OPTIONS = {field.name for field in dataclasses.fields(EngineOptions)}


def searched(network, target_bitops, evaluate=additive_scores, **changes):
    settings = {"error_weight": 1.5}
    settings |= {key: changes.pop(key) for key in OPTIONS if key in changes}
    arguments = {"candidates": network.candidates, **changes}
    return run_search(
        network, target_bitops, evaluate, options=EngineOptions(**settings), **arguments
    )


def test_search_keeps_the_budget_and_beats_every_uniform_policy_within_it():
    network = network_of([(10, 10), (400, 50), (100, 900), (30, 20), (5, 5)])
    target = (smallest_bitops(network) + largest_bitops(network)) // 3
    result = searched(network, target)
    assert bitops(network, result.policy) <= target
    uniform = [
        p for p in network.candidates.uniform_policies.values() if bitops(network, p) <= target
    ]
    assert result.score <= min(additive_scores(np.array([p.bits for p in uniform])))


def test_search_run_again_asks_the_same_and_takes_the_same_steps():
    network = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
    asked = []

    def evaluate(policies):
        asked.append(policies.tolist())
        return additive_scores(policies)

    first = searched(network, largest_bitops(network) // 2, evaluate)
    num_batches = len(asked)
    assert searched(network, largest_bitops(network) // 2, evaluate) == first
    assert asked[num_batches:] == asked[:num_batches]
    assert first.num_evaluations == sum(map(len, asked[:num_batches]))


def test_search_stays_among_the_candidates_it_is_given():
    network = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
    full = network.candidates
    narrow = full.with_rows(
        {**row, "weight": [b for b in row["weight"] if b > 3]} for row in full.to_rows()
    )
    seen = []

    def evaluate(policies):
        seen.extend(policies[:, 1:3, 0].ravel().tolist())
        return additive_scores(policies)

    result = searched(network, largest_bitops(network) // 2, evaluate, candidates=narrow)
    narrow.check(result.policy)
    assert set(seen) == {4, 5, 6}


def test_network_of_pinned_layers_has_one_policy():
    network = network_of([(10, 10), (5, 5)])
    result = searched(network, largest_bitops(network))
    assert (result.policy, result.trace) == (network.candidates.largest, [])


SMALL = network_of([(10, 10), (400, 50), (5, 5)])


def with_candidates(*bits):
    layers = (dataclasses.replace(SMALL.layers[0], weight_candidates=bits), *SMALL.layers[1:])
    return dataclasses.replace(SMALL, layers=layers)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"target_bitops": 1},
            BudgetError,
            "target 1 BitOPs is below 2560, the least .*; raise --target-bitops$",
        ),
        ({"strategy": "luck"}, ConfigError, "strategy luck is not among greedy"),
        ({"evaluations": 0}, ConfigError, "evaluations is 0, at least 1 is needed"),
        ({"error_weight": float("inf")}, ConfigError, "error_weight is inf, not a finite number"),
        ({"network": with_candidates(99)}, RunError, "weight candidate 99 of layer layer0 is out"),
    ],
)
def test_refusals_of_the_engine_are_mistakes_of_the_user(changes, error, message):
    arguments = {"network": SMALL, "target_bitops": 9000, **changes}
    with pytest.raises(error, match=message):
        searched(**arguments)


@pytest.mark.parametrize("amount", [2**64 - 1, 2**64, 10**30])
def test_amounts_beyond_what_the_engine_counts_are_no_limit(amount):
    wide = searched(SMALL, amount, evaluations=amount)
    assert wide == searched(SMALL, largest_bitops(SMALL), evaluations=10**6)


STAIRS = Resource(
    name="latency",
    unit="ns",
    of_layer=lambda layer, weight_bits, act_bits: (
        layer.macs * (8 if max(weight_bits, act_bits) > 4 else 4)
    ),
)
"""As measured where a kernel exists for 4 and for 8 bits: most moves change nothing."""


@pytest.mark.parametrize("evaluations", [None, 40])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_costs_on_plateaus_are_searched_to_the_end(share, evaluations):
    network = network_of([(10, 10), (400, 50), (100, 900), (30, 20), (5, 5)])
    low, high = (
        policy_cost(network, policy, STAIRS)
        for policy in (network.candidates.smallest, network.candidates.largest)
    )
    limit = low + int((high - low) * share)
    result = searched(network, limit, resource=STAIRS, evaluations=evaluations)
    assert policy_cost(network, result.policy, STAIRS) <= limit
    assert all(row.keys() == {"phase", "changes", "error", "latency"} for row in result.trace)
    if evaluations is None:  # Within a plateau more bits are free.
        assert {bits for pair in result.policy.bits[1:-1] for bits in pair} <= {4, 6}


def test_costs_that_fall_with_more_bits_are_refused_by_layer_and_bits():
    falling = dataclasses.replace(STAIRS, of_layer=lambda layer, weight, act: 9 - weight)
    with pytest.raises(RunError, match=r"layer layer1 costs 6 at 3/2 bits, below 7 at 2/2; let no"):
        searched(SMALL, 100, resource=falling)
