"""What one policy costs to evaluate among many, and how often a search opens each image.

`python -m benchmarks.evaluate` trains a small supernet on a generated folder of JPEGs of different
sizes. It prints the seconds of one policy in a batch of 100, without recalibration, over those of
one plain float forward of the same images in memory; and how often a whole search of 100
evaluations opens a file. `--full` takes a larger network.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from harness.accuracy import count_wrong, count_wrong_by_policy
from harness.data import Batch, EvalBatches, Splits, eval_batches, load_splits
from harness.models import create_model
from harness.run.config import Config, load_config
from harness.run.folder import RunDir
from harness.runtime import lay_channels_last
from harness.search.driver import SearchOptions, search
from harness.trained_run import load_run
from harness.training.policy_sampler import sample_policy
from harness.training.trainer import train

NUM_POLICIES = 100
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    model: str
    image_size: int
    num_images: int
    """JPEGs of each of the two splits."""


QUICK = Size(model="resnet8", image_size=32, num_images=100)
FULL = Size(model="resnet18", image_size=64, num_images=60)


def main(
    *,
    full: Annotated[bool, typer.Option(help="A larger network.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Print ratios and opens per image."""
    torch.set_num_threads(1)
    size = FULL if full else QUICK
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        _write_jpegs(images, size)
        config = _config(images, size)
        run = train(config, out=Path(folder) / "run")
        values = {
            "model": size.model,
            "image_size": size.image_size,
            **_ratios(run, config),
            **_opens_of_a_search(run, images),
        }
    for name, value in values.items():
        typer.echo(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    if as_json:
        typer.echo(json.dumps(values))


def _write_jpegs(folder: Path, size: Size) -> None:
    """Write two splits of two classes; no two images in a row have one size."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for index in range(size.num_images):
            height, width = (size.image_size + 8 + (index * step) % 40 for step in (7, 11))
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            path = folder / split / f"class{index % 2}" / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def _config(images: Path, size: Size) -> Config:
    overrides = (
        f"model.name={size.model}", "data.name=imagefolder", f"data.path={images}",
        f"data.image_size={size.image_size}", f"data.search_images={size.num_images // 2}",
        "train.epochs=0", f"train.batch_size={size.num_images // 4}", "eval.batch_size=50",
        "eval.recalibrate_images=50", "search.recalibrate_images=25", "search.finalists=8",
    )  # fmt: skip
    return load_config(None, overrides=overrides)


def _ratios(run: RunDir, config: Config) -> dict[str, Any]:
    """Return the cost of one policy among many over that of one plain float forward."""
    supernet = load_run(run).supernet
    in_memory = _Held(_batches(load_splits(config.data, seed=config.seed), config))
    model = create_model(config.model, num_classes=2, in_channels=3)
    lay_channels_last(model)  # As the supernet is: the comparison is of policies, not of layouts.
    candidates = supernet.network.candidates
    policies = [
        sample_policy(candidates, seed=0, step=0, pass_index=index) for index in range(NUM_POLICIES)
    ]

    def float_seconds() -> float:
        return _seconds(lambda: count_wrong(model, in_memory))

    def policy_seconds(batches: Any) -> float:
        return _seconds(lambda: count_wrong_by_policy(supernet, policies, batches)) / NUM_POLICIES

    memory, folder = [], []
    for _ in range(ROUNDS):
        memory.append(policy_seconds(in_memory) / float_seconds())
        # A new split: nothing is kept from the round before, every image is decoded.
        fresh = _batches(load_splits(config.data, seed=config.seed), config)
        folder.append(policy_seconds(fresh) / float_seconds())
    return {"policies": NUM_POLICIES, "ratio": median(folder), "ratio_in_memory": median(memory)}


def _batches(splits: Splits, config: Config) -> EvalBatches:
    return eval_batches(splits.test, batch_size=config.eval.batch_size)


class _Held(EvalBatches):
    """Batches read before, as tensors: evaluating them reads, decodes and normalises nothing."""

    def __init__(self, batches: EvalBatches) -> None:
        self._held = list(batches)
        self.num_images = batches.num_images

    def __len__(self) -> int:
        return len(self._held)

    def share(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        return iter(self._held[rank::world_size])


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _opens_of_a_search(run: RunDir, images: Path) -> dict[str, Any]:
    opens: Counter[str] = Counter()
    with _counted_opens(images, opens):
        (outcome,) = search(run, ["40%"], options=SearchOptions(evaluations=NUM_POLICIES))
    num_images = sum(1 for _ in images.rglob("*.jpg"))
    return {
        "search_evaluations": outcome.evaluations,
        "images": num_images,
        "opens": sum(opens.values()),
        "opens_per_image": max(opens.values(), default=0),
        "seconds_per_evaluation": outcome.seconds / outcome.evaluations,
    }


@contextmanager
def _counted_opens(folder: Path, opens: "Counter[str]") -> Iterator[None]:
    """Count each opening of a file below the folder, by this process."""
    counting = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and counting[0] and str(arguments[0]).startswith(str(folder)):
            opens[str(arguments[0])] += str(arguments[0]).endswith(".jpg")

    sys.addaudithook(hook)  # It cannot be removed, only told to stop.
    try:
        yield
    finally:
        counting[0] = False


if __name__ == "__main__":
    typer.run(main)
