"""Measured costs from a CSV: what is read, and the one line that each mistake is refused in."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_network import FREE, NETWORK

from harness.errors import BudgetError
from harness.problem.budget import parse_budget
from harness.problem.cost import cost_table, policy_cost
from harness.problem.policy import Policy
from harness.run.cost_file import MAX_AMOUNT, measured_resource

HEAD = "layer,weight_bits,act_bits,value"
ENDS = ["stem,8,8,0.5", "fc,8,8,0.25"]
ROWS = [*ENDS, *(f"{name},{w},{a},{w * a / 8}" for name, w, a in product("ab", FREE, FREE))]


def written(path: Path, rows: list[str], head: str = HEAD) -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def load(path: Path, unit: str = "latency:ms"):
    return measured_resource(f"{unit}={path}", NETWORK)


def test_values_are_kept_in_picoseconds_and_add_up(tmp_path: Path) -> None:
    latency = load(written(tmp_path / "board.csv", ROWS))
    policy = Policy([(8, 8), (4, 3), (2, 6), (8, 8)])
    assert policy_cost(NETWORK, policy, latency) == (500 + 250 + 1500 + 1500) * 10**6
    assert latency.in_unit(policy_cost(NETWORK, policy, latency)) == pytest.approx(0.00375)
    assert (latency.name, latency.key) == ("latency", "latency_seconds")
    table = cost_table(NETWORK, NETWORK.candidates, latency)
    assert table[1][0] == [6 * a * 125_000_000 for a in FREE]
    budget = parse_budget(["latency=3.75ms"], NETWORK, measured=[latency])
    assert budget.allows(NETWORK, policy)
    assert not parse_budget(["latency=3749us"], NETWORK, measured=[latency]).allows(NETWORK, policy)


def test_energy_has_units_of_its_own(tmp_path: Path) -> None:
    energy = load(written(tmp_path / "e.csv", ROWS), "energy:uJ")
    assert (energy.name, energy.key) == ("energy", "energy_joules")
    assert policy_cost(NETWORK, NETWORK.candidates.smallest, energy) == (750 + 1000) * 10**3


@given(values=st.lists(st.integers(0, 10**9), min_size=50, max_size=50))
def test_whatever_was_measured_is_what_the_table_holds(tmp_path_factory, values: list) -> None:
    pairs = list(product("ab", FREE, FREE))
    rows = [f"{n},{w},{a},{v}" for (n, w, a), v in zip(pairs, values, strict=True)]
    path = written(tmp_path_factory.mktemp("costs") / "c.csv", [*rows, *ENDS])
    table = cost_table(NETWORK, NETWORK.candidates, load(path, "latency:ns"))
    flat = [amount for rows in table[1:3] for row in rows for amount in row]
    assert flat == [value * 1000 for value in values]


def test_patterns_stand_for_many_layers_and_a_path_goes_before_them(tmp_path: Path) -> None:
    many = [f"[ab],{w},{a},{w + a}" for w, a in product(FREE, FREE)]
    rows = [*many, "a,4,4,1e-3", "*,8,8,2", "", "  stem , 8,8, 5 "]
    latency = load(written(tmp_path / "c.csv", rows))
    four = Policy([(8, 8), (4, 4), (4, 4), (8, 8)])
    assert policy_cost(NETWORK, four, latency) == (5_000_000 + 1000 + 8_000_000 + 2_000_000) * 1000


def test_a_mark_of_byte_order_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEAD, *ROWS]).encode())
    assert policy_cost(NETWORK, NETWORK.candidates.smallest, load(path)) == 1750 * 10**6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ROWS[:-1],
            r"^costs .*c\.csv have no row for layer b at 2/2 bits; add it, every pair of bi",
        ),
        (ROWS[1:], r"have no row for layer stem at 8/8 bits; add it"),
        ([*ROWS, "a,4,4,1"], r"^lines 16 and 54 of costs .* both give layer a at 4/4 bits; remove"),
        (
            [*ROWS, "?,7,7,1", "*,7,7,1"],
            r"^lines 54 and 55 of costs .* both give layer a at 7/7 bi",
        ),
        (
            [*ROWS, "conv9,4,4,1"],
            r"^line 54 of costs .* names 'conv9', which fits no layer of small",
        ),
        ([*ROWS, "a,4,4"], r"^line 54 of costs .*c\.csv has 3 values, not 4; mend it"),
        (
            [*ROWS, "a,4.0,4,1"],
            r"^line 54 of .* has bits '4\.0', allowed are whole numbers from 1 to ",
        ),
        ([*ROWS, "a,4,33,1"], r"has bits '33', allowed are whole numbers from 1 to 32; mend it"),
        ([*ROWS, "a,0,4,1"], r"has bits '0', allowed are"),
        ([*ROWS, "a,\u0664,4,1"], r"has bits '\u0664', allowed are"),
        (
            [*ROWS, "a,7,7,-1"],
            r"^line 54 of .* has value '-1', which is no finite number from 0 on",
        ),
        ([*ROWS, "a,7,7,nan"], r"has value 'nan', which is no finite number from 0 on; mend it"),
        ([*ROWS, "a,7,7,inf"], r"has value 'inf', which is no finite number"),
        ([*ROWS, "a,7,7,"], r"has value '', which is no finite number"),
        ([*ROWS, "a,7,7,1_0"], r"has value '1_0', which is no finite number"),
        ([*ROWS, "a,7,7,1e999999999"], r"has value '1e999999999', which is no finite number"),
        (
            [*ROWS, "a,7,7,1e-11"],
            r"has value 1e-11, less than half a ps; check the unit, or write 0",
        ),
        (
            [*ROWS, "a,7,7,2e6"],
            r"has value 2e6, above 1126 of a layer for one input; check the unit",
        ),
        ([*ROWS, 'a,7,7,"1'], r"of costs .*c\.csv is no CSV \(.*\); mend it"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        load(written(tmp_path / "c.csv", rows))


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    with pytest.raises(
        BudgetError, match=r"^costs .*c\.csv cannot be read: no such file .*; check"
    ):
        load(path)
    for head in ("layer,weight_bits,act_bits", "name,weight_bits,act_bits,value", ""):
        written(path, ROWS, head)
        with pytest.raises(
            BudgetError, match=rf"^costs .* begin with {head}, not with {HEAD}; men"
        ):
            load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BudgetError, match=r"are no text in UTF-8; save them as CSV$"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "board.csv",
            r"^costs board\.csv name no measured resource and file; write latency:ms=FILE",
        ),
        ("bitops:G=b.csv", r"name no measured resource and file"),
        ("latency:ms=", r"name no measured resource and file"),
        (
            "latency=b.csv",
            r"^costs latency=b\.csv give no unit of latency for their values; write la",
        ),
        ("latency:hours=b.csv", r"write latency:UNIT=FILE with one of s, ms, us, ns, ps$"),
        ("energy:ms=b.csv", r"write energy:UNIT=FILE with one of J, mJ, uJ, nJ, pJ$"),
    ],
)
def test_a_table_is_given_with_name_unit_and_file(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        measured_resource(text, NETWORK)


def test_bits_that_the_file_lacks_are_no_zero(tmp_path: Path) -> None:
    latency = load(written(tmp_path / "c.csv", ROWS))
    seven = Policy([(8, 8), (7, 7), (4, 4), (8, 8)])
    with pytest.raises(BudgetError, match=r"have no row for layer a at 7/7 bits; add it$"):
        policy_cost(NETWORK, seven, latency)


def test_the_largest_amount_of_thousands_of_layers_fits_the_engine() -> None:
    assert MAX_AMOUNT * 2**13 < 2**64
