"""A policy: one (weight bits, activation bits) pair per quantized layer."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import PolicyError, short

MAX_BITS = 32
"""Largest bit-width that is accounted; what can be trained ends at 8."""


@dataclass(frozen=True, slots=True, order=True)
class Policy:
    """Bit-widths per layer, in the network's order, pinned layers included.

    >>> len(Policy([(8, 8), (4, 3)]))
    2
    """

    bits: tuple[tuple[int, int], ...]
    """(weight bits, activation bits) of each layer."""

    def __init__(self, bits: Iterable[Sequence[int]]) -> None:
        pairs = tuple((int(weight), int(act)) for weight, act in bits)
        object.__setattr__(self, "bits", pairs)

    def __len__(self) -> int:
        return len(self.bits)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.bits)


def policy_rows(names: Iterable[str], policy: Policy) -> list[dict[str, Any]]:
    """Return the layers of a policy as they stand in policy.json and in JSON output."""
    return [
        {"name": name, "weight_bits": weight, "act_bits": act}
        for name, (weight, act) in zip(names, policy, strict=True)
    ]


def parse_bits(text: str) -> tuple[int, int]:
    """Read `W/A`.

    >>> parse_bits("4/3")
    (4, 3)

    Raises:
        PolicyError: The text is not two bit-widths from 1 to 32.
    """
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text, re.ASCII)
    pair = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= bits <= MAX_BITS for bits in pair):
        raise PolicyError(
            f"policy {short(text)} is neither a file nor weight/activation bits from 1 to "
            f"{MAX_BITS}; give a path or something like 4/4"
        )
    return pair
