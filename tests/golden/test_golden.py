"""The program still does what it did at d939c65: losses, weights, accuracies and search traces.

Since then gradients stop exactly at the ends of the clip range; both losses are kept.

Old runs are evaluated, resumed and searched for ever.
"""

import json
import re
import shutil

import numpy as np
import pytest
from golden_files import (
    CE_TOLERANCE,
    FINISHED,
    KL_TOLERANCE,
    LAST_CHECKPOINT_FORMAT,
    LAST_OF_COUNTS,
    LAST_WITHOUT_EXACT_CLIP_ENDS,
    LAST_WITHOUT_TERMS,
    RUNS,
    TERMS_AND_SCHEDULER,
    golden,
    is_recording_machine,
    made_up_errors,
    recorded_overrides,
    weights_digest,
)
from safetensors.torch import load_file

from harness.errors import RunError
from harness.models import create_model
from harness.problem.budget import target_budget
from harness.problem.cost import bitops
from harness.problem.policy import Policy
from harness.quant.convert import describe_network
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.config import ModelConfig, QuantConfig, load_config
from harness.run.folder import RunDir
from harness.run.policy_file import load_policy
from harness.run.state_file import check_configuration, written_format
from harness.runtime import create_accelerator
from harness.search.driver import search
from harness.search.engine import STRATEGIES, EngineOptions, run_search
from harness.search.engine_form import SearchProblem
from harness.search.request import SearchOptions
from harness.trained_run import TrainedRun, load_run
from harness.training import loop
from harness.training.assemble import assemble
from harness.training.resume import decide_start
from harness.training.trainer import train

COUNTED = [version for version in sorted(RUNS) if version <= LAST_OF_COUNTS]
WITH_TERMS = [version for version in sorted(RUNS) if version > LAST_WITHOUT_TERMS]
SCORED = [version for version in sorted(RUNS) if version > LAST_OF_COUNTS]
EMA = "checkpoints/step_00000020/ema.safetensors"


@pytest.fixture
def tiny(monkeypatch):
    """The configuration of the golden runs, with a line of metrics at every step."""
    monkeypatch.setattr(loop, "LOG_EVERY_STEPS", 1)
    return recorded_overrides()


@pytest.fixture(params=sorted(RUNS))
def written_in(request):
    """Each format of the configuration that a golden run was written in."""
    return request.param


@pytest.fixture
def finished(tmp_path, written_in):
    return RunDir(shutil.copytree(RUNS[written_in] / "finished", tmp_path / "finished"))


@pytest.fixture
def stopped(tmp_path, written_in):
    return RunDir(shutil.copytree(RUNS[written_in] / "stopped", tmp_path / "stopped"))


def losses(run, names):
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    rows = [row for row in rows if names[0] in row]
    return {name: [row[name] for row in rows] for name in ("step", *names)}


def journalled(folder, values):
    """Return what a journal holds of each policy; `values` is the key of it in a line."""
    lines = (folder / "journal.jsonl").read_text().splitlines()[1:]
    rows = [json.loads(line) for line in lines]
    pairs = [pair for row in rows for pair in zip(row["policies"], row[values], strict=True)]
    return {tuple(map(tuple, bits)): value for bits, value in pairs}


def counted(folder):
    """Return wrong images by policy, as an older version left them."""
    return journalled(folder, "errors")


def evaluated(folder):
    """Return the policies that searches of a folder had evaluated."""
    return journalled(folder, "scores").keys()


def nothing_is_scored(*_, **__):
    raise AssertionError("what was scored before is scored again")


def check_losses(found, rows, names):
    assert found["step"] == [row["step"] for row in rows] == list(range(1, 21))
    for name, new_name in names.items():
        expected = [row[name] for row in rows]
        if is_recording_machine():
            assert found[new_name] == expected
        else:
            tolerance = KL_TOLERANCE if name.endswith("kl") else CE_TOLERANCE
            np.testing.assert_allclose(found[new_name], expected, rtol=tolerance)


def check_weights(run, kind):
    """Compare the averaged weights of a run that went `through`, or was `resumed` at step 13."""
    found = load_file(run.path / EMA)
    renamed = re.compile(r"(_quantizer)\.step$")
    expected = {renamed.sub(r"\1.step_size", k): v for k, v in load_file(FINISHED / EMA).items()}
    assert found.keys() == expected.keys()
    if is_recording_machine():
        digests = golden("exact_clip_ends.json")["weights"]
        assert weights_digest(found) == digests[kind]
    else:
        assert all(found[name].shape == expected[name].shape for name in expected)


def end_of(written_in):
    """Return which weights a stopped run ends at, by the format that it was written in."""
    return "resumed" if written_in <= LAST_WITHOUT_EXACT_CLIP_ENDS else "through"


def test_supernet_learns_as_it_did(tiny, tmp_path):
    run = train(load_config(None, overrides=tiny), out=tmp_path / "run")
    names = {name: name for name in ("max_pass_ce", "random_ce", "random_kl")}
    found = losses(run, list(names.values()))
    check_losses(found, golden("exact_clip_ends.json")["supernet"], names)
    check_weights(run, "through")


def test_exact_clip_ends_changed_little_and_nothing_before_step_8():
    before = golden("loss_curves.json")["supernet"]
    now = golden("exact_clip_ends.json")["supernet"]
    assert [{name: row[name] for name in now[0]} for row in before[:7]] == now[:7]
    assert before[7] != now[7]
    for old, new in zip(before, now, strict=True):
        assert new["max_pass_ce"] == pytest.approx(old["max_pass_ce"], rel=0.02)
        assert new["random_ce"] == pytest.approx(old["random_ce"], rel=0.02)


def test_float_network_learns_as_it_did(tiny, tmp_path):
    config = load_config(None, overrides=[*tiny, "train.mode=float"])
    run = train(config, out=tmp_path / "run")
    check_losses(losses(run, ["ce"]), golden("loss_curves.json")["float"], {"ce": "ce"})


def test_old_run_stopped_in_mid_epoch_goes_on_to_the_same_end(tiny, stopped, written_in):
    run = train(load_config(None, overrides=tiny), out=stopped.path)
    assert run.is_finished
    steps = losses(run, ["max_pass_ce"])["step"]
    assert steps == list(range(1, 21))
    check_weights(run, end_of(written_in))


def test_old_run_goes_on_under_other_settings_that_decide_no_weights(tiny, stopped, written_in):
    others = ["data.num_workers=2", "train.keep_checkpoints=5", "train.validate_every_epochs=9"]
    config = load_config(None, overrides=[*tiny, *others])
    start = decide_start(stopped, config, "auto")
    # As a kill leaves it that comes before the first new checkpoint: the configuration is new.
    assemble(start.config, stopped, create_accelerator(), checkpoint=start.checkpoint)
    assert stopped.load_config().data.num_workers == 2
    run = train(config, out=stopped.path)
    check_weights(run, end_of(written_in))
    assert newest_checkpoint(run) != start.checkpoint
    last = max(RUNS)
    for checkpoint, version in ((start.checkpoint, written_in), (newest_checkpoint(run), last)):
        assert written_format(checkpoint) == min(version, LAST_CHECKPOINT_FORMAT)
        check_configuration(checkpoint, run.load_config())
    # As it was before there was such a key, in a run from that time.
    assert run.load_config().quant.keep_float == (() if written_in == 1 else ("Conv1d",))


@pytest.mark.parametrize("written_in", WITH_TERMS, indirect=True)
def test_old_run_goes_on_with_what_its_scheduler_had_frozen(tiny, tmp_path, written_in):
    old = RUNS[written_in] / "with_terms"
    run = RunDir(shutil.copytree(old, tmp_path / "with_terms"))
    config = load_config(None, overrides=[*tiny, *TERMS_AND_SCHEDULER])
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    (act,) = [row for row in rows if "layers_frozen" in row]
    frozen = {key.partition("/")[2] for key in act if key.startswith("frozen_bits/")}
    start = decide_start(run, config, "auto")
    task = assemble(start.config, run, create_accelerator(), checkpoint=start.checkpoint).state.task
    full = task.model.network.candidates.layers
    lost = {
        layer.name
        for layer, all_bits, bits in zip(
            task.model.network.layers, full, task.candidates.layers, strict=True
        )
        if bits.weight != all_bits.weight
    }
    assert lost == frozen != set()
    assert train(config, out=run.path).is_finished
    names = ["max_pass_ce", "random_distortion", "random_two_bit_decay"]
    assert losses(run, names)["step"] == list(range(1, 21))


def test_old_rows_of_metrics_count_epochs_as_new_ones_do(tiny, stopped):
    run = train(load_config(None, overrides=tiny), out=stopped.path)
    head, *rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    epochs = [row["epoch"] for row in rows if "max_pass_ce" in row]
    assert (head, epochs) == ({"format": 2}, [1] * 10 + [2] * 10)
    old = [json.loads(line) for line in (FINISHED / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == len(old)


def test_old_run_of_another_configuration_is_refused_by_what_differs(tiny, stopped):
    config = load_config(None, overrides=[*tiny, "seed=7", "train.momentum=0.5"])
    message = r"seed is 0 there and 7 here, train.momentum is 0.9 there and 0.5 here; give another"
    with pytest.raises(RunError, match=message):
        train(config, out=stopped.path)


def test_old_finished_run_takes_other_settings_of_evaluation(tiny, finished):
    before = (finished.path / EMA).read_bytes()
    train(load_config(None, overrides=[*tiny, "eval.batch_size=77"]), out=finished.path)
    assert (finished.path / EMA).read_bytes() == before
    assert load_run(finished).config.eval.batch_size == 77


def test_old_run_is_evaluated_as_it_was(finished, written_in):
    trained = load_run(finished)
    network = trained.supernet.network
    is_old = written_in <= LAST_WITHOUT_EXACT_CLIP_ENDS
    key = "accuracy" if is_old else "accuracy_since_exact_clip_ends"
    expected = golden("evaluation.json")[key]
    if written_in > LAST_OF_COUNTS:  # Its search went by another score, and found another policy.
        found = json.loads((finished.path / "search/greedy_30pct/policy.json").read_text())
        expected = {**expected, "found": found["accuracy"]["test"]}
    policies = [
        load_policy(finished.path / "search/greedy_30pct/policy.json", network)
        if label == "found"
        else network.candidates.uniform(weight_bits=int(label[0]), act_bits=int(label[0]))
        for label in expected
    ]
    found = trained.accuracy(policies, split="test")
    # On other kernels an image or two of the 200 may change sides.
    np.testing.assert_allclose(
        found, list(expected.values()), atol=1e-9 if is_recording_machine() else 0.03
    )


@pytest.mark.parametrize("written_in", COUNTED, indirect=True)
def test_old_search_goes_on_from_its_counts_and_takes_the_same_steps(finished):
    folder = finished.path / "search/greedy_30pct"
    before = json.loads((folder / "policy.json").read_text())
    journal = (folder / "journal.jsonl").read_bytes()
    counts = counted(folder)
    options = SearchOptions(strategy="greedy", evaluations=60, resume=True)
    (outcome,) = search(finished, ["30%"], options=options)
    after = json.loads((folder / "policy.json").read_text())
    assert after["provenance"]["score"] == "errors"
    assert after["provenance"]["trace"] == before["provenance"]["trace"]
    # What the greedy search left over of its evaluations is spent now, and nothing counted again.
    assert (
        outcome.search.evaluations == 60 == len(counts) + len(evaluated(finished.path / "search"))
    )
    assert evaluated(finished.path / "search").isdisjoint(counts)
    assert (folder / "journal.jsonl").read_bytes() == journal
    if outcome.best.policy.bits in counts:
        assert outcome.score == counts[outcome.best.policy.bits] / 100
    network = finished.load_network()
    frontier = json.loads((folder / "frontier.json").read_text())["policies"]
    for row in frontier:  # Old counts stand beside new scores.
        bits = tuple(map(tuple, row["bits"]))
        assert row["bitops"] == bitops(network, Policy(bits))
        assert bits not in counts or row["score"] == counts[bits] / 100
    if is_recording_machine():
        best, recorded = after["accuracy"]["search"], before["accuracy"]["search"]
        assert best >= recorded
        if best == recorded:
            assert after["bitops"] <= before["bitops"]


@pytest.mark.parametrize("written_in", COUNTED, indirect=True)
def test_old_counts_are_no_scores_of_another_kind(tiny, finished):
    train(load_config(None, overrides=[*tiny, "search.score=kl"]), out=finished.path)
    counts = counted(finished.path / "search/greedy_30pct")
    options = SearchOptions(strategy="greedy", evaluations=30, resume=True)
    (outcome,) = search(finished, ["30%"], options=options)
    assert len(evaluated(finished.path / "search")) == outcome.search.evaluations == 30
    assert not evaluated(finished.path / "search").isdisjoint(counts)


@pytest.mark.parametrize("written_in", SCORED, indirect=True)
def test_old_search_goes_on_from_its_scores_and_finds_the_same(finished, monkeypatch):
    journal, policy_path = (
        finished.path / "search" / name for name in ("journal.jsonl", "greedy_30pct/policy.json")
    )
    recorded, before = journal.read_bytes(), json.loads(policy_path.read_text())
    monkeypatch.setattr(TrainedRun, "score_proposals", nothing_is_scored)
    options = SearchOptions(strategy="greedy", evaluations=60, resume=True)
    search(finished, ["30%"], options=options)
    assert journal.read_bytes() == recorded
    after = json.loads(policy_path.read_text())
    assert after["provenance"]["score"] == "kl"
    assert after["provenance"]["trace"] == before["provenance"]["trace"]
    if is_recording_machine():
        assert after["layers"] == before["layers"]
        assert after["accuracy"] == before["accuracy"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_old_run_is_searched_under_another_budget(finished, strategy):
    options = SearchOptions(strategy=strategy, evaluations=20)
    (outcome,) = search(finished, ["40%"], options=options)
    network = finished.load_network()
    assert outcome.budget.allows(network, outcome.best.policy)
    assert outcome.search.evaluations <= 20
    found = load_policy(finished.path / f"search/{strategy}_40pct/policy.json", network)
    assert found == outcome.best.policy


@pytest.mark.parametrize("name", golden("search_traces.json")["traces"])
def test_greedy_search_takes_the_steps_it_took(name):
    model, share, limit = name.split()
    size = {"resnet8": (1, 8, 8), "resnet20": (3, 32, 32)}[model]
    float_model = create_model(
        ModelConfig(name=model), num_classes=10, in_channels=size[0], device="meta"
    )
    network = describe_network(
        float_model, name=model, input_size=size, num_classes=10, config=QuantConfig()
    )
    asked = []

    def evaluate(policies):
        asked.extend(policies.tolist())
        return made_up_errors(policies)

    budget = target_budget(share, network)
    found = run_search(
        SearchProblem(network=network, candidates=network.candidates, budgets=[budget]),
        evaluate,
        options=EngineOptions(
            strategy="greedy", evaluations=None if limit == "None" else int(limit)
        ),
    )
    expected = golden("search_traces.json")["traces"][name]
    assert json.loads(json.dumps(found.trace)) == expected["trace"]
    # The same policies, then under a limit others until it is spent.
    first, others = asked[: expected["evaluations"]], asked[expected["evaluations"] :]
    (best,) = found.shortlists[0]
    assert found.num_evaluations == len(asked)
    assert len(asked) == (expected["evaluations"] if limit == "None" else int(limit))
    assert (expected["policy"] in first, expected["policy"] in others) == (True, False)
    within = [bits for bits in first if budget.allows(network, Policy(bits))]
    assert min(made_up_errors(within)) == expected["error"]
    if min(made_up_errors([*within, *others])) == expected["error"]:
        assert [list(pair) for pair in best.policy.bits] == expected["policy"]
    assert best.score == min(made_up_errors([best.policy.bits, expected["policy"]]))
