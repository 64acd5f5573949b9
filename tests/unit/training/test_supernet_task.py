"""A supernet's step: which passes run, what their gradients add up to, and that it repeats."""

import json

import pytest
import torch
import torch.nn.functional as F
from supernet_tasks import engine_of, floats, gradients, narrowed, task_of

from harness.errors import ConfigError
from harness.training.losses import PassContext, teacher_kl
from harness.training.policy_sampler import sample_policy
from harness.training.supernet_task import shown_policies


def test_gradients_are_the_sum_of_the_max_pass_and_k_random_passes(batch):
    images, labels = batch
    task = task_of(2)
    losses = task.run_passes(engine_of(task), images, labels, step=5).terms
    together = gradients(task)
    task.model.zero_grad()
    teacher = task.model(images, task.candidates.largest)
    loss = F.cross_entropy(teacher, labels, label_smoothing=0.1)
    torch.testing.assert_close(losses["max_pass_ce"], loss.detach())
    values = []
    for k in range(2):
        policy = sample_policy(task.candidates, seed=3, step=5, pass_index=k)
        logits = task.model(images, policy)
        context = PassContext(logits=logits, labels=labels, teacher_logits=teacher.detach())
        ce, kl = F.cross_entropy(logits, labels), teacher_kl(context)
        values.append((ce, kl))
        loss = loss + 0.5 * ce + 0.5 * kl
    loss.backward()
    for ours, expected in zip(together, gradients(task), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)
    (first_ce, first_kl), (second_ce, second_kl) = values
    torch.testing.assert_close(losses["random_ce"], (first_ce + second_ce).detach() / 2)
    torch.testing.assert_close(losses["random_kl"], (first_kl + second_kl).detach() / 2)


def test_a_step_without_random_passes_has_no_terms_of_them(batch):
    task = task_of(0)
    assert list(task.run_passes(engine_of(task), *batch, step=0).terms) == ["max_pass_ce"]
    assert all(p.grad is not None for p in task.model.parameters())  # In one pass.


def test_a_min_pass_is_one_more_with_the_smallest_candidates(batch, monkeypatch):
    task = task_of(1, "train.min_pass=true")
    task.candidates = narrowed(task.candidates)
    policies = []
    encode = task.model.encode
    monkeypatch.setattr(task.model, "encode", lambda p: (policies.append(p), encode(p))[1])
    task.run_passes(engine_of(task), *batch, step=0)
    assert len(policies) == 3
    assert policies[-1] == task.candidates.smallest


def test_a_step_is_a_function_of_its_index(batch):
    task = task_of(2)
    first = floats(task.run_passes(engine_of(task), *batch, step=7).terms)
    assert floats(task.run_passes(engine_of(task), *batch, step=7).terms) == first
    assert floats(task.run_passes(engine_of(task), *batch, step=8).terms) != first


def test_passes_and_validation_follow_the_present_candidates(batch, monkeypatch):
    task = task_of(2)
    task.candidates = narrowed(task.candidates)
    policies = []
    encode = task.model.encode
    monkeypatch.setattr(task.model, "encode", lambda p: (policies.append(p), encode(p))[1])
    for step in range(5):
        task.run_passes(engine_of(task), *batch, step=step)
    assert policies[0] == task.candidates.largest
    for policy in policies:
        task.candidates.check(policy)
    assert set(task.validate(task.model)) == {"max", "min", "6/6", "5/5", "4/4", "3/3"}


def test_candidates_are_the_state_of_the_task():
    task, other = task_of(0), task_of(0)
    task.candidates = narrowed(task.candidates)
    other.load_state_dict(json.loads(json.dumps(task.state_dict())))
    assert other.candidates == task.candidates != other.model.network.candidates
    old = task_of(0)
    old.load_state_dict({})  # Of a run from before there was a state.
    assert old.candidates == old.model.network.candidates


def test_shown_policies_are_the_ends_and_those_of_equal_bits():
    candidates = task_of(0).candidates
    shown = shown_policies(candidates)
    assert list(shown) == ["max", "min", "6/6", "5/5", "4/4", "3/3", "2/2"]
    assert shown["max"] == candidates.largest
    assert shown["2/2"] == candidates.uniform(weight_bits=2, act_bits=2)


def test_one_image_is_too_few_for_the_first_step_sizes():
    with pytest.raises(ConfigError, match=r"train.calibration_images 1 gives batch normalisation"):
        task_of(2, "train.calibration_images=1").calibrate()
