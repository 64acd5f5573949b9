"""How amounts are typed and shown: "31.6G" BitOPs, "1.2MB" of weights, "3ms", "45%"."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

G = 1e9
"""BitOPs are reported in G."""

MB = 2**20
"""Bytes of one MB, the unit of model size."""

WHOLE = 100
"""Per cent."""

DIGITS = 4
"""Significant digits of an amount that is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units of one resource; factors say how many of the numbers in its columns they stand for."""

    factors: Mapping[str, float]
    """Those that amounts are shown in, the largest first."""
    bare: str | None
    """The unit of a number without one; None refuses such a number."""
    examples: str
    """For messages."""
    typed: Mapping[str, float] = field(default_factory=dict)
    """Those that are read as well."""

    def parsed(self, text: str, *, largest: int) -> int | None:
        """Return an amount as it is typed, in whatever case; None where it is no positive one.

        Args:
            text: A number with one of the units, a bare number, or a share `45%`.
            largest: What a share is of.
        """
        parts = split_amount(text)
        if parts is None:
            return None
        number, unit = Fraction(parts[0]), (parts[1] or self.bare or "").upper()
        factors = {name.upper(): factor for name, factor in {**self.typed, **self.factors}.items()}
        if number <= 0 or unit not in {*factors, "%"}:
            return None
        if unit == "%":
            return int(number / WHOLE * largest)
        return round(number * Fraction(factors[unit]))

    def shown(self, amount: int) -> str:
        """Return an amount with four significant digits and a unit.

        >>> BITOPS_UNITS.shown(34_714_000_000), BYTE_UNITS.shown(8 * 3 * 2**19)
        ('34.71G', '1.5MiB')
        """
        unit, factor = self._unit_of(amount)
        number = amount / factor
        is_long = amount >= 10 ** (DIGITS - 1) * factor
        return f"{number:.0f}{unit}" if is_long else f"{number:.{DIGITS}g}{unit}"

    def shown_upward(self, amount: int) -> str:
        """Return an amount like `shown`, not below it, so that it can be typed as a limit.

        >>> [BITOPS_UNITS.shown_upward(amount) for amount in (3_645_440, 999_999, 12)]
        ['3.646M', '1M', '1.2e-08G']
        """
        factor = Fraction(self._unit_of(amount)[1])
        number, last_digit = Fraction(amount) / factor, Fraction(1)
        while number and number / last_digit < 10 ** (DIGITS - 1):
            last_digit /= 10
        upward = -(-number // last_digit) * last_digit * factor
        return self.shown(-(-upward // 1))

    def _unit_of(self, amount: int) -> tuple[str, float]:
        for unit, factor in self.factors.items():
            if amount >= factor:
                return unit, factor
        unit = self.bare or list(self.factors)[-1]
        return unit, self.factors[unit]


def split_amount(text: str) -> tuple[str, str] | None:
    """Return number and unit of an amount as it is typed; None where it is none.

    >>> split_amount(" 2.5 us"), split_amount("1e3")
    (('2.5', 'us'), None)
    """
    pattern = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*|%)\s*"
    match = re.fullmatch(pattern, text, re.IGNORECASE | re.ASCII)
    return None if match is None or len(match[1]) > MAX_DIGITS else (match[1], match[2])


MAX_DIGITS = 100
"""Of a number; what is longer was not meant as an amount."""

BITOPS_UNITS = Units(
    factors={"T": 1e12, "G": G, "M": 1e6, "K": 1e3}, bare="G", examples="31.6G, 540M or 45%"
)

BYTE = 8
"""Sizes are counted in bits, which add up over layers without rounding."""

BYTE_UNITS = Units(
    factors={"GiB": 2**30 * BYTE, "MiB": MB * BYTE, "KiB": 2**10 * BYTE, "B": BYTE},
    typed={
        "T": 10**12 * BYTE, "G": 10**9 * BYTE, "M": 10**6 * BYTE, "K": 10**3 * BYTE,
        "GB": 2**30 * BYTE, "MB": MB * BYTE, "KB": 2**10 * BYTE,
    },
    bare="B",
    examples="1.2M (decimal), 1.2MB or 1.2MiB (of 2^20 bytes), or 45%",
)  # fmt: skip
"""K, M, G and T are decimal; KB, MB and GB count 1024 each as the paper's model sizes do."""

PICO = 10**12
"""Measured amounts are kept in whole picoseconds and picojoules."""

TIME_UNITS = Units(
    factors={"s": PICO, "ms": 10**9, "us": 10**6, "ns": 10**3, "ps": 1},
    bare=None,
    examples="3ms, 250us or 45%",
)

ENERGY_UNITS = Units(
    factors={"J": PICO, "mJ": 10**9, "uJ": 10**6, "nJ": 10**3, "pJ": 1},
    bare=None,
    examples="3mJ, 250uJ or 45%",
)
