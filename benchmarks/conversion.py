"""How many of timm's networks are counted right and convert, and why the others do not.

`python -m benchmarks.conversion` takes a seeded sample, `--full` all of timm, and writes
docs/results/conversion.{json,md}. Networks are made on the meta device, at timm's own input size.
"""

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import typer
from torch import Tensor, nn

from harness.errors import ConversionError
from harness.quant.convert import convert, describe_network
from harness.run.config import QuantConfig
from harness.run.files import FileFormat, write_json, write_text

RESULTS = Path("docs/results")
RESULTS_FORMAT = FileFormat(name="results")
NUM_SAMPLED = 160

REASONS = {
    "multiplies tensors outside": "products of activations",
    "LSTM": "recurrent layers",
    "followed by torch.fx": "torch.fx cannot follow",
    "no quantized form": "another module without a quantized form",
    "times in one pass": "layers that run twice",
}
"""What a refusal says, and what the table calls it; the first that fits counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one network."""

    name: str
    refusal: str | None
    """The message; None where the network converts."""
    is_counted: bool
    """Whether it could be followed, and each layer's MACs are those that hooks count."""

    @property
    def reason(self) -> str:
        """The refusal in the words of the table."""
        text = self.refusal or "converts"
        return next((known for sign, known in REASONS.items() if sign in text), text)


def main(
    *,
    full: Annotated[bool, typer.Option(help="All of timm; about half an hour.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Convert networks and print how many of them do."""
    warnings.simplefilter("ignore")  # Of timm, about names that it renames.
    outcomes = [outcome(name) for name in (timm.list_models() if full else sampled_names())]
    table = _markdown(outcomes)
    typer.echo(table)
    if full:
        write_text(RESULTS / "conversion.md", table)
        refused = {one.name: one.refusal for one in outcomes if one.refusal is not None}
        values = {"timm": timm.__version__, **_summary(outcomes), "refused": refused}
        write_json(RESULTS / "conversion.json", values, file_format=RESULTS_FORMAT)
    if as_json:
        typer.echo(json.dumps(_summary(outcomes)))


def sampled_names() -> list[str]:
    """Return a seeded sample of timm's networks."""
    return sorted(random.Random(0).sample(timm.list_models(), NUM_SAMPLED))


def outcome(name: str) -> Outcome:
    """Describe and convert one network."""
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    size = tuple(model.default_cfg.get("input_size", (3, 224, 224)))
    is_counted = False
    try:
        network = describe_network(
            model, name=name, input_size=size, num_classes=1000, config=QuantConfig()
        )
        is_counted = {layer.name: layer.macs for layer in network.layers} == _macs(model, size)
        with torch.device("meta"):
            convert(model, network)
    except ConversionError as refusal:
        return Outcome(name=name, refusal=str(refusal), is_counted=is_counted)
    return Outcome(name=name, refusal=None, is_counted=is_counted)


def _macs(model: nn.Module, size: tuple[int, ...]) -> Counter[str]:
    """Count multiply-accumulates of one image by hooks on whatever has a weight to multiply."""
    macs: Counter[str] = Counter()

    def count(path: str, *, transposed: bool) -> Callable[..., None]:
        def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            elements = inputs[0].numel() if transposed else output.numel()
            macs[path] += elements * layer.weight[0].numel()

        return hook

    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *transposed)
    hooks = [
        layer.register_forward_hook(count(path, transposed=isinstance(layer, transposed)))
        for path, layer in model.named_modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        model(torch.empty(1, *size, device="meta"))
    for hook in hooks:
        hook.remove()
    return macs


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "networks": len(outcomes),
        "counted": sum(one.is_counted for one in outcomes),
        "reasons": dict(Counter(one.reason for one in outcomes).most_common()),
    }


def _markdown(outcomes: Sequence[Outcome]) -> str:
    summary = _summary(outcomes)
    lines = [
        "# Which of timm's networks convert",
        "",
        f"timm {timm.__version__}, {summary['networks']} networks "
        "(`python -m benchmarks.conversion --full`). Of those that torch.fx follows, BitOPs equal "
        f"a count by forward hooks, layer by layer, on {summary['counted']}.",
        "",
        "| outcome | networks |",
        "|---|---|",
        *(f"| {reason} | {count} |" for reason, count in summary["reasons"].items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
