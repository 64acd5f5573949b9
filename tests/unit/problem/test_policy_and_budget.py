"""Policies, costs and budgets: properties, and the text of every message."""

import dataclasses

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_network import NETWORK, layer

from harness.errors import BudgetError
from harness.problem.budget import format_amount, parse_target
from harness.problem.cost import (
    BITOPS,
    WEIGHT_BYTES,
    Resource,
    bitops,
    cost_table,
    ledger,
    policy_cost,
    same_bits_policy,
    weight_bytes,
)
from harness.problem.policy import Policy
from harness.problem.units import Units
from harness.quant.convert import describe_network
from harness.run.config import QuantConfig

PAIRS = st.lists(st.tuples(st.integers(1, 32), st.integers(1, 32)), min_size=4, max_size=4)


@given(pairs=PAIRS, index=st.integers(0, 3))
def test_bitops_are_additive_and_monotone(pairs: list, index: int) -> None:
    policy = Policy(pairs)
    macs = [spec.macs for spec in NETWORK.layers]
    assert bitops(NETWORK, policy) == sum(w * a * m for (w, a), m in zip(pairs, macs, strict=True))
    assert bitops(NETWORK, policy) == sum(row.bitops for row in ledger(NETWORK, policy))
    weight, act = pairs[index]
    for more in ((weight + 1, act), (weight, act + 1)):
        raised = Policy([*pairs[:index], more, *pairs[index + 1 :]])
        assert bitops(NETWORK, raised) > bitops(NETWORK, policy)
        assert weight_bytes(NETWORK, raised) >= weight_bytes(NETWORK, policy)


def test_every_total_follows_from_the_formula_of_its_layers() -> None:
    policy = Policy([(8, 8), (3, 2), (6, 5), (8, 8)])
    rows = ledger(NETWORK, policy)
    assert policy_cost(NETWORK, policy, BITOPS) == sum(row.bitops for row in rows)
    assert policy_cost(NETWORK, policy, WEIGHT_BYTES) == sum(row.size_bits for row in rows)
    table = cost_table(NETWORK, NETWORK.candidates, BITOPS)
    assert [len(rows) * len(rows[0]) for rows in table] == [1, 25, 25, 1]
    assert (table[1][3][4], table[1][0][0]) == (rows[1].bitops, 36 * 331)


def test_extremes_are_the_cheapest_and_dearest_candidates() -> None:
    assert bitops(NETWORK, NETWORK.candidates.smallest) == 64 * 140 + 4 * 388
    assert bitops(NETWORK, NETWORK.candidates.largest) == 64 * 140 + 36 * 388


def test_amounts_are_read_with_their_units() -> None:
    amounts = {"12000K": 12_000_000, "31.6G": 31_600_000_000, "2": 2_000_000_000, "1t": 10**12}
    assert {text: parse_target(text, NETWORK) for text in amounts} == amounts
    assert parse_target("50%", NETWORK) == bitops(NETWORK, NETWORK.candidates.largest) // 2
    assert format_amount(14_368_000_000) == "14.37G"


@pytest.mark.parametrize("text", ["", "0", "-3G", "nanG", "3 apples", "1e3", "0%", "9" * 400])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match=r"is not a positive amount of BitOPs; write 31.6G, 540M"):
        parse_target(text, NETWORK)


def test_an_unreachable_budget_says_the_least_and_what_pins_it() -> None:
    with torch.device("meta"):
        network = describe_network(
            timm.create_model("resnet18"), name="resnet18", input_size=(3, 224, 224),
            num_classes=1000, config=QuantConfig(),
        )  # fmt: skip
    least = (
        r"BitOPs is below 14.37G, the least resnet18 reaches with every free layer at 2/2 bits "
        r"\(conv1 and fc, pinned at 8/8, hold 7.586G of it\); raise --target-bitops or train"
    )
    with pytest.raises(BudgetError, match=r"^target 3.0G " + least):
        parse_target("3.0G", network)
    with pytest.raises(BudgetError, match=r"^target 5% = 3.431G " + least):
        parse_target("5%", network)


@given(st.integers(250, 10**13))
def test_the_least_that_a_refusal_names_can_be_typed(macs: int) -> None:
    network = dataclasses.replace(NETWORK, layers=(layer("conv", macs),))
    with pytest.raises(BudgetError, match="BitOPs is below") as refusal:
        parse_target("0.000000001G", network)
    named = str(refusal.value).split("BitOPs is below ")[1].split(",")[0]
    assert bitops(network, network.candidates.smallest) <= parse_target(named, network)


def test_another_resource_has_its_own_units_and_words() -> None:
    units = Units(factors={"ms": 1e6, "us": 1e3}, bare="us", examples="3.2ms or 45%")
    latency = Resource(
        name="latency", unit="seconds", of_layer=lambda layer, w, a: w * layer.macs, units=units
    )
    amounts = {"0.01MS": 10_000, "2.5 us": 2_500, "7": 7_000, "60%": 2068}
    assert {text: parse_target(text, NETWORK, latency) for text in amounts} == amounts
    assert [format_amount(n, latency) for n in (3_200_000, 45_000, 12)] == [
        "3.2ms",
        "45us",
        "0.012us",
    ]
    for text in ("3G", "ms", "1e3"):
        with pytest.raises(
            BudgetError, match=r"not a positive amount of seconds; write 3.2ms or 45%$"
        ):
            parse_target(text, NETWORK, latency)
    least = (
        r"^target 1us seconds is below 1.896us, .* hold 1.12us of it\); raise --target-latency or"
    )
    with pytest.raises(BudgetError, match=least):
        parse_target("1us", NETWORK, latency)


def test_fingerprint_is_of_the_structure_not_of_candidates() -> None:
    fewer = tuple(dataclasses.replace(one, act_candidates=(8,)) for one in NETWORK.layers)
    assert dataclasses.replace(NETWORK, layers=fewer).fingerprint == NETWORK.fingerprint
    assert dataclasses.replace(NETWORK, num_classes=9).fingerprint != NETWORK.fingerprint


def test_label_of_a_uniform_policy_says_its_bits_where_depthwise_layers_stop_earlier() -> None:
    stopped = dataclasses.replace(
        layer("dw", 20), is_depthwise=True, weight_candidates=(6, 5, 4, 3), act_candidates=(4, 3)
    )
    network = dataclasses.replace(NETWORK, layers=(*NETWORK.layers[:2], stopped, NETWORK.layers[3]))
    two = network.candidates.uniform(weight_bits=2, act_bits=2)
    assert two.bits == ((8, 8), (2, 2), (3, 3), (8, 8))
    assert network.candidates.label(two) == "2/2"
    pairs = network.candidates.uniform_policies
    assert all(network.candidates.label(policy) == label for label, policy in pairs.items())
    assert network.candidates.label(Policy([(8, 8), (3, 2), (4, 3), (8, 8)])) == "mixed"


def test_label_of_bits_that_are_no_candidates_says_them_where_all_free_layers_have_them() -> None:
    exact = same_bits_policy(NETWORK, weight_bits=7, act_bits=1)
    assert NETWORK.candidates.label(exact) == "7/1"
    one_differs = Policy([*exact.bits[:2], (7, 2), exact.bits[3]])
    assert NETWORK.candidates.label(one_differs) == "mixed"
    pinned = dataclasses.replace(NETWORK, layers=(NETWORK.layers[0], NETWORK.layers[3]))
    assert pinned.candidates.label(Policy([(8, 8), (8, 8)])) == "mixed"
