"""The figure of `benchmarks.ablation`: a panel for each network, a row for each recipe.

A dot is a recipe's test accuracy minus that of `plain`, in points, mean over the seeds that both
have, and a line its 95 % interval; a colour stands for a uniform policy or a budget.
"""

from collections.abc import Iterator

from benchmarks.ablation_tables import YARDSTICK, Column, Rows, differences, title_of
from benchmarks.drawing import Axis, axis, colour, dot, line, page, text
from benchmarks.intervals import half_width

WIDTH, ROW_HEIGHT = 860, 34
LEFT, RIGHT, TOP, BOTTOM = 230, 24, 66, 30
SHOWN: tuple[Column, ...] = (
    ("uniform", "2"),
    ("uniform", "4"),
    ("uniform", "6"),
    ("searched", "2/2 to 3/3"),
)
"""Of the tables' columns those that say most: more dots would hide each other."""


def figure(rows: Rows) -> str:
    """Return the figure of all networks as SVG."""
    parts: list[str] = []
    top = 0.0
    for network in dict.fromkeys(row["network"] for row in rows):
        found = _found([row for row in rows if row["network"] == network])
        parts += _panel(network, found, top=top)
        top += TOP + BOTTOM + ROW_HEIGHT * len(found)
    return page(parts, width=WIDTH, height=top)


Found = dict[str, dict[Column, tuple[float, float]]]
"""By recipe and column, the mean difference and half of its interval."""


def _found(rows: Rows) -> Found:
    plain = {row["seed"]: row for row in rows if row["recipe"] == YARDSTICK}
    found: Found = {}
    for recipe in dict.fromkeys(row["recipe"] for row in rows if row["recipe"] != YARDSTICK):
        own = [row for row in rows if row["recipe"] == recipe]
        found[recipe] = {}
        for column in SHOWN:
            if values := differences(own, plain, column):
                half = half_width(values) if len(values) > 1 else 0.0
                found[recipe][column] = (sum(values) / len(values), half)
    return found


def _panel(network: str, found: Found, *, top: float) -> Iterator[str]:
    values = [pair for columns in found.values() for pair in columns.values()]
    ends = [end for mean, half in values for end in (mean - half, mean + half)]
    scale = axis(ends, start=LEFT, end=WIDTH - RIGHT)
    bottom = top + TOP + ROW_HEIGHT * len(found)
    yield text(f"{network}: test accuracy minus plain's, points", (20, top + 24), weight="bold")
    yield from _legend(top + 46)
    for tick in scale.ticks:
        x, stroke = scale(tick), "#000000" if scale.is_zero(tick) else "#dddddd"
        yield line((x, top + TOP), (x, bottom), stroke)
        yield text(f"{tick:+.1f}", (x, bottom + 16), anchor="middle")
    for place, (recipe, columns) in enumerate(found.items()):
        y = top + TOP + ROW_HEIGHT * (place + 0.5)
        yield text(recipe, (LEFT - 10, y + 4), anchor="end")
        yield from _row(columns, y, scale)


def _legend(y: float) -> Iterator[str]:
    step = (WIDTH - LEFT) / len(SHOWN)
    for index, column in enumerate(SHOWN):
        yield dot((LEFT + index * step, y - 4), index)
        yield text(title_of(column), (LEFT + index * step + 9, y))


def _row(columns: dict[Column, tuple[float, float]], y: float, scale: Axis) -> Iterator[str]:
    gap = ROW_HEIGHT / (len(SHOWN) + 1)
    for index, column in enumerate(SHOWN):
        if column in columns:
            mean, half = columns[column]
            height = y + (index - (len(SHOWN) - 1) / 2) * gap
            start, end = (scale(mean - half), height), (scale(mean + half), height)
            yield line(start, end, colour(index), width=2)
            yield dot((scale(mean), height), index)
