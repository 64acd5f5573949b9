"""Where in a pass numbers first are none: images, a layer, its weights, or the loss alone."""

import math
from functools import partial

import pytest
import torch
from supernet_tasks import engine_of, task_of
from timm.layers import BatchNormAct2d
from torch import nn

from harness.training.look_back import look_back, worst_sight


def looked_back(task, images, *, pass_index=0, is_loss_finite=False):
    passes = task.passes(engine_of(task), step=5)[: pass_index + 1]
    return look_back(task.model, images, passes, is_loss_finite=is_loss_finite)


@pytest.fixture
def task():
    return task_of(2, "train.min_pass=true")


def test_passes_are_named_with_their_policies(task, batch):
    passes = task.passes(engine_of(task), step=5)
    names = [name for name, _ in passes]
    assert names[0] == "the max pass (policy 6/6)"
    assert names[2].startswith("the random pass 2 of 2 (policy 8/8 ")
    assert names[3] == "the min pass (policy 2/2)"
    images, _ = batch
    logits = task.model(images, task.candidates.smallest)
    torch.testing.assert_close(passes[3][1](images), logits)


def test_images_are_named_before_all_that_they_spoil(task, batch):
    images = batch[0].clone()
    images[3, 0, 2, 2] = math.inf
    assert looked_back(task, images) == "first in the images"


def test_the_first_layer_in_order_of_execution_is_named_with_its_weights(task, batch):
    for name in ("stages.2.0.conv1", "stages.1.0.downsample.0"):
        task.model.get_parameter(f"model.{name}.weight").data[0, 0] = math.nan
    found = looked_back(task, batch[0])
    # A block computes its shortcut last or first, but always before the next block.
    assert found.startswith(
        "first in the output of layer stages.1.0.downsample.0, where stages.1.0"
    )
    assert found.endswith("downsample.0.weight holds 1 of 512 values that are no finite numbers")


def test_a_layer_whose_values_overflow_is_named_without_weights(task, batch):
    layer = task.model.model.get_submodule("stages.1.0.bn1")
    layer.weight.data.fill_(1e38)
    assert looked_back(task, batch[0]) == "first in the output of layer stages.1.0.bn1"


def test_only_the_last_pass_is_looked_at(task, batch):
    largest = task.model.model.get_submodule("stages.1.0.bn1").pairs.index((6, 6))
    task.model.get_parameter("model.stages.1.0.bn1.weight").data[largest] = math.nan
    assert looked_back(task, batch[0]).startswith("first in the output of layer stages.1.0.bn1, ")
    assert "values are all finite" in looked_back(task, batch[0], pass_index=3)


def test_finite_layers_leave_the_loss(task, batch):
    task.model.get_parameter("model.fc.bias").data[0] = 3e38
    words = "whose layers' values are all finite, the largest 3e+38 in the output of layer fc"
    assert looked_back(task, batch[0]) == f"{words}: it began in the loss itself"
    assert looked_back(task, batch[0], is_loss_finite=True) == words


def test_no_hook_is_left_and_no_gradient(task, batch):
    looked_back(task, batch[0])
    assert not any(module._forward_hooks for module in task.model.modules())
    assert all(parameter.grad is None for parameter in task.model.parameters())


def test_a_float_network_is_looked_at_by_its_own_modules(batch):
    norm = BatchNormAct2d(3)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.Flatten(), nn.Linear(108, 4))
    norm.bias.data[1] = math.inf
    sight = worst_sight(network, batch[0], network)
    assert sight.where == "the output of layer 1, where 1.bias holds 1 of 3 values that are no " \
        "finite numbers"  # fmt: skip
    assert sight.is_bad


def test_a_compiled_network_is_looked_at_too(task, batch):
    supernet, images = task.model.eval(), batch[0]
    supernet.get_parameter("model.fc.weight").data[0, 0] = math.nan
    (inputs,) = supernet.encode_as_tensors([task.candidates.largest])
    compiled = torch.compile(supernet, backend="eager")
    with torch.no_grad():
        compiled(images, inputs)  # Compiled before there are hooks.
    run = partial(compiled, policy=inputs)
    found = look_back(supernet, images, [("the pass", run)], is_loss_finite=False)
    assert found.startswith("first in the output of layer fc, where fc.weight holds 1 of 640")
