"""The comparison of scores: what it measures, and that what is measured is kept."""

import json

import numpy as np
import pytest

from benchmarks import scores
from benchmarks.kept_arrays import kept_arrays
from benchmarks.score_tables import markdown


def test_a_stopped_comparison_goes_on_to_the_same_results(small_run, monkeypatch):
    monkeypatch.setattr(scores, "AT_ONCE", 3)
    measured = []
    scored = scores._scored

    def stopped(trained, statistics, limit, policies):
        measured.append((statistics, len(policies)))
        if len(measured) == 4:
            raise KeyboardInterrupt
        return scored(trained, statistics, limit, policies)

    monkeypatch.setattr(scores, "_scored", stopped)
    with pytest.raises(KeyboardInterrupt):
        scores.measured(small_run, number=4, test_images=50)
    whole = scores.measured(small_run, number=4, test_images=50)
    # Twelve policies for each kind of statistics, three at once; one block was done again.
    assert len(measured) == 4 * len(scores.STATISTICS) + 1
    again = scores.measured(small_run, number=4, test_images=50)
    assert len(measured) == 4 * len(scores.STATISTICS) + 1
    timed = "seconds_per_policy"
    assert {k: v for k, v in again.items() if k != timed} == {
        k: v for k, v in whole.items() if k != timed
    }
    assert [row["test_accuracy_mean"] > 0.1 for row in whole["budgets"]] == [True] * 3
    assert "| 2/2 to 3/3 |" in markdown([json.loads(json.dumps(whole))])


def test_arrays_are_measured_once_for_their_settings(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"a": np.arange(3), "b": np.eye(2)}

    for settings in ({"x": 1}, {"x": 1}, {"x": 2}):
        found = kept_arrays(tmp_path / "kept", settings, measure)
        assert found["a"].tolist() == [0, 1, 2]
        assert found["b"].shape == (2, 2)
    assert len(calls) == 2
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 2
