"""Which evaluated policies are scored again before one is reported."""

from types import SimpleNamespace

from made_networks import network_of
from rich.progress import Progress

from harness.problem.cost import bitops
from harness.search.report import finalists, report

NETWORK = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
TWO, THREE, TWO_THREE, THREE_TWO = (
    NETWORK.candidates.uniform(weight_bits=weight, act_bits=act)
    for weight, act in ((2, 2), (3, 3), (2, 3), (3, 2))
)


def test_finalists_have_the_fewest_errors_within_the_budget():
    known = {TWO: 9, THREE: 1, TWO_THREE: 5, THREE_TWO: 4}
    target = bitops(NETWORK, TWO_THREE)
    assert finalists(NETWORK, known, target, limit=2) == [THREE_TWO, TWO_THREE]
    assert finalists(NETWORK, known, target, limit=9) == [THREE_TWO, TWO_THREE, TWO]


def test_equal_errors_rank_the_cheaper_policy_first():
    known = {THREE: 4, TWO: 4, TWO_THREE: 4}
    best = finalists(NETWORK, known, bitops(NETWORK, THREE), limit=2)
    assert best == [TWO, TWO_THREE]


def test_report_shows_each_policy_it_scores_out_of_how_many():
    known = {TWO: 9, THREE: 1, TWO_THREE: 5, THREE_TWO: 4}
    bar = Progress(disable=True)
    shown = []

    def accuracy(policies, *, split, on_policy=None):
        for _ in policies if on_policy else ():
            task = bar.tasks[-1]
            shown.append((task.description, task.completed, task.total))
            on_policy()
        return [1 - known.get(policy, 0) / 10 for policy in policies]

    trained = SimpleNamespace(
        accuracy=accuracy,
        supernet=SimpleNamespace(network=NETWORK),
        config=SimpleNamespace(search=SimpleNamespace(finalists=2)),
    )
    chosen = report(trained, known, bitops(NETWORK, TWO_THREE), bar=bar, text="30%")
    assert chosen.found.policy == chosen.uniform_within.policy == THREE_TWO
    assert chosen.uniform_above.policy == THREE
    scored = [("30%: finalists scored", done, 2) for done in range(2)]
    assert shown == [*scored, *(("30%: policies tested", done, 2) for done in range(2))]
    assert all(task.finished for task in bar.tasks)
