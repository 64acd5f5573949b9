"""Where a run goes on from is decided before anything is written."""

import shutil
from pathlib import Path

import pytest

from harness.errors import CheckpointError, RunError
from harness.run.config import Config, load_config
from harness.run.folder import RunDir
from harness.training.resume import Start, decide_start

STOPPED = Path(__file__).parents[2] / "golden/runs/format1/stopped"


@pytest.fixture
def stopped(tmp_path):
    return RunDir(Path(shutil.copytree(STOPPED, tmp_path / "stopped")))


@pytest.fixture
def config():
    """As the user gave it: keys that came later are left to their defaults."""
    return load_config(STOPPED / "config.yaml")


def test_a_new_folder_begins(tmp_path):
    run = RunDir(tmp_path / "new")
    assert decide_start(run, Config(), "auto") == Start(config=Config(), checkpoint=None)
    assert not run.path.exists()


@pytest.mark.parametrize("resume", ["auto", "given"])
def test_an_old_run_goes_on_as_it_was_begun(stopped, config, resume):
    checkpoint = stopped.checkpoints / "step_00000013"
    start = decide_start(stopped, config, str(checkpoint) if resume == "given" else resume)
    assert start.checkpoint == checkpoint
    assert (config.quant.keep_float, start.config.quant.keep_float) == (("Conv1d",), ())


def test_an_old_checkpoint_begins_a_new_folder_as_it_was(stopped, config, tmp_path):
    checkpoint = stopped.checkpoints / "step_00000013"
    start = decide_start(RunDir(tmp_path / "new"), config, str(checkpoint))
    assert (start.checkpoint, start.config.quant.keep_float) == (checkpoint, ())


def test_refusals_name_what_differs(stopped, config):
    asked = load_config(STOPPED / "config.yaml", overrides=["quant.keep_float=[Conv1d]", "seed=2"])
    message = (
        rf"^{stopped.path} holds a run of another configuration: seed is 0 there and 2 here, "
        r"quant.keep_float is \[\] there and \['Conv1d'\] here; give another --out or remove it$"
    )
    with pytest.raises(RunError, match=message):
        decide_start(stopped, asked, "auto")
    with pytest.raises(RunError, match=r"holds a run and --resume is never; give another --out or"):
        decide_start(stopped, config, "never")


def test_a_checkpoint_that_is_none_is_refused(stopped, config):
    message = r"^checkpoint gone is not a folder; give --resume a runs/NAME/checkpoints/step_… fold"
    with pytest.raises(CheckpointError, match=message):
        decide_start(stopped, config, "gone")


def test_metrics_of_a_newer_version_are_refused_on_every_rank(stopped, config):
    stopped.metrics_path.write_text('{"format": 3}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl has format 3, this version reads up to 2"):
        decide_start(stopped, config, "auto")
