"""Consoles that print names as they are: a path may hold `[red]` or `:smile:` and mean neither."""

import logging
import sys
import unicodedata

from rich.console import Console
from rich.logging import RichHandler

UNBROKEN = 10_000
"""Columns of what is no terminal: paths in files and pipes must not be broken or cut."""


def console(*, stderr: bool = False) -> Console:
    """Return a console without markup, emoji codes or highlighting."""
    plain = Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
    if not plain.is_terminal:
        plain.width = UNBROKEN
    return plain


def log_handler() -> logging.Handler:
    """Return what sends log records to the error stream, one line each where it is no terminal."""
    shown = console(stderr=True)
    if shown.is_terminal:
        return RichHandler(console=shown, show_path=False, rich_tracebacks=False)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s %(message)s", "%x %X"))
    return handler


def print_anything() -> None:
    """Let both streams print in escapes what their encoding lacks, in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # A stream that a test has put there may have none.
            reconfigure(errors="backslashreplace")


def in_one_line(text: str) -> str:
    r"""Return a text with escapes for what would break its line or steer the terminal.

    A path may hold a line break, or the codes that clear a screen.

    >>> in_one_line("run " + chr(10) + "x: é … is no run")
    'run \\nx: é … is no run'
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in text
    )
