"""The one store of what the searches of a folder know of each evaluated policy."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from types import MappingProxyType

from harness.errors import RunError
from harness.problem.policy import Policy
from harness.search.journal import Journal
from harness.search.journal_records import Record, Scores


class PolicyArchive:
    """Scores by policy, over all searches of one folder, whatever their targets and strategies.

    A search has a mark in the journal where it began. What stands before that is what it knew
    at its start, however often it is gone on with and whatever others have added since.

    >>> archive = PolicyArchive()
    >>> archive.add("00000000000000aa", {Policy([(8, 8)]): (3.0,)})
    >>> archive.missing([Policy([(8, 8)]), Policy([(4, 4)])])
    [Policy(bits=((4, 4),))]
    """

    def __init__(self, journal: Journal | None = None, records: Iterable[Record] = ()) -> None:
        """Hold what a journal holds.

        Args:
            journal: Takes what is added; None keeps nothing on disk (ranks beside the first).
            records: What `Journal.recover` returned, on every rank.
        """
        self._journal = journal
        self._records: list[Record] = []
        self._scores: dict[Policy, Scores] = {}
        self._wrong: dict[Policy, int] = {}
        for record in records:
            self._keep(record)

    @property
    def scores(self) -> Mapping[Policy, Scores]:
        """Scores by policy, in the order in which they became known."""
        return MappingProxyType(self._scores)

    @property
    def wrong(self) -> Mapping[Policy, int]:
        """How many images each policy has wrong, of those that score it, where that was noted."""
        return MappingProxyType(self._wrong)

    @property
    def records(self) -> Sequence[Record]:
        """Every batch in order."""
        return tuple(self._records)

    def missing(self, policies: Iterable[Policy]) -> list[Policy]:
        """Return the policies that nothing is known of, each once."""
        return [policy for policy in dict.fromkeys(policies) if policy not in self._scores]

    def begin(self, search_id: str) -> dict[Policy, Scores]:
        """Return what was known when a search began; where it has not, it begins here.

        Args:
            search_id: 16 hex digits made of all that decides what the search does.
        """
        if not self.of_search(search_id):
            self._write(search_id, {})
        known: dict[Policy, Scores] = {}
        for record in self._before(search_id):
            known.update(record.scores)
        return known

    def known_to(self, search_id: str) -> "PolicyArchive":
        """Return what a search knew when it began and what it had evaluated itself.

        It does not change, whatever other searches add meanwhile.
        """
        return PolicyArchive(records=[*self._before(search_id), *self.of_search(search_id)])

    def _before(self, search_id: str) -> list[Record]:
        is_before = partial(operator.ne, search_id)
        ids = (record.search_id for record in self._records)
        return self._records[: sum(1 for _ in takewhile(is_before, ids))]

    def of_search(self, search_id: str) -> list[Record]:
        """Return what one search had evaluated, in order, the mark of its beginning included."""
        return [record for record in self._records if record.search_id == search_id]

    def add(
        self,
        search_id: str,
        scores: Mapping[Policy, Sequence[float]],
        wrong: Mapping[Policy, int] | None = None,
    ) -> None:
        """Keep a batch of evaluated policies; returns when it is on disk.

        Args:
            search_id: The search that had them evaluated.
            scores: Of each policy, one number per fold. What is known already is not kept again.
            wrong: How many images each has wrong, of those that score it.

        Raises:
            RunError: A policy is known with other scores, or the journal cannot take the batch.
            OSError: The batch cannot be written.
        """
        new: dict[Policy, Sequence[float]] = {}
        for policy, folds in scores.items():
            known = self._scores.get(policy)
            if known is None:
                new[policy] = folds
            elif known != tuple(folds):
                raise RunError(
                    f"a policy has scores {tuple(folds)}, {known} earlier: its evaluation does "
                    "not repeat; go on where the search began, or give another --out"
                )
        if new:
            self._write(search_id, new, wrong and {policy: wrong[policy] for policy in new})

    def _write(
        self,
        search_id: str,
        scores: Mapping[Policy, Sequence[float]],
        wrong: Mapping[Policy, int] | None = None,
    ) -> None:
        if self._journal is not None:
            self._keep(self._journal.append(search_id, scores, wrong))
            return
        whole = {policy: tuple(map(float, folds)) for policy, folds in scores.items()}
        seq = len(self._records) + 1
        self._keep(Record(seq=seq, search_id=search_id, scores=whole, wrong=dict(wrong or {})))

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        self._scores.update(record.scores)
        self._wrong.update(record.wrong)
