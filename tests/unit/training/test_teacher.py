"""An external teacher: who teaches what, and that it is no part of the run."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from supernet_tasks import engine_of, floats, gradients, task_of

from harness.errors import ConfigError, ModelError
from harness.models import create_model
from harness.run.config import ModelConfig, load_config
from harness.training.losses import PassContext, teacher_kl
from harness.training.policy_sampler import sample_policy


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
    for name, value in float_network.state_dict().items():
        assert torch.equal(value, kept[name])


def test_mistakes_are_refused(weights, tmp_path):
    with pytest.raises(ConfigError, match=r"teacher_weights .* need train.teacher"):
        load_config(None, overrides=[f"train.teacher_weights={weights}"])
    with pytest.raises(ModelError, match="resnet9"):
        task_of(1, "train.teacher=resnet9", f"train.teacher_weights={weights}")
    with pytest.raises(
        ModelError,
        match=r"cannot be read: no such file or directory; check train\.teacher_weights",
    ):
        task_of(1, "train.teacher=resnet8", f"train.teacher_weights={tmp_path / 'gone'}")
    with pytest.raises(ModelError, match="do not fit the model"):
        task_of(1, "train.teacher=resnet20", f"train.teacher_weights={weights}")
