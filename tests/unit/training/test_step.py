"""One optimizer step: which passes run, what their gradients add up to, and that it repeats."""

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from harness.training.step import SupernetPasses, float_passes

from harness.models import create_model
from harness.quant.supernet import convert, describe_network
from harness.run.config import ModelConfig, QuantConfig
from harness.training.losses import distillation_loss
from harness.training.policy_sampler import sample_policy


@pytest.fixture
def supernet():
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1)
    network = describe_network(
        model, name="resnet8", input_size=(1, 8, 8), num_classes=10, config=QuantConfig()
    )
    return convert(model, network).train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 1, 8, 8, generator=generator)
    return images, torch.arange(6)


def passes_of(supernet, num_random_passes):
    return SupernetPasses(
        Accelerator(cpu=True),
        supernet,
        candidates=supernet.network.candidates,
        num_random_passes=num_random_passes,
        seed=3,
        smoothing=0.1,
    )


def gradients(supernet):
    return [p.grad.clone() for p in supernet.parameters()]


def test_gradients_are_the_sum_of_the_max_pass_and_k_random_passes(supernet, batch):
    images, labels = batch
    losses = passes_of(supernet, 2)(images, labels, 5)
    together = gradients(supernet)
    supernet.zero_grad()
    supernet.set_policy(supernet.network.candidates.largest)
    teacher = supernet(images)
    loss = F.cross_entropy(teacher, labels, label_smoothing=0.1)
    torch.testing.assert_close(losses.max_pass_ce, loss.detach())
    for k in range(2):
        candidates = supernet.network.candidates
        supernet.set_policy(sample_policy(candidates, seed=3, step=5, pass_index=k))
        logits = supernet(images)
        ce = F.cross_entropy(logits, labels)
        loss = loss + 0.5 * ce + 0.5 * distillation_loss(logits, teacher.detach())
    loss.backward()
    for ours, expected in zip(together, gradients(supernet), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_every_parameter_gets_a_gradient_in_one_pass(supernet, batch):
    passes_of(supernet, 0)(*batch, 0)
    assert all(p.grad is not None for p in supernet.parameters())


def test_step_is_a_function_of_its_index(supernet, batch):
    first = passes_of(supernet, 2)(*batch, 7).as_floats()
    supernet.zero_grad()
    assert passes_of(supernet, 2)(*batch, 7).as_floats() == first
    assert passes_of(supernet, 2)(*batch, 8).as_floats() != first


def test_float_pass_reports_its_cross_entropy(batch):
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1).train()
    losses = float_passes(Accelerator(cpu=True), model, smoothing=0.0)(*batch, 0)
    torch.testing.assert_close(losses.max_pass_ce, F.cross_entropy(model(batch[0]), batch[1]))
    assert losses.as_floats()["random_kl"] == 0
