"""Means with their 95 % intervals, as results are quoted."""

from collections.abc import Sequence
from statistics import stdev

from scipy.stats import t  # type: ignore[import-untyped]


def half_width(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean, by Student's t.

    Args:
        values: Independent measurements, at least two.
    """
    quantile = float(t.ppf(0.975, len(values) - 1))
    return quantile * stdev(values) / float(len(values) ** 0.5)
