"""Training files: what they hold comes back as rows; what cannot be used is named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from rainpp.adapters.training_file import Columns, read_training
from rainpp.errors import DataError

TABLE = {"x": [1.0, 2.5, 3.0], "n": [4, 5, 6], "label": [0, 1, 1], "row": ["a", "b", "c"]}


@pytest.fixture(params=["csv", "parquet"])
def table(request, tmp_path):
    """Writes columns in either format and gives the path."""

    def write(**columns):
        path = tmp_path / f"train.{request.param}"
        if request.param == "parquet":
            pq.write_table(pa.table(columns), path)
        else:
            rows = zip(*columns.values(), strict=True)
            text = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
            path.write_text("\n".join([",".join(columns), *text]) + "\n")
        return path

    return write


def test_scalar_columns_side_by_side(table):
    rows = read_training(table(**TABLE), Columns(id="row"))
    assert rows.inputs.dtype == np.float32
    assert_array_equal(rows.inputs, [[1, 4], [2.5, 5], [3, 6]])
    assert_array_equal(rows.labels, [0, 1, 1])
    assert_array_equal(rows.ids, ["a", "b", "c"])
    assert rows.ids.dtype.kind == "U"


def test_named_columns_in_the_order_given(table):
    rows = read_training(table(**TABLE), Columns(inputs=["n", "x"], label="row"), classes="cab")
    assert_array_equal(rows.inputs[:, 0], [4, 5, 6])
    assert_array_equal(rows.labels, [1, 2, 0])
    assert rows.ids is None


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)])
def test_array_column(kind, tmp_path):
    images = pa.array([[1, 2], [3, 4], [5, 6]], kind)
    pq.write_table(pa.table({"image": images, "label": [0, 1, 1]}), tmp_path / "t.parquet")
    rows = read_training(tmp_path / "t.parquet")
    assert_array_equal(rows.inputs, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    ("change", "columns", "words"),
    [
        ({"x": [1.0, None, None]}, Columns(), "`x` is NULL or empty in 2 rows.* first in row 1"),
        ({"label": [0, None, 1]}, Columns(id="row"), "`label` is NULL"),
        ({}, Columns(label="class"), "no column `class`; it has x, n, label, row"),
        ({}, Columns(inputs=["y"]), "no column `y`"),
        ({}, Columns(), "`row` in .* is not numeric, such as"),
        ({}, Columns(label="row"), r"are strings, such as 'a'.*\[database\] classes"),
    ],
)
def test_columns_that_cannot_be_used(table, change, columns, words):
    with pytest.raises(DataError, match=words):
        read_training(table(**{**TABLE, **change}), columns)


def test_label_outside_the_classes(table):
    with pytest.raises(DataError, match=r"the label 'c' \(1 rows\).*'a', 'b'"):
        read_training(table(**TABLE), Columns(inputs=["x"], label="row"), classes=["a", "b"])


def test_lists_of_different_lengths(tmp_path):
    pq.write_table(
        pa.table({"image": [[1.0], [2.0, 3.0]], "label": [0, 1]}), tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match="lists of different lengths"):
        read_training(tmp_path / "t.parquet")


def test_nothing_but_a_label(table):
    with pytest.raises(DataError, match="no input columns"):
        read_training(table(label=[0, 1]))


def test_two_columns_of_one_name(tmp_path):
    (tmp_path / "t.csv").write_text("x,x,label\n1,2,0\n")
    with pytest.raises(DataError, match="several columns called `x`"):
        read_training(tmp_path / "t.csv")


def test_npz(tmp_path):
    arrays = {"inputs": np.ones((3, 2)), "labels": np.array([0, 1, 0]), "more": np.zeros((3, 1))}
    np.savez(tmp_path / "t.npz", **arrays)
    rows = read_training(tmp_path / "t.npz")
    assert_array_equal(rows.inputs, arrays["inputs"])
    assert rows.ids is None
    np.savez(tmp_path / "t.npz", **arrays, ids=np.array([7, 8, 9]))
    assert_array_equal(read_training(tmp_path / "t.npz").ids, [7, 8, 9])
    several = read_training(tmp_path / "t.npz", Columns(inputs=["inputs", "more"], id="labels"))
    assert set(several.inputs) == {"inputs", "more"}
    with pytest.raises(DataError, match="no array `y`; it has inputs, labels, more, ids"):
        read_training(tmp_path / "t.npz", Columns(label="y"))


def test_pickled_labels_are_not_opened(tmp_path):
    np.savez(tmp_path / "t.npz", inputs=np.ones((1, 2)), labels=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"damaged or not a NumPy archive.*allow_pickle"):
        read_training(tmp_path / "t.npz")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated(suffix, share, tmp_path):
    path = tmp_path / f"t{suffix}"
    if suffix == ".npz":
        np.savez(path, inputs=np.ones((50, 3)), labels=np.zeros(50, int))
    else:
        pq.write_table(pa.table({"x": np.ones(50), "label": np.zeros(50, int)}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"/t\.") as caught:
        read_training(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "words"), [("no.npz", "no training file"), ("t.pkl", ".npz")])
def test_nothing_to_read(name, words, tmp_path):
    (tmp_path / "t.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=words):
        read_training(tmp_path / name)
