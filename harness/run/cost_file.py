"""Measured costs from a CSV of the user's: `layer,weight_bits,act_bits,value`, a row for each pair.

A row's layer is a path, or a pattern of paths where many layers cost the same; a path goes before
patterns. Values become whole picoseconds or picojoules, which add up exactly.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

from harness.errors import BudgetError, short
from harness.problem.cost import Resource
from harness.problem.network import LayerSpec, NetworkSpec
from harness.problem.policy import MAX_BITS
from harness.problem.units import ENERGY_UNITS, PICO, TIME_UNITS, Units
from harness.run.files import read_bytes

COLUMNS = ("layer", "weight_bits", "act_bits", "value")

MEASURABLE: Mapping[str, tuple[Units, str]] = {
    "latency": (TIME_UNITS, "seconds"),
    "energy": (ENERGY_UNITS, "joules"),
}
"""What can be measured: its units, the smallest of them being the resolution, and how JSON speaks
of it."""

MAX_AMOUNT = 2**50
"""Of a layer for one input, some 1100 seconds or joules: sums of thousands fit the engine."""

MAX_TEXT = 40
"""Characters of a value; no measurement has that many digits."""

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row as it was read."""

    line: int
    layer: str
    """Path or pattern."""
    pair: Pair
    amount: int
    """In the resolution of the resource."""


def measured_resource(text: str, network: NetworkSpec) -> Resource:
    """Return a resource whose costs stand in a CSV.

    Args:
        text: `NAME:UNIT=FILE`, `latency:ms=board.csv`; the unit is that of the values.
        network: The network whose layers the file must cover with every pair they may take.

    Raises:
        BudgetError: The text or the file cannot be used; the message names the first such row.
    """
    head, equals, file = (part.strip() for part in text.partition("="))
    name, _, unit = (part.strip() for part in head.partition(":"))
    if not equals or not file or name not in MEASURABLE:
        raise BudgetError(
            f"costs {short(text)} name no measured resource and file; write latency:ms=FILE.csv "
            "or energy:mJ=FILE.csv"
        )
    units, key_unit = MEASURABLE[name]
    if unit not in units.factors:
        known = ", ".join(units.factors)
        raise BudgetError(
            f"costs {short(text)} give no unit of {name} for their values; write {name}:UNIT=FILE "
            f"with one of {known}"
        )
    path = Path(file)
    resolution = int(units.factors[unit]), list(units.factors)[-1]
    rows = list(_rows(path, factor=resolution[0], resolution=resolution[1]))
    _check_layers(rows, network, path)
    found = {layer.name: _pairs_of(layer, rows, path) for layer in network.layers}

    def of_layer(layer: LayerSpec, weight_bits: int, act_bits: int) -> int:
        try:
            return found[layer.name][weight_bits, act_bits]
        except KeyError:
            raise BudgetError(
                f"costs {path} have no row for layer {layer.name} at {weight_bits}/{act_bits} "
                "bits; add it"
            ) from None

    return Resource(
        name=name,
        unit=name,
        of_layer=of_layer,
        units=units,
        per_unit=PICO,
        is_measured=True,
        key_unit=key_unit,
    )


def _rows(path: Path, *, factor: int, resolution: str) -> Iterator[_Row]:
    # A table program may put a mark of the byte order in front.
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        why = (error.strerror or "unreadable").lower()
        raise BudgetError(f"costs {path} cannot be read: {why}; check the path") from None
    except UnicodeDecodeError:
        raise BudgetError(f"costs {path} are no text in UTF-8; save them as CSV") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(lines, [])]
        if header != list(COLUMNS):
            shown, expected = short(",".join(header)), ",".join(COLUMNS)
            raise BudgetError(
                f"costs {path} begin with {shown}, not with {expected}; mend the first line"
            )
        for cells in lines:
            if cells:
                place = f"line {lines.line_num} of costs {path}"
                yield _row(
                    [cell.strip() for cell in cells], lines.line_num, place, factor, resolution
                )
    except csv.Error as error:
        raise BudgetError(
            f"line {lines.line_num} of costs {path} is no CSV ({error}); mend it"
        ) from None


def _row(cells: list[str], line: int, place: str, factor: int, resolution: str) -> _Row:
    if len(cells) != len(COLUMNS):
        raise BudgetError(f"{place} has {len(cells)} values, not {len(COLUMNS)}; mend it")
    layer, weight, act, value = cells
    for cell in (weight, act):
        is_bits = cell.isascii() and cell.isdigit() and len(cell) <= len(str(MAX_BITS))
        if not is_bits or not 1 <= int(cell) <= MAX_BITS:
            raise BudgetError(
                f"{place} has bits {short(cell)!r}, allowed are whole numbers from 1 to "
                f"{MAX_BITS}; mend it"
            )
    amount = _amount(value, place=place, factor=factor, resolution=resolution)
    return _Row(line=line, layer=layer, pair=(int(weight), int(act)), amount=amount)


def _amount(value: str, *, place: str, factor: int, resolution: str) -> int:
    number = _decimal(value)
    if number is None or number < 0:
        raise BudgetError(
            f"{place} has value {short(value)!r}, which is no finite number from 0 on; mend it"
        )
    exact = Fraction(number) * factor
    amount = round(exact)
    if number and not amount:
        raise BudgetError(
            f"{place} has value {short(value)}, less than half a {resolution}; check the unit, or "
            "write 0"
        )
    if amount > MAX_AMOUNT:
        raise BudgetError(
            f"{place} has value {short(value)}, above {MAX_AMOUNT / PICO:.0f} of a layer for one "
            "input; check the unit"
        )
    return amount


def _decimal(value: str) -> Decimal | None:
    """Return a number that no measurement exceeds; None of anything else."""
    if len(value) > MAX_TEXT or not value.isascii() or "_" in value:
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    # An exponent may stand for more digits than there is memory.
    return number if number.is_finite() and abs(number.adjusted()) <= MAX_TEXT else None


def _check_layers(rows: list[_Row], network: NetworkSpec, path: Path) -> None:
    names = {layer.name for layer in network.layers}
    fits: dict[str, bool] = {}
    for row in rows:
        if row.layer not in fits:
            fits[row.layer] = row.layer in names or any(
                fnmatchcase(name, row.layer) for name in names
            )
        if not fits[row.layer]:
            raise BudgetError(
                f"line {row.line} of costs {path} names {short(row.layer)!r}, which fits no layer "
                f"of {network.model_name}; mend it"
            )


def _pairs_of(layer: LayerSpec, rows: list[_Row], path: Path) -> dict[Pair, int]:
    """Return a layer's amounts by its bits, every pair that it may take among them."""
    own = _by_pair((row for row in rows if row.layer == layer.name), layer, path)
    patterns = (
        row for row in rows if row.layer != layer.name and fnmatchcase(layer.name, row.layer)
    )
    found = {**_by_pair(patterns, layer, path), **own}
    for weight_bits in layer.weight_candidates:
        for act_bits in layer.act_candidates:
            if (weight_bits, act_bits) not in found:
                raise BudgetError(
                    f"costs {path} have no row for layer {layer.name} at {weight_bits}/{act_bits} "
                    "bits; add it, every pair of bits that a layer may take needs one"
                )
    return {pair: row.amount for pair, row in found.items()}


def _by_pair(rows: Iterator[_Row], layer: LayerSpec, path: Path) -> dict[Pair, _Row]:
    found: dict[Pair, _Row] = {}
    for row in rows:
        first = found.setdefault(row.pair, row)
        if first is not row:
            raise BudgetError(
                f"lines {first.line} and {row.line} of costs {path} both give layer {layer.name} "
                f"at {row.pair[0]}/{row.pair[1]} bits; remove one"
            )
    return found
