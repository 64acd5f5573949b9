"""The section `quant` of a configuration: candidates, pins, ties, and what stays in float."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from harness.run.section import Section
from harness.run.settings import Since

MAX_CANDIDATE_BITS = 8
"""Largest bit-width a free layer may be given; pinned layers take 8 as well."""

MIN_CANDIDATE_BITS = 2

BitWidths = Annotated[tuple[int, ...], Field(min_length=1)]

Pattern = Annotated[str, Field(min_length=1)]
"""Of a module's path, with `*`, `?` and `[...]` as in file names."""


def checked_candidates(candidates: tuple[int, ...]) -> tuple[int, ...]:
    """Return candidates in descending order.

    Raises:
        ValueError: One is outside the allowed bits, or stands there twice.
    """
    for bits in candidates:
        if not MIN_CANDIDATE_BITS <= bits <= MAX_CANDIDATE_BITS:
            raise ValueError(
                f"candidate {bits} is outside {MIN_CANDIDATE_BITS} to {MAX_CANDIDATE_BITS} bits"
            )
    if len(set(candidates)) != len(candidates):
        raise ValueError(f"{list(candidates)} repeats a candidate")
    return tuple(sorted(candidates, reverse=True))


class LayerBits(Section):
    """Candidates of some layers in place of those of all; one alone pins that side."""

    weight_candidates: BitWidths | None = None
    """Weight bit-widths; null leaves those of all layers."""
    act_candidates: BitWidths | None = None
    """Activation bit-widths; null leaves those of all layers."""

    @field_validator("weight_candidates", "act_candidates")
    @classmethod
    def _check_candidates(cls, candidates: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if candidates is None else checked_candidates(candidates)

    @model_validator(mode="after")
    def _check_says_something(self) -> Self:
        if self.weight_candidates is None and self.act_candidates is None:
            raise ValueError("it gives neither weight_candidates nor act_candidates; give one")
        return self


class QuantConfig(Section):
    """Bit-width candidates and pinned layers."""

    weight_candidates: BitWidths = (6, 5, 4, 3, 2)
    """Weight bit-widths a free layer may take (paper: 6 to 2)."""
    act_candidates: BitWidths = (6, 5, 4, 3, 2)
    """Activation bit-widths a free layer may take (paper: 6 to 2)."""
    depthwise_min_bits: int = Field(default=3, ge=MIN_CANDIDATE_BITS, le=MAX_CANDIDATE_BITS)
    """Smallest candidate of a depthwise convolution (paper: 3)."""
    layers: Annotated[dict[Pattern, LayerBits], Since(format=4, before={})] = Field(default={})
    """Candidates of the layers whose path fits a pattern, in place of the ones above and of
    depthwise_min_bits: `{layer4.*: {weight_candidates: [8, 4]}, layer1.0.conv1: {act_candidates:
    [8]}}`. One candidate pins that side. Layers that read the image, the last one and those in
    float keep their bits; no two patterns may give one side of one layer."""
    tie_shared_inputs: Annotated[bool, Since(format=4, before=False)] = False
    """Whether layers that read one tensor share their activation bits, as hardware that keeps a
    tensor in one format needs it; layers that keep their bits are left out."""
    ties: Annotated[tuple[Pattern, ...], Since(format=4, before=[])] = ()
    """Patterns of paths: all layers that fit one take the same weight and activation bits, of the
    candidates that all of them have. Layers that keep their bits are left out."""
    keep_float: Annotated[tuple[str, ...], Since(format=2, before=[])] = ("Conv1d",)
    """Modules without a quantized form that stay in float, by class name or by a pattern of the
    module's path (`stages.*.eca.*`); they are accounted at 32 bits. Small ones: all that is counted
    in BitOPs and does not shrink takes budget from the others."""

    @field_validator("weight_candidates", "act_candidates")
    @classmethod
    def _check_candidates(cls, candidates: tuple[int, ...]) -> tuple[int, ...]:
        return checked_candidates(candidates)

    @model_validator(mode="after")
    def _check_depthwise(self) -> Self:
        for name in ("weight_candidates", "act_candidates"):
            if max(getattr(self, name)) < self.depthwise_min_bits:
                raise ValueError(
                    f"no {name} reaches depthwise_min_bits {self.depthwise_min_bits}; "
                    "lower it or add a larger candidate"
                )
        return self
