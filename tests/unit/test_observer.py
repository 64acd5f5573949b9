"""Progress as it is told and as a terminal shows it."""

from harness.observer import SILENCE
from harness.runtime import TerminalObserver


def test_silence_takes_everything_and_shows_nothing(capfd):
    task = SILENCE.begin("policies", total=3)
    task.advance()
    task.end()
    assert capfd.readouterr() == ("", "")


def test_terminal_shows_parts_that_add_up_to_whole_policies(capfd):
    with TerminalObserver() as observer:
        task = observer.begin("policies tested", total=2)
        for _ in range(6):
            task.advance(1 / 3)
        task.end()
    out, err = capfd.readouterr()
    assert out == ""
    assert "policies tested" in err
    assert "2/2" in err


def test_terminal_shows_a_count_as_its_total_at_the_end(capfd):
    with TerminalObserver() as observer:
        task = observer.begin("policies evaluated")
        task.advance(7)
        task.end()
    assert "7/7" in capfd.readouterr().err


def test_terminal_shows_nothing_before_a_task_begins(capfd):
    with TerminalObserver():
        pass
    assert capfd.readouterr() == ("", "")
