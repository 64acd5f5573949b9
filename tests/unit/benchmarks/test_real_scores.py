import numpy as np
import pytest
import torch

from benchmarks import real_scores
from benchmarks.real_scores import Judge, PartScores, Told, part_of
from harness.accuracy import PolicyScorer
from harness.data import eval_batches
from harness.errors import ConfigError
from harness.training.policy_sampler import sample_policy

TOLD = Told(images=30, recalibrate_images=30)


def policies_of(trained, number):
    draws = (sample_policy(trained.candidates, seed=0, step=0, pass_index=i) for i in range(number))
    return list(draws)


def as_array(policies):
    return np.array([policy.bits for policy in policies], np.uint8)


def test_parts_are_disjoint_images_of_the_split(small_run):
    whole = small_run.splits.search
    parts = [part_of(whole, index, images=30, parts=3) for index in range(3)]
    places = [place for part in parts for place in part._places]
    assert len(set(places)) == 90
    assert max(places) < len(whole)
    assert max(places) > len(whole) // 2
    images, labels = parts[1].read([0, 29])
    expected, expected_labels = whole.read([parts[1]._places[0], parts[1]._places[29]])
    assert torch.equal(images, expected)
    assert torch.equal(labels, expected_labels)
    assert torch.equal(parts[1].labels[[0, 29]], expected_labels)


def test_too_large_parts_are_refused(small_run):
    whole = small_run.splits.search
    with pytest.raises(ConfigError, match=f"more than the {len(whole)} of the split; take fewer"):
        part_of(whole, 0, images=len(whole) // 2, parts=3)


def test_scores_are_those_of_the_parts_images(small_run, tmp_path):
    policies = policies_of(small_run, 3)
    scores = PartScores(small_run, tmp_path, TOLD, part=(1, 3))
    found = scores(as_array([policies[0], policies[1], policies[0], policies[2]]))
    part = part_of(small_run.splits.search, 1, images=30, parts=3)
    scorer = PolicyScorer(
        small_run.supernet,
        eval_batches(part, batch_size=small_run.config.eval.batch_size),
        score="kl",
        recalibration=small_run.batches("train", limit=30),
    )
    expected = scorer.score(policies).parts.tolist()
    assert found == [expected[0], expected[1], expected[0], expected[2]]
    assert scores.sums(as_array(policies)) == [sum(row) for row in expected]


def test_nothing_is_scored_or_judged_twice(small_run, tmp_path, monkeypatch):
    policies = policies_of(small_run, 3)
    found = PartScores(small_run, tmp_path, TOLD, part=(0, 3))(as_array(policies))
    judged = Judge(small_run, tmp_path).right(policies)

    def refuse(*_arguments, **_named):
        raise AssertionError("asked again")

    monkeypatch.setattr(real_scores.PolicyScorer, "score", refuse)
    monkeypatch.setattr(real_scores.TrainedRun, "right_images", refuse)
    again = PartScores(small_run, tmp_path, TOLD, part=(0, 3))(as_array(policies[::-1]))
    assert again == found[::-1]
    for mask, kept in zip(judged, Judge(small_run, tmp_path).right(policies), strict=True):
        assert np.array_equal(mask, kept)
    with pytest.raises(AssertionError, match="asked again"):
        PartScores(small_run, tmp_path, TOLD, part=(1, 3))(as_array(policies))


def test_judged_images_are_those_of_the_test_split(small_run, tmp_path):
    policies = policies_of(small_run, real_scores.JUDGED_AT_ONCE + 2)
    found = np.array(Judge(small_run, tmp_path).right(policies))
    assert np.array_equal(found, small_run.right_images(policies, split="test"))
