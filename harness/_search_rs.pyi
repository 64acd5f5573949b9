"""Search engine for mixed-precision policies: exact costs, and searches within budgets."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, SupportsFloat, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "DEFAULT_EVALUATIONS",
    "STRATEGIES",
    "BudgetError",
    "Layer",
    "Network",
    "NetworkError",
    "OptionError",
    "PolicyError",
    "ScoreError",
    "Search",
    "SearchError",
    "SearchResult",
    "SearchStatus",
    "StateError",
    "TraceStep",
    "dampening",
    "dampening_backward",
    "fake_quantize",
    "fake_quantize_backward",
    "optimal_policies",
    "use_openmp",
]

DEFAULT_EVALUATIONS: Final[int]
"""Policies that a search evaluates where nobody says how many (docs/results/strategies.md)."""

STRATEGIES: Final[tuple[str, ...]]
"""Names of the strategies, the default first."""

_Scores: TypeAlias = Iterable[SupportsFloat | Iterable[SupportsFloat]]
"""A number for each policy, or a row of parts whose sum is the score."""

class SearchError(ValueError):
    """The engine refuses something.

    The children carry the numbers of their message as attributes; one that a message does not name
    is not set.
    """

class NetworkError(SearchError):
    """A network is not valid."""

    bits: int
    cost: int
    expected: int
    found: int
    index: int
    limit: int
    options: int
    total: int

class PolicyError(SearchError):
    """A policy is not one of the network."""

    bits: int
    expected: int
    found: int
    other_bits: int

class BudgetError(SearchError):
    """A budget is not valid, or no policy meets it."""

    budget: int
    expected: int
    found: int
    least: list[int | None]
    """By resource, where limits exclude each other: the least it reaches with all others kept."""
    limit: int
    resource: int
    smallest_cost: int

class ScoreError(SearchError):
    """Scores cannot be used."""

    expected: int
    found: int
    index: int
    value: float

class OptionError(SearchError):
    """A setting is out of range."""

    value: float

class StateError(SearchError):
    """A call comes at the wrong time."""

    found: int

@final
class Layer:
    """One quantized layer.

    Candidates are distinct bit-widths from 1 to 32 in any order, and a single one pins the side.
    `costs` has for each resource a row per weight candidate with a whole number per act candidate,
    in the order of the candidates. What they count is the caller's affair.

    Raises:
        NetworkError: bad candidates, or costs that do not fit them.
    """

    def __new__(
        cls,
        name: str,
        *,
        weight_candidates: Sequence[int],
        act_candidates: Sequence[int],
        costs: Sequence[Sequence[Sequence[int]]],
    ) -> Layer: ...
    @property
    def name(self) -> str:
        """Name of the layer."""

@final
class Network:
    """The quantized layers of a network, in execution order.

    `aggregates` says for each resource how the costs of layers come to that of a policy: "sum", or
    "max" for the largest. `ties` are groups of sides that take the same bits, each a sequence of
    (layer index, "weight" or "act").

    Raises:
        NetworkError: no layer, costs too large for 64 bits, or ties that cannot be.
    """

    def __new__(
        cls,
        layers: Sequence[Layer],
        /,
        *,
        aggregates: Sequence[str] = ...,
        ties: Sequence[Sequence[tuple[int, str]]] = ...,
    ) -> Network: ...
    @property
    def num_layers(self) -> int:
        """Number of layers."""

    @property
    def smallest_costs(self) -> list[int]:
        """The least that any policy costs in each resource, taken alone."""

    @property
    def largest_costs(self) -> list[int]:
        """Costs with every layer at its largest candidates, one per resource."""

    def costs(self, policies: npt.ArrayLike, /) -> list[list[int]]:
        """Return the costs of each policy, one per resource.

        `policies` are integers of shape (n, layers, 2), fastest as uint8. Ties are not checked.

        Raises:
            PolicyError: another shape or type, or bits that are not candidates.
        """

@final
class TraceStep:
    """One step of a search."""

    @property
    def budget(self) -> int:
        """Position of the budget that it serves."""

    @property
    def phase(self) -> str:
        """Why: a word of the strategy."""

    @property
    def changes(self) -> list[tuple[int, str, int, int]]:
        """Changes as (layer index, "weight" or "act", bits before, bits after)."""

    @property
    def score(self) -> float | None:
        """Score after the step, None where the strategy did not ask for it."""

    @property
    def costs(self) -> list[int]:
        """Costs after the step, one per resource."""

@final
class SearchResult:
    """What came out of a search for one budget."""

    @property
    def policy(self) -> npt.NDArray[np.uint8]:
        """Policy that the strategy holds to be the best, a new uint8 array (layers, 2)."""

    @property
    def score(self) -> float | None:
        """Its score, None where it was not evaluated."""

    @property
    def costs(self) -> list[int]:
        """Its costs, one per resource, within the budget."""

    @property
    def predicted_score(self) -> float | None:
        """Score that the strategy's model expects, None where it has no model."""

    @property
    def predicted_deviation(self) -> float | None:
        """Standard deviation of that expectation."""

@final
class SearchStatus:
    """How far a search is."""

    @property
    def phase(self) -> str:
        """What the strategy is doing, in a word."""

    @property
    def num_evaluations(self) -> int:
        """Policies evaluated for this search."""

    @property
    def limit(self) -> int | None:
        """Most policies that may be, None for no limit."""

    @property
    def best_scores(self) -> list[float | None]:
        """Lowest score within each budget so far, None where there is none."""

    @property
    def best_policies(self) -> list[npt.NDArray[np.uint8] | None]:
        """The policy of each of them, a new uint8 array (layers, 2)."""

    @property
    def best_errors(self) -> list[float | None]:
        """Standard error of each of them over other images, None where it came without parts."""

    @property
    def best_predictions(self) -> list[tuple[float, float] | None]:
        """What a model expects of each, as (score, standard deviation), None without one."""

    @property
    def model_error(self) -> float | None:
        """Typical error of the model's predictions of scores it was not shown, None without one."""

@final
class Search:
    """A search for the policies with the lowest scores within budgets.

    `budgets` has a row per budget with a limit per resource, None for no limit; each budget gets a
    policy, and one set of evaluations serves all. `strategy` is one of `STRATEGIES`. `evaluations`
    bounds the policies whose score the search may ask for. `uniform` are uniform policies, shape
    (n, layers, 2): starts and yardsticks. `starts` are policies from outside, of the same shape, as
    a gradient or another search gives them: "guided", "greedy" and "evolution" score those within
    some budget first. `hints` are values as `optimal_policies` takes them, what each pair of bits
    should add to the score up to a common factor: "guided" begins its model with them. `seed`
    every draw. `error_weight` is of "greedy", the weight of the normalised score against the
    normalised cost saved (paper: 1.5).
    `refine_share` and `significance` are of "guided": the share of the evaluations that refinement
    may spend, and the standard errors by which it must lower the score. `known` are policies and
    their scores from before: answers that cost no evaluation, and data for a model.

    A search that is made anew and given the same scores asks the same: to resume one, answer from
    what is known already.

    Raises:
        BudgetError: no policy meets a budget.
        NetworkError: ties join too many layers.
        PolicyError: a uniform policy, a start or a known policy is none of the network.
        ScoreError: the known scores do not fit the known policies, or hints the pairs of bits.
        OptionError: a setting is out of range, or there is no such strategy.
    """

    def __new__(
        cls,
        network: Network,
        budgets: Sequence[Sequence[int | None]],
        *,
        strategy: str | None = None,
        evaluations: int | None = None,
        uniform: npt.ArrayLike | None = None,
        starts: npt.ArrayLike | None = None,
        hints: Sequence[Sequence[float]] | None = None,
        seed: int = 0,
        error_weight: float = 1.5,
        refine_share: float | None = None,
        significance: float | None = None,
        known: tuple[npt.ArrayLike, _Scores] | None = None,
    ) -> Search: ...
    def propose(self) -> npt.NDArray[np.uint8] | None:
        """Return the policies whose scores are needed, uint8 (n, layers, 2), or None at the end.

        Until `observe` the same policies are returned again.

        Raises:
            StateError: the search is busy.
        """

    def observe(self, scores: _Scores, /) -> None:
        """Take the scores of the policies last proposed, in their order; lower is better.

        One number for each policy, or a row of parts, one for each fold of the images, whose sum is
        the score: their spread tells how far scores can be told apart.

        Raises:
            ScoreError: another number of scores, or one not finite; the search is as it was.
            StateError: nothing is proposed, or the search is busy.
        """

    def run(self, evaluate: Callable[[npt.NDArray[np.uint8]], _Scores], /) -> list[SearchResult]:
        """Search to the end, calling `evaluate` for the scores of each batch of policies.

        `evaluate` takes a uint8 array of shape (n, layers, 2), its own copy, and returns what
        `observe` takes. What it raises passes through, Ctrl-C included, and the search can go on
        afterwards where it stood. It may ask for the `status`. Returns a result per budget.

        Raises:
            ScoreError: `evaluate` returned something else.
            StateError: the search is busy.
        """

    def conclude(self) -> None:
        """End the search now: a model is fitted to what is known, and nothing more is asked.

        Afterwards `results`, `shortlist` and `predict` answer. It is how further budgets are
        answered from scores that are known already.

        Raises:
            StateError: the search is busy.
        """

    def results(self) -> list[SearchResult]:
        """Return what came out of the search, a result per budget.

        Raises:
            StateError: the search has not ended, or is busy.
        """

    def shortlist(self, budget: int, count: int, /) -> list[SearchResult]:
        """Return the policies held to be best within a budget, the best first, at least one.

        Raises:
            BudgetError: the search has no budget at that position.
            StateError: the search has not ended, or is busy.
        """

    def predict(self, policies: npt.ArrayLike, /) -> list[tuple[float, float]] | None:
        """Return what the strategy's model expects of policies, as (score, standard deviation).

        None where it has no model.

        Raises:
            PolicyError: another shape or type, or a policy that is none of the network.
            StateError: the search is busy.
        """

    def marginals(
        self, policy: npt.ArrayLike, /
    ) -> list[tuple[int, str, int, int, float, float]] | None:
        """Return what the strategy's model expects each single move of a policy to change.

        By layer, weights first, as (layer index, "weight" or "act", bits before, bits after, rise
        of the score, its standard deviation); tied sides move together, and each has the rise of
        all. The deviation is of what the scores leave open. None where the strategy has no model.

        Raises:
            PolicyError: another shape or type, or a policy that is none of the network.
            StateError: the search is busy.
        """

    def status(self) -> SearchStatus:
        """Return how far the search is.

        Raises:
            StateError: the search is busy.
        """

    @property
    def trace(self) -> list[TraceStep]:
        """Steps so far, in order."""

_Grid: TypeAlias = tuple[float, float, float]
"""A step size, Qn and Qp."""

def dampening(
    weights: npt.NDArray[np.float32], grids: tuple[_Grid, _Grid], threads: int, /
) -> float:
    """Return the sum of squared distances of weights to their bins, of those that oscillate.

    `grids` are the one that the weights are on and that of the fewest bits; a weight that both
    round into one bin counts nothing (arXiv 2203.11086, equation 8).

    Raises:
        ValueError: it is no grid.
        TypeError: the array has gaps.
    """

def dampening_backward(
    weights: npt.NDArray[np.float32],
    slopes: npt.NDArray[np.float32],
    grids: tuple[_Grid, _Grid],
    factor: float,
    threads: int,
    /,
) -> None:
    """Write the gradient of `factor` times what `dampening` returns.

    Raises:
        ValueError: the arrays differ in length, or it is no grid.
        TypeError: an array has gaps.
    """

def fake_quantize(
    x: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    grid: _Grid,
    threads: int,
    /,
) -> None:
    """Round x to a grid, float32 in, float32 out.

    `grid` is (step size, Qn, Qp). `out` is written, of the length of `x`; both lie in memory
    without gaps. Work is shared among at most `threads` threads, which do not change a bit of it.

    Raises:
        ValueError: the arrays differ in length, or it is no grid.
        TypeError: an array has gaps.
    """

def fake_quantize_backward(
    upstream: npt.NDArray[np.float32],
    x: npt.NDArray[np.float32],
    grad_x: npt.NDArray[np.float32],
    grid: _Grid,
    threads: int,
    /,
) -> float:
    """Return the gradient of the step size, and write that of x.

    `upstream` is that of the rounded numbers. The other arguments are those of `fake_quantize`.

    Raises:
        ValueError: the arrays differ in length, or it is no grid.
        TypeError: an array has gaps.
    """

def optimal_policies(
    network: Network,
    budgets: Sequence[Sequence[int | None]],
    values: Sequence[Sequence[float]],
    /,
) -> list[npt.NDArray[np.uint8]]:
    """Return for each budget the policy with the lowest sum of values, uint8 (layers, 2).

    `values` has a row per layer with a finite number per pair of its candidates: weight candidates
    ascending, for each of them the act candidates ascending. Ties hold. `budgets` are those of a
    `Search`.

    Raises:
        BudgetError: no policy meets a budget.
        NetworkError: ties join too many layers.
        ScoreError: the values are not one for each pair, or one is not finite.
    """

def use_openmp(address: int, /) -> None:
    """Have the kernels run on the threads of an OpenMP library, best that of torch.

    `address` is that of its `GOMP_parallel`; the library must stay loaded. The first call counts.
    Before it, and where `threads` is 1, the calling thread does all the work.
    """
