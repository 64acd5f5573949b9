"""The one configuration of a run: strict, frozen, typed; its defaults are the embedded digits job.

A value that the paper gives (arXiv 2401.01543) is named in the field's docstring; defaults here are
those of the small embedded job, and `configs/train/imagenet_resnet18.yaml` holds the paper's own.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from harness.errors import ConfigError

MAX_CANDIDATE_BITS = 8
"""Largest bit-width a free layer may be given; pinned layers take 8 as well."""

MIN_CANDIDATE_BITS = 2

Candidates = Annotated[tuple[int, ...], Field(min_length=1)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class ModelConfig(Section):
    """Which network is trained."""

    name: str = "resnet8"
    """`resnet8`, `resnet20` (CIFAR-style, built in) or any convolutional timm model."""
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
    path: Path | None = None
    """Folder of the idx files, of the image folder, or of the parquet files."""
    image_size: int | None = Field(default=None, ge=4)
    """Height and width in pixels that images are brought to; null keeps their own size."""
    search_images: int = Field(default=300, ge=1)
    """Images held out of the training images to score policies; never trained on."""
    train_images: int | None = Field(default=None, ge=1)
    """Use only this many of the remaining training images; null uses all."""
    test_images: int | None = Field(default=None, ge=1)
    """Use only this many test images; null uses all."""
    crop_padding: int = Field(default=1, ge=0)
    """Small images: pixels of zero padding before a random crop back to size; 0 turns it off."""
    horizontal_flip: bool = False
    """Flip half of the training images left to right."""
    train_split: str = "train"
    """Name of the hub set's or folder's training split."""
    test_split: str = "test"
    """Name of the hub set's or folder's test split."""
    num_workers: int = Field(default=0, ge=0)
    """Processes that decode images; sets small enough to be held in memory need none."""


class QuantConfig(Section):
    """Bit-width candidates and pinned layers."""

    weight_candidates: Candidates = (6, 5, 4, 3, 2)
    """Weight bit-widths a free layer may take (paper: 6 to 2)."""
    act_candidates: Candidates = (6, 5, 4, 3, 2)
    """Activation bit-widths a free layer may take (paper: 6 to 2)."""
    depthwise_min_bits: int = Field(default=3, ge=MIN_CANDIDATE_BITS, le=MAX_CANDIDATE_BITS)
    """Smallest candidate of a depthwise convolution (paper: 3)."""

    keep_float: tuple[str, ...] = ("Conv1d",)
    """Modules without a quantized form that stay in float, by class name or by a pattern of the
    module's path (`stages.*.eca.*`); they are accounted at 32 bits. Small ones: all that is counted
    in BitOPs and does not shrink takes budget from the others."""

    @field_validator("weight_candidates", "act_candidates")
    @classmethod
    def _check_candidates(cls, candidates: tuple[int, ...]) -> tuple[int, ...]:
        for bits in candidates:
            if not MIN_CANDIDATE_BITS <= bits <= MAX_CANDIDATE_BITS:
                raise ValueError(
                    f"candidate {bits} is outside {MIN_CANDIDATE_BITS} to {MAX_CANDIDATE_BITS} bits"
                )
        if len(set(candidates)) != len(candidates):
            raise ValueError(f"{list(candidates)} repeats a candidate")
        return tuple(sorted(candidates, reverse=True))

    @model_validator(mode="after")
    def _check_depthwise(self) -> Self:
        for name in ("weight_candidates", "act_candidates"):
            if max(getattr(self, name)) < self.depthwise_min_bits:
                raise ValueError(
                    f"no {name} reaches depthwise_min_bits {self.depthwise_min_bits}; "
                    "lower it or add a larger candidate"
                )
        return self


class TrainConfig(Section):
    """The optimizer step, its schedule and how often a run validates and saves."""

    mode: Literal["supernet", "float"] = "supernet"
    """`supernet` trains every bit-width at once; `float` trains the plain network."""
    epochs: int = Field(default=40, ge=0)
    """Passes over the training images (paper: 150); 0 calibrates step sizes and stops."""
    batch_size: int = Field(default=128, ge=2)
    """Images per process and step (paper: 4 processes of 128); batch normalisation takes two."""
    num_random_passes: int = Field(default=3, ge=0)
    """K, the random policies trained beside the max pass in every step (paper: 3)."""
    learning_rate: float = Field(default=0.04, gt=0)
    """Peak rate of SGD on weights, biases and batch normalisation (paper: 0.04)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Nesterov momentum of SGD (paper: 0.9)."""
    weight_decay: float = Field(default=2.5e-5, ge=0)
    """L2 decay of convolution weights only (paper: 2.5e-5)."""
    step_learning_rate: float = Field(default=2e-4, gt=0)
    """Peak rate of Adam on the quantizers' step sizes (paper: 1e-5, from pretrained weights)."""
    warmup_epochs: float = Field(default=2.0, ge=0)
    """Epochs of linear warm-up before the cosine (paper: 5)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing of the cross entropy in the max pass."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Gradients are clipped element-wise to plus or minus this (paper: 1)."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay per step of the averaged weights that are evaluated (paper: 0.9997)."""
    calibration_images: int = Field(default=512, ge=1)
    """Training images whose activations set the first step sizes."""
    validate_every_epochs: int = Field(default=5, ge=1)
    """Epochs between validations of the uniform policies on the search split."""
    checkpoint_every_epochs: int = Field(default=5, ge=1)
    """Epochs between checkpoints; the last epoch always saves one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept; older ones are removed."""


class EvalConfig(Section):
    """How accuracy is measured."""

    batch_size: int = Field(default=500, ge=1)
    """Images per evaluation batch; part of what makes an error count repeat exactly."""
    recalibrate_images: int = Field(default=7000, ge=0)
    """Training images that re-estimate BN statistics before a policy is reported (paper: ~7000);
    fewer where the training split is smaller, 0 turns it off."""


class SearchConfig(Section):
    """How policies are scored while searching."""

    error_weight: float = Field(default=1.5, gt=0)
    """Weight of the normalised error against the normalised BitOPs saved (paper: 1.5)."""
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
    eval: EvalConfig = EvalConfig()
    search: SearchConfig = SearchConfig()

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

    def training_fingerprint(self) -> str:
        """Return 16 hex digits of all that decides the weights: not of `eval` and `search`."""
        values = self.model_dump(mode="json", exclude={"eval", "search"})
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def unset_keys(self) -> list[str]:
        """Return the `key` and `section.key` names that were left to their defaults."""
        sections = {name: part for name, part in self if isinstance(part, Section)}
        lone = [name for name, _ in self if name not in self.model_fields_set | sections.keys()]
        inside = [
            f"{name}.{key}"
            for name, section in sections.items()
            for key, _ in section
            if key not in section.model_fields_set
        ]
        return lone + inside

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """Reads 1e-5 as a number, as YAML 1.2 does, and takes no key twice and no key but text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's.
        """Return a mapping after checking its keys."""
        merge = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if not isinstance(key, str) or keys.count(key) > 1:
                why = "stands there twice" if keys.count(key) > 1 else "is no name"
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key} {why}", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_config(path: Path | None, *, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML configuration and apply `a.b=c` overrides; no path means the defaults.

    Raises:
        ConfigError: The file is missing or not YAML, or a key or value is not usable.
    """
    values = {} if path is None else _read_mapping(path)
    for override in overrides:
        _apply_override(values, override)
    source = "the configuration" if path is None else str(path)
    try:
        text = json.dumps(values, default=str)
    except ValueError:
        raise ConfigError(f"{source}: a value holds itself; write it out") from None
    try:
        # Strict JSON mode: lists become tuples and text paths, but "12" no number and true no 1.
        return Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(_first_problem(source, error)) from None


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        why = (error.strerror or "unreadable").lower()
        raise ConfigError(f"configuration {path} cannot be read: {why}; check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"configuration {path} is not YAML ({problem}); mend the file") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"configuration {path} holds a {type(values).__name__}, not sections; "
            "write `section:` and indented `key: value` lines"
        )
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {override} has no `=`; write --set section.key=value")
    *sections, key = name.strip().split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section")
    try:
        target[key] = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value; quote it") from None


def _first_problem(source: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(problem["loc"][:-1]))
        return f"{source}: unknown key {name}; the keys there are {known}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = problem.get("input")
    shown = f" = {given!r}" if not isinstance(given, dict) and given is not None else ""
    hint = "" if ";" in message else "; correct it there or with --set"
    place = f"{source}: {name}{shown}" if name else source
    return f"{place}: {message}{hint}"


def _known_keys(sections: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for section in sections:
        model = model.model_fields[str(section)].annotation
    return sorted(model.model_fields)
