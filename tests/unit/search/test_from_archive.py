"""Budgets answered by a search folder, without evaluations and with a few that confirm."""

import json
import subprocess
import sys

import pytest
from folder_contents import files_under

from harness.errors import RunError
from harness.problem.budget import target_budget
from harness.run.policy_file import load_policy
from harness.search import confirm as confirm_module
from harness.search import driver
from harness.search.confirm import confirm
from harness.search.from_archive import answer
from harness.search.journal import Journal, journal_header
from harness.search.kept_gradients import GRADIENTS_FILE
from harness.search.request import SearchOptions
from harness.search.results import JOURNAL_FILE

FEW = SearchOptions(evaluations=40)
ASKED = SearchOptions()


@pytest.fixture(scope="module")
def searched(trained, tmp_path_factory):
    """A search folder of the run."""
    out = tmp_path_factory.mktemp("searched")
    driver.search(trained.run, ["40%"], out=out, options=FEW)
    return out


def test_a_further_budget_is_answered_within_it(trained, searched):
    network = trained.network
    before = (searched / JOURNAL_FILE).read_bytes()
    answers = answer(trained.run, ["30%", "60%"], out=searched, options=ASKED)
    assert (searched / JOURNAL_FILE).read_bytes() == before
    for one, text in zip(answers, ("30%", "60%"), strict=True):
        assert one.target.folder == searched / f"archive_{text.replace('%', 'pct')}"
        assert target_budget(text, network).allows(network, one.policy)
        assert one.num_known == 40
        low, high = one.accuracy.interval
        assert 0 <= low < one.accuracy.accuracy < high <= 1
        path = one.target.folder / "policy.json"
        assert load_policy(path, network) == one.policy
        written = json.loads(path.read_text())
        assert written["provenance"]["strategy"] == "archive"
        assert written["accuracy"] == {"predicted": one.accuracy.accuracy}
    # More BitOPs are worth something, by the model.
    assert answers[0].predicted[0] > answers[1].predicted[0]


def test_an_answer_begins_with_the_gradients_that_the_search_began_with(
    trained, searched, tmp_path
):
    def predicted(folder):
        return [one.predicted for one in answer(trained.run, ["30%"], out=folder, options=ASKED)]

    for name in (JOURNAL_FILE, GRADIENTS_FILE):
        (tmp_path / name).write_bytes((searched / name).read_bytes())
    assert predicted(tmp_path) == predicted(searched)
    (tmp_path / GRADIENTS_FILE).unlink()
    assert predicted(tmp_path) != predicted(searched)


def test_what_is_confirmed_is_what_was_answered(trained, searched, tmp_path, monkeypatch):
    texts = ["30%", "50%", "70%"]
    for name in (JOURNAL_FILE, GRADIENTS_FILE):
        (tmp_path / name).write_bytes((searched / name).read_bytes())
    answers = answer(trained.run, texts, out=tmp_path, options=ASKED)
    measured = []

    def outcome_of(trained, target, shortlist, expected, *arguments, **named):
        measured.append((shortlist[0].policy, expected.score(shortlist[0].policy)))
        return real(trained, target, shortlist, expected, *arguments, **named)

    real = confirm_module.outcome_of
    monkeypatch.setattr(confirm_module, "outcome_of", outcome_of)
    confirm(trained.run, texts, most=1, out=tmp_path, options=SearchOptions())
    assert measured == [(one.policy, one.predicted) for one in answers]


def test_an_answer_takes_the_place_of_an_earlier_one_and_is_the_same(trained, searched):
    answer(trained.run, ["35%"], out=searched, options=ASKED)
    before = files_under(searched)
    answer(trained.run, ["35%"], out=searched, options=ASKED)
    assert files_under(searched) == before


def test_predictions_hold_far_from_the_budget_that_was_searched(trained, tmp_path):
    """A model of policies at one budget is off at much larger ones, and its intervals say so."""
    driver.search(trained.run, ["25%"], out=tmp_path, options=FEW)
    texts = ["25%", "35%", "50%", "70%", "90%"]
    answers = answer(trained.run, texts, out=tmp_path, options=ASKED)
    num_wrong = trained.score_proposals([one.policy for one in answers]).num_wrong.tolist()
    num_images = trained.proposal_batches().num_images
    held = []
    for one, wrong in zip(answers, num_wrong, strict=True):
        low, high = one.accuracy.interval
        held.append(low <= 1 - wrong / num_images <= high)
    assert sum(held) >= 4, held
    # More bits are not expected to be worse than the largest policy, nor better.
    assert all(one.predicted[0] > -2 * one.predicted[1] for one in answers)


def test_nothing_is_predicted_where_nothing_like_it_is_known(trained, searched, tmp_path, caplog):
    header = journal_header(searched / JOURNAL_FILE)
    folds = header.pop("folds")
    source = Journal(searched / JOURNAL_FILE, header, trained.candidates, num_folds=folds)
    copy = Journal(tmp_path / JOURNAL_FILE, header, trained.candidates, num_folds=folds)
    copy.recover()
    largest = trained.candidates.largest
    for record in source.read():
        scores = {one: parts for one, parts in record.scores.items() if one != largest}
        copy.append(record.search_id, scores, record.wrong)
    near, far = answer(trained.run, ["40%", "95%"], out=tmp_path, options=ASKED)
    assert near.accuracy is not None
    assert (far.accuracy, far.predicted) == (None, None)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        "budget 95% is far from what was evaluated, so nothing is predicted of its policy; "
        "measure it with --confirm 10, or search that budget"
    ]


def test_answers_are_confirmed_as_results_are_reported(trained, searched):
    (outcome,) = confirm(trained.run, ["50%"], most=4, out=searched, options=ASKED)
    network = trained.network
    assert outcome.folder == searched / "confirmed_50pct"
    assert outcome.budget.allows(network, outcome.best.policy)
    (accuracy,) = trained.accuracy([outcome.best.policy], split="test")
    assert outcome.best.test_accuracy == accuracy
    assert outcome.search.strategy == "archive"
    assert load_policy(outcome.folder / "policy.json", network) == outcome.best.policy
    with pytest.raises(RunError, match="confirmed_50pct holds a search already; give --resume"):
        confirm(trained.run, ["50%"], most=4, out=searched, options=ASKED)


@pytest.mark.parametrize("most", [1, 6])
def test_no_more_policies_are_measured_than_may_confirm(trained, searched, monkeypatch, most):
    asked = []
    real = type(trained).right_images

    def counted(self, policies, *, split, on_progress=None):
        asked.append((split, list(policies)))
        return real(self, policies, split=split, on_progress=on_progress)

    monkeypatch.setattr(type(trained), "right_images", counted)
    text = f"{50 + most}%"
    confirm(trained.run, [text], most=most, out=searched, options=ASKED)
    split, policies = asked[0]
    budget, uniform = target_budget(text, trained.network), trained.candidates.uniform_policies
    within = [one for one in uniform.values() if budget.allows(trained.network, one)]
    answers = [policy for policy in policies if policy not in within]
    assert split == "search"
    assert 1 <= len(answers) <= most


def test_where_nothing_was_searched_that_is_said(trained, tmp_path):
    with pytest.raises(RunError, match=r"journal .*journal.jsonl cannot be read: no such file"):
        answer(trained.run, ["50%"], out=tmp_path, options=ASKED)
    driver.open_archive(trained, tmp_path, [])
    with pytest.raises(RunError, match="holds no evaluated policy; search the run first"):
        answer(trained.run, ["50%"], out=tmp_path, options=ASKED)


def test_an_archive_of_other_weights_is_refused(trained, searched, tmp_path):
    header = journal_header(searched / JOURNAL_FILE)
    header["weights"] = "0" * 16
    folds = header.pop("folds")
    Journal(tmp_path / JOURNAL_FILE, header, trained.candidates, num_folds=folds).recover()
    with pytest.raises(RunError, match=r"was made with weights 0{16}, the run has [0-9a-f]{16};"):
        answer(trained.run, ["50%"], out=tmp_path, options=ASKED)


def test_a_journal_without_wrong_images_predicts_no_accuracy(trained, searched, tmp_path):
    header = journal_header(searched / JOURNAL_FILE)
    folds = header.pop("folds")
    source = Journal(searched / JOURNAL_FILE, header, trained.candidates, num_folds=folds)
    copy = Journal(tmp_path / JOURNAL_FILE, header, trained.candidates, num_folds=folds)
    copy.recover()
    for record in source.read():
        copy.append(record.search_id, record.scores)
    (one,) = answer(trained.run, ["50%"], out=tmp_path, options=ASKED)
    assert one.accuracy is None
    assert one.predicted is not None


def test_a_frontier_is_answered_at_rising_costs(trained, searched):
    options = SearchOptions(frontier=5)
    answers = answer(trained.run, [], out=searched, options=options)
    limits = [one.target.budget.limits[0].amount for one in answers]
    assert limits == sorted(set(limits))
    predicted = [one.predicted[0] for one in answers]
    assert predicted == sorted(predicted, reverse=True)


def test_an_answer_imports_no_torch(trained, searched):
    code = (
        "import sys; from pathlib import Path; from harness.run.folder import RunDir;"
        "from harness.search.from_archive import answer;"
        "from harness.search.request import SearchOptions;"
        "answer(RunDir(Path(sys.argv[1])), ['45%'], out=Path(sys.argv[2]),"
        " options=SearchOptions()); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(trained.run.path), str(searched)]
    subprocess.run(command, check=True)
