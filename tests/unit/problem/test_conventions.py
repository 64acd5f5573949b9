"""Each convention of counting BitOPs against the sum written out, and what none of them knows."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_network import NETWORK, layer

from harness.errors import ConfigError
from harness.problem.conventions import CONVENTIONS, convention_named
from harness.problem.cost import bitops, policy_cost, same_bits_policy
from harness.problem.network import FLOAT_BITS, NetworkSpec
from harness.problem.policy import Policy

FLOAT = dataclasses.replace(
    layer("eca", 7, pinned=True), weight_candidates=(FLOAT_BITS,), act_candidates=(FLOAT_BITS,)
)
STEM, A, B, FC = NETWORK.layers
ENDS = dataclasses.replace(STEM, place="first"), dataclasses.replace(FC, place="last")
PLACED = dataclasses.replace(NETWORK, layers=(ENDS[0], A, FLOAT, B, ENDS[1]))
"""100 MACs, 331, 7 in float, 57 and 40."""

BITS = st.integers(2, 6)


@given(pairs=st.tuples(*[st.tuples(BITS, BITS)] * 2))
def test_conventions_that_can_be_budgeted_count_what_they_say(pairs: tuple) -> None:
    (w1, a1), (w2, a2) = pairs
    policy = Policy([(8, 8), (w1, a1), (32, 32), (w2, a2), (8, 8)])
    inner = 331 * w1 * a1 + 7 * 32 * 32 + 57 * w2 * a2
    expected = {
        "paper": 100 * 64 + inner + 40 * 64,
        "first-activation-32": 100 * 8 * 32 + inner + 40 * 64,
        "ends-excluded": inner,
    }
    for name, amount in expected.items():
        convention = convention_named(name)
        assert convention.bitops(PLACED, policy) == amount
        assert policy_cost(PLACED, policy, convention.resource) == amount
        assert sum(convention.of_layers(PLACED, policy)) == amount
    assert expected["paper"] == bitops(PLACED, policy)


@given(weight_bits=BITS, act_bits=BITS)
def test_uniform_counts_the_ends_at_the_bits_of_the_policy(weight_bits: int, act_bits: int) -> None:
    policy = same_bits_policy(PLACED, weight_bits=weight_bits, act_bits=act_bits)
    expected = (100 + 331 + 57 + 40) * weight_bits * act_bits + 7 * 32 * 32
    assert convention_named("uniform").bitops(PLACED, policy) == expected


def test_uniform_leaves_layers_that_stop_earlier_at_their_own_bits() -> None:
    stopped = dataclasses.replace(B, weight_candidates=(6, 5, 4, 3), act_candidates=(6, 5, 4, 3))
    network: NetworkSpec = dataclasses.replace(PLACED, layers=(ENDS[0], A, stopped, ENDS[1]))
    policy = network.candidates.uniform(weight_bits=2, act_bits=2)
    assert convention_named("uniform").bitops(network, policy) == (100 + 331 + 40) * 4 + 57 * 9


def test_uniform_has_nothing_to_say_about_a_mixed_policy() -> None:
    mixed = Policy([(8, 8), (4, 4), (32, 32), (3, 3), (8, 8)])
    uniform = convention_named("uniform")
    assert (uniform.bitops(PLACED, mixed), uniform.of_layers(PLACED, mixed)) == (None, None)
    assert uniform.resource is None


def test_an_unknown_convention_is_refused_by_the_names_there_are() -> None:
    assert len({one.name for one in CONVENTIONS}) == len(CONVENTIONS) == 4
    message = r"^convention mine is unknown; choose all or one of paper, first-activation-32, ends-"
    with pytest.raises(ConfigError, match=message):
        convention_named("mine")
