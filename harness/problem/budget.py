"""A BitOPs budget as a user types it: "31.6G", "540M", "45%", or a bare number of G."""

import math
import re

from harness.errors import BudgetError
from harness.problem.cost import G, largest_bitops, smallest_bitops
from harness.problem.network import NetworkSpec

UNITS = {"": G, "K": 1e3, "M": 1e6, "G": G, "T": 1e12}


def parse_target(text: str, network: NetworkSpec) -> int:
    """Return a budget in BitOPs, checked to be reachable.

    Args:
        text: An amount with unit K, M, G or T, a bare number of G, or a share of the largest
            reachable BitOPs, `45%`.
        network: The network whose candidates say what is reachable.

    Raises:
        BudgetError: The text is no amount, or no policy of the network is that cheap.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]?|%)\s*", text, re.IGNORECASE)
    if match is None or not 0 < float(match[1]) < math.inf:
        raise BudgetError(
            f"target {text} is not a positive amount of BitOPs; write 31.6G, 540M or 45%"
        )
    number, unit = float(match[1]), match[2].upper()
    if unit == "%":
        target = int(number / 100 * largest_bitops(network))
    else:
        target = round(number * UNITS[unit])
    smallest = smallest_bitops(network)
    if target < smallest:
        raise BudgetError(_too_small_message(text.strip(), target, network))
    return target


def format_bitops(amount: int) -> str:
    """Return BitOPs with four significant digits and a unit.

    >>> format_bitops(34_714_000_000), format_bitops(1_234_567), format_bitops(0)
    ('34.71G', '1.235M', '0G')
    """
    for unit in ("T", "G", "M", "K"):
        if amount >= UNITS[unit]:
            return (
                f"{amount / UNITS[unit]:.4g}{unit}"
                if amount < UNITS[unit] * 1e3
                else (f"{amount / UNITS[unit]:.0f}{unit}")
            )
    return f"{amount / G:.4g}G"


def _format_upward(amount: int) -> str:
    """Return BitOPs like `format_bitops`, not below `amount`, so that it can be typed as a target.

    >>> _format_upward(3_645_440), _format_upward(999_999), _format_upward(12)
    ('3.646M', '1M', '1.2e-08G')
    """
    last_digit = 10 ** max(len(str(amount)) - 4, 0)
    return format_bitops(-(-amount // last_digit) * last_digit)


def _too_small_message(text: str, target: int, network: NetworkSpec) -> str:
    shown = text if not text.endswith("%") else f"{text} = {format_bitops(target)}"
    free = [layer for layer in network.layers if not layer.is_pinned]
    pinned = [layer for layer in network.layers if layer.is_pinned]
    lowest = sorted({(la.weight_candidates[-1], la.act_candidates[-1]) for la in free})
    bits = " or ".join(f"{weight}/{act}" for weight, act in lowest)
    reach = f"the least {network.model_name} reaches with every free layer at {bits} bits"
    held = sum(
        layer.weight_candidates[-1] * layer.act_candidates[-1] * layer.macs for layer in pinned
    )
    names = " and ".join(layer.name for layer in pinned)
    holds = f" ({names}, pinned at 8/8, hold {format_bitops(held)} of it)" if pinned else ""
    return (
        f"target {shown} BitOPs is below {_format_upward(smallest_bitops(network))}, {reach}"
        f"{holds}; raise --target-bitops or train smaller candidates"
    )
