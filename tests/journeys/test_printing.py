"""Names are printed as they are, whatever they mean to the library that prints."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from journey_runs import QUICK

from harness.errors import BudgetError
from harness.problem.budget import parse_target, slack_warning

SET = [part for override in QUICK for part in ("--set", override)]
NAMES = ["r[red]dig", "x[/b]", "[bold]", ":smile:", "{task}", "a" * 150, "sp ace", "ü"]


@pytest.fixture(params=NAMES)
def run(request, tmp_path, trained_run):
    return shutil.copytree(trained_run.path, tmp_path / request.param)


def test_folders_survive_a_search_and_an_evaluation(run, tmp_path, harness):
    out = tmp_path / f"out{run.name}"
    search = ("search", "--run", run, "--target-bitops", "60%", "--evaluations", 3, "--out", out)
    code, printed, err = harness(*search)
    assert (code, "Traceback" in err) == (0, False), err
    assert f"artefacts: {run}  {out}/guided_60pct\n" in printed
    policy = out / "guided_60pct" / "policy.json"
    code, printed, err = harness("eval", "--run", run, "--policy", policy)
    assert (code, f" {policy} " in printed) == (0, True), printed + err


def test_a_folder_survives_training_and_a_refusal(run, tmp_path, harness, refused):
    out = tmp_path / f"new{run.name}"
    code, _, err = harness("train", *SET, "--set", "train.epochs=0", "--out", out)
    assert (code, f"finished {out}\n" in err) == (0, True), err
    assert f"{run} holds a run of another configuration" in refused(
        "train", *SET, "--set", "seed=5", "--out", run
    )


@pytest.mark.parametrize("name", ["no[red]net", "x[/b]", ":smile:"])
def test_names_of_models_and_files_survive_a_refusal(refused, name):
    assert f"model {name} is neither" in refused("bitops", name)
    assert f"{name}.json" in refused("bitops", "resnet8", "--policy", f"{name}.json")


@pytest.mark.parametrize("name", ["resnét", os.fsdecode(b"res\xffnet"), "\u202e\x1b[31m"])
def test_what_a_terminal_cannot_show_is_shown_in_escapes(name):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "bitops", name],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"error: model ")


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("45", "; for a share of that write 45%"),
        ("1000%", ""),
        ("100%", ""),
        ("200M", ""),
        ("1T", ""),
        ("1000", ""),
    ],
)
def test_a_budget_that_binds_nothing_is_warned_of(trained_run, tmp_path, harness, target, hint):
    search = ("search", "--run", trained_run.path, "--target-bitops", target, "--evaluations", 2)
    code, out, err = harness(*search, "--out", tmp_path / "out", "--json")
    assert code == 0
    json.loads(out)  # Nothing else is on standard output.
    (line,) = [line for line in err.splitlines() if "WARNING" in line]
    assert f"target {target} = " in line
    assert (
        f"binds nothing: resnet8 reaches 27.76M at most, with every layer at its largest bits{hint}"
        in line
    )
    assert line.endswith("bits" + hint)


def test_a_budget_that_binds_is_not_warned_of(trained_run):
    network = trained_run.load_network()
    for text in ("99.9%", "45%", "27.7M"):
        assert slack_warning(text, parse_target(text, network), network) is None


@pytest.mark.parametrize(
    "text",
    ["-5%", "nan", "inf", "1e400G", "4_5G", "\uff14\uff15%", "45%%", "G", "", "0", "0%", "1/2"],
)
def test_what_is_no_amount_is_refused(trained_run, text):
    with pytest.raises(BudgetError, match=r"is not a positive amount of BitOPs; write 31\.6G"):
        parse_target(text, trained_run.load_network())


@pytest.mark.parametrize("name", ["two\nlines", "clear\x1b[2J", "back\rspace"])
def test_a_message_stays_one_line_whatever_a_path_holds(refused, tmp_path, name):
    line = refused("eval", "--run", tmp_path / name, "--policy", "4/4")
    shown = name.encode("unicode_escape").decode()
    assert line.startswith(f"{tmp_path}/{shown} is not a run, it has no config.yaml; give --run")


def test_a_long_value_is_cut_in_a_message(refused, trained_run):
    for option in (("--target-bitops", "9" * 5000 + "x"), ("--target-bitops", "[" * 5000)):
        line = refused("search", "--run", trained_run.path, *option)
        assert len(line) < 400
        assert "... (500" in line
