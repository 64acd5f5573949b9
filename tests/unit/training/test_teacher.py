"""An external teacher: who teaches what, and that it is no part of the run."""

from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from supernet_tasks import engine_of, floats, gradients, task_of
from timm.models import _registry
from torch import nn

from harness.errors import CheckpointError, ConfigError, ModelError
from harness.models import create_model
from harness.run.config import ModelConfig, load_config
from harness.training.losses import PassContext, teacher_kl
from harness.training.policy_sampler import sample_policy
from harness.training.teacher import Teacher


@pytest.fixture
def float_network():
    torch.manual_seed(9)
    return create_model(ModelConfig(name="resnet8"), num_classes=10, in_channels=1)


@pytest.fixture
def weights(float_network, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_file(float_network.state_dict(), path)
    return path


def test_every_pass_is_taught_by_it(batch, float_network, weights):
    images, labels = batch
    task = task_of(1, "train.teacher=resnet8", f"train.teacher_weights={weights}")
    losses = task.run_passes(engine_of(task), images, labels, step=5).terms
    together = gradients(task)
    task.model.zero_grad()
    teacher = float_network.eval()(images).detach()
    logits = task.model(images, task.candidates.largest)
    context = PassContext(logits=logits, labels=labels, teacher_logits=teacher)
    loss = 0.5 * F.cross_entropy(logits, labels, label_smoothing=0.1) + 0.5 * teacher_kl(context)
    torch.testing.assert_close(losses["max_pass_kl"], teacher_kl(context).detach())
    policy = sample_policy(task.candidates, seed=3, step=5, pass_index=0)
    logits = task.model(images, policy)
    context = PassContext(logits=logits, labels=labels, teacher_logits=teacher)
    loss = loss + 0.5 * F.cross_entropy(logits, labels) + 0.5 * teacher_kl(context)
    torch.testing.assert_close(losses["random_kl"], teacher_kl(context).detach())
    loss.backward()
    for ours, expected in zip(together, gradients(task), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_it_is_no_part_of_the_model_and_stands_still(batch, float_network, weights):
    task = task_of(1, "train.teacher=resnet8", f"train.teacher_weights={weights}")
    assert task.model.state_dict().keys() == task_of(1).model.state_dict().keys()
    first = task.run_passes(engine_of(task), *batch, step=5).terms
    assert floats(task.run_passes(engine_of(task), *batch, step=5).terms) == floats(first)
    kept = task._teacher._model.state_dict()
    assert kept.keys() == float_network.state_dict().keys()
    for name, value in float_network.state_dict().items():
        assert torch.equal(value, kept[name])


def refusal(*overrides):
    """Return the line that refuses a task."""
    with pytest.raises(ModelError) as refused:
        task_of(1, *overrides)
    line = str(refused.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


def test_mistakes_are_refused(weights, tmp_path):
    with pytest.raises(ConfigError, match=r"teacher_weights .* need train.teacher"):
        load_config(None, overrides=[f"train.teacher_weights={weights}"])
    line = refusal("train.teacher=resnet9", f"train.teacher_weights={weights}")
    assert line.startswith("train.teacher resnet9 is neither built in nor in timm; did you mean")
    gone = tmp_path / "gone"
    assert refusal("train.teacher=resnet8", f"train.teacher_weights={gone}") == (
        f"weights {gone} cannot be read: no such file or directory; check train.teacher_weights"
    )
    line = refusal("train.teacher=resnet20", f"train.teacher_weights={weights}")
    assert line.startswith(f"weights {weights} do not fit the model: Missing key(s) in state_dict:")
    assert line.endswith(" more; check train.teacher_weights")


def test_a_built_in_teacher_needs_weights():
    assert refusal("train.teacher=resnet8") == (
        "train.teacher resnet8 has no pretrained weights; give train.teacher_weights, a float run "
        "on these images"
    )


@pytest.fixture
def pretrained(monkeypatch):
    """Give timm's resnet10t pretrained weights of so many classes, without a download."""

    def give(num_classes):
        name = "resnet10t.c3_in1k"
        torch.manual_seed(2)
        network = timm.create_model(name, num_classes=num_classes)
        facts = replace(
            timm.get_pretrained_cfg(name),
            num_classes=num_classes,
            state_dict=network.state_dict(),
        )
        for one in (name, "resnet10t"):
            monkeypatch.setitem(_registry._model_pretrained_cfgs, one, facts)
        return network

    return give


@pytest.mark.parametrize("name", ["resnet10t", "resnet10t.c3_in1k"])
def test_pretrained_weights_of_other_classes_are_refused(pretrained, name):
    pretrained(12)
    assert refusal(f"train.teacher={name}") == (
        f"the pretrained weights of train.teacher {name} know 12 classes, the images have 10; give "
        "train.teacher_weights, a float run on these images"
    )


def test_pretrained_weights_of_as_many_classes_teach(pretrained):
    head = pretrained(10).fc.weight
    taught = task_of(1, "train.teacher=resnet10t")._teacher._model
    assert torch.equal(taught.fc.weight, head)


def test_pretrained_weights_that_cannot_be_had_are_refused_by_the_settings_to_change(
    pretrained, monkeypatch
):
    pretrained(10)

    def offline(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr(timm, "create_model", offline)
    assert refusal("train.teacher=resnet10t") == (
        "train.teacher resnet10t cannot be created (no connection); check the name, or the "
        "connection if train.teacher_weights is not given"
    )


def test_a_teacher_that_takes_no_such_images_is_refused(tmp_path):
    name = "vit_tiny_patch16_224"
    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model(name, num_classes=10, in_chans=1).state_dict(), path)
    line = refusal(f"train.teacher={name}", f"train.teacher_weights={path}")
    assert line == (
        f"train.teacher {name} cannot be run on images of 1 x 8 x 8 (Input height (8) doesn't "
        "match model (224)); give another teacher, or set data.image_size to what it takes"
    )


def test_a_teacher_whose_logits_are_no_numbers_is_refused(float_network, tmp_path):
    path = tmp_path / "large.safetensors"
    state = float_network.state_dict()
    state["fc.weight"] = state["fc.weight"] * 1e38
    state["conv1.weight"] = state["conv1.weight"] * 1e20
    state["bn1.running_var"] = state["bn1.running_var"] * 1e-10
    save_file(state, path)
    assert refusal("train.teacher=resnet8", f"train.teacher_weights={path}") == (
        "the logits of train.teacher resnet8 are no finite numbers on the first training image; "
        "give other train.teacher_weights"
    )


@pytest.mark.parametrize("wrong", [nn.Flatten(), nn.Conv2d(1, 10, 3)])
def test_a_teacher_without_a_logit_for_each_class_is_refused(weights, monkeypatch, wrong):
    monkeypatch.setattr("harness.training.teacher.build_float_network", lambda *_, **__: wrong)
    line = refusal("train.teacher=resnet8", f"train.teacher_weights={weights}")
    assert line.startswith("train.teacher resnet8 gives ")
    assert line.endswith(
        " for an image of 10 classes, not logits of shape (1, 10); give another teacher"
    )


def test_a_task_knows_its_teacher_again(float_network, weights):
    taught = ("train.teacher=resnet8", f"train.teacher_weights={weights}")
    state = task_of(1, *taught).state_dict()
    task_of(1, *taught).load_state_dict(state)
    other = {**float_network.state_dict(), "fc.bias": float_network.fc.bias + 1}
    save_file(other, weights)
    task = task_of(1, *taught)
    message = (
        rf"^the weights at train.teacher_weights {weights} are not those that taught the run until "
        r"here \([0-9a-f]{16} there, [0-9a-f]{16} here\); restore them, or train a new run$"
    )
    with pytest.raises(CheckpointError, match=message):
        task.load_state_dict(state)
    # Of a checkpoint from before digests were kept.
    task.load_state_dict({"candidates": state["candidates"]})


def test_a_task_knows_its_pretrained_teacher_again(pretrained):
    pretrained(10)
    state = task_of(1, "train.teacher=resnet10t").state_dict()
    network = pretrained(10)
    nn.init.zeros_(network.fc.weight)
    task = task_of(1, "train.teacher=resnet10t")
    with pytest.raises(CheckpointError, match=r"^the pretrained weights of train.teacher resnet10"):
        task.load_state_dict(state)


def test_a_task_without_a_teacher_keeps_none(float_network):
    assert task_of(1).state_dict().keys() == {"candidates"}


@pytest.fixture
def in_bfloat16():
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state()


def test_it_runs_in_the_precision_of_the_run_and_channels_last(batch, float_network, in_bfloat16):
    seen = []
    float_network.fc.register_forward_hook(lambda *values: seen.append(values[-1].dtype))
    teacher = Teacher(float_network, in_bfloat16)
    logits = teacher(batch[0])
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32  # As passes return theirs.
    assert float_network.conv1.weight.dtype == torch.float32
    kernel = float_network.stages[0][0].conv1.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
