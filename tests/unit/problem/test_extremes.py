"""The least and the most of a resource are those of all policies, counted out one by one."""

import dataclasses
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_network import NETWORK, layer

from harness.errors import PolicyError
from harness.problem.cost import Resource, policy_cost
from harness.problem.extremes import least_cost, least_of_layers, most_cost
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.problem.ties import SIDES, merged

BITS = (6, 4, 2)
NUM_LAYERS = 4


def every_policy(network: NetworkSpec) -> list[Policy]:
    pairs = [product(la.weight_candidates, la.act_candidates) for la in network.layers]
    found = []
    for bits in product(*pairs):
        try:
            network.candidates.check(Policy(bits))
        except PolicyError:
            continue
        found.append(Policy(bits))
    return found


def network_with(ties: list) -> NetworkSpec:
    layers = tuple(
        dataclasses.replace(layer(str(i), 9), weight_candidates=BITS, act_candidates=BITS)
        for i in range(NUM_LAYERS)
    )
    return dataclasses.replace(NETWORK, layers=layers, ties=merged(ties))


MEMBERS = st.tuples(st.integers(0, NUM_LAYERS - 1), st.sampled_from(SIDES))


@settings(max_examples=40, deadline=None)
@given(
    ties=st.lists(st.lists(MEMBERS, min_size=2, max_size=4), max_size=4),
    aggregate=st.sampled_from(["sum", "max"]),
    amounts=st.lists(
        st.integers(0, 50),
        min_size=NUM_LAYERS * len(BITS) ** 2,
        max_size=NUM_LAYERS * len(BITS) ** 2,
    ),
)
def test_extremes_are_those_of_all_policies(ties: list, aggregate: str, amounts: list) -> None:
    """Costs are arbitrary: they rise and fall with the bits."""
    keys = product(map(str, range(NUM_LAYERS)), BITS, BITS)
    table = dict(zip(keys, amounts, strict=True))
    resource = Resource(
        name="made", unit="up", aggregate=aggregate, of_layer=lambda la, w, a: table[la.name, w, a]
    )
    network = network_with(ties)
    costs = [policy_cost(network, policy, resource) for policy in every_policy(network)]
    assert (least_cost(network, resource), most_cost(network, resource)) == (min(costs), max(costs))
    assert least_of_layers(network, resource) == [
        min(table[str(i), w, a] for w, a in product(BITS, BITS)) for i in range(NUM_LAYERS)
    ]


@pytest.mark.parametrize("aggregate", ["sum", "max"])
def test_hundreds_of_tied_layers_are_done_at_once(aggregate: str) -> None:
    layers = tuple(dataclasses.replace(layer(str(i), i + 1)) for i in range(400))
    chain = [[(i, "act"), (i + 1, "act")] for i in range(0, 400, 2)]
    blocks = [[(i + j, "weight") for j in range(8)] for i in range(0, 400, 8)]
    network = dataclasses.replace(NETWORK, layers=layers, ties=merged(chain + blocks))
    resource = Resource(
        name="made", unit="up", aggregate=aggregate, of_layer=lambda la, w, a: la.macs * (w + a)
    )
    total = sum(range(1, 401)) if aggregate == "sum" else 400
    assert (least_cost(network, resource), most_cost(network, resource)) == (4 * total, 12 * total)
