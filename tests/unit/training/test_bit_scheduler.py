"""The bit-width scheduler: turbulence, when it acts, and what layers lose."""

import logging
import math

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from harness.data import load_splits
from harness.problem.candidates import Candidates, LayerCandidates
from harness.problem.ties import SIDES, merged
from harness.quant.fake_quantize import fake_quantize
from harness.quant.lsq import quantization_range
from harness.run.config import load_config
from harness.training import bit_scheduler
from harness.training.assemble import create_task
from harness.training.bit_scheduler import (
    epochs_of_acts,
    freeze,
    freezing_ratio,
    frozen_layers,
    turbulence,
    turbulences_of,
    without_smallest,
)

BITS = st.sets(st.integers(2, 8), min_size=1)


def naive_share(weights, step, bits):
    """Count, weight by weight, those within 0.125 step of a boundary between two codes."""
    low, high = quantization_range(bits, signed=True)
    boundaries = [code + 0.5 for code in range(low, high)]
    near = [any(abs(w / step - boundary) < 0.125 for boundary in boundaries) for w in weights]
    return sum(near) / len(weights)


@given(
    seed=st.integers(0, 2**31),
    bits=BITS,
    scale=st.floats(1e-3, 1e3),
    per_channel=st.booleans(),
)
def test_turbulence_is_what_a_loop_over_weights_and_boundaries_counts(
    seed, bits, scale, per_channel
):
    generator = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(3, 2, 2, 2, generator=generator, dtype=torch.float64)
    count = 3 if per_channel else 1
    steps = {
        b: scale * (0.02 + torch.rand(count, generator=generator, dtype=torch.float64))
        for b in bits
    }
    given_steps = steps if per_channel else {b: step.squeeze() for b, step in steps.items()}
    expected = 0.0
    for b, step in steps.items():
        channels = zip(weight.flatten(1).tolist(), step.expand(3).tolist(), strict=True)
        expected += sum(naive_share(row, size, b) for row, size in channels) / 3 / b
    assert turbulence(weight, given_steps) == pytest.approx(expected / len(bits), abs=1e-12)


def test_the_outer_sides_of_the_end_codes_do_not_count():
    step = torch.tensor(1.0)
    codes = {
        -9.0: 0, -2.6: 0, -2.49: 0, -2.4: 0, -2.0: 0, -1.7: 0, -1.6: 1, -1.5: 1, -1.4: 1, -1.3: 0,
        -0.5: 1, 0.0: 0, 0.5: 1, 0.62: 1, 0.625: 0, 0.7: 0, 1.0: 0, 1.4: 0, 1.49: 0, 3.5: 0,
    }  # fmt: skip
    for value, near in codes.items():
        assert turbulence(torch.tensor([value]), {2: step}) == near / 2, value


@given(seed=st.integers(0, 2**31), bits=st.integers(2, 8))
def test_quantized_weights_have_no_turbulence_and_boundaries_have_all(seed, bits):
    generator = torch.Generator().manual_seed(seed)
    low, high = quantization_range(bits, signed=True)
    # A power of two: codes times the step are exact.
    step = torch.tensor(2.0**-4)
    weight = torch.randn(50, generator=generator)
    on_grid = fake_quantize(weight, step, low=low, high=high)
    assert turbulence(on_grid, {bits: step}) == 0
    boundaries = (torch.arange(low, high) + 0.5) * step
    assert turbulence(boundaries, {bits: step}) == 1 / bits


def test_the_papers_epochs_come_out_for_150():
    assert epochs_of_acts(150) == (*range(6, 109, 2), 123, 138)
    assert epochs_of_acts(150, start_epoch=50) == (*range(50, 109, 2), 123, 138)
    assert epochs_of_acts(150, start_epoch=120) == (120, 135)


def test_short_trainings_have_the_same_parts():
    assert epochs_of_acts(40) == (*range(2, 29), 32, 36)
    assert epochs_of_acts(10) == tuple(range(1, 10))
    assert epochs_of_acts(3) == (1, 2)
    assert epochs_of_acts(1) == epochs_of_acts(0) == ()


@given(num_epochs=st.integers(0, 600), start=st.none() | st.integers(1, 600))
def test_acts_rise_and_end_before_the_last_epoch(num_epochs, start):
    epochs = epochs_of_acts(num_epochs, start)
    assert list(epochs) == sorted(set(epochs))
    assert all((start or 1) <= epoch < num_epochs for epoch in epochs)
    assert bool(epochs) == (num_epochs > (start or 1))


@given(num_epochs=st.integers(1, 600))
def test_the_ratio_falls_over_the_first_half(num_epochs):
    ratios = [freezing_ratio(epoch, num_epochs) for epoch in range(num_epochs + 1)]
    assert ratios == sorted(ratios, reverse=True)
    assert (ratios[0], ratios[-1]) == (0.5, 0.2)
    assert all(ratio == 0.2 for ratio in ratios[math.ceil(num_epochs / 2) :])


@st.composite
def candidates_with_turbulences(draw):
    """Candidates of some layers, tied at will, and a turbulence for each that can be frozen."""
    count = draw(st.integers(1, 8))
    layers = tuple(
        LayerCandidates(
            name=f"layer{index}",
            weight=tuple(sorted({8, *draw(BITS)}, reverse=True)),
            act=tuple(sorted({8, *draw(BITS)}, reverse=True)),
        )
        for index in range(count)
    )
    pinned = LayerCandidates(name="end", weight=(8,), act=(8,), is_pinned=True)
    indices = st.integers(0, count - 1)
    groups = (
        draw(st.lists(st.sets(indices, min_size=2, max_size=4), max_size=2)) if count > 1 else []
    )
    ties = merged([[(index, side) for index in group] for group in groups for side in SIDES])
    full = Candidates((*layers, pinned), ties)
    can_freeze = [i for i, layer in enumerate(full.layers) if len(layer.weight) > 1]
    values = draw(st.lists(st.floats(0, 0.5), min_size=len(can_freeze), max_size=len(can_freeze)))
    return full, dict(zip(can_freeze, values, strict=True))


@given(
    drawn=candidates_with_turbulences(),
    ratio=st.floats(0, 1),
    sides=st.sampled_from([SIDES, SIDES[:1]]),
)
def test_never_the_largest_nor_the_last_candidate_is_lost(drawn, ratio, sides):
    full, turbulences = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bit_scheduler, "FROZEN_SIDES", sides)
        frozen = frozen_layers(full, turbulences, ratio=ratio)
        narrow = without_smallest(full, frozen)
        everything = without_smallest(full, range(len(full.layers)))
    assert narrow.largest == everything.largest == full.largest
    assert narrow.ties == full.ties
    for index, (before, after) in enumerate(zip(full.layers, narrow.layers, strict=True)):
        for side in SIDES:
            is_lost = index in frozen and side in sides and len(before.of(side)) > 1
            assert after.of(side) == before.of(side)[: -1 if is_lost else None]
    # What a file of the candidates says is taken up again: tied sides kept equal ones.
    assert full.with_rows(narrow.to_rows()) == narrow


@given(drawn=candidates_with_turbulences(), ratio=st.floats(0, 1))
def test_frozen_are_so_many_of_the_most_turbulent(drawn, ratio):
    full, turbulences = drawn
    full = Candidates(full.layers)  # Without ties.
    frozen = frozen_layers(full, turbulences, ratio=ratio)
    assert len(frozen) == math.floor(ratio * len(turbulences))
    left = [value for index, value in turbulences.items() if index not in frozen]
    assert all(turbulences[index] >= max(left, default=0) for index in frozen)


def free_layers(count):
    return tuple(LayerCandidates(name=f"l{i}", weight=(4, 3, 2), act=(4, 2)) for i in range(count))


def test_tied_layers_are_decided_together_by_their_mean():
    weights = [[(0, "weight"), (2, "weight")], [(0, "act"), (1, "act")]]
    full = Candidates(free_layers(4), merged(weights))
    # The pair's mean is 0.25: above layer 3 and below layer 1.
    values = {0: 0.5, 1: 0.3, 2: 0.0, 3: 0.2}
    assert [frozen_layers(full, values, ratio=part / 3) for part in range(4)] == [
        [], [1], [0, 1, 2], [0, 1, 2, 3],
    ]  # fmt: skip
    narrow = without_smallest(full, frozen_layers(full, values, ratio=0.7))
    assert [layer.weight for layer in narrow.layers] == [(4, 3), (4, 3), (4, 3), (4, 3, 2)]
    assert {layer.act for layer in narrow.layers} == {(4, 2)}


def test_of_equally_turbulent_layers_the_earlier_is_frozen():
    values = dict.fromkeys(range(4), 0.1)
    assert frozen_layers(Candidates(free_layers(4)), values, ratio=0.5) == [0, 1]


def task_of(*overrides):
    sizes = ("data.search_images=20", "data.train_images=30", "eval.recalibrate_images=10")
    config = load_config(None, overrides=[*sizes, *overrides])
    splits = load_splits(config.data, seed=config.seed)
    return create_task(config, splits, Accelerator(cpu=True))


def step_of(layer, bits):
    return float(layer.weight_quantizer.step_size_of(bits).detach())


def test_turbulence_of_a_network_is_over_the_candidates_that_are_left():
    task = task_of("train.bit_scheduler=true")
    supernet, full = task.model, task.candidates
    free = [i for i, layer in enumerate(full.layers) if not layer.is_pinned]
    found = turbulences_of(supernet, full)
    assert list(found) == free
    narrow = without_smallest(full, free)
    for index, value in turbulences_of(supernet, narrow).items():
        layer = supernet.layers[index]
        weights = layer.weight.detach().double().flatten().tolist()
        shares = [naive_share(weights, step_of(layer, bits), bits) / bits for bits in (6, 5, 4, 3)]
        assert value == pytest.approx(sum(shares) / 4, abs=2e-3)  # Divided in float32.
        two = naive_share(weights, step_of(layer, 2), 2) / 2
        assert found[index] == pytest.approx((sum(shares) + two) / 5, abs=2e-3)


def test_layers_without_a_choice_are_not_frozen():
    task = task_of("quant.layers={stages.1.*: {weight_candidates: [4]}}")
    act = freeze(task.model, task.candidates, ratio=1.0)
    names = [layer.name for layer in task.candidates.layers if len(layer.weight) > 1]
    assert list(act.turbulence) == list(act.frozen) == names
    assert not any(name.startswith("stages.1.") for name in names)
    assert set(act.frozen.values()) == {2}


def test_depthwise_layers_lose_their_own_smallest_candidate():
    task = task_of("model.name=mobilenetv2_small")
    act = freeze(task.model, task.candidates, ratio=1.0)
    depthwise = {layer.name for layer in task.model.network.layers if layer.is_depthwise}
    assert depthwise
    assert {name for name, bits in act.frozen.items() if bits == 3} == depthwise


def test_the_task_acts_at_its_epochs_and_says_so(caplog):
    task = task_of("train.bit_scheduler=true", "train.epochs=10", "train.scheduler_start_epoch=4")
    full = task.model.network.candidates
    before = {
        f"turbulence/{full.layers[index].name}": value
        for index, value in turbulences_of(task.model, full).items()
    }
    assert task.end_epoch(3) == {"layers_frozen": 0, **before}
    assert task.candidates == full
    with caplog.at_level(logging.INFO):
        row = task.end_epoch(4)
    ratio = freezing_ratio(4, 10)
    turbulences = turbulences_of(task.model, full)
    frozen = frozen_layers(full, turbulences, ratio=ratio)
    assert len(frozen) == math.floor(ratio * len(turbulences)) > 0
    assert task.candidates == without_smallest(full, frozen)
    names = [layer.name for layer in full.layers]
    assert row == {
        "freezing_ratio": ratio,
        "layers_frozen": len(frozen),
        **{f"frozen_bits/{names[index]}": 2 for index in frozen},
        **{f"turbulence/{names[index]}": value for index, value in turbulences.items()},
    }
    most = max(turbulences, key=turbulences.get)
    assert caplog.messages[-1] == (
        f"epoch 4, bit-width scheduler: {len(frozen)} of {len(turbulences)} layers frozen, "
        f"most turbulent {names[most]} ({turbulences[most]:.3f})"
    )
    after = task.end_epoch(10)
    assert after["layers_frozen"] == len(frozen)
    assert after.keys() == {"layers_frozen", *before}


def test_a_frozen_layer_is_released_when_others_are_more_turbulent():
    task = task_of("train.bit_scheduler=true", "train.epochs=10")
    task.end_epoch(1)
    first = task.candidates
    for index, layer in enumerate(task.model.layers):
        if len(first.layers[index].weight) == 4:  # On the grid of every candidate that is left.
            layer.weight.data.zero_()
    task.end_epoch(2)
    for before, after in zip(first.layers, task.candidates.layers, strict=True):
        if len(before.weight) == 4:
            assert after.weight == (6, 5, 4, 3, 2)
    assert task.candidates != task.model.network.candidates


def test_without_the_scheduler_nothing_changes():
    task = task_of("train.epochs=3")
    assert all(task.end_epoch(epoch) == {} for epoch in range(1, 4))
    assert task.candidates == task.model.network.candidates


@pytest.mark.parametrize(
    ("overrides", "first", "last"),
    [(("train.epochs=1",), 1, 1), (("train.epochs=5", "train.scheduler_start_epoch=5"), 5, 5)],
)
def test_a_scheduler_that_never_acts_says_so(caplog, overrides, first, last):
    task_of("train.bit_scheduler=true", *overrides)
    assert caplog.messages == [
        f"train.bit_scheduler changes nothing: it first acts after epoch {first} of {last}, and "
        "never after the last; train for longer or lower train.scheduler_start_epoch"
    ]


def test_a_network_with_nothing_to_freeze_is_described():
    act = bit_scheduler.FreezingAct(
        candidates=Candidates(free_layers(1)), frozen={}, turbulence={}, ratio=0.5
    )
    assert act.describe() == "no layer has a weight candidate to lose"
