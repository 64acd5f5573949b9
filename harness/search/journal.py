"""`journal.jsonl`: every evaluated policy on disk at once, so that no search is ever lost.

One journal serves all searches of a folder, whatever their targets and strategies. Its first line,
the header, says what scores depend on. Each further line is a record: the policies that a search
had evaluated together, their scores, and how many images each had wrong. A record is one write, and
on disk (fsync) before the search hears of it. The CRC32C that ends it goes on from that of the
header, so that no record of another journal passes for one of this.

A kill or a power cut can tear the last record, which nobody has heard of; it is cut off, on disk,
before the next is written. Anything else that is not as it was written is refused, with its place.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, RunError
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.run.files import FileFormat
from harness.run.settings import difference
from harness.search.counts_journal import MAX_JOURNAL_BYTES, to_format_2
from harness.search.journal_disk import JournalDisk
from harness.search.journal_lines import (
    NEWLINE,
    crc32c,
    damaged,
    is_torn_record,
    parsed_object,
    sealed,
    unsealed,
    without_crc,
)
from harness.search.journal_records import Record, RecordRules, Scores, check_repeats

logger = logging.getLogger(__name__)

FIRST_OF_ALL_SEARCHES = 3
"""Journals of formats 1 and 2 are of one target and hold counts; `read_counts` reads them."""

WITH_WRONG_IMAGES = 4
"""A journal of format 3 has none, and is gone on with as it is."""

CANDIDATES, ALL_CANDIDATES = "candidates", "all"
"""Of a header, where frozen bits were proposed too; the policies of other journals have none."""

JOURNAL_FORMAT = FileFormat(
    name="journal", upgrades=(to_format_2, lambda old: old, lambda old: old)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    records: list[Record]
    end: int
    """Bytes up to the end of the last whole record; 0 where there is no whole header."""
    size: int
    """Bytes of the file."""
    seed: int
    """CRC of its header, which those of its records go on from."""


class Journal:
    """The file of one search folder; `PolicyArchive` holds its contents in memory."""

    def __init__(
        self,
        path: Path,
        header: dict[str, Any],
        candidates: Candidates,
        *,
        num_folds: int = 1,
        disk: JournalDisk | None = None,
    ) -> None:
        """Name a journal; nothing is read or written yet.

        Args:
            path: The file.
            header: What the scores depend on: network, images, weights, name of the score ...
            candidates: What the layers of its policies may take.
            num_folds: Scores of each policy.
            disk: Where the file lies.
        """
        self._path = path
        # As it is read back: tuples are lists.
        whole = {"format": JOURNAL_FORMAT.version, **header, "folds": num_folds}
        self._first_line = sealed(whole) + NEWLINE
        self._header = parsed_object(sealed(whole), place="the header")
        self._rules = RecordRules(candidates=candidates, num_folds=num_folds)
        self._disk = disk or JournalDisk()
        self._end: int | None = None
        self._num_records = self._seed = 0
        self._takes_wrong = True

    def read(self) -> list[Record]:
        """Return the records in order, none where there is no file; nothing is changed.

        Raises:
            RunError: The file was made with another header, or is damaged.
        """
        return self._contents().records

    def recover(self) -> list[Record]:
        """Make the file ready for `append` and return its records, all of them on disk.

        The file is made where there is none, and a torn last record is cut off. For one process at
        a time, which holds the folder's lock.

        Raises:
            RunError: The file was made with another header, is damaged, or cannot be written.
        """
        contents = self._contents()
        try:
            self._make_whole(contents)
        except OSError as problem:
            # Ranks are told of errors of this kind only.
            raise RunError(
                f"journal {self._path} cannot be written: {_reason(problem)}; mend that or give "
                "another --out"
            ) from None
        self._end = contents.end or len(self._first_line)
        self._num_records, self._seed = len(contents.records), contents.seed
        return contents.records

    def append(
        self,
        search_id: str,
        scores: Mapping[Policy, Sequence[float]],
        wrong: Mapping[Policy, int] | None = None,
    ) -> Record:
        """Add a batch of evaluated policies; returns when it is on disk.

        Args:
            search_id: 16 hex digits of the search that had them evaluated.
            scores: A finite number per fold for each policy; none to say that the search begins.
            wrong: How many images each has wrong, where that is known; a journal of an older format
                leaves it out.

        Raises:
            RunError: The file has changed since `recover`, or an earlier record was not written.
            ValueError: A score or the search's id is none.
            OSError: It cannot be written; no further record is then.
        """
        if self._end is None:
            raise RunError(
                f"journal {self._path} cannot take a record: it was not recovered, or the record "
                "before was not written; run the search again with --resume"
            )
        record, line = self._line(search_id, scores, wrong if self._takes_wrong else None)
        end, self._end = self._end, None
        with self._disk.opened(self._path) as descriptor:
            size = self._disk.size(descriptor)
            if size != end:
                raise RunError(
                    f"journal {self._path} has {size} bytes, {end} were written; let one search "
                    "at a time write into it"
                )
            try:
                self._write(descriptor, line)
            except OSError:
                self._take_back(descriptor, end)
                raise
        self._end, self._num_records = end + len(line), record.seq
        return record

    def _line(
        self,
        search_id: str,
        scores: Mapping[Policy, Sequence[float]],
        wrong: Mapping[Policy, int] | None,
    ) -> tuple[Record, bytes]:
        values: dict[str, Any] = {
            "seq": self._num_records + 1,
            "search": search_id,
            "policies": [policy.bits for policy in scores],
            "scores": [[float(score) for score in folds] for folds in scores.values()],
        }
        if wrong:
            values["wrong"] = [wrong[policy] for policy in scores]
        line = sealed(values, seed=self._seed)
        # What could not be read back is not written.
        return self._rules.record(values, seq=self._num_records + 1), line + NEWLINE

    def _write(self, descriptor: int, line: bytes) -> None:
        """Write a record and wait for the disk."""
        while line:  # A full disk takes a part, and says so only when it is given the rest.
            line = line[self._disk.write(descriptor, line) :]
        self._disk.sync(descriptor)

    def _take_back(self, descriptor: int, end: int) -> None:
        """Cut off what may not have come to the disk.

        After a failed fsync the system may hold, and show to the next reader, what the disk lacks.
        """
        try:
            self._disk.truncate(descriptor, end)
            self._disk.sync(descriptor)
        except OSError as problem:
            logger.warning("journal %s: its end is uncertain: %s", self._path, _reason(problem))

    def _make_whole(self, contents: _Contents) -> None:
        if contents.end == 0:
            self._disk.replace(self._path, self._first_line)
        else:
            with self._disk.opened(self._path) as descriptor:
                if contents.end < contents.size:
                    self._disk.truncate(descriptor, contents.end)
                # A killed process may have left what no fsync followed.
                self._disk.sync(descriptor)
            self._disk.sync_folder(self._path.parent)
        # The folder may be as new as the file.
        self._disk.sync_folder(self._path.parent.parent)

    def _contents(self) -> _Contents:
        try:
            content = self._disk.read(self._path, limit=MAX_JOURNAL_BYTES)
        except FileNotFoundError:
            return self._not_begun()
        except OSError as problem:
            raise RunError(
                f"journal {self._path} cannot be read: {_reason(problem)}; remove it or give "
                "another --out"
            ) from None
        if len(content) < len(self._first_line) and self._first_line.startswith(content):
            logger.warning(
                "journal %s ends at byte %d, in its first line; it begins anew",
                self._path,
                len(content),
            )
            return self._not_begun()
        first, newline, _ = content.partition(NEWLINE)
        self._check_header(first, has_end=bool(newline))
        return self._records(content, start=len(first) + 1)

    def _not_begun(self) -> _Contents:
        return _Contents(records=[], end=0, size=0, seed=crc32c(self._first_line))

    def _records(self, content: bytes, *, start: int) -> _Contents:
        records: list[Record] = []
        known: dict[Policy, Scores] = {}
        seed = crc32c(content[:start])
        while start < len(content):
            place = f"line {len(records) + 2}, at byte {start}, of {self._path}"
            stop = content.find(NEWLINE, start)
            text = unsealed(content[start:stop], seed=seed) if stop >= 0 else None
            if text is None:
                self._check_torn(content[start:], place=place)
                break
            try:
                record = self._rules.record(parsed_object(text, place=place), seq=len(records) + 1)
                check_repeats(record, known)
            except (TypeError, ValueError, PolicyError) as problem:
                raise damaged(place, str(problem).partition(";")[0]) from None
            records.append(record)
            start = stop + 1
        return _Contents(records=records, end=start, size=len(content), seed=seed)

    def _check_torn(self, tail: bytes, *, place: str) -> None:
        if not is_torn_record(tail):
            raise damaged(place, "its CRC is of something else")
        logger.warning("journal: %s is a torn record, which does not count", place)

    def _check_header(self, line: bytes, *, has_end: bool) -> None:
        """Check that the file was made with this header.

        Raises:
            RunError: It was not, or what stands there is damaged.
        """
        there = _checked_header(line, self._path, place=f"line 1 of {self._path}", has_end=has_end)
        self._takes_wrong = there["format"] >= WITH_WRONG_IMAGES
        parts = difference(_settings(there), _settings(self._header))
        if parts is not None:
            raise RunError(
                f"journal {self._path} was made with other weights, images or settings: {parts}; "
                "remove it or give another --out"
            )


def candidates_mark(*, proposes_frozen: bool) -> dict[str, str]:
    """Return what a header and a result say where frozen bits are proposed too."""
    return {CANDIDATES: ALL_CANDIDATES} if proposes_frozen else {}


def journal_header(path: Path) -> dict[str, Any]:
    """Return what the first line of a journal says, for whoever asks what it is of.

    Raises:
        RunError: There is no journal, or its first line is damaged or of another version.
    """
    try:
        content = JournalDisk().read(path, limit=MAX_JOURNAL_BYTES)
    except OSError as problem:
        raise RunError(
            f"journal {path} cannot be read: {_reason(problem)}; search the run first, or give the "
            "--out of its search"
        ) from None
    line, newline, _ = content.partition(NEWLINE)
    place = f"line 1 of {path}"
    header = _checked_header(line, path, place=place, has_end=bool(newline))
    return without_crc(header)


def journal_as_found(path: Path, header: dict[str, Any], candidates: Candidates) -> Journal:
    """Return a journal by what it says itself, for whoever reads what another search wrote.

    Args:
        path: The file.
        header: Of `journal_header`.
        candidates: What the layers of its policies may take.
    """
    others = {key: value for key, value in header.items() if key != "folds"}
    return Journal(path, others, candidates, num_folds=header["folds"])


def _checked_header(line: bytes, path: Path, *, place: str, has_end: bool) -> dict[str, Any]:
    header = parsed_object(line, place=place)
    if "format" not in header:
        raise damaged(place, "no header of a journal")
    JOURNAL_FORMAT.upgraded(header, path)  # What a newer program wrote is not damaged.
    if header["format"] < FIRST_OF_ALL_SEARCHES:
        raise RunError(
            f"journal {path} has format {header['format']}, which holds one target's "
            f"counts; searches go on from format {FIRST_OF_ALL_SEARCHES}, give another --out"
        )
    if not has_end or unsealed(line) is None:
        raise damaged(place, "its CRC is of something else" if has_end else "it has no end")
    return header


def _settings(header: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in without_crc(header).items() if key != "format"}


def _reason(problem: OSError) -> str:
    return (problem.strerror or "unreadable").lower()
