"""A run under the bit-width scheduler: what it says, how it goes on, and what is searched in it."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from folder_contents import files_under
from journey_runs import quick_config, repeating_metrics, signal_in_step

from harness.errors import RunError, Stopped
from harness.problem.cost import bitops
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.folder import RunDir
from harness.run.policy_file import load_policy, resolve_policy
from harness.run.state_file import load_state
from harness.search.driver import search
from harness.search.from_archive import answer
from harness.search.request import SearchOptions
from harness.trained_run import load_run
from harness.training.trainer import train

SCHEDULED = ("train.bit_scheduler=true", "train.epochs=3", "train.validate_every_epochs=1")
"""Three epochs of 8 steps; the scheduler acts after the first and the second."""
FEW = SearchOptions(evaluations=40)
ALL = SearchOptions(evaluations=40, all_candidates=True)


def scheduled_config():
    return quick_config(*SCHEDULED)


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory):
    return train(scheduled_config(), out=tmp_path_factory.mktemp("scheduled") / "run")


@pytest.fixture
def copied(scheduled, tmp_path):
    """A copy, so that each test has its own search folder."""
    return RunDir(Path(shutil.copytree(scheduled.path, tmp_path / "run")))


@pytest.fixture(scope="module")
def searched(scheduled, tmp_path_factory):
    """A run with a folder of a search of what is left, and one of a search of all candidates."""
    path = tmp_path_factory.mktemp("searched") / "run"
    run = RunDir(Path(shutil.copytree(scheduled.path, path)))
    search(run, ["40%"], out=path / "left", options=FEW)
    search(run, ["40%"], out=path / "all", options=ALL)
    return run


def weights_of(run):
    checkpoint = newest_checkpoint(run)
    names = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")
    return {name: (checkpoint / name).read_bytes() for name in names}


def acts_of(run):
    lines = run.metrics_path.read_text().splitlines()[1:]
    return [row for row in map(json.loads, lines) if "freezing_ratio" in row]


def candidates_of(run):
    return load_state(newest_checkpoint(run))["task"]["candidates"]


def weight_bits(lines):
    """Return the weight bits that the policies of a journal's lines have, by layer."""
    policies = [policy for line in lines for policy in json.loads(line).get("policies", [])]
    return [{policy[index][0] for policy in policies} for index in range(len(policies[0]))]


def test_metrics_say_what_is_frozen(scheduled):
    first, second = acts_of(scheduled)
    assert [(row["step"], row["epoch"]) for row in (first, second)] == [(8, 1), (16, 2)]
    layers = scheduled.load_network().layers
    free = [layer.name for layer in layers if not layer.is_pinned]
    for row, ratio in ((first, 0.275), (second, 0.2)):
        assert row["freezing_ratio"] == pytest.approx(ratio)
        frozen = {name for name in free if f"frozen_bits/{name}" in row}
        assert row["layers_frozen"] == len(frozen) == int(ratio * len(free)) > 0
        turbulences = {name: row[f"turbulence/{name}"] for name in free}
        least = min(turbulences[name] for name in frozen)
        assert all(turbulences[name] <= least for name in free if name not in frozen)
        assert all(row[f"frozen_bits/{name}"] == 2 for name in frozen)
    # What the last act says is what the run ends with.
    left = {row["name"]: row["weight"] for row in candidates_of(scheduled)}
    assert {name for name in free if left[name] == [6, 5, 4, 3]} == frozen
    assert all(left[name] == [6, 5, 4, 3, 2] for name in free if name not in frozen)
    assert all(row["act"][-1] in (2, 8) for row in candidates_of(scheduled))


@pytest.mark.parametrize("stop_at", [5, 8, 12, 16])
def test_a_run_stopped_before_or_after_an_act_goes_on_to_the_same_bits(
    scheduled, tmp_path, stop_at
):
    out = tmp_path / "stopped"
    with signal_in_step(signal.SIGUSR1, stop_at), pytest.raises(Stopped):
        train(scheduled_config(), out=out)
    num_frozen = sum(row["weight"] == [6, 5, 4, 3] for row in candidates_of(RunDir(out)))
    assert bool(num_frozen) == (stop_at >= 8)
    again = train(scheduled_config(), out=out)
    assert weights_of(again) == weights_of(scheduled)
    assert repeating_metrics(again) == repeating_metrics(scheduled)


def test_the_scheduler_changes_what_is_trained(scheduled, tmp_path):
    plain = train(quick_config(*SCHEDULED[1:], "train.bit_scheduler=false"), out=tmp_path / "plain")
    assert weights_of(plain)["model.safetensors"] != weights_of(scheduled)["model.safetensors"]
    assert acts_of(plain) == []


def test_a_search_proposes_no_frozen_bits_unless_it_is_asked_to(searched):
    trained = load_run(searched)
    frozen = [
        i for i, layer in enumerate(trained.candidates.layers) if layer.weight == (6, 5, 4, 3)
    ]
    assert frozen
    left = weight_bits((searched.path / "left/journal.jsonl").read_text().splitlines()[1:])
    both = weight_bits((searched.path / "all/journal.jsonl").read_text().splitlines()[1:])
    assert all(2 not in left[index] and 3 in left[index] for index in frozen)
    assert any(2 in both[index] for index in frozen)
    free = [i for i, layer in enumerate(trained.candidates.layers) if len(layer.weight) == 5]
    assert all(2 in left[index] for index in free)
    policies = {
        name: json.loads((searched.path / name / "guided_40pct/policy.json").read_text())
        for name in ("left", "all")
    }
    assert "candidates" not in policies["left"]["provenance"]
    assert policies["all"]["provenance"]["candidates"] == "all"
    trained.candidates.check(
        load_policy(searched.path / "left/guided_40pct/policy.json", trained.network)
    )


@pytest.mark.parametrize(
    ("folder", "options", "parts"),
    [("left", ALL, "is absent there and all here"), ("all", FEW, "is all there and absent here")],
)
def test_searches_of_both_kinds_share_no_folder(searched, folder, options, parts):
    out = searched.path / folder
    before = files_under(out)
    message = rf"made with other weights, images or settings: candidates {parts}; remove it or give"
    with pytest.raises(RunError, match=message):
        search(searched, ["60%"], out=out, options=options)
    after = files_under(out)
    assert {name: after[name] for name in before} == before


def test_answers_are_of_the_kind_of_their_search(searched):
    message = r"is of searches without --all-candidates; leave that out, or give the --out of"
    with pytest.raises(RunError, match=message):
        answer(searched, ["50%"], out=searched.path / "left", options=ALL)
    message = r"is of searches with --all-candidates; give that too, or the --out of"
    with pytest.raises(RunError, match=message):
        answer(searched, ["50%"], out=searched.path / "all", options=FEW)
    for folder, options in (("left", FEW), ("all", ALL)):
        (one,) = answer(searched, ["50%"], out=searched.path / folder, options=options)
        path = one.target.folder / "policy.json"
        assert ("candidates" in json.loads(path.read_text())["provenance"]) == (folder == "all")


def test_frozen_bits_are_searched_confirmed_and_measured_by_the_command(
    copied, harness_json, refused
):
    ask = ("search", "--run", copied.path, "--evaluations", 30, "--all-candidates")
    # Below what the layers may take now.
    network = copied.load_network()
    left = load_run(copied).candidates
    least = network.narrowed(left).candidates.smallest
    tight = f"{(bitops(network, network.candidates.smallest) + 1) / 1e6:.6f}M"
    assert bitops(network, least) > bitops(network, network.candidates.smallest) + 1
    line = refused(*ask[:-1], "--target-bitops", tight)
    assert "the least resnet8 reaches" in line
    assert "the bit-width scheduler has frozen bits of" in line
    harness_json(*ask, "--target-bitops", tight)
    (folder,) = (copied.path / "search").glob("guided_*")
    policy = folder / "policy.json"
    evaluate = ("eval", "--run", copied.path, "--policy", policy)
    assert "has 2 weight bits in the policy, its candidates are 6, 5, 4, 3; " in refused(*evaluate)
    measured = harness_json(*evaluate, "--all-candidates")
    assert measured["accuracy"]["test"] == json.loads(policy.read_text())["accuracy"]["test"]
    harness_json(*ask[:3], *ask[5:], "--from-archive", "--target-bitops", "50%", "--confirm", 2)


def test_uniform_bits_that_are_frozen_are_said(scheduled, caplog):
    network, present = scheduled.load_network(), load_run(scheduled).candidates
    frozen = [layer.name for layer in present.layers if layer.weight == (6, 5, 4, 3)]
    assert resolve_policy("3/3", network, candidates=present)
    assert resolve_policy("2/2", network)
    assert caplog.messages == []
    policy = resolve_policy("2/2", network, candidates=present)
    assert policy != network.candidates.uniform(weight_bits=2, act_bits=2)
    (message,) = caplog.messages
    assert f"policy 2/2 gives other bits to {len(frozen)} layers, {frozen[0]} the first" in message


def test_where_nothing_is_frozen_the_option_says_so(trained_run, tmp_path, caplog):
    out = tmp_path / "out"
    search(trained_run, ["40%"], out=out, options=ALL)
    assert "--all-candidates changes nothing: no bits of this run are frozen" in caplog.messages
    assert "candidates" not in json.loads((out / "journal.jsonl").read_text().splitlines()[0])
