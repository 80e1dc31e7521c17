"""How things look on a terminal, and in a pipe: tables, JSON, progress, one-line errors."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from rainpp.errors import RainError, one_line

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# A bar that flashes by is noise: steps shorter than this show none, and leave no line behind.
_SECONDS_BEFORE_A_BAR = 0.2
_SECONDS_BEFORE_A_LINE = 2.0
# Where nothing can be drawn a long step says how far it is this often.
_SECONDS_BETWEEN_LINES = 10.0
_BROKEN_PIPE = 141
_INTERRUPTED = 130
_LONGEST_LINE = 2000
# Their remarks would come beside our one line: Orbax's, and sqlglot's about statements it skips.
_CHATTY = ("absl", "sqlglot")


def say(text: str) -> None:
    """One line on stderr, where everything goes that is not the answer."""
    typer.echo(text, err=True)


def show_json(value: Any) -> None:
    """One JSON object on stdout; numbers JSON has no word for become null."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on a terminal; tab-separated lines with a header anywhere else."""
    if not sys.stdout.isatty():
        for line in [columns, *rows]:
            typer.echo("\t".join(" ".join(_cell(cell).split()) for cell in line))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # Spaces instead of underscores let a long name break into two lines on a narrow screen.
    table = Table(
        *(name.replace("_", " ") for name in columns),
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for number, column in enumerate(table.columns):
        if rows and all(isinstance(row[number], int | float) for row in rows):
            column.justify = "right"
    for row in rows:
        table.add_row(*(escape(_cell(cell, digits=4)) for cell in row))
    Console().print(table)


def show_pairs(pairs: Mapping[str, Any]) -> None:
    """Names and values, one pair a line."""
    if not sys.stdout.isatty():
        show_table(["name", "value"], list(pairs.items()))
        return
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        typer.echo(f"{name:<{width}}  {_cell(value)}")


def show_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """What an index found out about itself, one line each; advice under what did not pass.

    In colour on a terminal; elsewhere the colours are left out.
    """
    for check in checks:
        passed = check["passed"]
        word = typer.style("ok " if passed else "BAD", fg="green" if passed else "red", bold=True)
        value = "-" if check["value"] is None else f"{check['value']:.3g} ({check['limit']:g})"
        typer.echo(f"{word}\t{check['name']}\t{value}\t{check['note']}")
        if check["advice"]:
            typer.echo("   \t" + typer.style(check["advice"], fg="yellow"))


def _cell(value: Any, *, digits: int = 6) -> str:
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """JSON's own types for NumPy scalars, arrays, paths and NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


class ProgressBars:
    """A `rainpp.types.Progress`: the step that runs, on stderr.

    On a terminal a bar with rate, time left and the latest remark; anywhere else a line every ten
    seconds. A step of more than two seconds leaves one line behind.
    """

    def __init__(self) -> None:
        self._stage: str | None = None
        self._started = self._now = self._said = 0.0
        self._first = self._done = self._total = 0
        self._bars: RichProgress | None = None

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of `stage` are finished; `note` is a short remark."""
        now = time.monotonic()
        if stage != self._stage:
            self._finish()
            # What a run that went on from disk finds done took no time now.
            self._stage, self._first = stage, done if done < total else 0
            self._started = self._said = now
        self._done, self._total, self._now = done, total, now
        if sys.stderr.isatty():
            if self._elapsed >= _SECONDS_BEFORE_A_BAR or self._bars is not None:
                self._draw(note)
        elif now - self._said >= _SECONDS_BETWEEN_LINES and done < total:
            self._said = now
            say(", ".join(filter(None, [self._progress, self._left, note])))

    @property
    def _elapsed(self) -> float:
        return self._now - self._started

    @property
    def _rate(self) -> float:
        return (self._done - self._first) / self._elapsed if self._elapsed > 0 else 0.0

    @property
    def _progress(self) -> str:
        return f"{self._stage}: {self._done} of {self._total}"

    @property
    def _left(self) -> str:
        if not self._rate:
            return ""
        return f"at most {(self._total - self._done) / self._rate:.0f} s left"

    def _draw(self, note: str) -> None:
        if self._bars is None:
            self._bars = _new_bars()
            self._bars.start()
            self._bars.add_task(self._stage or "", total=self._total, rate=0.0, note="")
        self._bars.update(
            self._bars.task_ids[0],
            completed=self._done,
            total=self._total,
            rate=self._rate,
            note=note,
        )

    def _finish(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        if self._stage is not None and self._elapsed > _SECONDS_BEFORE_A_LINE:
            say(f"{self._progress} in {self._elapsed:.1f} s")
        self._stage = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish()


def _new_bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.3g}/s"),
        TimeLeft(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def logs_on_stderr(*, debug: bool) -> Generator[None]:
    """What the library logs is said on stderr, with the time."""
    logger, handler = logging.getLogger("rainpp"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def stdout_on_stderr(*, wanted: bool) -> Generator[None]:
    """What others print on stdout goes to stderr instead: the user's training, or Gloo in C++."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def reporting(*, debug: bool) -> Generator[None]:
    """Turn whatever goes wrong into one line on stderr and an exit status.

    1: a RainError, or an exception in the user's own code. 130: Ctrl-C. 141: the reader of our
    stdout went away, as when a program is ended by SIGPIPE. With `debug`, errors are not caught.
    """
    with _quiet_libraries(debug=debug):
        try:
            yield
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:
            # Python flushes stdout once more at exit, which would complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_BROKEN_PIPE) from None
        except KeyboardInterrupt as stopped:
            say(f"interrupted: {stopped}" if str(stopped) else "interrupted")
            raise typer.Exit(_INTERRUPTED) from None
        except SystemExit as left:  # by the user's own code, which is not to end ours unheard
            if debug:
                raise
            say(f"error: your code ended the program with sys.exit({left.code!r}); let it return.")
            raise typer.Exit(1) from left
        except Exception as problem:
            if debug:
                raise
            say(_one_line(problem))
            raise typer.Exit(1) from problem


def _one_line(problem: Exception) -> str:
    text = one_line(problem)
    if len(text) > _LONGEST_LINE:
        text = f"{text[: _LONGEST_LINE // 2]} ... {text[-_LONGEST_LINE // 2 :]}"
    if isinstance(problem, RainError):
        return f"error: {text}"
    kind = type(problem).__name__
    return f"error: {kind}: {text} (not an error rainpp expects; --debug shows where)"


@contextmanager
def _quiet_libraries(*, debug: bool) -> Generator[None]:
    """Warnings as one line each; without `debug`, no chatter from libraries."""
    chatty = [logging.getLogger(name) for name in _CHATTY]
    levels, hook = [logger.level for logger in chatty], sys.unraisablehook
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        if not debug:
            for logger in chatty:
                logger.setLevel(logging.CRITICAL)
            # Orbax leaves reads under way when a damaged file stops it; they fail noisily later.
            sys.unraisablehook = lambda _: None
        try:
            yield
        finally:
            for logger, level in zip(chatty, levels, strict=True):
                logger.setLevel(level)
            sys.unraisablehook = hook


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    del where, more
    say(f"warning: {' '.join(str(message).split())}")
