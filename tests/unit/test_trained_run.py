"""A loaded run: its weights are fixed when it is loaded."""

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import trained_run
from harness.accuracy import count_wrong_by_policy
from harness.errors import CheckpointError, HarnessError, RunError
from harness.run import checkpoint_folder
from harness.run.checkpoint_facts import load_candidates
from harness.run.checkpoint_folder import remove_old
from harness.run.folder import RunDir
from harness.run.network_file import save_network
from harness.run.state_file import check_configuration, load_state
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

    digest = trained_run.weights_digest
    monkeypatch.setattr("harness.trained_run.weights_digest", save_meanwhile)
    assert load_run(run).weights_digest == manifest_digest(run.path / CHECKPOINT)


def with_step(checkpoint, step):
    """Copy a checkpoint as that of another step, with a manifest that fits."""
    copy = shutil.copytree(checkpoint, checkpoint.with_name(f"step_{step:08d}"))
    content = json.dumps({**json.loads((copy / "state.json").read_text()), "step": step}).encode()
    (copy / "state.json").write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["state.json"] = {"bytes": len(content), "sha256": digest}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


READS = {
    "checked": (checkpoint_folder, "read_checked"),
    "digest": (trained_run, "weights_digest"),
    "tensors": (trained_run, "load_supernet"),
    "state": (trained_run, "load_state"),
}


@pytest.mark.parametrize("moment", READS)
def test_a_later_checkpoint_is_taken_when_training_removes_the_one_that_is_read(
    run, monkeypatch, caplog, moment
):
    """At any moment between the choice and the last look into it."""
    first = run.path / CHECKPOINT
    module, name = READS[moment]
    read = getattr(module, name)
    is_removed = []

    def removed_before(*arguments, **named):
        if not is_removed:
            is_removed.append(True)  # First, for removing it reads it as well.
            remove_old(run, keep=1, newest=with_step(first, 30))
        return read(*arguments, **named)

    logging.getLogger("harness").propagate = True
    monkeypatch.setattr(module, name, removed_before)
    trained = load_run(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step_00000030"]
    assert trained.weights_digest == manifest_digest(run.checkpoints / "step_00000030")
    assert "passed over" not in caplog.text


def test_run_without_a_checkpoint_is_refused(run):
    shutil.rmtree(run.path / CHECKPOINT)
    with pytest.raises(CheckpointError, match="has no checkpoint; train it first"):
        load_run(run)


def test_batches_are_of_the_first_images_of_a_split(run):
    trained = load_run(run)
    whole, part = trained.batches("search"), trained.batches("search", limit=30)
    assert (whole.num_images, part.num_images) == (len(trained.splits.search), 30)


def test_proposals_are_scored_by_the_setting(run):
    trained = load_run(run)
    largest, smallest = trained.candidates.largest, trained.candidates.smallest
    # A run of this age was searched by errors, and still is.
    assert trained.config.search.score == "errors"
    wrong = count_wrong_by_policy(
        trained.supernet,
        [largest, smallest],
        trained.proposal_batches(),
        recalibration=trained.batches("train", limit=trained.config.search.recalibrate_images),
    )
    scores = trained.score_proposals([largest, smallest])
    assert scores.parts.shape == (2, 32)
    assert scores.parts.sum(axis=1).tolist() == wrong
    assert scores.num_wrong.tolist() == wrong
    search = trained.config.search.model_copy(update={"score": "kl"})
    by_kl = replace(trained, config=trained.config.model_copy(update={"search": search}))
    amounts = []
    scores = by_kl.score_proposals([largest, smallest], on_progress=amounts.append)
    assert not scores.parts[0].any()
    assert scores.parts[1].all()
    assert scores.num_wrong.tolist() == wrong
    assert sum(amounts) == pytest.approx(2)


def test_accuracy_is_the_share_of_right_images(run):
    trained = load_run(run)
    policies = [trained.candidates.largest, trained.candidates.smallest]
    right = trained.right_images(policies, split="test")
    assert right.shape == (2, len(trained.splits.test))
    assert trained.accuracy(policies, split="test") == pytest.approx(right.mean(axis=1))
    assert right[0].mean() != right[1].mean()


def test_run_may_take_what_its_network_may(run):
    trained = load_run(run)
    assert trained.candidates == run.load_network().candidates


@pytest.mark.parametrize(
    ("key", "value"),
    [("macs", 5), ("weight_count", 7), ("kind", "linear"), ("is_depthwise", True), ("name", "x")],
)
def test_a_network_that_is_not_that_of_the_model_is_refused(run, key, value):
    """Whoever altered the file also made fingerprint and digest anew."""
    network = run.load_network()
    layers = (network.layers[0], replace(network.layers[1], **{key: value}), *network.layers[2:])
    save_network(run.network_path, replace(network, layers=layers))
    message = r"^network .*network\.json (gives \S+ \S+ \S+, resnet8 has|lists 10 layers that are)"
    with pytest.raises(RunError, match=message):
        load_run(run)


@pytest.mark.parametrize(
    "change", [{"model_name": "resnet20"}, {"num_classes": 11}, {"input_size": (1, 9, 8)}]
)
def test_a_network_of_another_model_or_images_is_refused(run, change):
    save_network(run.network_path, replace(run.load_network(), **change))
    with pytest.raises(HarnessError) as refusal:
        load_run(run)
    assert "\n" not in str(refusal.value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_wrong_value_of_a_state_is_refused_or_harmless(tmp_path_factory, data):
    """Whoever altered it also made the manifest anew."""
    folder = tmp_path_factory.mktemp("state") / "run"
    run = RunDir(shutil.copytree(GOLDEN_RUN.parents[1] / "format2" / "finished", folder))
    state_path = run.path / CHECKPOINT / "state.json"
    values = json.loads(state_path.read_text())
    target = values
    while data.draw(st.booleans(), label="deeper"):
        inner = [value for value in target.values() if isinstance(value, dict)]
        if not inner:
            break
        target = data.draw(st.sampled_from(inner))
    key = data.draw(st.sampled_from(sorted(target)))
    target[key] = data.draw(
        st.one_of(
            st.none(), st.integers(-5, 2**70), st.text(max_size=3), st.just([[1]]), st.just({}),
            st.just([{"weight": 5, "act": None}]), st.just(float("inf")), st.booleans(),
        )
    )  # fmt: skip
    state_path.write_text(json.dumps(values))
    manifest_path = run.path / CHECKPOINT / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    content = state_path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["state.json"] = {"bytes": len(content), "sha256": digest}
    manifest_path.write_text(json.dumps(manifest))
    try:
        state = load_state(run.path / CHECKPOINT)
        check_configuration(run.path / CHECKPOINT, run.load_config())
        load_candidates(run.path / CHECKPOINT, run.load_network())
    except HarnessError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert state["step"] >= 0
