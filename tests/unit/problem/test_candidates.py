"""What each layer may take: extremes, uniform policies, draws, checks and the form on disk."""

import json

import pytest
from small_network import NETWORK

from harness.errors import PolicyError
from harness.problem.candidates import Candidates, LayerCandidates
from harness.problem.policy import Policy

STEM, A, B, FC = NETWORK.candidates.layers
FROZEN = Candidates(
    (STEM, LayerCandidates(name="a", weight=(6, 5, 4, 3), act=(6, 5, 4, 3, 2)), B, FC)
)
"""As the bit-width scheduler leaves it: layer a has lost its smallest weight candidate."""


def test_everything_follows_from_what_a_layer_may_take_now() -> None:
    assert FROZEN.largest == NETWORK.candidates.largest
    assert FROZEN.smallest.bits == ((8, 8), (3, 2), (2, 2), (8, 8))
    two = FROZEN.uniform(weight_bits=2, act_bits=2)
    assert two == FROZEN.smallest
    assert FROZEN.label(two) == "2/2"
    assert FROZEN.label(Policy([(8, 8), (2, 2), (2, 2), (8, 8)])) == "2/2"
    assert FROZEN.equal_bits_policies["2/2"] == two
    with pytest.raises(PolicyError, match=r"layer a has 2 weight bits in the policy, its candidat"):
        FROZEN.check(NETWORK.candidates.smallest)


def test_uniform_policies_are_distinct_and_named_by_the_fewest_bits() -> None:
    policies = NETWORK.candidates.uniform_policies
    assert len(policies) == 25
    assert next(iter(policies)) == "2/2"
    assert list(NETWORK.candidates.equal_bits_policies) == ["6/6", "5/5", "4/4", "3/3", "2/2"]
    assert all(NETWORK.candidates.label(policy) == label for label, policy in policies.items())


def test_sample_asks_for_the_weights_of_a_layer_first() -> None:
    asked = []

    def last(count: int) -> int:
        asked.append(count)
        return count - 1

    assert FROZEN.sample(last) == FROZEN.smallest
    assert asked == [1, 1, 4, 5, 5, 5, 1, 1]


def test_check_refuses_a_policy_of_another_length() -> None:
    with pytest.raises(PolicyError, match=r"policy has 1 layers, the network has 4; use a policy"):
        FROZEN.check(Policy([(8, 8)]))


def test_rows_are_read_back_from_a_file() -> None:
    rows = json.loads(json.dumps(FROZEN.to_rows()))
    assert NETWORK.candidates.with_rows(rows) == FROZEN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "b"}, "candidates of other layers"),
        ({"weight": [6.0, 5]}, r"weight candidates \[6\.0, 5\] of a, which has"),
        ({"act": "65"}, "act candidates 65 of a, which has"),
        ({"weight": ["9" * 5000]}, r"weight candidates .*\.\.\. \(5004 characters\) of a"),
        ({"weight": []}, r"weight candidates \[\] of a, which has \(6, 5, 4, 3, 2\)"),
        ({"weight": [7, 6]}, r"weight candidates \[7, 6\] of a"),
        ({"act": [2, 6]}, r"act candidates \[2, 6\] of a"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    rows = FROZEN.to_rows()
    rows[1] = {**rows[1], **change}
    with pytest.raises(ValueError, match=message):
        NETWORK.candidates.with_rows(rows)
