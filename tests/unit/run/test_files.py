"""Files of a run: what is written is read back, and the text of every refusal."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_network import NETWORK

from harness.errors import PolicyError, RunError
from harness.problem.cost import bitops
from harness.problem.policy import parse_bits
from harness.run import files
from harness.run.config import CONFIG_FORMAT, Config
from harness.run.folder import SUMMARY_FORMAT, RunDir, newest_finished_run
from harness.run.network_file import load_network, save_network
from harness.run.policy_file import load_policy, resolve_policy, save_policy


def saved(path: Path) -> dict:
    policy = NETWORK.candidates.uniform(weight_bits=4, act_bits=3)
    save_policy(path, policy, NETWORK, facts={"bitops": bitops(NETWORK, policy)})
    assert load_policy(path, NETWORK) == resolve_policy(str(path), NETWORK) == policy
    return json.loads(path.read_text())


def by_hand(values: dict) -> dict:
    """Return a policy as a person writes it: of format 1, without a digest."""
    return {**{key: value for key, value in values.items() if key != "digest"}, "format": 1}


def test_unusable_policy_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    good = by_hand(saved(path))
    text = path.read_text()
    layers = good["layers"]
    cases = [
        (text[:40], r"policy.json is not whole JSON; restore or recreate it"),
        (json.dumps([1]), r"holds a list, not an object; restore or recreate it"),
        (json.dumps({**good, "format": 9}), r"has format 9, this version reads up to 2; update ha"),
        (json.dumps({**good, "format": "1"}), r"has format 1, this version reads up to 2; recrea"),
        (json.dumps({**good, "network": "x", "model": "other"}),
         r"belongs to other with fingerprint x, this is small with .*; use a policy that was"),
        (json.dumps({**good, "layers": layers[:2]}), r"lists 2 layers, not the 4 of small in"),
        (json.dumps({**good, "layers": [{"name": "stem"}]}), r"has a layer without name, or with"),
        (json.dumps({**good, "layers": [{**one, "act_bits": 2.9} for one in layers]}),
         r"or without whole weight_bits and act_bits; mend the file"),
        (json.dumps({**good, "layers": [{**one, "weight_bits": "4"} for one in layers]}),
         r"or without whole weight_bits and act_bits; mend the file"),
        (json.dumps({**good, "layers": [{**one, "act_bits": 99} for one in layers]}),
         r"layer stem has bits 8/99, allowed are 1 to 32; mend the file"),
        (json.dumps({**good, "layers": [*layers[:1], {**layers[1], "act_bits": 7}, *layers[2:]]}),
         r"layer a has 7 activation bits in the policy, its candidates are 6, 5, 4, 3, 2; search"),
    ]  # fmt: skip
    for content, message in cases:
        path.write_text(content)
        with pytest.raises(PolicyError, match=message):
            resolve_policy(str(path), NETWORK)
    path.unlink()
    with pytest.raises(PolicyError, match=r"policy.json cannot be read: no such file.*; check"):
        resolve_policy(str(path), NETWORK)


def test_uniform_bits_that_cannot_be_used_are_refused() -> None:
    for text in ("four", "4", "0/4", "4/33", "\u0664/4"):
        with pytest.raises(PolicyError, match=r"is neither a file nor weight/activation bits from"):
            parse_bits(text)
    with pytest.raises(
        PolicyError, match=r"policy 7/4: 7 weight bits were not trained, the candidates are 2, 3"
    ):
        resolve_policy("7/4", NETWORK)


def test_network_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    save_network(path, NETWORK)
    assert load_network(path) == NETWORK
    values = json.loads(path.read_text())
    cases = [
        ("{", r"network .* is not whole JSON; restore or recreate it"),
        (
            json.dumps({**values, "format": 5}),
            r"has format 5, this version reads up to 4; update harness",
        ),
        (
            json.dumps({k: v for k, v in values.items() if k != "layers"}),
            r"was altered after it was written; restore or recreate it",
        ),
        (
            json.dumps({**values, "num_classes": 11}),
            r"was altered after it was written; restore or recreate it",
        ),
    ]
    for content, message in cases:
        path.write_text(content)
        with pytest.raises(RunError, match=message):
            load_network(path)
    path.unlink()
    with pytest.raises(RunError, match=r"network .* cannot be read: no such file.*; check"):
        load_network(path)


def test_a_failed_write_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_run_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with pytest.raises(RunError, match=r"run is not a run, it has no config.yaml; give --run the"):
        run.load_config()
    with pytest.raises(RunError, match=r"no finished run lies under .*/; train one or give --run"):
        newest_finished_run(tmp_path)
    config = Config()
    train = config.train.model_copy(update={"mode": "float"})
    run.save_config(config.model_copy(update={"train": train}))
    with pytest.raises(RunError, match=r"is a float run without bit-widths; give --run a supernet"):
        run.load_network()
    run.save_config(config)
    save_network(run.network_path, NETWORK)
    assert not run.is_finished
    files.write_json(run.summary_path, {}, file_format=SUMMARY_FORMAT)
    assert newest_finished_run(tmp_path) == run
    assert run.load_network() == NETWORK


@given(version=st.integers(1, 4))
def test_every_older_format_is_read_by_the_steps_that_follow_it(version: int) -> None:
    """Each step notes its number, so that order and completeness are seen."""
    steps = tuple(
        lambda values, number=number: {**values, "steps": [*values["steps"], number]}
        for number in (1, 2, 3)
    )
    file_format = files.FileFormat(name="thing", upgrades=steps)
    values = file_format.upgraded({"format": version, "steps": []}, Path("thing.json"))
    assert values == {"format": 4, "steps": list(range(version, 4))}


def test_a_run_of_format_1_keeps_the_configuration_it_began_with(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    first = Config().to_yaml().replace(f"format: {CONFIG_FORMAT.version}\n", "")
    run.config_path.write_text(first)
    run.save_config(Config())
    run.save_config(Config(seed=3))
    assert run.first_config_path.read_text() == first
    assert run.load_config().seed == 3
    new = RunDir(tmp_path / "new")
    new.save_config(Config())
    new.save_config(Config(seed=3))
    assert not new.first_config_path.exists()


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {"config.yaml", ".lock", "a.5.tmp", ".mine.tmp", ".a.x.tmp"}
    for name in (*kept, ".config.yaml.4711.tmp", ".summary.json.3.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.3.tmp").mkdir()
    files.remove_torn_writes(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".folder.3.tmp"}
