"""Every error a user can cause; the command line prints them as one line, without a traceback.

Form of a message: what is what, which limit, what to do; no full stop; names as they were typed.
"""


class HarnessError(Exception):
    """A mistake in the input or the surroundings that the user can mend."""


class ConfigError(HarnessError):
    """A configuration key, value or combination that cannot be used."""


class DataError(HarnessError):
    """A data set that is missing, unreadable or too small for what was asked."""


class ModelError(HarnessError):
    """A model name or weights file that cannot be used."""


class ConversionError(ModelError):
    """A network with a module that has no quantized form."""


class BudgetError(HarnessError):
    """A BitOPs budget that no policy of the network can meet."""


class PolicyError(HarnessError):
    """A policy that is malformed or belongs to another network."""


class RunError(HarnessError):
    """A run folder that is missing, unfinished or in the way."""


class CheckpointError(RunError):
    """A checkpoint that is incomplete, damaged or of another run."""


class NotFiniteError(HarnessError):
    """A loss, weights or a result that are no finite numbers, where they came up."""


class RankError(RunError):
    """Another process of the same run that ended or does not answer."""


class Stopped(HarnessError):
    """A run that a signal stopped, after it was saved.

    Attributes:
        signal_number: Of the signal.
    """

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


MAX_SHOWN = 100
"""Characters of a value that a message shows."""


def short(text: str) -> str:
    """Return a text that a line of a message has room for.

    >>> short("9" * 5000)[90:]
    '9999999999... (5000 characters)'
    """
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"
