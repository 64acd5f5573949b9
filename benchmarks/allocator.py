"""What keeping freed memory saves: the same evaluation with and without `keep_freed_memory`.

`python -m benchmarks.allocator` runs each in processes of their own, in turns, since what is set
cannot be taken back.
"""

import json
import subprocess
import sys
import time
from statistics import median
from typing import Annotated

import torch
import typer

from harness.models import create_model
from harness.quant.convert import convert, describe_network
from harness.run.config import ModelConfig, QuantConfig
from harness.runtime import keep_freed_memory, lay_channels_last

IMAGES = (100, 3, 32, 32)


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print the ratio of a forward pass of resnet20 with kept memory to one without."""
    if child is not None:
        typer.echo(_seconds(keeps=child == "keep"))
        return
    pairs = [(_measure("keep"), _measure("return")) for _ in range(rounds)]
    ratio = median(keep / back for keep, back in pairs)
    typer.echo(f"ratio: {ratio:.3f}, {1e3 * median(keep for keep, _ in pairs):.1f} ms kept")
    if as_json:
        typer.echo(json.dumps({"ratio": ratio}))


def _measure(child: str) -> float:
    command = [sys.executable, "-m", "benchmarks.allocator", "--child", child]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _seconds(*, keeps: bool) -> float:
    torch.set_num_threads(1)
    if keeps:
        keep_freed_memory()
    torch.manual_seed(0)
    model = create_model(ModelConfig(name="resnet20"), num_classes=10, in_channels=3)
    network = describe_network(
        model, name="resnet20", input_size=IMAGES[1:], num_classes=10, config=QuantConfig()
    )
    supernet = convert(model, network).eval()
    lay_channels_last(supernet)
    images, policy = torch.randn(IMAGES), network.candidates.largest
    times = []
    with torch.no_grad():
        for _ in range(12):
            start = time.perf_counter()
            supernet(images, policy)
            times.append(time.perf_counter() - start)
    return median(times[2:])


if __name__ == "__main__":
    typer.run(main)
