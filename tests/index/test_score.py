"""The product that scores interventions: every way of computing it gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.errors import DataError, SettingsError, ShapeError
from rainpp.index import score
from rainpp.index.artifact import Index
from rainpp.index.device import OnDevice, bucket
from rainpp.index.score import Projections, Streamed

SIZES = [1, 3, 40, 52_428, 52_429, 120_001]  # blocks of five columns have 52 428 rows


def whole(size, k=5, seed=0):
    """Small whole numbers, so that sums are exact in every order and precision."""
    return np.random.default_rng(seed).integers(-8, 9, (size, k))


def made(size, kind):
    """A table in some storage, and what it stands for in float64."""
    numbers = whole(size)
    if kind in ("float32", "float64"):
        return Projections(numbers.astype(kind)), numbers.astype(np.float64)
    columns = 2.0 ** np.arange(-2, 3)
    rows = 2.0 ** np.random.default_rng(1).integers(-3, 3, size) if kind == "int8" else None
    exact = numbers * columns * (1.0 if rows is None else rows[:, None])
    narrow = None if rows is None else rows.astype(np.float32)
    return Projections(numbers.astype(kind), columns.astype(np.float32), narrow), exact


KINDS = ["float32", "float64", "float16", "int8"]
DIRECTION = np.array([1.0, -2.0, 0.5, 4.0, -0.25])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_storage_gives_the_exact_product_at_once_and_in_blocks(size, kind):
    table, exact = made(size, kind)
    direction = DIRECTION.astype(table.dtype)
    assert_array_equal(table @ direction, exact @ DIRECTION)
    blocks = [(where, part.copy()) for where, part in table.blocks(direction)]
    assert [where.start for where, _ in blocks] == [0, *(w.stop for w, _ in blocks[:-1])]
    assert_array_equal(np.concatenate([part for _, part in blocks]), exact @ DIRECTION)


@pytest.mark.parametrize("threshold", [0, 10**9])
def test_threads_change_no_bit(threshold, monkeypatch):
    rng = np.random.default_rng(0)
    values, direction = rng.normal(size=(300_001, 5)).astype("f4"), DIRECTION.astype("f4")
    alone = np.concatenate([part for _, part in Projections(values).blocks(direction)])
    monkeypatch.setattr(score, "_THREADED_NUMBERS", threshold)
    assert_array_equal(Projections(values) @ direction, alone)
    assert_allclose(alone, values.astype("f8") @ DIRECTION, atol=1e-4)


@pytest.mark.parametrize("cores", [1, 2, 3, 7, 100])
def test_every_piece_is_worked_on_once(cores, monkeypatch):
    monkeypatch.setattr(score.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    seen = np.zeros(1000, int)

    def work(where):
        seen[where] += 1

    score._in_threads(work, [slice(start, start + 100) for start in range(0, 1000, 100)])
    assert_array_equal(seen, 1)


@pytest.mark.parametrize("size", [1, 40, 8193])
@pytest.mark.parametrize("kind", KINDS)
def test_the_compiled_kernel_gives_the_same(size, kind):
    table, exact = made(size, kind)
    found = OnDevice(table) @ DIRECTION.astype(table.dtype)
    assert found.dtype == table.dtype
    assert_array_equal(found, exact @ DIRECTION)


def test_sizes_share_kernels_and_padding_stays_small():
    sizes = [1, 4096, 4097, 6144, 6145, 60_000, 600_000, 10_000_000]
    found = [bucket(size) for size in sizes]
    assert found[:5] == [4096, 4096, 6144, 6144, 8192]
    assert all(size <= length for size, length in zip(sizes, found, strict=True))
    assert all(length <= 1.5 * size for size, length in zip(sizes[1:], found[1:], strict=True))
    assert len({bucket(size) for size in range(50_000, 200_000)}) == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 100, 30_000])
def test_streaming_gives_the_beginning_of_a_stable_sort(kind, count):
    table, exact = made(60_001, kind)
    plausibility = np.random.default_rng(2).choice([0.25, 0.5, 1.0], 60_001).astype(np.float32)
    best = Streamed(table, plausibility, count) @ DIRECTION.astype(table.dtype)
    scores = exact @ DIRECTION * plausibility
    order = np.argsort(-scores, kind="stable")[:count]
    assert_array_equal(best.positions, order)
    assert_array_equal(best.scores, scores[order])
    assert_array_equal(best.effects, (exact @ DIRECTION)[order])
    assert_array_equal(best.plausibility, plausibility[order])


def test_all_equal_scores_come_by_position():
    table = Projections(np.ones((200_000, 2), np.float32))
    best = Streamed(table, np.ones(200_000, np.float32), 50) @ np.ones(2, np.float32)
    assert_array_equal(best.positions, np.arange(50))


def index_of(values, plausibility):
    size, k = values.shape
    arrays = {
        "projections": values,
        "plausibility": plausibility,
        "eigenvalues": 2.0 ** -np.arange(k),
        "eigenvectors": np.eye(k),
        "labels": np.zeros(size, np.int32),
        "train_ids": np.arange(size),
    }
    manifest = {"num_train": size, "interventions": ["delete"], "num_classes": 2, "num_params": k}
    return Index(manifest, arrays)


def test_an_index_answers_alike_streamed_ranked_and_on_a_device():
    size = 10_000
    chances = np.random.default_rng(1).choice([0.5, 1.0], size).astype(np.float32)
    index = index_of(whole(size).astype(np.float32), chances)
    vector = np.array([3.0, -1.0, 2.0, 0.0, 1.0])
    ranking, best = index.rank(vector), index.best(vector, 70)
    frame = ranking.top(70)
    assert_array_equal(best.positions, frame["train_id"])
    assert_allclose(best.scores, frame["score"], rtol=1e-6)
    assert_allclose(best.effects, frame["effect"], rtol=1e-6)
    placed = index.on_device()
    assert_allclose(placed.rank(vector).effects, ranking.effects, rtol=1e-6, atol=1e-9)
    assert_array_equal(ranking.effects, index.rank(vector).effects)  # to the last bit


@pytest.mark.parametrize(
    ("vector", "error", "words"),
    [
        (np.ones(4), ShapeError, "k = 5"),
        (np.full(5, np.nan), DataError, "NaN or infinity"),
        ("five!", DataError, "must hold 5 numbers"),
    ],
)
def test_vectors_that_are_none_are_refused_by_both(vector, error, words):
    index = index_of(whole(20).astype(np.float32), np.ones(20, np.float32))
    for ask in (index.rank, index.best):
        with pytest.raises(error, match=words):
            ask(vector)


@pytest.mark.parametrize("count", [-1, 1.0, True, None])
def test_a_count_that_is_none_is_refused(count):
    index = index_of(whole(20).astype(np.float32), np.ones(20, np.float32))
    with pytest.raises(SettingsError, match="`count` is"):
        index.best(np.ones(5), count)


def test_the_package_scores_in_the_precision_of_the_index():
    for dtype in (np.float32, np.float64):
        index = index_of(whole(20).astype(dtype), np.ones(20, dtype))
        assert index.rank(np.ones(5)).effects.dtype == dtype
