"""The Python side of the engine: costs agree; budgets, candidates and ties bound the search."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_networks import network_of

from harness.errors import BudgetError, ConfigError, RunError
from harness.problem.budget import BUDGETED, Budget, Limit, target_budget
from harness.problem.candidates import Candidates
from harness.problem.cost import BITOPS, WEIGHT_BYTES, Resource, bitops, policy_cost
from harness.problem.extremes import least_cost
from harness.problem.policy import Policy
from harness.problem.units import PICO, TIME_UNITS
from harness.search.engine import (
    DEFAULT_STRATEGY,
    STRATEGIES,
    EngineOptions,
    EngineSearch,
    run_search,
)
from harness.search.engine_form import SearchProblem, engine_network

SIZES = st.lists(st.tuples(st.integers(1, 10**10), st.integers(1, 10**8)), min_size=3, max_size=12)
INPUTS = st.integers(1, 10**8)


def sized(network, input_counts):
    """Return the network with the sizes of inputs, its ends marked."""
    layers = zip(network.layers, input_counts, strict=True)
    layers = [dataclasses.replace(layer, input_count=count) for layer, count in layers]
    layers[0] = dataclasses.replace(layers[0], place="first")
    layers[-1] = dataclasses.replace(layers[-1], place="last")
    return dataclasses.replace(network, layers=tuple(layers))


NETWORK = sized(
    network_of([(10, 10), (400, 50), (100, 900), (30, 20), (5, 5)]), [192, 640, 800, 64, 8]
)
LATENCY = Resource(
    name="latency", unit="latency", units=TIME_UNITS, per_unit=PICO, is_measured=True,
    key_unit="seconds", of_layer=lambda la, w, a: la.macs * (3 if w == a == 4 else 2 + w * w + a),
)  # fmt: skip
"""As measured where one kernel exists for 4/4: more bits may cost less."""

STAIRS = Resource(
    name="latency", unit="latency",
    of_layer=lambda la, w, a: la.macs * (8 if max(w, a) > 4 else 4),
)  # fmt: skip
"""As measured where a kernel exists for 4 and for 8 bits: most moves change nothing."""

EVERY = (*BUDGETED, LATENCY, STAIRS)


def budget_of(amounts, text="made"):
    """Return a budget of amounts by resource."""
    limits = (Limit(resource=one, text=text, amount=amount) for one, amount in amounts.items())
    return Budget(limits=tuple(limits))


def share_of(network, resource, share):
    """Return an amount between the least and what the largest candidates cost."""
    low, high = least_cost(network, resource), policy_cost(network, largest(network), resource)
    return low + int((high - low) * share)


def largest(network):
    return network.candidates.largest


def additive_scores(policies):
    return [float(sum(100 // w + 60 // a for w, a in policy)) for policy in policies.tolist()]


OPTIONS = {field.name for field in dataclasses.fields(EngineOptions)}


def searched(network, budget, evaluate=additive_scores, **changes):
    """Search one budget, an amount of BitOPs or a budget, by default greedily to the end."""
    settings = {"strategy": "greedy"}
    settings |= {key: changes.pop(key) for key in OPTIONS if key in changes}
    budgets = budget if isinstance(budget, list) else [budget]
    budgets = [b if isinstance(b, Budget) else budget_of({BITOPS: b}) for b in budgets]
    candidates = changes.pop("candidates", network.candidates)
    problem = SearchProblem(network=network, candidates=candidates, budgets=budgets)
    return run_search(problem, evaluate, options=EngineOptions(**settings), **changes)


def found_in(result, budget=0):
    return result.shortlists[budget][0]


@given(sizes=SIZES, data=st.data())
def test_rust_and_python_costs_agree_for_every_resource(sizes, data):
    counts = [data.draw(INPUTS) for _ in sizes]
    network = sized(network_of(sizes), counts)
    engine = engine_network(network, network.candidates, EVERY)
    policies = [
        Policy(
            (
                data.draw(st.sampled_from(la.weight_candidates)),
                data.draw(st.sampled_from(la.act_candidates)),
            )
            for la in network.layers
        )
        for _ in range(2)
    ]
    assert engine.num_layers == len(sizes)
    assert engine.costs([policy.bits for policy in policies]) == [
        [policy_cost(network, policy, resource) for resource in EVERY] for policy in policies
    ]
    assert engine.smallest_costs == [least_cost(network, resource) for resource in EVERY]
    assert engine.largest_costs == [
        policy_cost(network, largest(network), resource) for resource in EVERY
    ]


SIDE = st.tuples(st.integers(1, 3), st.sampled_from(["weight", "act"]))


@given(ties=st.lists(st.sets(SIDE, min_size=2), max_size=2), narrow=st.sets(SIDE))
@settings(max_examples=30)
def test_least_costs_agree_where_sides_are_tied(ties, narrow):
    """Both are also those of all tied policies, one by one."""
    disjoint = [group for i, group in enumerate(ties) if not any(group & t for t in ties[:i])]
    rows = [
        {
            "name": row["name"],
            **{
                side: [b for b in row[side] if b >= 4] if (index, side) in narrow else row[side]
                for side in ("weight", "act")
            },
        }
        for index, row in enumerate(NETWORK.candidates.to_rows())
    ]
    layers = NETWORK.candidates.with_rows(rows).layers
    candidates = Candidates(layers, tuple(tuple(sorted(group)) for group in disjoint))
    network = dataclasses.replace(NETWORK.narrowed(candidates), ties=candidates.ties)
    engine = engine_network(network, candidates, EVERY)
    assert engine.smallest_costs == [least_cost(network, resource) for resource in EVERY]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_every_strategy_keeps_every_limit_and_beats_uniform_policies(strategy, share):
    amounts = {resource: share_of(NETWORK, resource, share) for resource in EVERY[:-1]}
    # What all keep together: the costs of one policy with some slack.
    policy = NETWORK.candidates.uniform(weight_bits=3, act_bits=4)
    amounts = {one: max(a, policy_cost(NETWORK, policy, one)) for one, a in amounts.items()}
    budget = budget_of(amounts)
    result = searched(NETWORK, budget, strategy=strategy, evaluations=150)
    found = found_in(result)
    assert budget.allows(NETWORK, found.policy)
    assert result.num_evaluations <= 150
    within = [p for p in NETWORK.candidates.uniform_policies.values() if budget.allows(NETWORK, p)]
    scores = additive_scores(np.array([p.bits for p in [*within, found.policy]]))
    assert found.score in (None, scores[-1])
    if strategy != "random":
        assert scores[-1] <= min(scores)


def brute_force(network, budget):
    free = [itertools.product(la.weight_candidates, la.act_candidates) for la in network.layers]
    policies = [Policy(bits) for bits in itertools.product(*free)]
    within = [policy for policy in policies if budget.allows(network, policy)]
    return min(additive_scores(np.array([policy.bits for policy in within])))


@pytest.mark.parametrize("resource", [LATENCY, STAIRS], ids=["falling", "stairs"])
@pytest.mark.parametrize("share", [0.05, 0.4])
def test_costs_that_fall_with_more_bits_are_searched_to_the_optimum(resource, share):
    """The default strategy, exact additive scores: what the model is made for."""
    network = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
    budget = budget_of({resource: share_of(network, resource, share)})
    result = searched(network, budget, strategy=DEFAULT_STRATEGY, evaluations=200)
    found = found_in(result)
    assert budget.allows(network, found.policy)
    (score,) = additive_scores(np.array([found.policy.bits]))
    assert score == brute_force(network, budget)


@pytest.mark.parametrize("evaluations", [None, 40])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_costs_on_plateaus_are_searched_to_the_end(share, evaluations):
    budget = budget_of({STAIRS: share_of(NETWORK, STAIRS, share)})
    result = searched(NETWORK, budget, evaluations=evaluations)
    found = found_in(result)
    assert budget.allows(NETWORK, found.policy)
    assert all(row.keys() == {"phase", "changes", "error", "latency"} for row in result.trace)
    if evaluations is None:  # Within a plateau more bits are free.
        assert {bits for pair in found.policy.bits[1:-1] for bits in pair} <= {4, 6}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_search_run_again_asks_the_same_and_takes_the_same_steps(strategy):
    asked = []

    def evaluate(policies):
        assert (policies.dtype, policies.shape[1:]) == (np.uint8, (5, 2))
        asked.append(policies.tolist())
        return additive_scores(policies)

    budget = share_of(NETWORK, BITOPS, 0.4)
    first = searched(NETWORK, budget, evaluate, strategy=strategy, evaluations=80, shortlist=5)
    num_batches = len(asked)
    again = searched(NETWORK, budget, evaluate, strategy=strategy, evaluations=80, shortlist=5)
    assert again == first
    assert asked[num_batches:] == asked[:num_batches]
    policies = [Policy(bits) for batch in asked[:num_batches] for bits in batch]
    assert first.num_evaluations == len(policies) == len(set(policies))


@pytest.mark.parametrize("strategy", ["guided", "evolution", "random"])
def test_the_seed_decides_what_is_drawn(strategy):
    def asked_with(seed):
        asked = []

        def evaluate(policies):
            asked.extend(policies.tolist())
            return additive_scores(policies)

        budget = share_of(NETWORK, BITOPS, 0.4)
        searched(NETWORK, budget, evaluate, strategy=strategy, evaluations=80, seed=seed)
        return asked

    assert asked_with(2**64 - 1) == asked_with(2**64 - 1) != asked_with(0)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "uniform"])
def test_all_evaluations_are_spent(strategy):
    budgets = [share_of(NETWORK, BITOPS, share) for share in (0.3, 0.6)]
    result = searched(NETWORK, budgets, strategy=strategy, evaluations=90)
    assert result.num_evaluations == 90


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_budget_gets_a_policy_of_its_own_from_one_set_of_evaluations(strategy):
    amounts = [
        {BITOPS: share_of(NETWORK, BITOPS, 0.6)},
        {BITOPS: share_of(NETWORK, BITOPS, 0.2)},
        {WEIGHT_BYTES: share_of(NETWORK, WEIGHT_BYTES, 0.2)},
    ]
    budgets = [budget_of(one) for one in amounts]
    problem = SearchProblem(network=NETWORK, candidates=NETWORK.candidates, budgets=budgets)
    assert problem.resources == (BITOPS, WEIGHT_BYTES)
    assert [problem.limits(one) for one in budgets] == [
        [amounts[0][BITOPS], None], [amounts[1][BITOPS], None], [None, amounts[2][WEIGHT_BYTES]]
    ]  # fmt: skip
    result = searched(NETWORK, budgets, strategy=strategy, evaluations=120, shortlist=4)
    assert result.num_evaluations <= 120
    assert [1 <= len(shortlist) <= 4 for shortlist in result.shortlists] == [True] * 3
    for budget, shortlist in zip(budgets, result.shortlists, strict=True):
        policies = [found.policy for found in shortlist]
        assert len(set(policies)) == len(policies)
        assert all(budget.allows(NETWORK, policy) for policy in policies)
    scores = [additive_scores(np.array([s[0].policy.bits]))[0] for s in result.shortlists]
    assert scores[0] <= scores[1]
    assert {step["budget"] for step in result.trace} <= {0, 1, 2}
    assert all({"bitops", "weight_bytes"} <= step.keys() for step in result.trace)
    if strategy == "greedy":
        assert {step["budget"] for step in result.trace} == {0, 1, 2}


def test_known_scores_are_answers_that_cost_nothing():
    budget = share_of(NETWORK, BITOPS, 0.4)
    asked = {}

    def evaluate(policies):
        scores = additive_scores(policies)
        asked.update(zip((Policy(bits) for bits in policies.tolist()), scores, strict=True))
        return scores

    first = searched(NETWORK, budget, evaluate)
    known = {policy: [score] for policy, score in asked.items()}
    asked.clear()
    again = searched(NETWORK, budget, evaluate, known=known)
    assert (asked, again.num_evaluations) == ({}, 0)
    assert (again.shortlists, again.trace) == (first.shortlists, first.trace)
    half = dict(itertools.islice(known.items(), len(known) // 2))
    third = searched(NETWORK, budget, evaluate, known=half)
    assert (third.shortlists, third.trace) == (first.shortlists, first.trace)
    assert third.num_evaluations == len(asked) == len(known) - len(half)
    assert asked.keys().isdisjoint(half)


def test_parts_are_added_and_one_row_may_have_other_folds_than_another_batch():
    budget = share_of(NETWORK, BITOPS, 0.4)
    whole = searched(NETWORK, budget)

    def in_parts(policies):
        return [[score - 3.0, 1.0, 2.0] for score in additive_scores(policies)]

    known = {largest(NETWORK): additive_scores(np.array([largest(NETWORK).bits]))}
    result = searched(NETWORK, budget, in_parts, known=known)
    assert result.trace == whole.trace
    assert result.num_evaluations == whole.num_evaluations - 1


def test_equal_scores_go_to_the_cheaper_policy():
    def flat(policies):
        return [1.0] * len(policies)

    # No policy is better than the cheapest: that of the lowest candidates is asked for as uniform.
    for strategy in ("greedy", "evolution", "uniform"):
        result = searched(NETWORK, bitops(NETWORK, largest(NETWORK)), flat, strategy=strategy)
        assert found_in(result).policy == NETWORK.candidates.smallest


def test_guided_search_predicts_what_it_never_asked_for():
    budget = budget_of({BITOPS: share_of(NETWORK, BITOPS, 0.4)})
    problem = SearchProblem(network=NETWORK, candidates=NETWORK.candidates, budgets=[budget])
    asked = set()

    def evaluate(policies):
        asked.update(Policy(bits) for bits in policies.tolist())
        assert search.status.num_evaluations <= len(asked)
        return additive_scores(policies)

    search = EngineSearch(problem, EngineOptions(strategy="guided", evaluations=150))
    result = search.run(evaluate)
    found = found_in(result)
    score, deviation = found.predicted
    (true,) = additive_scores(np.array([found.policy.bits]))
    assert deviation > 0
    assert abs(score - true) < 0.2 * true
    assert result.model_error > 0
    draws = np.random.default_rng(0)
    drawn = [NETWORK.candidates.sample(lambda n: int(draws.integers(n))) for _ in range(300)]
    unseen = [policy for policy in drawn if policy not in asked]
    means, deviations = np.array(search.predict(unseen)).T
    truth = np.array(additive_scores(np.array([policy.bits for policy in unseen])))
    assert (deviations > 0).all()
    assert np.corrcoef(means, truth)[0, 1] > 0.95
    greedy = EngineSearch(problem, EngineOptions(strategy="greedy", evaluations=50))
    assert found_in(greedy.run(additive_scores)).predicted is None
    assert (greedy.predict(unseen), search.predict([])) == (None, [])


def test_search_stays_among_the_candidates_it_is_given():
    network = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
    full = network.candidates
    narrow = full.with_rows(
        {**row, "weight": [b for b in row["weight"] if b > 3]} for row in full.to_rows()
    )
    for strategy in STRATEGIES:
        seen = []

        def evaluate(policies, seen=seen):
            seen.extend(policies[:, 1:3, 0].ravel().tolist())
            return additive_scores(policies)

        options = {"strategy": strategy, "evaluations": 60, "candidates": narrow}
        budget = bitops(network, largest(network)) // 2
        result = searched(network, budget, evaluate, **options)
        narrow.check(found_in(result).policy)
        assert set(seen) == {4, 5, 6}


def test_tied_sides_take_the_same_bits_in_every_policy_asked_for():
    ties = (((1, "act"), (2, "act"), (3, "act")), ((2, "weight"), (3, "weight")))
    network = dataclasses.replace(NETWORK, ties=ties)
    for strategy in STRATEGIES:

        def evaluate(policies):
            for bits in policies.tolist():
                network.candidates.check(Policy(bits))
            return additive_scores(policies)

        budget = share_of(network, BITOPS, 0.4)
        result = searched(network, budget, evaluate, strategy=strategy, evaluations=60)
        network.candidates.check(found_in(result).policy)
        assert bitops(network, found_in(result).policy) <= budget


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_network_of_pinned_layers_has_one_policy(strategy):
    network = network_of([(10, 10), (5, 5)])
    budget = bitops(network, largest(network))
    result = searched(network, budget, strategy=strategy, evaluations=50)
    assert (found_in(result).policy, result.trace) == (largest(network), [])
    assert result.num_evaluations <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_evaluation_is_enough_for_a_policy_within_the_budget(strategy):
    budget = share_of(NETWORK, BITOPS, 0.05)
    result = searched(NETWORK, budget, strategy=strategy, evaluations=1)
    assert bitops(NETWORK, found_in(result).policy) <= budget
    assert result.num_evaluations <= 1


SMALL = network_of([(10, 10), (400, 50), (5, 5)])


def with_candidates(*bits):
    layers = (dataclasses.replace(SMALL.layers[0], weight_candidates=bits), *SMALL.layers[1:])
    return dataclasses.replace(SMALL, layers=layers)


TOGETHER = budget_of(
    {BITOPS: share_of(NETWORK, BITOPS, 0.5), LATENCY: least_cost(NETWORK, LATENCY)}, "10"
)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"budget": 1},
            BudgetError,
            r"^target 1e-09G BitOPs is below 2\.56K, the least .*; raise --target-bitops$",
        ),
        (
            {"budget": budget_of({WEIGHT_BYTES: 8})},
            BudgetError,
            r"^target 1B weight bytes is below 27\.5B, the least .*; raise --budget weight-bytes$",
        ),
        (
            {"budget": [9000, budget_of({BITOPS: 5000, WEIGHT_BYTES: 9})]},
            BudgetError,
            r"^target 1\.125B weight bytes is below 27\.5B, the least",
        ),
        ({"strategy": "luck"}, ConfigError, "^strategy luck is not among guided, greedy, .*; cho"),
        ({"evaluations": 0}, ConfigError, "^evaluations is 0, at least 1 is needed"),
        ({"evaluations": -3}, ConfigError, "^evaluations is -3, at least 1 is needed; raise it$"),
        ({"seed": -1}, ConfigError, "^seed -1 is outside 0 to 18446744073709551615; choose one"),
        ({"seed": 2**64}, ConfigError, "^seed 18446744073709551616 is outside 0 to 18"),
        ({"error_weight": float("inf")}, ConfigError, "^error_weight is inf, not a finite number"),
        (
            {"strategy": "guided", "refine_share": 1.5},
            ConfigError,
            "^refine_share is 1.5, not a finite number of at least 0, or for refine_share a share",
        ),
        (
            {"strategy": "guided", "significance": -1.0},
            ConfigError,
            "^significance is -1, not a finite number of at least 0",
        ),
        ({"network": with_candidates(99)}, RunError, "weight candidate 99 of layer layer0 is out"),
        (
            {"known": {largest(network_of([(1, 1)] * 4)): [1.0]}},
            RunError,
            r"^policies have shape \(1, 4, 2\), not \(n, 3, 2\)",
        ),
        (
            {"evaluate": lambda policies: [float("nan")] * len(policies)},
            RunError,
            "^score 0 is NaN, not a finite number; return an error count or a rate$",
        ),
        (
            {"evaluate": lambda policies: [1.0]},
            RunError,
            r"^evaluation gave 1 scores for \d+ policies; return one per policy$",
        ),
    ],
)
def test_refusals_of_the_engine_are_mistakes_of_the_user(changes, error, message):
    arguments = {"network": SMALL, "budget": 9000, **changes}
    with pytest.raises(error, match=message):
        searched(**arguments)


def test_limits_that_exclude_each_other_are_refused_by_name():
    """The fewest bits cost the least BitOPs, 4/4 the least time: no policy has both."""
    network = network_of([(10, 10), (400, 50), (5, 5)])
    amounts = {resource: least_cost(network, resource) for resource in (BITOPS, LATENCY)}
    message = (
        "^budget bitops=x latency=x: some policy of made keeps each limit, none keeps them tog"
    )
    for strategy in STRATEGIES:
        with pytest.raises(BudgetError, match=message):
            searched(network, [9000, budget_of(amounts, "x")], strategy=strategy)


@pytest.mark.parametrize("amount", [2**64 - 1, 2**64, 10**30])
def test_amounts_beyond_what_the_engine_counts_are_no_limit(amount):
    wide = searched(SMALL, amount, evaluations=amount)
    assert wide == searched(SMALL, bitops(SMALL, largest(SMALL)), evaluations=10**6)


def test_what_evaluate_raises_passes_through():
    class OwnError(Exception):
        pass

    def evaluate(policies):
        raise OwnError

    for strategy in STRATEGIES:
        with pytest.raises(OwnError):
            searched(NETWORK, target_budget("45%", NETWORK), evaluate, strategy=strategy)
