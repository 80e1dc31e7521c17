"""What the commands can be told: the options they share, and the complaint made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rainpp.complaint import Should

if TYPE_CHECKING:
    from rainpp.bound_complaint import BoundComplaint
    from rainpp.database import Database
    from rainpp.result import Result

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WatchFile = Annotated[Path | None, typer.Argument(help="What to watch; ./watch.toml by default.")]
Once = Annotated[bool, typer.Option("--once", help="Take what the sources have, then end.")]
ServeDemo = Annotated[bool, typer.Option("--demo", help="Show digits that come in for ever.")]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="Instead of the file's; 8765.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="Settings; ./rainpp.toml by default.")
]

# What the model is, and where it is called

Factory = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODULE:FUNCTION", help="From the checkpoint's path to a rainpp.Model."
    ),
]
Checkpoint = Annotated[Path | None, typer.Option("--checkpoint", help="Trained weights.")]
Name = Annotated[str | None, typer.Option("--name", help="What SQL calls the model.")]
FitFunction = Annotated[
    str | None,
    typer.Option(
        "--fit", metavar="MODULE:FUNCTION", help="Trains again: (inputs, labels) -> params."
    ),
]
IndexPath = Annotated[Path | None, typer.Option("--index", help="Directory of the index.")]
Repairs = Annotated[
    list[str] | None,
    typer.Option(
        "--repair",
        metavar="MODULE:NAME",
        help="A rainpp.Replace, or a function that returns one; repeat.",
    ),
]
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

# What is wrong with which answer

Sql = Annotated[str, typer.Argument(metavar="SQL", help="The query whose answer is wrong.")]
Column = Annotated[str, typer.Option("--column", help="Column of the wrong number.")]
How = Annotated[Should, typer.Option("--should", help="How it should change.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Which row of the answer; repeat."),
]
Row = Annotated[int | None, typer.Option("--row", help="Which row, by number from 0.")]
Target = Annotated[float | None, typer.Option("--target", help="For equal, at_least and at_most.")]
Mode = Annotated[str, typer.Option("--mode", help='"exact" or "rain".')]
MaxRelaxError = Annotated[
    float, typer.Option(min=0, help="Largest relative error of a sampled query.")
]
By = Annotated[
    float | None, typer.Option("--by", help="How far a fix should move a number without target.")
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A complaint as the command line has it; `where` are texts COLUMN=VALUE.

    Raises
    ------
    typer.BadParameter : one of them is not, or names a column again.
    """

    sql: str
    column: str
    should: Should
    where: Sequence[str] | None = None
    row: int | None = None
    target: float | None = None
    mode: str = "exact"
    max_relax_error: float = 0.1

    def __post_init__(self) -> None:
        self._pairs()

    def complaint(self, database: Database) -> BoundComplaint:
        """Ask the query and complain about its answer.

        Raises
        ------
        RainError : the query cannot be asked, or the complaint makes no sense.
        """
        result = database.sql(self.sql, mode=self.mode, max_relax_error=self.max_relax_error)
        pairs = self._pairs()
        return result.complain(
            self.column,
            should=self.should.value,
            row=self.row,
            where=_typed(pairs, result) if pairs else None,
            target=self.target,
        )

    def _pairs(self) -> dict[str, str]:
        pairs: dict[str, str] = {}
        for text in self.where or ():
            name, value = _pair(text)
            if name in pairs:
                raise typer.BadParameter(f"{name!r} is given twice.", param_hint="--where")
            pairs[name] = value
        return pairs


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is not COLUMN=VALUE.", param_hint="--where")
    return name, value


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
