"""A small network, its uniform policies, and a search over it."""

import pytest

from harness._search_rs import Layer, Network, Search

FREE = [2, 3, 4]


def layer(name: str, factor: int, bits: list[int]) -> Layer:
    """Return a layer with the same candidates on both sides, which costs `factor` times both."""
    costs = [[factor * weight * act for act in bits] for weight in bits]
    return Layer(name, weight_candidates=bits, act_candidates=bits, costs=[costs])


@pytest.fixture
def network() -> Network:
    """Three layers, the first pinned at 8/8 bits."""
    return Network([layer("stem", 100, [8]), layer("conv", 300, FREE), layer("head", 200, FREE)])


@pytest.fixture
def uniform() -> list[list[tuple[int, int]]]:
    """The nine uniform policies."""
    return [[(8, 8), (weight, act), (weight, act)] for weight in FREE for act in FREE]


@pytest.fixture
def search(network: Network, uniform: list[list[tuple[int, int]]]) -> Search:
    """A greedy search that has far to go: to 10000 from 14400, 8400 the least."""
    return Search(network, [[10_000]], strategy="greedy", uniform=uniform)
