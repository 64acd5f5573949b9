"""`network.json` of every format: ties are read back, sizes that no file noted are filled in."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from small_network import NETWORK

from harness.checkpoint import load_supernet
from harness.errors import RunError
from harness.problem.budget import parse_budget
from harness.problem.network import NetworkSpec
from harness.run.files import digest_of
from harness.run.folder import RunDir
from harness.run.network_file import (
    NETWORK_FORMAT,
    check_described,
    load_network,
    save_network,
    with_sizes_of,
)

RUNS = sorted((Path(__file__).parents[2] / "golden" / "runs").iterdir())

SIZED = dataclasses.replace(
    NETWORK,
    layers=tuple(
        dataclasses.replace(layer, place=place, input_count=10 * index + 5)
        for index, (layer, place) in enumerate(
            zip(NETWORK.layers, ("first", "inside", "inside", "last"), strict=True)
        )
    ),
    ties=(((1, "weight"), (2, "weight")), ((1, "act"), (2, "act"))),
)


def rewritten(path: Path, change) -> None:
    values = json.loads(path.read_text())
    del values["digest"]
    change(values)
    path.write_text(json.dumps({**values, "digest": digest_of(values)}))


def test_ties_and_sizes_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    save_network(path, SIZED)
    assert load_network(path) == SIZED
    assert json.loads(path.read_text())["ties"][0] == [
        {"layer": "a", "side": "weight"},
        {"layer": "b", "side": "weight"},
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["ties"][0].pop(), r"ties\.0: list should have at least 2"),
        (lambda v: v["ties"][0][1].update(layer="x"), "x is tied and is no free layer"),
        (lambda v: v["ties"][0][1].update(layer="fc"), "fc is tied and is no free layer"),
        (lambda v: v["ties"][0][1].update(side="bias"), r"ties\.0\.1\.side: input should be"),
        (lambda v: v["ties"].append(v["ties"][1]), "the act of a is tied twice"),
        (
            lambda v: v["layers"][1].update(act_candidates=[6, 5]),
            "a is tied to other candidates than its own",
        ),
        (lambda v: v["layers"][1].update(place="middle"), r"layers\.1\.place: input should be"),
        (
            lambda v: v["layers"][1].update(input_count=0),
            r"layers\.1\.input_count: input should be",
        ),
        (lambda v: v["layers"][1].pop("input_count"), r"layers\.1\.input_count: field required"),
        (lambda v: v.pop("ties"), "ties: field required"),
    ],
)
def test_wrong_ties_and_sizes_are_named(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "network.json"
    save_network(path, SIZED)
    rewritten(path, change)
    with pytest.raises(RunError, match=rf"^network .* is damaged \((it: )?{message}.*\); restore"):
        load_network(path)


def test_a_file_of_format_3_stands_for_a_network_without_ties_or_sizes(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    save_network(path, SIZED)

    def to_format_3(values: dict) -> None:
        del values["ties"]
        for layer in values["layers"]:
            del layer["place"], layer["input_count"]
        values["format"] = 3

    rewritten(path, to_format_3)
    old = load_network(path)
    assert [layer.place for layer in old.layers] == ["first", "inside", "inside", "last"]
    assert (old.ties, {layer.input_count for layer in old.layers}) == ((), {None})
    assert with_sizes_of(old, SIZED) == dataclasses.replace(SIZED, ties=())
    assert old.fingerprint == SIZED.fingerprint
    check_described(path, old, SIZED)


@pytest.mark.parametrize("layers", [{}, [3], "all"])
def test_a_damaged_file_of_an_older_format_is_refused_in_one_line(tmp_path: Path, layers) -> None:
    path = tmp_path / "network.json"
    save_network(path, SIZED)
    rewritten(path, lambda values: values.update(format=3, layers=layers))
    with pytest.raises(RunError, match=r"^network .* is damaged \(layers.*\); restore it$"):
        load_network(path)


@pytest.mark.parametrize(("key", "value"), [("place", "inside"), ("input_count", 6)])
def test_what_the_file_says_otherwise_than_the_model_is_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    stem = dataclasses.replace(SIZED.layers[0], **{key: value})
    there: NetworkSpec = dataclasses.replace(SIZED, layers=(stem, *SIZED.layers[1:]))
    message = re.escape(
        f"gives stem {key} {value}, small has {getattr(SIZED.layers[0], key)}; rest"
    )
    with pytest.raises(RunError, match=message):
        check_described(tmp_path / "network.json", there, SIZED)


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.name)
def test_runs_of_every_version_can_be_given_a_budget_of_activations(run: Path) -> None:
    network = load_supernet(RunDir(run / "finished")).network
    assert NETWORK_FORMAT.version >= 4
    assert [layer.place for layer in network.layers] == [
        "first", *["inside"] * (len(network.layers) - 2), "last"
    ]  # fmt: skip
    assert network.layers[0].input_count == 64  # The image, 1 x 8 x 8.
    assert parse_budget(["act-bytes-sum=60%"], network).limits[0].amount > 0
