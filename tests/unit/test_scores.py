"""Scores of images against independent formulas, and their sums over folds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from harness.scores import (
    NUM_FOLDS,
    fold_sums,
    log_probabilities,
    num_folds,
    score_of_images,
)


def logits_and_labels(scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (40, 7)
    labels = torch.randint(0, 7, shape[:1], generator=generator)
    first, second = (scale * torch.randn(shape, generator=generator) for _ in range(2))
    return first, second, labels


def test_kl_is_the_relative_entropy_of_the_max_policy() -> None:
    teacher, logits, labels = logits_and_labels()
    found = score_of_images("kl", logits, labels, teacher=log_probabilities(teacher))
    t, q = (softmax(one.double().numpy(), axis=1) for one in (teacher, logits))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), rel_entr(t, q).sum(axis=1), rtol=1e-12)


def test_kl_of_equal_outputs_is_zero_to_the_bit_and_never_below() -> None:
    teacher, _, labels = logits_and_labels()
    outputs = log_probabilities(teacher)
    assert score_of_images("kl", teacher, labels, teacher=outputs).tolist() == [0.0] * 40
    # A shift of all logits changes no probability, but the last bits of the sums.
    shifted = score_of_images("kl", teacher.double() + 1 / 3, labels, teacher=outputs)
    assert shifted.min() >= 0
    assert shifted.max() < 1e-14


def test_cross_entropy_is_that_of_torch() -> None:
    _, logits, labels = logits_and_labels()
    found = score_of_images("cross_entropy", logits, labels)
    expected = F.cross_entropy(logits.double(), labels, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_errors_are_ones_where_another_class_is_largest() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert score_of_images("errors", logits, torch.tensor([1, 1, 2])).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("score", ["kl", "cross_entropy", "errors"])
def test_scores_of_the_largest_floats_are_finite(score) -> None:
    largest = torch.finfo(torch.float32).max
    logits = torch.tensor([[largest, -largest, 0.0], [-largest, largest, largest]])
    teacher = log_probabilities(logits.flip(1))
    found = score_of_images(score, logits, torch.tensor([1, 0]), teacher=teacher)
    assert found.isfinite().all()
    assert found.max() > 0


@settings(deadline=None)
@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=150),
    first=st.integers(0, 200),
    folds=st.integers(1, NUM_FOLDS),
)
def test_image_i_belongs_to_fold_i_mod_the_folds(values, first, folds) -> None:
    expected = np.zeros(folds)
    for place, value in enumerate(values, start=first):
        expected[place % folds] += value
    found = fold_sums(torch.tensor(values, dtype=torch.float64), first=first, folds=folds)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13)


def test_few_images_have_a_fold_each() -> None:
    assert [num_folds(images) for images in (1, 31, 32, 3000)] == [1, 31, 32, 32]
