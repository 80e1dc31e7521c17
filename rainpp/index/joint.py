"""What is on the disk of the first of several processes, as all of them see it.

Every process computes the same numbers and keeps its own Krylov basis; the first one alone reads
and writes files. When a run that was killed starts again, the others get from it what was kept.
With one process nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rainpp.errors import ArtifactError, RainError
from rainpp.index.arrayfile import Finished
from rainpp.index.artifact import Index, load
from rainpp.index.before import built_before
from rainpp.index.kept import KeptRun
from rainpp.index.projecting import Rows, Storage
from rainpp.index.together import anywhere, array_from_first, from_first, lost, several_processes
from rainpp.index.workbench import Bench, Finish, Memory, Workbench, workbench
from rainpp.lanczos.eigenpairs import Keeper
from rainpp.lanczos.krylov import Krylov
from rainpp.training_set import TrainingSet

# Products after which the first process says whether the disk still takes what it writes: a
# message takes 1 to 10 ms between two processes on 2 busy cores, a product of a small model less.
_TOLD_EVERY = 8


@contextmanager
def joint_workbench(
    path: Path | None, request: Mapping[str, Any], losses: np.ndarray
) -> Generator[Bench]:
    """Where to build the index of a request: at `path` of the first process, or in memory.

    Raises
    ------
    ArtifactError, KeyboardInterrupt : as `workbench`, the first in every process.
    """
    if path is None:
        yield Memory()
        return
    if not several_processes():
        with workbench(path, request, losses) as bench:
            yield bench
        return
    with ExitStack() as stack:
        mine: list[Workbench] = []
        from_first(lambda: mine.append(stack.enter_context(workbench(path, request, losses))))
        yield JointBench(mine[0] if mine else None)


@contextmanager
def peers_watched(path: Path | None) -> Generator[None]:
    """Say in words that another process of this run is gone.

    Raises
    ------
    ArtifactError : so it is; the run has to be started again.
    """
    try:
        yield
    except (ValueError, RuntimeError) as problem:
        if not lost(problem):
            raise
        kept = "" if path is None else f" What is done so far is kept in `{path}`."
        raise ArtifactError(
            f"another process of this run has ended, so this one cannot go on.{kept} Start all of "
            "them again."
        ) from problem


def open_everywhere(path: Path, training: TrainingSet) -> Index:
    """The index at `path` of the first process, in every process, with its rows at hand.

    Memory-mapped where the same index is at that path, else sent and held in memory.
    """
    mine: list[Index] = []

    def opened() -> dict[str, Any]:
        mine.append(load(path, verify=False))
        return mine[0].manifest

    manifest = from_first(opened)
    index = mine[0] if mine else _seen(path, manifest["sha256"])
    if several_processes() and anywhere(index is None):
        arrays: dict[str, np.ndarray] = {
            name: array_from_first(
                mine[0].arrays[name] if mine else None,
                tuple(entry["shape"]),
                np.dtype(entry["dtype"]),
                keep=index is None,
            )
            for name, entry in manifest["arrays"].items()
        }
        return replace(index or Index(manifest, arrays), training=training)
    return replace(index or mine[0], training=training)


def _seen(path: Path, seal: str) -> Index | None:
    try:
        index = load(path, verify=False)
    except ArtifactError:
        return None
    return index if index.manifest["sha256"] == seal else None


def built_everywhere(
    path: Path, request: Mapping[str, Any], training: TrainingSet, losses: np.ndarray
) -> Index | None:
    """What `built_before` finds in the first process, in every process."""
    there = from_first(lambda: built_before(path, request, training, losses) is not None)
    return open_everywhere(path, training) if there else None


class JointBench:
    """The workbench of the first process; `bench` is None in all others."""

    def __init__(self, bench: Workbench | None) -> None:
        self._bench = bench

    def keeper(self, name: str) -> Keeper:
        """Of a Lanczos run."""
        runs: list[KeptRun] = []
        from_first(lambda: runs.append(self._mine.keeper(name)))
        return _JointRun(runs[0] if runs else None)

    def remembered(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` said the first time in the first process."""
        known = from_first(lambda: self._mine.known(name))
        if known is not None:
            return known
        made = make()  # in every process: it may need all of them
        return from_first(lambda: self._mine.remembered(name, lambda: made))

    def storage(self, vectors: np.ndarray) -> Storage:
        """Of the projections on `vectors`."""
        kept: list[Storage] = []

        def opened() -> tuple[int, bool]:
            kept.append(self._mine.storage(vectors))
            return kept[0].done, kept[0].alive

        done, alive = from_first(opened)
        return _JointStorage(kept[0] if kept else None, done, alive)

    def write(self, finish: Finish) -> None:
        """Make an index of what `finish` gives in the first process."""
        from_first(lambda: self._mine.write(finish))

    @property
    def _mine(self) -> Workbench:
        if self._bench is None:
            raise AssertionError("only the first process has a workbench")
        return self._bench


class _Problem:
    """What went wrong in the first process since the others were told."""

    def __init__(self) -> None:
        self._first: RainError | None = None

    def __bool__(self) -> bool:
        return self._first is not None

    @contextmanager
    def noted(self) -> Generator[None]:
        """Go on for now: raised here, it would leave the others waiting."""
        try:
            yield
        except RainError as problem:
            self._first = self._first or problem

    def tell(self) -> None:
        """Raise it, if there is one, in every process."""

        def ask() -> None:
            if self._first is not None:
                raise self._first

        from_first(ask)


class _JointRun:
    def __init__(self, run: KeptRun | None) -> None:
        self._run, self._problem = run, _Problem()

    def restore(self, krylov: Krylov) -> None:
        run = self._run
        state = from_first(lambda: run.known(krylov) if run else None)
        if state is None:
            return
        shape = (len(state["alpha"]) + 1, krylov.dimension)
        rows = array_from_first(run.rows(krylov) if run else None, shape, krylov.dtype)
        krylov.restore(state, rows)

    def save(self, krylov: Krylov) -> None:
        if self._run is not None:
            with self._problem.noted():
                self._run.save(krylov)
        if krylov.size % _TOLD_EVERY == 0:
            self._problem.tell()


class _JointStorage:
    def __init__(self, kept: Storage | None, done: int, alive: bool) -> None:
        self._kept, self._problem = kept, _Problem()
        self.done, self.alive = done, alive

    def array(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Rows:
        rows = None
        if self._kept is not None:
            with self._problem.noted():
                rows = self._kept.array(name, dtype, shape)
        return _JointRows(rows, self._problem)

    def commit(self, rows: int, *, alive: bool, last: bool) -> None:
        if self._kept is not None and not self._problem:
            with self._problem.noted():
                self._kept.commit(rows, alive=alive, last=last)
        self._problem.tell()
        self.done, self.alive = rows, alive

    def finished(self) -> dict[str, np.ndarray | Finished]:
        return {} if self._kept is None else self._kept.finished()


class _JointRows:
    def __init__(self, rows: Rows | None, problem: _Problem) -> None:
        self._rows, self._problem = rows, problem

    def put(self, start: int, rows: np.ndarray) -> None:
        if self._rows is not None:
            with self._problem.noted():
                self._rows.put(start, rows)
