"""What each remedy changes of a supernet's training, and that it leaves nothing changed behind."""

import pytest
import torch
from supernet_tasks import engine_of, task_of

from benchmarks import ablation
from benchmarks.remedies import REMEDIES, step_rates_by_bits
from harness.quant.fake_quantize import quantize_at_level
from harness.run.train_config import TrainConfig
from harness.training import assemble


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 8, 8, generator=generator), torch.arange(6)


@pytest.mark.parametrize("label", REMEDIES)
def test_a_step_learns_under_it_and_the_next_one_is_the_plain_again(label, batch):
    def gradients(*settings):
        task = task_of(2, *settings)
        task.run_passes(engine_of(task), *batch, step=0, progress=0.9)
        return {name: one.grad for name, one in task.model.named_parameters()}

    settings, _ = REMEDIES[label]
    before = gradients()
    with ablation.under(label):
        changed = gradients(*settings)
    after = gradients()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(one is None or one.isfinite().all() for one in changed.values())
    # Rates change what the optimizer does with the same gradients.
    same = changed.keys() == before.keys() and all(
        torch.equal(changed[name], before[name]) for name in before
    )
    assert same == (label == "step rates by bits")


def test_step_sizes_of_few_bits_move_further():
    moved = []
    for is_changed in (False, True):
        task = task_of(1)
        layer = task.model.layers[2]
        steps = layer.weight_quantizer.step_size
        steps.data.fill_(1.0)
        with step_rates_by_bits() if is_changed else ablation.under("plain"):
            optimizer = assemble.create_optimizer(task.model, TrainConfig())
            for one in task.model.parameters():
                one.grad = torch.ones_like(one)
            optimizer.step()
        moved.append(1.0 - steps.detach())
    bits = torch.tensor(task.model.layers[2].weight_quantizer.candidates)
    torch.testing.assert_close(moved[1] / moved[0], 2.0 ** (6 - bits), rtol=1e-3, atol=1e-3)


def weight_under(label, bits):
    task = task_of(1)
    layer = task.model.layers[2]
    level = layer.weight_quantizer.level(bits)
    plain = layer.quantized_weight(level).detach()
    with ablation.under(label):
        return layer, plain, layer.quantized_weight(level).detach()


def test_one_norm_keeps_mean_and_deviation_of_every_filter():
    layer, plain, found = weight_under("one norm", 2)
    weight = layer.weight.detach().flatten(1)
    assert not torch.allclose(plain.flatten(1).std(1), weight.std(1), rtol=1e-2)
    torch.testing.assert_close(found.flatten(1).mean(1), weight.mean(1), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.flatten(1).std(1), weight.std(1), rtol=1e-3, atol=1e-6)
    with ablation.under("one norm"):
        assert layer.row(2, 3, norm=7).norm == 0


def test_nested_weights_are_the_high_bits_of_the_largest():
    layer, plain, found = weight_under("nested weights", 3)
    most = layer.quantized_weight(layer.weight_quantizer.level(6)).detach()
    step = layer.weight_quantizer.step_size_of(6).detach()
    codes = (most / (8 * step)).round().clamp(-4, 3)
    torch.testing.assert_close(found, codes * step * 8)
    assert not torch.equal(found, plain)


def test_every_filter_has_a_step_size_of_its_own():
    layer, _, found = weight_under("steps by channel", 4)
    largest = layer.weight.detach().abs().amax((1, 2, 3))
    step = layer.weight_quantizer.step_size_of(4).detach()
    for weight, own, size in zip(layer.weight.detach(), found, largest, strict=True):
        share = size / largest.max()
        level = layer.weight_quantizer.level(4)._replace(position=0)
        steps = (step * share).reshape(1)
        expected = quantize_at_level(weight, steps, level, gradient_scale=1.0)
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-6)
