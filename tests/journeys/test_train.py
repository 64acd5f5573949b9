"""`harness train`: what a run leaves, how it goes on, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import count, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from folder_contents import files_under
from journey_runs import QUICK, quick_config, repeating_metrics, signal_in_step
from PIL import Image
from watching import Watcher

from harness.errors import BudgetError, DataError, Stopped
from harness.problem.candidates import Candidates
from harness.problem.cost import BITOPS, policy_cost
from harness.quant.supernet import Supernet
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.config import CONFIG_FORMAT, Config, load_config
from harness.run.folder import RunDir
from harness.run.state_file import load_state
from harness.search.driver import search
from harness.search.request import SearchOptions
from harness.trained_run import load_run
from harness.training import loop
from harness.training.supernet_task import SupernetTask
from harness.training.trainer import train

REPOSITORY = Path(__file__).resolve().parents[2]
LATEST = CONFIG_FORMAT.version


def quick_sets():
    return [part for override in QUICK for part in ("--set", override)]


def test_run_folder_holds_what_the_design_names(trained_run):
    names = {path.name for path in trained_run.path.iterdir()}
    assert names >= {
        "config.yaml", "environment.json", "network.json", "metrics.jsonl", "tensorboard",
        "checkpoints", "summary.json",
    }  # fmt: skip
    assert list((trained_run.path / "tensorboard").glob("events*"))
    accuracy = json.loads(trained_run.summary_path.read_text())["accuracy"]["search"]
    assert set(accuracy) == {"max", "min", "2/2", "3/3", "4/4", "5/5", "6/6"}
    assert accuracy["max"] > 0.3  # Chance is 0.1.


def rows_of(run):
    first, *lines = run.metrics_path.read_text().splitlines()
    assert json.loads(first) == {"format": 2}
    return [json.loads(line) for line in lines]


def test_metrics_name_every_loss(trained_run):
    losses = next(row for row in rows_of(trained_run) if "max_pass_ce" in row)
    assert set(losses) == {
        "step", "epoch", "max_pass_ce", "random_ce", "random_kl", "images_per_second",
    }  # fmt: skip


def test_metrics_of_a_float_run_have_no_terms_of_a_supernet(tmp_path):
    run = train(quick_config("train.mode=float", "train.epochs=1"), out=tmp_path / "float")
    losses, validation = rows_of(run)
    assert set(losses) == {"step", "epoch", "ce", "images_per_second"}
    assert set(validation) == {"step", "epoch", "search_accuracy/float"}


def test_metrics_count_epochs_from_one(trained_run):
    epochs = [(row["step"], row["epoch"], "max_pass_ce" in row) for row in rows_of(trained_run)]
    assert epochs == [(10, 2, True), (16, 2, True), (16, 2, False)]  # 8 steps in an epoch.


def test_what_a_task_changes_after_an_epoch_is_logged_saved_and_resumed(tmp_path, monkeypatch):
    def take_the_smallest_away(self, epoch):
        layers = [
            layer if layer.is_pinned else replace(layer, weight=layer.weight[:-1])
            for layer in self.candidates.layers
        ]
        self.candidates = Candidates(tuple(layers))
        return {"candidates/smallest_weight_bits": min(self.candidates.free_bits("weight"))}

    monkeypatch.setattr(SupernetTask, "end_epoch", take_the_smallest_away)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run = train(quick_config(), out=whole)
    changes = [row for row in rows_of(run) if "candidates/smallest_weight_bits" in row]
    assert [list(row.values()) for row in changes] == [[8, 1, 3], [16, 2, 4]]
    with signal_in_step(signal.SIGUSR1, 12), pytest.raises(Stopped):
        train(quick_config(), out=stopped)
    candidates = load_state(newest_checkpoint(RunDir(stopped)))["task"]["candidates"]
    assert candidates[1]["weight"] == [6, 5, 4, 3]
    again = train(quick_config(), out=stopped)
    assert _weights(again) == _weights(run)
    assert repeating_metrics(again) == repeating_metrics(run)
    # A search of the run proposes what its layers may take now, and no more.
    narrowed = load_run(run).candidates
    assert narrowed.layers[1].weight == (6, 5, 4)
    (outcome,) = search(run, ["60%"], options=SearchOptions(evaluations=30))
    narrowed.check(outcome.best.policy)
    full = policy_cost(run.load_network(), run.load_network().candidates.smallest, BITOPS)
    with pytest.raises(BudgetError, match=r"is below .*, the least resnet8 reaches with every fre"):
        search(run, [f"{full / 1e6:.6f}M"], options=SearchOptions())


def test_settings_that_decide_no_weights_do_not(trained_run, tmp_path):
    """All of them at once, and they may change while a run goes on."""
    out = tmp_path / "run"
    others = {
        "data.num_workers": 1,
        "train.validate_every_epochs": 1,
        "train.checkpoint_every_epochs": 2,
        "train.keep_checkpoints": 7,
        "eval.batch_size": 90,
        "search.finalists": 2,
    }
    with signal_in_step(signal.SIGUSR1, 5), pytest.raises(Stopped):
        train(quick_config(), out=out)
    run = train(quick_config(*(f"{key}={value}" for key, value in others.items())), out=out)
    assert _weights(run) == _weights(trained_run)
    assert run.load_config().train.keep_checkpoints == 7


def test_same_seed_gives_the_same_weights(trained_run, tmp_path):
    again = train(quick_config(), out=tmp_path / "again")
    assert _weights(again) == _weights(trained_run)


@pytest.mark.parametrize("stop_at", [3, 8])
def test_resumed_run_equals_an_uninterrupted_one(trained_run, tmp_path, stop_at):
    out = tmp_path / "stopped"
    message = f"stopped by a signal at step {stop_at} of 16"
    with signal_in_step(signal.SIGUSR1, stop_at), pytest.raises(Stopped, match=message):
        train(quick_config(), out=out)
    resumed = train(quick_config(), out=out)
    assert _weights(resumed) == _weights(trained_run)


def test_finished_run_is_left_as_it_is(trained_run):
    before = files_under(trained_run.path)
    train(quick_config(), out=trained_run.path)
    assert files_under(trained_run.path) == before


def test_zero_epochs_calibrate_and_finish(tmp_path):
    run = train(quick_config("train.epochs=0"), out=tmp_path / "calibrated")
    assert run.is_finished
    assert newest_checkpoint(run).name == "step_00000000"


def test_supernet_starts_from_a_float_run(tmp_path):
    start = train(quick_config("train.mode=float"), out=tmp_path / "float")
    assert "float" in json.loads(start.summary_path.read_text())["accuracy"]["search"]
    run = train(
        quick_config(f"model.weights={start.path}", "train.epochs=0", "eval.recalibrate_images=0"),
        out=tmp_path / "supernet",
    )
    float_accuracy = json.loads(start.summary_path.read_text())["accuracy"]["search"]["float"]
    six_bits = json.loads(run.summary_path.read_text())["accuracy"]["search"]["6/6"]
    assert six_bits >= float_accuracy - 0.1


def test_a_float_run_keeps_its_accuracy_when_its_step_sizes_are_fitted(tmp_path):
    split = "data.split_by=position"  # The figures below were measured on these images.
    floats = [split, "train.mode=float", "train.epochs=15", "train.validate_every_epochs=15"]
    source = train(load_config(None, overrides=floats), out=tmp_path / "float")
    config = load_config(None, overrides=[split, f"model.weights={source.path}", "train.epochs=0"])
    trained = load_run(train(config, out=tmp_path / "fitted"))
    policies = [
        trained.network.candidates.uniform(weight_bits=bits, act_bits=bits) for bits in (6, 4)
    ]
    six, four = trained.accuracy(policies, split="test")
    # 0.989 and 0.969; fitted to every k-th element 0.958 and 0.922, not fitted 0.986 and 0.981.
    assert six > 0.98
    assert four > 0.96


def test_search_of_a_float_run_is_refused(tmp_path, refused):
    start = train(quick_config("train.mode=float", "train.epochs=0"), out=tmp_path / "float")
    message = refused("search", "--run", start.path, "--target-bitops", "30%")
    assert "is a float run without bit-widths" in message


def test_eight_bit_candidates_train(tmp_path):
    overrides = ["quant.weight_candidates=[8,4]", "quant.act_candidates=[8,2]", "train.epochs=1"]
    run = train(quick_config(*overrides), out=tmp_path / "eight")
    first, second = run.load_network().layers[:2]
    assert (first.weight_candidates, first.act_candidates) == ((8,), (8,))
    assert (second.weight_candidates, second.act_candidates) == ((8, 4), (8, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "train.epoch=1"), "unknown key train.epoch"),
        (("--config", "gone.yaml"), "configuration gone.yaml cannot be read"),
        (("--set", "model.name=resnet9000"), "model resnet9000 is neither built in nor in timm"),
        (("--set", "model.name=vit_tiny_patch16_224", "--set", "data.image_size=224"),
         "scaled_dot_product_attention"),
        (("--set", "data.search_images=5000"), "5000"),
        (("--set", "model.weights=gone.safetensors"), "weights gone.safetensors cannot be read"),
        (("--resume", "gone"), "checkpoint gone is not a folder"),
    ],
)  # fmt: skip
def test_train_refuses_and_writes_nothing(tmp_path, refused, arguments, message):
    out = tmp_path / "run"
    assert message in refused("train", "--out", out, *arguments)
    assert not out.exists()


def test_run_of_another_configuration_is_not_written_over(trained_run, refused):
    before = files_under(trained_run.path)
    message = refused("train", "--out", trained_run.path, "--set", "seed=7")
    assert message == (
        f"{trained_run.path} holds a run of another configuration: seed is 0 there and 7 here, "
        "data.search_images is 100 there and 300 here, data.train_images is 400 there and null "
        "here, and 5 more; give another --out or remove it"
    )
    message = refused("train", "--out", trained_run.path, "--resume", "never")
    assert "--resume is never" in message
    assert files_under(trained_run.path) == before


def truncate(checkpoint):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    return weights


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, harness):
    run = train(quick_config(), out=tmp_path / "run")
    expected = _weights(run)
    newest = newest_checkpoint(run)
    weights = truncate(newest)
    for command in (("eval", "--run", run.path, "--policy", "4/4"),):
        code, _, err = harness(*command)
        assert code == 0
        assert f"{newest} is passed over, the one before is used: " in err
        assert f"{weights} has 100 bytes, its manifest says" in err
    run.summary_path.unlink()
    code, _, err = harness("train", "--out", run.path, *quick_sets())
    assert code == 0
    assert "going on from step 8 of" in err
    assert f"{newest} is kept as step_00000016.damaged" in err
    assert _weights(run) == expected
    assert truncate(newest.with_name("step_00000016.damaged")).is_file()


def test_without_a_whole_checkpoint_a_run_never_starts_again_in_silence(tmp_path, refused):
    run = train(quick_config("train.epochs=1"), out=tmp_path / "run")
    run.summary_path.unlink()
    train_again = ("train", "--out", run.path, *quick_sets(), "--set", "train.epochs=1")
    for checkpoint in run.checkpoints.iterdir():
        truncate(checkpoint)
    before = files_under(run.path)
    message = "has no whole checkpoint, but metrics.jsonl holds steps up to 8; restore a checkpoint"
    assert message in refused(*train_again)
    assert files_under(run.path) == before
    shutil.rmtree(run.checkpoints)
    assert message in refused(*train_again)


@pytest.mark.parametrize("lost", ["configuration", "configuration and checkpoints", "metrics"])
def test_what_is_left_of_a_run_is_never_trained_over(trained_run, tmp_path, refused, lost):
    """Without a whole checkpoint, where another file that would tell is lost as well."""
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    run.summary_path.unlink()
    for checkpoint in run.checkpoints.iterdir():
        truncate(checkpoint)
    if lost == "metrics":
        run.metrics_path.unlink()
        message = "has no whole checkpoint, all 2 are damaged; restore a checkpoint, or give"
    else:
        run.config_path.unlink()
        message = "holds a run without config.yaml; restore that file, or give another --out"
    if lost == "configuration and checkpoints":
        shutil.rmtree(run.checkpoints)
    before = files_under(run.path)
    assert message in refused("train", "--out", run.path, *quick_sets())
    assert files_under(run.path) == before


def test_copies_beside_the_checkpoints_survive_and_count_for_nothing(tmp_path):
    run = RunDir(tmp_path / "run")
    config = quick_config("train.keep_checkpoints=1")
    with signal_in_step(signal.SIGUSR1, 10), pytest.raises(Stopped):
        train(config, out=run.path)
    for name in ("step_best", "step_zz", "step_00000010.bak"):
        shutil.copytree(newest_checkpoint(run), run.checkpoints / name)
    train(config, out=run.path)
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == ["step_00000010.bak", "step_00000016", "step_best", "step_zz"]


def test_resume_from_a_path_leaves_another_run_alone(trained_run, tmp_path, refused):
    """Neither a run of another configuration nor a later checkpoint of its own is written over."""
    other = train(quick_config("seed=5", "train.epochs=1"), out=tmp_path / "other")
    other.summary_path.unlink()
    mine = newest_checkpoint(trained_run)
    before = files_under(other.path)
    message = refused("train", "--out", other.path, *quick_sets(), "--resume", mine)
    assert message == (
        f"{other.path} holds a run of another configuration: seed is 5 there and 0 here, "
        "train.epochs is 1 there and 2 here; give another --out or remove it"
    )
    assert files_under(other.path) == before
    older = next(iter(sorted(trained_run.checkpoints.glob("step_*"))))
    assert older != mine
    message = refused("train", "--out", trained_run.path, *quick_sets(), "--resume", older)
    assert f"holds a run already, and {older} is not its newest checkpoint; give" in message


def test_resume_from_a_path_into_a_new_folder(trained_run, tmp_path):
    older = next(iter(sorted(trained_run.checkpoints.glob("step_*"))))
    run = train(quick_config(), out=tmp_path / "new", resume=str(older))
    assert _weights(run) == _weights(trained_run)


@pytest.mark.parametrize("stop_at", [9, 12])
def test_run_from_a_path_goes_on_by_the_same_command(trained_run, tmp_path, stop_at):
    older = next(iter(sorted(trained_run.checkpoints.glob("step_*"))))
    out = tmp_path / "new"
    with signal_in_step(signal.SIGUSR1, stop_at), pytest.raises(Stopped, match=f"step {stop_at}"):
        train(quick_config(), out=out, resume=str(older))
    if stop_at == 9:
        shutil.rmtree(out / "checkpoints")  # As a kill before the first one leaves it.
    run = train(quick_config(), out=out, resume=str(older))
    assert _weights(run) == _weights(trained_run)


def test_checkpoints_without_configuration_are_not_taken_for_a_new_folder(
    trained_run, tmp_path, refused
):
    out = tmp_path / "lost"
    shutil.copytree(trained_run.path, out)
    for name in ("config.yaml", "summary.json"):
        (out / name).unlink()
    before = files_under(out)
    message = refused("train", "--out", out, *quick_sets(), "--set", "seed=7")
    assert message == (
        f"{out} holds a run without config.yaml; restore that file, or give another --out"
    )
    assert files_under(out) == before


def test_run_killed_behind_its_last_step_notes_the_validation_once(trained_run, tmp_path):
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    run.summary_path.unlink()
    with run.metrics_path.open("a") as file:
        file.write('{"step": 1')  # Torn.
    train(quick_config(), out=run.path)
    assert repeating_metrics(run) == repeating_metrics(trained_run)


def test_a_finished_run_without_checkpoints_is_said_to_be_lost(tmp_path, refused):
    run = train(quick_config("train.epochs=0"), out=tmp_path / "run")
    shutil.rmtree(run.checkpoints)
    message = refused("train", "--out", run.path, *quick_sets(), "--set", "train.epochs=0")
    assert message == f"{run.path} is finished and its checkpoints are gone; restore them, or " \
        "remove the folder to train again"  # fmt: skip


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_out_that_cannot_be_a_folder_is_refused(tmp_path, refused, name):
    (tmp_path / "file").touch()
    out = tmp_path / name
    assert f"{out} cannot be a run folder, {tmp_path / 'file'} is a file; give --out" == refused(
        "train", "--out", out, *quick_sets()
    )


def test_out_where_nothing_can_be_made_is_refused(refused):
    message = refused("train", "--out", "/proc/run", *quick_sets())
    assert message.startswith("/proc/run")  # As root the write itself fails, else the check does.
    assert "read-only; give --out" in message or "check the path and its permissions" in message


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda text: "",
            "config.yaml lacks seed, a run's configuration is written whole; restore",
        ),
        (
            lambda text: text[: text.index("search:")],
            "config.yaml was altered after it was written; restore it; settings are changed by --c",
        ),
        (
            lambda text: text.replace("seed: 0", "seed: 1"),
            "config.yaml was altered after it was written; restore it; settings are changed by --c",
        ),
        (
            lambda text: Config(seed=1).to_yaml(),
            "was made with another configuration: seed is 0 there and 1 here, data.search_images",
        ),
        (
            lambda text: text.replace(f"format: {LATEST}", f"format: {LATEST + 1}"),
            f"config.yaml has format {LATEST + 1}, this version reads up to {LATEST}; update",
        ),
    ],
)
def test_damaged_configuration_of_a_run_is_refused(tmp_path, trained_run, refused, edit, message):
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    run.config_path.write_text(edit(run.config_path.read_text()))
    assert message in refused("eval", "--run", run.path, "--policy", "3/3")


def test_a_network_that_was_altered_is_refused(tmp_path, trained_run, refused):
    """Single values, digests made anew, are in tests/unit/run/test_damaged_files.py."""
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    values = json.loads(run.network_path.read_text())
    values["layers"][2]["weight_candidates"] = [6, 5]
    run.network_path.write_text(json.dumps(values))
    for command in (("eval", "--policy", "3/3"), ("search", "--target-bitops", "50%")):
        line = refused(*command, "--run", run.path)
        assert "network.json was altered after it was written; restore or recreate it" in line


def test_killed_run_goes_on_to_the_same_weights_and_metrics(tmp_path, monkeypatch):
    """A kill -9 behind the first checkpoint, while later steps are in the metrics already."""
    monkeypatch.setattr(loop, "LOG_EVERY_STEPS", 1)
    config = quick_config("train.epochs=3")
    whole = train(config, out=tmp_path / "whole")
    out = tmp_path / "killed"
    code = (
        "from pathlib import Path; from signal import SIGKILL; from harness.training import loop\n"
        "from harness.training.trainer import train\n"
        "from journey_runs import quick_config, signal_in_step\n"
        "loop.LOG_EVERY_STEPS = 1\n"
        "with signal_in_step(SIGKILL, 14):\n"
        f"    train(quick_config('train.epochs=3'), out=Path({str(out)!r}))"
    )
    # With as many threads as this process, which sums of floats depend on.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, check=False
    )
    assert process.returncode == -signal.SIGKILL
    run = RunDir(out)
    assert newest_checkpoint(run).name == "step_00000008"
    assert json.loads(run.metrics_path.read_text().splitlines()[-1])["step"] == 13
    train(config, out=out)
    assert _weights(run) == _weights(whole)
    assert repeating_metrics(run) == repeating_metrics(whole)


def test_interrupt_saves_and_leaves_a_whole_checkpoint(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, REPOSITORY / "harness/train.py", "--out", out, *quick_sets(),
               "--set", "train.epochs=400"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    run = RunDir(out)
    deadline = time.monotonic() + 90
    while not any(run.checkpoints.glob("step_*[1-9]*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command again to go on" in err.replace("\n", " ")
    assert not list(run.checkpoints.glob(".*"))
    assert load_state(newest_checkpoint(run))["step"] > 0


def test_accelerate_launch_trains_from_any_working_directory(tmp_path):
    script = REPOSITORY / "harness/train.py"
    command = ["accelerate", "launch", "--num_processes", "1", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no",
               script, *quick_sets(), "--set", "train.epochs=1"]  # fmt: skip
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=110)
    assert RunDir(tmp_path / "runs/resnet8_digits_seed0").is_finished


def test_supernet_is_what_is_trained(trained_run):
    from harness.checkpoint import load_supernet

    supernet = load_supernet(trained_run)
    assert isinstance(supernet, Supernet)
    assert len(supernet.network.layers) == 10


def test_training_tells_an_observer_every_step_and_where_it_goes_on(tmp_path):
    watcher = Watcher()
    with signal_in_step(signal.SIGUSR1, 5), pytest.raises(Stopped):
        train(quick_config(), out=tmp_path / "run", observer=watcher)
    train(quick_config(), out=tmp_path / "run", observer=watcher)
    stopped, rest = watcher.tasks
    assert (stopped.name, stopped.total, stopped.done) == ("training", 16, 5)
    assert rest.amounts == [5, *[1] * 11]
    losses = [row for row in rows_of(RunDir(tmp_path / "run")) if "max_pass_ce" in row]
    assert [row["step"] for row in losses] == [10, 16]
    assert rest.said == [
        f"max_pass_ce {row['max_pass_ce']:.3g}  random_ce {row['random_ce']:.3g}  "
        f"random_kl {row['random_kl']:.3g}  {row['images_per_second']:,.0f} images/s"
        for row in losses
    ]


def test_images_per_second_are_of_the_steps_since_the_row_before(tmp_path, monkeypatch):
    """Validations and checkpoints between epochs do not count."""
    clock = SimpleNamespace(perf_counter=partial(next, count(0, 2)))  # Every look takes 2 seconds.
    monkeypatch.setattr(loop, "time", clock)
    run = train(quick_config("train.validate_every_epochs=1"), out=tmp_path / "run")
    paces = [row["images_per_second"] for row in rows_of(run) if "max_pass_ce" in row]
    assert paces == [2 * 50 / 2, 6 * 50 / 2]  # Steps 9 and 10 of epoch 2, then six more.


def write_images(folder, size):
    generator = np.random.default_rng(size)
    for split, name, number in product(("train", "test"), ("ant", "bee"), range(20)):
        path = folder / split / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (size, size), dtype=np.uint8)).save(path)
    return folder


def test_a_run_follows_its_images_to_another_folder_but_takes_no_others(tmp_path):
    images, moved, others = (write_images(tmp_path / str(n), n) for n in (8, 9, 12))
    moved = tmp_path / "moved"
    settings = (
        "data.name=imagefolder", "data.search_images=10", "data.train_images=null",
        "data.test_images=null", "train.batch_size=10", "eval.recalibrate_images=10",
        "search.recalibrate_images=10",
    )  # fmt: skip
    config = quick_config(*settings, f"data.path={images}")
    with signal_in_step(signal.SIGUSR1, 2), pytest.raises(Stopped):
        train(config, out=tmp_path / "run")
    before = files_under(tmp_path / "run")
    message = r"they are 1 x 8 x 8 there and 1 x 12 x 12 here; give --data-path where those lie, or"
    with pytest.raises(DataError, match=message):
        train(quick_config(*settings, f"data.path={others}"), out=tmp_path / "run")
    assert files_under(tmp_path / "run") == before
    images.rename(moved)
    run = train(quick_config(*settings, f"data.path={moved}"), out=tmp_path / "run")
    assert run.is_finished
    # A finished run too: the folder may hold other images when it is searched.
    shutil.rmtree(moved)
    others.rename(moved)
    with pytest.raises(DataError, match=message):
        load_run(run)


def _weights(run):
    return (newest_checkpoint(run) / "ema.safetensors").read_bytes()
