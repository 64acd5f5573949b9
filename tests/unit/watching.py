"""An observer that remembers what it was told."""

from dataclasses import dataclass, field

import pytest


@dataclass
class SeenTask:
    name: str
    total: float | None
    amounts: list[float] = field(default_factory=list)
    has_ended: bool = False
    said: list[str] = field(default_factory=list)

    def advance(self, amount: float = 1.0) -> None:
        assert not self.has_ended
        self.amounts.append(amount)

    def say(self, how: str) -> None:
        assert not self.has_ended
        self.said.append(how)

    def end(self) -> None:
        self.has_ended = True

    @property
    def done(self):
        """Their sum; parts of one need not add up to the last bit."""
        return pytest.approx(sum(self.amounts))


@dataclass
class Watcher:
    tasks: list[SeenTask] = field(default_factory=list)

    def begin(self, name: str, *, total: float | None = None, done: float = 0.0) -> SeenTask:
        self.tasks.append(SeenTask(name, total, [done] if done else []))
        return self.tasks[-1]
