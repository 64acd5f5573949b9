"""Many policies at once against one at a time: the same bits, less work, bounded memory."""

import copy
import logging
from collections import Counter
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from branching_networks import (
    NETWORKS,
    created,
    images_of,
    moves_from,
    nested_policies,
    supernet_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.errors import ConversionError
from harness.problem.policy import Policy
from harness.quant import executor, recalibrate
from harness.quant.execution import PolicyInputs
from harness.quant.executor import Executor, plans_of
from harness.quant.norms import Statistics
from harness.quant.recalibrate import with_reestimated_statistics
from harness.quant.supernet import Supernet
from harness.training.policy_sampler import sample_policy

BATCHES = [images_of(count, seed=at) for at, count in enumerate((4, 4, 3, 1))]

supernet_named = cache(created)


@pytest.fixture(autouse=True)
def _warnings_are_said_again() -> None:
    executor._warn_once.cache_clear()


@torch.no_grad()
def alone(supernet: Supernet, inputs: list[PolicyInputs], images: Tensor) -> list[Tensor]:
    return [supernet(images, one) for one in inputs]


def random_policies(supernet: Supernet, count: int) -> list[Policy]:
    candidates = supernet.network.candidates
    return [sample_policy(candidates, seed=7, step=0, pass_index=k) for k in range(count)]


@st.composite
def some_policies(draw: st.DrawFn, supernet: Supernet) -> list[Policy]:
    """Return policies that part early, late and never."""
    layers = supernet.network.layers
    two = [draw(st.sampled_from(random_policies(supernet, 6))) for _ in range(2)]
    chosen = []
    for _ in range(draw(st.integers(2, 6))):
        at = draw(st.integers(0, len(layers)))
        bits = [*two[0].bits[:at], *two[draw(st.integers(0, 1))].bits[at:]]
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(layers) - 1))
            bits[place] = (
                draw(st.sampled_from(layers[place].weight_candidates)),
                draw(st.sampled_from(layers[place].act_candidates)),
            )
        chosen.append(Policy(bits))
    return chosen


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_tell_policies_and_images_apart(name: str) -> None:
    """Where all logits were alike, nothing below would show anything."""
    supernet = supernet_named(name)
    logits = alone(supernet, supernet.encode_standing(random_policies(supernet, 6)), BATCHES[0])
    assert len({tuple(one.flatten().tolist()) for one in logits}) == 6
    assert all(len(one.unique(dim=0)) == len(BATCHES[0]) for one in logits)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_policies_give_the_same_bits_together_as_alone(name: str, data: st.DataObject) -> None:
    supernet = supernet_named(name)
    policies = data.draw(some_policies(supernet))
    inputs = supernet.encode_standing(policies)
    if data.draw(st.booleans(), label="recalibrated"):
        inputs = with_reestimated_statistics(supernet, inputs, BATCHES[:2])
    run = Executor(supernet, inputs)
    for images in BATCHES:
        found, expected = run(images), alone(supernet, inputs, images)
        assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))
    assert all(plans is not None for _, plans in run._plans.values())


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_statistics_are_the_same_bits_together_as_alone(name: str, data: st.DataObject) -> None:
    supernet = supernet_named(name)
    inputs = supernet.encode_standing(data.draw(some_policies(supernet)))
    before = copy.deepcopy(supernet.state_dict())
    together = with_reestimated_statistics(supernet, inputs, BATCHES)
    assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())
    for one, found in zip(inputs, together, strict=True):
        (expected,) = with_reestimated_statistics(supernet, [one], BATCHES)
        assert len(found.statistics) == len(expected.statistics) == len(supernet.norms)
        for mine, other in zip(found.statistics, expected.statistics, strict=True):
            assert torch.equal(mine.mean, other.mean)
            assert torch.equal(mine.var, other.var)
            assert mine.momentum is None


@pytest.mark.parametrize("name", ["mobilenetv2_050", "mobile"])
def test_statistics_are_moved_once_a_batch_in_small_groups_too(name: str, monkeypatch) -> None:
    supernet = supernet_named(name)
    inputs = supernet.encode_standing(nested_policies(supernet, places=6))
    expected = with_reestimated_statistics(supernet, inputs, BATCHES)
    groups: list[int] = []

    def in_small_groups(*args, **kwargs):
        plans = plans_of(*args, **kwargs, max_kept_bytes=0)
        groups.append(len(plans))
        return plans

    monkeypatch.setattr(recalibrate, "plans_of", in_small_groups)
    found = with_reestimated_statistics(supernet, inputs, BATCHES)
    assert groups[0] > 1
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one.statistics, other.statistics, strict=True):
            assert torch.equal(mine.mean, theirs.mean)
            assert torch.equal(mine.var, theirs.var)


def calls_of(supernet: Supernet, inputs: list[PolicyInputs]) -> Counter[str]:
    """Return how often each layer runs for one batch, without the look at memory before it."""
    run = Executor(supernet, inputs)
    run(BATCHES[0])
    calls: Counter[str] = Counter()
    hooks = [
        layer.register_forward_hook(lambda *_, name=spec.name: calls.update([name]))
        for layer, spec in zip(supernet.layers, supernet.network.layers, strict=True)
    ]
    run(BATCHES[0])
    for hook in hooks:
        hook.remove()
    return calls


@pytest.mark.parametrize("recalibrated", [False, True])
def test_a_chain_runs_each_layer_once_for_each_prefix(recalibrated: bool) -> None:
    supernet = supernet_named("mobile")
    policies = [
        *random_policies(supernet, 3),
        *moves_from(supernet, random_policies(supernet, 1)[0]),
    ]
    inputs = supernet.encode_standing(policies)
    if recalibrated:
        inputs = with_reestimated_statistics(supernet, inputs, BATCHES)
    calls = calls_of(supernet, inputs)
    for at, layer in enumerate(supernet.network.layers):
        assert calls[layer.name] == len({policy.bits[: at + 1] for policy in policies})


def test_a_branch_runs_once_for_all_that_part_in_the_other() -> None:
    supernet = supernet_named("squeezed")
    names = [layer.name for layer in supernet.network.layers]
    base = supernet.network.candidates.uniform(weight_bits=4, act_bits=4)
    at = names.index("conv1")
    policies = [Policy([*base.bits[:at], (bits, 4), *base.bits[at + 1 :]]) for bits in (6, 5, 4, 3)]
    calls = calls_of(supernet, supernet.encode_standing(policies))
    assert (calls["stem"], calls["shortcut"]) == (1, 1)
    assert (calls["conv1"], calls["reduce"], calls["expand"], calls["fc"]) == (4, 4, 4, 4)


def test_results_come_in_the_order_of_the_policies() -> None:
    supernet = supernet_named("resnet8")
    policies = random_policies(supernet, 8)
    policies += policies[2:4]
    expected = alone(supernet, supernet.encode_standing(policies), BATCHES[0])
    for order in (range(10), range(9, -1, -1), (4, 0, 9, 2, 7, 1, 8, 3, 6, 5)):
        found = Executor(supernet, supernet.encode_standing([policies[at] for at in order]))
        for at, logits in zip(order, found(BATCHES[0]), strict=True):
            assert torch.equal(logits, expected[at])
    assert Executor(supernet, [])(BATCHES[0]) == []


def test_policies_with_other_statistics_share_nothing_behind_them() -> None:
    supernet = supernet_named("dense")
    (inputs,) = supernet.encode_standing(random_policies(supernet, 1))
    own = supernet.statistics(inputs)
    others = [own[0], Statistics(own[1].mean + 0.5, own[1].var), *own[2:]]
    together = [inputs._replace(statistics=given) for given in (own, others)]
    found = Executor(supernet, together)(BATCHES[0])
    expected = alone(supernet, together, BATCHES[0])
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert not torch.equal(found[0], found[1])


def test_policies_share_the_statistics_of_what_they_share() -> None:
    supernet = supernet_named("mobile")
    base = supernet.network.candidates.uniform(weight_bits=4, act_bits=4)
    last_free = len(base) - 2
    other = Policy([*base.bits[:last_free], (3, 3), *base.bits[last_free + 1 :]])
    one, two = with_reestimated_statistics(
        supernet, supernet.encode_standing([base, other]), BATCHES
    )
    shared = [
        mine.mean is theirs.mean
        for mine, theirs in zip(one.statistics, two.statistics, strict=True)
    ]
    assert shared == [True] * last_free + [False]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_more_is_kept_than_planned_and_groups_bound_it(name: str) -> None:
    supernet = supernet_named(name)
    policies = [*random_policies(supernet, 4), *nested_policies(supernet, places=6)]
    inputs = supernet.encode_standing(policies)
    images = BATCHES[0]
    (whole,) = plans_of(supernet, inputs, images)
    single = plans_of(supernet, inputs[:1], images)[0].kept_bytes
    groups = plans_of(supernet, inputs, images, max_kept_bytes=0)
    assert (len(groups) > 1) == (whole.kept_bytes > 2 * single)
    assert sorted(p for plan in groups for p in plan.logits) == list(range(len(policies)))
    for plan in (whole, *groups):
        assert measured_bytes(plan, supernet, images) == pytest.approx(
            plan.kept_bytes * len(images)
        )
        assert plan.kept_bytes <= 2 * single or plan is whole
    run = Executor(supernet, inputs, max_kept_bytes=0)
    for found, expected in zip(run(images), alone(supernet, inputs, images), strict=True):
        assert torch.equal(found, expected)


@torch.no_grad()
def measured_bytes(plan, supernet: Supernet, images: Tensor) -> int:
    """Return the most bytes of features that exist behind a step, by the memory they lie in."""
    held, most = list(plan.values), 0
    held[0] = images
    given = {id(value) for value in (*plan.values, images)}
    for step in plan.steps:
        sources = [held[slot] for slot in step.sources]
        for at in step.copied:
            sources[at] = sources[at].clone()
        results = step.function(supernet.model, *sources)
        for slot, value in zip(step.results, results, strict=True):
            held[slot] = value
        copies = [sources[at] for at in step.copied]
        own = [
            value
            for value in (*held, *copies)
            if isinstance(value, Tensor) and id(value) not in given
        ]
        storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in own}
        storages.pop(images.untyped_storage().data_ptr(), None)
        most = max(most, sum(storage.nbytes() for storage in storages.values()))
        for slot in step.dropped:
            held[slot] = None
    left = [value for value in held if isinstance(value, Tensor) and id(value) not in given]
    assert len(left) == len(set(plan.logits.values()))
    return most


def test_what_is_changed_in_place_is_copied_only_while_others_need_it() -> None:
    supernet = supernet_named("in place")
    base = supernet.network.candidates.uniform(weight_bits=4, act_bits=4)
    inputs = supernet.encode_standing(moves_from(supernet, base))
    (plan,) = plans_of(supernet, inputs, BATCHES[0])
    assert sum(len(step.copied) for step in plan.steps) > 0
    (plan,) = plans_of(supernet, inputs[:1], BATCHES[0])
    assert sum(len(step.copied) for step in plan.steps) == 0


def test_an_executor_serves_batches_of_every_size() -> None:
    supernet = supernet_named("squeezed")
    inputs = supernet.encode_standing(random_policies(supernet, 3))
    run = Executor(supernet, inputs)
    for images in (BATCHES[3], BATCHES[2], BATCHES[0], torch.cat(BATCHES)):
        found, expected = run(images), alone(supernet, inputs, images)
        assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))


def test_a_copy_of_a_supernet_is_run_with_its_own_weights() -> None:
    supernet = created("resnet8")
    other = copy.deepcopy(supernet)
    with torch.no_grad():
        for parameter in other.model.fc.parameters():
            parameter.mul_(2)
    policies = random_policies(supernet, 3)
    for one in (supernet, other):
        inputs = one.encode_standing(policies)
        found, expected = Executor(one, inputs)(BATCHES[0]), alone(one, inputs, BATCHES[0])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


def test_logits_that_are_no_numbers_are_shared_too(caplog) -> None:
    supernet = created("resnet8")
    with torch.no_grad():
        supernet.model.fc.bias[3] = torch.nan
    inputs = supernet.encode_standing(random_policies(supernet, 3))
    run = Executor(supernet, inputs)
    for found, expected in zip(run(BATCHES[0]), alone(supernet, inputs, BATCHES[0]), strict=True):
        assert expected[:, 3].isnan().all()
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert run._plans[False][1] is not None
    assert not caplog.records


def test_inference_mode_is_no_obstacle() -> None:
    supernet = supernet_named("in place")
    policies = moves_from(supernet, random_policies(supernet, 1)[0])[::5]
    expected = alone(supernet, supernet.encode_standing(policies), BATCHES[0])
    with torch.inference_mode():
        inputs = supernet.encode_standing(policies)
        run = Executor(supernet, inputs)
        found = run(BATCHES[0].clone())
    assert run._plans[False][1] is not None
    assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("moves", [False, True])
def test_nothing_waits_for_the_device_inside_a_batch(moves: bool) -> None:
    """The meta device has no numbers: whoever asks it for one is refused."""
    supernet = created("squeezed")
    inputs = supernet.encode_standing(random_policies(supernet, 4))
    own = None
    if moves:
        own = lambda policy, norm: supernet.statistics(inputs[policy])[norm].copied(momentum=1.0)  # noqa: E731
    (plan,) = plans_of(supernet, inputs, BATCHES[0], own_statistics=own)
    on_meta = {slot: to_meta(value) for slot, value in enumerate(plan.values)}
    executor.run_plan(plan, supernet.to("meta").model, BATCHES[0].to("meta"), changed={
        slot: value for slot, value in on_meta.items() if slot
    })  # fmt: skip


def test_policies_share_on_a_device_too() -> None:
    """Rows of tensors would be another one for each policy."""
    supernet = created("mobile").to("meta")
    inputs = supernet.encode_standing(
        [*random_policies(supernet, 2), random_policies(supernet, 1)[0]]
    )
    assert inputs[0].rows == inputs[2].rows != inputs[1].rows
    assert all(isinstance(row.norm, int) for one in inputs for row in one.rows)


def to_meta(value):
    if isinstance(value, Statistics):
        return Statistics(value.mean.to("meta"), value.var.to("meta"), value.momentum)
    return value.to("meta") if isinstance(value, Tensor) else value


def test_images_of_another_size_are_refused() -> None:
    supernet = supernet_named("resnet8")
    inputs = supernet.encode_standing(random_policies(supernet, 2))
    with pytest.raises(ConversionError, match="images are 3 x 8 x 8, the network was converted"):
        Executor(supernet, inputs)(torch.randn(2, 3, 8, 8))
    with pytest.raises(ConversionError, match="images are 3 x 8 x 8, the network was converted"):
        with_reestimated_statistics(supernet, inputs, [torch.randn(2, 3, 8, 8)])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_quantized_weights_are_kept_up_to_a_bound(share: float) -> None:
    supernet = supernet_named("resnet8")
    policies = random_policies(supernet, 6)
    whole = {
        id(weight): weight.nbytes
        for one in supernet.encode_standing(policies) for weight in one.weights
    }  # fmt: skip
    bound = int(sum(whole.values()) * share)
    inputs = supernet.encode_standing(policies, max_weight_bytes=bound)
    kept = {id(w): w.nbytes for one in inputs for w in one.weights if w is not None}
    assert sum(kept.values()) <= bound
    assert (len(kept) == len(whole)) == (share == 1.0)
    expected = alone(supernet, [supernet.encode(policy) for policy in policies], BATCHES[0])
    for found in (Executor(supernet, inputs)(BATCHES[0]), alone(supernet, inputs, BATCHES[0])):
        assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))


class Plain(nn.Module):
    """Two layers between the ends, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(self.stem(x)).mean(dim=(2, 3)))

    def features(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


class Drawing(Plain):
    """Drops in evaluation too."""

    def features(self, x: Tensor) -> Tensor:
        return self.left(F.dropout(x, 0.5, training=True)) + self.right(x)


class Spoiling(Plain):
    """Changes what the layer on the other side reads behind it."""

    def features(self, x: Tensor) -> Tensor:
        left = self.left(x)
        return left.mul_(x.sub_(self.right(x))) + x


class Spoiled(Plain):
    """A layer reads what an activation behind another one has changed."""

    def features(self, x: Tensor) -> Tensor:
        left = self.left(x)
        right = self.right(left)
        left = left.relu_()
        return right + self.norm(left)


class ChangingAPart(Plain):
    """Changes some of the channels that it is given."""

    def features(self, x: Tensor) -> Tensor:
        first, second = self.left(x).chunk(2, dim=1)
        right = self.right(x)
        return torch.cat((first, second.add_(right[:, :2])), 1)


class ChangingTwice(Plain):
    """Changes a tensor and reads it under another name."""

    def features(self, x: Tensor) -> Tensor:
        left = self.left(x)
        same = left.view(-1, 4, 16, 16)
        return same.add_(self.right(x)) + left


class Remembering(Plain):
    """Changes what it keeps from one pass to the next."""

    def features(self, x: Tensor) -> Tensor:
        ones = torch.ones(1)
        left = self.left(x * ones)
        ones.add_(left.mean())
        return left + self.right(x) * ones


REASONS: dict[type[Plain], str] = {
    Drawing: "it draws random numbers, also in evaluation",
    Remembering: "it changes what it keeps, also in evaluation",
    Spoiling: "right changes what mul_ reads too",
    Spoiled: "its parts compute something else than the whole",
    ChangingAPart: "add_ changes a part of a tensor",
    ChangingTwice: "add_ changes one tensor that it reads twice",
}


@pytest.mark.parametrize("kind", REASONS, ids=lambda kind: kind.__name__)
def test_what_cannot_be_cut_runs_one_policy_at_a_time_and_it_is_said_once(kind, caplog) -> None:
    def once(run) -> list[Tensor]:
        torch.manual_seed(1)  # Each time from the start: of what is drawn, and what is kept.
        supernet = supernet_of(kind())
        return run(supernet, supernet.encode_standing(random_policies(supernet, 5)))

    with caplog.at_level(logging.WARNING):
        found = once(lambda supernet, inputs: Executor(supernet, inputs)(BATCHES[0]))
        own = once(lambda supernet, inputs: statistics_of(supernet, inputs))
    said = f"model is evaluated one policy at a time, which takes longer: {REASONS[kind]}"
    assert [record.getMessage() for record in caplog.records] == [said]
    if kind is not Remembering:  # What it gives depends on how often it ran, and it was looked at.
        expected = once(lambda supernet, inputs: alone(supernet, inputs, BATCHES[0]))
        assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))
        expected = once(
            lambda supernet, inputs: [
                tensor for one in inputs for tensor in statistics_of(supernet, [one])
            ]
        )
        if kind is not Drawing:
            assert all(torch.equal(mine, other) for mine, other in zip(own, expected, strict=True))


def statistics_of(supernet: Supernet, inputs: list[PolicyInputs]) -> list[Tensor]:
    found = with_reestimated_statistics(supernet, inputs, BATCHES)
    return [tensor for one in found for norm in one.statistics for tensor in norm[:2]]


class Twice(Plain):
    """Normalises twice with the same norm."""

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.left(x)) + self.norm(self.right(x))


def test_a_norm_that_runs_twice_is_recalibrated_one_policy_at_a_time(caplog) -> None:
    torch.manual_seed(0)
    supernet = supernet_of(Twice())
    inputs = supernet.encode_standing(random_policies(supernet, 4))
    with caplog.at_level(logging.WARNING):
        together = with_reestimated_statistics(supernet, inputs, BATCHES)
    (record,) = caplog.records
    assert record.getMessage().endswith("takes longer: norm normalises more than once")
    for one, found in zip(inputs, together, strict=True):
        (expected,) = with_reestimated_statistics(supernet, [one], BATCHES)
        for mine, other in zip(found.statistics, expected.statistics, strict=True):
            assert torch.equal(mine.mean, other.mean)
            assert torch.equal(mine.var, other.var)
    found, expected = (
        Executor(supernet, together)(BATCHES[0]),
        alone(supernet, together, BATCHES[0]),
    )
    assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))
    assert len(caplog.records) == 1
