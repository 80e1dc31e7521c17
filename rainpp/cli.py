"""The `rainpp` command: arguments and rendering only. Heavy imports sit inside the commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rainpp import __version__
from rainpp.options import (
    Arguments,
    Asked,
    By,
    Checkpoint,
    Column,
    Config,
    DatabasePath,
    Debug,
    Encode,
    Factory,
    FitFunction,
    How,
    Id,
    IndexPath,
    Inputs,
    Json,
    Label,
    MaxRelaxError,
    Mode,
    Name,
    Once,
    Port,
    Repairs,
    Row,
    ServeDemo,
    Sql,
    Table,
    Target,
    Training,
    WatchFile,
    Where,
)
from rainpp.rendering import (
    say_alarm,
    say_round,
    show_built,
    show_estimate,
    show_index,
    show_loop,
    show_proof,
    show_ranking,
)
from rainpp.settings import read_settings
from rainpp.terminal import (
    ProgressBars,
    logs_on_stderr,
    reporting,
    say,
    show_json,
    stdout_on_stderr,
)
from rainpp.types import silent

app = typer.Typer(
    name="rainpp",
    help="From a wrong number in a SQL answer to the training rows behind it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def rainpp(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """From a wrong number in a SQL answer to the training rows behind it."""
    del version  # the callback has printed it


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", help="Folder for what is written.")] = Path(),
    stream: Annotated[
        bool, typer.Option("--stream", help="Watch a stream instead, and find it from an alarm.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Corrupt bundled real data, find the corruption from a complaint, prove it by retraining."""
    with reporting(debug=debug):
        if stream:
            from rainpp.demo import run_stream_demo as run
        else:
            from rainpp.demo import run_demo as run

        with ProgressBars() as progress:
            summary = run(output, progress=progress)
        if as_json:
            show_json(summary.as_dict())
        else:
            for line in summary.lines():
                typer.echo(line)


@app.command()
def precompute(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Trained weights: .npz, .safetensors, .msgpack, Orbax.")
    ] = None,
    config: Config = None,
    model: Factory = None,
    name: Name = None,
    training: Training = None,
    inputs: Inputs = None,
    label: Label = None,
    id_column: Id = None,
    index: IndexPath = None,
    k: Annotated[str | None, typer.Option("--k", help='Eigenpairs: "auto" or a number.')] = None,
    interventions: Annotated[
        list[str] | None, typer.Option("--intervention", help="delete or relabel; repeat.")
    ] = None,
    repairs: Repairs = None,
    matmul: Annotated[
        str | None, typer.Option("--matmul", help="float32, or bfloat16 matrix products.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="Of the projections: float32, float16, int8.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help='To use beside the rows, such as "8GB".')
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it will cost; writes nothing.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option("--distributed", help="One of several processes (srun, mpirun, variables)."),
    ] = False,
    database: DatabasePath = None,
    table: Table = None,
    args: Arguments = None,
    encode: Encode = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build the index of a trained model, once. Every option may stand in rainpp.toml."""
    with reporting(debug=debug):
        settings = (
            read_settings(config)
            .override("model", factory=model, checkpoint=checkpoint, name=name)
            .override("training", path=training, inputs=inputs, label=label, id=id_column)
            .override("index", path=index, k=k, interventions=interventions, repairs=repairs)
            .override("index", matmul=matmul, memory=memory, storage=storage)
            .override("database", path=database, table=table, args=args, encode=encode)
        )
        from rainpp.index.together import first_process, join_processes
        from rainpp.workspace import build_index, estimate_index

        with stdout_on_stderr(wanted=distributed), ProgressBars() as progress:
            if distributed:
                join_processes()
            shown = progress if first_process() else silent
            if dry_run:
                show = partial(show_estimate, estimate_index(settings))
            else:
                show = partial(show_built, build_index(settings, shown))
        if first_process():
            show(as_json=as_json)


@app.command()
def complain(
    sql: Sql,
    column: Column,
    should: How,
    where: Where = None,
    row: Row = None,
    target: Target = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many training rows.")] = 20,
    refine: Annotated[
        int, typer.Option("--refine", min=0, help="Steps towards exact effects; reads --training.")
    ] = 0,
    fix: Annotated[
        Path | None,
        typer.Option(
            "--fix", help="Write the smallest fix to this Parquet file; reads --training."
        ),
    ] = None,
    by: By = None,
    mode: Mode = "exact",
    max_relax_error: MaxRelaxError = 0.1,
    config: Config = None,
    model: Factory = None,
    checkpoint: Checkpoint = None,
    name: Name = None,
    index: IndexPath = None,
    repairs: Repairs = None,
    database: DatabasePath = None,
    table: Table = None,
    args: Arguments = None,
    encode: Encode = None,
    training: Training = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Rank the training rows behind a wrong number in the answer to SQL."""
    asked = Asked(sql, column, should, where, row, target, mode, max_relax_error)
    if by is not None and fix is None:
        raise typer.BadParameter("it says how far a fix goes; give --fix, too.", param_hint="--by")
    with reporting(debug=debug):
        settings = (
            read_settings(config)
            .override("model", factory=model, checkpoint=checkpoint, name=name)
            .override("training", path=training)
            .override("index", path=index, repairs=repairs)
            .override("database", path=database, table=table, args=args, encode=encode)
        )
        from rainpp.patch import check_writable
        from rainpp.workspace import open_database

        if fix is not None:
            check_writable(fix)
        with_training = refine > 0 or fix is not None
        with open_database(settings, with_training=with_training) as opened:
            bound = asked.complaint(opened)
            ranking = bound.rank()
            if refine:
                ranking.refine(refine)
            if fix is not None:
                made = ranking.fix(by=by)
                made.save(fix)
                say(f"{made} written to `{fix}`")
            show_ranking(ranking, bound.result, ranking.top(top), as_json=as_json)


@app.command()
def verify(
    sql: Sql,
    column: Column,
    should: How,
    where: Where = None,
    row: Row = None,
    target: Target = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="Apply so many of the best; 100 by default.")
    ] = None,
    patch: Annotated[
        Path | None, typer.Option("--patch", help="Apply the changes of this patch instead.")
    ] = None,
    fit: FitFunction = None,
    mode: Mode = "exact",
    max_relax_error: MaxRelaxError = 0.1,
    config: Config = None,
    model: Factory = None,
    checkpoint: Checkpoint = None,
    name: Name = None,
    index: IndexPath = None,
    repairs: Repairs = None,
    database: DatabasePath = None,
    table: Table = None,
    args: Arguments = None,
    encode: Encode = None,
    training: Training = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove a fix: change training rows, train again with your function, ask SQL again."""
    asked = Asked(sql, column, should, where, row, target, mode, max_relax_error)
    if top is not None and patch is not None:
        raise typer.BadParameter("give one of them.", param_hint="--top and --patch")
    with reporting(debug=debug):
        settings = (
            read_settings(config)
            .override("model", factory=model, checkpoint=checkpoint, name=name, fit=fit)
            .override("training", path=training)
            .override("index", path=index, repairs=repairs)
            .override("database", path=database, table=table, args=args, encode=encode)
        )
        from rainpp.patch import read_patch
        from rainpp.verification import verify as verified
        from rainpp.workspace import load_fit, open_database

        function, changes = load_fit(settings), read_patch(patch) if patch else None
        with open_database(settings, with_training=True) as opened:
            ranking = asked.complaint(opened).rank()
            with stdout_on_stderr(wanted=True):
                proof = verified(ranking, fit=function, top=top, patch=changes)
        show_proof(proof, as_json=as_json)


@app.command()
def repair(
    sql: Sql,
    column: Column,
    should: How,
    where: Where = None,
    row: Row = None,
    target: Target = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="At most so many.")] = 10,
    most: Annotated[
        int, typer.Option("--most", min=1, help="Change at most so many training rows.")
    ] = 1000,
    by: By = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Only delete, relabel or the name of a repair; repeat."),
    ] = None,
    patch: Annotated[
        Path | None, typer.Option("--patch", help="Write all changes to this Parquet file.")
    ] = None,
    fit: FitFunction = None,
    mode: Mode = "exact",
    max_relax_error: MaxRelaxError = 0.1,
    config: Config = None,
    model: Factory = None,
    checkpoint: Checkpoint = None,
    name: Name = None,
    index: IndexPath = None,
    repairs: Repairs = None,
    database: DatabasePath = None,
    table: Table = None,
    args: Arguments = None,
    encode: Encode = None,
    training: Training = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fix, train again with your function and ask SQL again, until the complaint holds."""
    asked = Asked(sql, column, should, where, row, target, mode, max_relax_error)
    with reporting(debug=debug):
        settings = (
            read_settings(config)
            .override("model", factory=model, checkpoint=checkpoint, name=name, fit=fit)
            .override("training", path=training)
            .override("index", path=index, repairs=repairs)
            .override("database", path=database, table=table, args=args, encode=encode)
        )
        from rainpp.patch import check_writable
        from rainpp.repair import RepairInterrupted, repair_loop
        from rainpp.workspace import load_fit, open_database

        function = load_fit(settings)
        if patch is not None:
            check_writable(patch)
        stopped = None
        with open_database(settings, with_training=True) as opened:
            ranking = asked.complaint(opened).rank()
            try:
                with stdout_on_stderr(wanted=True):
                    loop = repair_loop(
                        ranking,
                        fit=function,
                        rounds=rounds,
                        most=most,
                        by=by,
                        kinds=kinds or None,
                        k=settings.index.k,
                        round_done=say_round,
                    )
            except RepairInterrupted as interrupted:
                loop, stopped = interrupted.loop, interrupted
        try:  # the patch first: whoever reads our stdout may go away
            if patch is not None:
                say(f"{loop.patch} written to `{loop.patch.save(patch)}`")
        finally:
            show_loop(loop, as_json=as_json)
        if stopped is not None:
            raise KeyboardInterrupt from stopped


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="Directory of an index.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check an index against its checksums and show what it holds."""
    with reporting(debug=debug):
        from rainpp.index.artifact import load

        show_index(load(path), as_json=as_json)


@app.command()
def watch(
    file: WatchFile = None, once: Once = False, as_json: Json = False, debug: Debug = False
) -> None:
    """Watch a stream: monitors, alarms, hooks and sources of watch.toml; alarms on stdout."""
    with reporting(debug=debug), logs_on_stderr(debug=debug):
        from rainpp.watching.config import read_config

        config = read_config(file)
        from rainpp.watching.run import watch as watched

        watched(config, partial(say_alarm, as_json=as_json), once=once)


@app.command()
def serve(
    file: WatchFile = None,
    demo: ServeDemo = False,
    port: Port = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Watch a stream as `rainpp watch` does, and show it on a web page."""
    with reporting(debug=debug), logs_on_stderr(debug=debug):
        if demo:
            from rainpp.dashboard.demo import ABOUT, serve_demo

            wanted = 8765 if port is None else port
            serve_demo(port=wanted, ready=lambda url: say(f"open {url}\n{ABOUT}"))
            return
        from rainpp.watching.config import read_config

        config = read_config(file)
        from rainpp.watching.run import watch as watched

        watched(config.at_port(port), partial(say_alarm, as_json=as_json), page=True)


def main() -> None:
    """Entry point of the `rainpp` command."""
    app(prog_name="rainpp")


if __name__ == "__main__":
    main()
