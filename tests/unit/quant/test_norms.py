"""Switchable BN against BatchNorm2d, and the re-estimation of its statistics."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models import create_model
from harness.quant.convert import convert, describe_network
from harness.quant.layers import LayerRow
from harness.quant.norms import SharedBatchNorm, Statistics, SwitchableBatchNorm2d
from harness.quant.recalibrate import with_reestimated_statistics
from harness.quant.supernet import Supernet
from harness.run.config import ModelConfig, QuantConfig

PAIRS = [(4, 4), (4, 2), (2, 4), (2, 2)]


def trained_norm() -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5)
    return norm


def row(copy_index: int | Tensor) -> LayerRow:
    return LayerRow(weight=None, act=None, norm=copy_index)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("copy_index", [2, torch.tensor(2)])
def test_the_copy_of_a_row_equals_batch_norm_and_others_stay(
    training: bool, copy_index: int | Tensor
) -> None:
    plain = trained_norm().train(training)
    switchable = SwitchableBatchNorm2d(plain, PAIRS).train(training)
    start = {key: value.clone() for key, value in switchable.state_dict().items()}
    images = torch.randn(3, 5, 4, 4)
    expected, found = plain(images), switchable(images, row(copy_index))
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


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
def test_a_shared_norm_equals_batch_norm_under_its_names(
    training: bool, momentum: float | None
) -> None:
    plain = trained_norm().train(training)
    plain.momentum = momentum
    shared = SharedBatchNorm(copy.deepcopy(plain))
    assert shared.state_dict().keys() == plain.state_dict().keys()
    for seed in range(3):
        images = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(shared(images), plain(images))
    for name, value in plain.state_dict().items():
        assert torch.equal(shared.state_dict()[name], value)


@pytest.mark.parametrize("training", [True, False])
def test_given_statistics_stand_in_and_the_norm_stays_as_it_is(training: bool) -> None:
    images = torch.randn(3, 5, 4, 4)
    mean, var = torch.rand(5), torch.rand(5) + 1
    for norm, rest in (
        (SwitchableBatchNorm2d(trained_norm(), PAIRS), (row(1),)),
        (SharedBatchNorm(trained_norm()), ()),
    ):
        norm.train(training)
        before = copy.deepcopy(norm.state_dict())
        weight, bias = (t[1] if t.ndim > 1 else t for t in (norm.weight, norm.bias))
        expected = F.batch_norm(images, mean, var, weight, bias, eps=norm.eps)
        assert torch.equal(norm(images, *rest, Statistics(mean, var)), expected)
        moving = Statistics(mean.clone(), var.clone(), momentum=1.0)
        expected = F.batch_norm(images, None, None, weight, bias, training=True, eps=norm.eps)
        assert torch.equal(norm(images, *rest, moving), expected)
        torch.testing.assert_close(moving.mean, images.mean(dim=(0, 2, 3)))
        assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


def test_a_norm_without_statistics_has_no_copies() -> None:
    with pytest.raises(ValueError, match="without affine parameters or statistics"):
        SwitchableBatchNorm2d(nn.BatchNorm2d(3, track_running_stats=False), PAIRS)
    with pytest.raises(ValueError, match="without statistics has none to take over"):
        SharedBatchNorm(nn.BatchNorm2d(3, track_running_stats=False))


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


def reestimated(supernet: Supernet, images: list[Tensor]) -> list[Statistics]:
    """Return the statistics of the smallest policy, the stem's first."""
    inputs = supernet.encode(supernet.network.candidates.smallest)
    (own,) = with_reestimated_statistics(supernet, [inputs], images)
    return list(own.statistics)


def test_reestimation_leaves_the_supernet_as_it_is(supernet: Supernet) -> None:
    before = copy.deepcopy(supernet.state_dict())
    policies = [supernet.network.candidates.smallest, supernet.network.candidates.largest]
    inputs = [supernet.encode(policy) for policy in policies]
    together = with_reestimated_statistics(supernet, inputs, batches())
    assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())
    assert not any(module.training for module in supernet.modules())
    for one, both in zip(inputs, together, strict=True):
        (alone,) = with_reestimated_statistics(supernet, [one], batches())
        for mine, other in zip(alone.statistics, both.statistics, strict=True):
            assert torch.equal(mine.mean, other.mean)
            assert torch.equal(mine.var, other.var)


def test_reestimated_statistics_are_the_average_over_batches(supernet: Supernet) -> None:
    inputs = supernet.encode(supernet.network.candidates.smallest)
    sizes = torch.tensor([float(len(batch)) for batch in batches()])
    stem = supernet.quantized_layers[0]
    with torch.no_grad():
        outputs = [stem(batch, inputs.rows[0]) for batch in batches()]
    means = torch.stack([output.mean(dim=(0, 2, 3)) for output in outputs])
    variances = torch.stack([output.var(dim=(0, 2, 3), unbiased=True) for output in outputs])
    shares = (sizes / sizes.sum())[:, None]
    mean, var, _ = reestimated(supernet, batches())[0]
    torch.testing.assert_close(mean, (shares * means).sum(dim=0))
    torch.testing.assert_close(var, (shares * variances).sum(dim=0))


def test_no_images_leave_the_trained_statistics(supernet: Supernet) -> None:
    inputs = supernet.encode(supernet.network.candidates.smallest)
    for found, own in zip(reestimated(supernet, []), supernet.statistics(inputs), strict=True):
        assert torch.equal(found.mean, own.mean)
        assert torch.equal(found.var, own.var)


def test_a_last_batch_of_one_image_is_left_out(supernet: Supernet) -> None:
    whole = batches()
    with_one = reestimated(supernet, [*whole, whole[0][:1]])
    for found, expected in zip(with_one, reestimated(supernet, whole), strict=True):
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.var, expected.var)
