"""What the quantizer costs by itself, in four forms, forward and backward.

`python -m benchmarks.quantizer` prints the table, `--full` takes more shapes and keeps
docs/results/quantizer.{json,md}. The forms: the engine's kernel, operations of torch one after
another (the form for other devices and types), the same formulas by `torch.compile`, and
`_fake_quantize_learnable_per_tensor_affine` of torch. Processor seconds of one thread over those of
copying the tensor, the least of rounds in which all forms take turns.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, cast
from unittest import mock

import torch
import typer
from torch import Tensor

from benchmarks.kept_runs import keep_runs
from harness.quant import fake_quantize
from harness.quant.fake_quantize import Level, quantize_at_level
from harness.run.files import FileFormat
from harness.terminal import console

RESULTS_FORMAT = FileFormat(name="results of the quantizer")
RUN_KEY = ("shape", "form")
QUICK = ((32, 16, 28, 28),)
FULL = (*QUICK, (32, 64, 16, 16), (32, 96, 32, 32), (256, 256, 3, 3), (32, 64, 56, 56))
BITS, STEP = 4, 0.1
LOW, HIGH = 0, 2**BITS - 1
LEVEL = Level(0, LOW, HIGH)
ROUNDS, REPEATS = 7, 5

Form = Callable[[Tensor, Tensor], Tensor]
"""Maps a tensor and its step size, (1,), to the quantized tensor."""


def main(
    *,
    full: Annotated[bool, typer.Option(help="More shapes; keep the results.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure every form on every shape and print the table."""
    torch.set_num_threads(1)
    results = [row for shape in (FULL if full else QUICK) for row in measured(shape)]
    if full:
        keep_runs("quantizer", results, file_format=RESULTS_FORMAT, markdown=markdown, key=RUN_KEY)
    console().print(markdown(results))
    if as_json:
        typer.echo(json.dumps({"runs": results}))


def kernel(x: Tensor, step_size: Tensor) -> Tensor:
    """Quantize by the kernel."""
    return quantize_at_level(x, step_size, LEVEL, gradient_scale=1.0)


def operations(x: Tensor, step_size: Tensor) -> Tensor:
    """Quantize by operations of torch."""
    with mock.patch.object(fake_quantize, "has_kernel", return_value=False):
        return quantize_at_level(x, step_size, LEVEL, gradient_scale=1.0)


def plain(x: Tensor, step_size: Tensor) -> Tensor:
    """Quantize by autograd alone, which a compiler may put together."""
    clipped = torch.clamp(x / step_size, LOW, HIGH)
    return (clipped + (clipped.round() - clipped).detach()) * step_size


def learnable(x: Tensor, step_size: Tensor) -> Tensor:
    """Quantize by torch's own quantizer with a learned step size."""
    zero_point = torch.zeros(1)
    return torch._fake_quantize_learnable_per_tensor_affine(
        x, step_size, zero_point, LOW, HIGH, 1.0
    )


def forms() -> dict[str, Form]:
    """Return the forms by name."""
    return {
        "kernel": kernel,
        "operations of torch": operations,
        "torch.compile": cast(Form, torch.compile(plain, dynamic=True)),
        "learnable of torch": learnable,
    }


def measured(shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return a row for each form."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator) * 2 ** (BITS + 1) * STEP
    x = x.to(memory_format=torch.channels_last)
    upstream = torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)
    actions: dict[tuple[str, str], Callable[[], Any]] = {("copy", "forward"): x.clone}
    for name, form in forms().items():
        leaf, step_size = x.clone().requires_grad_(), torch.tensor([STEP], requires_grad=True)
        actions[name, "forward"] = partial(form, x, step_size.detach())
        value = form(leaf, step_size)
        actions[name, "backward"] = partial(_backward, value, (leaf, step_size), upstream)
    seconds = {key: float("inf") for key in actions}
    for _ in range(ROUNDS):
        for (name, what), action in actions.items():
            seconds[name, what] = min(seconds[name, what], _seconds(name, action))
    copy = seconds["copy", "forward"]
    return [
        {
            "shape": " x ".join(map(str, shape)),
            "form": name,
            "copy_microseconds": 1e6 * copy,
            "forward": seconds[name, "forward"] / copy,
            "backward": seconds[name, "backward"] / copy,
        }
        for name in forms()
    ]


def _backward(value: Tensor, leaves: Sequence[Tensor], upstream: Tensor) -> None:
    torch.autograd.grad(value, leaves, upstream, retain_graph=True)


def _seconds(name: str, action: Callable[[], Any]) -> float:
    # Backward asks again which form to take.
    is_kernel_barred = name == "operations of torch"
    with ExitStack() as stack:
        if is_kernel_barred:
            stack.enter_context(mock.patch.object(fake_quantize, "has_kernel", return_value=False))
        action()
        start = time.process_time()
        for _ in range(REPEATS):
            action()
        return (time.process_time() - start) / REPEATS


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the table."""
    lines = [
        "# What the quantizer costs by itself",
        "",
        f"`python -m benchmarks.quantizer --full`: {BITS} bits, float32, channels last, processor "
        "seconds of one thread over those of copying the tensor.",
        "",
        "| shape | copy, us | form | forward | backward |",
        "|---|---|---|---|---|",
    ]
    for one in results:
        numbers = f"{one['forward']:.1f} | {one['backward']:.1f}"
        lines.append(
            f"| {one['shape']} | {one['copy_microseconds']:.0f} | {one['form']} | {numbers} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
