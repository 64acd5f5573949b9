"""What describes a run is read as it was written, or refused in one line."""

import copy
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_network import NETWORK

from harness.errors import HarnessError, RunError
from harness.problem.candidates import Candidates
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.run import files
from harness.run.config import Config, load_run_config
from harness.run.data_file import DataIdentity, SplitIdentity, load_data, save_data
from harness.run.network_file import NETWORK_FORMAT, load_network, save_network
from harness.run.policy_file import load_policy, save_policy

POLICY = Policy((layer.weight_candidates[0], layer.act_candidates[0]) for layer in NETWORK.layers)
SPLIT = SplitIdentity(num_images=3, digest="0123456789abcdef")
DATA = DataIdentity(
    class_names=("ant", "bee"), channels=1, image_size=(8, 8), mean=(0.25,), std=(0.5,),
    train=SPLIT, search=SPLIT, test=SPLIT,
)  # fmt: skip


def write_policy(path):
    save_policy(path, POLICY, NETWORK, facts={"bitops": 3, "accuracy": {"search": 0.5}})


KINDS = {
    "config.yaml": (lambda path: path.write_text(Config().to_yaml()), load_run_config, Config()),
    "network.json": (lambda path: save_network(path, NETWORK), load_network, NETWORK),
    "policy.json": (write_policy, lambda path: load_policy(path, NETWORK), POLICY),
    "data.json": (lambda path: save_data(path, DATA), load_data, DATA),
}
each_kind = pytest.mark.parametrize("name", KINDS)


@each_kind
def test_every_flipped_bit_is_refused_or_has_no_effect(tmp_path, name):
    write, load, expected = KINDS[name]
    path = tmp_path / name
    write(path)
    assert load(path) == expected
    content = bytearray(path.read_bytes())
    num_refused = 0
    for place in range(8 * len(content)):
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            assert load(path) == expected, (place, bytes(content))
        except HarnessError:
            num_refused += 1
        content[place // 8] ^= 1 << place % 8
    assert num_refused > 0.5 * 8 * len(content)


@each_kind
@pytest.mark.parametrize("put", ["fifo", "zero", "folder", "huge", "deep", "digits"])
def test_what_is_no_such_file_is_refused_at_once(tmp_path, name, put, monkeypatch):
    path = tmp_path / name
    if put == "fifo":
        os.mkfifo(path)
    elif put == "zero":
        path.symlink_to("/dev/zero")
    elif put == "folder":
        path.mkdir()
    elif put == "huge":
        with path.open("wb") as file:
            file.truncate(10 * 2**30)  # Takes no room on the disk.
    else:
        path.write_text(
            {"deep": "[" * 3000, "digits": '{"format": ' + "9" * 5000, "empty": ""}[put]
        )
    done = threading.Event()
    raised = []

    def load():
        try:
            KINDS[name][1](path)
        except HarnessError as error:
            raised.append(str(error))
        done.set()

    threading.Thread(target=load, daemon=True).start()
    assert done.wait(10), "reading waits for ever"
    (message,) = raised
    assert str(path) in message
    assert len(message) < 500
    assert "\n" not in message


def written(path, values):
    """Write values of network.json with a fingerprint and a digest that fit them."""
    values = {key: value for key, value in values.items() if key not in ("format", "digest")}
    files.write_json(path, values, file_format=NETWORK_FORMAT)


def with_fingerprint(values):
    try:
        network = NetworkSpec(
            model_name=values["model"],
            input_size=values["input_size"],
            num_classes=values["num_classes"],
            layers=tuple(Spec(layer) for layer in values["layers"]),
        )
        return {**values, "fingerprint": network.fingerprint}
    except Exception:
        return values


class Spec:
    """A layer of any values, for the fingerprint."""

    def __init__(self, values):
        self.__dict__.update(values)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3),
    st.just([]), st.just({}), st.lists(st.integers(-3, 40), max_size=4), st.just("9" * 200),
)  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_wrong_value_of_a_network_is_refused_or_harmless(tmp_path, data):
    """The one who altered it also made fingerprint and digest anew."""
    path = tmp_path / "network.json"
    save_network(path, NETWORK)
    values = json.loads(path.read_text())
    target = values
    if data.draw(st.booleans(), label="in a layer"):
        target = data.draw(st.sampled_from(values["layers"]))
    key = data.draw(st.sampled_from(sorted(target)))
    if data.draw(st.booleans(), label="remove"):
        del target[key]
    else:
        target[key] = data.draw(ANYTHING)
    written(path, with_fingerprint(values))
    try:
        network = load_network(path)
    except RunError:
        return
    # What is read must serve whatever comes after.
    assert isinstance(network.candidates, Candidates)
    network.candidates.check(network.candidates.largest)
    assert load_network(path) == network
    hash(network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["layers"].append(copy.deepcopy(v["layers"][1])), "stands there twice"),
        (lambda v: v.update(layers=[]), "layers: list should have at least 1 item"),
        (lambda v: v["layers"][1].update(macs=-1), r"layers\.1\.macs: input should be greater"),
        (lambda v: v["layers"][1].update(macs=True), r"layers\.1\.macs: input should be a valid"),
        (lambda v: v["layers"][1].update(macs=2**60), r"layers\.1\.macs: input should be less"),
        (lambda v: v["layers"][1].update(weight_candidates=[4, 6]), r"has weight_candidates"),
        (lambda v: v["layers"][1].update(more=1), "extra inputs are not permitted"),
        (lambda v: v.update(input_size=[3, 8]), "input_size: list should have at least 3"),
        (lambda v: v.update(num_classes=0), "num_classes: input should be greater"),
        (lambda v: v.pop("model"), "model: field required"),
    ],
)
def test_wrong_values_of_a_network_are_named(tmp_path, change, message):
    path = tmp_path / "network.json"
    save_network(path, NETWORK)
    values = json.loads(path.read_text())
    change(values)
    written(path, with_fingerprint(values))
    with pytest.raises(
        RunError, match=rf"^network {path} is damaged \(.*{message}.*\); restore it$"
    ):
        load_network(path)


def test_a_file_without_its_digest_is_refused_and_an_older_one_is_not(tmp_path):
    path = tmp_path / "network.json"
    save_network(path, NETWORK)
    values = json.loads(path.read_text())
    del values["digest"]
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match="was altered after it was written; restore or recreate it"):
        load_network(path)
    path.write_text(json.dumps({**values, "format": 2}))
    assert load_network(path) == NETWORK


def test_reading_stops_at_the_limit(tmp_path):
    path = Path(tmp_path / "file")
    path.write_bytes(b"12345")
    assert files.read_bytes(path, limit=5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, the most is 4"):
        files.read_bytes(path, limit=4)
