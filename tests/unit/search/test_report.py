"""Which evaluated policies are scored again before one is reported."""

from made_networks import network_of

from harness.search.report import finalists
from harness.spec.cost import bitops
from harness.spec.policy import uniform_policy

NETWORK = network_of([(10, 10), (400, 50), (100, 900), (5, 5)])
TWO, THREE, TWO_THREE, THREE_TWO = (
    uniform_policy(NETWORK, weight_bits=weight, act_bits=act)
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
