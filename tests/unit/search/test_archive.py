"""One store for all searches of a folder; each finds what it knew when it began."""

import pytest
from journals import (
    FIRST_SEARCH,
    OTHER_SEARCH,
    batches_in,
    batches_of,
    journal_at,
    policies_of,
    scores_of,
)

from harness.errors import RunError
from harness.search.archive import PolicyArchive

ONE, TWO, THREE, FOUR = policies_of(4)


def scored(*policies):
    return {policy: scores_of(policy) for policy in policies}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def opened(path):
    journal = journal_at(path)
    return PolicyArchive(journal, journal.recover())


def test_archive_tells_what_it_lacks_each_once():
    archive = PolicyArchive()
    archive.add(FIRST_SEARCH, scored(ONE))
    assert archive.missing([TWO, ONE, TWO]) == [TWO]
    assert archive.scores == scored(ONE)


def test_what_is_added_is_in_the_journal_at_once(path):
    archive = opened(path)
    archive.add(FIRST_SEARCH, scored(TWO, ONE))
    archive.add(OTHER_SEARCH, scored(THREE))
    assert journal_at(path).read() == list(archive.records)
    assert opened(path).scores == archive.scores == scored(TWO, ONE, THREE)
    assert list(opened(path).scores) == [TWO, ONE, THREE]


def test_what_is_known_is_not_kept_again(path):
    archive = opened(path)
    archive.add(FIRST_SEARCH, scored(ONE))
    before = path.read_bytes()
    archive.add(OTHER_SEARCH, scored(ONE))
    assert path.read_bytes() == before
    archive.add(OTHER_SEARCH, scored(ONE, TWO))
    assert batches_in(journal_at(path).read()) == [scored(ONE), scored(TWO)]


def test_other_scores_of_a_known_policy_are_refused(path):
    archive = opened(path)
    archive.add(FIRST_SEARCH, scored(ONE))
    before = path.read_bytes()
    with pytest.raises(
        RunError,
        match=r"^a policy has scores \(1.0, 2.0, 3.0\), \(.*\) earlier: its evaluation does not "
        "repeat; go on where the search began, or give another --out$",
    ):
        archive.add(OTHER_SEARCH, {TWO: scores_of(TWO), ONE: (1.0, 2.0, 3.0)})
    assert path.read_bytes() == before
    assert archive.scores == scored(ONE)


def test_a_search_knows_at_its_start_what_others_had_evaluated(path):
    archive = opened(path)
    assert archive.begin(FIRST_SEARCH) == {}
    archive.add(FIRST_SEARCH, scored(ONE))
    assert archive.begin(OTHER_SEARCH) == scored(ONE)
    archive.add(OTHER_SEARCH, scored(TWO))
    archive.add(FIRST_SEARCH, scored(THREE))
    for again in (archive, opened(path)):
        assert again.begin(FIRST_SEARCH) == {}
        assert again.begin(OTHER_SEARCH) == scored(ONE)
        assert batches_in(again.of_search(FIRST_SEARCH)) == [{}, scored(ONE), scored(THREE)]
        assert batches_in(again.of_search(OTHER_SEARCH)) == [{}, scored(TWO)]
        assert again.of_search("c" * 16) == []


def test_a_search_that_had_nothing_evaluated_knows_later_what_it_knew_then(path):
    """All its policies were known: only the mark of its beginning tells when that was."""
    archive = opened(path)
    archive.add(FIRST_SEARCH, scored(ONE, TWO))
    archive.begin(OTHER_SEARCH)
    archive.add(FIRST_SEARCH, scored(THREE))
    assert opened(path).begin(OTHER_SEARCH) == scored(ONE, TWO)


def test_archive_without_a_journal_keeps_the_same_and_nothing_on_disk(path):
    """As ranks beside the first have it."""
    first = opened(path)
    beside = PolicyArchive(None, first.records)
    for batch in batches_of(3):
        for archive in (first, beside):
            archive.begin(OTHER_SEARCH)
            archive.add(FIRST_SEARCH, batch)
    assert beside.records == first.records
    assert beside.scores == first.scores
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_could_not_be_written_is_not_known(path):
    archive = opened(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        archive.add(FIRST_SEARCH, scored(FOUR))
    assert archive.missing([FOUR]) == [FOUR]


def test_what_a_search_knows_is_its_own_and_what_came_before(path):
    archive = opened(path)
    archive.add(OTHER_SEARCH, scored(ONE))
    archive.begin(FIRST_SEARCH)
    archive.add(FIRST_SEARCH, scored(TWO))
    archive.add(OTHER_SEARCH, scored(THREE))
    archive.add(FIRST_SEARCH, scored(FOUR), {FOUR: 3})
    known = archive.known_to(FIRST_SEARCH)
    assert known.scores == scored(ONE, TWO, FOUR)
    assert known.wrong == {FOUR: 3}
    assert archive.begin(FIRST_SEARCH) == scored(ONE)
    assert archive.known_to("0" * 16).scores == archive.scores
