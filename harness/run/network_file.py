"""`network.json`: the quantized layers of a run, their sizes, candidates and ties."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from harness.errors import RunError
from harness.problem.network import FLOAT_BITS, PINNED_BITS, LayerSpec, NetworkSpec, Place
from harness.problem.ties import Side, merged
from harness.run.files import FileFormat, read_json, write_json


def _to_format_4(old: dict[str, Any]) -> dict[str, Any]:
    """Say that nobody noted sizes of inputs, where layers stand as far as pins tell, and no ties.

    `with_sizes_of` fills in the rest from the model.
    """
    layers = old.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        return {"ties": [], **old}  # Damaged: the check of its contents names it.
    placed = [
        {"place": _old_place(layer, is_last=layer is layers[-1]), "input_count": None, **layer}
        for layer in layers
    ]
    return {"ties": [], **old, "layers": placed}


def _old_place(layer: dict[str, Any], *, is_last: bool) -> Place:
    if is_last:
        return "last"
    return "first" if layer.get("weight_candidates") == [PINNED_BITS] else "inside"


NETWORK_FORMAT = FileFormat(
    name="network", upgrades=(lambda old: old, lambda old: old, _to_format_4), digest_since=3
)
"""Since format 2 a layer may stay in float, at 32 bits; since format 3 there is a digest; since
format 4 there are ties, and of each layer where it stands and how much it reads. The first two
steps change nothing: they make older programs refuse newer files."""

MAX_COUNT = 2**50
"""MACs and weights of a layer: a thousand layers at 32 x 32 bits still fit the engine's numbers."""

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Size = Annotated[int, Field(ge=1, le=2**16)]
Bits = Annotated[int, Field(ge=2, le=FLOAT_BITS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Layer(_Strict):
    """A layer as it stands in the file."""

    name: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    macs: Count
    weight_count: Count
    is_depthwise: bool
    is_pinned: bool
    weight_candidates: list[Bits]
    act_candidates: list[Bits]
    place: Place
    input_count: Count | None

    @model_validator(mode="after")
    def _check_candidates(self) -> Self:
        for key in ("weight_candidates", "act_candidates"):
            bits: list[int] = getattr(self, key)
            if self.is_pinned:
                is_usable = bits in ([PINNED_BITS], [FLOAT_BITS])
            else:
                is_sorted = bool(bits) and bits == sorted(set(bits), reverse=True)
                is_usable = is_sorted and bits[0] <= PINNED_BITS
            if not is_usable:
                raise ValueError(f"{self.name} has {key} {bits}")
        if self.is_pinned and self.weight_candidates != self.act_candidates:
            raise ValueError(f"{self.name} is pinned at two different bit-widths")
        return self


class _TiedSide(_Strict):
    """One side of a layer in a group that takes the same bits."""

    layer: str
    side: Side


class _Network(_Strict):
    """The file without its format."""

    fingerprint: str
    model: str = Field(min_length=1)
    input_size: Annotated[list[Size], Field(min_length=3, max_length=3)]
    num_classes: Annotated[int, Field(ge=1, le=2**24)]
    layers: Annotated[list[_Layer], Field(min_length=1, max_length=2**16)]
    ties: list[Annotated[list[_TiedSide], Field(min_length=2)]]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        twice = _first_repeated(layer.name for layer in self.layers)
        if twice is not None:
            raise ValueError(f"layer {twice} stands there twice")
        return self

    @model_validator(mode="after")
    def _check_ties(self) -> Self:
        layers = {layer.name: layer for layer in self.layers}
        sides = [f"{one.side} of {one.layer}" for group in self.ties for one in group]
        twice = _first_repeated(sides)
        if twice is not None:
            raise ValueError(f"the {twice} is tied twice")
        for group in self.ties:
            for one in group:
                if one.layer not in layers or layers[one.layer].is_pinned:
                    raise ValueError(f"{one.layer} is tied and is no free layer")
            given = {tuple(getattr(layers[one.layer], f"{one.side}_candidates")) for one in group}
            if len(given) > 1:
                raise ValueError(f"{group[0].layer} is tied to other candidates than its own")
        return self


def save_network(path: Path, network: NetworkSpec) -> None:
    """Write `network.json`."""
    values = asdict(network)
    head = {"fingerprint": network.fingerprint, "model": values.pop("model_name")}
    names = [layer.name for layer in network.layers]
    ties = [
        [{"layer": names[index], "side": side} for index, side in group] for group in network.ties
    ]
    write_json(path, {**head, **values, "ties": ties}, file_format=NETWORK_FORMAT)


def load_network(path: Path) -> NetworkSpec:
    """Read `network.json`.

    Raises:
        RunError: The file is missing, damaged, or its fingerprint does not fit its layers.
    """
    values = read_json(path, file_format=NETWORK_FORMAT)
    network = _network(values, path)
    if network.fingerprint != values["fingerprint"]:
        raise RunError(f"network {path} was altered after it was written; restore it")
    return network


def check_described(path: Path, there: NetworkSpec, model: NetworkSpec) -> None:
    """Check that `network.json` says of every layer what the model itself shows.

    What layers may take is the file's own: the configuration of an older run may have meant others.

    Args:
        path: The file, for the message.
        there: What it says.
        model: The description of the run's model.

    Raises:
        RunError: It says something else.
    """
    names = [layer.name for layer in model.layers]
    if [layer.name for layer in there.layers] != names:
        raise RunError(
            f"network {path} lists {len(there.layers)} layers that are not the {len(names)} of "
            f"{model.model_name} in order; restore it"
        )
    for layer, shown in zip(there.layers, model.layers, strict=True):
        noted = () if layer.input_count is None else ("place", "input_count")
        for key in ("kind", "macs", "weight_count", "is_depthwise", *noted):
            if getattr(layer, key) != getattr(shown, key):
                raise RunError(
                    f"network {path} gives {layer.name} {key} {getattr(layer, key)}, "
                    f"{model.model_name} has {getattr(shown, key)}; restore it"
                )
    if there.model_name != model.model_name:
        raise RunError(
            f"network {path} is of {there.model_name}, the run trains {model.model_name}; "
            "restore it"
        )


def with_sizes_of(there: NetworkSpec, model: NetworkSpec) -> NetworkSpec:
    """Return a network with what older files do not say of its layers, from the model itself.

    Args:
        there: What `network.json` says, checked by `check_described`.
        model: The description of the run's model.
    """
    layers = (
        replace(layer, place=shown.place, input_count=shown.input_count)
        for layer, shown in zip(there.layers, model.layers, strict=True)
    )
    return replace(there, layers=tuple(layers))


def _network(values: dict[str, Any], path: Path) -> NetworkSpec:
    kept = {key: value for key, value in values.items() if key != "format"}
    try:
        read = _Network.model_validate_json(json.dumps(kept))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "it"
        why = problem["msg"].removeprefix("Value error, ")
        raise RunError(
            f"network {path} is damaged ({place}: {why[0].lower()}{why[1:]}); restore it"
        ) from None
    layers = (
        LayerSpec(
            **{
                **layer.model_dump(),
                "weight_candidates": tuple(layer.weight_candidates),
                "act_candidates": tuple(layer.act_candidates),
            }
        )
        for layer in read.layers
    )
    index_of = {layer.name: index for index, layer in enumerate(read.layers)}
    ties = (tuple((index_of[one.layer], one.side) for one in group) for group in read.ties)
    channels, height, width = read.input_size
    return NetworkSpec(
        model_name=read.model,
        input_size=(channels, height, width),
        num_classes=read.num_classes,
        layers=tuple(layers),
        ties=merged(ties),
    )


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
