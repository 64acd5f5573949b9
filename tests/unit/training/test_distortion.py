"""Information distortion mitigation: which features are kept, compared, and what that teaches."""

import pytest
import torch
import torch.nn.functional as F
from supernet_tasks import engine_of, floats, gradients, narrowed, task_of

from harness.problem.policy import Policy
from harness.run.config import TrainConfig
from harness.training.distortion import FeatureDistortion, layers_at_fewest_bits
from harness.training.losses import PassContext, evaluate_terms, random_pass_terms
from harness.training.policy_sampler import sample_policy
from harness.training.supernet_task import KEPT_MEGABYTES

WEIGHT = 0.5


@pytest.fixture
def task():
    return task_of(2, f"train.distortion_weight={WEIGHT}")


def features_by_hooks(task, images, policy):
    """Return what the norm behind each layer computes before its activation, by layer index."""
    found = {}
    names = {layer.name: index for index, layer in enumerate(task.model.network.layers)}
    hooks = []
    for path, layer in zip(task.model.norm_paths, task.model._norm_layers, strict=True):
        if layer is None:
            continue
        norm = task.model.model.get_submodule(path)
        assert 0 <= layer < len(names)

        def keep(module, given, _, layer=layer):
            x, row = given[:2]
            copies = module.weight[row.norm], module.bias[row.norm]
            found[layer] = F.batch_norm(x, None, None, *copies, training=True, eps=module.eps)

        hooks.append(norm.register_forward_hook(keep))
    logits = task.model(images, policy)
    for hook in hooks:
        hook.remove()
    return logits, found


# Of timm's, the first adds in place to what a norm computes, both activate in place.
@pytest.mark.parametrize("model", ["resnet8", "resnet18", "mobilenetv2_100"])
def test_gradients_hold_the_distortion_of_the_layers_at_their_fewest_bits(model, batch):
    task = task_of(2, f"train.distortion_weight={WEIGHT}", f"model.name={model}")
    images, labels = batch
    losses = task.run_passes(engine_of(task), images, labels, step=5).terms
    together = gradients(task)
    task.model.zero_grad()
    teacher, expected = features_by_hooks(task, images, task.candidates.largest)
    loss = F.cross_entropy(teacher, labels, label_smoothing=0.1)
    sums, num_compared = [], 0
    for k in range(2):
        policy = sample_policy(task.candidates, seed=3, step=5, pass_index=k)
        logits, found = features_by_hooks(task, images, policy)
        layers = [one for one in layers_at_fewest_bits(policy, task.candidates) if one in found]
        num_compared += len(layers)
        errors = [F.mse_loss(found[one], expected[one].detach()) for one in layers]
        sums.append(sum(errors, start=torch.zeros(())))
        context = PassContext(logits=logits, labels=labels, teacher_logits=teacher.detach())
        loss = loss + evaluate_terms(random_pass_terms(TrainConfig(), progress=0), context)[0]
        loss = loss + WEIGHT * sums[-1]
    assert num_compared >= 2
    loss.backward()
    apart = gradients(task)
    # Fifty layers deep, gradients are sums of much larger parts.
    largest = max(one.abs().max().item() for one in apart)
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * max(largest, 1.0))
    torch.testing.assert_close(losses["random_distortion"], (sums[0] + sums[1]).detach() / 2)
    assert losses[KEPT_MEGABYTES] > 0


def test_only_features_that_a_random_pass_needs_are_kept(task, batch):
    images, _ = batch
    layers = sorted(task.model.normalised_layers)[:2]
    distortion = FeatureDistortion(layers, max_bytes=2**30)
    task.model(images, distortion.keeping(task.model.encode(task.candidates.largest)))
    inputs = task.model.encode(task.candidates.smallest)
    every = sorted(task.model.normalised_layers)
    inputs, errors = distortion.compared(inputs, every)
    task.model(images, inputs)
    assert len(errors) == len(layers)
    # Beside themselves there is nothing between them.
    inputs, errors = distortion.compared(task.model.encode(task.candidates.largest), every)
    task.model(images, inputs)
    assert {layer: error.item() for layer, error in errors.items()} == dict.fromkeys(layers, 0.0)


def test_fewest_bits_are_those_of_the_present_candidates(task):
    network = task.candidates
    assert layers_at_fewest_bits(network.largest, network) == []
    free = [index for index, layer in enumerate(network.layers) if not layer.is_pinned]
    assert layers_at_fewest_bits(network.smallest, network) == free
    present = narrowed(network)
    assert layers_at_fewest_bits(present.smallest, present) == free
    assert layers_at_fewest_bits(Policy(present.smallest.bits), network) == []


def test_memory_is_bounded_and_what_is_left_out_is_said_once(batch, caplog):
    task = task_of(2, f"train.distortion_weight={WEIGHT}", "train.distortion_max_bytes=10000")
    engine = engine_of(task)
    for step in range(3):
        losses = task.run_passes(engine, *batch, step=step).terms
        assert losses[KEPT_MEGABYTES] * 2**20 <= 10000
    assert caplog.text.count("do not fit into train.distortion_max_bytes 10000") == 1


def test_without_weight_a_step_is_what_it_was(batch):
    off, on = task_of(2), task_of(2, "train.distortion_weight=1e-30")
    without = floats(off.run_passes(engine_of(off), *batch, step=5).terms)
    with_it = floats(on.run_passes(engine_of(on), *batch, step=5).terms)
    assert with_it.keys() - without.keys() == {"random_distortion", KEPT_MEGABYTES}
    assert without.items() <= with_it.items()
    for one, other in zip(gradients(off), gradients(on), strict=True):
        assert torch.equal(one, other)
