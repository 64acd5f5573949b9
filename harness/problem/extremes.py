"""The least and the most that any policy spends of a resource, exactly, ties and all.

Without ties each layer decides for itself. Tied sides are variables that several layers share: they
are eliminated one after the other, as in dynamic programming, which takes sums and maxima alike.
Costs need not rise with the bits.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import product
from operator import add
from typing import Literal

from harness.problem.candidates import Candidates
from harness.problem.cost import Resource, cost_table
from harness.problem.network import NetworkSpec
from harness.problem.ties import group_of_side

Assignment = tuple[int, ...]
"""For each variable the place of its bits among its candidates."""

Choose = Callable[[Iterable[int]], int]
"""`min` or `max`."""

Combine = Callable[[int, int], int]
"""Sum or maximum of two amounts."""


class _Factor:
    """What a part of the network spends at best, by the bits of the variables it depends on."""

    def __init__(self, variables: tuple[int, ...], amounts: dict[Assignment, int]) -> None:
        self.variables = variables
        self.amounts = amounts


def least_cost(network: NetworkSpec, resource: Resource) -> int:
    """Return what the cheapest policy of a network spends of a resource."""
    return _extreme(network, resource, min)


def most_cost(network: NetworkSpec, resource: Resource) -> int:
    """Return what the dearest policy of a network spends of a resource."""
    return _extreme(network, resource, max)


def least_of_layers(network: NetworkSpec, resource: Resource) -> list[int]:
    """Return the least that each layer spends by itself, whatever it is tied to."""
    table = cost_table(network, network.candidates, resource)
    return [min(amount for row in rows for amount in row) for rows in table]


def _extreme(network: NetworkSpec, resource: Resource, choose: Choose) -> int:
    candidates = network.candidates
    table = cost_table(network, candidates, resource)
    factors = [_factor(index, rows, candidates, choose) for index, rows in enumerate(table)]
    combine = _combine(resource.aggregate)
    sizes = [
        len(candidates.layers[index].of(side)) for (index, side), *_ in network.ties
    ]  # By variable: the group of that number.
    while any(factor.variables for factor in factors):
        variable = _cheapest_variable(factors)
        touched = [factor for factor in factors if variable in factor.variables]
        rest = [factor for factor in factors if variable not in factor.variables]
        factors = [*rest, _without(variable, touched, sizes, combine=combine, choose=choose)]
    return reduce(combine, (factor.amounts[()] for factor in factors))


def _combine(aggregate: Literal["sum", "max"]) -> Combine:
    return add if aggregate == "sum" else max


def _factor(
    index: int, rows: Sequence[Sequence[int]], candidates: Candidates, choose: Choose
) -> _Factor:
    """Return a layer's best amounts by the groups that its sides are in."""
    group_of = group_of_side(candidates.ties)
    weight, act = group_of.get((index, "weight")), group_of.get((index, "act"))
    variables = tuple(dict.fromkeys(group for group in (weight, act) if group is not None))
    options: dict[Assignment, list[int]] = {}
    for w, row in enumerate(rows):
        for a, amount in enumerate(row):
            if weight is not None and weight == act and w != a:
                continue  # One group on both sides: the same bits there and here.
            pairs = ((weight, w), (act, a))
            places = {group: place for group, place in pairs if group is not None}
            options.setdefault(tuple(places[group] for group in variables), []).append(amount)
    return _Factor(variables, {key: choose(amounts) for key, amounts in options.items()})


def _cheapest_variable(factors: Sequence[_Factor]) -> int:
    """Return the variable that meets the fewest others: the table without it is the smallest."""
    meets: dict[int, set[int]] = {}
    for factor in factors:
        for variable in factor.variables:
            meets.setdefault(variable, set()).update(factor.variables)
    return min(meets, key=lambda variable: (len(meets[variable]), variable))


def _without(
    variable: int,
    factors: Sequence[_Factor],
    sizes: Sequence[int],
    *,
    combine: Combine,
    choose: Choose,
) -> _Factor:
    """Return what these parts spend together with the best bits of one variable."""
    others = {other for factor in factors for other in factor.variables} - {variable}
    variables = tuple(sorted(others))

    def amount(assignment: dict[int, int]) -> int:
        amounts = (
            factor.amounts[tuple(assignment[one] for one in factor.variables)] for factor in factors
        )
        return reduce(combine, amounts)

    amounts = {
        places: choose(
            amount({**dict(zip(variables, places, strict=True)), variable: place})
            for place in range(sizes[variable])
        )
        for places in product(*(range(sizes[one]) for one in variables))
    }
    return _Factor(variables, amounts)
