"""What comes into a search from outside, and what it says of itself, through the boundary."""

from typing import Any

import numpy as np
import pytest

from harness._search_rs import (
    Layer,
    Network,
    PolicyError,
    ScoreError,
    Search,
    StateError,
    optimal_policies,
)

LIMIT = 10_000


def additive(policies: Any) -> list[float]:
    """Fewer bits cost, those of later layers more."""
    weights = np.array([1.0, 2.0, 5.0])[:, None] * np.array([1.0, 3.0])
    scores: list[float] = (weights * 0.5 ** policies.astype(float)).sum(axis=(1, 2)).tolist()
    return scores


def in_parts(policies: Any) -> list[list[float]]:
    return [[score, 2 * score, 1.5 * score] for score in additive(policies)]


def test_starts_are_asked_first_and_must_be_of_the_network(
    network: Network, uniform: list[Any]
) -> None:
    start = [(8, 8), (3, 2), (2, 3)]
    search = Search(network, [[LIMIT]], strategy="guided", uniform=uniform, starts=[start])
    first = search.propose()
    assert first is not None
    assert first[0].tolist() == [list(pair) for pair in start]
    cold = Search(network, [[LIMIT]], strategy="guided", uniform=uniform).propose()
    assert cold is not None
    assert first[1:].tolist() == cold.tolist()
    with pytest.raises(PolicyError, match="weight bits 6 of layer conv are not among"):
        Search(network, [[LIMIT]], starts=[[(8, 8), (6, 2), (2, 3)]])


def test_concluded_search_answers_without_asking(network: Network, uniform: list[Any]) -> None:
    policies = np.array(uniform, np.uint8)
    known = (policies, additive(policies))
    search = Search(network, [[LIMIT], [9_000]], strategy="guided", known=known, evaluations=30)
    with pytest.raises(StateError, match="search has not ended"):
        search.results()
    assert search.conclude() is None  # type: ignore[func-returns-value]
    assert search.propose() is None
    assert search.status().num_evaluations == 0
    results = search.results()
    assert all(result.predicted_score is not None for result in results)
    assert [cost <= most for result, most in zip(results, (LIMIT, 9_000), strict=True)
            for cost in result.costs] == [True, True]  # fmt: skip


def test_busy_search_cannot_be_concluded(search: Search) -> None:
    def evaluate(policies: Any) -> list[float]:
        search.conclude()
        return additive(policies)

    # Between two batches nobody holds the search: it ends, and the scores come too late.
    with pytest.raises(StateError, match="scores arrived while 0 policies are proposed"):
        search.run(evaluate)
    assert search.results()[0].score is None


def test_status_shows_the_best_so_far(search: Search) -> None:
    status = search.status()
    assert (status.best_scores, status.best_policies) == ([None], [None])
    assert (status.best_errors, status.best_predictions) == ([None], [None])
    search.run(in_parts)
    status = search.status()
    (best,) = status.best_policies
    assert best is not None
    assert best.dtype == np.uint8
    (parts,) = in_parts(best[None])
    assert status.best_scores == [sum(parts)]
    expected = np.std(parts, ddof=1) * len(parts) ** 0.5
    assert status.best_errors == [pytest.approx(expected)]
    assert status.best_predictions == [None]


def test_status_of_a_guided_search_predicts_its_best(network: Network, uniform: list[Any]) -> None:
    search = Search(network, [[LIMIT]], strategy="guided", uniform=uniform, evaluations=40)
    search.run(in_parts)
    status = search.status()
    (best,) = status.best_policies
    assert best is not None
    assert [status.best_predictions[0]] == search.predict(best[None])


def test_marginals_are_rows_of_single_moves(network: Network, uniform: list[Any]) -> None:
    search = Search(network, [[LIMIT]], strategy="guided", uniform=uniform, evaluations=60)
    policy = np.array([(8, 8), (3, 2), (4, 3)], np.uint8)
    assert search.marginals(policy) is None
    search.run(additive)
    rows = search.marginals(policy)
    assert rows is not None
    assert [row[:4] for row in rows] == [
        (1, "weight", 3, 2), (1, "weight", 3, 4), (1, "act", 2, 3),
        (2, "weight", 4, 3), (2, "act", 3, 2), (2, "act", 3, 4),
    ]  # fmt: skip
    for layer, side, _, after, rise, deviation in rows:
        moved = policy.copy()
        moved[layer, int(side == "act")] = after
        before, expected = search.predict([policy, moved]) or []
        assert rise == pytest.approx(expected[0] - before[0])
        assert (rise > 0) == (after < policy[layer, int(side == "act")])
        assert deviation > 0
    for strange in ([(8, 8), (5, 2), (4, 3)], [(8, 8)]):
        with pytest.raises(PolicyError):
            search.marginals(strange)
    assert Search(network, [[LIMIT]], strategy="random").marginals(policy) is None


def test_optimal_policies_are_those_counted_out(network: Network) -> None:
    pairs = [(weight, act) for weight in (2, 3, 4) for act in (2, 3, 4)]
    random = np.random.default_rng(3)
    values = [[0.0], random.normal(size=9).tolist(), random.normal(size=9).tolist()]
    every = [([(8, 8), pairs[i], pairs[j]], values[1][i] + values[2][j])
             for i in range(9) for j in range(9)]  # fmt: skip
    limits = [8_400, 9_000, 11_000, 14_400]
    costs = [cost for (cost,) in network.costs(np.array([policy for policy, _ in every]))]
    found = optimal_policies(network, [[limit] for limit in limits], values)
    for limit, policy in zip(limits, found, strict=True):
        assert policy.dtype == np.uint8
        best = min(value for (_, value), cost in zip(every, costs, strict=True) if cost <= limit)
        assert [tuple(pair) for pair in policy.tolist()] in [p for p, v in every if v == best]


def test_values_follow_ascending_candidates_however_a_layer_lists_them() -> None:
    layer = Layer(
        "conv", weight_candidates=[4, 2], act_candidates=[2, 4], costs=[[[8, 16], [4, 8]]]
    )
    (found,) = optimal_policies(Network([layer]), [[100]], [[0.0, 0.0, -1.0, 0.0]])
    assert found.tolist() == [[4, 2]]
    with pytest.raises(ScoreError, match="values have 3 numbers for conv, not 4"):
        optimal_policies(Network([layer]), [[100]], [[0.0] * 3])
