"""What crosses the boundary as arrays, and that the Rust cost equals plain Python integers."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness._search_rs import Layer, Network

AGGREGATES = {"sum": sum, "max": max}
BITS = st.lists(st.integers(1, 32), min_size=1, max_size=3, unique=True)
COSTS = st.integers(0, 2**60)


@st.composite
def accounted(draw: st.DrawFn) -> tuple[list[Layer], list[str], list[list[dict]], list]:
    """Layers, how each resource adds up, the costs of each layer by pair of bits, policies."""
    aggregates = draw(st.lists(st.sampled_from(["sum", "max"]), min_size=1, max_size=8))
    layers, costs = [], []
    for _ in range(draw(st.integers(1, 6))):
        weights, acts = draw(BITS), draw(BITS)
        columns = [
            {(w, a): draw(COSTS) for w in weights for a in acts} for _ in range(len(aggregates))
        ]
        tables = [[[cost[w, a] for a in acts] for w in weights] for cost in columns]
        layers.append(Layer("l", weight_candidates=weights, act_candidates=acts, costs=tables))
        costs.append(columns)
    policy = st.tuples(*(st.sampled_from(sorted(columns[0])) for columns in costs)).map(list)
    return layers, aggregates, costs, draw(st.lists(policy, min_size=1, max_size=5))


@given(accounted())
def test_costs_equal_plain_python_integers(case) -> None:
    layers, aggregates, costs, policies = case
    network = Network(layers, aggregates=aggregates)

    def total(of_layer: Callable[[dict, int], int]) -> list[int]:
        return [
            AGGREGATES[kind](of_layer(columns[place], index) for index, columns in enumerate(costs))
            for place, kind in enumerate(aggregates)
        ]

    assert network.costs(np.array(policies, dtype=np.uint8)) == [
        total(lambda cost, index, policy=policy: cost[policy[index]]) for policy in policies
    ]
    assert network.smallest_costs == total(lambda cost, _: min(cost.values()))
    assert network.largest_costs == total(lambda cost, _: cost[max(cost)])


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda batch: batch.astype(np.int64),
        lambda batch: batch.repeat(2, axis=0)[::2],
        lambda batch: batch.tolist(),
        lambda batch: [tuple(map(tuple, policy)) for policy in batch],
    ],
)
def test_policies_may_be_any_layout_any_integers_or_lists(network: Network, convert) -> None:
    batch = np.array([[[8, 8], [2, 3], [4, 2]], [[8, 8], [4, 4], [3, 4]]], dtype=np.uint8)
    assert network.costs(convert(batch)) == [[6400 + 1800 + 1600], [6400 + 4800 + 2400]]


def test_no_policies_cost_nothing(network: Network) -> None:
    assert network.costs(np.empty((0, 3, 2), dtype=np.uint8)) == []


def test_network_tells_its_limits(network: Network) -> None:
    assert network.num_layers == 3
    assert (network.smallest_costs, network.largest_costs) == ([8400], [14400])
    assert repr(network) == "Network(num_layers=3, smallest_costs=[8400], largest_costs=[14400])"
    with pytest.raises(AttributeError):
        network.num_layers = 4  # type: ignore[misc]


def test_layer_tells_what_it_is() -> None:
    layer = Layer("conv", weight_candidates=[2], act_candidates=(8, 4), costs=[[(6, 5)]])
    assert layer.name == "conv"
    assert repr(layer) == "Layer('conv', weight_candidates=2, act_candidates=4/8)"


def test_costs_of_policies_that_break_a_tie_are_still_counted() -> None:
    bits = [2, 4]
    layers = [
        Layer("l", weight_candidates=bits, act_candidates=bits, costs=[[[1, 2], [3, 4]]])
        for _ in range(2)
    ]
    tied = Network(layers, ties=[[(0, "act"), (1, "act")]])
    assert tied.costs([[[2, 2], [2, 4]], [[4, 4], [4, 4]]]) == [[3], [8]]
