"""What ranks tell each other before they search."""

from types import SimpleNamespace

import pytest
from made_networks import network_of

from harness.errors import RunError
from harness.search import driver

NETWORK = network_of([(1, 1), (1, 1), (1, 1)])
TWO, SIX = (NETWORK.candidates.uniform(weight_bits=bits, act_bits=bits) for bits in (2, 6))


def trained(*, is_main_process):
    search = SimpleNamespace(recalibrate_images=5)
    return SimpleNamespace(
        is_main_process=is_main_process,
        supernet=SimpleNamespace(network=NETWORK),
        config=SimpleNamespace(eval=SimpleNamespace(batch_size=5), search=search),
        weights_digest=lambda: "0" * 16,
        search_batches=lambda: SimpleNamespace(num_images=10),
    )


def opened(folder, known, *, is_main_process=True):
    target = driver.Target(text="30%", bitops=1, folder=folder)
    return driver._open_journal(trained(is_main_process=is_main_process), target, known)


def test_what_earlier_targets_know_lies_in_the_next_journal(tmp_path):
    opened(tmp_path, {TWO: 7}).add([SIX], [3])
    known = {}
    opened(tmp_path, known)
    assert known == {TWO: 7, SIX: 3}


def test_a_journal_that_rank_0_refuses_ends_every_rank(tmp_path, monkeypatch):
    told = []

    def hear(told_now):
        told.append(told_now)
        return told[0]

    monkeypatch.setattr(driver, "broadcast_object_list", hear)
    (tmp_path / "journal.jsonl").write_text("mine")
    message = r"^journal: line 1 of .*/journal.jsonl is damaged \(.*\); restore it, or give"
    with pytest.raises(RunError, match=message):
        opened(tmp_path, {})
    with pytest.raises(RunError, match=message):
        opened(tmp_path, {}, is_main_process=False)
    assert told[1][1] is None  # The second rank had nothing to refuse itself.


def test_ranks_learn_what_rank_0_read(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "broadcast_object_list", lambda _: [{TWO: 7}, None])
    known = {SIX: 3}
    opened(tmp_path, known, is_main_process=False)
    assert known == {TWO: 7, SIX: 3}
    assert list(tmp_path.iterdir()) == []
