"""The `rainpp` command: arguments and rendering only. Heavy imports sit inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rainpp import __version__
from rainpp.complaint import Should
from rainpp.settings import read_settings
from rainpp.terminal import (
    ProgressBars,
    reporting,
    say,
    show_checks,
    show_json,
    show_pairs,
    show_table,
    stdout_on_stderr,
)
from rainpp.types import silent

if TYPE_CHECKING:
    import pandas as pd

    from rainpp.index.artifact import Index
    from rainpp.index.estimate import Estimate
    from rainpp.ranking import Ranking
    from rainpp.result import Result

app = typer.Typer(
    name="rainpp",
    help="From a wrong number in a SQL answer to the training rows behind it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="Settings; ./rainpp.toml by default.")
]
Factory = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODULE:FUNCTION", help="From the checkpoint's path to a rainpp.Model."
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="What SQL calls the model.")]
IndexPath = Annotated[Path | None, typer.Option("--index", help="Directory of the index.")]
DatabasePath = Annotated[Path | None, typer.Option("--database", help="DuckDB file.")]
Table = Annotated[str | None, typer.Option("--table", help="Table the model predicts.")]
Arguments = Annotated[
    list[str] | None, typer.Option("--arg", help="Column the model reads; repeat in order.")
]
Encode = Annotated[
    str | None,
    typer.Option(
        "--encode", metavar="MODULE:FUNCTION", help="From the columns to the model's inputs."
    ),
]
Training = Annotated[
    Path | None, typer.Option("--training", help="Training rows: .npz, .parquet or .csv.")
]
Inputs = Annotated[list[str] | None, typer.Option("--input", help="Input column; repeat.")]
Label = Annotated[str | None, typer.Option("--label", help="Label column.")]
Id = Annotated[str | None, typer.Option("--id", help="Column of training ids.")]


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
    output: Annotated[Path, typer.Option("--output", help="Folder for report.html.")] = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Corrupt bundled real data, find the corruption from a complaint, prove it by retraining."""
    with reporting(debug=debug):
        from rainpp.demo import run_demo

        with ProgressBars() as progress:
            summary = run_demo(output, progress=progress)
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
            .override("index", path=index, k=k, interventions=interventions)
            .override("index", matmul=matmul, memory=memory, storage=storage)
            .override("database", path=database, table=table, args=args, encode=encode)
        )
        from rainpp.index.together import first_process, join_processes
        from rainpp.workspace import build_index, estimate_index

        with stdout_on_stderr(wanted=distributed), ProgressBars() as progress:
            if distributed:
                join_processes()
            shown = progress if first_process() else silent
            built = estimate_index(settings) if dry_run else build_index(settings, shown)
        if first_process():
            _show_built(built, as_json=as_json)


@app.command()
def complain(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="The query whose answer is wrong.")],
    column: Annotated[str, typer.Option("--column", help="Column of the wrong number.")],
    should: Annotated[Should, typer.Option("--should", help="How it should change.")],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help="Which row of the answer; repeat."),
    ] = None,
    row: Annotated[int | None, typer.Option("--row", help="Which row, by number from 0.")] = None,
    target: Annotated[
        float | None, typer.Option("--target", help="For equal, at_least and at_most.")
    ] = None,
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
    by: Annotated[
        float | None,
        typer.Option("--by", help="How far --fix should move a number without target."),
    ] = None,
    mode: Annotated[str, typer.Option("--mode", help='"exact" or "rain".')] = "exact",
    max_relax_error: Annotated[
        float, typer.Option(min=0, help="Largest relative error of a sampled query.")
    ] = 0.1,
    config: Config = None,
    model: Factory = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Trained weights.")
    ] = None,
    name: Name = None,
    index: IndexPath = None,
    database: DatabasePath = None,
    table: Table = None,
    args: Arguments = None,
    encode: Encode = None,
    training: Training = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Rank the training rows behind a wrong number in the answer to SQL."""
    pairs = _pairs(where or [])
    with reporting(debug=debug):
        settings = (
            read_settings(config)
            .override("model", factory=model, checkpoint=checkpoint, name=name)
            .override("training", path=training)
            .override("index", path=index)
            .override("database", path=database, table=table, args=args, encode=encode)
        )
        from rainpp.workspace import open_database

        with_training = refine > 0 or fix is not None
        with open_database(settings, with_training=with_training) as opened:
            result = opened.sql(sql, mode=mode, max_relax_error=max_relax_error)
            ranking = result.complain(
                column,
                should=should.value,
                row=row,
                where=_typed(pairs, result) if pairs else None,
                target=target,
            ).rank()
            if refine:
                ranking.refine(refine)
            if fix is not None:
                made = ranking.fix(by=by)
                made.save(fix)
                say(f"{made} written to `{fix}`")
            _show_ranking(ranking, result, ranking.top(top), as_json=as_json)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="Directory of an index.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check an index against its checksums and show what it holds."""
    with reporting(debug=debug):
        from rainpp.index.artifact import load

        index = load(path)
        if as_json:
            spectrum = {"eigenvalues": index.eigenvalues, "manifest": index.manifest}
            show_json({**_about(index), **spectrum})
        else:
            show_pairs({**_about(index), **_spectrum(index), **index.manifest["checks"]})
            show_checks(index.manifest.get("self_checks", []))


def _show_built(found: Index | Estimate, *, as_json: bool) -> None:
    from rainpp.index.artifact import Index

    if isinstance(found, Index):
        (show_json if as_json else show_pairs)(_about(found))
        return
    if as_json:
        show_json(found.as_dict())
        return
    columns = ["stage", "passes", "rows", "seconds"]
    show_table(columns, [[s.name, s.passes, s.rows, s.seconds] for s in found.stages])
    for line in found.summary():
        typer.echo(line)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is not COLUMN=VALUE.", param_hint="--where")
    return name, value


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, value = _pair(text)
        if name in pairs:
            raise typer.BadParameter(f"{name!r} is given twice.", param_hint="--where")
        pairs[name] = value
    return pairs


def _typed(pairs: dict[str, str], result: Result) -> dict[str, Any]:
    """Values of --where as the types of the answer's columns, where they can be read so."""
    from pandas import Timestamp

    frame = result.df()
    readers = {"i": int, "u": int, "f": float, "b": _read_truth, "M": Timestamp}
    typed: dict[str, Any] = {}
    for name, text in pairs.items():
        reader = readers.get(frame[name].dtype.kind, str) if name in frame else str
        try:
            typed[name] = reader(text)
        except (ValueError, KeyError):
            typed[name] = text
    return typed


def _read_truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _show_ranking(ranking: Ranking, result: Result, top: pd.DataFrame, *, as_json: bool) -> None:
    complaint = ranking.complaints[0]
    if as_json:
        show_json(
            {
                "complaint": str(complaint),
                "value": complaint.hard,
                "relaxed": complaint.relaxed,
                "method": result.method,
                "coverage": ranking.coverage,
                "refined_steps": ranking.refined_steps,
                "trust": ranking.trust.as_dict(),
                "ranking": top.to_dict(orient="records"),
            }
        )
        return
    if ranking.refinement is None:
        how = f"the index captures {ranking.coverage:.0%} of it"
    else:
        how = f"scores from the index, effects refined: {ranking.refinement}"
    say(f"{complaint}  [{result.method}; {how}]")
    trust = ranking.trust
    for line in (trust.sentence, *trust.notes):
        say(line)
    show_table(list(top.columns), top.to_numpy(dtype=object).tolist())


def _about(index: Index) -> dict[str, Any]:
    manifest = index.manifest
    return {
        "path": index.path,
        "k": index.k,
        "training_rows": index.num_train,
        "parameters": manifest["num_params"],
        "classes": manifest["num_classes"],
        "interventions": ", ".join(manifest["interventions"]) or "none: the half for users",
        "storage": manifest.get("storage", {}).get("kind", "float32"),
        "loss": manifest["loss"],
        "l2": manifest["l2"],
        "tables": ", ".join(entry["table"] for entry in manifest["inference"].values()),
        "at_optimum": manifest["checks"]["at_optimum"],
    }


def _spectrum(index: Index) -> dict[str, Any]:
    return {
        "k_rule": index.manifest["k_rule"],
        "eigenvalues": " ".join(f"{value:.3g}" for value in index.eigenvalues),
        "ratios": " ".join(
            f"{value:.2f}" for value in index.eigenvalues[1:] / index.eigenvalues[:-1]
        ),
        "model_fingerprint": index.manifest["model_fingerprint"],
        "data_fingerprint": index.manifest["data_fingerprint"],
        "written_by": f"rainpp {index.manifest['rainpp']}",
    }


def main() -> None:
    """Entry point of the `rainpp` command."""
    app(prog_name="rainpp")


if __name__ == "__main__":
    main()
