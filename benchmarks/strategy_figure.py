"""The figure of `benchmarks.strategies`: a panel for each trained supernet.

Each strategy has a dot for each budget, its test error minus that of the best uniform policy in
points, and a line for the 95 % interval.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.drawing import Axis, axis, colour, dot, line, page, text

WIDTH, PANEL_HEIGHT = 860, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 46, 34
LEGEND_HEIGHT = 30
YARDSTICK = "uniform"
"""Zero by definition, so it is not drawn."""


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
    parts = [*_legend(names)]
    for index, result in enumerate(results):
        parts += _panel(result, names, top=LEGEND_HEIGHT + PANEL_HEIGHT * index)
    return page(parts, width=WIDTH, height=LEGEND_HEIGHT + PANEL_HEIGHT * len(results))


def _legend(names: Sequence[str]) -> Iterator[str]:
    step = (WIDTH - LEFT) / max(1, len(names))
    for index, name in enumerate(names):
        x = LEFT + index * step
        yield dot((x, 16), index)
        yield text(name, (x + 9, 20))


def _panel(result: dict[str, Any], names: Sequence[str], *, top: float) -> Iterator[str]:
    bottom = top + PANEL_HEIGHT - BOTTOM
    scale = axis(_ends(result, names), start=bottom, end=top + TOP)
    title = f"{result['run']}: test error minus that of the best uniform policy, points"
    yield text(title, (LEFT, top + 30), weight="bold")
    for tick in scale.ticks:
        y, stroke = scale(tick), "#000000" if scale.is_zero(tick) else "#dddddd"
        yield line((LEFT, y), (WIDTH - RIGHT, y), stroke)
        yield text(f"{tick:+.1f}", (LEFT - 8, y + 4), anchor="end")
    group = (WIDTH - LEFT - RIGHT) / max(1, len(result["budgets"]))
    for place, row in enumerate(result["budgets"]):
        start = LEFT + place * group
        middle = (start + group / 2, top + PANEL_HEIGHT - 10)
        yield text(row["budget"], middle, anchor="middle")
        for index, name in enumerate(names):
            x = start + group * (index + 1) / (len(names) + 1)
            if name in row["strategies"]:
                yield from _point(row["strategies"][name]["minus_uniform"], x, scale, index)


def _point(values: dict[str, Any], x: float, scale: Axis, index: int) -> Iterator[str]:
    mean, half = values["mean"], values["half_width"] or 0.0
    yield line((x, scale(mean - half)), (x, scale(mean + half)), colour(index), width=2)
    yield dot((x, scale(mean)), index)


def _ends(result: dict[str, Any], names: Sequence[str]) -> Iterator[float]:
    for row in result["budgets"]:
        for name in names:
            if name in row["strategies"]:
                values = row["strategies"][name]["minus_uniform"]
                half = values["half_width"] or 0.0
                yield from (values["mean"] - half, values["mean"] + half)
