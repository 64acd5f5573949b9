"""The loop that calls back into Python: what it hands over, and what it survives."""

import signal
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from harness._search_rs import STRATEGIES, Network, Search, StateError


def sum_score(policies: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return a score per policy that falls with every bit, shape (n,)."""
    return (16.0 / policies.astype(np.float64)).sum(axis=(1, 2))


def finish(search: Search) -> None:
    while (policies := search.propose()) is not None:
        search.observe(sum_score(policies))


def steps(result) -> list[tuple]:
    return [(step.phase, step.changes, step.score, step.cost) for step in result.trace]


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

    assert search.run(evaluate).cost <= 10_000


def test_result_lies_within_the_limit_and_is_read_only(network: Network, search: Search) -> None:
    num_evaluated = 0

    def evaluate(policies: np.ndarray) -> np.ndarray:
        nonlocal num_evaluated
        num_evaluated += len(policies)
        return sum_score(policies)

    result = search.run(evaluate)
    assert (result.policy.dtype, result.policy.shape) == (np.uint8, (3, 2))
    assert network.costs(result.policy[None]) == [result.cost]
    assert result.score == sum_score(result.policy[None])[0]
    assert result.num_evaluations == num_evaluated
    with pytest.raises(AttributeError):
        result.score = 0.0  # type: ignore[misc]
    assert repr(result).startswith(f"SearchResult(score={result.score}, cost={result.cost}, ")
    assert repr(search).startswith("Search(limit=10000, ")
    assert repr(search).endswith(", ended)")


def test_trace_leads_from_the_start_to_the_end(network: Network, search: Search) -> None:
    result = search.run(sum_score)
    policy = np.array([[8, 8], [4, 4], [4, 4]])
    for step in result.trace:
        for layer, side, bits_before, bits_after in step.changes:
            column = ["weight", "act"].index(side)
            assert policy[layer, column] == bits_before
            policy[layer, column] = bits_after
        assert network.costs(policy[None]) == [step.cost]
        assert repr(step).startswith(f"TraceStep(phase='{step.phase}', changes=[(")
    assert result.trace[0].phase == "descent"


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, np.array, lambda scores: np.array(scores, np.float32)]
)
def test_scores_may_come_in_any_one_dimensional_form(search: Search, kind) -> None:
    assert search.run(lambda policies: kind([7] * len(policies))).score == 7.0


def test_ask_and_tell_equals_run(network: Network, uniform, search: Search) -> None:
    finish(search)
    other = Search(network, 10_000, anchors=uniform).run(sum_score)
    assert steps(search.result()) == steps(other)
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
    whole = Search(network, 10_000, anchors=uniform).run(sum_score)
    assert steps(search.run(sum_score)) == steps(whole)


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


def test_search_made_anew_asks_the_same_again(network: Network, uniform) -> None:
    asked: list[list[np.ndarray]] = [[], []]
    results = []
    for batches in asked:

        def evaluate(policies: np.ndarray, batches: list[np.ndarray] = batches) -> np.ndarray:
            batches.append(policies)
            return sum_score(policies)

        results.append(Search(network, 10_000, anchors=uniform, climbs=2).run(evaluate))
    first, second = asked
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
    assert steps(results[0]) == steps(results[1])


def test_start_and_settings_arrive(network: Network, uniform) -> None:
    search = Search(
        network, 14_000, start=uniform[0], error_weight=2.0, evaluations=50, exchange_limit=20
    )
    first = search.propose()
    assert first is not None
    assert first.tolist() == [[[8, 8], [2, 2], [2, 2]]]
    assert {step.phase for step in search.run(sum_score).trace} == {"upward"}
    climbing = Search(network, 14_000, start=uniform[0], anchors=uniform, climbs=1)
    assert "restart" in {step.phase for step in climbing.run(sum_score).trace}


def test_other_threads_run_while_rust_works(network: Network) -> None:
    batch = np.full((1_000_000, 3, 2), 4, dtype=np.uint8)
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
            network.costs(batch[:, :, :])
        assert num_ticks > before
    finally:
        is_over = True
        sys.setswitchinterval(interval)
        thread.join()


def test_search_may_move_to_another_thread(search: Search) -> None:
    thread = threading.Thread(target=finish, args=(search,))
    thread.start()
    thread.join()
    assert search.result().cost <= 10_000


def test_result_waits_for_the_end(search: Search) -> None:
    search.propose()
    with pytest.raises(StateError, match="search has not ended"):
        search.result()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_that_the_engine_names_searches(network: Network, strategy: str) -> None:
    result = Search(network, 10_000, strategy=strategy).run(sum_score)
    assert network.costs(result.policy[None]) == [result.cost]
    assert result.cost <= 10_000


def test_default_strategy_is_the_first(network: Network) -> None:
    default = Search(network, 10_000).run(sum_score)
    assert steps(default) == steps(Search(network, 10_000, strategy=STRATEGIES[0]).run(sum_score))
