"""`harness search`: a frontier, answers from an archive, and searches that begin with something."""

import json

import pytest

FEW = ("--evaluations", 30)


@pytest.fixture
def searched(run, harness_json):
    harness_json("search", "--run", run, "--target-bitops", "40%", *FEW)
    return run


def test_an_archive_answers_a_further_budget(searched, harness_json, harness):
    ask = ("search", "--run", searched, "--from-archive", "--target-bitops", "55%")
    values = harness_json(*ask)
    assert values["bitops"] <= values["target_bitops"]
    assert values["known"] == 30
    low, high = values["predicted_accuracy_interval"]
    assert 0 <= low <= values["predicted_accuracy"] <= high <= 1
    assert json.loads((searched / "search/archive_55pct/policy.json").read_text())
    code, out, _ = harness(*ask)
    assert code == 0
    assert "predicted accuracy" in out


def test_an_answer_is_confirmed_by_a_few_evaluations(searched, harness_json, refused):
    ask = ("search", "--run", searched, "--from-archive", "--target-bitops", "55%", "--confirm", 3)
    values = harness_json(*ask)
    assert set(values["accuracy"]) == {"search", "test"}
    assert values["strategy"] == "archive"
    assert "confirmed_55pct holds a search already; give --resume" in refused(*ask)
    assert harness_json(*ask, "--resume")["policy"] == values["policy"]


def test_a_frontier_has_a_row_for_each_budget(run, harness_json, harness):
    values = harness_json("search", "--run", run, "--frontier", 4, *FEW)
    limits = [target["target_bitops"] for target in values["targets"]]
    assert len(limits) == 4
    assert limits == sorted(limits)
    assert all(one["bitops"] <= one["target_bitops"] for one in values["targets"])
    assert all(0 <= one["slack"]["bitops"] < 1 for one in values["targets"])


def test_a_search_says_what_it_will_take_and_why_it_chose(run, harness):
    code, out, err = harness("search", "--run", run, "--target-bitops", "40%", *FEW)
    assert code == 0
    said = " ".join(err.split())
    assert "30 evaluations: of the error that the best uniform policy adds, guided leaves" in said
    assert "measured on the first 5; the other 25 take about" in said
    assert "cost of fewest bits" in out
    assert "stages.0.conv1" in out or "layer" in out


@pytest.mark.parametrize("start", ["gradient", "search"])
def test_a_search_begins_with_what_it_is_given(searched, harness_json, start):
    given = searched / "search" if start == "search" else start
    out = searched / "other"
    values = harness_json(
        "search", "--run", searched, "--target-bitops", "50%", "--start", given, "--out", out, *FEW
    )
    assert values["evaluations"] == 30


def test_mistakes_are_said_in_a_line(run, refused, tmp_path):
    budget = ("search", "--run", run, "--target-bitops", "50%")
    assert "journal" in refused(*budget, "--from-archive")
    assert "--confirm measures an answer of --from-archive" in refused(*budget, "--confirm", 3)
    assert "cannot be read" in refused(*budget, "--start", tmp_path / "nowhere")
    unused = refused(*budget, "--from-archive", "--strategy", "greedy", "--seed", 3)
    assert "has no use for --strategy and --seed; leave that out" in unused
    for strategy in ("random", "uniform", "knapsack"):
        begun = refused(*budget, "--strategy", strategy, "--start", "gradient")
        assert f"strategy {strategy} has no use for --start gradient; leave it out" in begun
    assert not (run / "search").exists()
    assert "no budget is given" in refused("search", "--run", run, "--from-archive")
    assert "too fine" in refused("search", "--run", run, "--frontier", 10**6)


def test_another_search_says_what_it_finds_and_what_it_replaces(run, harness):
    search = ("search", "--run", run, "--target-bitops", "40%", *FEW)
    assert harness(*search)[0] == 0
    code, _, err = harness(*search, "--seed", 1, "--resume")
    said = " ".join(err.split())
    assert code == 0
    assert "holds the result of a search with other settings; a new one begins" in said
    assert "30 policies are known from other searches" in said
    again = harness(*search, "--seed", 1, "--resume")[2]
    assert "other settings" not in again


def test_uniform_finds_a_uniform_policy_whatever_others_found(run, harness_json):
    search = ("search", "--run", run, "--target-bitops", "40%")
    harness_json(*search, *FEW)
    found = harness_json(*search, "--strategy", "uniform")
    free = {(row["weight_bits"], row["act_bits"]) for row in found["policy"][1:-1]}
    assert len(free) == 1
