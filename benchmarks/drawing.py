"""Figures as SVG, drawn by hand: lines, dots and words, and an axis with round numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666", "#e69f00", "#56b4e9", "#000000")
"""Told apart by people who see few colours (M. Okabe and K. Ito, 2008), and a gray."""

STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0)
MOST_TICKS = 8

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Maps values to a stretch of the page."""

    low: float
    high: float
    step: float
    start: float
    """Where `low` lies."""
    end: float
    """Where `high` lies."""

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values from low to high."""
        number = round((self.high - self.low) / self.step)
        return [self.low + self.step * index for index in range(number + 1)]

    def is_zero(self, tick: float) -> bool:
        """Return whether a tick is the one of zero."""
        return abs(tick) < self.step / 2


def axis(values: Iterable[float], *, start: float, end: float) -> Axis:
    """Return the axis that holds some values, and zero."""
    ends = [0.0, *values]
    width = max(ends) - min(ends)
    step = next(one for one in STEPS if width <= MOST_TICKS * one)
    low, high = math.floor(min(ends) / step) * step, math.ceil(max(ends) / step) * step
    high = high if high > low else low + step
    return Axis(low=low, high=high, step=step, start=start, end=end)


def page(parts: Sequence[str], *, width: float, height: float) -> str:
    """Return a whole figure."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
    )
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"


def colour(index: int) -> str:
    """Return one of the colours, from the first again behind the last."""
    return COLOURS[index % len(COLOURS)]


def dot(centre: Point, index: int) -> str:
    """Return a dot in one of the colours."""
    x, y = centre
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour(index)}"/>'


def line(start: Point, end: Point, stroke: str, *, width: int = 1) -> str:
    """Return a straight line."""
    (x1, y1), (x2, y2) = start, end
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{stroke}" stroke-width="{width}"/>'


def text(words: str, place: Point, *, anchor: str = "start", weight: str = "normal") -> str:
    """Return words at a place, which is their start, middle or end."""
    x, y = place
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {where}>{escape(words)}</text>"
