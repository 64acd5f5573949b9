"""Where a network is cut, what is alike among policies, and in which order they run."""

import copy
import itertools
import math

import pytest
from branching_networks import NETWORKS, created
from hypothesis import given
from hypothesis import strategies as st

from harness.problem.policy import Policy
from harness.quant.segments import IMAGES
from harness.quant.sharing import alike, ordered, split_by_work
from harness.training.policy_sampler import sample_policy

TRIES = st.lists(
    st.lists(st.integers(0, 2), min_size=6, max_size=6).map(tuple), min_size=1, max_size=40
)
"""Policies of a chain of six layers; some are equal."""


def prefix_columns(policies: list[tuple[int, ...]]) -> list[list[int]]:
    """Return for each layer the first policy with the same bits up to it."""
    return [
        [next(k for k, other in enumerate(policies) if other[: at + 1] == one[: at + 1])
         for one in policies]
        for at in range(6)
    ]  # fmt: skip


@given(TRIES)
def test_the_order_holds_each_policy_once_and_keeps_what_is_alike_together(policies) -> None:
    columns = prefix_columns(policies)
    order = ordered(columns, range(len(policies)))
    assert sorted(order) == list(range(len(policies)))
    for column in columns:
        numbers = [column[place] for place in order]
        changes = sum(a != b for a, b in itertools.pairwise(numbers))
        assert changes + 1 == len(set(numbers))


@given(TRIES)
def test_few_partings_wait_at_a_time(policies) -> None:
    """Counted by brute force: the prefixes that are computed and that a later policy goes on from,
    in another way than the one that runs now."""
    order = ordered(prefix_columns(policies), range(len(policies)))
    for now, place in enumerate(order):
        waiting = {
            one[:at]
            for one in (policies[later] for later in order[now + 1 :])
            for at in range(1, 7)
            if one[:at] == policies[place][:at] and one[: at + 1] != policies[place][: at + 1]
        }
        assert len(waiting) <= math.log2(len(policies)) + 1


@pytest.mark.parametrize("name", ["resnet8", "mobile", "squeezed", "dense"])
def test_policies_are_alike_exactly_where_all_bits_before_are(name: str) -> None:
    """Against the dependences of the operations themselves, followed one by one."""
    supernet = created(name)
    candidates = supernet.network.candidates
    policies = [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(4)]
    policies += [
        Policy([*policies[0].bits[:at], *policies[1].bits[at:]]) for at in range(len(policies[0]))
    ]
    network = supernet.segmented
    depends_on: dict[int, set[int]] = {IMAGES: set()}
    numbers = alike(network, supernet.encode_standing(policies)).numbers
    for segment, column in zip(network.segments, numbers, strict=True):
        layers = {item.number for item in segment.given if item.part == "rows"}
        layers = layers.union(*(depends_on[source] for source in segment.sources))
        depends_on.update(dict.fromkeys(segment.results, layers))
        bits = [tuple(policy.bits[layer] for layer in sorted(layers)) for policy in policies]
        assert column == [bits.index(one) for one in bits]


@pytest.mark.parametrize("name", NETWORKS)
def test_each_layer_begins_a_segment_and_reads_what_comes_before(name: str) -> None:
    supernet = created(name)
    network = supernet.segmented
    assert copy.deepcopy(supernet).segmented is network
    known, layers, norms = {IMAGES}, [], []
    for segment in network.segments:
        assert known.issuperset(segment.sources)
        known.update(segment.results)
        layers += [item.number for item in segment.given if item.part == "weights"]
        norms += [item.number for item in segment.given if item.part == "statistics"]
    assert layers == sorted(layers) == list(range(len(supernet.network.layers)))
    assert sorted(norms) == list(range(len(supernet.norms)))
    assert network.logits in known
    assert network.repeated_norms == ()


def test_segments_end_where_policies_can_part_and_nowhere_else() -> None:
    names = [segment.name for segment in created("squeezed").segmented.segments]
    layers = ["stem", "conv1", "reduce", "expand", "conv2", "shortcut", "fc"]
    # The sum reads two branches, neither of which says what the other one computes.
    assert names == [*layers[:-1], "add", "fc"]


def shared_work(policies: list[Policy], layer_work: list[int]) -> int:
    """Return the work of all different beginnings of policies, each done once."""
    beginnings = {one.bits[: at + 1] for one in policies for at in range(len(layer_work))}
    return sum(layer_work[len(beginning) - 1] for beginning in beginnings)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(2, 4), st.just(2)), min_size=5, max_size=5).map(Policy),
        max_size=40,
    ),
    st.lists(st.integers(1, 9), min_size=5, max_size=5),
    st.integers(1, 5),
)
def test_parts_hold_each_policy_once_and_none_does_much_more_than_its_share(
    policies, layer_work, num_parts
) -> None:
    parts = split_by_work(policies, layer_work, num_parts=num_parts)
    assert len(parts) == num_parts
    assert sorted(place for part in parts for place in part) == list(range(len(policies)))
    assert bool(parts[0]) == bool(policies)
    total, one_policy = shared_work(policies, layer_work), sum(layer_work)
    for part in parts:
        # A run that begins within its share does at most one policy more, and its own beginning.
        work = shared_work([policies[place] for place in part], layer_work)
        assert work <= total / num_parts + 2 * one_policy
    runs = [sorted(policies[place].bits for place in part) for part in parts if part]
    assert all(one[-1] <= other[0] for one, other in itertools.pairwise(runs))


def test_moves_of_early_layers_weigh_more_than_those_of_late_ones() -> None:
    base = [(4, 4)] * 8
    moves = [Policy([*base[:at], (3, 4), *base[at + 1 :]]) for at in range(8)]
    first, second = split_by_work(moves, [1] * 8, num_parts=2)
    # Those that leave early: 8 + 7 + 6 of 36 layers, and what the others add to them.
    assert sorted(first) == [0, 1, 2]
    assert sorted(second) == [3, 4, 5, 6, 7]
