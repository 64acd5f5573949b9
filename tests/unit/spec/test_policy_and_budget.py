"""Policies, costs, budgets and files: properties, and the text of every message."""

import dataclasses
import json
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BudgetError, PolicyError, RunError
from harness.quant.supernet import describe_network
from harness.spec import files
from harness.spec.budget import format_bitops, parse_target
from harness.spec.config import Config, QuantConfig
from harness.spec.cost import bitops, largest_bitops, ledger, smallest_bitops, weight_bytes
from harness.spec.network import LayerSpec, NetworkSpec
from harness.spec.policy import (
    Policy,
    load_policy,
    parse_bits,
    policy_label,
    resolve_policy,
    save_policy,
    uniform_pairs,
    uniform_policy,
)
from harness.spec.run_dir import RunDir, newest_finished_run

FREE = (6, 5, 4, 3, 2)


def layer(name: str, macs: int, *, pinned: bool = False) -> LayerSpec:
    bits = (8,) if pinned else FREE
    return LayerSpec(
        name=name, kind="conv", macs=macs, weight_count=macs // 3, is_depthwise=False,
        is_pinned=pinned, weight_candidates=bits, act_candidates=bits,
    )  # fmt: skip


NETWORK = NetworkSpec(
    model="small",
    input_size=(3, 8, 8),
    num_classes=10,
    layers=(layer("stem", 100, pinned=True), layer("a", 331), layer("b", 57),
            layer("fc", 40, pinned=True)),
)  # fmt: skip
PAIRS = st.lists(st.tuples(st.integers(1, 32), st.integers(1, 32)), min_size=4, max_size=4)


@given(pairs=PAIRS, index=st.integers(0, 3))
def test_bitops_are_additive_and_monotone(pairs: list, index: int) -> None:
    policy = Policy(pairs)
    macs = [spec.macs for spec in NETWORK.layers]
    assert bitops(NETWORK, policy) == sum(w * a * m for (w, a), m in zip(pairs, macs, strict=True))
    assert bitops(NETWORK, policy) == sum(row.bitops for row in ledger(NETWORK, policy))
    weight, act = pairs[index]
    for more in ((weight + 1, act), (weight, act + 1)):
        raised = Policy([*pairs[:index], more, *pairs[index + 1 :]])
        assert bitops(NETWORK, raised) > bitops(NETWORK, policy)
        assert weight_bytes(NETWORK, raised) >= weight_bytes(NETWORK, policy)


def test_extremes_are_the_cheapest_and_dearest_candidates() -> None:
    assert smallest_bitops(NETWORK) == 64 * 140 + 4 * 388
    assert largest_bitops(NETWORK) == 64 * 140 + 36 * 388


def test_amounts_are_read_with_their_units() -> None:
    amounts = {"12000K": 12_000_000, "31.6G": 31_600_000_000, "2": 2_000_000_000, "1t": 10**12}
    assert {text: parse_target(text, NETWORK) for text in amounts} == amounts
    assert parse_target("50%", NETWORK) == largest_bitops(NETWORK) // 2
    assert format_bitops(14_368_000_000) == "14.37G"


@pytest.mark.parametrize("text", ["", "0", "-3G", "nanG", "3 apples", "1e3", "0%", "9" * 400])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match=r"is not a positive amount of BitOPs; write 31.6G, 540M"):
        parse_target(text, NETWORK)


def test_an_unreachable_budget_says_the_least_and_what_pins_it() -> None:
    with torch.device("meta"):
        network = describe_network(
            timm.create_model("resnet18"), name="resnet18", input_size=(3, 224, 224),
            num_classes=1000, config=QuantConfig(),
        )  # fmt: skip
    least = (
        r"BitOPs is below 14.37G, the least resnet18 reaches with every free layer at 2/2 bits "
        r"\(conv1 and fc, pinned at 8/8, hold 7.586G of it\); raise --target-bitops or train"
    )
    with pytest.raises(BudgetError, match=r"^target 3.0G " + least):
        parse_target("3.0G", network)
    with pytest.raises(BudgetError, match=r"^target 5% = 3.431G " + least):
        parse_target("5%", network)


@given(st.integers(250, 10**13))
def test_the_least_that_a_refusal_names_can_be_typed(macs: int) -> None:
    network = dataclasses.replace(NETWORK, layers=(layer("conv", macs),))
    with pytest.raises(BudgetError, match="BitOPs is below") as refusal:
        parse_target("0.000000001G", network)
    named = str(refusal.value).split("BitOPs is below ")[1].split(",")[0]
    assert smallest_bitops(network) <= parse_target(named, network)


def saved(path: Path) -> dict:
    policy = uniform_policy(NETWORK, weight_bits=4, act_bits=3)
    save_policy(path, policy, NETWORK, facts={"bitops": bitops(NETWORK, policy)})
    assert load_policy(path, NETWORK) == resolve_policy(str(path), NETWORK) == policy
    return json.loads(path.read_text())


def test_unusable_policy_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    good = saved(path)
    text = path.read_text()
    layers = good["layers"]
    cases = [
        (text[:40], r"policy.json is not whole JSON; restore or recreate it"),
        (json.dumps([1]), r"has format .*, this version reads 1; recreate it"),
        (json.dumps({**good, "format": 9}), r"has format .*, this version reads 1; recreate it"),
        (json.dumps({**good, "network": "x", "model": "other"}),
         r"belongs to other with fingerprint x, this is small with .*; use a policy that was"),
        (json.dumps({**good, "layers": layers[:2]}), r"lists 2 layers, not the 4 of small in"),
        (json.dumps({**good, "layers": [{"name": "stem"}]}), r"has a layer without name, weight_b"),
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
    for text in ("four", "4", "0/4", "4/33"):
        with pytest.raises(PolicyError, match=r"is neither a file nor weight/activation bits from"):
            parse_bits(text)
    with pytest.raises(
        PolicyError, match=r"policy 7/4: 7 weight bits were not trained, the candidates are 2, 3"
    ):
        resolve_policy("7/4", NETWORK)


def test_network_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    NETWORK.save(path)
    assert NetworkSpec.load(path) == NETWORK
    values = json.loads(path.read_text())
    cases = [
        ("{", r"network .* is not whole JSON; restore or recreate it"),
        (json.dumps({**values, "format": 2}), r"has format 2, this version reads 1; recreate"),
        (
            json.dumps({k: v for k, v in values.items() if k != "layers"}),
            r"lacks 'layers'; recreate",
        ),
        (
            json.dumps({**values, "num_classes": 11}),
            r"was altered after it was written; restore it",
        ),
    ]
    for content, message in cases:
        path.write_text(content)
        with pytest.raises(RunError, match=message):
            NetworkSpec.load(path)
    path.unlink()
    with pytest.raises(RunError, match=r"network .* cannot be read: no such file.*; check"):
        NetworkSpec.load(path)


def test_fingerprint_is_of_the_structure_not_of_candidates() -> None:
    fewer = tuple(dataclasses.replace(one, act_candidates=(8,)) for one in NETWORK.layers)
    assert dataclasses.replace(NETWORK, layers=fewer).fingerprint == NETWORK.fingerprint
    assert dataclasses.replace(NETWORK, num_classes=9).fingerprint != NETWORK.fingerprint


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
    NETWORK.save(run.network_path)
    assert not run.is_finished
    files.write_json(run.summary_path, {})
    assert newest_finished_run(tmp_path) == run
    assert run.load_network() == NETWORK


def test_label_of_a_uniform_policy_says_its_bits_where_depthwise_layers_stop_earlier() -> None:
    stopped = dataclasses.replace(
        layer("dw", 20), is_depthwise=True, weight_candidates=(6, 5, 4, 3), act_candidates=(4, 3)
    )
    network = dataclasses.replace(NETWORK, layers=(*NETWORK.layers[:2], stopped, NETWORK.layers[3]))
    two = uniform_policy(network, weight_bits=2, act_bits=2)
    assert two.bits == ((8, 8), (2, 2), (3, 3), (8, 8))
    assert policy_label(two, network) == "2/2"
    pairs = uniform_pairs(network)
    assert all(policy_label(policy, network) == label for label, policy in pairs.items())
    assert policy_label(Policy([(8, 8), (3, 2), (4, 3), (8, 8)]), network) == "mixed"


def test_label_of_bits_that_are_no_candidates_says_them_where_all_free_layers_have_them() -> None:
    exact = uniform_policy(NETWORK, weight_bits=7, act_bits=1, exact=True)
    assert policy_label(exact, NETWORK) == "7/1"
    one_differs = Policy([*exact.bits[:2], (7, 2), exact.bits[3]])
    assert policy_label(one_differs, NETWORK) == "mixed"
    pinned = dataclasses.replace(NETWORK, layers=(NETWORK.layers[0], NETWORK.layers[3]))
    assert policy_label(Policy([(8, 8), (8, 8)]), pinned) == "mixed"
