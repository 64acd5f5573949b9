"""The kernel against the operations of torch, and both against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness import _search_rs
from harness.quant import fake_quantize as module
from harness.quant.fake_quantize import MIN_STEP_SIZE, Level, quantize_at_level
from harness.quant.layers import QuantConv2d
from harness.quant.lsq import quantization_range

SEEDS = st.integers(0, 2**31)
GRIDS = st.tuples(st.integers(2, 8), st.booleans(), st.floats(2.0**-10, 4.0, width=32))

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "every other column": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "a part": lambda x: torch.cat([x, x])[len(x) :],
    "transposed": lambda x: x.transpose(1, 3).contiguous().transpose(1, 3),
    "one pixel": lambda x: x[:, :, :1, :1],
    "empty": lambda x: x[:0],
}


def level_of(bits: int, *, signed: bool) -> Level:
    return Level(0, *quantization_range(bits, signed=signed))


def run(x: Tensor, step: float, level: Level, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, steps = x.detach().requires_grad_(), torch.tensor([step], requires_grad=True)
    quantized = quantize_at_level(x, steps, level, gradient_scale=1.0)
    quantized.backward(upstream)
    return quantized.detach(), x.grad, steps.grad


def both(monkeypatch_context, *arguments):
    kernel = run(*arguments)
    with monkeypatch_context() as patch:
        patch.setattr(module, "has_kernel", lambda _: False)
        return kernel, run(*arguments)


@settings(max_examples=80)
@given(grid=GRIDS, seed=SEEDS, layout=st.sampled_from(sorted(LAYOUTS)))
def test_the_kernel_gives_the_bits_of_torch(grid, seed: int, layout: str) -> None:
    bits, signed, step = grid
    level = level_of(bits, signed=signed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 8, 4, 6, generator=generator)
    x = (x * 2 - 0.5) * (level.high - level.low) * step
    # Ends of the range, halves between codes, and their neighbours.
    special = torch.tensor([level.low * step, level.high * step, 0.5 * step, 1.5 * step, 0.0])
    special = torch.cat([special, special.nextafter(special * 2), special.nextafter(-special)])
    x.view(-1)[: len(special)] = special
    upstream = torch.randn(x.shape, generator=generator)
    x, upstream = LAYOUTS[layout](x), LAYOUTS[layout](upstream)
    (q, grad_x, grad_step), theirs = both(pytest.MonkeyPatch.context, x, step, level, upstream)
    assert torch.equal(q, theirs[0])
    assert torch.equal(grad_x, theirs[1])
    assert grad_step.item() == pytest.approx(theirs[2].item(), rel=1e-4, abs=1e-3)


def test_a_gradient_that_is_laid_out_otherwise_or_spread_out() -> None:
    level, x = level_of(3, signed=True), torch.randn(2, 4, 3, 3)
    for upstream in (
        torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last),
        torch.randn(2, 4, 1, 1).expand(2, 4, 3, 3),
    ):
        (_, grad_x, step), theirs = both(pytest.MonkeyPatch.context, x, 0.3, level, upstream)
        assert torch.equal(grad_x, theirs[1])
        assert step.item() == pytest.approx(theirs[2].item(), rel=1e-5)


def test_numbers_of_threads_change_no_bit() -> None:
    x, upstream = torch.randn(2, 400_001)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(x, 0.1, level_of(4, signed=True), upstream))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_is_no_number_comes_through() -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    q, _, step = run(x, 0.5, level_of(2, signed=True), torch.ones(4))
    assert q.tolist()[1:] == [0.5, -1.0, 0.0]
    assert q[0].isnan()
    assert step.isnan()
    steps = torch.tensor([torch.nan])
    assert quantize_at_level(x, steps, Level(0, -2, 1), gradient_scale=1.0).isnan().all()


@settings(max_examples=60)
@given(grid=GRIDS, seed=SEEDS)
def test_points_lie_on_the_stored_step_exactly(grid, seed: int) -> None:
    bits, signed, step = grid
    level = level_of(bits, signed=signed)
    x = torch.randn(500, generator=torch.Generator().manual_seed(seed)) * step * 2**bits
    q, *_ = run(x, step, level, x)
    codes = (x / torch.tensor(step)).clamp(level.low, level.high).round()
    assert torch.equal(q, codes * torch.tensor(step))


@settings(max_examples=60)
@given(grid=GRIDS, seed=SEEDS, dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_short_types_take_the_codes_of_float32(grid, seed: int, dtype) -> None:
    bits, signed, step = grid
    level = level_of(bits, signed=signed)
    x = torch.randn(2000, generator=torch.Generator().manual_seed(seed)) * step * 2**bits / 4
    x = x.to(dtype)
    found, *_ = run(x, step, level, x)
    exact, *_ = run(x.float(), step, level, x.float())
    assert found.dtype == dtype
    assert torch.equal(found, exact.to(dtype))


@pytest.mark.parametrize("has_kernel", [True, False], ids=["kernel", "torch"])
@settings(max_examples=60)
@given(grid=GRIDS, seed=SEEDS)
def test_gradients_are_those_of_float64(has_kernel: bool, grid, seed: int) -> None:
    """LSQ, equation 3, the ends of the range counted as inside."""
    bits, signed, step = grid
    level = level_of(bits, signed=signed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 700, generator=generator) * step * 2**bits / 3
    ends = torch.tensor([level.low, level.high]) * torch.tensor(step)
    x[0, :2] = ends
    upstream = torch.randn(x.shape, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        if not has_kernel:
            patch.setattr(module, "has_kernel", lambda _: False)
        _, grad_x, grad_step = run(x, step, level, upstream)
    ratio = x.double() / step
    inside = (x >= ends[0]) & (x <= ends[1])
    slope = torch.where(inside, ratio.clamp(level.low, level.high).round() - ratio,
                        ratio.clamp(level.low, level.high))  # fmt: skip
    # A ratio next to a half may round to either code in float32.
    is_half = ((ratio - ratio.floor()) - 0.5).abs() < 1e-5 * ratio.abs().clamp_min(1)
    doubt = (upstream.abs() * is_half).sum().item()
    assert torch.equal(grad_x, torch.where(inside, upstream, 0.0))
    exact = (upstream.double() * slope).sum().item()
    assert grad_step.item() == pytest.approx(exact, rel=1e-4, abs=1e-3 + doubt)


def test_a_gradient_of_a_step_at_its_smallest_is_one_sided() -> None:
    x = torch.ones(4)
    for sign in (1.0, -1.0):
        *_, grad = run(x, MIN_STEP_SIZE, level_of(2, signed=True), torch.full((4,), sign))
        assert grad.item() == min(4 * sign, 0.0)


def test_a_quantized_input_is_not_kept_and_made_again_alike(monkeypatch) -> None:
    kept: list[Tensor] = []
    layer = QuantConv2d(8, 4, 3)
    layer.attach_quantizers(weight_candidates=(4,), act_candidates=(4,), act_signed=False)
    x = torch.rand(2, 8, 64, 64, requires_grad=True)
    assert x.numel() >= module.REMADE_FROM
    gradients = []
    for remakes in (True, False):
        if not remakes:
            monkeypatch.setattr("harness.quant.layers.RemadeInBackward.__enter__", lambda _: None)
            monkeypatch.setattr("harness.quant.layers.RemadeInBackward.__exit__", lambda *_: None)
        x.grad = layer.act_quantizer.step_size.grad = layer.weight.grad = None
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
        ):
            value = layer(x, layer.row(4, 4, norm=0))
        places = {tensor.data_ptr() for tensor in kept if tensor.shape == x.shape}
        assert len(places) == (1 if remakes else 2)
        value.square().sum().backward()
        gradients.append([x.grad, layer.act_quantizer.step_size.grad, layer.weight.grad])
    for mine, plain in zip(*gradients, strict=True):
        assert torch.equal(mine, plain)


def test_the_kernel_refuses_what_is_no_grid_or_of_another_length() -> None:
    x = torch.zeros(4).numpy()
    for grid in ((0.0, 0, 1), (-1.0, 0, 1), (1.0, 2, 1)):
        with pytest.raises(ValueError, match="a grid needs a step above zero and low <= high"):
            _search_rs.fake_quantize(x, x.copy(), grid, 1)
    with pytest.raises(ValueError, match="of different lengths"):
        _search_rs.fake_quantize(x, torch.zeros(3).numpy(), (1.0, 0, 1), 1)
    with pytest.raises(TypeError, match="not contiguous"):
        _search_rs.fake_quantize(torch.zeros(8).numpy()[::2], x, (1.0, 0, 1), 1)
