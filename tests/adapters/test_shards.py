"""Rows in a folder of files: the same as in memory, read when they are needed."""

from __future__ import annotations

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal
from pyarrow import feather

import rainpp
from rainpp.adapters import shards as module
from rainpp.adapters.shards import ShardedArray
from rainpp.adapters.training_file import Columns, read_training
from rainpp.errors import DataError, NotAtOptimumWarning
from rainpp.model import check_inputs
from rainpp.training_set import TrainingSet
from tests import oracles

SIZES = (5, 1, 7, 4)


def write(folder, suffix, rows, labels, ids):
    folder.mkdir()
    stops = np.cumsum(SIZES)
    for number, (start, stop) in enumerate(zip(stops - SIZES, stops, strict=True)):
        part, path = slice(start, stop), folder / f"part-{number:02}{suffix}"
        if suffix == ".npz":
            np.savez(path, inputs=rows[part], labels=labels[part], ids=ids[part])
            continue
        columns = {f"x{i}": rows[part, i] for i in range(rows.shape[1])}
        table = pa.table({**columns, "label": labels[part], "id": ids[part]})
        (pq.write_table if suffix == ".parquet" else feather.write_feather)(table, str(path))
    return folder


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    n = sum(SIZES)
    rows = rng.normal(size=(n, 3)).astype(np.float32)
    return rows, rng.integers(0, 3, n).astype(np.int32), 100 + np.arange(n)


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".arrow"])
def test_a_folder_is_its_files_one_after_the_other(tmp_path, data, suffix):
    inputs, labels, ids = data
    found = read_training(
        write(tmp_path / "rows", suffix, *data), Columns(id=None if suffix == ".npz" else "id")
    )
    assert isinstance(found.inputs, ShardedArray)
    assert (found.inputs.shape, found.inputs.dtype) == (inputs.shape, inputs.dtype)
    assert_array_equal(np.asarray(found.inputs), inputs)
    assert_array_equal(found.labels, labels)
    assert_array_equal(found.ids, ids)
    for rows in (
        slice(3, 9),
        slice(None, None, 4),
        slice(20, 30),
        np.array([16, 0, 5, 5]),
        labels == 1,
    ):
        assert_array_equal(found.inputs[rows], inputs[rows])


def test_no_more_than_two_files_are_in_memory(data):
    read: list[int] = []
    pieces = np.split(data[0], np.cumsum(SIZES)[:-1])
    structures = [module.Shard(i, len(p), module.heads(p)) for i, p in enumerate(pieces)]

    def load(number):
        read.append(number)
        return pieces[number]

    inputs = module.sharded_inputs(structures, load)
    for start in range(0, len(inputs), 2):
        _ = inputs[start : start + 2]
    assert read == [0, 1, 2, 3]  # in order, each of them once


def test_the_index_is_the_one_of_the_rows_in_memory(tmp_path, data, monkeypatch):
    monkeypatch.setattr("rainpp.types._ROWS", 4)
    inputs, labels, ids = data
    params = oracles.linear_params(3, 3, np.random.default_rng(1))
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    model = rainpp.Model(oracles.linear, params, l2=1e-2)
    found = read_training(write(tmp_path / "rows", ".npz", *data))
    own = TrainingSet.checked(model, inputs, labels, ids=ids)
    assert (
        TrainingSet.checked(model, found.inputs, found.labels, ids=found.ids).fingerprint
        == own.fingerprint
    )
    with pytest.warns(NotAtOptimumWarning):
        whole = rainpp.precompute(model, inputs, labels, ids=ids, k=3)
    with pytest.warns(NotAtOptimumWarning):
        pieces = rainpp.precompute(model, found.inputs, found.labels, ids=found.ids, k=3)
    assert whole.manifest == pieces.manifest
    for name, array in whole.arrays.items():
        assert_array_equal(pieces.arrays[name], array, err_msg=name)


def test_a_bad_row_is_named_by_its_place_in_the_whole(tmp_path, data, monkeypatch):
    monkeypatch.setattr("rainpp.types._ROWS", 4)
    data[0][13, 1] = np.nan
    found = read_training(write(tmp_path / "rows", ".npz", *data))
    with pytest.raises(DataError, match="row 13 holds a NaN"):
        check_inputs(found.inputs)


def test_files_that_do_not_fit_together_are_named(tmp_path, data):
    folder = write(tmp_path / "rows", ".npz", *data)
    np.savez(folder / "part-99.npz", inputs=np.zeros((2, 4), np.float32), labels=[0, 1])
    with pytest.raises(DataError, match=r"part-99.npz` has no ids"):
        read_training(folder)
    np.savez(folder / "part-99.npz", inputs=np.zeros((2, 4), np.float32), labels=[0, 1], ids=[1, 2])
    with pytest.raises(DataError, match=r"part-99.npz` has inputs float32\[4\].*float32\[3\]"):
        read_training(folder)


def test_a_folder_without_rows(tmp_path):
    with pytest.raises(DataError, match="holds no training file"):
        read_training(tmp_path)


def test_a_tree_of_arrays_stays_a_tree(tmp_path):
    for number in range(2):
        np.savez(
            tmp_path / f"{number}.npz", a=np.full((2, 3), number), b=np.arange(2), labels=[0, 1]
        )
    found = read_training(tmp_path, Columns(inputs=["a", "b"]))
    assert_array_equal(found.inputs["a"][1:3, 0], [0, 1])
    assert jax.tree.map(lambda leaf: leaf.shape, found.inputs) == {"a": (4, 3), "b": (4,)}
