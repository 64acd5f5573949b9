"""state.json: settings travel by name, and a state of format 1 is read by its digest."""

import json
import shutil
from pathlib import Path

import pytest

from harness.errors import CheckpointError
from harness.run.config import CONFIG_FORMAT, Config, load_config
from harness.run.manifest import write_manifest
from harness.run.state_file import check_configuration, load_state, save_state, written_format

STOPPED = Path(__file__).parents[2] / "golden/runs/format1/stopped"
OLD = "checkpoints/step_00000013"


def saved(folder, config):
    state = {
        "step": 3,
        "steps_per_epoch": 2,
        "task": {"candidates": []},
        "configuration": config.deciding_settings(),
        "data": None,
    }
    write_manifest(folder, {"state.json": save_state(folder, state)})
    return state


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(STOPPED, tmp_path / "old"))


def test_a_state_is_read_back(tmp_path):
    state = saved(tmp_path, Config(seed=5))
    assert load_state(tmp_path) == state
    assert written_format(tmp_path) == 3
    configuration = json.loads((tmp_path / "state.json").read_text())["configuration"]
    assert configuration["format"] == CONFIG_FORMAT.version
    assert (configuration["seed"], "keep_checkpoints" in configuration["train"]) == (5, False)


def test_settings_of_an_older_configuration_are_upgraded_in_a_state_too(tmp_path):
    state = saved(tmp_path, Config())
    values = json.loads((tmp_path / "state.json").read_text())
    values["configuration"]["format"] = 1
    del values["configuration"]["quant"]["keep_float"]
    (tmp_path / "state.json").write_text(json.dumps(values))
    write_manifest(tmp_path, {"state.json": (tmp_path / "state.json").read_bytes()})
    settings = {**state["configuration"], "quant.keep_float": []}
    assert load_state(tmp_path)["configuration"] == settings


def test_another_configuration_is_refused_by_what_differs(tmp_path):
    saved(tmp_path, Config())
    check_configuration(tmp_path, load_config(None, overrides=["train.keep_checkpoints=9"]))
    message = (
        rf"^checkpoint {tmp_path} was made with another configuration: train.epochs is 40 there "
        r"and 3 here; use or restore that one$"
    )
    with pytest.raises(CheckpointError, match=message):
        check_configuration(tmp_path, load_config(None, overrides=["train.epochs=3"]))


def test_an_old_state_gets_the_settings_of_its_run(old):
    state = load_state(old / OLD)
    assert (state["step"], state["steps_per_epoch"], state["task"]) == (13, 10, {})
    assert state["configuration"]["data.train_images"] == 500
    assert state["configuration"]["quant.keep_float"] == []
    assert "data.num_workers" not in state["configuration"]
    assert written_format(old / OLD) == 1


def test_an_old_state_beside_another_configuration_is_refused(old):
    path = old / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("num_workers: 0", "num_workers: 1"))  # The digest was of it too.
    message = rf"step_00000013 was made with another configuration than {path}; restore that file$"
    with pytest.raises(CheckpointError, match=message):
        load_state(old / OLD)
    (old / "config.format1.yaml").write_text(text)
    assert load_state(old / OLD)["step"] == 13
    (old / "config.format1.yaml").unlink()
    path.unlink()
    message = rf"is of format 1, which needs the .* of its run, and {path} is not there; restore"
    with pytest.raises(CheckpointError, match=message):
        load_state(old / OLD)
