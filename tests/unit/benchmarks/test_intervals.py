import pytest

from benchmarks.intervals import half_width


def test_half_width_uses_students_quantiles_of_the_tables():
    # Deviation 1, n values: quantile over sqrt(n).
    assert half_width([-1.0, 0.0, 1.0]) == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    five = [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert half_width(five) == pytest.approx(2.7764 / 5**0.5, rel=1e-4)


def test_half_width_of_equal_values_is_zero():
    assert half_width([0.25] * 4) == 0
