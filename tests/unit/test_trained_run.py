"""A loaded run: its weights are fixed when it is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from harness import checkpoint
from harness.errors import CheckpointError
from harness.run.folder import RunDir
from harness.trained_run import load_run

GOLDEN_RUN = Path(__file__).parents[1] / "golden/runs/format1/finished"
CHECKPOINT = "checkpoints/step_00000020"


@pytest.fixture
def run(tmp_path):
    return RunDir(shutil.copytree(GOLDEN_RUN, tmp_path / "run"))


def manifest_digest(folder):
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return files["ema.safetensors"]["sha256"][:16]


def test_digest_is_that_of_the_loaded_weights_whatever_is_saved_later(run):
    trained = load_run(run)
    newer = shutil.copytree(run.path / CHECKPOINT, run.checkpoints / "step_00000021")
    (newer / "ema.safetensors").write_bytes(b"other weights")
    assert trained.weights_digest == manifest_digest(run.path / CHECKPOINT)


def test_digest_belongs_to_the_loaded_weights_though_newer_ones_come_in_between(run, monkeypatch):
    def save_meanwhile(found):
        shutil.copytree(found, found.with_name("step_00000099"))
        (found.with_name("step_00000099") / "ema.safetensors").write_bytes(b"other weights")
        return digest(found)

    digest = checkpoint.weights_digest
    monkeypatch.setattr("harness.trained_run.weights_digest", save_meanwhile)
    assert load_run(run).weights_digest == manifest_digest(run.path / CHECKPOINT)


def test_run_without_a_checkpoint_is_refused(run):
    shutil.rmtree(run.path / CHECKPOINT)
    with pytest.raises(CheckpointError, match="has no checkpoint; train it first"):
        load_run(run)


def test_batches_are_of_the_first_images_of_a_split(run):
    trained = load_run(run)
    whole, part = trained.batches("search"), trained.batches("search", limit=30)
    assert (whole.num_images, part.num_images) == (len(trained.splits.search), 30)


def test_run_may_take_what_its_network_may(run):
    trained = load_run(run)
    assert trained.candidates == run.load_network().candidates
