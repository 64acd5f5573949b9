"""What to run for a group of policies: each shared segment once, nothing kept unread."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from harness.quant.execution import PolicyInputs
from harness.quant.norms import Statistics
from harness.quant.segments import IMAGES, Given, SegmentedNetwork
from harness.quant.sharing import Alike
from harness.quant.storages import Effects

IMAGES_SLOT = 0
"""Where a plan's values hold the images."""

FOREVER = 2**62
"""Stands for the last reader of what is never dropped."""

OwnStatistics = Callable[[int, int], Statistics]
"""Returns what a policy's norm starts from, by the policy's place and the norm's index."""


class Step(NamedTuple):
    """One segment for all policies that are alike in it. Slots are places in a list of values."""

    function: Callable[..., tuple[Any, ...]]
    sources: tuple[int, ...]
    """Slots of all that the function takes behind the module."""
    copied: tuple[int, ...]
    """Positions among the sources of what it changes though others read it later."""
    results: tuple[int, ...]
    """Slots of what it returns."""
    dropped: tuple[int, ...]
    """Slots that nothing reads any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run for a group of policies."""

    steps: tuple[Step, ...]
    values: tuple[Any, ...]
    """What each slot holds before the first step; what is computed in a step is None."""
    logits: dict[int, int]
    """The slot of each policy's logits, by the policy's place among all."""
    statistics: dict[tuple[int, int], int]
    """The slot that holds what a policy's norm is given, by the policy's place and the norm's
    index, where it was asked for."""
    kept_bytes: float
    """The most that is kept between two steps for one image."""


def make_plan(
    network: SegmentedNetwork,
    effects: Sequence[Effects],
    policies: Sequence[PolicyInputs],
    *,
    shared: Alike,
    group: Sequence[int],
    own_statistics: OwnStatistics | None = None,
) -> Plan:
    """Return what to run for some of the policies.

    Args:
        network: Its segments.
        effects: What each of them does to memory.
        policies: All policies.
        shared: What they compute alike.
        group: The places of those to run, in order.
        own_statistics: Makes the statistics that a norm moves, once for all policies of the group
            that are alike there; only what norms depend on is run then. None uses those given.
    """
    draft = _Draft(network, policies, shared, own_statistics)
    needed = range(len(network.segments)) if own_statistics is None else _up_to_norms(network)
    for policy in group:
        for place in needed:
            draft.add(place, policy)
    logits = {} if own_statistics else {p: draft.slot(network.logits, p) for p in group}
    last_reads = _last_reads(draft, kept=logits.values())
    steps, kept_bytes = _steps(draft, [effects[task.place] for task in draft.tasks], last_reads)
    return Plan(
        steps=steps,
        values=tuple(draft.values),
        logits=logits,
        statistics=draft.statistics,
        kept_bytes=kept_bytes,
    )


def run_plan(
    plan: Plan, model: nn.Module, images: Tensor, *, changed: Mapping[int, Any] | None = None
) -> list[Any]:
    """Run a plan's steps and return what the slots hold at the end.

    Args:
        plan: For images of this size.
        model: The network's module.
        images: (N, C, H, W).
        changed: What slots hold at the beginning in place of what the plan says.
    """
    held = list(plan.values)
    held[IMAGES_SLOT] = images
    for slot, value in (changed or {}).items():
        held[slot] = value
    for function, sources, copied, results, dropped in plan.steps:
        given = [held[slot] for slot in sources]
        for position in copied:
            given[position] = pytree.tree_map_only(Tensor, torch.clone, given[position])
        for slot, value in zip(results, function(model, *given), strict=True):
            held[slot] = value
        for slot in dropped:
            held[slot] = None
    return held


def _up_to_norms(network: SegmentedNetwork) -> list[int]:
    """Return the places of the segments with norms, and of those that they depend on."""
    needed: set[int] = set()
    makers = network.makers
    for place in reversed(range(len(network.segments))):
        segment = network.segments[place]
        if place in needed or any(item.part == "statistics" for item in segment.given):
            needed.update((place, *(makers[value] for value in segment.sources if value in makers)))
    return sorted(needed)


class _Task(NamedTuple):
    """A segment for the policies that are alike in it."""

    place: int
    sources: tuple[int, ...]
    results: tuple[int, ...]


class _Draft:
    """Tasks in the order in which they run, and where their values lie."""

    def __init__(
        self,
        network: SegmentedNetwork,
        policies: Sequence[PolicyInputs],
        shared: Alike,
        own_statistics: OwnStatistics | None,
    ) -> None:
        self.network = network
        self.tasks: list[_Task] = []
        self.values: list[Any] = [None]  # The images.
        self.statistics: dict[tuple[int, int], int] = {}
        self._policies = policies
        self._shared = shared
        self._own_statistics = own_statistics
        self._task_of: dict[tuple[int, int], _Task] = {}
        self._slot_of: dict[tuple[Given, int], int] = {}

    def add(self, place: int, policy: int) -> None:
        """Add a segment for a policy, unless one before it was alike."""
        segment = self.network.segments[place]
        key = (place, self._shared.numbers[place][policy])
        if key not in self._task_of:
            sources = [self.slot(value, policy) for value in segment.sources]
            given = [self._slot_given(item, policy) for item in segment.given]
            results = tuple(self._new_slot(None) for _ in segment.results)
            self._task_of[key] = _Task(place, (*sources, *given), results)
            self.tasks.append(self._task_of[key])
        if self._own_statistics is not None:
            given_slots = self._task_of[key].sources[len(segment.sources) :]
            for item, slot in zip(segment.given, given_slots, strict=True):
                if item.part == "statistics":
                    self.statistics[policy, item.number] = slot

    def slot(self, value: int, policy: int) -> int:
        """Return where a value of a policy lies."""
        if value == IMAGES:
            return IMAGES_SLOT
        place = self.network.makers[value]
        task = self._task_of[place, self._shared.numbers[place][policy]]
        return task.results[self.network.segments[place].results.index(value)]

    def _slot_given(self, item: Given, policy: int) -> int:
        if item.part == "statistics" and self._own_statistics is not None:
            return self._new_slot(self._own_statistics(policy, item.number))
        key = (item, self._shared.given[item][policy])
        if key not in self._slot_of:
            held = getattr(self._policies[policy], item.part)[item.number]
            self._slot_of[key] = self._new_slot(held)
        return self._slot_of[key]

    def _new_slot(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1


def _last_reads(draft: _Draft, *, kept: Collection[int]) -> list[int]:
    """Return for each slot the last step that reads it; that which makes it, where none does."""
    last = [FOREVER] * len(draft.values)
    for number, task in enumerate(draft.tasks):
        for slot in task.results:
            last[slot] = number
        num_values = len(draft.network.segments[task.place].sources)
        for slot in task.sources[:num_values]:
            if slot != IMAGES_SLOT:
                last[slot] = number
    for slot in kept:
        last[slot] = FOREVER
    return last


def _steps(
    draft: _Draft, effects: Sequence[Effects], last_reads: Sequence[int]
) -> tuple[tuple[Step, ...], float]:
    """Return the steps, and the most bytes that they keep for one image."""
    memory = _Memory(last_reads)
    dropped: list[list[int]] = [[] for _ in draft.tasks]
    for slot, step in enumerate(last_reads):
        if step != FOREVER:
            dropped[step].append(slot)
    steps = []
    for number, (task, effect) in enumerate(zip(draft.tasks, effects, strict=True)):
        copied = memory.copied(task, effect, number)
        memory.run(task, effect, copied)
        steps.append(
            Step(
                draft.network.segments[task.place].function,
                task.sources,
                copied,
                task.results,
                tuple(dropped[number]),
            )
        )
        memory.drop(dropped[number])
    return tuple(steps), memory.most_bytes


class _Memory:
    """The pieces of memory that values lie in, followed step by step; several may share one."""

    def __init__(self, last_reads: Sequence[int]) -> None:
        self.most_bytes = 0.0
        self._last_reads = last_reads
        self._pieces: dict[int, set[int]] = {IMAGES_SLOT: {0}}
        self._slots: dict[int, set[int]] = {0: {IMAGES_SLOT}}
        self._sizes: dict[int, float] = {0: 0.0}
        self._bytes = 0.0
        self._num_made = 1

    def copied(self, task: _Task, effect: Effects, step: int) -> tuple[int, ...]:
        """Return the positions of sources that the task changes while others read them later."""

        def is_read_later(slot: int) -> bool:
            holders = set().union(*(self._slots[piece] for piece in self._pieces[slot]))
            return any(self._last_reads[holder] > step for holder in holders)

        return tuple(at for at in effect.changed if is_read_later(task.sources[at]))

    def run(self, task: _Task, effect: Effects, copied: Collection[int]) -> None:
        """Add what a task makes."""
        own = {number: self._new(size) for number, size in enumerate(effect.new_bytes)}
        copies: dict[int, set[int]] = {}
        for at in copied:
            size = sum(self._sizes[piece] for piece in self._pieces[task.sources[at]])
            copies[at] = {self._new(size)}
        for slot, storages in zip(task.results, effect.storages, strict=True):
            pieces: set[int] = set()
            for kind, number in storages:
                if kind == "new":
                    pieces.add(own[number])
                else:
                    pieces |= copies.get(number, self._pieces[task.sources[number]])
            self._pieces[slot] = pieces
            for piece in pieces:
                self._slots[piece].add(slot)
        self.most_bytes = max(self.most_bytes, self._bytes)
        for piece in (*own.values(), *set().union(*copies.values())):
            self._free_if_unused(piece)

    def drop(self, slots: Sequence[int]) -> None:
        """Take away values; memory is free when the last value in it is gone."""
        for slot in slots:
            for piece in self._pieces.pop(slot):
                self._slots[piece].discard(slot)
                self._free_if_unused(piece)

    def _new(self, size: float) -> int:
        piece = self._num_made
        self._num_made += 1
        self._slots[piece], self._sizes[piece] = set(), size
        self._bytes += size
        return piece

    def _free_if_unused(self, piece: int) -> None:
        if not self._slots[piece]:
            self._bytes -= self._sizes.pop(piece)
            del self._slots[piece]
