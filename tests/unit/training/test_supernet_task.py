"""A supernet's step: which passes run, what their gradients add up to, and that it repeats."""

import json

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from harness.data import load_splits
from harness.problem.candidates import Candidates, LayerCandidates
from harness.run.config import TrainConfig, load_config
from harness.training.assemble import create_task
from harness.training.engine import Engine
from harness.training.losses import PassContext, teacher_kl
from harness.training.optim import create_optimizer
from harness.training.policy_sampler import sample_policy
from harness.training.supernet_task import SupernetTask, shown_policies


def task_of(num_random_passes, *overrides):
    config = load_config(
        None,
        overrides=[
            "seed=3",
            "train.label_smoothing=0.1",
            f"train.num_random_passes={num_random_passes}",
            "data.search_images=20",
            "data.train_images=30",
            "eval.recalibrate_images=10",
            *overrides,
        ],
    )
    splits = load_splits(config.data, seed=config.seed)
    task = create_task(config, splits, Accelerator(cpu=True))
    assert isinstance(task, SupernetTask)
    task.model.train()
    return task


def engine_of(task):
    optimizer = create_optimizer(task.model, TrainConfig())
    return Engine(Accelerator(cpu=True), task.model, optimizer)


def gradients(task):
    return [p.grad.clone() for p in task.model.parameters()]


def floats(losses):
    return {name: float(value) for name, value in losses.items()}


def narrowed(candidates):
    """Return the candidates without the smallest of every layer that is not pinned."""
    return Candidates(
        tuple(
            layer
            if layer.is_pinned
            else LayerCandidates(name=layer.name, weight=layer.weight[:-1], act=layer.act[:-1])
            for layer in candidates.layers
        )
    )


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
