"""Records of a journal: batches of policies that a search had evaluated, with their scores."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from harness.errors import short
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy

Scores = tuple[float, ...]
"""What evaluation says of a policy: one sum per fold of the images, lower is better."""

_SEARCH_ID = re.compile(r"[0-9a-f]{16}")
_KEYS = {"seq", "search", "policies", "scores"}
_WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A batch of policies that one search had evaluated."""

    seq: int
    """Its place among the records of the journal, from 1."""
    search_id: str
    """16 hex digits."""
    scores: dict[Policy, Scores]
    """Empty in a record that says only that the search has begun."""
    wrong: dict[Policy, int] = field(default_factory=dict)
    """Images that each policy classifies wrongly, of those that score it; empty where it was not
    noted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """What the records of one journal may hold."""

    candidates: Candidates
    """What the layers of a policy may take."""
    num_folds: int
    """Scores of each policy."""

    def record(self, values: dict[str, Any], *, seq: int) -> Record:
        """Return what stands in a line.

        Args:
            values: The line without its CRC.
            seq: The number that is due.

        Raises:
            ValueError: There is something else in it; the text says what.
            TypeError: The same.
            PolicyError: A policy has bits that are no candidates.
        """
        if values.keys() - {_WRONG} != _KEYS:
            raise ValueError(f"its keys are {short(str(list(values)))}")
        if type(values["seq"]) is not int or values["seq"] != seq:
            raise ValueError(f"record {short(repr(values['seq']))} where {seq} is due")
        search_id = values["search"]
        if type(search_id) is not str or not _SEARCH_ID.fullmatch(search_id):
            raise ValueError("a search without an id of 16 hex digits")
        policies = [self._policy(bits) for bits in values["policies"]]
        scores = [self._scores(folds) for folds in values["scores"]]
        if len(policies) != len(scores):
            raise ValueError(f"{len(policies)} policies with scores of {len(scores)}")
        batch = dict(zip(policies, scores, strict=True))
        if len(batch) < len(policies):
            raise ValueError("a policy stands there twice")
        wrong = self._wrong(values[_WRONG], policies) if _WRONG in values else {}
        return Record(seq=seq, search_id=search_id, scores=batch, wrong=wrong)

    def _wrong(self, counts: Any, policies: list[Policy]) -> dict[Policy, int]:
        if len(counts) != len(policies):
            raise ValueError(f"{len(policies)} policies with wrong images of {len(counts)}")
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("wrong images that are no count")
        return dict(zip(policies, counts, strict=True))

    def _policy(self, pairs: Any) -> Policy:
        if not all(type(bits) is int for pair in pairs for bits in pair):
            raise ValueError("bits that are no whole numbers")
        policy = Policy(pairs)
        self.candidates.check(policy)
        return policy

    def _scores(self, folds: Any) -> Scores:
        if len(folds) != self.num_folds:
            raise ValueError(f"{len(folds)} scores of a policy, not {self.num_folds}")
        if not all(type(score) is float and math.isfinite(score) for score in folds):
            raise ValueError("a score that is no finite number")
        return tuple(folds)


def check_repeats(record: Record, known: dict[Policy, Scores]) -> None:
    """Keep the scores of a record among those that are known.

    Raises:
        ValueError: One is known to be something else.
    """
    for policy, scores in record.scores.items():
        if known.setdefault(policy, scores) != scores:
            raise ValueError(
                f"a policy with scores {short(str(scores))}, {short(str(known[policy]))} earlier"
            )
