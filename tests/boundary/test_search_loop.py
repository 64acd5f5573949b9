"""The loop that calls back into Python: what it hands over, and what it survives."""

import signal
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from harness._search_rs import STRATEGIES, Layer, Network, Search, StateError


def sum_score(policies: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return a score per policy that falls with every bit, shape (n,)."""
    return (16.0 / policies.astype(np.float64)).sum(axis=(1, 2))


def finish(search: Search) -> None:
    while (policies := search.propose()) is not None:
        search.observe(sum_score(policies))


def steps(search: Search) -> list[tuple]:
    return [
        (step.budget, step.phase, step.changes, step.score, step.costs) for step in search.trace
    ]


def outcome(search: Search) -> list[tuple]:
    return [(it.policy.tolist(), it.score, it.costs) for it in search.results()]


def test_callback_gets_its_own_contiguous_uint8_batch(search: Search) -> None:
    def evaluate(policies: np.ndarray) -> list[float]:
        assert policies.dtype == np.uint8
        assert policies.ndim == 3
        assert policies.shape[0] >= 1
        assert policies.shape[1:] == (3, 2)
        assert policies.flags.c_contiguous
        scores = sum_score(policies).tolist()
        policies[:] = 0
        return scores

    (result,) = search.run(evaluate)
    assert result.costs[0] <= 10_000


def test_result_lies_within_the_limit_and_is_read_only(network: Network, search: Search) -> None:
    num_evaluated = 0

    def evaluate(policies: np.ndarray) -> np.ndarray:
        nonlocal num_evaluated
        num_evaluated += len(policies)
        return sum_score(policies)

    (result,) = search.run(evaluate)
    assert (result.policy.dtype, result.policy.shape) == (np.uint8, (3, 2))
    assert network.costs(result.policy[None]) == [result.costs]
    assert result.costs[0] <= 10_000
    assert result.score == sum_score(result.policy[None])[0]
    assert search.status().num_evaluations == num_evaluated
    assert (result.predicted_score, result.predicted_deviation) == (None, None)
    with pytest.raises(AttributeError):
        result.score = 0.0  # type: ignore[misc]
    assert repr(result) == f"SearchResult(score={result.score}, costs={result.costs})"
    assert repr(search) == f"Search(num_evaluations={num_evaluated}, ended)"


def test_trace_leads_from_the_largest_candidates_to_the_end(
    network: Network, search: Search
) -> None:
    search.run(sum_score)
    policy = np.array([[8, 8], [4, 4], [4, 4]])
    for step in search.trace:
        for layer, side, bits_before, bits_after in step.changes:
            column = ["weight", "act"].index(side)
            assert policy[layer, column] == bits_before
            policy[layer, column] = bits_after
        assert step.budget == 0
        assert network.costs(policy[None]) == [step.costs]
        assert repr(step).startswith(f"TraceStep(budget=0, phase='{step.phase}', changes=[(")
    assert "descent" in {step.phase for step in search.trace}


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, np.array, lambda scores: np.array(scores, np.float32)]
)
def test_scores_may_come_in_any_one_dimensional_form(search: Search, kind) -> None:
    assert search.run(lambda policies: kind([7] * len(policies)))[0].score == 7.0


@pytest.mark.parametrize("kind", [list, np.array, lambda rows: iter([iter(row) for row in rows])])
def test_score_may_come_in_parts_and_is_their_sum(search: Search, kind) -> None:
    (result,) = search.run(lambda policies: kind([[1.0, 2, 4.5]] * len(policies)))
    assert result.score == 7.5


def test_ask_and_tell_equals_run(network: Network, uniform, search: Search) -> None:
    finish(search)
    other = Search(network, [[10_000]], strategy="greedy", uniform=uniform)
    other.run(sum_score)
    assert steps(search) == steps(other)
    assert outcome(search) == outcome(other)
    assert search.propose() is None


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), Stop()])
@pytest.mark.parametrize("num_calls", [0, 1, 3])
def test_exception_of_the_callback_passes_through_and_the_search_goes_on(
    network: Network, uniform, search: Search, error: BaseException, num_calls: int
) -> None:
    calls: list[np.ndarray] = []

    def evaluate(policies: np.ndarray) -> np.ndarray:
        calls.append(policies.copy())
        if len(calls) > num_calls:
            raise error
        return sum_score(policies)

    with pytest.raises(type(error)) as caught:
        search.run(evaluate)
    assert caught.value is error
    again = search.propose()
    assert again is not None
    np.testing.assert_array_equal(again, calls[-1])
    whole = Search(network, [[10_000]], strategy="greedy", uniform=uniform)
    whole.run(sum_score)
    search.run(sum_score)
    assert steps(search) == steps(whole)
    assert outcome(search) == outcome(whole)


def test_ctrl_c_ends_the_search(search: Search) -> None:
    def evaluate(policies: np.ndarray) -> np.ndarray:
        signal.raise_signal(signal.SIGINT)
        return sum_score(policies)

    with pytest.raises(KeyboardInterrupt):
        search.run(evaluate)
    finish(search)


def test_interrupt_while_scores_are_read_passes_through(search: Search) -> None:
    def scores() -> Iterator[float]:
        yield 1.0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(lambda policies: scores())
    finish(search)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_search_made_anew_asks_the_same_again(network: Network, uniform, strategy: str) -> None:
    asked: list[list[np.ndarray]] = [[], []]
    searches = []
    for batches in asked:

        def evaluate(policies: np.ndarray, batches: list[np.ndarray] = batches) -> np.ndarray:
            batches.append(policies)
            return sum_score(policies)

        search = Search(
            network, [[10_000], [12_000]], strategy=strategy, uniform=uniform, evaluations=40
        )
        search.run(evaluate)
        searches.append(search)
    first, second = asked
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
    assert steps(searches[0]) == steps(searches[1])
    assert outcome(searches[0]) == outcome(searches[1])


def test_seed_decides_what_is_drawn(network: Network) -> None:
    def first(seed: int) -> list:
        search = Search(network, [[10_000]], strategy="random", seed=seed)
        policies = search.propose()
        assert policies is not None
        return policies.tolist()

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_settings_of_the_guided_strategy_arrive() -> None:
    bits = [2, 3, 4, 5]
    costs = [[[100 * weight * act for act in bits] for weight in bits]]
    layers = [
        Layer(f"conv{i}", weight_candidates=bits, act_candidates=bits, costs=costs)
        for i in range(5)
    ]
    network = Network(layers)

    def run(**settings: float) -> tuple[set[str], int]:
        search = Search(network, [[5_000]], strategy="guided", evaluations=60, **settings)
        seen = set()
        while (policies := search.propose()) is not None:
            seen.add(search.status().phase)
            # What no sum over layers says, the same in each fold: sure, and for no model to know.
            own = np.sin(policies.reshape(len(policies), -1) @ np.arange(1.0, 11.0))
            search.observe((sum_score(policies) + own)[:, None].repeat(4, axis=1) / 4)
        return seen, len(search.trace)

    phases, num_steps = run(refine_share=0.5, significance=0.0)
    assert "refinement" in phases
    assert num_steps > 0
    assert run(refine_share=0.5, significance=1e300)[1] == 0
    assert run(refine_share=0.0)[0] == {"start", "survey", "draws"}


def test_budgets_share_one_set_of_evaluations(network: Network, uniform) -> None:
    budgets = [[9_000], [10_000], [13_000]]
    search = Search(network, budgets, uniform=uniform, evaluations=50)
    results = search.run(sum_score)
    assert [result.costs[0] <= limit for result, (limit,) in zip(results, budgets, strict=True)]
    scores = [sum_score(result.policy[None])[0] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert search.status().num_evaluations <= 50


def test_budget_limits_every_resource_that_has_a_limit(uniform) -> None:
    bits = [2, 3, 4]
    bitops = [[300 * weight * act for act in bits] for weight in bits]
    size = [[100 * weight for _ in bits] for weight in bits]
    peak = [[10 * act for act in bits] for _ in bits]
    layers = [
        Layer(name, weight_candidates=bits, act_candidates=bits, costs=[bitops, size, peak])
        for name in ("a", "b", "c")
    ]
    network = Network(layers, aggregates=["sum", "sum", "max"], ties=[[(0, "act"), (2, "act")]])
    search = Search(network, [[8_000, 800, None], [None, None, 30]], evaluations=60)
    first, second = search.run(sum_score)
    assert first.costs[0] <= 8_000
    assert first.costs[1] <= 800
    assert second.policy[:, 0].tolist() == [4, 4, 4]
    assert second.policy[:, 1].tolist() == [3, 3, 3]
    assert first.policy[0, 1] == first.policy[2, 1]


def test_what_is_known_costs_no_evaluation(network: Network, uniform) -> None:
    known = np.array(uniform, dtype=np.uint8)
    search = Search(
        network,
        [[10_000]],
        strategy="uniform",
        uniform=uniform,
        known=(known, sum_score(known)),
        evaluations=1,
    )
    assert search.propose() is None
    within = [bits for bits in uniform if network.costs([bits])[0][0] <= 10_000]
    (result,) = search.results()
    assert result.score == sum_score(np.array(within)).min()
    assert search.status().num_evaluations == 0


def test_status_says_how_far_the_search_is(network: Network, uniform) -> None:
    search = Search(
        network, [[10_000], [8_400]], strategy="guided", uniform=uniform, evaluations=30
    )
    status = search.status()
    assert (status.phase, status.num_evaluations, status.limit) == ("start", 0, 30)
    assert (status.best_scores, status.model_error) == ([None, None], None)
    assert repr(status) == "SearchStatus(phase='start', num_evaluations=0)"
    phases = []

    def evaluate(policies: np.ndarray) -> np.ndarray:
        phases.append(search.status().phase)
        return sum_score(policies)

    results = search.run(evaluate)
    status = search.status()
    assert phases[0] == "start"
    assert status.phase == "ended"
    lowest = [result.score for result in search.shortlist(0, 1000) if result.score is not None]
    assert status.best_scores[0] == min(lowest)
    assert status.best_scores[1] == results[1].score
    assert status.model_error is not None
    assert status.model_error >= 0.0


def test_shortlist_is_within_the_budget_the_best_first(network: Network, uniform) -> None:
    search = Search(network, [[10_000]], strategy="random", evaluations=20)
    (result,) = search.run(sum_score)
    listed = search.shortlist(0, 5)
    scores = [it.score for it in listed]
    assert len(listed) == 5
    assert scores == sorted(scores)
    assert all(it.costs[0] <= 10_000 for it in listed)
    assert listed[0].policy.tolist() == result.policy.tolist()
    assert len(search.shortlist(0, 0)) == 1


def test_predictions_are_near_scores_that_an_additive_model_can_say(
    network: Network, uniform
) -> None:
    search = Search(network, [[12_000]], strategy="guided", uniform=uniform, evaluations=60)
    assert search.predict(uniform) is None
    (result,) = search.run(sum_score)
    predicted = search.predict(uniform)
    assert predicted is not None
    scores = sum_score(np.array(uniform))
    spread = scores.max() - scores.min()
    assert np.abs(np.array(predicted)[:, 0] - scores).max() < 0.02 * spread
    assert all(deviation >= 0.0 for _, deviation in predicted)
    assert search.predict(result.policy[None]) == [
        (result.predicted_score, result.predicted_deviation)
    ]


def test_strategy_without_a_model_predicts_nothing(search: Search, uniform) -> None:
    finish(search)
    assert search.predict(uniform) is None


def test_other_threads_run_while_rust_works(network: Network) -> None:
    batch = np.full((100_000, 3, 2), 4, dtype=np.uint8)
    batch[:, 0] = 8
    num_ticks, is_over = 0, False

    def tick() -> None:
        nonlocal num_ticks
        while not is_over:
            num_ticks += 1
            time.sleep(0)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    thread.start()
    try:
        # From here on a thread runs only where another lets the GIL go.
        sys.setswitchinterval(60.0)
        before = num_ticks
        for _ in range(20):
            network.costs(batch)
            if num_ticks > before:
                break
        assert num_ticks > before
    finally:
        is_over = True
        sys.setswitchinterval(interval)
        thread.join()


def test_search_may_move_to_another_thread(search: Search) -> None:
    thread = threading.Thread(target=finish, args=(search,))
    thread.start()
    thread.join()
    assert search.results()[0].costs[0] <= 10_000


@pytest.mark.parametrize("ask", [Search.results, lambda search: search.shortlist(0, 1)])
def test_results_wait_for_the_end(search: Search, ask) -> None:
    search.propose()
    with pytest.raises(StateError, match="search has not ended"):
        ask(search)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_that_the_engine_names_searches(network: Network, strategy: str) -> None:
    (result,) = Search(network, [[10_000]], strategy=strategy, evaluations=40).run(sum_score)
    assert network.costs(result.policy[None]) == [result.costs]
    assert result.costs[0] <= 10_000


def test_default_strategy_is_the_first(network: Network) -> None:
    default = Search(network, [[10_000]], evaluations=40)
    named = Search(network, [[10_000]], strategy=STRATEGIES[0], evaluations=40)
    for search in (default, named):
        search.run(sum_score)
    assert steps(default) == steps(named)
    assert outcome(default) == outcome(named)
    assert STRATEGIES[0] == "guided"
