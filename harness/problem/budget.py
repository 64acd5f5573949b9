"""Budgets as a user types them: "31.6G", "45%", or `bitops=5.5G` and `weight-bytes=1.2M` at once.

All limits are hard. One that no policy meets is refused in a line that says the least there is and
what pins it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import BudgetError, short
from harness.problem.conventions import CONVENTIONS
from harness.problem.cost import (
    ACT_BYTES_PEAK,
    ACT_BYTES_SUM,
    BITOPS,
    WEIGHT_BYTES,
    Resource,
    policy_cost,
)
from harness.problem.extremes import least_cost, least_of_layers, most_cost
from harness.problem.network import LayerSpec, NetworkSpec
from harness.problem.policy import Policy
from harness.problem.units import WHOLE, split_amount

BUDGETED = (
    *(one.resource for one in CONVENTIONS if one.resource is not None),
    WEIGHT_BYTES,
    ACT_BYTES_PEAK,
    ACT_BYTES_SUM,
)
"""Resources that can be a budget without a table of the user's."""

MEASURED = ("latency", "energy")
"""Names of those that need one."""

NOT_ADDITIVE = tuple(f"{BITOPS.name}-{one.name}" for one in CONVENTIONS if one.resource is None)
"""Conventions that cannot be a budget."""

MAX_NAMED = 3
"""Layers that a message names; it counts the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The most that a policy may spend of one resource."""

    resource: Resource
    text: str
    """The amount as it was typed."""
    amount: int
    """In the numbers of the resource's columns."""

    @property
    def named_text(self) -> str:
        """As it is typed with its name, `weight-bytes=1.2M`."""
        return f"{self.resource.name}={self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits that a policy must keep, all of them, at most one for each resource."""

    limits: tuple[Limit, ...]
    """BitOPs first, then as the resources stand: the order of typing means nothing."""

    @property
    def text(self) -> str:
        """For people: `45%` where BitOPs alone are limited, else every limit with its name."""
        if [limit.resource for limit in self.limits] == [BITOPS]:
            return self.limits[0].text
        return " ".join(limit.named_text for limit in self.limits)

    @property
    def folder_name(self) -> str:
        """As part of a folder's name, `45pct` or `5.5G_weight-bytes_1.2M`."""
        words: list[str] = []
        for limit in self.limits:
            words += [] if limit.resource == BITOPS else [limit.resource.name]
            words.append("".join(limit.text.split()).replace("%", "pct"))
        return "_".join(words)

    @property
    def targets(self) -> dict[str, int | float]:
        """The limits in their units, as they stand in files: `target_bitops` ..."""
        return {
            f"target_{limit.resource.key}": limit.resource.in_unit(limit.amount)
            for limit in self.limits
        }

    def costs(self, network: NetworkSpec, policy: Policy) -> tuple[int, ...]:
        """Return what a policy spends of each resource that is limited."""
        return tuple(policy_cost(network, policy, limit.resource) for limit in self.limits)

    def allows(self, network: NetworkSpec, policy: Policy) -> bool:
        """Return whether a policy keeps every limit."""
        costs = zip(self.costs(network, policy), self.limits, strict=True)
        return all(cost <= limit.amount for cost, limit in costs)


def parse_budget(
    texts: Sequence[str], network: NetworkSpec, *, measured: Sequence[Resource] = ()
) -> Budget:
    """Return the budget of some `NAME=AMOUNT`, each limit checked to be reachable by itself.

    Args:
        texts: As the user typed them.
        network: The network whose candidates say what is reachable.
        measured: Resources from tables of the user's.

    Raises:
        BudgetError: A text is no limit, names no resource or one twice, or no policy keeps it.
    """
    known = {resource.name: resource for resource in (*BUDGETED, *measured)}
    found: dict[str, Limit] = {}
    for text in texts:
        name, equals, amount = (part.strip() for part in text.partition("="))
        if not equals:
            raise BudgetError(f"budget {short(text)} has no `=`; write --budget bitops=5.5G")
        resource = _resource(name, known)
        if name in found:
            raise BudgetError(f"budget {name} is given twice; give each resource one limit")
        limit = _parsed(
            amount, network, resource, head=f"budget {name}=", option=f"--budget {name}"
        )
        found[name] = Limit(resource=resource, text=amount, amount=limit)
    if not found:
        raise BudgetError("no budget is given; write --budget bitops=5.5G or --target-bitops 5.5G")
    return Budget(limits=tuple(found[name] for name in known if name in found))


def parse_target(text: str, network: NetworkSpec, resource: Resource = BITOPS) -> int:
    """Return a limit, checked to be reachable, in the numbers of the resource's columns.

    Args:
        text: An amount with one of the resource's units (BitOPs: K, M, G or T), a bare number (of
            G), or a share of the largest reachable cost, `45%`.
        network: The network whose candidates say what is reachable.
        resource: What the budget limits.

    Raises:
        BudgetError: The text is no amount, or no policy of the network is that cheap.
    """
    return _parsed(text, network, resource, head="target ", option="--target-" + resource.name)


def target_budget(text: str, network: NetworkSpec) -> Budget:
    """Return the budget of `--target-bitops`, by `parse_target`."""
    limit = parse_target(text, network)
    return Budget(limits=(Limit(resource=BITOPS, text=text.strip(), amount=limit),))


def frontier_texts(network: NetworkSpec, count: int) -> list[str]:
    """Return amounts of BitOPs between the cheapest and the dearest policy, in equal ratios.

    Neither end is among them: there is one policy for each, which nobody has to search.

    Args:
        network: The network whose candidates say what is reachable.
        count: How many.

    Raises:
        BudgetError: The network has hardly any policies, so that two of them are one.
    """
    least, most = least_cost(network, BITOPS), most_cost(network, BITOPS)
    ratio = (most / least) ** (1 / (count + 1))
    texts = [format_amount(round(least * ratio**step)) for step in range(1, count + 1)]
    if len({*texts}) < count or least == most:
        raise BudgetError(
            f"a frontier of {count} budgets is too fine for {network.model_name}, which spends "
            f"{format_amount(least)} to {format_amount(most)} BitOPs; ask for fewer"
        )
    return texts


def slack_warnings(budget: Budget, network: NetworkSpec) -> list[str]:
    """Return for each limit that binds nothing a line that says so."""
    if [limit.resource for limit in budget.limits] == [BITOPS]:
        lines = [slack_warning(limit.text, limit.amount, network) for limit in budget.limits]
    else:
        lines = [
            _slack(limit.text, limit.amount, network, limit.resource, head=f"budget {name}=")
            for limit in budget.limits
            for name in (limit.resource.name,)
        ]
    return [line for line in lines if line is not None]


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
    return _slack(text, limit, network, resource, head="target ")


def infeasible_together(
    budget: Budget, network: NetworkSpec, least: Sequence[int | None]
) -> BudgetError:
    """Return the error of limits that some policy keeps each, and none keeps together.

    Args:
        budget: The limits, which were found to exclude each other.
        network: The network of the policies.
        least: For each limit the least of its resource among policies that keep all the others;
            None where that is not known.
    """
    needs = [
        f"{limit.resource.name} {limit.resource.units.shown_upward(amount)} with the others kept"
        for limit, amount in zip(budget.limits, least, strict=True)
        if amount is not None
    ]
    known = f" (at least {', or '.join(needs)})" if needs else ""
    return BudgetError(
        f"budget {budget.text}: some policy of {network.model_name} keeps each limit, none keeps "
        f"them together{known}; raise one of them or train smaller candidates"
    )


def format_amount(amount: int, resource: Resource = BITOPS) -> str:
    """Return an amount of a resource with four significant digits and a unit.

    >>> format_amount(34_714_000_000), format_amount(1_234_567), format_amount(0)
    ('34.71G', '1.235M', '0G')
    """
    return resource.units.shown(amount)


def _resource(name: str, known: dict[str, Resource]) -> Resource:
    if name in known:
        return known[name]
    names = ", ".join(known)
    if name in MEASURED:
        raise BudgetError(
            f"budget {name} needs what each layer was measured at; give a table of it, a CSV with "
            "the columns layer,weight_bits,act_bits,value"
        )
    if name in NOT_ADDITIVE:
        raise BudgetError(
            f"budget {name} has no meaning, that convention counts uniform policies alone; choose "
            f"from {names}"
        )
    raise BudgetError(f"budget {short(name)} names no resource; choose from {names}")


def _parsed(text: str, network: NetworkSpec, resource: Resource, *, head: str, option: str) -> int:
    is_share = text.strip().endswith("%")
    largest = most_cost(network, resource) if is_share else 0
    limit = resource.units.parsed(text, largest=largest)
    if limit is None:
        raise BudgetError(
            f"{head}{short(text)} is not a positive amount of {resource.unit}; "
            f"write {resource.units.examples}"
        )
    if limit < least_cost(network, resource):
        shown = f"{text.strip()} = {format_amount(limit, resource)}" if is_share else text.strip()
        raise BudgetError(
            f"{head}{shown} {resource.unit} is below {_least(network, resource)}; raise {option} "
            "or train smaller candidates"
        )
    return limit


def _slack(
    text: str, limit: int, network: NetworkSpec, resource: Resource, *, head: str
) -> str | None:
    largest = most_cost(network, resource)
    if limit < largest:
        return None
    parts = split_amount(text)
    is_bare = parts is not None and not parts[1] and float(parts[0]) <= WHOLE
    hint = f"; for a share of that write {text.strip()}%" if is_bare else ""
    is_at_largest = policy_cost(network, network.candidates.largest, resource) == largest
    where = ", with every layer at its largest bits" if is_at_largest else ""
    return (
        f"{head}{text.strip()} = {format_amount(limit, resource)} {resource.unit} binds nothing: "
        f"{network.model_name} reaches {format_amount(largest, resource)} at most{where}{hint}"
    )


def _least(network: NetworkSpec, resource: Resource) -> str:
    """Return in words the least that is reached, at which bits, and what holds it there."""
    least = least_cost(network, resource)
    shown = f"{resource.units.shown_upward(least)}, the least {network.model_name} reaches"
    where = ""
    if policy_cost(network, network.candidates.smallest, resource) == least:
        free = [layer for layer in network.layers if not _is_fixed(layer)]
        lowest = sorted({(la.weight_candidates[-1], la.act_candidates[-1]) for la in free})
        bits = " or ".join(f"{weight}/{act}" for weight, act in lowest)
        where = f" with every free layer at {bits} bits" if free else ""
    return f"{shown}{where}{_holders(network, resource)}"


def _holders(network: NetworkSpec, resource: Resource) -> str:
    """Return which layers hold the least: those with fixed bits, or the one with the maximum."""
    least = least_of_layers(network, resource)
    if resource.aggregate == "max":
        index = least.index(max(least))
        layer = network.layers[index]
        bits = f", {_fixed_words(layer)}," if _is_fixed(layer) else ""
        return f" ({layer.name}{bits} needs {format_amount(least[index], resource)})"
    fixed = [layer for layer in network.layers if _is_fixed(layer)]
    if not fixed:
        return ""
    layers = zip(network.layers, least, strict=True)
    held = sum(amount for layer, amount in layers if _is_fixed(layer))
    ends = [layer.name for layer in fixed if layer.is_pinned and not layer.is_float]
    num_float = sum(layer.is_float for layer in fixed)
    chosen = [layer.name for layer in fixed if not layer.is_pinned]
    parts = [f"{' and '.join(ends)}, pinned at 8/8"] if ends else []
    parts += [f"{num_float} in float"] if num_float else []
    parts += [f"{_named(chosen)}, given one candidate alone"] if chosen else []
    return f" ({' and '.join(parts)}, hold {format_amount(held, resource)} of it)"


def _is_fixed(layer: LayerSpec) -> bool:
    return len(layer.weight_candidates) == len(layer.act_candidates) == 1


def _fixed_words(layer: LayerSpec) -> str:
    bits = f"{layer.weight_candidates[0]}/{layer.act_candidates[0]}"
    return f"pinned at {bits}" if layer.is_pinned else f"given {bits} alone"


def _named(names: Sequence[str]) -> str:
    others = len(names) - MAX_NAMED
    shown = " and ".join(names[:MAX_NAMED])
    return f"{shown} and {others} more" if others > 0 else shown
