"""The one configuration of a run: strict, frozen, typed; its defaults are the embedded digits job.

A value that the paper gives (arXiv 2401.01543) is named in the field's docstring; defaults here are
those of the small embedded job, and `configs/train/resnet18_imagenet.yaml` holds the paper's own.
A setting that is marked with DECIDES_NO_WEIGHTS may change while a run goes on, all others may not.
A new setting is marked with the format that brings it and with how runs went without it.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from harness.errors import ConfigError, short
from harness.run.files import DIGEST_KEY
from harness.run.quant_config import QuantConfig as QuantConfig  # noqa: PLC0414 - a part of it
from harness.run.section import Section
from harness.run.settings import (
    DECIDES_NO_WEIGHTS,
    Since,
    configuration_format,
    flat,
    nested,
    setting_names,
    settings_before,
)
from harness.run.train_config import TrainConfig as TrainConfig  # noqa: PLC0414 - the same
from harness.run.yaml_values import MAX_DEPTH, parse_yaml, read_mapping

logger = logging.getLogger(__name__)

Score = Literal["kl", "cross_entropy", "errors"]
"""What proposals of a search are compared by."""


RAND_AUGMENT = re.compile(
    r"rand(-(m\d+|n[1-9]|p(0(\.\d+)?|1(\.0+)?)|mstd\d+(\.\d+)?|mmax[1-9]\d*|inc[01]"
    r"|t(weights|3a|3aw)))*"
)
"""What timm reads in `data.rand_augment`; it passes over some mistakes and dies of others."""


class ModelConfig(Section):
    """Which network is trained."""

    name: str = "resnet8"
    """`resnet8`, `resnet20`, `mobilenetv2_small` (built in), or any convolutional timm model."""
    pretrained: bool = False
    """Start from timm's pretrained weights (needs the hub or a filled cache)."""
    weights: Path | None = None
    """Start from these float weights: a run folder trained with `train.mode: float`, or a
    `.safetensors` file with the model's own parameter names."""


class DataConfig(Section):
    """Which images, and how they are split into train, search and test."""

    name: str = "digits"
    """`digits` (ships in scikit-learn), `fashion_mnist`, `imagefolder`, `parquet`, or the name of
    any image classification set on the Hugging Face hub."""
    path: Annotated[Path | None, DECIDES_NO_WEIGHTS] = None
    """Folder of the idx files, of the image folder, or of the parquet files."""
    image_size: int | None = Field(default=None, ge=4, le=2**14)
    """Height and width in pixels that images are brought to; null keeps their own size."""
    split_by: Annotated[Literal["sample", "position"], Since(format=3, before="position")] = (
        "sample"
    )
    """How an image falls to train, search or test. `sample`: by a hash of its name below the class
    folders, or of its contents, so other images that come or go move none that was trained on into
    the search or test split. `position`: by its place among all images, as until format 2."""
    search_images: int = Field(default=300, ge=1)
    """Images held out of the training images to score policies; never trained on. By sample these
    are the ones with the smallest hashes."""
    search_share: Annotated[float | None, Since(format=3, before=None)] = Field(
        default=None, gt=0, lt=1
    )
    """In place of `search_images`, the share of the training images that is held out: each image is
    then decided by itself alone, also where others are removed. Only by sample."""
    train_images: int | None = Field(default=None, ge=1)
    """Use only this many of the remaining training images; null uses all."""
    test_images: int | None = Field(default=None, ge=1)
    """Use only this many test images; null uses all. Decides weights all the same: whether images
    are held in memory, and so how they are augmented, depends on the size of all splits."""
    crop_padding: int = Field(default=1, ge=0)
    """Small images: pixels of zero padding before a random crop back to size; 0 turns it off."""
    horizontal_flip: bool = False
    """Flip half of the training images left to right."""
    rand_augment: Annotated[str | None, Since(format=5, before=None)] = None
    """RandAugment (arXiv 1909.13719) of training images, after crop and flip, as timm writes it:
    `rand-m9-mstd0.5-inc1`; null leaves it out."""
    augment_by: Annotated[Literal["torchvision", "pillow"], Since(format=5, before="pillow")] = (
        "torchvision"
    )
    """What decodes and crops training images that are not held in memory. `torchvision` takes 0.6
    of the time (docs/results/loader.md); `pillow` is as until format 4: the same crops, in whose
    interpolation one pixel in seventy comes out a level of 255 higher or lower."""
    train_split: str = "train"
    """Name of the hub set's or folder's training split."""
    test_split: str = "test"
    """Name of the hub set's or folder's test split."""
    significant_bits: Annotated[int | None, Since(format=3, before=16)] = Field(
        default=None, ge=9, le=16
    )
    """How many bits of images that store 16 per channel hold the value (12 from many cameras); null
    takes all 16, and refuses an image whose highest bit is unused."""
    num_workers: Annotated[int, DECIDES_NO_WEIGHTS] = Field(default=0, ge=0, le=256)
    """Processes that decode images; sets small enough to be held in memory need them for
    `rand_augment` alone."""

    @field_validator("rand_augment")
    @classmethod
    def _check_rand_augment(cls, policy: str | None) -> str | None:
        if policy is not None and not RAND_AUGMENT.fullmatch(policy):
            raise ValueError(
                "this is no RandAugment of timm, which is rand, then parts as -m9 (magnitude), -n2 "
                "(operations), -p0.5, -mstd0.5, -mmax10, -inc1, -tweights; write it as "
                "rand-m9-mstd0.5-inc1, or null"
            )
        return policy

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        if self.search_share is not None and self.split_by != "sample":
            raise ValueError(
                f"search_share {self.search_share} needs split_by sample; "
                "set data.search_images in its place"
            )
        return self


class EvalConfig(Section):
    """How accuracy is measured."""

    batch_size: int = Field(default=500, ge=1)
    """Images per evaluation batch; part of what makes a count of wrong images repeat exactly."""
    recalibrate_images: int = Field(default=7000, ge=0)
    """Training images that re-estimate BN statistics before a policy is reported (paper: ~7000);
    fewer where the training split is smaller, 0 turns it off."""


class SearchConfig(Section):
    """How policies are scored while searching."""

    score: Annotated[Score, Since(format=4, before="errors")] = "kl"
    """What proposals are compared by, a mean over images, lower is better. `kl`: from the max
    policy's logits t, KL(softmax(t) || softmax(logits)), as the paper trains random policies;
    `cross_entropy`; or `errors` (paper: top-1), whose ranking of near policies repeats less on
    other images (docs/results/scores.md). Finalists are compared by accuracy whatever this is."""
    error_weight: float = Field(default=1.5, gt=0)
    """Weight of the normalised error against the normalised BitOPs saved (paper: 1.5)."""
    refine_share: Annotated[float, Since(format=5, before=0.1)] = Field(default=0.1, ge=0, le=1)
    """Share of the evaluations of a guided search that refinement around its best policies may
    spend; where scores have no noise it chooses otherwise and leaves this unread."""
    significance: Annotated[float, Since(format=5, before=2.0)] = Field(default=2.0, ge=0)
    """Standard errors of the paired difference by which a refinement must lower the score."""
    images: int | None = Field(default=None, ge=1)
    """Images of the search split that score every proposal; null uses all of them."""
    recalibrate_images: int = Field(default=500, ge=0)
    """Training images that re-estimate BN statistics for every proposal; 0 uses the trained."""
    finalists: int = Field(default=16, ge=1)
    """Best proposals within the budget that are scored again as they would be reported: on the
    whole search split, BN statistics from `eval.recalibrate_images`; the best is the result."""


class Config(Section):
    """Everything that decides a run; the resolved file lies in the run folder."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of every random draw."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    quant: QuantConfig = QuantConfig()
    train: TrainConfig = TrainConfig()
    eval: Annotated[EvalConfig, DECIDES_NO_WEIGHTS] = EvalConfig()
    search: Annotated[SearchConfig, DECIDES_NO_WEIGHTS] = SearchConfig()

    @model_validator(mode="after")
    def _check_recalibration(self) -> Self:
        for name, images in (
            ("eval", self.eval.recalibrate_images),
            ("search", self.search.recalibrate_images),
        ):
            if images == 1 or (images and self.eval.batch_size == 1):
                raise ValueError(
                    f"{name}.recalibrate_images {images} in batches of {self.eval.batch_size} "
                    "gives batch normalisation one image at a time, it takes two; raise it or "
                    "eval.batch_size, or set it to 0"
                )
        return self

    def with_data_path(self, path: Path | None) -> "Config":
        """Return this configuration with the images in another place; None changes nothing."""
        if path is None:
            return self
        return self.model_copy(update={"data": self.data.model_copy(update={"path": path})})

    def deciding_settings(self) -> dict[str, Any]:
        """Return the settings that decide the weights, by `key` and `section.key`, as JSON."""
        return flat(self.model_dump(mode="json"), setting_names(Config, deciding_only=True))

    def unset_keys(self) -> list[str]:
        """Return the `key` and `section.key` names that were left to their defaults."""
        given = flat(self.model_dump(exclude_unset=True), setting_names(Config))
        return [name for name in setting_names(Config) if name not in given]

    def with_old_behaviour(self, there: Mapping[str, Any]) -> "Config":
        """Return this configuration as it is for a run that may be older than some of its keys.

        A key that came after the run was begun stands in the run with what the program did then.
        Where this configuration leaves that key to its default, the run's own value is taken: the
        command that began the run also goes on with it.

        Args:
            there: The run's settings by name.
        """
        unset = self.unset_keys()
        before = {name: mark.before for name, mark in settings_before(Config).items()}
        old = {
            name: value
            for name, value in before.items()
            if name in unset and name in there and there[name] == value
        }
        if not old:
            return self
        values = self.model_dump(mode="json", exclude_unset=True)
        for section, settings in nested(old).items():
            values[section] = {**values.get(section, {}), **settings}
        return _validated(values, source="the configuration")

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML that `load_run_config` reads back."""
        values = CONFIG_FORMAT.with_digest(self.model_dump(mode="json"))
        return yaml.safe_dump(values, sort_keys=False)


CONFIG_FORMAT = configuration_format(Config)
"""A run's file without `format` is of version 1; so were all before there were versions."""


def load_config(path: Path | None, *, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML configuration and apply `a.b=c` overrides; no path means the defaults.

    A file that does not say its format is written for this version.

    Raises:
        ConfigError: The file is missing or not YAML, or a key or value is not usable.
    """
    values = {} if path is None else _read_file_of_user(path)
    for override in overrides:
        _apply_override(values, override)
    return _validated(values, source="the configuration" if path is None else str(path))


def load_run_config(path: Path) -> Config:
    """Read the configuration of a run, by whichever version it was written.

    Raises:
        ConfigError: The file is missing, not YAML, of a newer version, altered, or not usable.
    """
    values = CONFIG_FORMAT.checked(
        {"format": 1, **read_mapping(path)},
        path,
        remedy="restore it; settings are changed by --config and --set",
    )
    return _validated(_upgraded(values, path), source=str(path))


def _read_file_of_user(path: Path) -> dict[str, Any]:
    """Read a file for a new run; it may be that of another run, altered on purpose."""
    values = {"format": CONFIG_FORMAT.version, **read_mapping(path)}
    if DIGEST_KEY in values:
        try:
            CONFIG_FORMAT.checked(values, path)
        except ConfigError:
            logger.warning(
                "%s was altered since a run wrote it; if that was not on purpose, restore it", path
            )
    return _upgraded({k: value for k, value in values.items() if k != DIGEST_KEY}, path)


def _upgraded(values: dict[str, Any], path: Path) -> dict[str, Any]:
    upgraded = CONFIG_FORMAT.upgraded(values, path)
    return {key: value for key, value in upgraded.items() if key != "format"}


def _validated(values: dict[str, Any], *, source: str) -> Config:
    text = json.dumps(values, default=str)
    try:
        # Strict JSON mode: lists become tuples and text paths, but "12" no number and true no 1.
        return Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(_first_problem(source, error)) from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {short(override)} has no `=`; write --set section.key=value")
    *sections, key = name.strip().split(".")
    if len(sections) > MAX_DEPTH:
        raise ConfigError(f"--set {short(override)} names no key; write --set section.key=value")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(
                f"--set {short(override)}: {short(section)} is a value, not a section"
            )
    try:
        target[key] = parse_yaml(text)
    except yaml.YAMLError:
        shown = short(repr(text))
        raise ConfigError(
            f"--set {short(override)}: {shown} is not a YAML value; quote it"
        ) from None


def _first_problem(source: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(problem["loc"][:-1]))
        return f"{source}: unknown key {short(name)}; the keys there are {known}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = problem.get("input")
    shown = f" = {short(repr(given))}" if not isinstance(given, dict | None) else ""
    hint = "" if ";" in message else "; correct it there or with --set"
    place = f"{source}: {name}{shown}" if name else source
    return f"{place}: {message}{hint}"


def _known_keys(sections: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for section in sections:
        # A mapping's keys are the user's own; what stands under each is of one class.
        is_section = hasattr(model, "model_fields")
        model = model.model_fields[str(section)].annotation if is_section else get_args(model)[1]
    return sorted(model.model_fields)
