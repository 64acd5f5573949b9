"""A network in evaluation, cut where policies part: what one layer decides is one segment.

What a policy says reaches the network by its layers. Everything behind a layer that depends on no
later one belongs to its segment: the norm, the activation, a residual sum with what came before. So
two policies compute a segment alike, bit for bit, where all that it reads is alike.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch import fx

from harness.quant.execution import POLICY_INPUTS, graph_function
from harness.quant.signs import target_name

IMAGES = 0
"""Number of the value that is the images."""


class Given(NamedTuple):
    """One item of what a policy gives, by the field of `PolicyInputs` that it stands in."""

    part: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Operations that run as one. Values have numbers that are unique in the network."""

    name: str
    """That of its first operation."""
    sources: tuple[int, ...]
    """The values of other segments that it reads."""
    given: tuple[Given, ...]
    """What it reads of the policy."""
    results: tuple[int, ...]
    """Its values that other segments read, or that are the logits."""
    parents: tuple[int, ...]
    """Places of the segments that decide, together with what is given, what it computes. Those
    whose values it reads too, but on which a parent depends, are left out."""
    function: Callable[..., tuple[Any, ...]]
    """Maps the network's module, the sources and what is given to the results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedNetwork:
    """A network as segments, each behind those that it reads."""

    segments: tuple[Segment, ...]
    logits: int
    """The value that the network returns."""
    makers: dict[int, int]
    """The place of the segment that makes each value; nothing makes the images."""
    repeated_norms: tuple[int, ...]
    """Norms that run more than once, by their index."""


class EvaluationGraph:
    """The graph of a network in evaluation; it never changes, so copies of the network share it."""

    def __init__(self, graph: fx.Graph) -> None:
        """Keep a graph as `compile_graph` leaves it, with the second input."""
        self._graph = graph

    def __deepcopy__(self, memo: dict[int, Any]) -> "EvaluationGraph":
        return self

    @cached_property
    def segmented(self) -> SegmentedNetwork:
        """The network as segments; they are made when they are first asked for."""
        return _segmented(self._graph)


@dataclass(slots=True)
class _Draft:
    """A segment that is being put together."""

    nodes: list[fx.Node]
    depends_on: set[int]
    """Its place, and those of all segments that its values depend on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """Which operations go together."""

    drafts: list[_Draft]
    given: dict[fx.Node, Given]
    """The nodes that take an item out of the policy."""
    constants: dict[fx.Node, None]
    """The nodes that depend on neither images nor policy, in order."""
    place_of: dict[fx.Node, int]
    """The place of the segment that an operation is in."""
    number_of: dict[fx.Node, int]
    """The number of each value that others read."""


def _segmented(graph: fx.Graph) -> SegmentedNetwork:
    cut = _cut(graph)
    norms = Counter(item.number for item in cut.given.values() if item.part == "statistics")
    (output,) = (node for node in graph.nodes if node.op == "output")
    return SegmentedNetwork(
        segments=tuple(_segment(place, cut) for place in range(len(cut.drafts))),
        logits=cut.number_of[output.all_input_nodes[0]],
        makers={
            number: cut.place_of[node]
            for node, number in cut.number_of.items()
            if node in cut.place_of
        },
        repeated_norms=tuple(norm for norm, calls in norms.items() if calls > 1),
    )


def _cut(graph: fx.Graph) -> _Cut:
    (inputs,) = (node for node in graph.nodes if node.target == POLICY_INPUTS)
    cut = _Cut(
        drafts=[],
        given={
            item: Given(str(part.args[1]), int(item.args[1]))
            for part in inputs.users
            for item in part.users
        },
        constants={},
        place_of={},
        number_of={},
    )
    for node in graph.nodes:
        if node.op in ("placeholder", "output") or node in inputs.users or node in cut.given:
            continue
        if all(source in cut.constants for source in node.all_input_nodes):
            cut.constants[node] = None
        else:
            _place(node, cut)
    for node in graph.nodes:
        if node.op == "placeholder" and node is not inputs:
            cut.number_of[node] = IMAGES
        elif node in cut.place_of and _is_read_outside(node, cut):
            cut.number_of[node] = len(cut.number_of)
    return cut


def _place(node: fx.Node, cut: _Cut) -> None:
    """Add an operation to the segment that all it reads is known in, or begin another with it."""
    read = {cut.place_of[source] for source in node.all_input_nodes if source in cut.place_of}
    given = [cut.given[source] for source in node.all_input_nodes if source in cut.given]
    # The last one is the only one that can depend on all others.
    place = max(read, default=len(cut.drafts))
    is_layer = any(item.part == "weights" for item in given)
    if is_layer or not read or not cut.drafts[place].depends_on.issuperset(read):
        place = len(cut.drafts)
        above = (cut.drafts[source].depends_on for source in read)
        cut.drafts.append(_Draft(nodes=[], depends_on={place}.union(*above)))
    cut.drafts[place].nodes.append(node)
    cut.place_of[node] = place


def _is_read_outside(node: fx.Node, cut: _Cut) -> bool:
    """Return whether anything outside its segment reads what an operation returns."""
    return any(cut.place_of.get(user) != cut.place_of[node] for user in node.users)


def _segment(place: int, cut: _Cut) -> Segment:
    nodes = cut.drafts[place].nodes
    read = dict.fromkeys(source for node in nodes for source in node.all_input_nodes)
    sources = [node for node in read if node in cut.number_of and cut.place_of.get(node) != place]
    items = dict.fromkeys(cut.given[node] for node in read if node in cut.given)
    results = [node for node in nodes if node in cut.number_of]
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"source_{at}") for at, node in enumerate(sources)}
    placeholders = {item: graph.placeholder(f"{item.part}_{item.number}") for item in items}
    copies.update({node: placeholders[cut.given[node]] for node in read if node in cut.given})
    # Constants are made in each segment that reads them.
    needed = _with_sources([node for node in read if node in cut.constants])
    for node in (*(constant for constant in cut.constants if constant in needed), *nodes):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in results))
    above = {cut.place_of[node] for node in sources if node in cut.place_of}
    covered = set().union(*(cut.drafts[other].depends_on - {other} for other in above))
    return Segment(
        name=target_name(nodes[0]),
        sources=tuple(cut.number_of[node] for node in sources),
        given=tuple(items),
        results=tuple(cut.number_of[node] for node in results),
        parents=tuple(sorted(above - covered)),
        function=graph_function(graph),
    )


def _with_sources(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """Return nodes and all that they are computed from."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found
