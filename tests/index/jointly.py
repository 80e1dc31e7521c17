"""One of two processes that build an index: `python jointly.py OUT PORT ID WHAT [WHEN]`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np


def main(out, port, own, what, *when):
    os.environ |= {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": own,
    }
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", str(Path(out) / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    from rainpp.index import kept, projecting
    from rainpp.index.together import join_processes

    join_processes()
    kept.EVERY_SECONDS, projecting._CHUNK_BYTES = 0.0, 1
    warnings.simplefilter("ignore")
    said = {"build": whole, "tour": tour}[what](Path(out), int(own), *map(int, when))
    (Path(out) / f"said-{own}.json").write_text(json.dumps(said))


def build(path, **options):
    from tests.index import test_crash

    # From all rows: what compares samples takes as long to compile as all the rest.
    return test_crash.build(path, curvature_rows="all", **options)


def whole(out, own, *when):
    """Build; this process kills itself at the given call that writes, or the given progress."""
    from tests.index import test_crash

    left = list(when)

    def deadly(*_):
        if left:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(function):
        def call(*args, **kwargs):
            deadly()
            return function(*args, **kwargs)

        return call

    if own == 0:  # the other writes nothing: it dies between two steps
        for module, name in test_crash.SYSTEM:
            setattr(module, name, wrapped(getattr(module, name)))
        return sorted(build(out / "x.rain").arrays)
    return sorted(build(out / "x.rain", progress=deadly).arrays)


def tour(out, own):
    """Everything that can be tried without killing anybody, and what this process sees of it."""
    path, made = out / "x.rain", products()
    # The second process has another path, as on a host that does not see the first one's disk.
    build(path if own == 0 else out / "nowhere" / "x.rain")
    resumed = len(made)
    build(out / "whole.rain")
    return {
        "resumed": resumed,
        "whole": len(made) - resumed,
        "nowhere": (out / "nowhere").exists(),
        "found": there(path, own),
        "locked": error_of(lambda: locked_by_the_first(path, own)),
        "full": error_of(lambda: full(out / "full.rain", own)),
        "foreign": error_of(lambda: build(foreign(out, own))),
        "different": error_of(lambda: build(None, seed=own)),
        "stopped": stopped(out / "stopped.rain"),
        "compact": arrays_of(build(out / "compact.rain", storage="int8")),
    }


def there(path, own):
    """A finished index is found by the first process and sent to the other."""
    made = products()
    index = build(path if own == 0 else path.with_name("unseen.rain"), again=False)
    return {
        "products": len(made),
        "path": index.path and index.path.name,
        "rows": index.training.num_rows,
        "arrays": arrays_of(index),
    }


def arrays_of(index):
    """A hash of every array."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for name, array in index.arrays.items()
    }


def locked_by_the_first(path, own):
    import contextlib

    from rainpp.index.lock import locked

    with locked(path) if own == 0 else contextlib.nullcontext():
        build(path)


def full(path, own):
    """The disk of the first process takes nothing from the first projections on."""
    from rainpp.index import arrayfile

    def refuse(*_):
        raise OSError(28, "No space left on device")

    reserve = arrayfile._reserve
    if own == 0:
        arrayfile._reserve = refuse
    try:
        build(path)
    finally:
        arrayfile._reserve = reserve


def foreign(out, own):
    path = out / "foreign.rain"
    if own == 0:
        path.mkdir()
        (path / "mine.txt").write_text("not an index")
    return path


def stopped(path):
    """Both are interrupted, again and again, until the index is there."""
    made, left = products(), []
    while True:
        limit = len(made) + 5

        def progress(*_, limit=limit):
            if len(made) >= limit:
                raise KeyboardInterrupt

        try:
            index = build(path, progress=progress)
        except KeyboardInterrupt:
            left.append(len(made))
        else:
            return {"stops": len(left), "products": len(made), "arrays": arrays_of(index)}


def products():
    """A list that grows with every product of a Lanczos run from now on."""
    from rainpp.lanczos.krylov import Krylov

    made, step = [], Krylov.step

    def counted(self):
        made.append(1)
        step(self)

    Krylov.step = counted
    return made


def error_of(run):
    try:
        run()
    except Exception as problem:  # noqa: BLE001 - that is what is asked for
        return f"{type(problem).__name__}: {problem}"
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
