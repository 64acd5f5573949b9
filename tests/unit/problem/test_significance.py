"""Intervals and tests of accuracies against scipy, exact fractions and hand tables."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.problem.significance import (
    are_told_apart,
    discordant_images,
    mcnemar_p,
    wilson_interval,
)

COUNTS = st.integers(0, 400)


@given(
    data=st.data(), num_images=st.integers(1, 100_000), confidence=st.sampled_from([0.5, 0.9, 0.95])
)
def test_interval_is_that_of_scipy(data, num_images, confidence):
    num_right = data.draw(st.integers(0, num_images))
    theirs = stats.binomtest(num_right, num_images).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(num_right, num_images, confidence=confidence)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
    assert 0 <= low <= num_right / num_images <= high <= 1


@pytest.mark.parametrize(("num_right", "num_images"), [(-1, 5), (6, 5), (0, 0)])
def test_interval_of_no_share_is_refused(num_right, num_images):
    with pytest.raises(ValueError, match=f"{num_right} of {num_images} images is no share"):
        wilson_interval(num_right, num_images)


@given(only_first=COUNTS, only_second=COUNTS)
def test_p_values_are_those_of_exact_fractions(only_first, only_second):
    num_images, smaller = only_first + only_second, min(only_first, only_second)
    tail = Fraction(sum(comb(num_images, k) for k in range(smaller + 1)), 2**num_images)
    at = Fraction(comb(num_images, smaller), 2**num_images)
    exact = min(Fraction(1), 2 * tail)
    # By the appendix of Fagerland, Lydersen and Laake (2013), the even split included.
    mid_p = 1 - at / 2 if only_first == only_second else exact - at
    if num_images == 0:
        mid_p = Fraction(1)
    ours = [mcnemar_p(only_first, only_second, is_mid_p=is_mid_p) for is_mid_p in (False, True)]
    assert ours == pytest.approx([float(exact), float(mid_p)], rel=1e-9)
    assert mcnemar_p(only_first, only_second) == mcnemar_p(only_second, only_first)


@given(only_first=st.integers(0, 30_000), only_second=st.integers(0, 30_000))
def test_exact_p_value_of_many_images_is_that_of_scipy(only_first, only_second):
    if only_first + only_second:
        theirs = stats.binomtest(only_first, only_first + only_second).pvalue
        ours = mcnemar_p(only_first, only_second, is_mid_p=False)
        # So far out, the two add up logarithms that round apart.
        assert ours == pytest.approx(theirs, rel=1e-7, abs=1e-200)


def test_p_values_of_a_published_table():
    """Fagerland, Lydersen and Laake (2013), table 1: 1 and 7 discordant pairs."""
    assert mcnemar_p(1, 7, is_mid_p=False) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_p(1, 7) == pytest.approx(0.0391, abs=5e-5)


def test_policies_that_disagree_nowhere_are_equal():
    assert mcnemar_p(0, 0) == mcnemar_p(0, 0, is_mid_p=False) == 1
    assert mcnemar_p(5, 5, is_mid_p=False) == 1


def test_counts_below_zero_are_refused():
    with pytest.raises(ValueError, match="-1 and 3 images are no counts"):
        mcnemar_p(-1, 3)


def test_discordant_images_are_those_that_one_alone_gets_right():
    first = np.array([True, True, False, False, True])
    second = np.array([True, False, True, False, False])
    assert discordant_images(first, second) == (2, 1)
    with pytest.raises(ValueError, match=r"masks of \(5,\) and \(4,\) are not of the same"):
        discordant_images(first, second[:4])


def test_the_test_keeps_its_level_and_finds_what_is_there():
    """Of two policies that err alike on 2,000 images; then of two that are 3 points apart."""
    generator = np.random.default_rng(0)

    def pair(second: float) -> tuple[np.ndarray, np.ndarray]:
        hard = generator.random(2000)  # What is hard for one is hard for the other.
        noise = generator.normal(scale=0.05, size=(2, 2000))
        return hard + noise[0] < 0.9, hard + noise[1] < second

    called = [are_told_apart(*pair(0.9)) for _ in range(1000)]
    assert 0.02 < np.mean(called) < 0.07
    assert np.mean([are_told_apart(*pair(0.87)) for _ in range(200)]) > 0.9
