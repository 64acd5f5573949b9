"""What is not evaluated twice, and who runs the engine where several ranks evaluate."""

import re
import signal

import numpy as np
import pytest
from small_network import NETWORK
from two_ranks import TwoRanks
from watching import Watcher

from harness.accuracy import count_wrong_by_policy
from harness.errors import BudgetError, NotFiniteError, RunError, Stopped
from harness.problem.budget import Budget, Limit, target_budget
from harness.problem.cost import BITOPS
from harness.problem.policy import Policy
from harness.search.archive import PolicyArchive
from harness.search.engine import EngineOptions, EngineSearch
from harness.search.engine_form import SearchProblem
from harness.search.evaluator import ProposalEvaluator, run_on_ranks

SEARCH = "00000000000000aa"


@pytest.fixture
def policies(trained):
    return [trained.candidates.uniform(weight_bits=bits, act_bits=bits) for bits in (2, 6)]


def rows_of(policies):
    return np.array([policy.bits for policy in policies], np.uint8)


def wrong_of(trained, policies):
    return count_wrong_by_policy(
        trained.supernet,
        policies,
        trained.proposal_batches(),
        recalibration=trained.batches("train", limit=trained.config.search.recalibrate_images),
    )


def test_evaluator_answers_from_the_archive_and_evaluates_the_rest(trained, policies):
    two, six = policies
    (parts,) = trained.score_proposals([six]).parts.tolist()
    known = [1.0] * len(parts)
    archive = PolicyArchive()
    archive.add(SEARCH, {two: known})
    work = Watcher().begin("policies evaluated")
    evaluator = ProposalEvaluator(trained, archive, search_id=SEARCH, work=work)
    assert evaluator(rows_of([two, six, two])) == [known, parts, known]
    assert archive.scores == {two: tuple(known), six: tuple(parts)}
    assert evaluator(rows_of(policies)) == [known, parts]
    assert (evaluator.num_evaluated, work.done) == (1, 1)


def test_scores_are_whole_counts_of_wrong_images_and_of_all_of_them(trained, policies):
    evaluator = ProposalEvaluator(trained, PolicyArchive(), search_id=SEARCH)
    found = evaluator(rows_of(policies))
    assert [sum(row) for row in found] == wrong_of(trained, policies)
    assert all(float(part).is_integer() for row in found for part in row)
    assert len(found[0]) == min(32, trained.proposal_batches().num_images)


def test_counts_of_an_older_version_are_answers_by_their_sum(trained, policies):
    two, six = policies
    archive = PolicyArchive()
    evaluator = ProposalEvaluator(trained, archive, search_id=SEARCH, counts={two: 37})
    assert evaluator(rows_of([two])) == [[37.0]]
    assert (evaluator.num_evaluated, archive.scores) == (0, {})
    (wrong,) = wrong_of(trained, [six])
    assert evaluator(rows_of(policies)) == [[37.0], [float(wrong)]]
    assert list(archive.scores) == [six]
    assert len(archive.scores[six]) > 1


PROBLEM = SearchProblem(
    network=NETWORK, candidates=NETWORK.candidates, budgets=[target_budget("70%", NETWORK)]
)


def made_scores(policies):
    return [[float(sum(100 // w + 60 // a for w, a in policy))] for policy in policies.tolist()]


def searching(strategy="guided", problem=PROBLEM):
    options = EngineOptions(strategy=strategy, evaluations=40)
    return lambda evaluate: EngineSearch(problem, options).run(evaluate, shortlist=3)


def not_here(evaluate):
    raise AssertionError("rank 0 alone runs the engine")


def test_rank_0_alone_searches_and_all_ranks_evaluate_the_same(monkeypatch):
    asked = [], []

    def rank(number, search):
        def evaluate(policies):
            asked[number].append(policies.tolist())
            return made_scores(policies)

        return lambda: run_on_ranks(search, evaluate, is_main_process=number == 0)

    first, other = TwoRanks(monkeypatch).run(rank(0, searching()), rank(1, not_here))
    assert asked[0] == asked[1] != []
    assert first == other
    monkeypatch.undo()
    assert run_on_ranks(searching(), made_scores, is_main_process=True) == first
    assert sum(map(len, asked[0])) == first.num_evaluations > 9


def test_a_result_that_is_nothing_ends_all_ranks(monkeypatch):
    def rank(number):
        return lambda: run_on_ranks(lambda _: None, made_scores, is_main_process=number == 0)

    assert TwoRanks(monkeypatch).run(rank(0), rank(1)) == [None, None]


def ends(monkeypatch, search, evaluates=(made_scores, made_scores)):
    """Return how both ranks end."""

    def rank(number):
        mine = search if number == 0 else not_here
        return lambda: run_on_ranks(mine, evaluates[number], is_main_process=number == 0)

    return TwoRanks(monkeypatch).run(rank(0), rank(1))


def test_what_the_engine_refuses_ends_all_ranks_with_the_same_words(monkeypatch):
    limit = Limit(resource=BITOPS, text="1", amount=1)
    problem = SearchProblem(
        network=NETWORK, candidates=NETWORK.candidates, budgets=[Budget(limits=(limit,))]
    )
    found = ends(monkeypatch, searching(problem=problem))
    assert [type(error) for error in found] == [BudgetError, BudgetError]
    assert str(found[0]) == str(found[1])
    assert str(found[0]).startswith("target 1e-09G BitOPs is below")


def test_an_error_of_rank_0_in_mid_search_ends_all_ranks(monkeypatch):
    def search(evaluate):
        evaluate(rows_of([NETWORK.candidates.largest]))
        raise RunError("journal is full")

    found = ends(monkeypatch, search)
    assert [str(error) for error in found] == ["journal is full"] * 2


def test_an_evaluation_that_fails_on_all_ranks_is_told_by_nobody(monkeypatch):
    """Each has raised it by itself, and listens no more."""

    def fails(policies):
        raise NotFiniteError("the logits are no finite numbers")

    found = ends(monkeypatch, searching(), (fails, fails))
    assert [str(error) for error in found] == ["the logits are no finite numbers"] * 2


def test_an_evaluation_that_fails_on_rank_0_alone_keeps_its_reason(monkeypatch):
    """As where its disk is full: the other finds it gone, and leaves the word to it."""

    def fails(policies):
        raise RunError("journal cannot take the batch")

    first, other = ends(monkeypatch, searching(), (fails, made_scores))
    assert str(first) == "journal cannot take the batch"
    assert str(other) == "gloo: rank 0 is gone"


def test_a_signal_is_not_told_for_it_is_sent_to_all(monkeypatch):
    def search(evaluate):
        evaluate(rows_of([NETWORK.candidates.largest]))
        raise Stopped("stopped by SIGTERM", signal_number=signal.SIGTERM)

    first, other = ends(monkeypatch, search)
    assert isinstance(first, Stopped)
    assert str(other) == "gloo: rank 0 is gone"


def test_ranks_keep_the_same_archive_and_rank_0_the_journal_alone(trained, monkeypatch):
    network = trained.network
    problem = SearchProblem(
        network=network, candidates=trained.candidates, budgets=[target_budget("40%", network)]
    )
    archives = [PolicyArchive(), PolicyArchive()]
    largest: Policy = trained.candidates.largest

    def rank(number):
        evaluator = ProposalEvaluator(
            trained, archives[number], search_id=SEARCH, counts={largest: 3}
        )
        search = searching("greedy", problem) if number == 0 else not_here
        return lambda: run_on_ranks(search, evaluator, is_main_process=number == 0)

    first, other = TwoRanks(monkeypatch).run(rank(0), rank(1))
    assert first == other
    assert first.num_evaluations == 40
    assert archives[0].records == archives[1].records
    assert len(archives[0].scores) == 39


def test_the_first_policies_of_a_search_say_what_the_others_will_take(trained, caplog):
    bits = [(w, a) for w in (2, 3, 4) for a in (2, 3, 4)]
    policies = [trained.candidates.uniform(weight_bits=w, act_bits=a) for w, a in bits]
    archive = PolicyArchive()
    evaluator = ProposalEvaluator(trained, archive, search_id=SEARCH, num_due=25)
    with caplog.at_level("INFO", logger="harness"):
        evaluator(rows_of(policies[:8]))
        evaluator(rows_of(policies))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert re.fullmatch(
        r"an evaluation takes \S+ \w+, measured on the first 5; the other 20 take about \S+ \w+",
        said[0],
    )
    # The first few are scored by themselves, to the same bits.
    assert [len(record.scores) for record in archive.records] == [5, 3, 1]
    assert archive.scores == dict(
        zip(policies, map(tuple, evaluator(rows_of(policies))), strict=True)
    )
    assert archive.wrong == dict(zip(policies, wrong_of(trained, policies), strict=True))
