"""Budgets between uniform policies, which no uniform policy of equal bits fills."""

from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec

BETWEEN = ((2, 3), (3, 4), (4, 5))
"""Bits of the uniform policies that budgets lie halfway between."""


def halfway(network: NetworkSpec, low: int, high: int) -> int:
    """Return the BitOPs halfway between the uniform policies of two bit-widths."""
    policies = (network.candidates.uniform(weight_bits=bits, act_bits=bits) for bits in (low, high))
    return sum(bitops(network, policy) for policy in policies) // 2


def amount_text(amount: int) -> str:
    """Return an amount as `harness search --target-bitops` takes it, to the last digit.

    >>> amount_text(97382584)
    '97.382584M'
    """
    return f"{amount / 1e6:.6f}M"
