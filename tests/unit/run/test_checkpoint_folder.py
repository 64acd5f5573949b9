"""Which checkpoints count, which is taken, and which are removed."""

import json
import logging
import shutil

import pytest

from harness.errors import CheckpointError
from harness.run.checkpoint_folder import (
    checkpoint_path,
    damage_of,
    existing_checkpoint,
    is_saved,
    named_checkpoints,
    newest_checkpoint,
    put_aside_damaged,
    remove_leftovers,
    remove_old,
)
from harness.run.folder import RunDir
from harness.run.manifest import write_manifest
from harness.run.state_file import save_state


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


def write(run, step):
    folder = checkpoint_path(run, step)
    folder.mkdir(parents=True)
    state = {"step": step, "steps_per_epoch": 2, "task": {}, "configuration": {}, "data": None}
    contents = {"ema.safetensors": b"weights", "state.json": save_state(folder, state)}
    (folder / "ema.safetensors").write_bytes(contents["ema.safetensors"])
    write_manifest(folder, contents)
    return folder


def names(run):
    return sorted(path.name for path in run.checkpoints.iterdir())


DAMAGES = {
    "missing file": lambda folder: (folder / "ema.safetensors").unlink(),
    "wrong size": lambda folder: (folder / "ema.safetensors").write_bytes(b"weight"),
    "altered byte": lambda folder: (folder / "ema.safetensors").write_bytes(b"weighty"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "manifest is no JSON": lambda folder: (folder / "manifest.json").write_text("{"),
    "manifest lists nothing": lambda folder: (folder / "manifest.json").write_text('{"format":1}'),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_falls_back_to_the_one_before_with_a_word(run, damage, caplog):
    before, newest = write(run, 10), write(run, 20)
    DAMAGES[damage](newest)
    logging.getLogger("harness").propagate = True
    assert newest_checkpoint(run) == existing_checkpoint(run) == before
    assert f"{newest} is passed over, the one before is used: " in caplog.text
    put_aside_damaged(run)
    assert names(run) == ["step_00000010", "step_00000020.damaged"]
    DAMAGES[damage](write(run, 20))
    put_aside_damaged(run)
    assert names(run)[-1] == "step_00000020.damaged2"


def test_without_a_whole_one_none_is_taken(run):
    with pytest.raises(CheckpointError, match="has no checkpoint; train it first"):
        existing_checkpoint(run)
    DAMAGES["no state"](write(run, 10))
    assert newest_checkpoint(run) is None
    with pytest.raises(CheckpointError, match="has no whole checkpoint, all are damaged; restore"):
        existing_checkpoint(run)


def test_a_checkpoint_of_a_newer_version_is_not_damaged(run):
    newest = write(run, 20)
    manifest = newest / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 9}))
    assert damage_of(newest) is None
    assert newest_checkpoint(run) == newest


def strangers(run, newest):
    """Put beside the checkpoints what is none, as people and kills leave it."""
    for name in (
        "step_best",
        "step_00000020.bak",
        "step_20",
        "old_step_00000001",
        "step_000000201",
    ):
        shutil.copytree(newest, run.checkpoints / name)
    shutil.copytree(newest, run.checkpoints / "step_99999999")  # Its state is of another step.
    (run.checkpoints / "step_00000077").write_text("a file")
    (run.checkpoints / "step_00000088").symlink_to(newest)
    return set(names(run))


def test_only_what_the_program_wrote_counts(run):
    newest = write(run, 20)
    strangers(run, newest)
    assert newest_checkpoint(run) == newest
    assert [path.name for path in named_checkpoints(run)] == ["step_99999999", "step_00000020"]


def test_old_ones_are_removed_and_nothing_else(run):
    for step in (5, 10, 15, 20):
        newest = write(run, step)
    before = strangers(run, newest)
    remove_old(run, keep=2, newest=newest)
    assert before - set(names(run)) == {"step_00000005", "step_00000010"}
    remove_old(run, keep=1, newest=newest)
    assert before - set(names(run)) == {"step_00000005", "step_00000010", "step_00000015"}
    assert newest_checkpoint(run) == newest


def test_a_damaged_one_is_never_removed_in_silence(run):
    damaged, newest = write(run, 5), write(run, 10)
    DAMAGES["altered byte"](damaged)
    remove_old(run, keep=1, newest=newest)
    assert damaged.is_dir()


def test_a_kill_between_renaming_and_removing_leaves_nothing_that_counts(run, monkeypatch):
    write(run, 5)
    newest = write(run, 10)

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_old(run, keep=1, newest=newest)
    assert [path.name for path in named_checkpoints(run)] == ["step_00000010"]
    assert ".step_00000005.removed" in names(run)
    (run.checkpoints / ".step_00000009.partial").mkdir()
    (run.checkpoints / ".step_mine").mkdir()
    remove_leftovers(run)
    assert names(run) == [".step_mine", "step_00000010"]


def test_a_copy_under_another_step_stays_where_it_is(run):
    newest = write(run, 20)
    before = strangers(run, newest)
    put_aside_damaged(run)
    assert set(names(run)) == before


@pytest.mark.parametrize("what", ["copy", "link", "file", "damaged"])
def test_what_has_the_name_of_a_step_to_be_saved_is_kept_under_another(run, what, tmp_path):
    before = write(run, 10)
    place = checkpoint_path(run, 20)
    if what == "copy":
        shutil.copytree(before, place)
    elif what == "link":
        place.symlink_to(write(RunDir(tmp_path / "other"), 20))
    elif what == "file":
        place.write_text("mine")
    else:
        DAMAGES["altered byte"](write(run, 20))
    assert not is_saved(place)
    assert names(run) == ["step_00000010", "step_00000020.other"]
    assert is_saved(write(run, 20))
    assert is_saved(before)
    assert names(run) == ["step_00000010", "step_00000020", "step_00000020.other"]


def test_leftovers_are_folders_of_the_program(run, tmp_path):
    write(run, 10)
    (tmp_path / "mine").mkdir()
    (run.checkpoints / ".step_00000004.removed").symlink_to(tmp_path / "mine")
    (run.checkpoints / ".step_00000005.partial").write_text("mine")
    remove_leftovers(run)
    assert names(run) == [".step_00000004.removed", ".step_00000005.partial", "step_00000010"]
