"""A small network and a search over it."""

import pytest

from harness._search_rs import GreedySearch, Network

FREE = [2, 3, 4]


@pytest.fixture
def network() -> Network:
    """Three layers, the first pinned at 8/8 bits."""
    return Network(
        [("stem", 100, 10, [8], [8]), ("conv", 300, 5, FREE, FREE), ("head", 200, 7, FREE, FREE)]
    )


@pytest.fixture
def search(network: Network) -> GreedySearch:
    """A search that has far to go: to 10000 from 14400 BitOPs, 8400 the least."""
    return GreedySearch(network, 10_000)
