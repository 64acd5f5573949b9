"""One store for all targets; each target's journal holds all of it."""

import pytest
from made_networks import network_of

from harness.search.archive import PolicyArchive
from harness.search.journal import Journal

CANDIDATES = network_of([(1, 1), (1, 1), (1, 1)]).candidates
TWO, FOUR, SIX = (CANDIDATES.uniform(weight_bits=bits, act_bits=bits) for bits in (2, 4, 6))


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.jsonl", {"images": 10}, CANDIDATES)


def test_archive_tells_what_it_lacks():
    archive = PolicyArchive()
    archive.add({TWO: 7})
    assert archive.missing([SIX, TWO]) == [SIX]
    assert archive.wrong_counts == {TWO: 7}


def test_what_is_added_is_in_the_journal_at_once(journal):
    archive = PolicyArchive()
    archive.continue_in(journal, journal.read())
    archive.add({TWO: 7})
    assert journal.read() == archive.wrong_counts == {TWO: 7}


def test_next_journal_holds_what_earlier_targets_evaluated(journal, tmp_path):
    archive = PolicyArchive()
    archive.continue_in(Journal(tmp_path / "first.jsonl", {"images": 10}, CANDIDATES), {TWO: 7})
    archive.continue_in(journal, {SIX: 3})
    archive.add({FOUR: 5})
    assert journal.read() == archive.wrong_counts == {TWO: 7, SIX: 3, FOUR: 5}
    first = Journal(tmp_path / "first.jsonl", {"images": 10}, CANDIDATES)
    assert first.read() == {TWO: 7}


def test_journal_is_believed_where_it_says_something_else(journal):
    archive = PolicyArchive()
    archive.add({TWO: 8, SIX: 3})
    archive.continue_in(journal, {TWO: 7})
    assert journal.read() == archive.wrong_counts == {TWO: 7, SIX: 3}


def test_journal_starts_with_everything_in_one_write(journal, monkeypatch):
    archive = PolicyArchive()
    archive.add({TWO: 7})
    # A kill between two writes would leave a journal that lacks what was known.
    monkeypatch.setattr(Journal, "append", None)
    archive.continue_in(journal, {})
    assert journal.read() == {TWO: 7}


def test_archive_without_a_journal_keeps_nothing_on_disk(tmp_path):
    archive = PolicyArchive()
    archive.continue_in(None, {TWO: 7})
    archive.add({SIX: 3})
    assert archive.wrong_counts == {TWO: 7, SIX: 3}
    assert list(tmp_path.iterdir()) == []
