"""From a run and budgets to files: one journal for all, what is limited, what is told to ranks."""

import dataclasses
import json
import logging
import shutil

import pytest
from two_ranks import TwoRanks

from harness import outcome_tables
from harness.errors import BudgetError, RunError
from harness.problem.budget import parse_budget
from harness.problem.cost import ACT_BYTES_PEAK, WEIGHT_BYTES, bitops, policy_cost, weight_bytes
from harness.problem.units import PICO
from harness.run.policy_file import load_policy
from harness.search import driver
from harness.search.driver import open_archive
from harness.search.engine import STRATEGIES
from harness.search.request import SearchOptions, Target

SEARCH = "00000000000000aa"


@pytest.fixture
def beside(trained):
    """The run as a rank beside the first holds it."""
    return dataclasses.replace(trained, is_main_process=False)


@pytest.fixture
def policies(trained):
    return [trained.candidates.uniform(weight_bits=bits, act_bits=bits) for bits in (2, 6)]


@pytest.fixture
def old_folder(trained):
    """Where the golden run's older version left a journal of counts."""
    return trained.run.path / "search/greedy_30pct"


def scored_by(trained, score):
    config = trained.config
    search = config.search.model_copy(update={"score": score})
    return dataclasses.replace(trained, config=config.model_copy(update={"search": search}))


def target_at(trained, folder):
    return Target(budget=parse_budget(["bitops=30%"], trained.network), folder=folder)


def scores_of(policies, count=32):
    return {policy: tuple([float(n)] * count) for n, policy in enumerate(policies)}


def test_journal_is_one_for_all_searches_of_a_folder(trained, policies, tmp_path):
    two, six = policies
    open_archive(trained, tmp_path, []).archive.add(SEARCH, scores_of([two]))
    open_archive(trained, tmp_path, []).archive.add("b" * 16, scores_of([two, six]))
    known = open_archive(trained, tmp_path, [])
    assert dict(known.archive.scores) == scores_of([two, six])
    assert [file.name for file in tmp_path.iterdir()] == ["journal.jsonl"]


def test_journal_names_what_its_scores_depend_on(trained, old_folder, tmp_path):
    open_archive(trained, tmp_path, []).archive.begin(SEARCH)
    header = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[0])
    old = json.loads((old_folder / "journal.jsonl").read_text().splitlines()[0])
    assert header.keys() - old.keys() >= {"data", "crc", "score"}
    assert {key: header[key] for key in old.keys() - {"format"}} == {
        key: value for key, value in old.items() if key != "format"
    }
    assert header["data"]["search"]["num_images"] == old["images"]
    assert header["score"] == "errors"


@pytest.mark.parametrize("score", ["kl", "cross_entropy"])
def test_scores_of_another_kind_are_refused_by_name(trained, policies, tmp_path, score):
    open_archive(trained, tmp_path, []).archive.add(SEARCH, scores_of(policies))
    with pytest.raises(RunError, match=f"score is errors there and {score} here"):
        open_archive(scored_by(trained, score), tmp_path, [])


def test_counts_of_an_older_version_answer_where_errors_are_the_score(
    trained, old_folder, tmp_path
):
    here = target_at(trained, old_folder)
    rows = [json.loads(line) for line in (old_folder / "journal.jsonl").read_text().splitlines()]
    counts = [count for row in rows[1:] for count in row["errors"]]
    before = (old_folder / "journal.jsonl").read_bytes()
    known = open_archive(trained, tmp_path, [here])
    assert list(known.counts.values()) == counts
    assert not known.archive.scores
    assert dict(known.archive.scores) == {}
    for score in ("kl", "cross_entropy"):
        other = open_archive(scored_by(trained, score), tmp_path / score, [here])
        assert (other.counts, dict(other.archive.scores)) == ({}, {})
    elsewhere = target_at(trained, tmp_path)
    assert open_archive(trained, tmp_path, [elsewhere]).counts == {}
    assert (old_folder / "journal.jsonl").read_bytes() == before


def test_a_score_of_now_goes_before_a_count_of_then(trained, old_folder, tmp_path):
    known = open_archive(trained, tmp_path, [target_at(trained, old_folder)])
    policy = next(iter(known.counts))
    known.archive.add(SEARCH, {policy: [1.0] * 32})
    assert sum(known.archive.scores[policy]) == 32.0


def test_damaged_counts_are_refused_whatever_the_score(trained, old_folder, tmp_path):
    folder = shutil.copytree(old_folder, tmp_path / "greedy_30pct")
    path = folder / "journal.jsonl"
    path.write_text(path.read_text().replace("[8, 8]", "[8, 9]"))
    for run in (trained, scored_by(trained, "kl")):
        with pytest.raises(RunError, match=r"line 2 of .*greedy_30pct/journal.jsonl is damaged"):
            open_archive(run, tmp_path, [target_at(trained, folder)])


def test_a_journal_that_rank_0_refuses_ends_every_rank(trained, beside, tmp_path, monkeypatch):
    (tmp_path / "journal.jsonl").write_text("mine")
    works = [lambda run=run: open_archive(run, tmp_path, []) for run in (trained, beside)]
    first, other = TwoRanks(monkeypatch).run(*works)
    assert isinstance(first, RunError)
    assert str(first) == str(other)
    assert str(tmp_path / "journal.jsonl") in str(first)


def test_ranks_learn_what_rank_0_read(trained, beside, policies, old_folder, tmp_path, monkeypatch):
    """The other looks at another folder, and sees nothing there."""
    open_archive(trained, tmp_path / "read", []).archive.add(SEARCH, scores_of(policies))
    (tmp_path / "unread").mkdir()
    works = [
        lambda: open_archive(trained, tmp_path / "read", [target_at(trained, old_folder)]),
        lambda: open_archive(beside, tmp_path / "unread", [target_at(trained, tmp_path)]),
    ]
    first, other = TwoRanks(monkeypatch).run(*works)
    assert dict(first.archive.scores) == dict(other.archive.scores) == scores_of(policies)
    assert first.counts == other.counts != {}
    more = scores_of([trained.candidates.uniform(weight_bits=4, act_bits=3)])
    for known in (first, other):
        known.archive.add(SEARCH, more)
    assert list((tmp_path / "unread").iterdir()) == []
    monkeypatch.undo()
    assert dict(open_archive(trained, tmp_path / "read", []).archive.scores) == {
        **scores_of(policies), **more
    }  # fmt: skip


def found_in(folder):
    """Return the files of a budget's folder."""
    names = ("policy.json", "frontier.json")
    return [json.loads((folder / name).read_text()) for name in names]


def evaluated(folder):
    rows = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]
    return [tuple(map(tuple, bits)) for row in rows for bits in row["policies"]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_budgets_share_one_set_of_evaluations(trained, tmp_path, strategy, caplog):
    options = SearchOptions(strategy=strategy, evaluations=24)
    with caplog.at_level("INFO", logger="harness"):
        outcomes = driver.search(trained.run, ["30%", "60%"], out=tmp_path, options=options)
    network = trained.network
    ends_early = any(f"of 24 evaluations were needed: {strategy}" in m for m in caplog.messages)
    assert ends_early == (outcomes[0].search.evaluations < 24) == (strategy == "uniform")
    folders = [tmp_path / f"{strategy}_{text}" for text in ("30pct", "60pct")]
    assert [outcome.folder for outcome in outcomes] == folders
    asked = evaluated(tmp_path)
    assert len(asked) == len(set(asked)) == outcomes[0].search.evaluations <= 24
    for outcome, folder in zip(outcomes, folders, strict=True):
        assert outcome.budget.allows(network, outcome.best.policy)
        assert outcome.search.evaluations == outcomes[0].search.evaluations
        policy, frontier = found_in(folder)
        assert load_policy(folder / "policy.json", network) == outcome.best.policy
        provenance = policy["provenance"]
        assert provenance["target_bitops"] == outcome.budget.limits[0].amount
        assert (provenance["strategy"], provenance["score"]) == (strategy, "errors")
        assert provenance["evaluations"] == len(asked)
        assert policy["accuracy"] == {
            "search": outcome.best.search_accuracy, "test": outcome.best.test_accuracy
        }  # fmt: skip
        costs = [row["bitops"] for row in frontier["policies"]]
        scores = [row["score"] for row in frontier["policies"]]
        assert costs == sorted(set(costs))
        assert scores == sorted(set(scores), reverse=True)
        bits = {tuple(map(tuple, row["bits"])) for row in frontier["policies"]}
        assert bits <= set(asked)
        # Means over 100 images.
        assert all((100 * score) == pytest.approx(round(100 * score)) for score in scores)
        if outcome.score is not None:
            assert 0 <= outcome.score <= 1
        # The model is fitted to what was evaluated, whichever strategy asked for it.
        if strategy == "uniform":
            continue  # A handful of policies, the largest not among them.
        mean, deviation = outcome.predicted
        assert -0.5 < mean < 1.5
        assert 0 < deviation < 1
        low, high = outcome.predicted_accuracy.interval
        assert 0 <= low < outcome.predicted_accuracy.accuracy < high <= 1
    effects = outcomes[0].search.effects
    if strategy == "uniform":
        assert effects is None
        return
    assert len(effects) == len(network.layers)
    assert effects[0] == (0, 0)  # It has no choice.


def without_seconds(outcome):
    return dataclasses.replace(outcome, search=dataclasses.replace(outcome.search, seconds=0.0))


def test_a_search_gone_on_with_evaluates_nothing_and_ends_alike(trained, tmp_path):
    options = SearchOptions(evaluations=20)
    (first,) = driver.search(trained.run, ["40%"], out=tmp_path, options=options)
    files, asked = found_in(first.folder), evaluated(tmp_path)
    with pytest.raises(RunError, match=r"guided_40pct holds a search already; give --resume"):
        driver.search(trained.run, ["40%"], out=tmp_path, options=options)
    # Another search comes between: the first knows what it knew.
    driver.search(trained.run, ["40%"], out=tmp_path, options=SearchOptions(strategy="uniform"))
    again = dataclasses.replace(options, resume=True)
    (second,) = driver.search(trained.run, ["40%"], out=tmp_path, options=again)
    assert found_in(second.folder)[0] == files[0]
    assert evaluated(tmp_path)[: len(asked)] == asked
    assert without_seconds(second) == without_seconds(first)
    rows = (tmp_path / "journal.jsonl").read_bytes()
    driver.search(trained.run, ["40%"], out=tmp_path, options=again)
    assert (tmp_path / "journal.jsonl").read_bytes() == rows


def test_a_later_search_asks_nothing_that_is_known(trained, tmp_path):
    for strategy in ("greedy", "evolution", "guided"):
        options = SearchOptions(strategy=strategy, evaluations=15)
        driver.search(trained.run, ["40%"], out=tmp_path, options=options)
    asked = evaluated(tmp_path)
    assert len(asked) == len(set(asked))


def latency_file(trained, folder, factor=1):
    """Write milliseconds for all pairs: as many as a thousandth of the weight bits, or twice."""
    path = folder / "board.csv"
    rows = [
        f"*,{w},{a},{factor * w * (1 + (a > 4)) / 1000}"
        for w in (2, 3, 4, 5, 6, 8)
        for a in (2, 3, 4, 5, 6, 8)
    ]
    path.write_text("\n".join(["layer,weight_bits,act_bits,value", *rows, ""]))
    return f"latency:ms={path}"


def test_several_resources_are_limited_at_once_and_reported(trained, tmp_path):
    costs = latency_file(trained, tmp_path)
    limits = ["weight-bytes=70%", "act-bytes-peak=90%", "latency=70us"]
    options = SearchOptions(limits=limits, costs=[costs], evaluations=25)
    (outcome,) = driver.search(trained.run, ["60%"], out=tmp_path / "out", options=options)
    network, best = trained.network, outcome.best
    assert [limit.resource.name for limit in outcome.budget.limits] == [
        "bitops", "weight-bytes", "act-bytes-peak", "latency"
    ]  # fmt: skip
    largest = trained.candidates.largest
    assert best.bitops == bitops(network, best.policy) <= 0.6 * bitops(network, largest)
    assert weight_bytes(network, best.policy) <= 0.7 * weight_bytes(network, largest)
    peak = policy_cost(network, best.policy, ACT_BYTES_PEAK)
    assert peak <= 0.9 * policy_cost(network, largest, ACT_BYTES_PEAK)
    seconds = sum(w * (1 + (a > 4)) for w, a in best.policy.bits) / 1e6
    assert seconds <= 70e-6
    assert best.costs == (
        best.bitops, policy_cost(network, best.policy, WEIGHT_BYTES), peak,
        round(seconds * PICO),
    )  # fmt: skip

    name = "guided_60pct_weight-bytes_70pct_act-bytes-peak_90pct_latency_70us"
    assert outcome.folder == tmp_path / "out" / name
    policy, frontier = found_in(outcome.folder)
    provenance = policy["provenance"]
    assert provenance["target_latency_seconds"] == pytest.approx(70e-6)
    assert provenance["target_weight_bytes"] == -(-outcome.budget.limits[1].amount // 8)
    assert all(row.keys() == {"bitops", "score", "bits"} for row in frontier["policies"])

    values = outcome_tables.outcomes_json(trained.run, [outcome])
    assert values["latency_seconds"] == pytest.approx(seconds)
    assert values["target_latency_seconds"] == pytest.approx(70e-6)
    assert values["act_bytes_peak"] == -(-peak // 8)
    headers = [column.header for column in outcome_tables.outcomes_table([outcome]).columns]
    assert headers[2:6] == ["BitOPs", "weight bytes", "peak activation bytes", "latency"]


def test_limits_alone_are_a_budget(trained, tmp_path):
    options = SearchOptions(strategy="greedy", limits=["weight-bytes=60%"], evaluations=20)
    (outcome,) = driver.search(trained.run, [], out=tmp_path, options=options)
    largest = weight_bytes(trained.network, trained.candidates.largest)
    assert weight_bytes(trained.network, outcome.best.policy) <= 0.6 * largest
    assert outcome.folder.name == "greedy_weight-bytes_60pct"
    policy, frontier = found_in(outcome.folder)
    assert all(step.keys() == {"phase", "changes", "error", "weight_bytes"}
               for step in policy["provenance"]["trace"])  # fmt: skip
    assert policy["provenance"]["trace"]
    assert all(row.keys() == {"weight_bytes", "score", "bits"} for row in frontier["policies"])
    values = outcome_tables.outcomes_json(trained.run, [outcome])
    assert "target_bitops" not in values
    assert values["target_weight_bytes"] == -(-outcome.budget.limits[0].amount // 8)


def test_other_costs_are_another_search(trained, tmp_path):
    """Its limits are the same numbers; what they mean stands in the file."""
    marks = []
    for factor in (1, 2):
        costs = [latency_file(trained, tmp_path, factor)]
        options = SearchOptions(
            strategy="uniform", limits=["latency=0.2ms"], costs=costs, resume=True
        )
        driver.search(trained.run, [], out=tmp_path / "out", options=options)
        rows = (tmp_path / "out/journal.jsonl").read_text().splitlines()[1:]
        marks.append({json.loads(row)["search"] for row in rows})
    assert (len(marks[0]), len(marks[1])) == (1, 2)


@pytest.mark.parametrize(
    ("targets", "limits", "error", "message"),
    [
        (["45%", " 45 %"], (), RunError, "^a target is given twice; give each --target-bitops on"),
        ([], (), BudgetError, "^no budget is given; write --budget bitops=5.5G or --target-bitops"),
        (["1"], ["weight-bytes=1B"], BudgetError, "^budget weight-bytes=1B weight bytes is below"),
        (["1K"], ["weight-bytes=90%"], BudgetError, "^target 1K BitOPs is .*raise --target-bitops"),
        (["45%"], ["bitops=45%"], BudgetError, "^budget bitops is given twice; give each resource"),
        (["45%"], ["latency=3ms"], BudgetError, "^budget latency needs what each layer was measur"),
    ],
)
def test_budgets_that_cannot_be_are_refused_before_anything_is_written(
    trained, tmp_path, targets, limits, error, message
):
    with pytest.raises(error, match=message):
        driver.search(
            trained.run, targets, out=tmp_path / "out", options=SearchOptions(limits=limits)
        )
    assert list(tmp_path.iterdir()) == []


def test_limits_that_exclude_each_other_are_refused_in_a_line(trained, tmp_path):
    """The cheapest bits take the most time, the fastest cost the most."""
    path = tmp_path / "board.csv"
    pairs = [(w, a) for w in (2, 3, 4, 5, 6, 8) for a in (2, 3, 4, 5, 6, 8)]
    rows = [f"*,{w},{a},{20 - w - a}" for w, a in pairs]
    path.write_text("\n".join(["layer,weight_bits,act_bits,value", *rows, ""]))
    options = SearchOptions(limits=["latency=90ms"], costs=[f"latency:ms={path}"])
    message = r"^budget bitops=20% latency=90ms: some policy of resnet8 keeps each limit, none"
    with pytest.raises(BudgetError, match=message):
        driver.search(trained.run, ["20%"], out=tmp_path / "out", options=options)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (2, "^costs of latency are given twice; give one table of it$"),
        (1, "^costs of latency are given and no limit of it, .*; add --budget latency=AMOUNT or"),
    ],
)
def test_costs_are_given_once_and_what_they_limit_too(trained, tmp_path, times, message):
    costs = [latency_file(trained, tmp_path)] * times
    options = SearchOptions(strategy="uniform", costs=costs)
    with pytest.raises(BudgetError, match=message):
        driver.search(trained.run, ["45%"], out=tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_limits_that_bind_nothing_are_told_once_for_all_budgets(trained, tmp_path, caplog):
    options = SearchOptions(strategy="uniform", limits=["weight-bytes=100%"])
    with caplog.at_level(logging.WARNING):
        driver.search(trained.run, ["45%", "60%"], out=tmp_path, options=options)
    assert sum("binds nothing" in message for message in caplog.messages) == 1
