"""Search engine for mixed-precision policies: exact cost and a bidirectional greedy search."""

from collections.abc import Callable, Iterable, Sequence
from typing import SupportsFloat, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "BudgetError",
    "GreedySearch",
    "Network",
    "NetworkError",
    "OptionError",
    "PolicyError",
    "ScoreError",
    "SearchError",
    "SearchResult",
    "StateError",
    "TraceStep",
]

class SearchError(ValueError):
    """The engine refuses something.

    The children carry the numbers of their message as attributes; one that a message does not name
    is not set.
    """

class NetworkError(SearchError):
    """A network is not valid."""

    bits: int
    total: int
    limit: int

class PolicyError(SearchError):
    """A policy is not one of the network."""

    bits: int
    found: int
    expected: int

class BudgetError(SearchError):
    """No policy meets the target."""

    target_bitops: int
    smallest_bitops: int

class ScoreError(SearchError):
    """Scores cannot be used."""

    found: int
    expected: int
    index: int
    value: float
    known: float
    given: float

class OptionError(SearchError):
    """A setting is out of range."""

    value: float

class StateError(SearchError):
    """A call comes at the wrong time."""

    found: int

@final
class Network:
    """The quantized layers of a network, in execution order.

    Each layer is (name, MACs for one input, weight parameters, weight candidates, act candidates);
    candidates are distinct bit-widths from 1 to 32 in any order, and a single one pins the side.

    Raises:
        NetworkError: no layer, no MACs, bad candidates, or counts too large for 64-bit costs.
    """

    def __new__(
        cls, layers: Sequence[tuple[str, int, int, Sequence[int], Sequence[int]]], /
    ) -> Network: ...
    @property
    def num_layers(self) -> int:
        """Number of layers."""

    @property
    def smallest_bitops(self) -> int:
        """BitOPs with every layer at its smallest candidates: the least a search can reach."""

    @property
    def largest_bitops(self) -> int:
        """BitOPs with every layer at its largest candidates."""

    def bitops(self, policies: npt.ArrayLike, /) -> list[int]:
        """Return the BitOPs for one input of each policy.

        `policies` are integers of shape (n, layers, 2), fastest as uint8; any bits from 1 to 32 are
        accounted, candidates or not.

        Raises:
            PolicyError: another shape or type, or bits outside 1 to 32.
        """

    def weight_bytes(self, policies: npt.ArrayLike, /) -> list[int]:
        """Return the bytes that the weights of each policy take, each total rounded up once.

        `policies` and errors are those of `bitops`.
        """

    def uniform(self, weight_bits: int, act_bits: int) -> npt.NDArray[np.uint8]:
        """Return the uniform policy, a uint8 array of shape (layers, 2).

        Each side of each layer takes its nearest candidate not below the bits asked for, else its
        largest.

        Raises:
            PolicyError: bits outside 1 to 32.
        """

@final
class TraceStep:
    """One step of a search."""

    @property
    def phase(self) -> str:
        """Why: "descent", "finish", "upward", "restart" or "exchange"."""

    @property
    def changes(self) -> list[tuple[int, str, int, int]]:
        """Changes as (layer index, "weight" or "act", bits before, bits after)."""

    @property
    def error(self) -> float | None:
        """Error after the step, None in the phase "finish", which evaluates nothing."""

    @property
    def bitops(self) -> int:
        """BitOPs after the step."""

@final
class SearchResult:
    """What a search found."""

    @property
    def policy(self) -> npt.NDArray[np.uint8]:
        """Policy with the lowest error within the target, a new uint8 array (layers, 2)."""

    @property
    def error(self) -> float:
        """Its error."""

    @property
    def bitops(self) -> int:
        """Its BitOPs, within the target."""

    @property
    def num_evaluations(self) -> int:
        """Different policies whose error the search needed, restored ones included."""

    @property
    def num_restored(self) -> int:
        """How many of those were restored and not evaluated again."""

    @property
    def trace(self) -> list[TraceStep]:
        """Steps, in order."""

@final
class GreedySearch:
    """Bidirectional greedy search for the policy with the lowest error within a target.

    `start` is a policy, by default the largest candidates. `error_weight` weighs the error against
    the BitOPs saved (paper: 1.5). `evaluations` bounds the policies whose error may be needed,
    restored ones included. `anchors` scores the uniform policies within the target first.
    `climbs` is from how many of the best of those the upward pass starts as well.
    `exchange_limit` bounds the policies that exchanges of one move up for one down may need on top;
    0 turns them off.

    Raises:
        BudgetError: the target is below the smallest reachable; carries both in BitOPs.
        PolicyError: `start` is no policy of the network.
        OptionError: a setting is out of range.
    """

    def __new__(
        cls,
        network: Network,
        target_bitops: int,
        *,
        start: npt.ArrayLike | None = None,
        error_weight: float = 1.5,
        evaluations: int | None = None,
        anchors: bool = True,
        climbs: int = 0,
        exchange_limit: int = 0,
    ) -> GreedySearch: ...
    def restore(self, policies: npt.ArrayLike, errors: Iterable[SupportsFloat]) -> None:
        """Preload known errors: of this search before it stopped, or of another on the same images.

        `policies` are integers of shape (n, layers, 2), `errors` n finite numbers.

        Raises:
            PolicyError: a policy is not one of the network.
            ScoreError: another number of errors, one not finite, or two for one policy.
            StateError: policies were proposed already, or the search is busy.
        """

    def propose(self) -> npt.NDArray[np.uint8] | None:
        """Return the policies whose errors are needed, uint8 (n, layers, 2), or None at the end.

        Until `observe` the same policies are returned again.

        Raises:
            StateError: the search is busy.
        """

    def observe(self, errors: Iterable[SupportsFloat], /) -> None:
        """Take the errors of the policies last proposed, in their order; lower is better.

        Raises:
            ScoreError: another number of errors, or one not finite; the search is as it was.
            StateError: nothing is proposed, or the search is busy.
        """

    def run(
        self, evaluate: Callable[[npt.NDArray[np.uint8]], Iterable[SupportsFloat]], /
    ) -> SearchResult:
        """Search to the end, calling `evaluate` for the errors of each batch of policies.

        `evaluate` takes a uint8 array of shape (n, layers, 2), its own copy, and returns n finite
        numbers, lower is better. What it raises passes through, Ctrl-C included, and the search can
        go on afterwards where it stood.

        Raises:
            ScoreError: `evaluate` returned something else.
            StateError: the search is busy.
        """

    def result(self) -> SearchResult:
        """Return what the search found.

        Raises:
            StateError: the search has not ended, or is busy.
        """
