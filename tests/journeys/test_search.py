"""`harness search` and `harness eval` on a trained run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from folder_contents import files_under
from journey_runs import QUICK

from harness.problem.cost import bitops
from harness.run.folder import RunDir, newest_finished_run
from harness.run.network_file import load_network
from harness.run.policy_file import load_policy
from harness.search.driver import SearchOptions, search


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy, so that each test has its own search folder."""
    shutil.copytree(trained_run.path, tmp_path / "run")
    return tmp_path / "run"


def journalled(folder):
    """Return how many evaluations a journal holds, those of earlier targets included."""
    lines = (folder / "journal.jsonl").read_text().splitlines()[1:]
    return sum(len(json.loads(line)["errors"]) for line in lines)


def test_search_finds_a_policy_within_the_budget_and_writes_it(run, harness_json):
    values = harness_json("search", "--run", run, "--target-bitops", "30%")
    network = load_network(run / "network.json")
    policy = load_policy(run / "search/greedy_30pct/policy.json", network)
    assert values["bitops"] == bitops(network, policy) <= values["target_bitops"]
    assert values["strategy"] == "greedy"
    assert values["evaluations"] > 25
    assert 0 <= values["accuracy"]["test"] <= 1
    written = json.loads((run / "search/greedy_30pct/policy.json").read_text())
    assert written["accuracy"] == values["accuracy"]
    assert written["layers"] == values["policy"]


def test_found_policy_is_no_worse_on_the_search_split_than_the_best_uniform_one(run, harness_json):
    values = harness_json("search", "--run", run, "--target-bitops", "30%")
    uniform = values["uniform_within"]
    assert uniform["bitops"] <= values["target_bitops"]
    assert values["accuracy"]["search"] >= uniform["accuracy"]["search"]


def test_settings_of_the_search_may_change_after_the_training(run, harness, harness_json):
    settings = [part for text in (*QUICK, "search.finalists=1") for part in ("--set", text)]
    code, _, err = harness("train", "--out", run, *settings)
    assert code == 0, err
    values = harness_json("search", "--run", run, "--target-bitops", "30%")
    written = json.loads((run / "search/greedy_30pct/policy.json").read_text())
    assert written["provenance"]["finalists"] == 1
    assert written["layers"] == values["policy"]


def test_several_targets_in_one_call_reuse_each_others_evaluations(run, harness_json):
    values = harness_json(
        "search", "--run", run, "--target-bitops", "50%", "--target-bitops", "30%"
    )
    assert [target["target_bitops"] for target in values["targets"]] == sorted(
        (target["target_bitops"] for target in values["targets"]), reverse=True
    )
    first, second = (journalled(run / f"search/greedy_{share}pct") for share in (50, 30))
    alone = run / "alone"
    harness_json("search", "--run", run, "--target-bitops", "30%", "--out", alone)
    assert second - first < journalled(alone / "greedy_30pct")


def test_a_target_resumed_alone_ends_as_it_did_beside_others(run, harness_json):
    harness_json("search", "--run", run, "--target-bitops", "50%", "--target-bitops", "30%")
    before = files_under(run / "search")
    for name in ("policy.json", "frontier.json"):
        (run / "search/greedy_30pct" / name).unlink()
    harness_json("search", "--run", run, "--target-bitops", "30%", "--resume")
    after = files_under(run / "search")
    for name in ("policy.json", "frontier.json"):
        assert after[f"greedy_30pct/{name}"] == before[f"greedy_30pct/{name}"]


@pytest.fixture(scope="module")
def whole_search(trained_run, tmp_path_factory):
    """The files of a search that nothing stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(trained_run.path, run)
    search(RunDir(run), ["30%"], options=SearchOptions())
    return files_under(run / "search/greedy_30pct")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)],
)
def test_stopped_search_goes_on_to_the_same_files(run, whole_search, harness_json, number, code):
    arguments = ["search", "--run", run, "--target-bitops", "30%"]
    command = [Path(sys.executable).with_name("harness"), *arguments]
    # With as many threads as this process: sums of floats, and so an image or two, depend on it.
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, env=threads, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = run / "search/greedy_30pct/journal.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (
        journal.exists() and journal.read_bytes().count(b"\n") > 2
    ):
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, ""), err
    assert number == signal.SIGKILL or "harness search with --resume" in err
    assert "Traceback" not in err
    # A kill leaves the file of the lock, not the lock.
    assert set(files_under(journal.parent)) - {".lock"} == {"journal.jsonl"}
    assert journal.read_bytes().count(b"\n") < whole_search["journal.jsonl"].count(b"\n")
    harness_json(*arguments, "--resume")
    after = files_under(journal.parent)
    for name in ("policy.json", "frontier.json"):
        assert after[name] == whole_search[name]


def test_search_refuses_to_write_over_a_search(run, harness_json, refused):
    harness_json("search", "--run", run, "--target-bitops", "30%")
    before = files_under(run)
    assert "give --resume to go on" in refused("search", "--run", run, "--target-bitops", "30%")
    assert files_under(run) == before


@pytest.mark.parametrize("name", ["journal.jsonl", "policy.json", "frontier.json"])
def test_search_refuses_a_folder_that_holds_any_result(run, refused, name):
    folder = run / "search/greedy_30pct"
    folder.mkdir(parents=True)
    (folder / name).write_text("mine")
    assert f"{folder} holds a search already; give --resume" in refused(
        "search", "--run", run, "--target-bitops", "30%"
    )
    assert files_under(folder) == {name: b"mine"}


def test_search_shows_how_many_policies_it_evaluated(run, harness):
    code, out, err = harness("search", "--run", run, "--target-bitops", "30%", "--json")
    assert code == 0
    evaluations = json.loads(out)["evaluations"]
    assert f"{evaluations}/{evaluations}" in err
    assert "30%: policies evaluated" in err
    for line in ("30%: finalists scored", "30%: policies tested"):
        assert re.search(rf"{line} .* ([1-9]\d*)/\1 ", err), err


def test_search_resumed_from_a_torn_journal_finds_the_same_policy(run, harness_json):
    first = harness_json("search", "--run", run, "--target-bitops", "30%")
    journal = run / "search/greedy_30pct/journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) // 2])  # As a kill in the middle of a line leaves it.
    again = harness_json("search", "--run", run, "--target-bitops", "30%", "--resume")
    assert again["policy"] == first["policy"]
    assert again["evaluations"] == first["evaluations"]


def test_one_budget_in_two_forms_is_given_twice(run, refused):
    message = refused("search", "--run", run, "--target-bitops", "30%", "--target-bitops", "30.0%")
    assert message == "a target is given twice; give each --target-bitops once"
    assert not (run / "search").exists()


def test_search_of_an_unfinished_run_says_so(run, harness):
    (run / "summary.json").unlink()
    code, _, err = harness("eval", "--run", run, "--policy", "3/3", "--split", "search")
    assert code == 0
    assert "is not finished; its newest checkpoint is used" in " ".join(err.split())


def test_search_with_a_limit_of_evaluations_keeps_the_budget(run, harness_json):
    values = harness_json("search", "--run", run, "--target-bitops", "30%", "--evaluations", 30)
    assert values["evaluations"] <= 30
    assert values["bitops"] <= values["target_bitops"]


def test_budget_below_the_smallest_names_it_and_what_pins_it(run, refused):
    before = files_under(run)
    message = refused("search", "--run", run, "--target-bitops", "1M")
    assert "target 1M BitOPs is below" in message
    assert "conv1 and fc, pinned at 8/8, hold" in message
    assert files_under(run) == before


def test_unknown_strategy_is_refused(run, refused):
    message = refused("search", "--run", run, "--target-bitops", "30%", "--strategy", "luck")
    assert message.startswith("strategy luck is unknown; choose greedy")


def test_journal_of_other_settings_is_refused(run, harness_json, refused):
    harness_json("search", "--run", run, "--target-bitops", "30%")
    config = RunDir(run).load_config()
    changed = config.eval.model_copy(update={"batch_size": 50})
    RunDir(run).save_config(config.model_copy(update={"eval": changed}))
    message = refused("search", "--run", run, "--target-bitops", "30%", "--resume")
    assert "settings: batch_size is 500 there and 50 here; remove it or give another" in message


def test_eval_reports_what_search_wrote(run, harness_json):
    found = harness_json("search", "--run", run, "--target-bitops", "30%")
    policy = run / "search/greedy_30pct/policy.json"
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
    harness_json("search", "--run", run, "--target-bitops", "30%")
    policy = tmp_path / "other.json"
    values = json.loads((run / "search/greedy_30pct/policy.json").read_text())
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
