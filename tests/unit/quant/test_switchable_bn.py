"""Switchable BN against BatchNorm2d, and the re-estimation of its statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn

from harness.models import create_model
from harness.quant.recalibrate import recalibrated
from harness.quant.supernet import Supernet, convert, describe_network
from harness.quant.switchable_bn import SwitchableBatchNorm2d, batch_norms, statistics
from harness.run.config import ModelConfig, QuantConfig

PAIRS = [(4, 4), (4, 2), (2, 4), (2, 2)]


def trained_norm() -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5)
    return norm


@pytest.mark.parametrize("training", [True, False])
def test_selected_copy_equals_batch_norm_and_others_stay(training: bool) -> None:
    plain = trained_norm().train(training)
    switchable = SwitchableBatchNorm2d(plain, PAIRS).train(training)
    start = {key: value.clone() for key, value in switchable.state_dict().items()}
    switchable.select(2, 4)
    images = torch.randn(3, 5, 4, 4)
    expected, found = plain(images), switchable(images)
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    for name in ("weight", "bias"):
        gradient = getattr(switchable, name).grad
        torch.testing.assert_close(gradient[2], getattr(plain, name).grad)
        assert not gradient[[0, 1, 3]].any()
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(switchable, name)[2], getattr(plain, name))
        assert torch.equal(getattr(switchable, name)[[0, 1, 3]], start[name][[0, 1, 3]])


def test_a_norm_without_statistics_has_no_copies() -> None:
    with pytest.raises(ValueError, match="without affine parameters or statistics"):
        SwitchableBatchNorm2d(nn.BatchNorm2d(3, track_running_stats=False), PAIRS)


@pytest.fixture
def supernet() -> Supernet:
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=3)
    network = describe_network(
        model,
        name="resnet8",
        input_size=(3, 8, 8),
        num_classes=10,
        config=QuantConfig(weight_candidates=(4, 2), act_candidates=(4, 2)),
    )
    return convert(model, network).eval()


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 8, 8, generator=generator) for size in (6, 6, 3)]


def test_recalibrated_restores_exactly(supernet: Supernet) -> None:
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    momenta = [norm.momentum for norm in batch_norms(supernet)]
    with recalibrated(supernet, batches()):
        changed = [k for k, v in supernet.state_dict().items() if not torch.equal(v, before[k])]
        assert changed
        assert all("running_" in key for key in changed)
        assert not any(norm.training for norm in batch_norms(supernet))
    assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())
    assert [norm.momentum for norm in batch_norms(supernet)] == momenta


def test_recalibrated_restores_after_an_error(supernet: Supernet) -> None:
    before = copy.deepcopy(supernet.state_dict())
    with pytest.raises(RuntimeError, match="stop"), recalibrated(supernet, batches()):
        raise RuntimeError("stop")
    assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())


def test_reestimated_statistics_are_the_average_over_batches(supernet: Supernet) -> None:
    supernet.set_policy(supernet.network.candidates.smallest)
    sizes = torch.tensor([float(len(batch)) for batch in batches()])
    stem = supernet.quantized_layers[0]
    with torch.no_grad():
        outputs = [stem(batch) for batch in batches()]
    means = torch.stack([output.mean(dim=(0, 2, 3)) for output in outputs])
    variances = torch.stack([output.var(dim=(0, 2, 3), unbiased=True) for output in outputs])
    shares = (sizes / sizes.sum())[:, None]
    with recalibrated(supernet, batches()):
        mean, var = statistics(supernet.model.bn1)
        torch.testing.assert_close(mean, (shares * means).sum(dim=0))
        torch.testing.assert_close(var, (shares * variances).sum(dim=0))


def test_no_images_leave_the_trained_statistics(supernet: Supernet) -> None:
    before = copy.deepcopy(supernet.state_dict())
    with recalibrated(supernet, []):
        assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())


def test_a_last_batch_of_one_image_is_left_out(supernet: Supernet) -> None:
    whole = batches()
    with recalibrated(supernet, whole):
        expected = [value.clone() for value in statistics(supernet.model.bn1)]
    with recalibrated(supernet, [*whole, whole[0][:1]]):
        torch.testing.assert_close(list(statistics(supernet.model.bn1)), expected, rtol=0, atol=0)
