"""An index that is killed while it is built: the same call goes on and gives the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import rainpp
from rainpp.errors import ArtifactError, NotAtOptimumWarning, NotConverged
from rainpp.index import kept, projecting, store
from rainpp.lanczos import curvature
from rainpp.lanczos.krylov import Krylov
from rainpp.model import Model

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(2000, 12))
LABELS = (ROWS @ RNG.normal(size=(12, 4)) + RNG.normal(size=(2000, 4))).argmax(axis=1)
WEIGHTS = RNG.normal(size=(12, 4))
MODEL = Model(lambda params, x: x @ params, WEIGHTS, l2=0.01)
SYSTEM = [(os, "replace"), (os, "fsync"), (os, "pwrite"), (os, "link"), (shutil, "rmtree")]


@pytest.fixture(autouse=True)
def every_step_is_kept(monkeypatch):
    monkeypatch.setattr(kept, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(projecting, "_CHUNK_BYTES", 1)


def build(path, model=MODEL, inputs=ROWS, labels=LABELS, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotAtOptimumWarning)
        return rainpp.precompute(model, inputs, labels, path=path, **{"k": 4, **options})


def contents(path):
    return {p.relative_to(path): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def assert_same(path, expected):
    """Whether the index at `path` has these files, naming what differs."""
    found = contents(path)
    name = Path(store.MANIFEST)
    left, right = json.loads(found[name]), json.loads(expected[name])
    assert left == right
    assert found.keys() == expected.keys()
    assert not [file for file in found if found[file] != expected[file]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every file of an index that was built without interruption, at the usual pace."""
    path = tmp_path_factory.mktemp("whole") / "x.rain"
    build(path)
    return contents(path)


class Calls:
    """Runs a hook before each call that writes."""

    def __init__(self, monkeypatch):
        self.count, self.hook = 0, None
        for module, name in SYSTEM:
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name)))

    def wrap(self, function):
        def call(*args, **kwargs):
            if self.hook is not None:
                hook, self.hook = self.hook, None  # what the hook itself does is not counted
                hook(self.count)
                self.count, self.hook = self.count + 1, hook
            return function(*args, **kwargs)

        return call

    def during(self, action, hook):
        self.count, self.hook = 0, hook
        try:
            action()
        finally:
            self.hook = None


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


def count_products(monkeypatch):
    """A list that grows with every curvature product of a Lanczos run.

    The few that compare samples and check the result are made again.
    """
    made, step = [], Krylov.step

    def counted(self):
        made.append(1)
        step(self)

    monkeypatch.setattr(Krylov, "step", counted)
    return made


# --- killed


def test_a_build_killed_at_any_write_goes_on_and_gives_the_same_bytes(calls, tmp_path, whole):
    path, moments = tmp_path / "live", []

    def copy(call):
        if path.exists() and call % 13 == 0:
            moments.append(shutil.copytree(path, tmp_path / f"killed-{call}"))

    calls.during(lambda: build(path), copy)
    assert_same(path, whole)
    assert len(moments) >= 10
    for moment in moments:
        build(moment)
        assert_same(moment, whole)


def test_an_old_index_is_there_until_the_new_one_is(calls, tmp_path, whole):
    path = tmp_path / "x.rain"
    build(path, seed=7, k=2)
    found = []

    def look(_):
        found.append(rainpp.load(path).k)

    calls.during(lambda: build(path), look)
    assert set(found) == {2, 4}
    assert found == sorted(found)
    assert_same(path, whole)


def test_products_that_are_done_are_not_done_again(monkeypatch, tmp_path, whole):
    made = count_products(monkeypatch)
    path = tmp_path / "x.rain"
    build(path)
    all_products = len(made)
    shutil.rmtree(path)
    made.clear()
    left = []
    while True:  # killed after every fifth product, until one run gets through
        limit = len(made) + 5
        try:
            build(path, progress=stopping(made, limit))
        except KeyboardInterrupt:
            left.append(len(made))
        else:
            break
    assert_same(path, whole)
    assert len(left) >= 5
    assert len(made) == all_products


def stopping(made, limit):
    def progress(*_):
        if len(made) >= limit:
            raise KeyboardInterrupt

    return progress


def test_a_run_stopped_in_the_projections_projects_no_chunk_twice(tmp_path, whole, monkeypatch):
    starts, project = [], projecting.project_training

    def watched(model, training, vectors, **options):
        starts.append(int(training.ids[0]))
        if len(starts) == 2:
            raise RuntimeError("power cut")
        return project(model, training, vectors, **options)

    monkeypatch.setattr(projecting, "project_training", watched)
    with pytest.raises(RuntimeError, match="power cut"):
        build(tmp_path / "x.rain")
    build(tmp_path / "x.rain")
    assert starts == [0, 512, 512, 1024]
    assert_same(tmp_path / "x.rain", whole)


SCRIPT = """
import os, random, signal, sys, warnings
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
import rainpp
from rainpp.index import kept, projecting
from tests.index import test_crash
kept.EVERY_SECONDS, projecting._CHUNK_BYTES = 0.0, 1
left = int(sys.argv[3])
def deadly(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
for module, name in test_crash.SYSTEM:
    setattr(module, name, deadly(getattr(module, name)))
from pathlib import Path
test_crash.build(Path(sys.argv[1]))
"""


def run_script(script, *words, **options):
    folder = Path(rainpp.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.mark.slow
def test_fifty_kills(tmp_path, whole):
    chance, kills, finished = random.Random(0), 0, 0
    while kills < 50:
        path = tmp_path / f"{finished}.rain"
        done = run_script(SCRIPT, path, tmp_path / "cache", chance.randint(1, 120))
        if done.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert done.returncode == 0, done.stderr
        assert_same(path, whole)
        finished += 1
    assert finished >= 3


# --- stopped


def test_ctrl_c_says_how_to_go_on(tmp_path, whole):
    def stop(stage, done, *_):
        if stage == "projections" and done > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="run the same call again") as caught:
        build(tmp_path / "x.rain", progress=stop)
    assert str(tmp_path / "x.rain") in str(caught.value)
    with pytest.raises(ArtifactError, match=r"interrupted\. The same rainpp\.precompute goes"):
        rainpp.load(tmp_path / "x.rain")
    build(tmp_path / "x.rain")
    assert_same(tmp_path / "x.rain", whole)


def test_ctrl_c_inside_a_product_keeps_the_products_before_it(monkeypatch, tmp_path, whole):
    monkeypatch.setattr(kept, "EVERY_SECONDS", 1e9)  # nothing is written before the interruption
    made, product = [], curvature.Curvature.hvp

    def interrupted(self, vector):
        made.append(1)
        if len(made) == 8:
            raise KeyboardInterrupt
        return product(self, vector)

    monkeypatch.setattr(curvature.Curvature, "hvp", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "x.rain")
    about = [json.loads(f.read_bytes()) for f in (tmp_path / "x.rain").rglob("both-*.json")]
    assert [run["size"] for run in about] == [3]  # each took a product with either half
    build(tmp_path / "x.rain")
    assert_same(tmp_path / "x.rain", whole)


def test_a_request_that_cannot_be_met_leaves_nothing(tmp_path):
    flat = Model(lambda params, x: x @ params, WEIGHTS)
    with pytest.raises(NotConverged):
        build(tmp_path / "x.rain", flat, k=48, curvature_rows="all")
    assert list(tmp_path.iterdir()) == []


# --- another request


@pytest.mark.parametrize(
    "change",
    [
        {"k": 3},
        {"seed": 1},
        {"curvature": "gauss_newton", "k": 4},
        {"curvature_rows": 900},
        {"interventions": [rainpp.Delete()]},
        {"weights": np.linspace(0.5, 1.5, 2000)},
        {"inputs": ROWS + 1e-9},
        {"labels": (LABELS + 1) % 4},
        {"model": Model(MODEL.apply, WEIGHTS + 1e-9, l2=0.01)},
        {"model": Model(lambda params, x: 1.01 * (x @ params), WEIGHTS, l2=0.01)},
    ],
    ids=lambda change: "+".join(change),
)
def test_work_for_another_request_is_not_used(tmp_path, change):
    path = tmp_path / "x.rain"
    stop_in_projections(path)
    build(path, **change)
    build(tmp_path / "alone.rain", **change)
    assert_same(path, contents(tmp_path / "alone.rain"))


def stop_in_projections(path, **options):
    def stop(stage, done, *_):
        if stage == "projections" and done > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, progress=stop, **options)


def test_work_for_another_request_waits_until_an_index_is_finished(monkeypatch, tmp_path, whole):
    path = tmp_path / "x.rain"
    stop_in_projections(path)
    stop_in_projections(path, k=3)
    made = count_products(monkeypatch)
    build(path)
    assert made == []
    assert_same(path, whole)


def test_reading_and_overwriting_need_no_work_directory(tmp_path, whole):
    path = tmp_path / "x.rain"
    build(path, k=2)
    build(path)
    assert_same(path, whole)


# --- a finished index of the same request


def test_a_finished_index_is_built_again_only_if_that_is_asked_for(monkeypatch, tmp_path, whole):
    path = tmp_path / "x.rain"
    build(path)
    rainpp.load(path).with_arrays({"table": np.ones(3)}, {})
    made = count_products(monkeypatch)
    with monkeypatch.context() as looking:
        looking.delattr(curvature.Curvature, "gradient")  # a pass over all rows that is not needed
        there = build(path, again=False)
    assert made == []
    assert there.arrays["table"].tolist() == [1, 1, 1]
    assert there.training is not None
    build(path)
    assert made
    assert_same(path, whole)


@pytest.mark.parametrize(
    "change",
    [
        {"k": 3},
        {"ids": np.arange(2000) + 1},
        {"labels": (LABELS + 1) % 4},
        {"model": Model(lambda params, x: 1.01 * (x @ params), WEIGHTS, l2=0.01)},
    ],
    ids=lambda change: "+".join(change),
)
def test_an_index_of_another_request_is_replaced(tmp_path, change):
    path = tmp_path / "x.rain"
    build(path)
    build(path, again=False, **change)
    build(tmp_path / "alone.rain", **change)
    assert_same(path, contents(tmp_path / "alone.rain"))


def test_a_damaged_or_grown_index_is_replaced(tmp_path, whole):
    path = tmp_path / "x.rain"
    build(path)
    next(path.glob("arrays/projections-*")).write_bytes(b"")
    build(path, again=False)
    assert_same(path, whole)
    rainpp.load(path).append(MODEL, ROWS[:5], LABELS[:5])
    build(path, again=False)
    assert_same(path, whole)


# --- a full disk


FULL = """
import resource, sys
import jax
jax.config.update("jax_enable_x64", True)
from pathlib import Path
from tests.index import test_crash
from rainpp.errors import ArtifactError
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    test_crash.build(Path(sys.argv[1]))
except ArtifactError as problem:
    print(problem)
    sys.exit(9)
"""


SLOW_LIMITS = [pytest.param(limit, marks=pytest.mark.slow) for limit in (300, 5_000)]


@pytest.mark.parametrize("limit", [*SLOW_LIMITS, 100_000])
def test_a_full_disk_is_one_clear_error_and_the_old_index_stays(tmp_path, whole, limit):
    path = tmp_path / "x.rain"
    build(path, k=2)
    old = contents(path)
    done = run_script(FULL, path, limit)
    assert done.returncode == 9, done.stderr
    assert done.stdout.count("\n") == 1
    for words in (f"`{path}`", "File too large", "is unchanged", "work so far is kept"):
        assert words in done.stdout
    after = contents(path)
    assert {name: after[name] for name in old} == old
    assert rainpp.load(path).k == 2
    build(path)
    assert_same(path, whole)


def test_no_space_at_any_write_is_a_clear_error_and_the_work_goes_on(calls, tmp_path, whole):
    full = OSError(28, "No space left on device")

    def refuse(at):
        def hook(call):
            if call == at:
                raise full

        return hook

    refused = []
    for at in range(0, 130, 13):
        path = tmp_path / f"{at}.rain"
        try:
            calls.during(lambda p=path: build(p), refuse(at))
        except ArtifactError as problem:
            refused.append(str(problem))
            build(path)
        assert_same(path, whole)
    # Where there is another way, it is taken: an unsigned lock, a file moved instead of linked.
    assert len(refused) >= 7
    assert all("No space left on device" in message for message in refused)
    assert all(f"{tmp_path}" in message for message in refused)


# --- memory


MEMORY = """
import resource, sys, warnings
import numpy as np
import rainpp
warnings.simplefilter("ignore")
rows, rng = int(sys.argv[2]), np.random.default_rng(0)
inputs = rng.normal(size=(rows, 4)).astype(np.float32)
labels = rng.integers(0, 10, rows)
model = rainpp.Model(lambda p, x: x @ p, rng.normal(size=(4, 10)).astype(np.float32), l2=0.1)
path = None if sys.argv[1] == "memory" else sys.argv[1]
index = rainpp.precompute(model, inputs, labels, k=20, curvature_rows=1000, path=path)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, rows * 10 * 21 * 4)
"""


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_projections(tmp_path):
    small, large = (measured(tmp_path / str(rows), rows) for rows in (20_000, 400_000))
    grown, written = large[0] - small[0], large[1] - small[1]
    # Data are 24 bytes a row, and there are copies of them; projections and plausibility are 840.
    assert grown < 0.35 * written, (small, large)
    in_memory = measured("memory", 400_000)
    assert in_memory[0] - large[0] > 0.7 * large[1]


def measured(path, rows):
    done = run_script(MEMORY, path, rows)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_projections_are_never_an_array_of_all_rows_when_there_is_a_path(tmp_path, monkeypatch):
    largest, put = [0], kept._Guarded.put

    def watched(self, start, rows):
        largest.append(rows.nbytes)
        put(self, start, rows)

    monkeypatch.setattr(kept._Guarded, "put", watched)
    monkeypatch.setattr(store, "_write_array", refuse_projections(store._write_array))
    build(tmp_path / "x.rain")
    # Three chunks of 512, 512 and 976 rows; 3 relabels of 4 projections of 8 bytes.
    assert max(largest) == 976 * 3 * 4 * 8


def refuse_projections(write):
    def checked(path, name, array):
        assert not (name in ("projections", "plausibility") and isinstance(array, np.ndarray))
        return write(path, name, array)

    return checked
