"""Whether two accuracies on the same images can be told apart, and how far one can be trusted."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""Probability of calling two equally accurate policies different."""


NORMAL_HALF_WIDTH = NormalDist().inv_cdf(1 - LEVEL / 2)
"""Standard errors in half of a normal 95 % interval."""


def wilson_interval(
    num_right: int, num_images: int, *, confidence: float = 1 - LEVEL
) -> tuple[float, float]:
    """Return the score interval of an accuracy (E. B. Wilson, 1927, JASA 22, 209-212).

    Unlike accuracy plus or minus some standard errors it stays within 0 to 1, and is no point where
    all images are right.

    Args:
        num_right: Images classified rightly.
        num_images: Of how many, at least 1.
        confidence: Share of such intervals that hold the true accuracy, 0 to 1.

    >>> low, high = wilson_interval(9000, 10000)
    >>> f"{low:.4f} to {high:.4f}"
    '0.8940 to 0.9057'
    """
    if not 0 <= num_right <= num_images or num_images < 1:
        raise ValueError(f"{num_right} of {num_images} images is no share")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = num_right / num_images
    middle = share + z2 / (2 * num_images)
    half = math.sqrt(z2 * (share * (1 - share) / num_images + z2 / (4 * num_images**2)))
    scale = 1 + z2 / num_images
    # The ends are 0 and 1 exactly where no or all images are right; rounding would miss them.
    low = 0.0 if num_right == 0 else (middle - half) / scale
    high = 1.0 if num_right == num_images else (middle + half) / scale
    return low, high


def discordant_images(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many images only the first, and only the second gets right.

    Args:
        first: Which images one policy classifies rightly, (images,).
        second: The same images under the other.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of {first.shape} and {second.shape} are not of the same images")
    return int(np.sum(first & ~second)), int(np.sum(second & ~first))


def mcnemar_p(only_first: int, only_second: int, *, is_mid_p: bool = True) -> float:
    """Return the two-sided p-value of McNemar's test that two accuracies are equal.

    Were they, each image that one alone gets right would be either's with probability 1/2
    (Q. McNemar, 1947, Psychometrika 12, 153-157); images that both get right or wrong say nothing.
    The exact test counts the observed split whole, and so calls different too rarely; the mid-p
    test counts half of it (M. W. Fagerland, S. Lydersen and P. Laake, 2013, BMC Medical Research
    Methodology 13:91, who advise it).

    Args:
        only_first: Images that only the first policy gets right, at least 0.
        only_second: Images that only the second gets right, at least 0.
        is_mid_p: The mid-p test, or the exact one.

    >>> round(mcnemar_p(1, 7), 4)
    0.0391
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"{only_first} and {only_second} images are no counts")
    smaller, num_images = min(only_first, only_second), only_first + only_second
    if num_images == 0:
        return 1.0
    at_split, up_to_split = _binomial_half(smaller, num_images)
    if only_first == only_second:
        # Both tails hold the even split; so does the source's appendix.
        return 1 - at_split / 2 if is_mid_p else 1.0
    return 2 * up_to_split - (at_split if is_mid_p else 0)


def are_told_apart(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, level: float = LEVEL
) -> bool:
    """Return whether two policies' accuracies differ by McNemar's mid-p test on the same images.

    Args:
        first: Which images one policy classifies rightly, (images,).
        second: The same images under the other.
        level: Probability of saying so of two that are equally accurate.
    """
    return mcnemar_p(*discordant_images(first, second)) < level


def _binomial_half(successes: int, trials: int) -> tuple[float, float]:
    """Return P(X = k) and P(X <= k) of X ~ B(n, 1/2), for k at most n / 2; relative errors 1e-10.

    By logarithms: 2**n is no float from 1,024 on.
    """
    log_at = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        - trials * math.log(2)
    )
    # Each term from the one above it; they fall, and end where one adds nothing.
    ratio = total = 1.0
    for k in range(successes, 0, -1):
        ratio *= k / (trials - k + 1)
        if total + ratio == total:
            break
        total += ratio
    at = math.exp(log_at)
    return at, at * total
