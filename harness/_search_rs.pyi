"""Search engine for mixed-precision policies: exact costs, and searches within a limit."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, SupportsFloat, final

import numpy as np
import numpy.typing as npt

__all__ = [
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
    "StateError",
    "TraceStep",
]

STRATEGIES: Final[tuple[str, ...]]
"""Names of the strategies, the default first."""

class SearchError(ValueError):
    """The engine refuses something.

    The children carry the numbers of their message as attributes; one that a message does not name
    is not set.
    """

class NetworkError(SearchError):
    """A network is not valid."""

    bits: int
    found: int
    expected: int
    cost: int
    least: int
    total: int
    limit: int

class PolicyError(SearchError):
    """A policy is not one of the network."""

    bits: int
    found: int
    expected: int

class BudgetError(SearchError):
    """No policy meets the limit."""

    limit: int
    smallest_cost: int

class ScoreError(SearchError):
    """Scores cannot be used."""

    found: int
    expected: int
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
    `costs` has a row per weight candidate with a whole number per act candidate, in the order of
    the candidates; none falls with more bits. What they count is the caller's affair.

    Raises:
        NetworkError: bad candidates, or costs that do not fit them.
    """

    def __new__(
        cls,
        name: str,
        *,
        weight_candidates: Sequence[int],
        act_candidates: Sequence[int],
        costs: Sequence[Sequence[int]],
    ) -> Layer: ...
    @property
    def name(self) -> str:
        """Name of the layer."""

@final
class Network:
    """The quantized layers of a network, in execution order.

    Raises:
        NetworkError: no layer, or costs too large for 64 bits.
    """

    def __new__(cls, layers: Sequence[Layer], /) -> Network: ...
    @property
    def num_layers(self) -> int:
        """Number of layers."""

    @property
    def smallest_cost(self) -> int:
        """Cost with every layer at its smallest candidates: the least a search can reach."""

    @property
    def largest_cost(self) -> int:
        """Cost with every layer at its largest candidates."""

    def costs(self, policies: npt.ArrayLike, /) -> list[int]:
        """Return the cost of each policy.

        `policies` are integers of shape (n, layers, 2), fastest as uint8.

        Raises:
            PolicyError: another shape or type, or bits that are not candidates.
        """

@final
class TraceStep:
    """One step of a search."""

    @property
    def phase(self) -> str:
        """Why: a word of the strategy, "descent", "finish", "upward", "restart" or "exchange"."""

    @property
    def changes(self) -> list[tuple[int, str, int, int]]:
        """Changes as (layer index, "weight" or "act", bits before, bits after)."""

    @property
    def score(self) -> float | None:
        """Score after the step, None in the phase "finish", which evaluates nothing."""

    @property
    def cost(self) -> int:
        """Cost after the step."""

@final
class SearchResult:
    """What came out of a search."""

    @property
    def policy(self) -> npt.NDArray[np.uint8]:
        """Policy with the lowest score within the limit, a new uint8 array (layers, 2)."""

    @property
    def score(self) -> float:
        """Its score."""

    @property
    def cost(self) -> int:
        """Its cost, within the limit."""

    @property
    def num_evaluations(self) -> int:
        """Different policies whose score the search asked for."""

    @property
    def trace(self) -> list[TraceStep]:
        """Steps, in order."""

@final
class Search:
    """A search for the policy with the lowest score whose cost is within `limit`.

    `strategy` is one of `STRATEGIES`. The other settings are those of "greedy"; a strategy leaves
    unread what it does not know. `start` is a policy, by default the largest candidates.
    `error_weight` weighs the normalised score against the normalised cost saved (paper: 1.5).
    `evaluations` bounds the policies whose score the search may ask for. `anchors` are policies,
    shape (n, layers, 2); those within the limit are scored first, together with the start. `climbs`
    is from how many of the best of them moves up start. `exchange_limit` bounds the policies that
    exchanges of one move up for one down may ask for on top; 0 turns them off.

    A search that is made anew and given the same scores takes the same steps: to resume one, answer
    from what is known already.

    Raises:
        BudgetError: the limit is below the smallest reachable cost; carries both.
        PolicyError: `start` or an anchor is no policy of the network.
        OptionError: a setting is out of range, or there is no such strategy.
    """

    def __new__(
        cls,
        network: Network,
        limit: int,
        *,
        strategy: str = "greedy",
        start: npt.ArrayLike | None = None,
        error_weight: float = 1.5,
        evaluations: int | None = None,
        anchors: npt.ArrayLike | None = None,
        climbs: int = 0,
        exchange_limit: int = 0,
    ) -> Search: ...
    def propose(self) -> npt.NDArray[np.uint8] | None:
        """Return the policies whose scores are needed, uint8 (n, layers, 2), or None at the end.

        Until `observe` the same policies are returned again.

        Raises:
            StateError: the search is busy.
        """

    def observe(self, scores: Iterable[SupportsFloat], /) -> None:
        """Take the scores of the policies last proposed, in their order; lower is better.

        Raises:
            ScoreError: another number of scores, or one not finite; the search is as it was.
            StateError: nothing is proposed, or the search is busy.
        """

    def run(
        self, evaluate: Callable[[npt.NDArray[np.uint8]], Iterable[SupportsFloat]], /
    ) -> SearchResult:
        """Search to the end, calling `evaluate` for the scores of each batch of policies.

        `evaluate` takes a uint8 array of shape (n, layers, 2), its own copy, and returns n finite
        numbers, lower is better. What it raises passes through, Ctrl-C included, and the search can
        go on afterwards where it stood.

        Raises:
            ScoreError: `evaluate` returned something else.
            StateError: the search is busy.
        """

    def result(self) -> SearchResult:
        """Return what came out of the search.

        Raises:
            StateError: the search has not ended, or is busy.
        """
