"""A budget as a user types it: "31.6G", "540M", "45%", or a bare number of G."""

import math
import re
from dataclasses import dataclass

from harness.errors import BudgetError, short
from harness.problem.cost import BITOPS, G, Resource, policy_cost
from harness.problem.network import NetworkSpec

WHOLE = 100
"""Per cent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """How amounts of a resource are typed and shown."""

    factors: dict[str, float]
    """What each unit stands for, the largest first."""
    bare: str
    """The unit of a number without one."""
    examples: str
    """For messages."""


UNITS = {
    BITOPS.name: Units(
        factors={"T": 1e12, "G": G, "M": 1e6, "K": 1e3}, bare="G", examples="31.6G, 540M or 45%"
    ),
}
"""By resource: those that can be a budget."""


def parse_target(text: str, network: NetworkSpec, resource: Resource = BITOPS) -> int:
    """Return a budget, checked to be reachable.

    Args:
        text: An amount with one of the resource's units (BitOPs: K, M, G or T), a bare number (of
            G), or a share of the largest reachable cost, `45%`.
        network: The network whose candidates say what is reachable.
        resource: What the budget limits.

    Raises:
        BudgetError: The text is no amount, or no policy of the network is that cheap.
    """
    units = UNITS[resource.name]
    factors = {unit.upper(): factor for unit, factor in units.factors.items()}
    match = _parts(text)
    unit = (match[2] or units.bare).upper() if match else ""
    number = float(match[1]) if match and unit in {*factors, "%"} else 0.0
    if not 0 < number < math.inf:
        raise BudgetError(
            f"target {short(text)} is not a positive amount of {resource.unit}; "
            f"write {units.examples}"
        )
    if unit == "%":
        target = int(number / 100 * policy_cost(network, network.candidates.largest, resource))
    else:
        target = round(number * factors[unit])
    if target < policy_cost(network, network.candidates.smallest, resource):
        raise BudgetError(_too_small_message(text.strip(), target, network, resource))
    return target


def slack_warning(
    text: str, limit: int, network: NetworkSpec, resource: Resource = BITOPS
) -> str | None:
    """Return in one line that a budget binds nothing; None where it binds.

    Args:
        text: The budget as it was typed.
        limit: What `parse_target` made of it.
        network: The network whose candidates say what is reachable.
        resource: What the budget limits.
    """
    largest = policy_cost(network, network.candidates.largest, resource)
    if limit < largest:
        return None
    match = _parts(text)
    is_bare = match is not None and not match[2] and float(match[1]) <= WHOLE
    hint = f"; for a share of that write {text.strip()}%" if is_bare else ""
    return (
        f"target {text.strip()} = {format_amount(limit, resource)} {resource.unit} binds nothing: "
        f"{network.model_name} reaches {format_amount(largest, resource)} at most, with every "
        f"layer at its largest bits{hint}"
    )


def format_amount(amount: int, resource: Resource = BITOPS) -> str:
    """Return an amount of a resource with four significant digits and a unit.

    >>> format_amount(34_714_000_000), format_amount(1_234_567), format_amount(0)
    ('34.71G', '1.235M', '0G')
    """
    units = UNITS[resource.name]
    for unit, factor in units.factors.items():
        if amount >= factor:
            return (
                f"{amount / factor:.4g}{unit}"
                if amount < factor * 1e3
                else (f"{amount / factor:.0f}{unit}")
            )
    return f"{amount / units.factors[units.bare]:.4g}{units.bare}"


def _parts(text: str) -> re.Match[str] | None:
    """Return number and unit of an amount as it is typed."""
    pattern = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*|%)\s*"
    return re.fullmatch(pattern, text, re.IGNORECASE | re.ASCII)


def _format_upward(amount: int, resource: Resource = BITOPS) -> str:
    """Return an amount like `format_amount`, not below it, so that it can be typed as a target.

    >>> _format_upward(3_645_440), _format_upward(999_999), _format_upward(12)
    ('3.646M', '1M', '1.2e-08G')
    """
    last_digit = 10 ** max(len(str(amount)) - 4, 0)
    return format_amount(-(-amount // last_digit) * last_digit, resource)


def _too_small_message(text: str, target: int, network: NetworkSpec, resource: Resource) -> str:
    shown = text if not text.endswith("%") else f"{text} = {format_amount(target, resource)}"
    smallest = policy_cost(network, network.candidates.smallest, resource)
    free = [layer for layer in network.layers if not layer.is_pinned]
    pinned = [layer for layer in network.layers if layer.is_pinned]
    lowest = sorted({(la.weight_candidates[-1], la.act_candidates[-1]) for la in free})
    bits = " or ".join(f"{weight}/{act}" for weight, act in lowest)
    reach = f"the least {network.model_name} reaches with every free layer at {bits} bits"
    held = sum(
        resource.of_layer(layer, layer.weight_candidates[-1], layer.act_candidates[-1])
        for layer in pinned
    )
    at_8 = " and ".join(layer.name for layer in pinned if not layer.is_float)
    num_float = sum(layer.is_float for layer in pinned)
    kept = f" and {num_float} in float" if num_float else ""
    holds = f" ({at_8}, pinned at 8/8{kept}, hold {format_amount(held, resource)} of it)"
    return (
        f"target {shown} {resource.unit} is below {_format_upward(smallest, resource)}, {reach}"
        f"{holds if pinned else ''}; raise --target-{resource.name} or train smaller candidates"
    )
