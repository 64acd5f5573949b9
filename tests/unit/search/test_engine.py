"""The Python side of the engine: costs agree, the budget holds, known errors are used."""

from hypothesis import given
from hypothesis import strategies as st
from made_networks import network_of

from harness.search.engine import engine_network, greedy_search
from harness.spec.cost import bitops, largest_bitops, smallest_bitops, weight_bytes
from harness.spec.policy import Policy, uniform_pairs

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

    uniform = [p for p in uniform_pairs(network).values() if bitops(network, p) <= target]
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
