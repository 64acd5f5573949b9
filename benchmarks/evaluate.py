"""What one policy costs to evaluate among many, and how often a search opens each image.

`python -m benchmarks.evaluate` trains a small supernet on a generated folder of JPEGs of different
sizes. It prints the seconds of one policy in a batch of 100, without recalibration, over those of
one plain float forward of the same images in memory; and how often a whole search of 100
evaluations opens a file. `--full` takes a larger network.

Then what running policies together saves (`quant/executor.py`): the processor's seconds for one
policy at a time over those for all together, of the moves from one policy (one candidate up or down
in one layer, what a step of the greedy search asks) and of random policies, on random images.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from harness.accuracy import count_wrong, count_wrong_by_policy
from harness.data import Batch, EvalBatches, Splits, eval_batches, load_splits
from harness.models import create_model
from harness.problem.policy import Policy
from harness.quant.convert import convert, describe_network
from harness.quant.execution import PolicyInputs
from harness.quant.executor import Executor
from harness.quant.recalibrate import with_reestimated_statistics
from harness.quant.supernet import Supernet
from harness.run.config import Config, ModelConfig, QuantConfig, load_config
from harness.run.folder import RunDir
from harness.runtime import keep_freed_memory, lay_channels_last
from harness.search.driver import search
from harness.search.request import SearchOptions
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

TOGETHER = (("resnet20", 32), ("mobilenetv2_100", 32))
"""Networks of which policies are run together, and their image size."""
STACKED = (*TOGETHER, ("mobilenetv2_100", 64))
QUICK_TOGETHER = (("resnet8", 32),)
NUM_RANDOM = 60
BATCH_SIZE = 50
NUM_BATCHES = 2
NUM_STACKED = 4
STACKED_SIZES = (10, 50)


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
    for model, image_size in TOGETHER if full else QUICK_TOGETHER:
        values.update(_speedups(model, image_size))
    for model, image_size in STACKED if full else QUICK_TOGETHER:
        values.update(_stacked(model, image_size))
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


def _speedups(model_name: str, image_size: int) -> dict[str, float]:
    """Return how many times faster policies are together than one at a time."""
    supernet = _supernet(model_name, image_size)
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.randn(BATCH_SIZE, 3, image_size, image_size, generator=generator)
        for _ in range(NUM_BATCHES)
    ]
    candidates = supernet.network.candidates
    base = candidates.uniform(weight_bits=4, act_bits=4)
    sets = {
        "moves": _moves(supernet, base),
        "random": [
            sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(NUM_RANDOM)
        ],
    }
    found: dict[str, float] = {}
    for name, policies in sets.items():
        inputs = supernet.encode_standing(policies)
        rounds = [_speedups_of_a_round(supernet, inputs, batches) for _ in range(ROUNDS)]
        for what in rounds[0]:
            key = f"{model_name}_{image_size}_{len(policies)}_{name}_{what}"
            found[key] = median(one[what] for one in rounds)
    return found


@torch.no_grad()
def _speedups_of_a_round(
    supernet: Supernet, inputs: Sequence[PolicyInputs], batches: Sequence[Tensor]
) -> dict[str, float]:
    def one_at_a_time() -> list[list[Tensor]]:
        return [[supernet(images, one) for one in inputs] for images in batches]

    def together() -> list[list[Tensor]]:
        run = Executor(supernet, inputs)  # What is shared is worked out anew in each round.
        return [run(images) for images in batches]

    def recalibrated_alone() -> list[PolicyInputs]:
        alone = [with_reestimated_statistics(supernet, [one], batches[:1]) for one in inputs]
        return [one for (one,) in alone]

    def recalibrated() -> list[PolicyInputs]:
        return with_reestimated_statistics(supernet, inputs, batches[:1])

    return {
        "evaluated": _cpu_seconds(one_at_a_time) / _cpu_seconds(together),
        "recalibrated": _cpu_seconds(recalibrated_alone) / _cpu_seconds(recalibrated),
    }


@torch.no_grad()
def _stacked(model_name: str, image_size: int) -> dict[str, float]:
    """Return what it would bring to run several policies' features as one larger batch.

    That is: the time of one batch of `NUM_STACKED` parts over that of the parts, and how many
    layers round otherwise then.
    """
    supernet = _supernet(model_name, image_size)
    (inputs,) = supernet.encode_standing([supernet.network.candidates.smallest])
    found: dict[str, float] = {}
    for size in STACKED_SIZES:
        images = torch.randn(NUM_STACKED * size, 3, image_size, image_size)
        parts = images.chunk(NUM_STACKED)

        def run_parts(parts: Sequence[Tensor] = parts) -> None:
            for part in parts:
                supernet(part, inputs)

        def run_whole(images: Tensor = images) -> None:
            supernet(images, inputs)

        ratios = [_cpu_seconds(run_whole) / _cpu_seconds(run_parts) for _ in range(2 * ROUNDS)]
        key = f"{model_name}_{image_size}_{NUM_STACKED}x{size}"
        found[f"{key}_stacked_over_parts"] = median(ratios)
        found[f"{key}_layers_that_differ"] = _layers_that_differ(supernet, inputs, images)
    return found


def _layers_that_differ(supernet: Supernet, inputs: PolicyInputs, images: Tensor) -> int:
    given: dict[int, tuple[Any, ...]] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, at=at: given.update({at: args}))
        for at, layer in enumerate(supernet.layers)
    ]
    supernet(images, inputs)
    for hook in hooks:
        hook.remove()
    differ = 0
    for at, layer in enumerate(supernet.layers):
        x, *rest = given[at]
        in_parts = torch.cat([layer(part, *rest) for part in x.chunk(NUM_STACKED)])
        differ += not torch.equal(layer(x, *rest), in_parts)
    return differ


def _supernet(model_name: str, image_size: int) -> Supernet:
    torch.manual_seed(0)
    model = create_model(ModelConfig(name=model_name), num_classes=10, in_channels=3)
    network = describe_network(
        model,
        name=model_name,
        input_size=(3, image_size, image_size),
        num_classes=10,
        config=QuantConfig(),
    )
    supernet = convert(model, network).eval()
    lay_channels_last(supernet)
    keep_freed_memory()  # As every command does on a CPU.
    return supernet


def _moves(supernet: Supernet, base: Policy) -> list[Policy]:
    """Return the policies that give one layer one candidate more or fewer than `base` does."""
    found = []
    for at, layer in enumerate(supernet.network.layers):
        for part, candidates in enumerate((layer.weight_candidates, layer.act_candidates)):
            place = candidates.index(base.bits[at][part])
            for bits in (*candidates[max(place - 1, 0) : place], *candidates[place + 1 :][:1]):
                pair = list(base.bits[at])
                pair[part] = bits
                found.append(Policy([*base.bits[:at], pair, *base.bits[at + 1 :]]))
    return found


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


def _cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the seconds of one processor, which others that share the machine do not change."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _opens_of_a_search(run: RunDir, images: Path) -> dict[str, Any]:
    opens: Counter[str] = Counter()
    with _counted_opens(images, opens):
        (outcome,) = search(run, ["40%"], options=SearchOptions(evaluations=NUM_POLICIES))
    num_images = sum(1 for _ in images.rglob("*.jpg"))
    return {
        "search_evaluations": outcome.search.evaluations,
        "images": num_images,
        "opens": sum(opens.values()),
        "opens_per_image": max(opens.values(), default=0),
        "seconds_per_evaluation": outcome.search.seconds / outcome.search.evaluations,
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
