"""A seeded sample of timm's networks: BitOPs against hooks, and which of them convert."""

from functools import cache

import pytest

from benchmarks.conversion import Outcome, outcome, sampled_names

NAMES = sampled_names()
CHUNKS = [NAMES[start : start + 16] for start in range(0, len(NAMES), 16)]
MAX_UNTRACEABLE = 0.03
"""Share of networks that decide by numbers or write into slices, where torch.fx cannot follow."""


@cache
def swept(name: str) -> Outcome:
    return outcome(name)


@pytest.mark.parametrize("names", CHUNKS, ids=lambda names: f"{names[0]}..{names[-1]}")
def test_networks_are_counted_as_hooks_count_and_convert_unless_they_attend(names) -> None:
    for name in names:
        found = swept(name)
        cannot_follow = found.reason == "torch.fx cannot follow"
        assert found.is_counted or cannot_follow, found
        assert cannot_follow or found.reason in (
            "converts", "products of activations", "recurrent layers",
        ), found  # fmt: skip


@pytest.mark.timeout(900)
def test_nearly_all_can_be_followed() -> None:
    untraceable = [name for name in NAMES if swept(name).reason == "torch.fx cannot follow"]
    assert len(untraceable) <= MAX_UNTRACEABLE * len(NAMES), untraceable
