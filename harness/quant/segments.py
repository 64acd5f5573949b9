"""A network in evaluation, cut where policies part: what one layer decides is one segment.

What a policy says reaches the network by its layers. Everything behind a layer that depends on no
later one belongs to its segment: the norm, the activation, a residual sum with what came before. So
two policies compute a segment alike, bit for bit, where all that it reads is alike.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
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
    index: int


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
    """Itself and all segments before it that its values depend on."""


def _segmented(graph: fx.Graph) -> SegmentedNetwork:
    given = _given_nodes(graph)
    drafts, place_of = _drafts(graph, given)
    (output,) = (node for node in graph.nodes if node.op == "output")
    number_of: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "placeholder" and node.target != POLICY_INPUTS:
            number_of[node] = IMAGES
        elif node in place_of and _leaves(node, place_of):
            number_of[node] = len(number_of)
    segments = tuple(
        _segment(draft, place_of=place_of, number_of=number_of, given=given, drafts=drafts)
        for draft in drafts
    )
    norms = Counter(item.index for item in given.values() if item.part == "statistics")
    return SegmentedNetwork(
        segments=segments,
        logits=number_of[output.all_input_nodes[0]],
        makers={number_of[node]: place for node, place in place_of.items() if node in number_of},
        repeated_norms=tuple(index for index, calls in norms.items() if calls > 1),
    )


def _given_nodes(graph: fx.Graph) -> dict[fx.Node, Given]:
    """Return the nodes that take an item out of the policy."""
    (inputs,) = (node for node in graph.nodes if node.target == POLICY_INPUTS)
    return {
        item: Given(str(part.args[1]), int(item.args[1]))
        for part in inputs.users
        for item in part.users
    }


def _drafts(
    graph: fx.Graph, given: dict[fx.Node, Given]
) -> tuple[list[_Draft], dict[fx.Node, int]]:
    """Return which operations go together, and the place of each."""
    (inputs,) = (node for node in graph.nodes if node.target == POLICY_INPUTS)
    of_policy = {*inputs.users, *given}
    drafts: list[_Draft] = []
    place_of: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr", "output") or node in of_policy:
            continue
        sources = {place_of[source] for source in node.all_input_nodes if source in place_of}
        is_layer = any(
            given[source].part == "weights" for source in node.all_input_nodes if source in given
        )
        place = None if is_layer else _deciding(sources, drafts)
        if place is None:
            place = len(drafts)
            drafts.append(_Draft([], {place}.union(*(drafts[at].depends_on for at in sources))))
        drafts[place].nodes.append(node)
        place_of[node] = place
    return drafts, place_of


def _deciding(places: Collection[int], drafts: Sequence[_Draft]) -> int | None:
    """Return the one of the places that depends on all others, None where there is none."""
    if not places:
        return None
    last = max(places)
    return last if drafts[last].depends_on.issuperset(places) else None


def _leaves(node: fx.Node, place_of: dict[fx.Node, int]) -> bool:
    """Return whether anything outside its segment reads a value."""
    return any(place_of.get(user) != place_of[node] for user in node.users)


def _segment(
    draft: _Draft,
    *,
    drafts: Sequence[_Draft],
    place_of: dict[fx.Node, int],
    number_of: dict[fx.Node, int],
    given: dict[fx.Node, Given],
) -> Segment:
    place = place_of[draft.nodes[0]]
    read = dict.fromkeys(source for node in draft.nodes for source in node.all_input_nodes)
    sources = [node for node in read if node in number_of and place_of.get(node) != place]
    items = dict.fromkeys(given[node] for node in read if node in given)
    results = [node for node in draft.nodes if node in number_of]
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"source_{at}") for at, node in enumerate(sources)}
    placeholders = {item: graph.placeholder("_".join(map(str, item))) for item in items}
    copies.update({node: placeholders[given[node]] for node in read if node in given})
    # A constant is read by each segment that needs it.
    constants = [node for node in read if node.op == "get_attr"]
    for node in (*constants, *draft.nodes):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in results))
    above = {place_of[node] for node in sources if node in place_of}
    covered = set().union(*(drafts[at].depends_on - {at} for at in above))
    return Segment(
        name=target_name(draft.nodes[0]),
        sources=tuple(number_of[node] for node in sources),
        given=tuple(items),
        results=tuple(number_of[node] for node in results),
        parents=tuple(sorted(above - covered)),
        function=graph_function(graph),
    )
