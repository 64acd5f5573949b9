"""`harness search` and `harness eval` on a trained run."""

import json
import os
import re
import shutil

import pytest
from folder_contents import files_under
from journey_runs import QUICK

from harness._search_rs import STRATEGIES
from harness.problem.cost import bitops
from harness.run.folder import newest_finished_run
from harness.run.network_file import load_network
from harness.run.policy_file import load_policy

THIRTY = ("--target-bitops", "30%", "--evaluations", 40)


def asked(records):
    return [json.loads(record)["policies"] for record in records]


def test_search_finds_a_policy_within_the_budget_and_writes_it(run, harness_json):
    values = harness_json("search", "--run", run, *THIRTY)
    network = load_network(run / "network.json")
    policy = load_policy(run / "search/guided_30pct/policy.json", network)
    assert values["bitops"] == bitops(network, policy) <= values["target_bitops"]
    assert values["strategy"] == "guided"
    assert values["evaluations"] == 40
    assert 0 <= values["accuracy"]["test"] <= 1
    written = json.loads((run / "search/guided_30pct/policy.json").read_text())
    assert written["accuracy"] == values["accuracy"]
    assert written["layers"] == values["policy"]


def test_found_policy_is_no_worse_on_the_search_split_than_the_best_uniform_one(run, harness_json):
    values = harness_json("search", "--run", run, *THIRTY)
    uniform = values["uniform_within"]
    assert uniform["bitops"] <= values["target_bitops"]
    assert values["accuracy"]["search"] >= uniform["accuracy"]["search"]


def test_settings_of_the_search_may_change_after_the_training(run, harness, harness_json):
    settings = [part for text in (*QUICK, "search.finalists=1") for part in ("--set", text)]
    code, _, err = harness("train", "--out", run, *settings)
    assert code == 0, err
    values = harness_json("search", "--run", run, *THIRTY)
    written = json.loads((run / "search/guided_30pct/policy.json").read_text())
    assert written["provenance"]["finalists"] == 1
    assert written["layers"] == values["policy"]


def test_search_refuses_to_write_over_a_search(run, harness_json, refused):
    harness_json("search", "--run", run, *THIRTY)
    before = files_under(run)
    assert "give --resume to go on" in refused("search", "--run", run, *THIRTY)
    assert files_under(run) == before


@pytest.mark.parametrize("name", ["journal.jsonl", "policy.json", "frontier.json"])
def test_search_refuses_a_folder_that_holds_any_result(run, refused, name):
    folder = run / "search/guided_30pct"
    folder.mkdir(parents=True)
    (folder / name).write_text("mine")
    assert f"{folder} holds a search already; give --resume" in refused(
        "search", "--run", run, *THIRTY
    )
    assert files_under(folder) == {name: b"mine"}


def test_search_shows_how_many_policies_it_evaluated(run, harness):
    code, out, err = harness("search", "--run", run, *THIRTY, "--json")
    assert code == 0
    evaluations = json.loads(out)["evaluations"]
    assert evaluations == 40
    assert re.search(r"policies evaluated .* 40/40 ", err), err
    for line in ("30%: finalists scored", "30%: policies tested"):
        assert re.search(rf"{line} .* ([1-9]\d*)/\1 ", err), err


def test_one_budget_in_two_forms_is_given_twice(run, refused):
    message = refused("search", "--run", run, *THIRTY, "--target-bitops", "30.0%")
    assert message == "a target is given twice; give each --target-bitops once"
    assert not (run / "search").exists()


def test_search_of_an_unfinished_run_says_so(run, harness):
    (run / "summary.json").unlink()
    code, _, err = harness("eval", "--run", run, "--policy", "3/3", "--split", "search")
    assert code == 0
    assert "is not finished; its newest checkpoint is used" in " ".join(err.split())


def test_search_with_a_limit_of_evaluations_keeps_the_budget(run, harness_json):
    values = harness_json("search", "--run", run, "--target-bitops", "30%", "--evaluations", 30)
    assert values["evaluations"] == 30
    assert values["bitops"] <= values["target_bitops"]


def test_unknown_strategy_is_refused(run, refused):
    message = refused("search", "--run", run, *THIRTY, "--strategy", "luck")
    assert message.startswith("strategy luck is unknown; choose guided or greedy or ")


def test_a_seed_is_one_of_64_bits(run, refused, harness_json):
    message = refused("search", "--run", run, *THIRTY, "--seed", 2**64)
    assert message == (
        "seed 18446744073709551616 is outside 0 to 18446744073709551615; choose one in between"
    )
    assert not (run / "search").exists()
    harness_json("search", "--run", run, *THIRTY, "--seed", 2**64 - 1)


@pytest.mark.parametrize("strategy", ["guided", "random", "evolution"])
def test_a_seed_decides_every_draw(run, harness_json, strategy):
    folders = [run / name for name in ("first", "again", "other")]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        command = ("search", "--run", run, *THIRTY, "--strategy", strategy, "--seed", seed)
        harness_json(*command, "--out", folder)
    first, again, other = (files_under(folder) for folder in folders)
    assert first == again
    # Beyond the first line and the mark of the search, which the seed is part of.
    rest, others = (files["journal.jsonl"].splitlines()[2:] for files in (first, other))
    assert asked(rest) != asked(others)


def test_eval_reports_what_search_wrote(run, harness_json):
    found = harness_json("search", "--run", run, *THIRTY)
    policy = run / "search/guided_30pct/policy.json"
    values = harness_json("eval", "--run", run, "--policy", policy)
    assert values["accuracy"]["test"] == found["accuracy"]["test"]
    assert values["bitops"] == found["bitops"]


def test_eval_of_uniform_bits_prints_a_table(run, harness):
    code, out, _ = harness("eval", "--run", run, "--policy", "4/4", "--split", "search")
    assert code == 0
    assert "search accuracy" in out
    assert "4/4" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "7/7"), "7 weight bits were not trained"),
        (("--policy", "nonsense"), "neither a file nor weight/activation bits"),
        (("--policy", "gone.json"), "policy gone.json cannot be read"),
        (("--policy", "4/4", "--split", "all"), "split all is unknown"),
    ],
)
def test_eval_refuses(run, refused, arguments, message):
    assert message in refused("eval", "--run", run, *arguments)


def test_policy_of_another_network_is_refused(run, tmp_path, harness_json, refused):
    harness_json("search", "--run", run, *THIRTY)
    policy = tmp_path / "other.json"
    values = json.loads((run / "search/guided_30pct/policy.json").read_text())
    by_hand = {"format": 1, "network": "0" * 16, "layers": values["layers"]}
    policy.write_text(json.dumps(by_hand))
    assert "use a policy that was searched for this network" in refused(
        "eval", "--run", run, "--policy", policy
    )


def test_run_defaults_to_the_newest_finished_one(run, tmp_path, monkeypatch, harness_json, refused):
    monkeypatch.chdir(tmp_path)
    assert "no finished run lies under runs/" in refused("eval", "--policy", "4/4")
    shutil.copytree(run, tmp_path / "runs" / "older")
    shutil.copytree(run, tmp_path / "runs" / "unfinished")
    (tmp_path / "runs" / "unfinished" / "summary.json").unlink()
    assert harness_json("eval", "--policy", "4/4")["accuracy"]["test"] > 0
    shutil.copytree(run, tmp_path / "runs" / "another")
    for finished in (["older", "another"], ["another", "older"]):
        for second, name in enumerate(finished, start=1000):
            os.utime(tmp_path / "runs" / name / "summary.json", (second, second))
        assert newest_finished_run().path.name == finished[-1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_the_budget_and_spends_no_more_than_it_is_given(
    run, harness_json, strategy
):
    values = harness_json("search", "--run", run, *THIRTY, "--strategy", strategy)
    assert values["strategy"] == strategy
    assert 0 < values["evaluations"] <= 40
    assert values["bitops"] <= values["target_bitops"]
    assert values["policy_file"] == str(run / f"search/{strategy}_30pct/policy.json")


def test_search_shows_what_is_found_beside_uniform_bits(run, harness):
    code, out, _ = harness("search", "--run", run, *THIRTY)
    assert code == 0
    for label in ("found", "best uniform within the budget, ", "uniform at equal or higher cost"):
        assert label in out
    assert f"artefacts: {run}  {run}/search/guided_30pct\n" in out


def test_found_accuracy_lies_in_its_interval(run, harness_json):
    values = harness_json("search", "--run", run, *THIRTY)
    for split, accuracy in values["accuracy"].items():
        low, high = values["accuracy_interval"][split]
        assert 0 <= low <= accuracy <= high <= 1
        assert high - low > 0.1  # Of 100 images.
