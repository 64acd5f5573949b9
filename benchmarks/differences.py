"""What the differences to the authors' code are worth, measured on the embedded digits.

`python -m benchmarks.differences` trains briefly, `--full` as the defaults say, and writes
docs/results/differences.{json,md}. Each variant is what the authors' code does in one place where
this program does otherwise; everything else, seeds included, is the same.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from torch import Tensor

from harness.quant import lsq
from harness.quant.layers import QuantizedLayer
from harness.run.config import TrainConfig, load_config
from harness.run.files import FileFormat, write_json, write_text
from harness.run.folder import RunDir
from harness.trained_run import load_run
from harness.training import calibration, supernet_task
from harness.training.losses import LossTerm, cross_entropy, random_pass_terms
from harness.training.trainer import train

RESULTS = Path("docs/results")
RESULTS_FORMAT = FileFormat(name="results")
SEEDS = range(5)
BITS = (2, 4, 6)
SMOOTHING = 0.1


@contextmanager
def as_it_is() -> Iterator[None]:
    """Change nothing."""
    yield


@contextmanager
def smoothed_random_passes() -> Iterator[None]:
    """Smooth the labels of random passes as well as those of the max pass."""
    smoothed = LossTerm(
        name="random_ce", weight=0.5, function=partial(cross_entropy, smoothing=SMOOTHING)
    )
    terms = (smoothed, *random_pass_terms(TrainConfig(), progress=0)[1:])
    with mock.patch.object(supernet_task, "random_pass_terms", return_value=terms):
        yield


@contextmanager
def step_gradients_scaled_by(scale: Callable[[int, Any], float]) -> Iterator[None]:
    """Scale the gradients of step sizes otherwise than by 1/sqrt(elements of an example * Qp)."""

    def scaled(num_features: int, high: int, _: torch.dtype) -> float:
        return scale(num_features, high)

    with mock.patch.object(lsq, "_gradient_scale", scaled):
        yield


@contextmanager
def step_gradients_by_batch() -> Iterator[None]:
    """Count the elements of the whole batch where the gradient of a step size is scaled."""

    def quantized_input(layer: QuantizedLayer, x: Tensor, level: Any) -> Tensor:
        if level is None or layer.act_quantizer is None:
            return x
        quantized: Tensor = layer.act_quantizer(x, level, num_features=x.numel())
        return quantized

    with mock.patch.object(QuantizedLayer, "quantized_input", quantized_input):
        yield


@contextmanager
def unfitted_step_sizes() -> Iterator[None]:
    """Leave step sizes at LSQ's start where training from a float run follows."""
    with mock.patch.object(calibration, "fit_step_sizes"):
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to train."""

    name: str
    change: Callable[[], Any]
    overrides: Sequence[str] = ()
    starts_trained: bool = False
    """Whether it starts from a float run."""


SMOOTHED = (f"train.label_smoothing={SMOOTHING}",)
BRIEFLY = ("train.epochs=2",)
VARIANTS = (
    Variant(name="as it is", change=as_it_is),
    Variant(name="step gradients scaled by the batch", change=step_gradients_by_batch),
    Variant(
        name="step gradients not scaled",
        change=partial(step_gradients_scaled_by, lambda num_features, high: 1.0),
    ),
    Variant(
        name="no weight decay at 2 bits",
        change=as_it_is,
        overrides=("train.two_bit_weight_decay=0",),
    ),
    Variant(name="smoothing 0.1, max pass alone", change=as_it_is, overrides=SMOOTHED),
    Variant(
        name="smoothing 0.1, random passes too", change=smoothed_random_passes, overrides=SMOOTHED
    ),
    Variant(name="from a float run", change=as_it_is, starts_trained=True),
    Variant(name="from a float run, not fitted", change=unfitted_step_sizes, starts_trained=True),
    Variant(
        name="from a float run, 2 epochs", change=as_it_is, overrides=BRIEFLY, starts_trained=True
    ),
    Variant(
        name="from a float run, 2 epochs, not fitted",
        change=unfitted_step_sizes,
        overrides=BRIEFLY,
        starts_trained=True,
    ),
)
"""The first of a kind is what the program does; those behind it differ in one thing."""


def main(
    *,
    full: Annotated[
        bool, typer.Option(help="As many epochs as the default; twenty minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Train every variant with every seed and print test accuracies."""
    torch.set_num_threads(1)
    epochs = 40 if full else 4
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            rows = [
                _accuracies(variant, seed, epochs=epochs, folder=Path(folder)) for seed in SEEDS
            ]
            found[variant.name] = rows
            typer.echo(_row(variant.name, rows))
    if full:
        write_text(RESULTS / "differences.md", _markdown(found, epochs))
        values = {"epochs": epochs, "bits": list(BITS), "test_accuracy": found}
        write_json(RESULTS / "differences.json", values, file_format=RESULTS_FORMAT)
    if as_json:
        typer.echo(json.dumps({"epochs": epochs, "test_accuracy": found}))


def _accuracies(variant: Variant, seed: int, *, epochs: int, folder: Path) -> list[float]:
    """Return test accuracies at 2/2, 4/4 and 6/6 of one training."""
    overrides = [f"seed={seed}", f"train.epochs={epochs}", "train.validate_every_epochs=99"]
    if variant.starts_trained:
        overrides.append(f"model.weights={_float_run(folder, seed).path}")
    config = load_config(None, overrides=[*overrides, *variant.overrides])
    with variant.change():
        run = train(config, out=folder / f"{variant.name}_{seed}".replace(" ", "_"))
    trained = load_run(run)
    policies = [trained.network.candidates.uniform(weight_bits=b, act_bits=b) for b in BITS]
    return trained.accuracy(policies, split="test")


def _float_run(folder: Path, seed: int) -> RunDir:
    """Return a trained float run, which serves every variant."""
    config = load_config(None, overrides=[f"seed={seed}", "train.mode=float", "train.epochs=15"])
    return train(config, out=folder / f"float_{seed}")


def _row(name: str, rows: Sequence[Sequence[float]]) -> str:
    cells = [
        f"{100 * mean(column):.1f} ± {100 * stdev(column):.1f}"
        for column in zip(*rows, strict=True)
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def _markdown(found: dict[str, list[list[float]]], epochs: int) -> str:
    lines = [
        "# Differences to the authors' code",
        "",
        f"resnet8 on the digits, {epochs} epochs, test accuracy in % (mean and deviation of "
        f"{len(SEEDS)} seeds; `python -m benchmarks.differences --full`).",
        "",
        "| variant | 2/2 | 4/4 | 6/6 |",
        "|---|---|---|---|",
        *(_row(name, rows) for name, rows in found.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
