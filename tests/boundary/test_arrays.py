"""What crosses the boundary as arrays, and that the Rust cost equals plain Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness._search_rs import Layer, Network

ANY_BITS = st.integers(1, 32)


@st.composite
def accounted(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[list[tuple[int, int]]]]:
    """Layers as (MACs, weights) and policies of any bits for them."""
    counts = st.tuples(st.integers(1, 2**50), st.integers(0, 2**50))
    layers = draw(st.lists(counts, min_size=1, max_size=6))
    policy = st.lists(st.tuples(ANY_BITS, ANY_BITS), min_size=len(layers), max_size=len(layers))
    return layers, draw(st.lists(policy, min_size=1, max_size=5))


@given(accounted())
def test_costs_equal_plain_python_integers(case) -> None:
    layers, policies = case
    network = Network(
        [
            Layer("l", macs=macs, weight_count=count, weight_candidates=[2], act_candidates=[2])
            for macs, count in layers
        ]
    )
    batch = np.array(policies, dtype=np.uint8)
    assert network.bitops(batch) == [
        sum(w * a * macs for (w, a), (macs, _) in zip(policy, layers, strict=True))
        for policy in policies
    ]
    assert network.weight_bytes(batch) == [
        -(-sum(w * count for (w, _), (_, count) in zip(policy, layers, strict=True)) // 8)
        for policy in policies
    ]


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
    batch = np.array([[[8, 8], [2, 3], [4, 2]], [[8, 8], [32, 1], [7, 5]]], dtype=np.uint8)
    assert network.bitops(convert(batch)) == [6400 + 1800 + 1600, 6400 + 9600 + 7000]


def test_no_policies_cost_nothing(network: Network) -> None:
    assert network.bitops(np.empty((0, 3, 2), dtype=np.uint8)) == []


def test_network_tells_its_limits(network: Network) -> None:
    assert network.num_layers == 3
    assert (network.smallest_bitops, network.largest_bitops) == (8400, 14400)
    assert repr(network) == "Network(num_layers=3, smallest_bitops=8400, largest_bitops=14400)"
    with pytest.raises(AttributeError):
        network.num_layers = 4  # type: ignore[misc]


def test_layer_tells_what_it_is() -> None:
    layer = Layer("conv", macs=3, weight_count=2, weight_candidates=[2], act_candidates=(8, 4))
    assert layer.name == "conv"
    assert repr(layer) == "Layer('conv', macs=3, weight_count=2)"
