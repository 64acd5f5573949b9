"""What a search begins with: gradients, or another search's best policies."""

import json
import math

import pytest

from harness.errors import RunError
from harness.search import driver, starts
from harness.search.engine import knapsack_policies
from harness.search.journal import Journal, journal_header
from harness.search.kept_gradients import (
    GRADIENTS_FILE,
    gradients_identity,
    keep_gradients,
    kept_gradients,
)
from harness.search.preparation import prepared
from harness.search.request import SearchOptions
from harness.search.results import JOURNAL_FILE
from harness.search.starts import WARM_POLICIES, gradient_values, start_of

TARGETS = ["30%", "60%"]


@pytest.fixture
def ready(trained, tmp_path):
    out = tmp_path / "ready"
    with prepared(trained.run, TARGETS, out=out, options=SearchOptions()) as found:
        yield found


@pytest.fixture(scope="module")
def searched(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("searched")
    options = SearchOptions(strategy="random", evaluations=60)
    driver.search(trained.run, TARGETS, out=out, options=options)
    return out


def test_without_a_start_there_is_none(ready):
    start = start_of(ready, "none")
    assert (start.policies, start.hints, start.identity) == ((), None, {})


def test_gradients_give_a_policy_for_each_budget_and_hints_for_every_pair(ready):
    start = start_of(ready, "gradient")
    network = ready.trained.network
    assert len(start.policies) == len(TARGETS)
    for policy, target in zip(start.policies, ready.targets, strict=True):
        assert target.budget.allows(network, policy)
    assert list(start.policies) == knapsack_policies(ready.problem, start.hints)
    for layer, values in zip(ready.problem.candidates.layers, start.hints, strict=True):
        assert values.keys() == {(w, a) for w in layer.weight for a in layer.act}
        assert values[layer.weight[0], layer.act[0]] == 0
    # The same again: a search that is gone on with begins alike.
    assert gradient_values(ready.trained) == start.hints


def test_a_search_folder_keeps_its_gradients(ready, monkeypatch):
    first = start_of(ready, "gradient")
    monkeypatch.setattr(starts, "gradient_values", None)  # Nothing is computed again.
    assert start_of(ready, "gradient") == first


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda whole: whole.replace("0.", "1.", 1), "remove it, and the next search makes it"),
        (lambda whole: whole[:100], "is not whole JSON; remove it"),
        (lambda _: "", "is not whole JSON; remove it"),
    ],
)
def test_damaged_gradients_are_made_again(ready, caplog, edit, message):
    first = start_of(ready, "gradient")
    path = ready.parent / GRADIENTS_FILE
    whole = path.read_text()
    path.write_text(edit(whole))
    assert start_of(ready, "gradient") == first
    assert message in caplog.text
    assert path.read_text() == whole


def test_values_that_are_no_finite_numbers_are_not_taken(ready, caplog):
    values = start_of(ready, "gradient").hints
    identity = gradients_identity(ready.trained.network.fingerprint, ready.trained.weights_digest)
    keep_gradients(ready.parent, identity, [dict.fromkeys(layer, math.nan) for layer in values])
    assert kept_gradients(ready.parent, identity, ready.trained.candidates) is None
    assert "no finite number" in caplog.text


def test_gradients_of_other_weights_or_of_other_bits_are_made_again(ready):
    folder, candidates = ready.parent, ready.trained.candidates
    identity = gradients_identity(ready.trained.network.fingerprint, ready.trained.weights_digest)
    values = start_of(ready, "gradient").hints
    assert kept_gradients(folder, identity, candidates) == values
    keep_gradients(folder, {**identity, "weights": "0" * 16}, values)
    assert kept_gradients(folder, identity, candidates) is None
    keep_gradients(folder, identity, [dict(list(layer.items())[:-1]) for layer in values])
    assert kept_gradients(folder, identity, candidates) is None
    keep_gradients(folder, identity, values[:-1])
    assert kept_gradients(folder, identity, candidates) is None
    assert start_of(ready, "gradient").hints == values
    assert kept_gradients(folder, identity, candidates) == values


def test_the_best_policies_of_another_search_are_scored_first(ready, searched):
    start = start_of(ready, str(searched))
    assert start.hints is None
    assert 0 < len(start.policies) <= WARM_POLICIES * len(TARGETS)
    header = journal_header(searched / JOURNAL_FILE)
    journal = Journal(
        searched / JOURNAL_FILE, header, ready.problem.candidates, num_folds=header.pop("folds")
    )
    scores = {policy: sum(row) for one in journal.read() for policy, row in one.scores.items()}
    for target in ready.targets:
        within = [one for one in scores if target.budget.allows(ready.trained.network, one)]
        assert min(within, key=lambda one: (scores[one], one)) in start.policies


def test_a_search_of_another_network_is_no_start(ready, searched, tmp_path):
    header = journal_header(searched / JOURNAL_FILE)
    header["network"] = "0" * 16
    folds = header.pop("folds")
    Journal(tmp_path / JOURNAL_FILE, header, ready.problem.candidates, num_folds=folds).recover()
    with pytest.raises(RunError, match="is of another network, so its policies mean nothing here"):
        start_of(ready, str(tmp_path))
    with pytest.raises(RunError, match=r"journal .* cannot be read: no such file"):
        start_of(ready, str(tmp_path / "nowhere"))


@pytest.mark.parametrize("strategy", ["guided", "greedy", "evolution"])
def test_a_search_scores_its_start_first(trained, tmp_path, strategy):
    options = SearchOptions(strategy=strategy, evaluations=30, start="gradient")
    (outcome,) = driver.search(trained.run, ["40%"], out=tmp_path, options=options)
    with prepared(trained.run, ["40%"], out=tmp_path / "x", options=options) as again:
        (start,) = start_of(again, "gradient").policies
    header = journal_header(tmp_path / JOURNAL_FILE)
    folds = header.pop("folds")
    journal = Journal(tmp_path / JOURNAL_FILE, header, trained.candidates, num_folds=folds)
    first = [policy for record in journal.read() for policy in record.scores][:30]
    assert start in first
    assert outcome.search.evaluations == 30
    # It is another search than one without a start, and goes on as itself.
    before = (tmp_path / JOURNAL_FILE).read_bytes()
    more = SearchOptions(strategy=strategy, evaluations=30, start="gradient", resume=True)
    driver.search(trained.run, ["40%"], out=tmp_path, options=more)
    assert (tmp_path / JOURNAL_FILE).read_bytes() == before


def test_guided_begins_with_gradients_unless_it_was_begun_without(trained, tmp_path):
    target, out = ["40%"], tmp_path / "out"
    said = []
    for start, resume in ((None, False), ("none", True), (None, True)):
        options = SearchOptions(evaluations=20, start=start, resume=resume)
        (outcome,) = driver.search(trained.run, target, out=out, options=options)
        policy = json.loads((outcome.folder / "policy.json").read_text())
        said.append(policy["provenance"]["start"])
    # The last goes on with the search that was begun without a start.
    assert said == ["gradient", "none", "none"]
    greedy = SearchOptions(strategy="greedy", evaluations=20)
    (outcome,) = driver.search(trained.run, target, out=out, options=greedy)
    policy = json.loads((outcome.folder / "policy.json").read_text())
    assert policy["provenance"]["start"] == "none"
