"""The command line; heavy imports live inside the commands, so that `--help` is instant."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import harness
from harness import outcome_tables, ranks, tables
from harness._search_rs import DEFAULT_EVALUATIONS, STRATEGIES
from harness.cli_options import (
    AllCandidatesOption,
    BudgetOption,
    ConfirmOption,
    CostsOption,
    DataPathOption,
    EvaluationsOption,
    FromArchiveOption,
    FrontierOption,
    JsonOption,
    ResumeOption,
    RunOption,
    SeedOption,
    SetOption,
    StartOption,
    StrategyOption,
    TargetOption,
)
from harness.command_line import run_app, working
from harness.errors import ConfigError
from harness.terminal import console

if TYPE_CHECKING:
    from harness.run.folder import RunDir
    from harness.runtime import TerminalObserver
    from harness.search.outcome import SearchOutcome

app = typer.Typer(
    help="Train a quantization supernet, search bit-widths under a BitOPs budget, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEMO_SETTINGS = ("model.name=mobilenetv2_small", "quant.depthwise_min_bits=2")
"""Of the demo, before the user's own: a network whose layers need different bits."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit, as `run_app` says."""
    run_app(app, arguments)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"harness {harness.__version__}")
        raise typer.Exit


@app.command()
def bitops(
    model: Annotated[str, typer.Argument(help="Built-in or timm model name.")],
    weight_bits: Annotated[int | None, typer.Option(min=1, max=32)] = None,
    act_bits: Annotated[int | None, typer.Option(min=1, max=32)] = None,
    policy_file: Annotated[
        Path | None, typer.Option("--policy", help="A policy.json instead of bits.")
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(min=1, max=2**16, help="Height and width; 32 for built-in models, else 224."),
    ] = None,
    in_channels: Annotated[int, typer.Option(min=1, max=2**16)] = 3,
    num_classes: Annotated[int, typer.Option(min=1, max=2**24)] = 1000,
    convention: Annotated[
        str,
        typer.Option(
            help="How BitOPs count: paper, first-activation-32, ends-excluded, uniform, or all."
        ),
    ] = "paper",
    json: JsonOption = False,
) -> None:
    """Account BitOPs, model size and inputs of a network under a policy (4/4 by default)."""
    from harness.models import create_model, default_input_size
    from harness.problem.conventions import ALL, convention_named
    from harness.problem.cost import same_bits_policy
    from harness.quant.convert import describe_network
    from harness.run.config import ModelConfig, QuantConfig
    from harness.run.policy_file import load_policy

    if convention != ALL:
        convention_named(convention)  # Refuses a mistake before the network is made.
    if policy_file is not None and (weight_bits or act_bits):
        raise ConfigError("--policy and --weight-bits or --act-bits exclude each other; give one")
    size = input_size or default_input_size(model)[1]
    network = describe_network(
        create_model(
            ModelConfig(name=model), num_classes=num_classes, in_channels=in_channels, device="meta"
        ),
        name=model,
        input_size=(in_channels, size, size),
        num_classes=num_classes,
        config=QuantConfig(),
    )
    policy = (
        load_policy(policy_file, network)
        if policy_file is not None
        else same_bits_policy(network, weight_bits=weight_bits or 4, act_bits=act_bits or 4)
    )
    values = tables.ledger_json(network, policy, convention)
    _show(values, tables.ledger_table(network, policy, convention), json=json)


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="YAML; by default the digits job.")] = None,
    overrides: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    resume: Annotated[str, typer.Option(help="auto, never, or a checkpoint folder.")] = "auto",
    data_path: DataPathOption = None,
) -> None:
    """Train a supernet, or a float network; go on where an earlier call stopped."""
    from harness.run.config import load_config

    resolved = load_config(config, overrides=overrides or []).with_data_path(data_path)
    from harness.training.trainer import train as train_run

    with working(), _observer() as observer:
        train_run(resolved, out=out, resume=resume, observer=observer)


@app.command()
def search(
    target_bitops: TargetOption = None,
    budget: BudgetOption = None,
    frontier: FrontierOption = None,
    costs: CostsOption = None,
    from_archive: FromArchiveOption = False,
    confirm: ConfirmOption = None,
    run: RunOption = None,
    strategy: StrategyOption = STRATEGIES[0],
    evaluations: EvaluationsOption = DEFAULT_EVALUATIONS,
    start: StartOption = None,
    all_candidates: AllCandidatesOption = False,
    seed: SeedOption = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of results; RUN/search.")] = None,
    resume: ResumeOption = False,
    data_path: DataPathOption = None,
    json: JsonOption = False,
) -> None:
    """Search the most accurate policy under each budget, by inference alone."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"strategy {strategy} is unknown; choose {' or '.join(STRATEGIES)}")
    if not target_bitops and not budget and not frontier:
        raise ConfigError(
            "no budget is given; write --target-bitops 45%, --budget bitops=5.5G or --frontier 10"
        )
    if confirm is not None and not from_archive:
        raise ConfigError("--confirm measures an answer of --from-archive; give both")
    if from_archive:
        is_confirmed = confirm is not None
        _refuse_unused(
            ("--strategy", strategy != STRATEGIES[0]),
            ("--evaluations", evaluations != DEFAULT_EVALUATIONS),
            ("--start", start is not None),
            ("--seed", seed != 0),
            ("--resume", resume and not is_confirmed),
            ("--data-path", data_path is not None and not is_confirmed),
        )
    folder = _run_or_newest(run)
    from harness.search.request import SearchOptions

    options = SearchOptions(
        strategy=strategy,
        evaluations=evaluations,
        seed=seed,
        start=start,
        resume=resume,
        data_path=data_path,
        limits=budget or (),
        costs=costs or (),
        frontier=frontier or 0,
        all_candidates=all_candidates,
    )
    targets = target_bitops or ()
    if from_archive and confirm is None:
        _show_answers(folder, targets, json=json, out=out, options=options)
        return
    _setup_logging()
    with working(), _observer() as observer:
        outcomes = _searched(folder, targets, confirm, out=out, options=options, observer=observer)
    _show_outcomes(folder, outcomes, json=json)


def _show_answers(run: "RunDir", targets: Sequence[str], *, json: bool, **how: Any) -> None:
    from harness.search.from_archive import answer

    answers = answer(run, targets, **how)
    table = outcome_tables.answers_table(answers)
    _show(outcome_tables.answers_json(run, answers), table, json=json)


def _refuse_unused(*options: tuple[str, bool]) -> None:
    """Refuse options of a search, each with whether it was given, where nothing is searched."""
    names = [name for name, is_given in options if is_given]
    if names:
        raise ConfigError(
            f"--from-archive evaluates nothing and has no use for {' and '.join(names)}; leave "
            "that out, or search without --from-archive"
        )


def _searched(
    run: "RunDir", targets: Sequence[str], most_confirmed: int | None, **how: Any
) -> "list[SearchOutcome]":
    if most_confirmed is None:
        from harness.search.driver import search as search_run

        return search_run(run, targets, **how)
    from harness.search.confirm import confirm

    return confirm(run, targets, most=most_confirmed, **how)


@app.command("eval")
def evaluate(
    policy_text: Annotated[
        str, typer.Option("--policy", help="A policy.json, or uniform bits W/A.")
    ],
    run: RunOption = None,
    split: Annotated[str, typer.Option(help="train, search or test.")] = "test",
    all_candidates: AllCandidatesOption = False,
    data_path: DataPathOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a policy's accuracy, with BN statistics re-estimated for it."""
    if split not in ("train", "search", "test"):
        raise ConfigError(f"split {split} is unknown; choose train, search or test")
    folder = _run_or_newest(run)
    from harness.run.policy_file import resolve_policy
    from harness.trained_run import load_run

    network = folder.load_network()
    resolve_policy(policy_text, network)  # Refuses a mistake before weights and data are loaded.
    with working():
        trained = load_run(folder, data_path=data_path)
        candidates = network.candidates if all_candidates else trained.candidates
        policy = resolve_policy(policy_text, network, candidates=candidates)
        (accuracy,) = trained.accuracy([policy], split=split)
    values = tables.evaluation_json(network, policy, accuracy=accuracy, split=split)
    _show(values, tables.evaluation_table(values, label=policy_text, split=split), json=json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    overrides: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train, search and compare on the embedded digits, in some minutes."""
    from harness.run.config import load_config

    config = load_config(None, overrides=[*DEMO_SETTINGS, *(overrides or [])])
    from harness.main_job import run_main_job

    _setup_logging()
    with working(), _observer() as observer:
        run, outcomes = run_main_job(config, out=out, observer=observer)
    _show_outcomes(run, outcomes, json=json)


def _run_or_newest(run: Path | None) -> "RunDir":
    from harness.run.folder import RunDir, newest_finished_run

    return newest_finished_run() if run is None else RunDir(run)


def _observer() -> "TerminalObserver":
    from harness.runtime import TerminalObserver

    return TerminalObserver()


def _setup_logging() -> None:
    from harness.runtime import setup_logging

    setup_logging(is_main_process=ranks.is_main_process())


def _show_outcomes(run: "RunDir", outcomes: "list[SearchOutcome]", *, json: bool) -> None:
    _show(
        outcome_tables.outcomes_json(run, outcomes),
        outcome_tables.outcomes_table(outcomes),
        json=json,
    )
    if not json:
        layers = outcome_tables.layers_table(run.load_network(), outcomes)
        if layers is not None:
            console().print(layers)
        folders = [str(run.path), *(str(outcome.folder) for outcome in outcomes)]
        console().print("artefacts: " + "  ".join(folders))


def _show(values: dict[str, Any], table: Any, *, json: bool) -> None:
    if json:
        import json as json_module

        typer.echo(json_module.dumps(values))
    else:
        console().print(table)
