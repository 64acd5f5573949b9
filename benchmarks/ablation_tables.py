"""The tables of `benchmarks.ablation`: accuracies, and differences to the plain recipe by seed."""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from benchmarks.intervals import half_width

YARDSTICK = "plain"
HEAD = (
    "# What each part of the training is worth",
    "",
    "![Test accuracy minus that of the plain recipe](ablation.svg)",
    "",
    "`python -m benchmarks.ablation --full`; benchmarks/ablation.py has the recipes, each one or "
    "two settings on top of `plain`. Test accuracy in %, BN statistics re-estimated, of uniform "
    "policies and of policies searched at budgets between them: mean ± deviation over seeds, which "
    "start from the same float network. *minus plain*: points, paired by seed, ± half of the 95 % "
    "interval by Student's t.",
)

Rows = Sequence[dict[str, Any]]

Column = tuple[str, str]
"""`uniform` or `searched`, and the bits or the budget."""


def title_of(column: Column) -> str:
    """Return what stands above a column."""
    kind, label = column
    return f"{label}/{label}" if kind == "uniform" else label


def markdown(rows: Rows) -> str:
    """Return the tables of all networks."""
    lines = list(HEAD)
    for network in dict.fromkeys(row["network"] for row in rows):
        lines += _network([row for row in rows if row["network"] == network])
    return "\n".join(lines) + "\n"


def _network(rows: Rows) -> Iterator[str]:
    first = rows[0]
    floats = {row["seed"]: 100 * row["float"] for row in rows}
    columns = [
        (kind, label)
        for kind in ("uniform", "searched")
        for label in dict.fromkeys(label for row in rows for label in row[kind])
    ]
    titles = [title_of(column) for column in columns]
    yield ""
    yield f"## {first['network']}: {first['training_images']} images"
    yield ""
    yield (
        f"Float: {_spread(list(floats.values()))} on the search split, seeds "
        f"{', '.join(map(str, sorted(floats)))}; {first['test_images']} test images judge."
    )
    yield ""
    yield f"| recipe | epochs | seeds | {' | '.join(titles)} |"
    yield "|---" * (3 + len(columns)) + "|"
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    for recipe in recipes:
        own = [row for row in rows if row["recipe"] == recipe]
        cells = [_spread(_values(own, column)) for column in columns]
        yield f"| {recipe} | {own[0]['epochs']} | {len(own)} | {' | '.join(cells)} |"
    plain = {row["seed"]: row for row in rows if row["recipe"] == YARDSTICK}
    if not plain or len(recipes) == 1:
        return
    yield ""
    yield f"| minus plain | {' | '.join(titles)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for recipe in recipes:
        if recipe != YARDSTICK:
            own = [row for row in rows if row["recipe"] == recipe]
            cells = [_difference(own, plain, column) for column in columns]
            yield f"| {recipe} | {' | '.join(cells)} |"


def _values(rows: Rows, column: Column) -> list[float]:
    kind, label = column
    return [100 * row[kind][label] for row in rows if label in row[kind]]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def differences(rows: Rows, plain: dict[int, dict[str, Any]], column: Column) -> list[float]:
    """Return a recipe's accuracy minus that of the yardstick in points, for each seed of both.

    Args:
        rows: Of the recipe.
        plain: Of the yardstick, by seed.
        column: Of the table.
    """
    kind, label = column
    return [
        100 * (row[kind][label] - plain[row["seed"]][kind][label])
        for row in rows
        if row["seed"] in plain and label in row[kind] and label in plain[row["seed"]][kind]
    ]


def _difference(rows: Rows, plain: dict[int, dict[str, Any]], column: Column) -> str:
    found = differences(rows, plain, column)
    if not found:
        return "-"
    return f"{mean(found):+.2f}" + (f" ± {half_width(found):.2f}" if len(found) > 1 else "")
