"""metrics.jsonl: what a run that goes on keeps, and how rows of older versions are read."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import RunError
from harness.training.metrics import MetricsLog, epoch_of_step

HEAD = {"format": 2}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, rows, end="\n"):
    path.write_text("\n".join(json.dumps(row) for row in rows) + end)


def test_a_log_begins_with_its_format(path):
    log = MetricsLog(path, mode="float")
    log.check()
    log.start(step=0, total_steps=4)
    log.append({"ce": 2.5}, step=2, epoch=1)
    assert lines(path) == [HEAD, {"step": 2, "epoch": 1, "ce": 2.5}]
    log.check()


def test_steps_that_are_taken_again_are_forgotten_and_so_is_a_torn_line(path):
    rows = [{"step": step, "epoch": 1, "ce": 0.5} for step in (1, 2, 3)]
    write(path, [HEAD, *rows, {"step": None}], end='\n{"step": 1, "ep')
    MetricsLog(path, mode="float").start(step=2, total_steps=4)
    assert lines(path) == [HEAD, *rows[:2]]


def test_only_the_validation_behind_the_last_step_is_made_again(path):
    validations = [{"step": step, "epoch": step // 2, "search_accuracy/max": 1} for step in (2, 4)]
    loss = {"step": 4, "epoch": 2, "ce": 0.5}
    write(path, [HEAD, validations[0], loss, validations[1]])
    MetricsLog(path, mode="float").start(step=4, total_steps=4)
    assert lines(path) == [HEAD, validations[0], loss]


OLD_LOSSES = {"step": 3, "epoch": 0, "max_pass_ce": 2.0, "random_ce": 0.0, "random_kl": 0.0}
OLD_VALIDATION = {"step": 4, "epoch": 1, "search_accuracy/max": 0.5}


@pytest.mark.parametrize(
    ("mode", "old", "new"),
    [
        ("float", OLD_LOSSES, {"step": 3, "epoch": 1, "ce": 2.0}),
        ("supernet", OLD_LOSSES, {"step": 3, "epoch": 1, "max_pass_ce": 2.0}),
        ("supernet", {**OLD_LOSSES, "random_ce": 2}, {**OLD_LOSSES, "epoch": 1, "random_ce": 2}),
        ("supernet", OLD_VALIDATION, OLD_VALIDATION),
    ],
)  # fmt: skip
def test_rows_of_format_1_are_rewritten_once(path, mode, old, new):
    write(path, [old])
    for _ in range(2):
        MetricsLog(path, mode=mode).start(step=4, total_steps=8)
        assert lines(path) == [HEAD, new]


def test_a_newer_log_is_refused(path):
    write(path, [{"format": 3}])
    message = r"^metrics .*/metrics.jsonl has format 3, this version reads up to 2; update harness$"
    with pytest.raises(RunError, match=message):
        MetricsLog(path, mode="float").check()


@given(step=st.integers(1, 1000), steps_per_epoch=st.integers(1, 100))
def test_an_epoch_holds_its_steps_from_one(step, steps_per_epoch):
    epoch = epoch_of_step(step, steps_per_epoch)
    assert (epoch - 1) * steps_per_epoch < step <= epoch * steps_per_epoch


@pytest.mark.parametrize(
    ("number", "damaged"), [(1, b'{"form'), (2, b"[1]"), (3, b'{"step": \xb1}'), (2, b"nonsense")]
)
def test_a_damaged_line_that_no_kill_can_leave_is_refused_by_its_number(path, number, damaged):
    write(path, [HEAD, {"step": 1, "epoch": 1, "ce": 0.5}, {"step": 2, "epoch": 1, "ce": 0.4}])
    content = path.read_bytes().split(b"\n")
    content[number - 1] = damaged
    path.write_bytes(b"\n".join(content))
    with pytest.raises(RunError, match=rf"metrics: line {number} of .* is damaged; restore the f"):
        MetricsLog(path, mode="float").check()
    assert path.read_bytes() == b"\n".join(content)


def test_every_line_is_json_whatever_is_logged(path):
    log = MetricsLog(path, mode="float")
    log.start(step=0, total_steps=9)
    log.append({"ce": float("nan"), "kl": float("-inf"), "ok": 0.5}, step=1, epoch=1)

    def refuse(constant):
        raise AssertionError(constant)

    rows = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert rows[1] == {"step": 1, "epoch": 1, "ce": None, "kl": None, "ok": 0.5}


@pytest.mark.parametrize("put", ["fifo", "folder", "zero"])
@pytest.mark.timeout(20)
def test_what_is_no_log_is_refused_and_kept(path, put):
    if put == "fifo":
        os.mkfifo(path)
    elif put == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    log = MetricsLog(path, mode="float")
    for use in (log.check, lambda: log.start(step=0, total_steps=9)):
        with pytest.raises(RunError, match=r"^metrics .* cannot be read: it is no regular file; "):
            use()
    assert not path.is_file()


def test_lines_nested_too_deeply_are_damaged(path):
    write(path, [HEAD])
    path.write_bytes(path.read_bytes() + b"[" * 100_000 + b"\n")
    with pytest.raises(RunError, match=r"metrics: line 2 of .* is damaged"):
        MetricsLog(path, mode="float").check()


def test_rows_of_an_older_program_become_valid_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"format": 2}\n{"step": 1, "epoch": 1, "ce": NaN, "kl": -Infinity}\n')
    MetricsLog(path, mode="supernet").start(step=5, total_steps=9)
    assert path.read_text() == '{"format": 2}\n{"step": 1, "epoch": 1, "ce": null, "kl": null}\n'
