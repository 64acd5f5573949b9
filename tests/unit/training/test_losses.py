"""Loss terms: what each computes, and how a list of them adds up."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from harness.run.config import TrainConfig
from harness.training.losses import (
    LossTerm,
    PassContext,
    cross_entropy,
    evaluate_terms,
    float_terms,
    max_pass_terms,
    random_pass_terms,
    teacher_kl,
)

LABELS = torch.arange(6)


def context_of(logits, teacher=None):
    return PassContext(logits=logits, labels=LABELS, teacher_logits=teacher)


@pytest.fixture
def logits():
    return torch.randn(2, 6, 10, generator=torch.Generator().manual_seed(0))


def test_kl_equals_the_formula(logits):
    student, teacher = logits
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    expected = (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(teacher_kl(context_of(student, teacher)), expected)
    assert teacher_kl(context_of(student, student)).abs() < 1e-6


def test_random_pass_weighs_labels_and_teacher_alike_to_the_last_bit(logits):
    context = context_of(*logits)
    total, values = evaluate_terms(random_pass_terms(TrainConfig(), progress=0), context)
    ce, kl = cross_entropy(context), teacher_kl(context)
    assert torch.equal(total, 0.5 * ce + 0.5 * kl)
    assert values == {"random_ce": ce, "random_kl": kl}  # Before their weights.


def test_terms_of_one_cross_entropy_are_it_to_the_last_bit(logits):
    context = context_of(logits[0])
    expected = F.cross_entropy(logits[0], LABELS, label_smoothing=0.1)
    for terms, name in (
        (float_terms(smoothing=0.1), "ce"),
        (max_pass_terms(smoothing=0.1), "max_pass_ce"),
    ):
        total, values = evaluate_terms(terms, context)
        assert torch.equal(total, expected)
        assert list(values) == [name]


@given(weights=st.lists(st.floats(0, 10), min_size=1, max_size=5))
def test_a_sum_is_linear_in_its_weights_and_keeps_no_graph_in_the_values(weights):
    logits = torch.zeros(6, 10, requires_grad=True)
    terms = [
        LossTerm(name=str(index), weight=weight, function=lambda c: c.logits.sum() + 1)
        for index, weight in enumerate(weights)
    ]
    total, values = evaluate_terms(terms, context_of(logits))
    total.backward()
    assert total.item() == pytest.approx(sum(weights))
    assert torch.allclose(logits.grad, torch.full((6, 10), sum(weights)))
    assert all(not value.requires_grad and value == 1 for value in values.values())


def test_a_term_that_needs_a_teacher_has_one(logits):
    with pytest.raises(AssertionError, match="a teacher runs before those that it teaches"):
        teacher_kl(context_of(logits[0]))
