import numpy as np
import pytest

from benchmarks.finalist_rules import (
    RULES,
    cheapest_alike,
    finalist_rules,
    first,
    first_alike,
    highest,
)


def masks(*num_wrong, images=200):
    """Policies that are wrong on the first images: of two, only one alone is ever right."""
    return np.array([np.arange(images) >= wrong for wrong in num_wrong])


def test_rules_choose_as_they_say():
    # 30 and 28 wrong cannot be told apart from 27, 60 can.
    right, costs = masks(30, 60, 27, 28), [9, 1, 8, 7]
    assert first(right, costs) == 0
    assert highest(right, costs) == 2
    assert cheapest_alike(right, costs) == 3
    assert first_alike(right, costs) == 0


def test_the_searchs_first_is_left_where_it_is_told_apart():
    assert first_alike(masks(60, 27, 28), [1, 2, 3]) == 1


def test_the_cheaper_of_equal_policies_is_the_highest():
    assert highest(masks(30, 30, 31), [5, 4, 3]) == 1


def test_worth_is_the_difference_on_images_that_did_not_choose():
    # Whatever halves are drawn, each policy's errors come to the same shares up to chance.
    generator = np.random.default_rng(0)
    right = np.array([generator.random(2000) > rate for rate in (0.3, 0.1, 0.2)])
    yardstick = right[0]
    found = finalist_rules(right, [3, 2, 1], yardstick, halves=20)
    assert list(found) == ["1000"]
    assert set(found["1000"]) == set(RULES)
    assert found["1000"]["the search's first"] == 0
    expected = 100 * (right[0].mean() - right[1].mean())
    for rule in ("highest accuracy", "cheapest not told apart", "search's first not told apart"):
        assert found["1000"][rule] == pytest.approx(expected, abs=0.3)


def test_images_that_choose_do_not_judge():
    # The best of fifty alike is eight points better where it was chosen, and no better elsewhere.
    generator = np.random.default_rng(1)
    right = generator.random((50, 400)) > 0.5
    yardstick = generator.random(400) > 0.5
    found = finalist_rules(right, [1] * 50, yardstick, halves=40)["200"]
    average = 100 * (yardstick.mean() - right.mean())
    assert found["highest accuracy"] > average - 3
