"""The quantizer against a plain autograd composition, and what its grid must hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.quant.fake_quantize import MIN_STEP_SIZE, Level, fake_quantize
from harness.quant.lsq import (
    MAX_FITTED,
    LsqQuantizer,
    fair_sample,
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


def neighbour(value: Tensor, *, up: bool) -> Tensor:
    """Return the next number of the same type; torch.nextafter knows no float16."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
    if value == 0:
        return value.new_full((), torch.finfo(value.dtype).smallest_normal * (1 if up else -1))
    return (value.view(whole) + (1 if (value > 0) == up else -1)).view(value.dtype)


@pytest.mark.parametrize("form", [int, torch.tensor], ids=["numbers", "tensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("step", [1.0, 0.1, 0.0371, 3.3])
def test_gradient_passes_at_the_limits_and_not_one_number_beyond(step, dtype, form) -> None:
    for bits in range(2, 9):
        for signed in (True, False):
            low, high = map(form, quantization_range(bits, signed=signed))
            size = torch.tensor(step, dtype=dtype)
            far = torch.tensor([-1e4, 1e4], dtype=dtype)
            least, most = fake_quantize(far, size, low=low, high=high)
            x = torch.stack([
                least, most, neighbour(least, up=True), neighbour(most, up=False),
                neighbour(least, up=False), neighbour(most, up=True),
            ]).requires_grad_()  # fmt: skip
            fake_quantize(x, size, low=low, high=high).sum().backward()
            assert x.grad is not None
            assert x.grad.tolist() == [1, 1, 1, 1, 0, 0], (bits, signed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_step_gradient_of_short_types_is_that_of_float64(dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 64, 28, 28, generator=generator).to(dtype)
    upstream = (torch.randn(x.shape, generator=generator) * 1e-2 + 1e-3).to(dtype)
    for bits, signed in ((2, True), (4, False), (6, True)):
        low, high = quantization_range(bits, signed=signed)
        size = torch.tensor(0.25)
        _, _, found = gradients(quantize, x, size, upstream, bits=bits, signed=signed)
        ratio = x.double() / 0.25
        # LSQ, equation 3; written out, for versions of torch differ in the clamp's own ends.
        inside = ratio.round() - ratio
        plain = torch.where((ratio >= low) & (ratio <= high), inside, ratio.clamp(low, high))
        exact = (upstream.double() * plain).sum().item()
        assert found.item() == pytest.approx(exact, rel=1e-3), bits


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


def test_a_step_below_the_smallest_comes_back_and_goes_no_further() -> None:
    lsq = quantizer()
    for level in (lsq.level(4), Level(*map(torch.tensor, lsq.level(4)))):
        for start in (MIN_STEP_SIZE, -0.01):
            for sign in (1, -1):
                with torch.no_grad():
                    lsq.step_size.fill_(start)  # As an optimizer may leave it.
                lsq.step_size.grad = None
                # All lies above the range: a larger step makes the sum larger.
                (lsq(torch.ones(5), level, num_features=5).sum() * sign).backward()
                assert lsq.step_size.grad is not None
                grad = lsq.step_size.grad[1].item()
                assert (grad == 0) if sign > 0 else (grad < 0)


def squared_error(lsq: LsqQuantizer, bits: int, x: Tensor) -> float:
    step = lsq.step_size_of(bits).detach()
    return (quantize(x, step, bits=bits, signed=lsq.signed) - x).square().sum().item()


@pytest.mark.parametrize("period", [56 * 56, 7, 4096])
def test_fit_of_a_sample_is_that_of_all_elements_where_every_kth_lies(period) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 32, 56, 56, generator=generator).abs()
    flat = x.flatten()
    flat[::period] = 5.0  # Pixel (0, 0) of every feature map, say, is unlike the others.
    assert x.numel() > MAX_FITTED
    sampled, whole = (LsqQuantizer((6, 4, 2), signed=False) for _ in range(2))
    for lsq in (sampled, whole):
        lsq.start_step_sizes(x.mean())
    sampled.fit_step_sizes(x)
    # Every element counts where there are no more of them than are fitted.
    for bits in whole.candidates:
        errors = []
        start = whole.step_size_of(bits).item()
        for sixths in range(-18, 19):
            whole.set_step_size(bits, start * 2 ** (sixths / 6))
            errors.append(squared_error(whole, bits, x))
        assert squared_error(sampled, bits, x) <= 1.02 * min(errors), bits


def test_a_fair_sample_is_drawn_from_everywhere_and_alike_each_time() -> None:
    x = torch.arange(1_000_000)
    state = torch.get_rng_state()
    sample = fair_sample(x, 1000)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(sample, fair_sample(x, 1000))
    assert torch.equal(sample // 1000, torch.arange(1000))
    assert len((sample % 1000).unique()) > 500  # Not the same place in every stretch.
    assert sample[:3].tolist() == [178, 1505, 2669]  # On every machine.
    assert torch.equal(fair_sample(x[:1000], 1000), x[:1000])
