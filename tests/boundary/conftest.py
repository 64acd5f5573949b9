"""A small network, its uniform policies, and a search over it."""

import pytest

from harness._search_rs import GreedySearch, Layer, Network

FREE = [2, 3, 4]


def layer(name: str, macs: int, weight_count: int, bits: list[int]) -> Layer:
    """Return a layer with the same candidates on both sides."""
    return Layer(
        name, macs=macs, weight_count=weight_count, weight_candidates=bits, act_candidates=bits
    )


@pytest.fixture
def network() -> Network:
    """Three layers, the first pinned at 8/8 bits."""
    return Network(
        [layer("stem", 100, 10, [8]), layer("conv", 300, 5, FREE), layer("head", 200, 7, FREE)]
    )


@pytest.fixture
def uniform() -> list[list[tuple[int, int]]]:
    """The nine uniform policies."""
    return [[(8, 8), (weight, act), (weight, act)] for weight in FREE for act in FREE]


@pytest.fixture
def search(network: Network, uniform: list[list[tuple[int, int]]]) -> GreedySearch:
    """A search that has far to go: to 10000 from 14400 BitOPs, 8400 the least."""
    return GreedySearch(network, 10_000, anchors=uniform)
