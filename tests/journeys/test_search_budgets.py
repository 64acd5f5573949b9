"""`harness search` under budgets of any resources, and what it says where they cannot be kept."""

import itertools
import json

import pytest
from folder_contents import files_under

from harness.problem.cost import ACT_BYTES_PEAK, WEIGHT_BYTES, bitops, policy_cost
from harness.run.network_file import load_network
from harness.run.policy_file import load_policy

FEW = ("--evaluations", 40)
THREE = ("bitops=9M", "weight-bytes=35KiB", "act-bytes-peak=500B")
"""Of 3.6M to 27.8M, 19.4 to 56.6 KiB and 256 to 768 bytes that resnet8 reaches."""

FREE_BITS = (6, 5, 4, 3, 2)


def limited(*limits):
    return [word for limit in limits for word in ("--budget", limit)]


def found_policy(run, folder):
    network = load_network(run / "network.json")
    return network, load_policy(folder / "policy.json", network)


def write_costs(path, value_of):
    """Write measured costs of resnet8: `value_of` the bits for a free layer, 0.5 for each end."""
    rows = ["layer,weight_bits,act_bits,value", "conv1,8,8,0.5", "fc,8,8,0.5"]
    pairs = itertools.product(FREE_BITS, FREE_BITS)
    rows += [f"stages.*,{weight},{act},{value_of(weight, act)}" for weight, act in pairs]
    path.write_text("\n".join(rows) + "\n")
    return path


def measured_sum(network, policy, value_of):
    """Sum what `write_costs` wrote, by a way that is not the program's."""
    free = zip(network.layers, policy, strict=True)
    return 1 + sum(value_of(*bits) for layer, bits in free if not layer.is_pinned)


def test_three_resources_are_limited_at_once(run, harness_json):
    values = harness_json("search", "--run", run, *limited(*THREE), *FEW)
    folder = run / "search/guided_9M_weight-bytes_35KiB_act-bytes-peak_500B"
    assert values["policy_file"] == str(folder / "policy.json")
    network, policy = found_policy(run, folder)
    assert bitops(network, policy) == values["bitops"] <= values["target_bitops"] == 9_000_000
    size = policy_cost(network, policy, WEIGHT_BYTES) / 8
    assert size == values["weight_bytes"] <= values["target_weight_bytes"] == 35 * 1024
    peak = policy_cost(network, policy, ACT_BYTES_PEAK) / 8
    assert peak == values["act_bytes_peak"] <= values["target_act_bytes_peak"] == 500
    written = json.loads((folder / "policy.json").read_text())["provenance"]
    assert written["target_act_bytes_peak"] == 500
    for step in written["trace"]:
        assert {"bitops", "weight_bytes", "act_bytes_peak"} <= step.keys()


def test_the_order_of_limits_means_nothing(run, harness_json):
    harness_json("search", "--run", run, *limited(*THREE), *FEW)
    before = files_under(run / "search")
    harness_json("search", "--run", run, *limited(*reversed(THREE)), *FEW, "--resume")
    assert files_under(run / "search") == before


def test_a_limit_beside_targets_holds_in_each(run, harness_json):
    values = harness_json(
        "search", "--run", run, "--target-bitops", "60%", "--target-bitops", "30%",
        "--budget", "weight-bytes=25KiB", *FEW,
    )  # fmt: skip
    assert len(values["targets"]) == 2
    for target in values["targets"]:
        assert target["bitops"] <= target["target_bitops"]
        assert target["weight_bytes"] <= target["target_weight_bytes"] == 25 * 1024


def test_a_table_shows_every_resource_that_is_limited(run, harness):
    code, out, _ = harness("search", "--run", run, *limited(*THREE), *FEW)
    assert code == 0
    for limit in ("bitops=9M = 9M", "weight-bytes=35KiB = 35KiB", "act-bytes-peak=500B = 500B"):
        assert limit in out


@pytest.mark.parametrize(
    ("tight", "message"),
    [
        ("bitops=1M", "budget bitops=1M BitOPs is below 3.646M, the least resnet8 reaches with"),
        ("weight-bytes=9KiB", "budget weight-bytes=9KiB weight bytes is below 19.4KiB, the"),
        ("act-bytes-peak=99B", "budget act-bytes-peak=99B peak activation bytes is below 256B"),
    ],
)
def test_each_limit_that_cannot_be_kept_is_named(run, refused, tight, message):
    before = files_under(run)
    name = tight.partition("=")[0]
    limits = [tight if limit.startswith(f"{name}=") else limit for limit in THREE]
    line = refused("search", "--run", run, *limited(*limits), *FEW)
    assert line.startswith(message)
    assert f"; raise --budget {name} or train smaller candidates" in line
    assert files_under(run) == before


def test_budget_below_the_smallest_names_it_and_what_pins_it(run, refused):
    before = files_under(run)
    message = refused("search", "--run", run, "--target-bitops", "1M")
    assert "target 1M BitOPs is below" in message
    assert "conv1 and fc, pinned at 8/8, hold" in message
    assert files_under(run) == before


def slow_when_small(weight, act):
    """Milliseconds of a device without instructions for few bits: the fewer, the slower."""
    return 13 - weight - act


def test_limits_that_exclude_each_other_are_one_line(run, tmp_path, refused):
    costs = write_costs(tmp_path / "board.csv", slow_when_small)
    before = files_under(run)
    line = refused(
        "search", "--run", run, "--costs", f"latency:ms={costs}",
        *limited("bitops=4M", "latency=12ms", "weight-bytes=50KiB"), *FEW,
    )  # fmt: skip
    assert line.startswith(
        "budget bitops=4M weight-bytes=50KiB latency=12ms: some policy of resnet8 keeps each "
        "limit, none keeps them together"
    )
    assert line.endswith("; raise one of them or train smaller candidates")
    assert files_under(run) == before


def test_measured_costs_are_kept(run, tmp_path, harness_json):
    costs = write_costs(tmp_path / "board.csv", slow_when_small)
    values = harness_json(
        "search", "--run", run, "--costs", f"latency:ms={costs}",
        *limited("bitops=12M", "latency=45ms"), *FEW,
    )  # fmt: skip
    network, policy = found_policy(run, run / "search/guided_12M_latency_45ms")
    milliseconds = measured_sum(network, policy, slow_when_small)
    assert milliseconds <= 45
    assert values["latency_seconds"] == pytest.approx(milliseconds / 1000)
    assert values["target_latency_seconds"] == pytest.approx(0.045)
    assert values["bitops"] <= 12_000_000


def test_a_measured_cost_alone_is_a_budget(run, tmp_path, harness_json):
    def by_product(weight, act):
        return weight * act / 10

    costs = write_costs(tmp_path / "board.csv", by_product)
    values = harness_json(
        "search", "--run", run, "--costs", f"energy:mJ={costs}", "--budget", "energy=12mJ", *FEW
    )
    network, policy = found_policy(run, run / "search/guided_energy_12mJ")
    assert measured_sum(network, policy, by_product) <= 12
    assert values["energy_joules"] <= values["target_energy_joules"] == pytest.approx(0.012)


def test_costs_of_what_is_not_limited_are_refused(run, tmp_path, refused):
    costs = write_costs(tmp_path / "board.csv", slow_when_small)
    given = ("--costs", f"latency:ms={costs}")
    for budget in (["--target-bitops", "30%"], limited("bitops=9M")):
        assert refused("search", "--run", run, *given, *budget) == (
            "costs of latency are given and no limit of it, so they decide nothing; add --budget "
            "latency=AMOUNT or leave them out"
        )
    assert refused("search", "--run", run, *given, *given, *limited("latency=30ms")) == (
        "costs of latency are given twice; give one table of it"
    )


def test_other_costs_are_another_search(run, tmp_path, harness_json):
    """Where the file changed, the search is not the one that the journal has begun."""
    command = (
        "search", "--run", run, "--costs", f"latency:ms={tmp_path / 'board.csv'}",
        *limited("latency=45ms"), *FEW,
    )  # fmt: skip
    write_costs(tmp_path / "board.csv", slow_when_small)
    harness_json(*command)
    write_costs(tmp_path / "board.csv", lambda weight, act: weight + act)
    harness_json(*command, "--resume")
    network, policy = found_policy(run, run / "search/guided_latency_45ms")
    assert measured_sum(network, policy, lambda weight, act: weight + act) <= 45
    lines = (run / "search/journal.jsonl").read_text().splitlines()[1:]
    assert len({json.loads(line)["search"] for line in lines}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (),
            "no budget is given; write --target-bitops 45%, --budget bitops=5.5G or --frontier 10",
        ),
        (("--budget", "latency=3ms"), "budget latency needs what each layer was measured at; "),
        (("--budget", "9M"), "budget 9M has no `=`; write --budget bitops=5.5G"),
        (("--budget", "luck=3"), "budget luck names no resource; choose from bitops, "),
        (("--target-bitops", "30%", "--budget", "bitops=9M"), "budget bitops is given twice; "),
        (("--budget", "bitops=9M", "--costs", "speed=gone.csv"), "costs speed=gone.csv name no "),
        (("--budget", "latency=3ms", "--costs", "latency:ms=gone.csv"), "costs gone.csv cannot be"),
    ],
)
def test_what_is_no_budget_is_refused(run, refused, arguments, message):
    before = files_under(run)
    assert refused("search", "--run", run, *arguments).startswith(message)
    assert files_under(run) == before


def test_each_limit_that_binds_nothing_is_warned_of(run, harness):
    code, _, err = harness(
        "search", "--run", run, *limited("bitops=9M", "weight-bytes=1MiB"), *FEW, "--json"
    )
    assert code == 0
    (line,) = [line for line in err.splitlines() if "WARNING" in line]
    assert "budget weight-bytes=1MiB = 1MiB" in line
    assert "binds nothing: resnet8 reaches 56.64KiB at most" in line


def test_limits_of_one_resource_are_searched_with_every_strategy(run, harness_json):
    for strategy in ("greedy", "random", "evolution", "uniform"):
        values = harness_json(
            "search", "--run", run, "--budget", "act-bytes-peak=500B", *FEW, "--strategy", strategy
        )
        assert values["act_bytes_peak"] <= 500
