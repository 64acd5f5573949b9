"""What crosses the boundary as arrays, and that the Rust cost equals plain Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness._search_rs import Layer, Network

BITS = st.lists(st.integers(1, 32), min_size=1, max_size=4, unique=True)
RISES = st.lists(st.integers(0, 2**50), min_size=32, max_size=32).map(np.cumsum)


@st.composite
def accounted(draw: st.DrawFn) -> tuple[list[Layer], list[dict], list[list[tuple[int, int]]]]:
    """Layers, the cost of each by pair of bits, and policies for them."""
    layers, costs = [], []
    for _ in range(draw(st.integers(1, 6))):
        weights, acts = draw(BITS), draw(BITS)
        by_weight, by_act = draw(RISES).tolist(), draw(RISES).tolist()
        cost = {(w, a): by_weight[w - 1] + by_act[a - 1] for w in weights for a in acts}
        rows = [[cost[w, a] for a in acts] for w in weights]
        layers.append(Layer("l", weight_candidates=weights, act_candidates=acts, costs=rows))
        costs.append(cost)
    policy = st.tuples(*(st.sampled_from(sorted(cost)) for cost in costs)).map(list)
    return layers, costs, draw(st.lists(policy, min_size=1, max_size=5))


@given(accounted())
def test_costs_equal_plain_python_integers(case) -> None:
    layers, costs, policies = case
    network = Network(layers)
    assert network.costs(np.array(policies, dtype=np.uint8)) == [
        sum(cost[pair] for pair, cost in zip(policy, costs, strict=True)) for policy in policies
    ]
    assert network.smallest_cost == sum(min(cost.values()) for cost in costs)
    assert network.largest_cost == sum(max(cost.values()) for cost in costs)


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
    assert network.costs(convert(batch)) == [6400 + 1800 + 1600, 6400 + 4800 + 2400]


def test_no_policies_cost_nothing(network: Network) -> None:
    assert network.costs(np.empty((0, 3, 2), dtype=np.uint8)) == []


def test_network_tells_its_limits(network: Network) -> None:
    assert network.num_layers == 3
    assert (network.smallest_cost, network.largest_cost) == (8400, 14400)
    assert repr(network) == "Network(num_layers=3, smallest_cost=8400, largest_cost=14400)"
    with pytest.raises(AttributeError):
        network.num_layers = 4  # type: ignore[misc]


def test_layer_tells_what_it_is() -> None:
    layer = Layer("conv", weight_candidates=[2], act_candidates=(8, 4), costs=[(6, 5)])
    assert layer.name == "conv"
    assert repr(layer) == "Layer('conv', weight_candidates=2, act_candidates=4/8)"
