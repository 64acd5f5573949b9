"""Training images per second of processor time, beside timm's loader with the same transform.

`python -m benchmarks.loader` measures a folder of 400 JPEG files of 500 x 375 at 224 x 224, sets in
memory, and the parts of which an image is made; `--full` takes more rounds and keeps
docs/results/loader.{json,md}. Forms take turns in every round; ratios are medians over rounds of
the processor time of the first form over that of another, worker processes included.
"""

import gc
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from timm.data import ImageDataset, create_loader
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from benchmarks.kept_runs import keep_runs
from benchmarks.loader_parts import Form, differences, part_forms
from harness.data import ImageSplit, load_splits, train_batches
from harness.data.images import Changes, MemorySplit
from harness.run.config import DataConfig
from harness.run.files import FileFormat
from harness.runtime import keep_freed_memory
from harness.terminal import console

RESULTS_FORMAT = FileFormat(name="results of the loader")
RUN_KEY = ("what", "form")
NUM_IMAGES, WIDTH, HEIGHT, SIZE = 400, 500, 375, 224
BATCH = 64
POLICY = "rand-m9-mstd0.5-inc1"
NUM_CLASSES = 8
SMALL_IMAGES = 8192
"""Images of an epoch of a set in memory."""
PART_IMAGES = 64
DIFFERENCES = "Pillow and torchvision"
MEAN, STD = 0.3, 0.3
SMALL_SETS = {"digits, 1 x 8 x 8": (1, 8, 1), "Fashion-MNIST, 1 x 28 x 28": (1, 28, 2),
              "CIFAR, 3 x 32 x 32": (3, 32, 4)}  # fmt: skip
"""Channels, side and padding of random images of the shape of a set."""


def main(
    *,
    rounds: Annotated[int | None, typer.Option(help="Times that each form is measured.")] = None,
    full: Annotated[bool, typer.Option(help="Five rounds; keep the results.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure every form and print the tables."""
    torch.set_num_threads(1)
    keep_freed_memory()  # As training does.
    rounds = rounds or (5 if full else 2)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        for workers in (0, 1):
            name = f"JPEG folder, {workers or 'no'} worker{'' if workers else 's'}"
            results += compare(name, folder_forms(Path(folder), workers=workers), rounds=rounds)
        name = f"JPEG folder, no workers, {POLICY}"
        forms = folder_forms(Path(folder), workers=0, policy=POLICY)
        results += compare(name, forms, rounds=rounds)
        for name, shape in SMALL_SETS.items():
            results += compare(name, small_forms(*shape), rounds=rounds)
        results += measure_parts(Path(folder), rounds=rounds)
    if full:
        keep_runs(
            "loader", results, file_format=RESULTS_FORMAT, markdown=markdown, key=RUN_KEY
        )  # fmt: skip
    console().print(markdown(results))
    if as_json:
        typer.echo(json.dumps({"runs": results}))


def write_images(folder: Path) -> None:
    """Write windows of photographs as JPEG files, 45 KB each, in class folders.

    One in two is a pixel wider: images of one size would be held in memory.
    """
    from skimage import data

    photographs = (data.chelsea(), data.coffee(), data.astronaut())
    generator = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        photograph = photographs[number % len(photographs)]
        height = min(photograph.shape[0], photograph.shape[1] * HEIGHT / WIDTH)
        height *= generator.uniform(0.55, 1)
        width = height * WIDTH / HEIGHT
        top = generator.uniform(0, photograph.shape[0] - height)
        left = generator.uniform(0, photograph.shape[1] - width)
        window = Image.fromarray(photograph).resize(
            (WIDTH + number % 2, HEIGHT), box=(left, top, left + width, top + height)
        )
        path = folder / "train" / f"class{number % NUM_CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        window.save(path, quality=90)


def folder_split(folder: Path, **settings: Any) -> ImageSplit:
    """Return the training images of the folder as `harness train` has them."""
    config = DataConfig(
        name="imagefolder", path=folder, image_size=SIZE, search_images=8, horizontal_flip=True,
        **settings,
    )  # fmt: skip
    return load_splits(config, seed=0).train


def folder_forms(folder: Path, *, workers: int, policy: str | None = None) -> dict[str, Form]:
    """Return the loaders that read the folder."""

    def ours(by: str) -> Form:
        split = folder_split(folder, augment_by=by, num_workers=workers, rand_augment=policy)
        return lambda: train_batches(split, batch_size=BATCH, seed=0)

    def timms(*, prefetches: bool) -> Form:
        return lambda: create_loader(
            ImageDataset(str(folder / "train")),
            input_size=(3, SIZE, SIZE),
            batch_size=BATCH,
            is_training=True,
            color_jitter=None,
            auto_augment=policy,
            num_workers=workers,
            use_prefetcher=prefetches,
            device=torch.device("cpu"),
        )

    forms = {
        "timm": timms(prefetches=False),
        "timm, its prefetcher": timms(prefetches=True),
        "ours, pillow": ours("pillow"),
        "ours, torchvision": ours("torchvision"),
    }
    if policy is not None:  # timm's dies of operations that Pillow refuses.
        del forms["timm"], forms["timm, its prefetcher"]
    return forms


def small_forms(channels: int, side: int, padding: int) -> dict[str, Form]:
    """Return loaders of random images in memory, cropped and flipped."""
    generator = torch.Generator().manual_seed(0)
    shape = (SMALL_IMAGES, channels, side, side)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.zeros(SMALL_IMAGES, dtype=torch.int64)
    changes = Changes(crop_padding=padding, horizontal_flip=True)
    mean, std = [MEAN] * channels, [STD] * channels
    split = MemorySplit(pixels, labels=labels, mean=mean, std=std, changes=changes)
    worked = MemorySplit(pixels, labels=labels, mean=mean, std=std, changes=changes, num_workers=1)
    transform = v2.Compose(
        [
            v2.RandomCrop(side, padding=padding),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )

    def one_by_one(samples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        images, classes = zip(*samples, strict=True)
        return torch.stack([transform(image) for image in images]), torch.stack(classes)

    return {
        "torchvision v2, image by image": lambda: DataLoader(
            TensorDataset(pixels, labels), BATCH, shuffle=True, collate_fn=one_by_one
        ),
        "ours, by a worker": lambda: train_batches(worked, batch_size=BATCH, seed=0),
        "ours": lambda: train_batches(split, batch_size=BATCH, seed=0),
    }


def measure_parts(folder: Path, *, rounds: int) -> list[dict[str, Any]]:
    """Return what the parts of an image take, and by how much the forms' pixels differ."""
    paths = sorted(folder.rglob("*.jpg"))[:PART_IMAGES]
    entries = [{"bytes": path.read_bytes(), "path": None} for path in paths]
    results = []
    for name, forms in part_forms(entries).items():
        results += compare(f"Part: {name}", forms, rounds=rounds)
    return [*results, {"what": DIFFERENCES, "form": "pixels", **differences(entries)}]


def compare(what: str, forms: Mapping[str, Form], *, rounds: int) -> list[dict[str, Any]]:
    """Return what each form takes; in every round they take turns.

    Args:
        what: The images.
        forms: By name; the first is compared with.
        rounds: Times that each is measured, after once that is not.
    """
    gc.collect()
    gc.freeze()  # What is there is not looked through while a form is timed.
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for round_number in range(rounds + 1):
        for name, form in forms.items():
            seconds = seconds_per_image(form)
            if round_number:
                taken[name].append(seconds)
    first = taken[next(iter(forms))]
    results = [
        {
            "what": what,
            "form": name,
            "images_per_second": 1 / statistics.median(seconds),
            "ratio": statistics.median(a / b for a, b in zip(first, seconds, strict=True)),
        }
        for name, seconds in taken.items()
    ]
    for result in results:
        typer.echo(json.dumps(result), err=True)
    return results


def seconds_per_image(form: Form) -> float:
    """Return the processor time of one epoch, of this process and its workers, over its images."""
    start, num_images = processor_seconds(), 0
    loader = form()
    for images, *_ in loader:
        num_images += len(images)
    del loader  # Ends the workers, whose time counts from then on.
    return (processor_seconds() - start) / num_images


def processor_seconds() -> float:
    """Return the time of this process and of those that it has seen end."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the tables and what was tried."""
    lines = [
        "# Loading and augmenting training images",
        "",
        f"`python -m benchmarks.loader --full`: {NUM_IMAGES} JPEG files of {WIDTH} x {HEIGHT} "
        f"(windows of photographs, quality 90), crops of {SIZE} x {SIZE}, flips, batches of "
        f"{BATCH}; one thread of torch, processor time of all processes, workers included. Forms "
        "take turns; *ratio*: the time of the first of its group over that of the form, the median "
        "over rounds. timm's loader has the same transform, bilinear and without colour jitter.",
    ]
    timed = [one for one in results if one["what"] != DIFFERENCES]
    for what in dict.fromkeys(one["what"] for one in timed):
        lines += ["", f"| {what} | images/s per core | ratio |", "|---|---|---|"]
        lines += [
            f"| {one['form']} | {one['images_per_second']:,.0f} | {one['ratio']:.2f} |"
            for one in timed
            if one["what"] == what
        ]
    for one in results:
        if one["what"] == DIFFERENCES:
            lines += ["", _pixels(one)]
    return "\n".join([*lines, "", TRIED])


def _pixels(found: Mapping[str, Any]) -> str:
    return (
        f"Pillow and torchvision decode {100 * found['decoded_share']:.2f} % of the values of "
        f"{PART_IMAGES} of the images otherwise (by at most {found['decoded_levels']:.0f} of 255 "
        f"levels), and crop {100 * found['cropped_share']:.2f} % otherwise (by at most "
        f"{found['cropped_levels']:.0f})."
    )


TRIED = """\
## What was adopted, and what was not

Before this, an image of such a folder took 4.5 ms without workers and 5.3 with one (the program
before, three turns with this one); now 2.7 and 3.0 by torchvision, 3.9 and 4.8 by Pillow.

Adopted:

- Training images are decoded by `decode_jpeg` and cropped, flipped and normalised as tensors. It
  gave the pixels of Pillow for every file tried (6,192 JPEG files in gray, RGB and CMYK,
  progressive or not, rotated, 6,000 of them with damaged bytes: the same pixels or the same
  refusal). Pillow looks at the header first, and decodes what is rotated, CMYK, no JPEG file or
  refused.
- The interpolation rounds otherwise, so runs that exist keep theirs: the upgrade of config.yaml
  gives them `data.augment_by: pillow`, which trains on the very bits that they had (digests of
  batches of both programs were compared), and new runs have `torchvision`.
- Evaluation stays with Pillow. Its pixels are equal only as long as both libraries ship the same
  libjpeg-turbo, and an evaluation image is decoded once and kept.
- Generators are put back once a batch, not once an image, and the global one of torch is no
  longer seeded.
- A batch is collated by `default_collate`, which writes into shared memory where a worker does;
  `torch.stack` leaves that to a second copy, half the price of handing a batch over.
- The picture is turned upright in place: Pillow copied each, 0.1 ms.
- Sets in memory are cropped and flipped by NumPy. Read by torch, a batch of 128 took 4.7, 14.8
  and 1.1 us an image (1 x 28 x 28, 3 x 32 x 32, 1 x 8 x 8), by NumPy 1.8, 6.2 and 0.6, bit for
  bit the same.
- On a GPU batches are pinned and sent without waiting. No GPU was at hand: what that saves is not
  measured.

Measured and left out:

- Workers for sets in memory: beside 0.2 s for their start, which the table counts, an image that
  a worker hands over takes 23, 28 and 52 us in place of 3, 6 and 13. Under RandAugment, which
  takes tenths of a millisecond for each image, `data.num_workers` counts for such sets too.
- Sets in memory padded once and for all: 1.4 in place of 1.8 us for 1 x 28 x 28, for up to twice
  the memory.
- A multiplication and an addition in place of `addcmul` (1.4 in place of 1.8 us): torch fuses the
  two on AVX2, so half the pixels of every set in memory, evaluated ones among them, would change
  in their last bit.
- `addcmul` in place of four steps for decoded images saves 0.05 ms of 1.7; training would then
  normalise otherwise than evaluation does.
- Batches sent as bytes and normalised by the training process: less to hand over, but the work
  moves into the process that trains, and on a GPU division rounds otherwise.
- Pillow's `draft`, which decodes to an eighth to a half of the size: changes pixels, and a crop
  of images of 500 pixels is hardly ever twice as large as 224.

libjpeg writes a line to the error stream for a damaged file that it decodes all the same; Pillow
keeps it back.
"""


if __name__ == "__main__":
    typer.run(main)
