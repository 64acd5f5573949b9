"""Searches of one folder: stopped ones go on, later ones use what earlier ones evaluated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from folder_contents import files_under

from harness.run.folder import RunDir
from harness.search.driver import search
from harness.search.request import SearchOptions

RESULTS = ("policy.json", "frontier.json")
THIRTY = ("--target-bitops", "30%", "--evaluations", 40)
FIFTY = ("--target-bitops", "50%", "--evaluations", 40)
OLD_RUN = Path(__file__).parents[1] / "golden/runs/format1/finished"


def records(folder):
    """Return the records of a search folder's journal, the marks of beginnings included."""
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]


def journalled(folder):
    """Return every evaluated policy of a search folder, in order."""
    return [json.dumps(bits) for record in records(folder) for bits in record["policies"]]


def num_lines(journal):
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.fixture(scope="module")
def whole_search(trained_run, tmp_path_factory):
    """The files of a search that nothing stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(trained_run.path, run)
    search(RunDir(run), ["30%"], options=SearchOptions(evaluations=150))
    return files_under(run / "search")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)],
)
def test_stopped_search_goes_on_to_the_same_files(run, whole_search, harness_json, number, code):
    arguments = ["search", "--run", run, "--target-bitops", "30%", "--evaluations", "150"]
    command = [sys.executable, "-m", "harness", *arguments]
    # With as many threads as this process: sums of floats depend on it.
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, env=threads, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = run / "search/journal.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and num_lines(journal) < 3:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, ""), err
    assert number == signal.SIGKILL or "harness search with --resume" in err
    assert "Traceback" not in err
    # A kill leaves the file of the lock, not the lock.
    assert set(files_under(journal.parent)) - {".lock"} == {"gradients.json", "journal.jsonl"}
    assert len(journal.read_bytes()) < len(whole_search["journal.jsonl"])
    values = harness_json(*arguments, "--resume")
    assert values["evaluations"] == 150
    # The journal too: nothing was evaluated twice, and in the same order.
    assert files_under(journal.parent) == whole_search
    assert len(set(journalled(journal.parent))) == len(journalled(journal.parent)) == 150


@pytest.mark.parametrize("strategy", ["guided", "greedy", "random"])
def test_search_resumed_from_a_torn_journal_ends_at_the_same_files(run, harness_json, strategy):
    command = ("search", "--run", run, *THIRTY, "--strategy", strategy)
    harness_json(*command)
    whole = files_under(run / "search")
    journal = run / "search/journal.jsonl"
    # As a kill in the middle of a record leaves it.
    journal.write_bytes(whole["journal.jsonl"][: 3 * len(whole["journal.jsonl"]) // 4])
    harness_json(*command, "--resume")
    assert files_under(run / "search") == whole


def test_a_finished_search_that_is_resumed_evaluates_nothing(run, harness, harness_json):
    harness_json("search", "--run", run, *THIRTY)
    whole = files_under(run / "search")
    code, _, err = harness("search", "--run", run, *THIRTY, "--resume")
    assert (code, "0 policies evaluated in" in " ".join(err.split())) == (0, True), err
    assert files_under(run / "search") == whole


def test_a_journal_that_is_damaged_inside_is_refused_with_its_place(run, harness_json, refused):
    harness_json("search", "--run", run, *THIRTY)
    journal = run / "search/journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    spoiled = lines[2].replace(b"0.", b"1.", 1)
    assert spoiled != lines[2]
    journal.write_bytes(b"".join([*lines[:2], spoiled, *lines[3:]]))
    before = files_under(run)
    message = refused("search", "--run", run, *THIRTY, "--resume")
    place = f"line 3, at byte {len(lines[0]) + len(lines[1])}, of {journal}"
    assert place in message
    assert "its CRC is of something else" in message
    assert files_under(run) == before


def test_journal_of_other_settings_is_refused(run, harness_json, refused):
    harness_json("search", "--run", run, *THIRTY)
    config = RunDir(run).load_config()
    changed = config.eval.model_copy(update={"batch_size": 50})
    RunDir(run).save_config(config.model_copy(update={"eval": changed}))
    for arguments in ((*THIRTY, "--resume"), FIFTY):
        message = refused("search", "--run", run, *arguments)
        assert "settings: batch_size is 500 there and 50 here; remove it or give another" in message


def test_journal_of_another_score_is_refused(run, harness_json, refused):
    harness_json("search", "--run", run, *THIRTY)
    config = RunDir(run).load_config()
    changed = config.search.model_copy(update={"score": "errors"})
    RunDir(run).save_config(config.model_copy(update={"search": changed}))
    message = refused("search", "--run", run, *FIFTY)
    assert "score is kl there and errors here; remove it or give another --out" in message


def test_several_targets_are_served_by_one_set_of_evaluations(run, harness_json):
    command = ("search", "--run", run, "--target-bitops", "50%", *THIRTY)
    values = harness_json(*command)
    shares = [target["target_bitops"] for target in values["targets"]]
    assert shares[0] > shares[1]
    assert [target["evaluations"] for target in values["targets"]] == [40, 40]
    assert len(journalled(run / "search")) == 40
    # All of them began before the first was evaluated: one search, not one after another.
    assert len({record["search"] for record in records(run / "search")}) == 1
    for target, share in zip(values["targets"], ("50pct", "30pct"), strict=True):
        assert target["bitops"] <= target["target_bitops"]
        assert Path(target["policy_file"]).parent == run / f"search/guided_{share}"
        assert set(files_under(run / f"search/guided_{share}")) == set(RESULTS)


def test_a_target_that_lost_its_results_ends_as_it_did(run, harness_json):
    command = ("search", "--run", run, "--target-bitops", "50%", *THIRTY)
    harness_json(*command)
    before = files_under(run / "search")
    for name in RESULTS:
        (run / "search/guided_30pct" / name).unlink()
    harness_json(*command, "--resume")
    assert files_under(run / "search") == before


@pytest.mark.parametrize("strategy", ["guided", "greedy"])
def test_a_later_search_uses_what_an_earlier_one_evaluated(run, harness_json, strategy):
    first = ("search", "--run", run, *FIFTY, "--strategy", strategy)
    later = ("search", "--run", run, *THIRTY, "--strategy", strategy)
    harness_json(*first)
    earlier = journalled(run / "search")
    values = harness_json(*later)
    found = journalled(run / "search")
    assert found[:40] == earlier
    assert len(set(found)) == len(found) == 40 + values["evaluations"]
    # What was known costs nothing, and both searches can be told apart and repeated.
    assert len({record["search"] for record in records(run / "search")}) == 2
    whole = files_under(run / "search")
    for command in (later, first):
        harness_json(*command, "--resume")
    assert (
        files_under(run / "search")
        | {f"{strategy}_50pct/frontier.json": whole[f"{strategy}_50pct/frontier.json"]}
        == whole
    )


def test_a_search_that_is_stopped_in_anothers_folder_goes_on_alike(run, harness_json):
    harness_json("search", "--run", run, *FIFTY)
    harness_json("search", "--run", run, *THIRTY)
    whole = files_under(run / "search")
    journal = run / "search/journal.jsonl"
    lines = whole["journal.jsonl"].splitlines(keepends=True)
    begun = next(n for n, line in enumerate(lines[2:], start=2) if b'"policies": []' in line)
    journal.write_bytes(b"".join(lines[: begun + 2]) + lines[begun + 2][:20])
    shutil.rmtree(run / "search/guided_30pct")
    harness_json("search", "--run", run, *THIRTY)
    assert files_under(run / "search") == whole


def test_another_strategy_uses_the_same_journal_and_another_folder(run, harness_json):
    harness_json("search", "--run", run, *THIRTY)
    harness_json("search", "--run", run, *THIRTY, "--strategy", "evolution")
    found = journalled(run / "search")
    assert len(set(found)) == len(found) > 40
    assert {path.name for path in (run / "search").iterdir()} == {
        "journal.jsonl", "gradients.json", "guided_30pct", "evolution_30pct",
    }  # fmt: skip


def test_more_evaluations_go_on_from_fewer(run, harness_json):
    harness_json("search", "--run", run, *THIRTY)
    values = harness_json(
        "search", "--run", run, "--target-bitops", "30%", "--evaluations", 60, "--resume"
    )
    found = journalled(run / "search")
    assert len(set(found)) == len(found) == 40 + values["evaluations"] <= 100


def test_an_old_run_is_searched_from_its_old_journal(tmp_path, harness_json):
    run = shutil.copytree(OLD_RUN, tmp_path / "run")
    folder = run / "search/greedy_30pct"
    old = json.loads((folder / "policy.json").read_text())
    before = (folder / "journal.jsonl").read_bytes()
    counted = {
        json.dumps(bits)
        for line in before.decode().splitlines()[1:]
        for bits in json.loads(line)["policies"]
    }
    command = ("search", "--run", run, "--target-bitops", "30%", "--evaluations", 60)
    values = harness_json(*command, "--strategy", "greedy", "--resume")
    assert values["bitops"] <= values["target_bitops"]
    assert old["provenance"]["evaluations"] == len(counted) > 20
    # Its counts are answers: none of those policies was evaluated again.
    assert counted.isdisjoint(journalled(run / "search"))
    assert (folder / "journal.jsonl").read_bytes() == before
