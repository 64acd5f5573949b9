"""Which evaluated policies are scored again before one is reported."""

from made_networks import network_of
from watching import Watcher

from harness.problem.cost import bitops
from harness.search.report import finalists, report

NETWORK = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
PAIRS = ((2, 2), (3, 3), (2, 3), (3, 2))


def uniform(candidates):
    return [candidates.uniform(weight_bits=weight, act_bits=act) for weight, act in PAIRS]


TWO, THREE, TWO_THREE, THREE_TWO = uniform(NETWORK.candidates)


def test_finalists_have_the_fewest_errors_within_the_budget():
    wrong_counts = {TWO: 9, THREE: 1, TWO_THREE: 5, THREE_TWO: 4}
    target = bitops(NETWORK, TWO_THREE)
    assert finalists(NETWORK, wrong_counts, target, limit=2) == [THREE_TWO, TWO_THREE]
    assert finalists(NETWORK, wrong_counts, target, limit=9) == [THREE_TWO, TWO_THREE, TWO]


def test_equal_counts_rank_the_cheaper_policy_first():
    wrong_counts = {THREE: 4, TWO: 4, TWO_THREE: 4}
    best = finalists(NETWORK, wrong_counts, bitops(NETWORK, THREE), limit=2)
    assert best == [TWO, TWO_THREE]


def test_report_chooses_by_the_whole_search_split(trained):
    network = trained.network
    two, three, two_three, three_two = uniform(trained.candidates)
    mixed = trained.candidates.sample(lambda n: n - 1 if n < 3 else 2)
    wrong_counts = dict.fromkeys((two, three, two_three, three_two, mixed), 5)
    target = bitops(network, two_three)
    watcher = Watcher()
    result = report(trained, wrong_counts, target, text="30%", observer=watcher)

    within = [policy for policy in wrong_counts if bitops(network, policy) <= target]
    accuracies = dict(zip(within, trained.accuracy(within, split="search"), strict=True))
    assert result.best.search_accuracy == max(accuracies.values())
    assert result.best.search_accuracy == accuracies[result.best.policy]
    assert result.best_uniform.label in {"2/2", "2/3", "3/2"}
    assert result.dearer_uniform.label in {"2/2", "3/3"}
    assert result.dearer_uniform.bitops >= result.best.bitops
    (test_accuracy,) = trained.accuracy([result.best.policy], split="test")
    assert result.best.test_accuracy == test_accuracy

    rows = {item.policy for item in (result.best, result.best_uniform, result.dearer_uniform)}
    assert [(task.name, task.total) for task in watcher.tasks] == [
        ("30%: finalists scored", len(within)),
        ("30%: policies tested", len(rows)),
    ]
    assert all(task.done == task.total and task.has_ended for task in watcher.tasks)
