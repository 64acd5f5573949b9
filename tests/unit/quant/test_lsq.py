"""The quantizer against a plain autograd composition, and what its grid must hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.quant.lsq import (
    MIN_STEP_SIZE,
    Level,
    LsqQuantizer,
    fake_quantize,
    initial_act_step_size,
    initial_weight_step_size,
    quantization_range,
)

BITS = st.integers(2, 8)
STEPS = st.floats(2.0**-10, 4.0, width=32)


def quantize(x: Tensor, step: Tensor, *, bits: int, signed: bool) -> Tensor:
    low, high = quantization_range(bits, signed=signed)
    return fake_quantize(x, step, low=low, high=high)


def composed(x: Tensor, step: Tensor, *, bits: int, signed: bool) -> Tensor:
    """Equation 1 of LSQ by autograd alone: s * STE(round)(clip(x / s))."""
    low, high = quantization_range(bits, signed=signed)
    clipped = torch.clamp(x / step, low, high)
    return (clipped + (clipped.round() - clipped).detach()) * step


def gradients(function, x: Tensor, step: Tensor, upstream: Tensor, **keywords):
    x, step = x.clone().requires_grad_(), step.clone().requires_grad_()
    value = function(x, step, **keywords)
    (value * upstream).sum().backward()
    return value.detach(), x.grad, step.grad


@settings(max_examples=60)
@given(bits=BITS, signed=st.booleans(), step=STEPS, seed=st.integers(0, 2**31))
def test_forward_and_gradients_equal_a_plain_composition(
    bits: int, signed: bool, step: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    low, high = quantization_range(bits, signed=signed)
    x = torch.rand(3, 4, 5, generator=generator, dtype=torch.float64)
    x = (x * 2 - 0.5) * (high - low) * step  # About half of it lies outside the range.
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    size = torch.tensor(step, dtype=torch.float64)
    ours = gradients(quantize, x, size, upstream, bits=bits, signed=signed)
    plain = gradients(composed, x, size, upstream, bits=bits, signed=signed)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_gradients_at_the_ends_of_the_range_pass_through() -> None:
    x = torch.tensor([-2.0, 1.0, -2.001, 1.001])
    _, grad_x, grad_step = gradients(
        quantize, x, torch.tensor(1.0), torch.ones(4), bits=2, signed=True
    )
    assert grad_x.tolist() == [1, 1, 0, 0]
    assert grad_step == pytest.approx(-2 + 1, abs=1e-2)  # Qn and Qp of the two outside.


@settings(max_examples=60)
@given(bits=BITS, signed=st.booleans(), step=STEPS)
def test_grid_points_are_fixed_points(bits: int, signed: bool, step: float) -> None:
    low, high = quantization_range(bits, signed=signed)
    grid = torch.arange(low, high + 1, dtype=torch.float32) * step
    assert torch.equal(quantize(grid, torch.tensor(step), bits=bits, signed=signed), grid)


@settings(max_examples=60)
@given(bits=BITS, signed=st.booleans(), step=STEPS, seed=st.integers(0, 2**31))
def test_quantizing_twice_is_quantizing_once(
    bits: int, signed: bool, step: float, seed: int
) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 3
    size = torch.tensor(step)
    once = quantize(x, size, bits=bits, signed=signed)
    assert torch.equal(quantize(once, size, bits=bits, signed=signed), once)
    assert len(once.unique()) <= 2**bits
    low, high = quantization_range(bits, signed=signed)
    clipped = x.clamp(low * step, high * step)
    assert ((once - clipped).abs() <= step * (0.5 + 1e-4)).all()


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [(2, True, (-2, 1)), (8, True, (-128, 127)), (2, False, (0, 3)), (8, False, (0, 255))],
)
def test_range_of_a_bit_width(bits: int, signed: bool, expected: tuple[int, int]) -> None:
    assert quantization_range(bits, signed=signed) == expected


def test_initial_weight_step_spans_three_standard_deviations() -> None:
    weight = torch.tensor([-1.0, 0.0, 1.0, 4.0])
    mean, std = 1.0, math.sqrt((4 + 1 + 0 + 9) / 4)
    assert initial_weight_step_size(weight, 4).item() == pytest.approx((mean + 3 * std) / 8)
    assert initial_weight_step_size(-weight, 4).item() == pytest.approx((mean + 3 * std) / 8)


@pytest.mark.parametrize(("signed", "high"), [(True, 7), (False, 15)])
def test_initial_act_step_follows_the_mean_magnitude(signed: bool, high: int) -> None:
    assert initial_act_step_size(0.5, 4, signed=signed).item() == pytest.approx(1 / math.sqrt(high))


def quantizer() -> LsqQuantizer:
    quantizer = LsqQuantizer((6, 4, 2), signed=False)
    for bits in quantizer.candidates:
        quantizer.set_step_size(bits, 0.1 * bits)
    return quantizer


def test_a_level_chooses_step_size_and_range() -> None:
    lsq = quantizer()
    x = torch.rand(50) * 10 - 1
    for bits in (2, 6, 4):
        expected = quantize(x, lsq.step_size_of(bits).detach(), bits=bits, signed=False)
        found = lsq(x, lsq.level(bits), num_features=50).detach()
        torch.testing.assert_close(found, expected)


def test_a_level_of_what_is_no_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        quantizer().level(5)


@settings(max_examples=60)
@given(bits=BITS, signed=st.booleans(), step=STEPS, seed=st.integers(0, 2**31))
def test_a_level_of_tensors_gives_the_same_bits(
    bits: int, signed: bool, step: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    lsq = LsqQuantizer((8, bits) if bits != 8 else (8,), signed=signed)
    lsq.set_step_size(bits, step)
    level = lsq.level(bits)
    x = (torch.randn(4, 30, generator=generator) * step * 2**bits / 2).requires_grad_()
    # The ends of the range and one step of float32 around them.
    ends = torch.tensor([level.low * step, level.high * step])
    x.data[0, :6] = torch.cat([ends, ends.nextafter(ends * 2), ends.nextafter(ends * 0)])
    upstream = torch.randn(x.shape, generator=generator)
    results = []
    for form in (level, Level(*map(torch.tensor, level))):
        lsq.step_size.grad = x.grad = None
        value = lsq(x, form, num_features=30)
        (value * upstream).sum().backward()
        results.append((value.detach(), x.grad, lsq.step_size.grad))
    for number, tensor in zip(*results, strict=True):
        assert torch.equal(number, tensor)


def test_step_gradient_is_zero_where_not_selected_and_scaled_where_it_is() -> None:
    lsq = quantizer()
    x = torch.rand(2, 50) * 10
    lsq(x, lsq.level(4), num_features=50).sum().backward()
    assert lsq.step_size.grad is not None
    assert lsq.step_size.grad[0] == 0
    assert lsq.step_size.grad[2] == 0
    _, _, plain = gradients(
        quantize, x, lsq.step_size_of(4).detach(), torch.ones_like(x), bits=4, signed=False
    )
    assert lsq.step_size.grad[1].item() == pytest.approx(
        plain.item() / math.sqrt(50 * 15), rel=1e-4
    )


def test_a_step_never_reaches_zero() -> None:
    lsq = quantizer()
    lsq.set_step_size(6, 0.0)
    assert lsq.step_size_of(6).item() == pytest.approx(MIN_STEP_SIZE)
    with torch.no_grad():
        lsq.step_size.fill_(-1.0)  # As an optimizer may leave it.
    assert lsq(torch.rand(5), lsq.level(6), num_features=5).isfinite().all()
