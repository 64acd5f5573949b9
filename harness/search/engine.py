"""The only door to the Rust engine's searches: networks in its form, its results in ours."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from harness import _search_rs
from harness._search_rs import Layer, Network, Search, SearchResult, SearchStatus
from harness.errors import BudgetError, ConfigError, HarnessError, RunError
from harness.problem.budget import Budget, infeasible_together
from harness.problem.candidates import Candidates
from harness.problem.cost import BITOPS, Resource, cost_table
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy

PolicyArray = npt.NDArray[np.uint8]
"""Policies as (n, layers, 2): weight bits, activation bits."""

Evaluate = Callable[[PolicyArray], Iterable[SupportsFloat | Iterable[SupportsFloat]]]
"""Returns the scores of a batch of policies, lower is better, on the same images every time: a
number for each, or a row of parts, one for each fold of the images."""

STRATEGIES: tuple[str, ...] = _search_rs.STRATEGIES
"""Names of the engine's strategies."""

DEFAULT_EVALUATIONS: int = _search_rs.DEFAULT_EVALUATIONS
"""Policies that a search evaluates where nobody says how many (docs/results/strategies.md)."""

DEFAULT_STRATEGY = STRATEGIES[0]

LARGEST_LIMIT = 2**64 - 1
"""The largest number that the engine takes. No search gets there, so it stands for any above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How to search; a strategy leaves unread what it does not know."""

    strategy: str = DEFAULT_STRATEGY
    evaluations: int | None = None
    """Most policies that the search may ask for; None is no limit."""
    seed: int = 0
    """Decides every draw."""
    error_weight: float = 1.5
    """Greedy: weight of the normalised score against the normalised cost saved."""
    refine_share: float | None = None
    """Guided: share of the evaluations that refinement may spend; None for the engine's default."""
    significance: float | None = None
    """Guided: standard errors by which a refinement must lower the score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A policy that a search holds to be good."""

    policy: Policy
    score: float | None
    """None where it was not evaluated."""
    predicted: tuple[float, float] | None
    """Score that the model expects, with its standard deviation; None without a model."""

    def mean_score(self, num_images: int) -> float | None:
        """Return the score as a mean over so many images."""
        return None if self.score is None else self.score / num_images

    def mean_prediction(self, num_images: int) -> tuple[float, float] | None:
        """Return the expectation as a mean over so many images."""
        if self.predicted is None:
            return None
        return self.predicted[0] / num_images, self.predicted[1] / num_images


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResult:
    """What came out of a search, over all its budgets."""

    shortlists: list[list[Found]]
    """By budget: policies within it, the best first, at least one."""
    num_evaluations: int
    """Different policies that the search asked for."""
    trace: list[dict[str, Any]]
    """The search's steps as they stand in policy.json, where a score is still called `error`."""
    model_error: float | None
    """Typical error of the model where it predicts a score that it was not shown."""


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


class EngineSearch:
    """A search in the engine, for one process.

    It asks the same where it is given the same scores. So a search is resumed by running it again
    with an `evaluate` that answers from what it knows.
    """

    def __init__(
        self,
        problem: SearchProblem,
        options: EngineOptions,
        *,
        known: Mapping[Policy, Sequence[float]] | None = None,
    ) -> None:
        """Set up a search.

        Args:
            problem: What is searched.
            options: How.
            known: Scores from before, by parts: they cost no evaluation.

        Raises:
            HarnessError: The engine refuses the network, a budget or an option.
        """
        self._problem = problem
        candidates, evaluations = problem.candidates, options.evaluations
        _check(options)
        uniform = [policy.bits for policy in candidates.uniform_policies.values()]
        try:
            self._search = Search(
                engine_network(problem.network, candidates, problem.resources),
                [problem.limits(budget) for budget in problem.budgets],
                strategy=options.strategy,
                evaluations=None if evaluations is None else min(evaluations, LARGEST_LIMIT),
                uniform=np.array(uniform, np.uint8) if uniform else None,
                seed=options.seed,
                error_weight=options.error_weight,
                refine_share=options.refine_share,
                significance=options.significance,
                known=_known(known),
            )
        except _search_rs.SearchError as refusal:
            raise _as_mistake(refusal, problem) from None

    @property
    def status(self) -> SearchStatus:
        """How far it is; may be asked from `evaluate`."""
        return self._search.status()

    def run(self, evaluate: Evaluate, *, shortlist: int = 1) -> EngineResult:
        """Search to the end.

        Args:
            evaluate: Scores a batch of policies.
            shortlist: Most policies returned for each budget.

        Raises:
            RunError: Scores are no finite numbers, or not one for each policy.
        """
        try:
            self._search.run(evaluate)
        except _search_rs.ScoreError as refusal:
            raise RunError(str(refusal)) from None
        budgets = range(len(self._problem.budgets))
        return EngineResult(
            shortlists=[
                [_found(one) for one in self._search.shortlist(budget, shortlist)]
                for budget in budgets
            ],
            num_evaluations=self.status.num_evaluations,
            trace=self._trace(),
            model_error=self.status.model_error,
        )

    def predict(self, policies: Sequence[Policy]) -> list[tuple[float, float]] | None:
        """Return the scores that the model expects, with standard deviations; None without one."""
        shape = len(policies), len(self._problem.network.layers), 2
        bits = np.array([policy.bits for policy in policies], np.uint8).reshape(shape)
        return self._search.predict(bits)

    def _trace(self) -> list[dict[str, Any]]:
        keys = [resource.key for resource in self._problem.resources]
        many = len(self._problem.budgets) > 1
        return [
            {
                **({"budget": step.budget} if many else {}),
                "phase": step.phase,
                "changes": step.changes,
                "error": step.score,
                **dict(zip(keys, step.costs, strict=True)),
            }
            for step in self._search.trace
        ]


def run_search(
    problem: SearchProblem,
    evaluate: Evaluate,
    *,
    options: EngineOptions,
    known: Mapping[Policy, Sequence[float]] | None = None,
    shortlist: int = 1,
) -> EngineResult:
    """Search policies with low scores within budgets, by any of the engine's strategies.

    Raises:
        HarnessError: The engine refuses the network, a budget or an option.
    """
    return EngineSearch(problem, options, known=known).run(evaluate, shortlist=shortlist)


def _check(options: EngineOptions) -> None:
    if options.evaluations is not None and options.evaluations < 1:
        raise ConfigError(f"evaluations is {options.evaluations}, at least 1 is needed; raise it")
    if not 0 <= options.seed <= LARGEST_LIMIT:
        raise ConfigError(
            f"seed {options.seed} is outside 0 to {LARGEST_LIMIT}; choose one in between"
        )


def _known(
    known: Mapping[Policy, Sequence[float]] | None,
) -> tuple[PolicyArray, list[list[float]]] | None:
    if not known:
        return None
    policies = np.array([policy.bits for policy in known], np.uint8)
    return policies, [list(parts) for parts in known.values()]


def _found(result: SearchResult) -> Found:
    score, deviation = result.predicted_score, result.predicted_deviation
    predicted = None if score is None or deviation is None else (score, deviation)
    return Found(policy=Policy(result.policy.tolist()), score=result.score, predicted=predicted)


def _as_mistake(refusal: _search_rs.SearchError, problem: SearchProblem) -> HarnessError:
    """Return the engine's refusal as a mistake of the user."""
    if isinstance(refusal, _search_rs.OptionError):
        return ConfigError(str(refusal))
    if not isinstance(refusal, _search_rs.BudgetError):
        return RunError(str(refusal))
    place = getattr(refusal, "budget", None)
    if place is not None:
        budget = problem.budgets[place]
        return infeasible_together(budget, problem.network, [None] * len(budget.limits))
    resource = problem.resources[refusal.resource]
    option = f"--target-{resource.name}" if resource == BITOPS else f"--budget {resource.name}"
    units = resource.units
    return BudgetError(
        f"target {units.shown(refusal.limit)} {resource.unit} is below "
        f"{units.shown_upward(refusal.smallest_cost)}, the least the network reaches with what its "
        f"layers may take now; raise {option}"
    )
