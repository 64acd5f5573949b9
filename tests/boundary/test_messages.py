"""Every error of the engine: its class, its numbers, its exact text."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import _search_rs
from harness._search_rs import (
    STRATEGIES,
    BudgetError,
    Layer,
    Network,
    NetworkError,
    OptionError,
    PolicyError,
    ScoreError,
    Search,
    SearchError,
    StateError,
    optimal_policies,
)

FREE = [2, 3, 4]
UNIFORM = [[[8, 8], [weight, act]] for weight in FREE for act in FREE]
ACTS = [(0, "act"), (1, "act")]


def costs(weights: list[int], acts: list[int], factor: int = 300) -> list[list[int]]:
    return [[factor * weight * act for act in acts] for weight in weights]


def layer(acts: list[int] = FREE, *tables: list[list[int]]) -> Layer:
    tables = tables or (costs(FREE, acts),)
    return Layer("conv", weight_candidates=FREE, act_candidates=acts, costs=tables)


def net(**options: Any) -> Network:
    stem = Layer("stem", weight_candidates=[8], act_candidates=[8], costs=[[[6400]]])
    return Network([stem, layer()], **options)


def tied() -> Network:
    return Network([layer(), layer()], ties=[ACTS])


def opposed() -> Network:
    """Return a network in which one resource rises with the bits and the other falls."""
    falling = [[10 - weight - act for act in FREE] for weight in FREE]
    return Network([layer(FREE, costs(FREE, FREE), falling)], aggregates=["sum", "sum"])


def new(**options: Any) -> Search:
    return Search(net(), [[9_000]], strategy="greedy", uniform=UNIFORM, **options)


def started() -> Search:
    search = new()
    search.propose()
    return search


def ended() -> Search:
    search = new()
    search.run(lambda policies: [1.0] * len(policies))
    return search


def nested() -> None:
    search = started()
    search.observe(search.propose() for _ in range(1))


CASES: list[tuple[Callable[[], object], type[SearchError], dict[str, float], str]] = [
    (
        lambda: Network([]),
        NetworkError,
        {},
        "network has 0 layers, at least 1 is needed; list its layers in execution order",
    ),
    (
        lambda: layer([]),
        NetworkError,
        {},
        "layer conv has 0 act candidates, at least 1 is needed; give one to pin it",
    ),
    (
        lambda: layer([2, 300]),
        NetworkError,
        {"bits": 300},
        "act candidate 300 of layer conv is outside 1..32 bits; remove it",
    ),
    (
        lambda: layer([4, 2, 4]),
        NetworkError,
        {"bits": 4},
        "act candidate 4 of layer conv is listed twice, once is enough; remove one",
    ),
    (
        lambda: layer(FREE, costs([2, 3], FREE)),
        NetworkError,
        {"found": 2, "expected": 3},
        "layer conv has costs for 2 weight candidates, not 3; "
        "give a row per weight candidate, an entry per act candidate",
    ),
    (
        lambda: layer(FREE, costs(FREE, FREE, -1)),
        NetworkError,
        {"cost": -4},
        "layer conv costs -4 at 2/2 bits, outside 0..18446744073709551615; choose another unit",
    ),
    (
        lambda: layer(FREE, *[costs(FREE, FREE)] * 9),
        NetworkError,
        {"found": 9, "limit": 8},
        "layer conv has 9 columns of costs, not 1 to 8; give one per resource",
    ),
    (
        lambda: net(aggregates=["sum", "max"]),
        NetworkError,
        {"found": 1, "expected": 2},
        "layer stem has costs in 1 resources, not 2; give every layer the same",
    ),
    (
        lambda: net(aggregates=["mean"]),
        NetworkError,
        {},
        "mean is not among sum, max; choose one of them",
    ),
    (
        lambda: net(ties=[[(0, "act"), (2, "act")]]),
        NetworkError,
        {"index": 2, "limit": 2},
        "tie names layer 2 of a network of 2 layers; count them from 0",
    ),
    (
        lambda: net(ties=[[(0, "act")], [(0, "act")]]),
        NetworkError,
        {},
        "act side of layer stem stands in two ties; join them into one",
    ),
    (
        lambda: net(ties=[ACTS]),
        NetworkError,
        {},
        "act candidates 2/3/4 of layer conv are not those of layer stem, 8, which it is tied to; "
        "give both the same",
    ),
    (
        lambda: Search(Network([layer()] * 12, ties=[[(i, "act") for i in range(12)]]), [[10**9]]),
        NetworkError,
        {"options": 3**13, "limit": 100_000},
        "ties join 12 layers, conv the first, in 1594323 ways, above 100000; tie fewer or pin some",
    ),
    (
        lambda: Network([layer(FREE, [[2**63] * 3] * 3)] * 2),
        NetworkError,
        {"total": 2**64, "limit": 2**64 - 1},
        "network costs 18446744073709551616 at its largest candidates, above "
        "18446744073709551615, the most that 64 bits hold; choose a coarser unit",
    ),
    (
        lambda: net().costs([[[8, 8]]]),
        PolicyError,
        {"expected": 2},
        "policies have shape (1, 1, 2), not (n, 2, 2); "
        "give each layer its weight bits and act bits",
    ),
    (
        lambda: net().costs(np.full((1, 2, 2), 4.0)),
        PolicyError,
        {},
        "policies have dtype float64, not uint8; convert them to whole bits",
    ),
    (
        lambda: net().costs([[[8, 8], [3, 300]]]),
        PolicyError,
        {"bits": 300},
        "act bits 300 of layer conv are outside 1..32; choose a bit-width in between",
    ),
    (
        lambda: Search(net(), [[9_000]], uniform=[[[8, 8], [6, 3]]]),
        PolicyError,
        {"bits": 6},
        "weight bits 6 of layer conv are not among its candidates 2/3/4; choose one of them",
    ),
    (
        lambda: Search(tied(), [[9_000]], known=([[[2, 2], [2, 4]]], [1.0])),
        PolicyError,
        {"bits": 4, "other_bits": 2},
        "act bits 4 of layer conv are not the 2 of layer conv, which it is tied to; "
        "give both the same",
    ),
    (
        lambda: Search(net(), [[7600], [None, 7599]]),
        BudgetError,
        {"found": 2, "expected": 1},
        "budget has 2 limits, the network has 1 resources; give None for no limit",
    ),
    (
        lambda: Search(net(), [[None]]),
        BudgetError,
        {},
        "budget limits 0 resources, at least 1 is needed; limit one",
    ),
    (
        lambda: Search(net(), []),
        BudgetError,
        {},
        "search has 0 budgets, at least 1 is needed; give one",
    ),
    (
        lambda: ended().shortlist(1, 3),
        BudgetError,
        {"budget": 1, "limit": 1},
        "budget 1 is not among the 1 of the search; count them from 0",
    ),
    (
        lambda: Search(opposed(), [[1200, None], [1200, 2]]),
        BudgetError,
        {"budget": 1},
        "budget 1 is met by no policy: each of its limits can be met, all together cannot; "
        "raise one of them",
    ),
    (
        lambda: Search(net(), [[7600], [7599]]),
        BudgetError,
        {"resource": 0, "limit": 7599, "smallest_cost": 7600},
        "limit 7599 is below 7600, the least the network costs in resource 0; "
        "raise the limit or unpin a layer",
    ),
    (
        lambda: started().observe([1.0, 2.0]),
        ScoreError,
        {"found": 2, "expected": 6},
        "evaluation gave 2 scores for 6 policies; return one per policy",
    ),
    (
        lambda: started().observe([[1.0, 2.0]] * 5 + [[3.0]]),
        ScoreError,
        {"index": 5, "found": 1, "expected": 2},
        "score 5 has 1 parts, not 2; return a row of equal length for each",
    ),
    (
        lambda: new().run(lambda policies: [float("nan")] * len(policies)),
        ScoreError,
        {"index": 0},
        "score 0 is NaN, not a finite number; return an error count or a rate",
    ),
    (
        lambda: new().run(lambda policies: None),  # type: ignore[arg-type, return-value]
        ScoreError,
        {"expected": 6},
        "evaluation gave NoneType, not 6 numbers; return one float per policy",
    ),
    (
        lambda: optimal_policies(net(), [[9_000]], [[1.0]]),
        ScoreError,
        {"found": 1, "expected": 2},
        "values have 1 numbers for the layers, not 2; give one per pair of bits",
    ),
    (
        lambda: optimal_policies(net(), [[9_000]], [[1.0], [*[1.0] * 5, float("nan"), *[1.0] * 3]]),
        ScoreError,
        {},
        "value of layer conv at 3/4 bits is NaN, not a finite number; "
        "give what it adds to the error",
    ),
    (
        lambda: Search(net(), [[9_000]], strategy="luck"),
        OptionError,
        {},
        f"strategy luck is not among {', '.join(STRATEGIES)}; choose one of them",
    ),
    (
        lambda: new(error_weight=-0.5),
        OptionError,
        {"value": -0.5},
        "error_weight is -0.5, not a finite number of at least 0; the usual value is 1.5",
    ),
    (
        lambda: Search(net(), [[9_000]], strategy="guided", refine_share=1.5),
        OptionError,
        {"value": 1.5},
        "refine_share is 1.5, not a finite number of at least 0, or for refine_share a share up "
        "to 1; leave it out for the default",
    ),
    (
        lambda: Search(net(), [[9_000]], evaluations=0),
        OptionError,
        {},
        "evaluations is 0, at least 1 is needed; leave it out for no limit",
    ),
    (
        lambda: new().observe([1.0]),
        StateError,
        {"found": 1},
        "1 scores arrived while 0 policies are proposed; call propose first",
    ),
    (
        lambda: new().results(),
        StateError,
        {},
        "search has not ended, it still needs scores; propose and observe until None",
    ),
    (
        nested,
        StateError,
        {},
        "search is busy in another thread, one at a time may use it; make one search per thread",
    ),
]

# A policy of another length never gets past the shape check of the boundary; Rust tests it.
NOT_FROM_PYTHON = 1


@pytest.mark.parametrize(("call", "kind", "numbers", "text"), CASES)
def test_error_says_what_which_limit_and_what_to_do(call, kind, numbers, text) -> None:
    with pytest.raises(SearchError) as caught:
        call()
    assert type(caught.value) is kind
    assert str(caught.value) == text
    for name, number in numbers.items():
        assert getattr(caught.value, name) == number


def test_every_error_of_the_engine_has_a_case() -> None:
    source = Path(__file__).parents[2] / "search_rs" / "src" / "error.rs"
    variants = re.findall(r"#\[error\(", source.read_text(encoding="utf-8"))
    assert len(variants) == len(CASES) + NOT_FROM_PYTHON
    classes = {value for value in vars(_search_rs).values() if isinstance(value, type)}
    errors = {value for value in classes if issubclass(value, SearchError)}
    assert errors == {kind for _, kind, _, _ in CASES} | {SearchError}


def test_limits_that_exclude_each_other_say_what_each_would_need() -> None:
    with pytest.raises(BudgetError) as caught:
        Search(opposed(), [[1200, 2]])
    # 1200 is the least at 2/2 bits, which costs 6 of what falls; 2 of that needs 4/4.
    assert caught.value.least == [4800, 6]
    three = [costs(FREE, FREE), [[10 - weight - act for act in FREE] for weight in FREE]]
    unlimited = Network([layer(FREE, *three, costs(FREE, FREE))], aggregates=["sum"] * 3)
    with pytest.raises(BudgetError) as caught:
        Search(unlimited, [[1200, 2, None]])
    assert caught.value.least == [4800, 6, None]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_search_goes_on_after_a_score_that_is_not_finite(value: float) -> None:
    search = started()
    first = search.propose()
    with pytest.raises(ScoreError) as caught:
        search.observe([0.0] * 5 + [value])
    assert caught.value.index == 5
    np.testing.assert_array_equal(search.propose(), first)
    assert search.run(lambda policies: [1.0] * len(policies))[0].score == 1.0


@pytest.mark.parametrize("kind", [BudgetError, NetworkError, PolicyError, ScoreError])
def test_errors_are_value_errors(kind: type) -> None:
    assert issubclass(kind, SearchError)
    assert issubclass(kind, ValueError)
