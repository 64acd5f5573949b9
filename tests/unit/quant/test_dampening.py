"""How far weights are from their bins: the kernel against operations of torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.quant import dampening
from harness.quant.dampening import distance_to_bins
from harness.quant.lsq import LsqQuantizer


def found(weight, quantizer, bits, fewest, *, has_kernel):
    weight = weight.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        if not has_kernel:
            patch.setattr(dampening, "has_kernel", lambda _: False)
        levels = quantizer.level(bits), quantizer.level(fewest)
        distance = distance_to_bins(weight, quantizer.step_size, *levels)
        (3 * distance).backward()
    assert quantizer.step_size.grad is None
    return distance.item(), weight.grad


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    bits=st.integers(3, 6),
    shape=st.sampled_from([(4, 3, 3, 3), (40, 30, 3, 3), (7,)]),
    steps=st.tuples(st.floats(0.01, 0.2), st.floats(0.1, 0.6)),
)
def test_the_kernel_counts_as_torch_does(seed, bits, shape, steps) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5
    quantizer = LsqQuantizer((6, 5, 4, 3, 2), signed=True)
    quantizer.set_step_size(bits, steps[0])
    quantizer.set_step_size(2, steps[1])
    value, gradient = found(weight, quantizer, bits, 2, has_kernel=True)
    plain_value, plain_gradient = found(weight, quantizer, bits, 2, has_kernel=False)
    assert value == pytest.approx(plain_value, rel=1e-4, abs=1e-7)
    torch.testing.assert_close(gradient, plain_gradient, rtol=1e-5, atol=1e-7)


def test_a_weight_that_both_round_alike_counts_nothing() -> None:
    quantizer = LsqQuantizer((4, 2), signed=True)
    quantizer.set_step_size(4, 0.1)
    quantizer.set_step_size(2, 0.4)
    # Bins of 4 bits and of 2: 0.0 and 0.0; 0.3 and 0.4; 0.4 and 0.4; beyond the range of 4 bits.
    weight = torch.tensor([0.03, 0.33, 0.41, 5.0])
    for has_kernel in (True, False):
        value, gradient = found(weight, quantizer, 4, 2, has_kernel=has_kernel)
        assert value == pytest.approx(0.03**2, rel=1e-4)
        torch.testing.assert_close(gradient, torch.tensor([0.0, 3 * 2 * 0.03, 0.0, 0.0]))
        assert found(weight, quantizer, 2, 2, has_kernel=has_kernel)[0] == 0


def test_layouts_and_sizes_beyond_one_stretch_count_alike() -> None:
    weight = torch.randn(64, 48, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    quantizer = LsqQuantizer((4, 2), signed=True)
    quantizer.set_step_size(4, 0.1)
    quantizer.set_step_size(2, 0.4)
    value, gradient = found(weight, quantizer, 4, 2, has_kernel=True)
    last = weight.to(memory_format=torch.channels_last)
    other, other_gradient = found(last, quantizer, 4, 2, has_kernel=True)
    assert other == pytest.approx(value, rel=1e-5)
    assert torch.equal(gradient, other_gradient)


def test_a_weight_that_is_no_number_makes_the_distance_none() -> None:
    quantizer = LsqQuantizer((4, 2), signed=True)
    quantizer.set_step_size(4, 0.1)
    weight = torch.tensor([0.03, float("nan"), 0.33])
    for has_kernel in (True, False):
        value, _ = found(weight, quantizer, 4, 2, has_kernel=has_kernel)
        assert value != value, has_kernel
