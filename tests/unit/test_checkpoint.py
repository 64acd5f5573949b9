"""Checkpoints: bit-equal round trips, damage recognised, nothing executed."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from folder_contents import files_under
from safetensors.torch import save_file
from torch import nn

from harness.checkpoint import (
    fill,
    load_checkpoint,
    load_float_weights,
    load_supernet,
    load_tensors,
    save_checkpoint,
)
from harness.errors import CheckpointError, ModelError
from harness.run.checkpoint_folder import checkpoint_path, newest_checkpoint
from harness.run.config import Config, TrainConfig
from harness.run.folder import RunDir
from harness.run.network_file import save_network
from harness.run.optimizer_file import load_old_optimizer_state
from harness.training.optim import GroupedOptimizer, create_optimizer
from harness.training.trainer import train


def build() -> tuple[nn.Module, nn.Module, GroupedOptimizer]:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ema = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = create_optimizer(model, TrainConfig())
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    return model, ema, optimizer


def save(run: RunDir, step: int = 7, keep: int = 2) -> tuple[Path, tuple]:
    parts = build()
    path = save_checkpoint(run, state_of(*parts, step=step), keep=keep)
    return path, parts


def state_of(model: nn.Module, ema: nn.Module, optimizer: GroupedOptimizer, **place) -> dict:
    return {
        "steps_per_epoch": 3,
        "task": {"candidates": [1]},
        "configuration": {"seed": 4, "train.epochs": 5},
        "data": None,
        "model": dict(model.state_dict()),
        "ema": dict(ema.state_dict()),
        "optimizer": optimizer.named_state(),
        **place,
    }


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    torch.manual_seed(0)
    return RunDir(tmp_path / "run")


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_round_trip_is_bit_equal(run: RunDir) -> None:
    path, parts = save(run)
    loaded = load_checkpoint(path, optimizer_groups={})
    assert same(loaded, state_of(*parts, step=7))
    new_model = build()[0]
    fill(new_model, loaded["model"], checkpoint=path)
    assert same(dict(new_model.state_dict()), dict(parts[0].state_dict()))
    assert path == checkpoint_path(run, 7) == newest_checkpoint(run)


def test_only_the_newest_are_kept(run: RunDir) -> None:
    for step in (1, 2, 3):
        save(run, step)
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["step_00000002", "step_00000003"]


def test_a_step_that_is_saved_already_is_left_and_torn_ones_go(run: RunDir) -> None:
    path, _ = save(run)
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    torn = run.checkpoints / ".step_00000009.partial"
    torn.mkdir()
    assert save(run)[0] == path
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before
    assert not torn.exists()


def test_a_half_written_checkpoint_is_not_seen(run: RunDir) -> None:
    (run.checkpoints / ".step_00000009.partial").mkdir(parents=True)
    assert newest_checkpoint(run) is None


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors"])
def test_a_truncated_file_is_named(run: RunDir, name: str) -> None:
    path, _ = save(run)
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-5])
    with pytest.raises(
        CheckpointError,
        match=rf"{name} has {len(content) - 5} bytes, its manifest says {len(content)}; remove",
    ):
        load_checkpoint(path, optimizer_groups={})


def test_an_altered_byte_is_found(run: RunDir) -> None:
    path, _ = save(run)
    content = bytearray((path / "ema.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "ema.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"ema.safetensors was altered, its SHA-256 is not"):
        load_checkpoint(path, optimizer_groups={})


def test_a_missing_file_is_named(run: RunDir) -> None:
    path, _ = save(run)
    (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"state.json has 0 bytes, its manifest says"):
        load_checkpoint(path, optimizer_groups={})


def test_a_missing_manifest_is_named(run: RunDir) -> None:
    path, _ = save(run)
    (path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest.json cannot be read: no such file"):
        load_checkpoint(path, optimizer_groups={})


@pytest.mark.parametrize("files", [None, {}, {"model.safetensors": 3}])
def test_a_manifest_without_its_entries_is_refused(run: RunDir, files: object) -> None:
    path, _ = save(run)
    (path / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))
    with pytest.raises(
        CheckpointError, match=r"manifest.json (does not list state.json|lists no files); remove"
    ):
        load_checkpoint(path, optimizer_groups={})


def replace_with_matching_manifest(path: Path, name: str, content: bytes) -> None:
    (path / name).write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    (path / "manifest.json").write_text(json.dumps(manifest))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_a_pickle_bomb_in_an_old_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    stopped = Path(__file__).parents[1] / "golden/runs/format2/stopped"
    path = shutil.copytree(stopped, tmp_path / "run") / "checkpoints/step_00000013"
    bomb = tmp_path / "bomb.pt"
    torch.save({"weights": Bomb(tmp_path / "hit")}, bomb)
    for content in (
        bomb.read_bytes(),
        pickle.dumps(Bomb(tmp_path / "hit"), protocol=2),
        b"nothing",
        b"",
    ):
        replace_with_matching_manifest(path, "optimizers.pt", content)
        with pytest.raises(
            CheckpointError, match=r"optimizers.pt holds no optimizer state .*remove"
        ):
            load_old_optimizer_state(path, {})
    assert not (tmp_path / "hit").exists()


def test_a_state_without_its_keys_is_refused(run: RunDir) -> None:
    path, _ = save(run)
    replace_with_matching_manifest(path, "state.json", b'{"format": 2, "step": 3}')
    with pytest.raises(CheckpointError, match=r"state.json lacks 'steps_per_epoch'; remove"):
        load_checkpoint(path, optimizer_groups={})


def test_weights_of_another_network_are_refused(run: RunDir) -> None:
    path, _ = save(run)
    with pytest.raises(CheckpointError, match=r"does not fit the network: .*; train again or use"):
        fill(nn.Linear(2, 2), load_checkpoint(path, optimizer_groups={})["model"], checkpoint=path)


def test_tensors_that_cannot_be_read_are_refused(run: RunDir) -> None:
    path, _ = save(run)
    replace_with_matching_manifest(path, "model.safetensors", b"nothing")
    with pytest.raises(CheckpointError, match=r"model.safetensors holds no tensors \(.*\); remove"):
        load_checkpoint(path, optimizer_groups={})


@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
def test_a_checkpoint_of_a_newer_version_is_refused_and_not_told_to_be_removed(
    run: RunDir, name: str
) -> None:
    path, _ = save(run)
    content = json.dumps({**json.loads((path / name).read_text()), "format": 9}).encode()
    if name == "state.json":
        replace_with_matching_manifest(path, name, content)
    else:
        (path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} has format 9, this .* to \d; update harn"):
        load_checkpoint(path, optimizer_groups={})


def test_names_of_format_1_are_read_as_those_of_today(run: RunDir) -> None:
    state = state_of(*build(), step=7)
    state["ema"] = {"a.weight_quantizer.step": torch.ones(2), "b.step": torch.ones(1)}
    run.save_config(Config())
    path = save_checkpoint(run, state, keep=1)
    # In the present format they are what they say.
    assert set(load_tensors(path, "ema.safetensors")) == set(state["ema"])
    values = yaml.safe_load(run.config_path.read_text())
    del values["format"], values["digest"]
    run.config_path.write_text(yaml.safe_dump(values))
    old = {"format": 1, "step": 7, "steps_per_epoch": 3, "config_fingerprint": digest(values)}
    replace_with_matching_manifest(path, "state.json", json.dumps(old).encode())
    names = set(load_tensors(path, "ema.safetensors"))
    assert names == {"a.weight_quantizer.step_size", "b.step"}


def digest(values: dict) -> str:
    """The fingerprint of a configuration, as version 1 computed it."""
    trained = {key: value for key, value in values.items() if key not in ("eval", "search")}
    return hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()[:16]


def test_a_run_without_checkpoint_is_refused(run: RunDir) -> None:
    run.save_config(Config())
    with pytest.raises(CheckpointError, match=r"run .*run has no checkpoint; train it first"):
        load_float_weights(nn.Linear(2, 2), run.path)
    with pytest.raises(Exception, match=r"network.json cannot be read: no such file"):
        load_supernet(run)


def test_float_weights_load_from_run_and_from_file(run: RunDir, tmp_path: Path) -> None:
    _, (model, ema, _) = save(run)
    loaded = build()[0]
    load_float_weights(loaded, run.path)
    assert same(dict(loaded.state_dict()), dict(ema.state_dict()))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    load_float_weights(loaded, tmp_path / "w.safetensors")
    assert same(dict(loaded.state_dict()), dict(model.state_dict()))


def test_unusable_float_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"w.safetensors cannot be read: no such file.*; check mod"
    ):
        load_float_weights(nn.Linear(2, 2), tmp_path / "w.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"x.safetensors do not fit the model: .*; check model.w"):
        load_float_weights(nn.Linear(2, 2), tmp_path / "x.safetensors")
    save_file({"weight": torch.zeros(3, 3)}, tmp_path / "y.safetensors")
    with pytest.raises(ModelError, match=r"y.safetensors do not fit the model: .*; check model.w"):
        load_float_weights(nn.Linear(2, 2), tmp_path / "y.safetensors")


GOLDEN_RUN = Path(__file__).parents[1] / "golden/runs/format2/stopped"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "task",
            {"candidates": [1]},
            r"does not fit the network: .*; remove .* to go on from",
        ),
        ("task", 3, r"state.json has task 3; remove .*step_00000013 to go on from an older one"),
        (
            "configuration",
            [],
            r"state.json has configuration \[\]; remove .* to go on from",
        ),
    ],
)
def test_a_state_that_cannot_be_taken_up_is_refused(tmp_path, key, value, message):
    """As a program of another version may have written it, with a manifest that fits."""
    run = RunDir(shutil.copytree(GOLDEN_RUN, tmp_path / "run"))
    folder = newest_checkpoint(run)
    state = json.loads((folder / "state.json").read_text())
    content = json.dumps({**state, key: value}).encode()
    (folder / "state.json").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["state.json"] = {"bytes": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = files_under(run.path)
    with pytest.raises(CheckpointError, match=message):
        train(run.load_config(), out=run.path)
    assert files_under(run.path) == before


MEMORY_LIMITED = (
    "import resource, sys; from pathlib import Path\n"
    "from torch import nn\n"
    "from harness.checkpoint import load_float_weights\n"
    "from harness.errors import HarnessError\n"
    "from harness.run.checkpoint_folder import newest_checkpoint\n"
    "from harness.run.folder import RunDir\n"
    "path, name = map(Path, sys.argv[1:])\n"
    "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    "if path.is_dir(): print(newest_checkpoint(RunDir(path)))\n"
    "else:\n"
    "    try: load_float_weights(nn.Linear(2, 2), path)\n"
    "    except HarnessError as error: print(error)\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)"
)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "ema.safetensors", "state.json", "manifest.json", "weights"]
)
def test_a_file_of_10_gb_is_refused_without_being_read(run: RunDir, tmp_path, name: str) -> None:
    path, _ = save(run)
    there = tmp_path / "weights" if name == "weights" else path / name
    with there.open("ab") as file:
        file.truncate(10 * 2**30)  # Takes no room on the disk.
    given = there if name == "weights" else run.path
    command = [sys.executable, "-c", MEMORY_LIMITED, str(given), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *message, grown = done.stdout.splitlines()
    assert int(grown) < 100_000  # In kB.
    if name == "weights":
        expected = f"weights {there} cannot be read: it has {10 * 2**30} bytes, the most is 1000000"
        assert message[0].startswith(expected)
    else:
        assert message == ["None"]
        assert str(10 * 2**30) in done.stderr


def test_a_network_beyond_all_memory_is_refused_before_it_is_made(tmp_path) -> None:
    """network.json names 2^24 classes, and all that follows from them."""
    run = RunDir(shutil.copytree(GOLDEN_RUN, tmp_path / "run"))
    there = run.load_network()
    last = dataclasses.replace(there.layers[-1], weight_count=64 * 2**24, macs=64 * 2**24)
    layers = (*there.layers[:-1], last)
    save_network(run.network_path, dataclasses.replace(there, num_classes=2**24, layers=layers))
    message = r"does not fit the network: fc.weight has shape \[10, 64\] there and \[16777216, 64\]"
    with pytest.raises(CheckpointError, match=message):
        load_supernet(run)
