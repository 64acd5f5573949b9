"""The arithmetic of `python -m benchmarks.search`: what is said of its seeds."""

import math
from statistics import NormalDist

import pytest

from benchmarks.search_tables import markdown, summary


def seed(theirs, ours, *, is_ended=True):
    """Return a seed's record: (evaluations, seconds, accuracy) of theirs, and of each of ours."""
    keys = ("evaluations", "seconds", "test_accuracy")
    return {
        "paper": {**dict(zip(keys, theirs, strict=True)), "is_ended": is_ended},
        "ours": [
            {"limit": limit, **dict(zip(keys, one, strict=True))}
            for limit, one in zip((300, 60), ours, strict=True)
        ],
    }


SEEDS = [
    seed((1000, 100.0, 0.90), [(300, 10.0, 0.91), (60, 2.0, 0.89)]),
    seed((3000, 500.0, 0.88), [(300, 20.0, 0.91), (60, 4.0, 0.88)], is_ended=False),
]


def test_speed_up_is_that_of_the_mean_seconds_and_parts_into_number_and_price():
    found = summary(SEEDS)
    assert found["num_seeds"] == 2
    default, few = found["by_limit"]
    assert found["speedup"] == default["speedup"] == pytest.approx(300 / 15)
    assert few["speedup"] == pytest.approx(300 / 3)
    for one, count in ((default, 300), (few, 60)):
        assert one["of_fewer_evaluations"] == pytest.approx(2000 / count)
        product = one["of_fewer_evaluations"] * one["of_cheaper_evaluations"]
        assert product == pytest.approx(one["speedup"])


def test_accuracy_difference_is_ours_minus_theirs_seed_by_seed():
    found = summary(SEEDS)
    assert found["accuracy_difference"] == pytest.approx(0.02)
    # 0.01 and 0.03: a standard error of 0.01, and Student's t of one degree of freedom, 12.706.
    assert found["accuracy_difference_half_width"] == pytest.approx(12.706 * 0.01, rel=1e-4)
    assert found["by_limit"][1]["accuracy_difference"] == pytest.approx(-0.005)


def test_interval_of_many_seeds_is_that_of_a_normal_law_and_one_seed_has_none():
    many = [seed((1, 1.0, 0.5), [(1, 1.0, 0.5 + k % 2), (1, 1.0, 0.5)]) for k in range(2000)]
    error = 0.5 / math.sqrt(2000)
    expected = NormalDist().inv_cdf(0.975) * error
    assert summary(many)["accuracy_difference_half_width"] == pytest.approx(expected, rel=2e-3)
    assert summary(SEEDS[:1])["accuracy_difference_half_width"] is None


def test_table_says_what_was_compared_and_where_the_rule_was_stopped():
    result = {
        "model": "resnet8",
        "data": "digits",
        "layers": 10,
        "budget_bitops": 5_500_000,
        "images": 200,
        "recalibrate_images": 500,
        "test_images": 353,
        "uniform_test_accuracy": {"2/2": 0.9, "3/3": 0.95},
        "seeds": SEEDS,
        "summary": summary(SEEDS),
    }
    text = markdown([result])
    assert "## resnet8 on digits: 10 layers, 5.5 M BitOPs" in text
    assert "In 1 of them the rule stood still" in text
    assert "| paper, plainly | 2000 | 300.0 | 0.1500 | 89.00 | | 1 | | |" in text
    assert "| ours, 300 | 300 | 15.0 | 0.0500 | 91.00 | +2.00 ± 12.71 | 20.0 | 6.7 | 3.00 |" in text
    assert "In 1 of them" not in markdown([{**result, "seeds": SEEDS[:1]}])
