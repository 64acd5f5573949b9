"""Error counts against a naive loop, whatever is asked beside them."""

import math

import pytest
import torch

from harness import accuracy
from harness.accuracy import count_wrong, count_wrong_by_policy
from harness.data import Batch, eval_batches
from harness.data.images import MemorySplit
from harness.errors import NotFiniteError
from harness.models import create_model
from harness.problem.policy import Policy
from harness.quant.convert import convert, describe_network
from harness.quant.recalibrate import with_reestimated_statistics
from harness.quant.supernet import Supernet
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
            images = [] if recalibration is None else [batch for batch, _ in recalibration]
            (inputs,) = with_reestimated_statistics(supernet, [supernet.encode(policy)], images)
            with torch.no_grad():
                wrong = [(supernet(x, inputs).argmax(1) != y).sum() for x, y in batches]
            naive.append(int(sum(wrong)))
        assert together == alone[::-1] == naive
    assert count_wrong_by_policy(supernet, [], batches) == []


def test_more_policies_than_take_turns_at_once_are_counted_alike(monkeypatch) -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    policies = [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(5)]
    batches = eval_batches(split, batch_size=20)
    expected = count_wrong_by_policy(supernet, policies, batches, recalibration=batches)
    monkeypatch.setattr(accuracy, "MAX_POLICIES", 2)
    assert count_wrong_by_policy(supernet, policies, batches, recalibration=batches) == expected


def test_count_wrong_of_a_plain_model() -> None:
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1).eval()
    _, split = supernet_and_split()
    batches = eval_batches(split, batch_size=20)
    with torch.no_grad():
        expected = sum(int((model(x).argmax(1) != y).sum()) for x, y in batches)
    assert count_wrong(model, batches) == expected


def test_progress_follows_each_batch_and_adds_up_to_the_policies() -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    policies = [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(3)]
    batches, calibration = eval_batches(split, batch_size=20), eval_batches(split, batch_size=30)
    amounts: list[float] = []
    count_wrong_by_policy(
        supernet, policies, batches, recalibration=calibration, on_progress=amounts.append
    )
    assert len(amounts) == len(batches) + len(calibration)
    assert sum(amounts) == pytest.approx(3)


def test_every_batch_is_read_once_for_all_policies(monkeypatch) -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    policies = [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(7)]
    reads: list[int] = []
    read = MemorySplit.read

    def noted(self: MemorySplit, rows: range) -> Batch:
        reads.extend(rows)
        return read(self, rows)

    monkeypatch.setattr(MemorySplit, "read", noted)
    count_wrong_by_policy(supernet, policies, eval_batches(split, batch_size=20))
    assert sorted(reads) == list(range(50))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_none_are_refused_by_policy(value) -> None:
    supernet, split = supernet_and_split()
    candidates = supernet.network.candidates
    four = candidates.uniform(weight_bits=4, act_bits=4)
    mixed = Policy([*four.bits[:4], (2, 6), *four.bits[5:]])
    batches = eval_batches(split, batch_size=20)
    with torch.no_grad():  # At 4 bits alone.
        supernet.model.get_submodule("stages.1.0.conv1").weight_quantizer.set_step_size(4, value)
    three = candidates.uniform(weight_bits=3, act_bits=3)
    assert len(count_wrong_by_policy(supernet, [three], batches)) == 1
    message = (
        r"the logits of policy 4/4 are no finite numbers on 50 images, so they name no class; train"
    )
    with pytest.raises(NotFiniteError, match=message):
        count_wrong_by_policy(supernet, [three, four], batches)
    with pytest.raises(
        NotFiniteError, match=r"the logits of policy 8/8 4/4 4/4 4/4 2/6 4/4 .* 8/8 "
    ):
        count_wrong_by_policy(supernet, [mixed], batches)


def test_logits_that_are_none_of_a_plain_model_are_refused() -> None:
    model = create_model(ModelConfig(), num_classes=10, in_channels=1).eval()
    _, split = supernet_and_split()
    with torch.no_grad():
        model.fc.bias[3] = math.nan
    with pytest.raises(NotFiniteError, match="the logits of the float network are no finite"):
        count_wrong(model, eval_batches(split, batch_size=20))
