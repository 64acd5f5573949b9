"""What ranks tell each other before they search, and what is not evaluated twice."""

import dataclasses
import json

import pytest
from watching import Watcher

from harness import process_group, tables
from harness.errors import RunError
from harness.problem.cost import Resource, bitops, policy_cost
from harness.problem.units import Units
from harness.run.policy_file import load_policy
from harness.search import driver
from harness.search.archive import PolicyArchive
from harness.search.evaluator import ProposalEvaluator


@pytest.fixture
def beside(trained):
    """The run as a rank beside the first holds it."""
    return dataclasses.replace(trained, is_main_process=False)


@pytest.fixture
def policies(trained):
    return [trained.candidates.uniform(weight_bits=bits, act_bits=bits) for bits in (2, 6)]


def opened(trained, path, wrong_counts=()):
    archive = PolicyArchive()
    archive.add(dict(wrong_counts))
    driver.open_journal(trained, path, archive)
    return archive


def test_what_earlier_targets_evaluated_lies_in_the_next_journal(trained, policies, tmp_path):
    two, six = policies
    path = tmp_path / "journal.jsonl"
    opened(trained, path, {two: 7}).add({six: 3})
    assert opened(trained, path).wrong_counts == {two: 7, six: 3}


def test_journal_names_the_weights_that_were_loaded(trained, tmp_path):
    opened(trained, tmp_path / "journal.jsonl")
    header = json.loads((tmp_path / "journal.jsonl").read_text())
    recorded = (trained.run.path / "search/greedy_30pct/journal.jsonl").read_text().splitlines()[0]
    old = json.loads(recorded)
    assert header.keys() - old.keys() == {"data", "crc"}
    assert {key: header[key] for key in old} == {**old, "format": 2}
    assert header["data"]["search"]["num_images"] == old["images"]


@pytest.fixture
def ranks(monkeypatch):
    """Give a function that makes this process one of two ranks; rank 0 comes first."""
    told = []

    def broadcast(values):
        if process_group.dist.get_rank() == 0:
            told[:] = values
        else:
            assert values == [None, None]  # It has not looked itself.
            values[:] = told

    monkeypatch.setattr(process_group.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(process_group, "broadcast_object_list", broadcast)
    return lambda rank: monkeypatch.setattr(process_group.dist, "get_rank", lambda: rank)


def test_a_journal_that_rank_0_refuses_ends_every_rank(trained, beside, tmp_path, ranks):
    path = tmp_path / "journal.jsonl"
    path.write_text("mine")
    message = r"^journal: line 1 of .*/journal.jsonl is damaged \(.*\); restore it, or give"
    for rank, run in enumerate((trained, beside)):
        ranks(rank)
        with pytest.raises(RunError, match=message):
            opened(run, path)


def test_ranks_learn_what_rank_0_read(trained, beside, policies, tmp_path, ranks):
    two, six = policies
    path = tmp_path / "journal.jsonl"
    ranks(0)
    opened(trained, path).add({two: 7})
    opened(trained, path)
    ranks(1)
    archive = opened(beside, tmp_path / "unread.jsonl", {six: 3})
    assert archive.wrong_counts == {two: 7, six: 3}
    assert [file.name for file in tmp_path.iterdir()] == ["journal.jsonl"]


def test_evaluator_answers_from_the_archive_and_evaluates_the_rest(trained, policies):
    two, six = policies
    archive = PolicyArchive()
    archive.add({two: 1})
    work = Watcher().begin("policies evaluated")
    evaluator = ProposalEvaluator(trained, archive, work=work)
    first = evaluator([policy.bits for policy in policies])
    assert first == [1.0, float(trained.count_wrong_proposals([six])[0])]
    assert evaluator([policy.bits for policy in policies]) == first
    assert (evaluator.num_evaluated, work.done) == (1, 1)


SECONDS = Resource(
    name="latency",
    unit="seconds",
    of_layer=lambda layer, weight_bits, act_bits: (
        layer.macs * (1 + max(weight_bits, act_bits) // 5)
    ),
    units=Units(factors={"s": 1.0}, bare="s", examples="3s"),
)


def test_targets_may_limit_another_resource(trained, tmp_path):
    options = driver.SearchOptions(resource=SECONDS, evaluations=15)
    (outcome,) = driver.search(trained.run, ["80%"], out=tmp_path, options=options)
    network = trained.network
    assert outcome.best.cost == policy_cost(network, outcome.best.policy, SECONDS) <= outcome.limit
    assert outcome.best.bitops == bitops(network, outcome.best.policy)

    folder = tmp_path / "greedy_latency_80pct"
    assert load_policy(folder / "policy.json", network) == outcome.best.policy
    provenance = json.loads((folder / "policy.json").read_text())["provenance"]
    assert provenance["target_latency"] == outcome.limit
    frontier = json.loads((folder / "frontier.json").read_text())["policies"]
    assert all(row.keys() == {"latency", "errors", "bits"} for row in frontier)
    values = tables.outcomes_json(trained.run, [outcome])
    assert (values["latency"], values["target_latency"]) == (outcome.best.cost, outcome.limit)
    assert "target_bitops" not in values
    assert "seconds" in [column.header for column in tables.outcomes_table([outcome]).columns]
