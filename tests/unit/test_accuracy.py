"""Scores and right images against a naive loop, whatever is asked beside them."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness import accuracy
from harness.accuracy import PolicyScorer, count_wrong, count_wrong_by_policy, right_by_policy
from harness.data import Batch, eval_batches
from harness.data.images import MemorySplit
from harness.errors import NotFiniteError
from harness.models import create_model
from harness.problem.policy import Policy
from harness.quant.calibrate import fit_step_sizes
from harness.quant.convert import convert, describe_network
from harness.quant.recalibrate import with_reestimated_statistics
from harness.quant.supernet import Supernet
from harness.run.config import ModelConfig, QuantConfig, Score
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
        mean=[0.5], std=[0.5],
    )  # fmt: skip
    supernet = convert(model, network).eval()
    # Steps of 1 would round all features to nothing, and every policy would be the same.
    with torch.no_grad():
        fit_step_sizes(supernet, split.read(range(50))[0])
    return supernet, split


SCORES = get_args(Score)


def drawn(supernet: Supernet, number: int) -> list[Policy]:
    candidates = supernet.network.candidates
    return [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(number)]


def scores_one_by_one(supernet, policy, batches, recalibration) -> dict[str, list[float]]:
    """Return the score of each image, computed in float64 by torch's own losses."""
    training = [] if recalibration is None else [images for images, _ in recalibration]
    pair = [supernet.encode(one) for one in (policy, supernet.network.candidates.largest)]
    inputs, largest = with_reestimated_statistics(supernet, pair, training)
    found: dict[str, list[float]] = {name: [] for name in SCORES}
    with torch.no_grad():
        for x, y in batches:
            logits, teacher = supernet(x, inputs).double(), supernet(x, largest).double()
            kl = F.kl_div(logits.log_softmax(1), teacher.softmax(1), reduction="none").sum(1)
            found["kl"] += kl.tolist()
            found["cross_entropy"] += F.cross_entropy(logits, y, reduction="none").tolist()
            found["errors"] += (logits.argmax(1) != y).double().tolist()
    return found


@pytest.mark.parametrize("num_images", [50, 20, 7])
def test_parts_are_the_sums_of_a_naive_loop_over_folds(num_images) -> None:
    supernet, split = supernet_and_split()
    supernet.eval()
    policies = drawn(supernet, 3)
    batches = eval_batches(split, batch_size=20, limit=num_images)
    for recalibration in (None, eval_batches(split, batch_size=16, limit=32)):
        naive = [scores_one_by_one(supernet, one, batches, recalibration) for one in policies]
        for score in SCORES:
            scorer = PolicyScorer(supernet, batches, score=score, recalibration=recalibration)
            scores = scorer.score(policies)
            parts = scores.parts
            assert (parts.dtype, parts.shape) == (np.float64, (3, min(32, num_images)))
            assert scores.num_wrong.dtype == np.int64
            assert scores.num_wrong.tolist() == [sum(one["errors"]) for one in naive]
            for row, expected in zip(parts, naive, strict=True):
                by_fold = np.zeros(len(row))
                for place, value in enumerate(expected[score]):
                    by_fold[place % len(row)] += value
                np.testing.assert_allclose(row, by_fold, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_parts_are_the_same_bits_whoever_shares_the_work(monkeypatch, score) -> None:
    supernet, split = supernet_and_split()
    policies = drawn(supernet, 5)
    batches, training = eval_batches(split, batch_size=7), eval_batches(split, batch_size=16)

    def scorer(**options: int) -> PolicyScorer:
        return PolicyScorer(supernet, batches, score=score, recalibration=training, **options)

    scores = scorer().score(policies)
    together = scores.parts
    # An untrained network errs alike under most policies.
    assert len(np.unique(together, axis=0)) >= (2 if score == "errors" else 5)
    again = scorer()
    alone = [again.score([policy]).parts[0] for policy in reversed(policies)]
    assert np.array_equal(alone[::-1], together)
    assert np.array_equal(again.score(policies).parts, together)
    monkeypatch.setattr(accuracy, "MAX_TEACHER_BYTES", 2 * 7 * 10 * 8)
    assert np.array_equal(scorer(max_held_bytes=3000).score(policies).parts, together)
    for name in ("MAX_POLICIES", "MAX_RESULT_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(accuracy, name, 2)
            in_groups = scorer().score(policies)
            assert np.array_equal(in_groups.parts, together)
            assert np.array_equal(in_groups.num_wrong, scores.num_wrong)
    nothing = scorer().score([])
    assert (nothing.parts.shape, nothing.num_wrong.shape) == ((0, 32), (0,))


def test_the_max_policy_differs_from_itself_by_nothing() -> None:
    supernet, split = supernet_and_split()
    largest = supernet.network.candidates.largest
    batches, training = eval_batches(split, batch_size=20), eval_batches(split, batch_size=16)
    for recalibration in (None, training):
        scorer = PolicyScorer(supernet, batches, score="kl", recalibration=recalibration)
        parts = scorer.score([largest, supernet.network.candidates.smallest]).parts
        assert not parts[0].any()
        assert parts[1].all()


def test_outputs_of_the_max_policy_are_computed_once_for_each_batch(monkeypatch) -> None:
    supernet, split = supernet_and_split()
    scorer = PolicyScorer(supernet, eval_batches(split, batch_size=20), score="kl")
    asked: list[int] = []
    together = accuracy._together

    def noted(model, policies):
        run = together(model, policies)

        def noting(images):
            asked.append(len(policies))
            return run(images)

        return noting

    monkeypatch.setattr(accuracy, "_together", noted)
    for _ in range(2):
        scorer.score(drawn(supernet, 4))
    assert sorted(asked) == 3 * [1] + 2 * 3 * [4]


def test_right_images_are_those_of_a_naive_loop_in_the_order_of_the_split(monkeypatch) -> None:
    supernet, split = supernet_and_split()
    policies = drawn(supernet, 3)
    batches, training = eval_batches(split, batch_size=20), eval_batches(split, batch_size=16)
    right = right_by_policy(supernet, policies, batches, recalibration=training)
    naive = [scores_one_by_one(supernet, one, batches, training)["errors"] for one in policies]
    assert right.dtype == np.bool_
    assert right.tolist() == [[value == 0 for value in row] for row in naive]
    counts = count_wrong_by_policy(supernet, policies, batches, recalibration=training)
    assert (~right).sum(axis=1).tolist() == counts
    monkeypatch.setattr(accuracy, "MAX_RESULT_BYTES", 100)
    again = right_by_policy(supernet, policies, batches, recalibration=training)
    assert np.array_equal(again, right)
    assert right_by_policy(supernet, [], batches).shape == (0, 50)


def test_logits_of_the_max_policy_that_are_none_are_refused_as_its_own() -> None:
    supernet, split = supernet_and_split()
    batches = eval_batches(split, batch_size=20)
    with torch.no_grad():  # At 6 bits alone.
        supernet.model.get_submodule("stages.1.0.conv1").weight_quantizer.set_step_size(6, math.nan)
    three = supernet.network.candidates.uniform(weight_bits=3, act_bits=3)
    assert PolicyScorer(supernet, batches, score="cross_entropy").score([three]).parts.all()
    message = r"^the logits of policy 6/6 are no finite numbers on 50 images, so they name"
    with pytest.raises(NotFiniteError, match=message):
        PolicyScorer(supernet, batches, score="kl").score([three])


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
    for score in SCORES:
        with pytest.raises(NotFiniteError, match=message):
            PolicyScorer(supernet, batches, score=score).score([three, four])
    with pytest.raises(NotFiniteError, match=message):
        right_by_policy(supernet, [three, four], batches)
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
