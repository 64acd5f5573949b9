"""Which trackers a run shows its metrics in, and what they are told."""

import json
import signal
import sys
from types import SimpleNamespace

import accelerate.tracking
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from journey_runs import QUICK, quick_config, signal_in_step
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.errors import RunError, Stopped
from harness.run.folder import RunDir
from harness.training import loop
from harness.training.trainer import train

SETS = [part for override in QUICK for part in ("--set", override)]


class Kept(GeneralTracker):
    """A tracker of one's own, as Accelerate lets one register it."""

    name = "kept"
    requires_logging_directory = False
    projects: list
    rows: list
    num_finished = 0

    def __init__(self, project, **_):
        super().__init__()
        Kept.projects, Kept.rows, Kept.num_finished = [project], [], 0

    @property
    def tracker(self):
        return self

    def log(self, values, step=None, **_):
        Kept.rows.append({"step": step, **values})

    def finish(self):
        Kept.num_finished += 1


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "kept", Kept)
    return Kept


def metrics_of(run):
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()[1:]]
    return [{name: value for name, value in row.items() if name != "epoch"} for row in rows]


def test_trackers_get_every_row_of_the_metrics(tmp_path, kept):
    trackers = "train.trackers=[tensorboard,kept]"
    config = quick_config(trackers, "train.bit_scheduler=true", "train.validate_every_epochs=1")
    run = train(config, out=tmp_path / "run")
    assert kept.rows == metrics_of(run)
    assert any("search_accuracy/max" in row for row in kept.rows[:-1])
    assert any("layers_frozen" in row for row in kept.rows)
    assert (kept.projects, kept.num_finished) == (["harness"], 1)
    assert list((run.path / "tensorboard").glob("events*"))
    assert not run.tracking_path.exists()


def test_without_trackers_there_are_the_metrics_alone(tmp_path):
    run = train(quick_config("train.trackers=[]"), out=tmp_path / "run")
    assert len(metrics_of(run)) == 3
    assert not (run.path / "tensorboard").exists()
    # It decides no weights, so a run may go on under others.
    run.summary_path.unlink()
    train(quick_config(), out=run.path)
    assert (run.path / "tensorboard").is_dir()


def test_tensorboard_hides_steps_that_are_taken_again(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY_STEPS", 1)
    run = RunDir(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_save", fails_at(12, loop.Loop._save))
        with signal_in_step(signal.SIGTERM, 12), pytest.raises(OSError, match="disk"):
            train(quick_config(), out=run.path)
    assert metrics_of(run)[-1]["step"] == 12
    train(quick_config(), out=run.path)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("max_pass_ce")] == list(range(1, 17))


def fails_at(step, save):
    """Save as a full disk lets one at a step; the checkpoint before is of step 8."""

    def failing(self):
        if self.state.step == step:
            raise OSError("disk full")
        save(self)

    return failing


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "names tensorbord, which Accelerate does not know; it knows aim, all, cle"),
        ("wandb", "names wandb, whose package is not installed; install it, or take it out of"),
    ],
)
def test_trackers_that_cannot_be_used_are_refused(tmp_path, refused, monkeypatch, name, message):
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    out = tmp_path / "run"
    line = refused("train", "--out", out, *SETS, "--set", f"train.trackers=[{name}]")
    assert line.startswith(f"train.trackers {message}")
    assert not out.exists()


def test_a_tracker_that_does_not_start_is_one_line(tmp_path, kept, monkeypatch):
    def start(self):
        raise ConnectionError("no key\ngiven")

    def finish(self):
        raise AssertionError("what was never started is closed")

    monkeypatch.setattr(kept, "start", start)
    monkeypatch.setattr(kept, "finish", finish)
    message = r"^train.trackers kept cannot be started: no key; mend that, or take out the one"
    with pytest.raises(RunError, match=message):
        train(quick_config("train.trackers=[kept]"), out=tmp_path / "run")


class Service:
    """A module like wandb's: what its `init` was given, and the rows that it got."""

    def __init__(self):
        self.inits, self.rows, self.num_finished = [], [], 0

    def init(self, **given):
        self.inits.append(given)
        return SimpleNamespace(
            log=lambda values, step, **_: self.rows.append({"step": step, **values}),
            finish=lambda: setattr(self, "num_finished", self.num_finished + 1),
        )


@pytest.fixture(params=["wandb", "trackio"])
def service(request, monkeypatch):
    """A service in the place of a package that need not be here, under Accelerate's tracker."""
    made = Service()
    monkeypatch.setitem(sys.modules, request.param, made)
    available = [LoggerType(request.param)]
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", available)
    return request.param, made


def test_a_service_goes_on_with_the_run_that_it_had(tmp_path, service):
    name, made = service
    config = quick_config(f"train.trackers=[{name}]")
    run = RunDir(tmp_path / "one")
    with signal_in_step(signal.SIGTERM, 11), pytest.raises(Stopped):
        train(config, out=run.path)
    train(config, out=run.path)
    assert made.rows == metrics_of(run)
    assert made.num_finished == 2
    first, second = made.inits
    assert (first["project"], first["name"]) == ("harness", "one")
    assert first["config"]["train.batch_size"] == 50
    train(config, out=tmp_path / "other")
    if name == "wandb":
        assert first == second
        assert (first["resume"], len(first["id"])) == ("allow", 16)
        assert made.inits[2]["id"] != first["id"]
        assert json.loads(run.tracking_path.read_text())["id"] == first["id"]
    else:
        assert (first["resume"], second["resume"]) == ("never", "allow")
        assert made.inits[2]["resume"] == "never"
