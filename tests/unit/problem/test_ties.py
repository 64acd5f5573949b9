"""Tied sides take the same bits in whatever is drawn, proposed, named, narrowed or accepted."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_network import NETWORK

from harness.errors import ConfigError, PolicyError
from harness.problem.candidates import Candidates, LayerCandidates
from harness.problem.policy import Policy
from harness.problem.ties import SIDES, group_of_side, merged

MEMBERS = st.tuples(st.integers(0, 5), st.sampled_from(SIDES))
GROUPS = st.lists(st.lists(MEMBERS, max_size=4), max_size=6)


def row(name: str, weight: tuple, act: tuple, *, pinned: bool = False) -> LayerCandidates:
    return LayerCandidates(name=name, weight=weight, act=act, is_pinned=pinned)


TIED = Candidates(
    (
        row("stem", (8,), (8,), pinned=True),
        row("a", (6, 4, 2), (6, 5, 4, 3)),
        row("b", (5, 4, 2), (4, 3, 2)),
        row("c", (6, 4), (4, 3)),
    ),
    (((1, "weight"), (3, "weight")), ((1, "act"), (2, "act"), (3, "act"))),
)


def reachable(groups: list, start: tuple) -> set:
    """Return whatever is tied to a side, by walking until nothing is added."""
    found = {start}
    while True:
        more = found.union(*(group for group in groups if found & set(group)))
        if more == found:
            return found
        found = more


@given(groups=GROUPS)
def test_merged_groups_are_the_connected_parts(groups: list) -> None:
    ties = merged(groups)
    group_of = group_of_side(ties)
    assert len(group_of) == sum(len(group) for group in ties)  # Disjoint.
    for member in {member for group in groups for member in group}:
        expected = reachable(groups, member)
        if member in group_of:
            assert set(ties[group_of[member]]) == expected
        else:
            assert expected == {member}
    assert merged(ties) == merged(reversed(groups)) == ties


def test_tied_sides_have_the_candidates_that_all_were_given() -> None:
    assert [layer.act for layer in TIED.layers] == [(8,), (4, 3), (4, 3), (4, 3)]
    assert [layer.weight for layer in TIED.layers] == [(8,), (6, 4), (5, 4, 2), (6, 4)]
    for policy in (TIED.largest, TIED.smallest, *TIED.uniform_policies.values()):
        TIED.check(policy)
    assert TIED.smallest.bits == ((8, 8), (4, 3), (2, 3), (4, 3))
    assert all(TIED.label(policy) == label for label, policy in TIED.uniform_policies.items())


def test_sides_without_a_common_candidate_cannot_be_tied() -> None:
    message = (
        r"tied layers have no bit-width in common: activations of a 6/5, activations of b 4/3; "
        r"give them candidates that overlap, or untie them$"
    )
    with pytest.raises(ConfigError, match=message):
        Candidates((row("a", (6,), (6, 5)), row("b", (6,), (4, 3))), (((0, "act"), (1, "act")),))


def test_a_policy_that_parts_what_is_tied_is_refused() -> None:
    message = (
        r"^activations of a and activations of c are tied and have 4 and 3 bits in the policy; give"
    )
    with pytest.raises(PolicyError, match=message):
        TIED.check(Policy([(8, 8), (6, 4), (5, 4), (6, 3)]))
    with pytest.raises(PolicyError, match=r"^weights of a and weights of c are tied and have 6 an"):
        TIED.check(Policy([(8, 8), (6, 4), (5, 4), (4, 4)]))


def next_of(answers: Iterator[int], _: int) -> int:
    return next(answers)


def test_every_policy_that_the_ties_allow_is_drawn_as_often() -> None:
    """Goes over all answers that the draws can get, so the count is exact."""
    sizes: list[int] = []
    TIED.sample(lambda count: sizes.append(count) or 0)
    assert sizes == [1, 1, 2, 2, 3]
    answers = product(*map(range, sizes))
    drawn = Counter(TIED.sample(partial(next_of, iter(given))) for given in answers)
    allowed = set()
    for bits in product(*(product(layer.weight, layer.act) for layer in TIED.layers)):
        try:
            TIED.check(Policy(bits))
        except PolicyError:
            continue
        allowed.add(Policy(bits))
    assert drawn == dict.fromkeys(allowed, 1)
    assert len(allowed) == 2 * 3 * 2


@given(seed=st.integers(0, 2**32))
def test_without_ties_draws_are_those_of_always(seed: int) -> None:
    """The rule that golden runs were drawn by, written out."""
    candidates = NETWORK.candidates
    generator, again = (np.random.default_rng(seed) for _ in range(2))
    expected = [
        (la.weight[int(again.integers(len(la.weight)))], la.act[int(again.integers(len(la.act)))])
        for la in candidates.layers
    ]
    assert candidates.sample(lambda n: int(generator.integers(n))).bits == tuple(expected)


def test_what_one_of_a_group_loses_all_lose() -> None:
    rows = TIED.to_rows()
    assert TIED.with_rows(rows) == TIED
    rows[1] = {**rows[1], "act": [4]}
    assert [layer.act for layer in TIED.with_rows(rows).layers] == [(8,), (4,), (4,), (4,)]
    assert TIED.with_rows(rows).ties == TIED.ties
    rows[2] = {**rows[2], "act": [3]}
    with pytest.raises(ValueError, match=r"^tied layers have no bit-width in common: activations "):
        TIED.with_rows(rows)


def test_a_network_keeps_its_ties_when_it_is_narrowed_and_its_fingerprint_ignores_them() -> None:
    tied = dataclasses.replace(NETWORK, ties=(((1, "act"), (2, "act")),))
    assert tied.fingerprint == NETWORK.fingerprint
    rows = tied.candidates.to_rows()
    rows[2] = {**rows[2], "act": [6, 5, 4]}
    narrowed = tied.narrowed(tied.candidates.with_rows(rows))
    assert narrowed.candidates.ties == tied.ties
    assert [layer.act_candidates for layer in narrowed.layers[1:3]] == [(6, 5, 4)] * 2
    assert narrowed.candidates == tied.candidates.with_rows(rows)


def test_a_side_without_a_choice_says_nothing_about_what_others_may_take() -> None:
    candidates = Candidates((row("a", (8,), (6, 4)), row("b", (4, 2), (6, 4))))
    assert candidates.free_bits("weight") == [2, 4]
    assert candidates.uniform(weight_bits=2, act_bits=4).bits == ((8, 4), (2, 4))
    assert list(candidates.equal_bits_policies) == ["4/4"]
    assert Candidates((row("a", (8,), (6,)),)).free_bits("weight") == [8]
