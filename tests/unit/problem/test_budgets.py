"""Several limits at once: how they are typed, kept, named, and refused."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_network import NETWORK

from harness.errors import BudgetError
from harness.problem.budget import (
    BUDGETED,
    format_amount,
    infeasible_together,
    parse_budget,
    parse_target,
    slack_warnings,
    target_budget,
)
from harness.problem.cost import (
    ACT_BYTES_PEAK,
    ACT_BYTES_SUM,
    BITOPS,
    WEIGHT_BYTES,
    Resource,
    cost_table,
    policy_cost,
    weight_bytes,
)
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.problem.units import BYTE_UNITS, ENERGY_UNITS, PICO, TIME_UNITS

SIZED = dataclasses.replace(
    NETWORK,
    layers=tuple(
        dataclasses.replace(la, input_count=count, weight_count=1000 * (i + 1))
        for i, (la, count) in enumerate(zip(NETWORK.layers, (192, 640, 800, 64), strict=True))
    ),
)
"""Inputs of 192, 640, 800 and 64 elements, 1000 to 4000 weights, the ends at 8 bits."""

LATENCY = Resource(
    name="latency", unit="latency", units=TIME_UNITS, per_unit=PICO, is_measured=True,
    key_unit="seconds", of_layer=lambda la, w, a: 10**9 * (3 if w == 4 else w + a),
)  # fmt: skip
"""Milliseconds of W + A, and 3 ms at 4 weight bits: there a kernel exists."""

PAIRS = st.tuples(*[st.tuples(*[st.sampled_from((6, 5, 4, 3, 2))] * 2)] * 2)


@given(pairs=PAIRS)
def test_columns_formulas_and_totals_are_one(pairs: tuple) -> None:
    """Each resource once more, written out; the table's entries add up or have that maximum."""
    policy = Policy([(8, 8), *pairs, (8, 8)])
    bits = list(policy)
    layers = SIZED.layers
    expected = {
        "bitops": sum(w * a * la.macs for la, (w, a) in zip(layers, bits, strict=True)),
        "weight-bytes": sum(w * la.weight_count for la, (w, _) in zip(layers, bits, strict=True)),
        "act-bytes-sum": sum(a * la.input_count for la, (_, a) in zip(layers, bits, strict=True)),
        "act-bytes-peak": max(a * la.input_count for la, (_, a) in zip(layers, bits, strict=True)),
    }
    resources = (*BUDGETED, LATENCY)
    for resource in resources:
        table = cost_table(SIZED, SIZED.candidates, resource)
        entries = [
            rows[choice.weight.index(w)][choice.act.index(a)]
            for rows, choice, (w, a) in zip(table, SIZED.candidates.layers, bits, strict=True)
        ]
        total = sum(entries) if resource.aggregate == "sum" else max(entries)
        assert total == policy_cost(SIZED, policy, resource)
        assert expected.get(resource.name, total) == total
    assert weight_bytes(SIZED, policy) == -(-expected["weight-bytes"] // 8)


def test_keys_and_units_of_files() -> None:
    keys = [one.key for one in (*BUDGETED, LATENCY)]
    assert keys == [
        "bitops", "bitops_first_activation_32", "bitops_ends_excluded", "weight_bytes",
        "act_bytes_peak", "act_bytes_sum", "latency_seconds",
    ]  # fmt: skip
    assert [WEIGHT_BYTES.in_unit(bits) for bits in (0, 1, 8, 9)] == [0, 1, 1, 2]
    assert LATENCY.in_unit(25 * 10**8) == 0.0025


def test_several_limits_are_read_in_one_order_and_kept_together() -> None:
    texts = ["latency=70%", "weight-bytes=7 K", "bitops=15K"]
    budget = parse_budget(texts, SIZED, measured=[LATENCY])
    assert [limit.resource for limit in budget.limits] == [BITOPS, WEIGHT_BYTES, LATENCY]
    assert budget == parse_budget(texts[::-1], SIZED, measured=[LATENCY])
    assert [limit.amount for limit in budget.limits] == [15_000, 56_000, 39_200_000_000]
    assert budget.text == "bitops=15K weight-bytes=7 K latency=70%"
    assert budget.folder_name == "15K_weight-bytes_7K_latency_70pct"
    two, four = (SIZED.candidates.uniform(weight_bits=w, act_bits=2) for w in (2, 4))
    assert budget.costs(SIZED, two) == (10_512, 50_000, 40 * 10**9)
    assert not budget.allows(SIZED, two)  # Too slow, where four weight bits are not.
    assert budget.costs(SIZED, four) == (12_064, 60_000, 38 * 10**9)
    assert not budget.allows(SIZED, four)  # Too large.
    mixed = Policy([(8, 8), (4, 2), (2, 2), (8, 8)])
    assert budget.costs(SIZED, mixed) == (11_836, 54_000, 39 * 10**9)
    assert budget.allows(SIZED, mixed)


@given(pairs=PAIRS, share=st.integers(46, 100))
def test_a_budget_allows_what_keeps_every_limit(pairs: tuple, share: int) -> None:
    texts = [
        f"bitops={share}%",
        f"act-bytes-peak={share}%",
        f"weight-bytes={share + 26}%",
    ]
    budget = parse_budget(texts, SIZED)
    policy = Policy([(8, 8), *pairs, (8, 8)])
    kept = [policy_cost(SIZED, policy, limit.resource) <= limit.amount for limit in budget.limits]
    assert budget.allows(SIZED, policy) == all(kept)


def test_a_target_is_a_budget_with_the_text_and_folder_of_old() -> None:
    budget = target_budget(" 55% ", SIZED)
    assert (budget.text, budget.folder_name) == ("55%", "55pct")
    assert budget.limits[0].amount == parse_target("55%", SIZED)
    assert parse_budget(["bitops=55%"], SIZED) == budget
    assert parse_budget(["weight-bytes=80%"], SIZED).folder_name == "weight-bytes_80pct"
    other = parse_budget(["bitops-ends-excluded=50%"], SIZED)
    assert other.text == "bitops-ends-excluded=50%"


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("1.2M", 1_200_000), ("1.2MB", 1.2 * 2**20), ("1.2MiB", 1.2 * 2**20), ("3k", 3000),
     ("3KiB", 3072), ("3kb", 3072), ("12345", 12345), ("12345 B", 12345), ("2G", 2 * 10**9),
     ("2GiB", 2**31), ("2gb", 2**31), ("1T", 10**12)],
)  # fmt: skip
def test_bytes_are_decimal_or_of_1024(text: str, num_bytes: float) -> None:
    assert BYTE_UNITS.parsed(text, largest=0) == round(8 * num_bytes)


def test_amounts_of_every_resource_are_shown_and_read_back() -> None:
    shown = [format_amount(8 * n, WEIGHT_BYTES) for n in (0, 5, 1500, 1023 * 1024, 6_100_000)]
    assert shown == ["0B", "5B", "1.465KiB", "1023KiB", "5.817MiB"]
    times = [TIME_UNITS.shown(n) for n in (1, 2500, 3 * 10**9, 61 * PICO)]
    assert times == ["1ps", "2.5ns", "3ms", "61s"]
    assert ENERGY_UNITS.parsed("250uJ", largest=0) == 250 * 10**6
    assert TIME_UNITS.parsed("3", largest=0) is None


@given(amount=st.integers(1, 10**18), units=st.sampled_from([BYTE_UNITS, TIME_UNITS]))
def test_an_amount_shown_upward_is_read_back_as_one_that_is_no_less(amount: int, units) -> None:
    amount = max(amount, 8)
    read = units.parsed(units.shown_upward(amount), largest=0)
    assert amount <= read <= amount * 1.0011 + 8


REFUSED = [
    (["bitops"], r"^budget bitops has no `=`; write --budget bitops=5\.5G$"),
    ([], r"^no budget is given; write --budget bitops=5\.5G or --target-bitops 5\.5G$"),
    (["bitops=15K", "bitops = 16K"], r"^budget bitops is given twice; give each resource one li"),
    (["flops=3G"], r"^budget flops names no resource; choose from bitops, bitops-first-activation"),
    (["latency=3ms"], r"^budget latency needs what each layer was measured at; give a table of it"),
    (["bitops-uniform=3G"], r"^budget bitops-uniform has no meaning, that convention counts unif"),
    (["weight-bytes=3ms"], r"^budget weight-bytes=3ms is not a positive amount of weight bytes; "
     r"write 1\.2M \(decimal\), 1\.2MB or 1\.2MiB \(of 2\^20 bytes\), or 45%$"),
    (["weight-bytes=5K"], r"^budget weight-bytes=5K weight bytes is below 6\.104KiB, the least "
     r"small reaches with every free layer at 2/2 bits \(stem and fc, pinned at 8/8, hold "
     r"4\.883KiB of it\); raise --budget weight-bytes or train smaller candid"),
    (["act-bytes-sum=20%"], r"^budget act-bytes-sum=20% = 267\.1B activation bytes is below 616B"),
    (["act-bytes-peak=150"], r"^budget act-bytes-peak=150 peak activation bytes is below 200B, the "
     r"least small reaches with every free layer at 2/2 bits \(b needs 200B\); raise"),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_budgets_that_cannot_be_kept_are_refused(texts: list, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        parse_budget(texts, SIZED)


def test_a_measured_least_is_not_that_of_the_smallest_bits() -> None:
    message = (
        r"^budget latency=37ms latency is below 38ms, the least small reaches \(stem and fc, "
        r"pinned at 8/8, hold 32ms of it\); raise --budget latency or train smaller candidates$"
    )
    with pytest.raises(BudgetError, match=message):
        parse_budget(["latency=37ms"], SIZED, measured=[LATENCY])
    assert parse_budget(["latency=38ms"], SIZED, measured=[LATENCY]).limits[0].amount == 38 * 10**9


def test_what_pins_a_budget_names_chosen_pins_and_what_is_in_float() -> None:
    stem, a, b, fc = SIZED.layers
    one = {"weight_candidates": (6,), "act_candidates": (6,)}
    in_float = dataclasses.replace(fc, weight_candidates=(32,), act_candidates=(32,))
    many = [dataclasses.replace(a, name=f"a{i}", **one) for i in range(5)]
    network: NetworkSpec = dataclasses.replace(SIZED, layers=(stem, *many, b, in_float))
    message = (
        r"\(stem, pinned at 8/8 and 1 in float and a0 and a1 and a2 and 2 more, given one "
        r"candidate alone, hold .* of it\)"
    )
    with pytest.raises(BudgetError, match=message):
        parse_budget(["bitops=1K"], network)
    pinned = dataclasses.replace(
        SIZED, layers=(dataclasses.replace(stem, input_count=900), a, b, fc)
    )
    with pytest.raises(BudgetError, match=r"\(stem, pinned at 8/8, needs 900B\)"):
        parse_budget(["act-bytes-peak=1"], pinned)


@pytest.mark.parametrize("resource", [ACT_BYTES_PEAK, ACT_BYTES_SUM])
def test_sizes_that_nobody_noted_are_no_zero(resource: Resource) -> None:
    message = r"^the size of what layer stem reads is not known, its network\.json is of a version"
    with pytest.raises(BudgetError, match=message):
        parse_budget([f"{resource.name}=1K"], NETWORK)


def test_limits_that_bind_nothing_are_said_each() -> None:
    budget = parse_budget(["bitops=80%", "act-bytes-peak=1K"], SIZED)
    (line,) = slack_warnings(budget, SIZED)
    assert line == (
        "budget act-bytes-peak=1K = 1000B peak activation bytes binds nothing: small reaches 600B "
        "at most, with every layer at its largest bits"
    )
    assert slack_warnings(target_budget("99%", SIZED), SIZED) == []
    (line,) = slack_warnings(target_budget("70", SIZED), SIZED)
    assert line.startswith("target 70 = 70G BitOPs binds nothing: small reaches 22.93K at most")
    assert line.endswith("; for a share of that write 70%")


def test_limits_that_exclude_each_other_are_said_with_what_each_needs() -> None:
    budget = parse_budget(["bitops=12K", "latency=38ms"], SIZED, measured=[LATENCY])
    error = infeasible_together(budget, SIZED, (12_064, None))
    assert re.fullmatch(
        r"budget bitops=12K latency=38ms: some policy of small keeps each limit, none keeps them "
        r"together \(at least bitops 12\.07K with the others kept\); raise one of them or train "
        r"smaller candidates",
        str(error),
    )
    assert "together; raise" in str(infeasible_together(budget, SIZED, (None, None)))
