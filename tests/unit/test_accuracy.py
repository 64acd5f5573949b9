"""Error counts against a naive loop, whatever is asked beside them."""

import torch

from harness.accuracy import count_wrong, count_wrong_by_policy
from harness.data import eval_batches
from harness.data.images import MemorySplit
from harness.models import create_model
from harness.quant.recalibrate import recalibrated
from harness.quant.supernet import Supernet, convert, describe_network
from harness.run.config import ModelConfig, QuantConfig
from harness.training.policy_sampler import sample_policy


def supernet_and_split() -> tuple[Supernet, MemorySplit]:
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1)
    network = describe_network(
        model, name="resnet8", input_size=(1, 8, 8), num_classes=10, config=QuantConfig()
    )
    split = MemorySplit(
        torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8),
        labels=torch.randint(0, 10, (50,)),
        mean=[0.5], std=[0.5], crop_padding=0, horizontal_flip=False,
    )  # fmt: skip
    return convert(model, network), split


def test_counts_equal_a_naive_loop_and_do_not_depend_on_the_company() -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    policies = [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(3)]
    batches = eval_batches(split, batch_size=20)
    calibration = eval_batches(split, batch_size=16, limit=32)
    for recalibration in (None, calibration):
        together = count_wrong_by_policy(supernet, policies, batches, recalibration=recalibration)
        alone = [
            count_wrong_by_policy(supernet, [policy], batches, recalibration=recalibration)[0]
            for policy in reversed(policies)
        ]
        naive = []
        for policy in policies:
            supernet.set_policy(policy)
            images = [] if recalibration is None else [batch for batch, _ in recalibration]
            with torch.no_grad(), recalibrated(supernet, images):
                wrong = [(supernet(x).argmax(1) != y).sum() for x, y in batches]
            naive.append(int(sum(wrong)))
        assert together == alone[::-1] == naive
        assert all(layer.weight_cache is None for layer in supernet.quantized_layers)
    assert count_wrong_by_policy(supernet, [], batches) == []


def test_count_errors_of_a_plain_model() -> None:
    supernet, split = supernet_and_split()
    batches = eval_batches(split, batch_size=20)
    expected = count_wrong_by_policy(supernet, [supernet.policy], batches)[0]
    assert count_wrong(supernet, batches) == expected


def test_a_callback_follows_each_policy_before_the_next_one() -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    policies = [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(3)]
    batches = eval_batches(split, batch_size=20)
    seen = []
    counts = count_wrong_by_policy(
        supernet, policies, batches, on_policy=lambda: seen.append(supernet.policy)
    )
    assert seen == policies
    assert counts == count_wrong_by_policy(supernet, policies, batches)
