"""The figure of `benchmarks.strategies`, drawn by hand: a panel for each trained supernet.

Each strategy has a dot for each budget, its test error minus that of the best uniform policy in
points, and a line for the 95 % interval.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666", "#e69f00", "#56b4e9", "#000000")
"""Told apart by people who see few colours (M. Okabe and K. Ito, 2008), and a gray."""

WIDTH, PANEL_HEIGHT = 860, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 46, 34
LEGEND_HEIGHT = 30
YARDSTICK = "uniform"
"""Zero by definition, so it is not drawn."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Where points lie on the page."""

    low: float
    high: float
    step: float
    top: float

    def y(self, points: float) -> float:
        height = PANEL_HEIGHT - TOP - BOTTOM
        return self.top + TOP + (self.high - points) / (self.high - self.low) * height

    @property
    def ticks(self) -> list[float]:
        number = round((self.high - self.low) / self.step)
        return [self.low + self.step * index for index in range(number + 1)]


def figure(results: Sequence[dict[str, Any]]) -> str:
    """Return the figure of the runs as SVG."""
    names = list(
        dict.fromkeys(
            name
            for result in results
            for row in result["budgets"]
            for name in row["strategies"]
            if name != YARDSTICK
        )
    )
    height = LEGEND_HEIGHT + PANEL_HEIGHT * len(results)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_legend(names),
    ]
    for index, result in enumerate(results):
        parts += _panel(result, names, top=LEGEND_HEIGHT + PANEL_HEIGHT * index)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(names: Sequence[str]) -> Iterator[str]:
    step = (WIDTH - LEFT) / max(1, len(names))
    for index, name in enumerate(names):
        x = LEFT + index * step
        yield f'<circle cx="{x:.1f}" cy="16" r="4" fill="{_colour(index)}"/>'
        yield _text(name, x + 9, 20)


def _panel(result: dict[str, Any], names: Sequence[str], *, top: float) -> Iterator[str]:
    scale = _scale_of(result, names, top=top)
    title = f"{result['run']}: test error minus that of the best uniform policy, points"
    yield _text(title, LEFT, top + 30, weight="bold")
    for tick in scale.ticks:
        stroke = "#000000" if abs(tick) < scale.step / 2 else "#dddddd"
        y = scale.y(tick)
        yield _line((LEFT, y), (WIDTH - RIGHT, y), stroke)
        yield _text(f"{tick:+.1f}", LEFT - 8, y + 4, anchor="end")
    group = (WIDTH - LEFT - RIGHT) / max(1, len(result["budgets"]))
    for place, row in enumerate(result["budgets"]):
        start = LEFT + place * group
        yield _text(row["budget"], start + group / 2, top + PANEL_HEIGHT - 10, anchor="middle")
        for index, name in enumerate(names):
            x = start + group * (index + 1) / (len(names) + 1)
            if name in row["strategies"]:
                yield from _point(row["strategies"][name]["minus_uniform"], x, scale, index)


def _point(values: dict[str, Any], x: float, scale: _Scale, index: int) -> Iterator[str]:
    mean, half = values["mean"], values["half_width"] or 0.0
    low, high = (x, scale.y(mean - half)), (x, scale.y(mean + half))
    yield _line(low, high, _colour(index), width=2)
    yield f'<circle cx="{x:.1f}" cy="{scale.y(mean):.1f}" r="4" fill="{_colour(index)}"/>'


def _scale_of(result: dict[str, Any], names: Sequence[str], *, top: float) -> _Scale:
    ends = [0.0]
    for row in result["budgets"]:
        for name in names:
            if name in row["strategies"]:
                values = row["strategies"][name]["minus_uniform"]
                half = values["half_width"] or 0.0
                ends += [values["mean"] - half, values["mean"] + half]
    width = max(ends) - min(ends)
    step = next(one for one in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0) if width <= 8 * one)
    low, high = math.floor(min(ends) / step) * step, math.ceil(max(ends) / step) * step
    return _Scale(low=low, high=high if high > low else low + step, step=step, top=top)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _line(start: Point, end: Point, stroke: str, *, width: int = 1) -> str:
    (x1, y1), (x2, y2) = start, end
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{stroke}" stroke-width="{width}"/>'


def _text(words: str, x: float, y: float, *, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {place}>{escape(words)}</text>"
