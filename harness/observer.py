"""How long work says how far it is, to whoever watches: a terminal, a test, or nobody.

Training, search and report know this interface alone, so they can be used without a display
(`harness/runtime.py` has the one of the command line).
"""

from typing import Protocol


class Work(Protocol):
    """One named piece of work that is under way."""

    def advance(self, amount: float = 1.0) -> None:
        """Say that so much more is done; amounts may be parts of one."""

    def say(self, how: str) -> None:
        """Say in a few words how it stands; they replace those before."""

    def end(self) -> None:
        """Say that nothing more is to come: what is done is all there was."""


class Observer(Protocol):
    """Is told which work begins."""

    def begin(self, name: str, *, total: float | None = None, done: float = 0.0) -> Work:
        """Return a new piece of work.

        Args:
            name: What a person reads beside the progress.
            total: Amount at which it is done; None where nobody can know before its end.
            done: Amount that was done before, where work goes on.
        """


class _Silence:
    """Shows nothing; both the observer and its work."""

    def begin(self, name: str, *, total: float | None = None, done: float = 0.0) -> Work:
        return self

    def advance(self, amount: float = 1.0) -> None:
        pass

    def say(self, how: str) -> None:
        pass

    def end(self) -> None:
        pass


SILENCE: Observer = _Silence()
"""The observer where nobody watches."""
