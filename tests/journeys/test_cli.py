"""`harness --version`, `harness bitops`, `harness demo`, and how quickly help comes."""

import json
import os
import subprocess
import sys
import time

import pytest

from harness import __version__


def test_version(harness):
    assert harness("--version")[:2] == (0, f"harness {__version__}\n")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from harness.cli import app; import typer.testing as t\n"
        "assert t.CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'datasets', 'accelerate')))"
    )
    start = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert time.perf_counter() - start < 10


def test_bitops_json_of_resnet18(harness_json):
    values = harness_json("bitops", "resnet18", "--weight-bits", 4, "--act-bits", 4)
    assert values["bitops"] == pytest.approx(34.714e9, rel=1e-3)
    assert values["num_layers"] == 21
    assert values["weight_bytes"] / 2**20 == pytest.approx(5.818, rel=1e-3)


def test_bitops_accounts_depthwise_layers_at_exactly_the_bits_asked_for(harness_json):
    values = harness_json("bitops", "mobilenetv2_100", "--weight-bits", 2, "--act-bits", 2)
    assert values["bitops"] == pytest.approx(1.930e9, rel=1e-3)


def test_bitops_table_has_a_total(harness):
    code, out, _ = harness("bitops", "resnet8", "--num-classes", 10)
    assert code == 0
    assert "total" in out


def test_bitops_by_every_convention_beside_the_ledger(harness, harness_json):
    command = ("bitops", "resnet8", "--num-classes", 10)
    values = harness_json(*command, "--convention", "all")
    totals = values["bitops_by_convention"]
    assert list(totals) == ["paper", "first-activation-32", "ends-excluded", "uniform"]
    for name, total in totals.items():
        alone = harness_json(*command, "--convention", name)
        assert (alone["convention"], alone["bitops"]) == (name, total)
        assert sum(layer["bitops"] for layer in alone["layers"]) == total
        assert sum(layer["bitops_by_convention"][name] for layer in values["layers"]) == total
    code, out, _ = harness(*command, "--convention", "all")
    assert (code, "306.2M" in out, "192.9M" in out) == (0, True, True)


def test_bitops_of_a_policy_file(trained_run, harness_json, tmp_path):
    found = harness_json(
        "search", "--run", trained_run.path, "--target-bitops", "40%", "--evaluations", 30,
        "--out", tmp_path,
    )  # fmt: skip
    arguments = ["bitops", "resnet8", "--policy", tmp_path / "guided_40pct/policy.json"]
    size = ["--input-size", 8, "--in-channels", 1, "--num-classes", 10]
    assert harness_json(*arguments, *size)["bitops"] == found["bitops"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bitops", "resnet19"), "did you mean"),
        (("bitops", "resnet18", "--convention", "mine"), "choose all or one of paper, first"),
        (("bitops", "resnet8", "--policy", "p.json", "--act-bits", "4"), "exclude each other"),
        (("bitops", "resnet8", "--policy", "p.json"), "policy p.json cannot be read"),
        (("eval", "--run", "nowhere", "--policy", "4/4"), "nowhere is not a run"),
    ],
)
def test_mistakes_get_one_line(refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize(("processes", "farewell"), [("1", "bye\n"), ("2", "")])
def test_one_of_several_processes_ends_without_the_interpreters_farewell(processes, farewell):
    """It could abort there; what was printed and the exit code are kept."""
    code = (
        "import atexit, sys; from harness.cli import main; "
        "atexit.register(print, 'bye'); main(sys.argv[1:])"
    )
    environment = {**os.environ, "WORLD_SIZE": processes}
    for arguments, status, out in [
        (["--version"], 0, f"harness {__version__}\n"),
        (["eval", "--run", "nowhere", "--policy", "3/3"], 2, ""),
    ]:
        command = [sys.executable, "-c", code, *arguments]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stdout) == (status, out + farewell), result.stderr


@pytest.mark.parametrize("setting", ["train.mode=float", "quant.weight_candidates=[4, 3]"])
def test_demo_refuses_what_it_could_not_search_before_it_trains(tmp_path, refused, setting):
    message = refused("demo", "--out", tmp_path / "run", "--set", setting)
    assert "give it train.mode=supernet, and 2 and 3 among quant.weight_candidates" in message
    assert not (tmp_path / "run").exists()


def test_demo_trains_searches_and_compares(tmp_path, harness_json):
    quick = (
        "train.epochs=6", "train.num_random_passes=1", "eval.recalibrate_images=200",
        "search.images=100", "search.recalibrate_images=100", "search.finalists=4",
    )  # fmt: skip
    sets = [part for override in quick for part in ("--set", override)]
    values = harness_json("demo", "--out", tmp_path / "demo", *sets)
    assert len(values["targets"]) == 2
    for target in values["targets"]:
        assert target["bitops"] <= target["target_bitops"]
        assert target["accuracy"]["test"] > 0.2
        assert target["uniform_within"]["bitops"] <= target["target_bitops"]
        assert target["uniform_above"]["bitops"] >= target["bitops"]
    assert json.loads((tmp_path / "demo/summary.json").read_text())["steps"] > 0
