"""The one store of what a search call knows: how many images each evaluated policy gets wrong."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from harness.problem.policy import Policy
from harness.search.journal import Journal


class PolicyArchive:
    """Wrong images by policy, over all targets of one search call.

    One journal at a time, that of the target being searched, holds all of it on disk.

    >>> archive = PolicyArchive()
    >>> archive.add({Policy([(8, 8)]): 3})
    >>> archive.missing([Policy([(8, 8)]), Policy([(4, 4)])])
    [Policy(bits=((4, 4),))]
    """

    def __init__(self) -> None:
        self._wrong_counts: dict[Policy, int] = {}
        self._journal: Journal | None = None

    @property
    def wrong_counts(self) -> Mapping[Policy, int]:
        """Wrong images by policy, in the order in which they became known."""
        return MappingProxyType(self._wrong_counts)

    def missing(self, policies: Iterable[Policy]) -> list[Policy]:
        """Return the policies that nothing is known of."""
        return [policy for policy in policies if policy not in self._wrong_counts]

    def add(self, wrong_counts: Mapping[Policy, int]) -> None:
        """Keep a batch of evaluated policies; returns when it is on disk."""
        if self._journal is not None:
            self._journal.append(wrong_counts)
        self._wrong_counts.update(wrong_counts)

    def continue_in(self, journal: Journal | None, contents: Mapping[Policy, int]) -> None:
        """Keep everything in another journal from now on.

        What other targets have evaluated is written into it too: their policies may be this
        target's result, and the file alone must lead to that result again.

        Args:
            journal: The next target's; None keeps nothing on disk (ranks beside the first).
            contents: What was read from it. Where it and the archive say different things, the
                file is believed, so that a search that goes on repeats what it did.
        """
        self._wrong_counts.update(contents)
        self._journal = journal
        if journal is not None:
            journal.rewrite(self._wrong_counts)
