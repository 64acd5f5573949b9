"""The only door to the Rust engine's searches: networks in its form, its results in ours."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from harness import _search_rs
from harness._search_rs import Search, SearchResult, SearchStatus
from harness.errors import ConfigError, RunError
from harness.problem.policy import Policy
from harness.problem.ties import Side
from harness.search.engine_form import (
    LARGEST_LIMIT,
    LayerValues,
    SearchProblem,
    as_mistake,
    engine_network,
    pair_rows,
)

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
    starts: tuple[Policy, ...] = ()
    """Guided, greedy, evolution: policies scored first, as a gradient or another search gives them;
    those within no budget are left out."""
    hints: LayerValues | None = None
    """Guided: what each pair of bits of each layer should add to the score, up to a common factor.
    The model begins with it, and corrects it."""


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
class Marginal:
    """What a model expects of the next candidate of one side. Tied sides move together."""

    layer_index: int
    side: Side
    bits_from: int
    bits_to: int
    difference: float
    """By how much the score rises."""
    deviation: float
    """Standard deviation of that, of what the scores leave open."""


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
                uniform=_bits(uniform),
                starts=_bits([policy.bits for policy in options.starts]),
                hints=None if options.hints is None else pair_rows(problem, options.hints),
                seed=options.seed,
                error_weight=options.error_weight,
                refine_share=options.refine_share,
                significance=options.significance,
                known=_known(known),
            )
        except _search_rs.SearchError as refusal:
            raise as_mistake(refusal, problem) from None

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
        return self._result(shortlist)

    def conclude(self, *, shortlist: int = 1) -> EngineResult:
        """End the search with what is known, asking for nothing: how an archive answers a budget.

        Args:
            shortlist: Most policies returned for each budget. Without scores within a budget it is
                what the model predicts to be best, or the cheapest policy where there is none.
        """
        self._search.conclude()
        return self._result(shortlist)

    def _result(self, shortlist: int) -> EngineResult:
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

    def marginals(self, policy: Policy) -> list[Marginal] | None:
        """Return what the model expects each side's next candidates to change; None without one.

        Raises:
            RunError: The policy is none of the network.
        """
        try:
            rows = self._search.marginals(np.array(policy.bits, np.uint8))
        except _search_rs.PolicyError as refusal:
            raise RunError(str(refusal)) from None
        if rows is None:
            return None
        return [
            Marginal(
                layer_index=index,
                side="weight" if side == "weight" else "act",
                bits_from=before,
                bits_to=after,
                difference=rise,
                deviation=deviation,
            )
            for index, side, before, after, rise, deviation in rows
        ]

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


def knapsack_policies(problem: SearchProblem, values: LayerValues) -> list[Policy]:
    """Return for each budget the policy whose values add up to the least, by an exact knapsack.

    Args:
        problem: Layers, candidates and budgets; ties hold.
        values: By layer, in the network's order: what each pair (weight bits, act bits) of its
            candidates adds. Pairs that are no candidates are not read.

    Raises:
        HarnessError: Another number of layers, a pair without a value, a value that is not finite,
            or a budget that no policy keeps.
    """
    rows = pair_rows(problem, values)
    try:
        found = _search_rs.optimal_policies(
            engine_network(problem.network, problem.candidates, problem.resources),
            [problem.limits(budget) for budget in problem.budgets],
            rows,
        )
    except _search_rs.SearchError as refusal:
        raise as_mistake(refusal, problem) from None
    return [Policy(policy.tolist()) for policy in found]


def _bits(policies: Sequence[Any]) -> PolicyArray | None:
    return np.array(policies, np.uint8) if policies else None


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
