"""What a configuration says of single layers: candidates of their own, and which are tied."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from harness.errors import ConfigError, short
from harness.problem.network import LayerSpec
from harness.problem.ties import SIDES, Member, Side, Ties, merged
from harness.run.quant_config import QuantConfig

logger = logging.getLogger(__name__)


def with_own_candidates(
    layers: tuple[LayerSpec, ...], config: QuantConfig
) -> tuple[LayerSpec, ...]:
    """Return layers with the candidates that `quant.layers` gives them.

    Raises:
        ConfigError: A pattern fits no free layer, or two give one side of a layer.
    """
    given: dict[Member, str] = {}
    changed = list(layers)
    for pattern, own in config.layers.items():
        sides = {"weight": own.weight_candidates, "act": own.act_candidates}
        for index in _fitting(layers, pattern, setting="quant.layers"):
            for side in SIDES:
                candidates = sides[side]
                if candidates is None:
                    continue
                other = given.setdefault((index, side), pattern)
                if other != pattern:
                    raise ConfigError(
                        f"quant.layers {short(other)} and {short(pattern)} both give the {side} "
                        f"candidates of {layers[index].name}; let one pattern give them"
                    )
                changed[index] = _with_candidates(changed[index], side, candidates)
    return tuple(changed)


def ties_of(layers: Sequence[LayerSpec], inputs: Sequence[str], config: QuantConfig) -> Ties:
    """Return the ties of a configuration.

    Args:
        layers: The layers.
        inputs: For each the name of the tensor that it reads.
        config: Patterns of tied layers, and whether shared inputs tie.

    Raises:
        ConfigError: A pattern fits fewer than two free layers, and so ties nothing.
    """
    groups: list[list[Member]] = []
    for pattern in config.ties:
        fitting = _fitting(layers, pattern, setting="quant.ties")
        if len(fitting) == 1:
            raise ConfigError(
                f"quant.ties {short(pattern)} fits {layers[fitting[0]].name} alone and ties "
                "nothing; widen the pattern or remove it"
            )
        groups += [[(index, side) for index in fitting] for side in SIDES]
    if config.tie_shared_inputs:
        shared = [group for group in _shared_inputs(layers, inputs) if len(group) > 1]
        if not shared:
            logger.warning(
                "quant.tie_shared_inputs ties nothing: no two free layers read one tensor; leave "
                "it out"
            )
        groups += shared
    return merged(groups)


def _shared_inputs(layers: Sequence[LayerSpec], inputs: Sequence[str]) -> Iterator[list[Member]]:
    readers: dict[str, list[Member]] = {}
    for index, (layer, name) in enumerate(zip(layers, inputs, strict=True)):
        if not layer.is_pinned:
            readers.setdefault(name, []).append((index, "act"))
    yield from readers.values()


def _fitting(layers: Sequence[LayerSpec], pattern: str, *, setting: str) -> list[int]:
    """Return the free layers whose path fits a pattern."""
    fitting = [index for index, la in enumerate(layers) if fnmatchcase(la.name, pattern)]
    free = [index for index in fitting if not layers[index].is_pinned]
    if not free:
        why = (
            f"only {layers[fitting[0]].name}, which keeps its bits: it reads the image, is the "
            "last layer, or stays in float"
            if fitting
            else f"no layer, the first is {layers[0].name}"
        )
        raise ConfigError(f"{setting} {short(pattern)} fits {why}; mend or remove the pattern")
    return free


def _with_candidates(layer: LayerSpec, side: Side, candidates: tuple[int, ...]) -> LayerSpec:
    if side == "weight":
        return replace(layer, weight_candidates=candidates)
    return replace(layer, act_candidates=candidates)
