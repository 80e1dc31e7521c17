"""Where an index is built: a directory of work that outlives the process, or just memory.

The work of a request is kept under `<path>/.building/<hash of the request>`. The same request finds
it again and goes on; another model, data set or setting has another hash and never sees it. Work of
other requests is not thrown away by starting something else at the path, only by finishing it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rainpp.errors import ArtifactError, RainError
from rainpp.index import store
from rainpp.index.arrayfile import Finished
from rainpp.index.kept import KeptProjections, KeptRun, read_json, write_json
from rainpp.index.lock import locked
from rainpp.index.projecting import InMemory, Storage
from rainpp.lanczos.eigenpairs import Forgetful, Keeper

Arrays = Mapping[str, np.ndarray | Finished]
Finish = Callable[[], tuple[dict[str, Any], Arrays]]
# Losses of one model on one machine repeat exactly on a CPU, and nearly on a GPU.
_SAME_LOSSES = 1e-4


class Bench(Protocol):
    """Remembers what a build has done so far."""

    def keeper(self, name: str) -> Keeper:
        """Of a Lanczos run."""
        ...

    def remembered(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` said the first time: plain numbers and words."""
        ...

    def storage(self, vectors: np.ndarray) -> Storage:
        """Of the projections on `vectors`."""
        ...

    def write(self, finish: Finish) -> None:
        """Make an index of the manifest and arrays that `finish` gives."""
        ...


class Memory:
    """Remembers nothing: the index stays in memory."""

    def keeper(self, name: str) -> Keeper:
        """Of a Lanczos run."""
        return Forgetful(name)

    def remembered(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` says."""
        del name
        return make()

    def storage(self, vectors: np.ndarray) -> Storage:
        """Of the projections."""
        del vectors
        return InMemory()

    def write(self, finish: Finish) -> None:
        """Nothing."""


class Workbench:
    """The work of one request at one path; see `opened`."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self.folder = path, folder
        self._run: KeptRun | None = None
        self._projections: KeptProjections | None = None

    def keeper(self, name: str) -> KeptRun:
        """Of a Lanczos run; what the run before has not written is written now."""
        self.flush()
        self._run = KeptRun(self.folder, name, self.writing)
        return self._run

    def remembered(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` said the first time."""
        known = self.known(name)
        if known is None:
            made = make()
            with self.writing():
                write_json(self._note(name), made)
            return made
        return known

    def known(self, name: str) -> Any:
        """What is remembered under `name`, None if nothing is."""
        return read_json(self._note(name))

    def _note(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def storage(self, vectors: np.ndarray) -> Storage:
        """Of the projections on `vectors`."""
        self.flush()
        digest = hashlib.sha256(np.ascontiguousarray(vectors).view(np.uint8).data).hexdigest()
        self._projections = KeptProjections(self.folder, digest, self.writing)
        return self._projections

    def check_losses(self, losses: np.ndarray) -> None:
        """Start anew if the same parameters give other losses: `apply` has changed."""
        file = self.folder / "losses.npy"
        if file.exists():
            known = np.load(file, allow_pickle=False)
            if same_losses(known, losses):
                return
            shutil.rmtree(self.folder)
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.save(content, losses, allow_pickle=False)
            store.replace_file(file, content.getvalue())

    def write(self, finish: Finish) -> None:
        """Replace the index at the path in one step, then throw the work away."""
        self.flush()
        self.close()
        with self.writing():
            store.commit(self._path, *finish())
        shutil.rmtree(self._path / store.BUILDING, ignore_errors=True)

    @contextmanager
    def writing(self) -> Generator[None]:
        """Turn what the disk refuses into an error that says what is left."""
        try:
            yield
        except OSError as problem:
            raise ArtifactError(
                f"cannot write the index `{self._path}`: {problem.strerror or problem}. An index "
                "that was there is unchanged, and the work so far is kept: make room and run the "
                "same call again."
            ) from problem

    def flush(self) -> None:
        """Write everything that has not been written."""
        for kept in (self._run, self._projections):
            if kept is not None:
                kept.flush()

    def close(self) -> None:
        """Let go of all files."""
        if self._projections is not None:
            self._projections.close()

    def discard(self) -> None:
        """Throw this work away, and directories that are empty then."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def request_hash(request: Mapping[str, Any]) -> str:
    """A request as 16 hexadecimal digits."""
    content = json.dumps(dict(request), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def same_losses(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether these are losses of one model on the same rows."""
    return one.shape == other.shape and np.allclose(
        one, other, rtol=_SAME_LOSSES, atol=_SAME_LOSSES
    )


@contextmanager
def workbench(path: Path, request: Mapping[str, Any], losses: np.ndarray) -> Generator[Workbench]:
    """Where to build the index of a request at `path`; nobody else writes there meanwhile.

    Parameters
    ----------
    request : everything the result depends on, as plain numbers and words.
    losses : (n,) of the training rows: they tell an `apply` that was changed.

    Raises
    ------
    ArtifactError : another process is writing there, or the disk refuses.
    KeyboardInterrupt : Ctrl-C; says how to go on. Everything done so far is on disk then.
    """
    folder = path / store.BUILDING / request_hash(request)
    bench, existed = Workbench(path, folder), path.exists()
    useless = False
    try:
        with locked(path):
            try:
                bench.check_losses(losses)
                yield bench
            except KeyboardInterrupt:
                with contextlib.suppress(Exception):  # the last seconds; the rest is safe
                    bench.flush()
                raise KeyboardInterrupt(
                    f"what is done so far is kept in `{path}`; run the same call again to go on."
                ) from None
            except ArtifactError:
                raise
            except RainError:  # the same call would end the same way
                useless = True
                bench.discard()
                raise
            except Exception:  # of the model, of JAX, of another process
                with contextlib.suppress(Exception):
                    bench.flush()
                raise
            finally:
                bench.close()
    finally:
        if useless and not existed:
            with contextlib.suppress(OSError):
                path.rmdir()
