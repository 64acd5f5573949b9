"""`data.json`: which images a run was given. Its checkpoints and its journals say the same.

Weights mean something for these images alone: with a class more every label is shifted, with other
images the search split may hold some that were trained on.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from harness.errors import RunError
from harness.run.files import FileFormat, read_json, write_json

DATA_FORMAT = FileFormat(name="data", digest_since=1)

STATISTICS_TOLERANCE = 1e-3
"""By how much mean and deviation, of pixels in 0..1, may differ: decoders round differently, by up
to a gray level in some pixels. What is trained on is told by the digests."""

MAX_NAMED = 3
"""Class names that a message shows."""


class _Facts(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class SplitIdentity(_Facts):
    """The images of one split."""

    num_images: int = Field(ge=0)
    digest: str
    """16 hex digits over names or contents, sizes in bytes, labels and order of the images."""


class DataIdentity(_Facts):
    """What is known of a run's images."""

    class_names: tuple[str, ...]
    """In the order of the logits."""
    channels: int
    image_size: tuple[int, int]
    """Height and width in pixels, as fed to the network."""
    mean: tuple[float, ...]
    """Per channel, of pixels in 0..1."""
    std: tuple[float, ...]
    """Per channel, of pixels in 0..1."""
    train: SplitIdentity
    search: SplitIdentity
    test: SplitIdentity

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if not self.channels == len(self.mean) == len(self.std):
            raise ValueError(f"{self.channels} channels with {len(self.mean)} means")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return self.model_dump(mode="json")

    def difference(self, here: "DataIdentity") -> str | None:
        """Return in words how the images here differ from these; None where they do not."""
        if self.class_names != here.class_names:
            return _classes_differ(self.class_names, here.class_names)
        then, now = (self.channels, *self.image_size), (here.channels, *here.image_size)
        if then != now:
            return f"they are {_times(then)} there and {_times(now)} here"
        for split in ("train", "search", "test"):
            images: SplitIdentity = getattr(self, split)
            found: SplitIdentity = getattr(here, split)
            if images.num_images != found.num_images:
                return (
                    f"the {split} split has {images.num_images} images there and "
                    f"{found.num_images} here"
                )
            if images.digest != found.digest:
                return f"the {images.num_images} images of the {split} split are others"
        for name in ("mean", "std"):
            old, new = getattr(self, name), getattr(here, name)
            if any(abs(a - b) > STATISTICS_TOLERANCE for a, b in zip(old, new, strict=True)):
                return f"{name} is {_rounded(old)} there and {_rounded(new)} here"
        return None


def data_identity(values: Any) -> DataIdentity:
    """Return what `DataIdentity.to_json` gave.

    Raises:
        ValueError: The values are damaged; the message says where.
    """
    try:
        # Strict JSON mode: lists become tuples, but "8" is no 8 and true no 1.
        return DataIdentity.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "data"
        raise ValueError(f"{place}: {problem['msg'].lower()}") from None


def save_data(path: Path, identity: DataIdentity) -> None:
    """Write `data.json`."""
    write_json(path, identity.to_json(), file_format=DATA_FORMAT)


def load_data(path: Path) -> DataIdentity:
    """Read `data.json`.

    Raises:
        RunError: The file is missing or damaged.
    """
    values = read_json(path, file_format=DATA_FORMAT)
    try:
        return data_identity({key: value for key, value in values.items() if key != "format"})
    except ValueError as problem:
        raise RunError(f"data {path} is damaged ({problem}); restore it") from None


def _classes_differ(then: tuple[str, ...], now: tuple[str, ...]) -> str:
    counts = f"{len(then)} classes there and {len(now)} here"
    for names, others, where in ((now, then, "there"), (then, now, "here")):
        missing = [name for name in names if name not in set(others)]
        if missing:
            shown = ", ".join(missing[:MAX_NAMED])
            rest = len(missing) - MAX_NAMED
            more = f" and {rest} more" if rest > 0 else ""
            return f"{counts}, {shown}{more} {'is' if len(missing) == 1 else 'are'} not {where}"
    return f"the {len(then)} classes are in another order"


def _times(numbers: tuple[int, ...]) -> str:
    return " x ".join(map(str, numbers))


def _rounded(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.4f}" for number in numbers)
