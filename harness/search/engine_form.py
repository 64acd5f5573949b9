"""Problems of the user in the engine's form, and the engine's refusals as mistakes of the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from harness import _search_rs
from harness._search_rs import Layer, Network
from harness.errors import BudgetError, ConfigError, HarnessError, RunError
from harness.problem.budget import Budget, infeasible_together
from harness.problem.candidates import Candidates
from harness.problem.cost import BITOPS, Resource, cost_table
from harness.problem.network import NetworkSpec

LayerValues = Sequence[Mapping[tuple[int, int], float]]
"""By layer, in the network's order: a number for each pair (weight bits, act bits)."""

LARGEST_LIMIT = 2**64 - 1
"""The largest number that the engine takes. No search gets there, so it stands for any above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchProblem:
    """What is searched: layers, what they may take, and budgets, each of which gets a policy."""

    network: NetworkSpec
    candidates: Candidates
    """What each layer may take now."""
    budgets: Sequence[Budget]
    resources: tuple[Resource, ...] = field(init=False)
    """Those that some budget limits: the engine's columns."""

    def __post_init__(self) -> None:
        """Collect the resources."""
        limits = (limit for budget in self.budgets for limit in budget.limits)
        object.__setattr__(self, "resources", tuple(dict.fromkeys(lim.resource for lim in limits)))

    def limits(self, budget: Budget) -> list[int | None]:
        """Return a budget's limit on each of the resources."""
        amounts = {limit.resource: limit.amount for limit in budget.limits}
        found = (amounts.get(resource) for resource in self.resources)
        return [None if amount is None else min(amount, LARGEST_LIMIT) for amount in found]


def engine_network(
    network: NetworkSpec, candidates: Candidates, resources: Sequence[Resource] = (BITOPS,)
) -> Network:
    """Return the network in the engine's form: what each layer may take, and what that costs."""
    tables = [cost_table(network, candidates, resource) for resource in resources]
    layers = [
        Layer(
            choice.name,
            weight_candidates=choice.weight,
            act_candidates=choice.act,
            costs=[table[index] for table in tables],
        )
        for index, choice in enumerate(candidates.layers)
    ]
    aggregates = [resource.aggregate for resource in resources]
    return Network(layers, aggregates=aggregates, ties=candidates.ties)


def pair_rows(problem: SearchProblem, values: LayerValues) -> list[list[float]]:
    """Return values in the order of the engine: weight bits ascending, act bits faster."""
    layers = problem.candidates.layers
    if len(values) != len(layers):
        raise RunError(
            f"values are given for {len(values)} layers, the network has {len(layers)}; give each "
            "layer its own"
        )
    rows = []
    for layer, of_pair in zip(layers, values, strict=True):
        pairs = list(product(sorted(layer.weight), sorted(layer.act)))
        for weight, act in pairs:
            if (weight, act) not in of_pair:
                raise RunError(
                    f"values of layer {layer.name} lack {weight}/{act} bits; give one for each "
                    "pair of its candidates"
                )
        rows.append([float(of_pair[pair]) for pair in pairs])
    return rows


def as_mistake(refusal: _search_rs.SearchError, problem: SearchProblem) -> HarnessError:
    """Return the engine's refusal as a mistake of the user."""
    if isinstance(refusal, _search_rs.OptionError):
        return ConfigError(str(refusal))
    if not isinstance(refusal, _search_rs.BudgetError):
        return RunError(str(refusal))
    place = getattr(refusal, "budget", None)
    if place is not None:
        budget = problem.budgets[place]
        least = dict(zip(problem.resources, getattr(refusal, "least", ()), strict=False))
        by_limit = [least.get(limit.resource) for limit in budget.limits]
        return infeasible_together(budget, problem.network, by_limit)
    resource = problem.resources[refusal.resource]
    option = f"--target-{resource.name}" if resource == BITOPS else f"--budget {resource.name}"
    units = resource.units
    return BudgetError(
        f"target {units.shown(refusal.limit)} {resource.unit} is below "
        f"{units.shown_upward(refusal.smallest_cost)}, the least the network reaches with what its "
        f"layers may take now; raise {option}"
    )
