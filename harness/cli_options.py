"""Options of the commands: how each is named, what it takes and what its help says."""

from pathlib import Path
from typing import Annotated

import typer

from harness._search_rs import STRATEGIES

MOST_CONFIRMED = 10
"""Policies that are measured for an answer of an archive: more than that is a search."""

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a value; repeatable.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")
]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run folder; by default the newest finished one.")
]

DataPathOption = Annotated[
    Path | None, typer.Option("--data-path", help="Where the images lie now, if they were moved.")
]

TargetOption = Annotated[
    list[str] | None,
    typer.Option(help="31.6G, 540M, or a share of the largest, 45%; repeatable: a budget each."),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=AMOUNT",
        help="A limit beside the others, weight-bytes=1.2M; repeatable: all hold at once.",
    ),
]
FrontierOption = Annotated[
    int | None,
    typer.Option(min=1, help="So many budgets from the cheapest to the dearest policy."),
]
CostsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME:UNIT=FILE", help="Measured costs, latency:ms=board.csv."),
]
FromArchiveOption = Annotated[
    bool,
    typer.Option("--from-archive", help="Answer at once from what earlier searches evaluated."),
]
AllCandidatesOption = Annotated[
    bool,
    typer.Option("--all-candidates", help="Also bits that the bit-width scheduler has frozen."),
]
ConfirmOption = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_CONFIRMED, help="So many of its best answers are measured."),
]
StrategyOption = Annotated[str, typer.Option(help=f"How to search: {', '.join(STRATEGIES)}.")]
EvaluationsOption = Annotated[
    int, typer.Option(min=1, help="Policies evaluated, for all budgets together.")
]
StartOption = Annotated[
    str | None,
    typer.Option(help="gradient, as guided does by itself, none, or the folder of another search."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of every draw.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with an earlier search.")]
