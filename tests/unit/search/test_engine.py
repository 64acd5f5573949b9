"""The Python side of the engine: costs agree, the budget holds, known errors are used."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_networks import network_of

from harness.errors import BudgetError, ConfigError, RunError
from harness.problem.cost import bitops, largest_bitops, smallest_bitops, weight_bytes
from harness.problem.policy import Policy
from harness.search.engine import engine_network, greedy_search

SIZES = st.lists(st.tuples(st.integers(1, 10**10), st.integers(1, 10**8)), min_size=3, max_size=12)


@given(sizes=SIZES, data=st.data())
def test_rust_and_python_costs_agree(sizes, data):
    network = network_of(sizes)
    engine = engine_network(network)
    policy = Policy(
        (
            data.draw(st.sampled_from(la.weight_candidates)),
            data.draw(st.sampled_from(la.act_candidates)),
        )
        for la in network.layers
    )
    assert engine.bitops([policy.bits]) == [bitops(network, policy)]
    assert engine.weight_bytes([policy.bits]) == [weight_bytes(network, policy)]
    assert engine.smallest_bitops == smallest_bitops(network)
    assert engine.largest_bitops == largest_bitops(network)


def additive_errors(policies):
    return [float(sum(100 // w + 60 // a for w, a in policy)) for policy in policies.tolist()]


def test_search_keeps_the_budget_and_beats_every_uniform_policy_within_it():
    network = network_of([(10, 10), (400, 50), (100, 900), (30, 20), (5, 5)])
    target = (smallest_bitops(network) + largest_bitops(network)) // 3
    found = greedy_search(network, target, additive_errors, error_weight=1.5)
    assert bitops(network, found.policy) <= target
    import numpy as np

    uniform = [
        p for p in network.candidates.uniform_policies.values() if bitops(network, p) <= target
    ]
    assert found.error <= min(additive_errors(np.array([p.bits for p in uniform])))


def test_known_errors_are_not_evaluated_again():
    network = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
    target = largest_bitops(network) // 2
    seen = {}

    def evaluate(policies):
        errors = additive_errors(policies)
        seen.update(zip(map(Policy, policies.tolist()), errors, strict=True))
        return errors

    first = greedy_search(network, target, evaluate, error_weight=1.5)

    def never(policies):
        raise AssertionError("everything is known")

    again = greedy_search(network, target, never, error_weight=1.5, known=seen.items())
    assert (again.policy, again.trace) == (first.policy, first.trace)
    assert again.num_restored == again.num_evaluations == first.num_evaluations


SMALL = network_of([(10, 10), (400, 50), (5, 5)])
TWO = SMALL.candidates.uniform(weight_bits=2, act_bits=2)


def with_candidates(*bits):
    layers = (dataclasses.replace(SMALL.layers[0], weight_candidates=bits), *SMALL.layers[1:])
    return dataclasses.replace(SMALL, layers=layers)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target_bitops": 1}, BudgetError, "target 1 BitOPs is below 2560, the least"),
        ({"evaluations": 0}, ConfigError, "evaluations is 0, at least 1 is needed"),
        ({"error_weight": float("inf")}, ConfigError, "error_weight is inf, not a finite number"),
        ({"network": with_candidates(99)}, RunError, "weight candidate 99 of layer layer0 is out"),
        ({"known": [(Policy(TWO.bits[:2]), 1)]}, RunError, r"policies have shape .*, not \(n, 3"),
        ({"known": [(TWO, float("nan"))]}, RunError, "score 0 is NaN, not a finite number"),
        ({"known": [(TWO, 1), (TWO, 2)]}, RunError, "policy 1 has score 2 but 1 is on record"),
    ],
)
def test_refusals_of_the_engine_are_mistakes_of_the_user(changes, error, message):
    arguments = {"network": SMALL, "target_bitops": 9000, "error_weight": 1.5, **changes}
    with pytest.raises(error, match=message):
        greedy_search(evaluate=additive_errors, **arguments)


@pytest.mark.parametrize("amount", [2**64 - 1, 2**64, 10**30])
def test_amounts_beyond_what_the_engine_counts_are_no_limit(amount):
    wide = greedy_search(SMALL, amount, additive_errors, error_weight=1.5, evaluations=amount)
    largest = largest_bitops(SMALL)
    assert wide == greedy_search(
        SMALL, largest, additive_errors, error_weight=1.5, evaluations=10**6
    )
