"""Arrow streams from strangers: read as Arrow reads them, or refused with one kind of error."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest

from rainpp.errors import DataError
from rainpp.sources.arrow_stream import _measured, read_stream

LIMITS = {"most_bytes": 10**7, "most_rows": 10**5}
TABLE = pa.table(
    {
        "number": np.arange(500.0),
        "text": ["a", None, "bc", "", "d"] * 100,
        "kind": pa.array(["u", "v"] * 250).dictionary_encode(),
        "list": [[1.0, 2.0], []] * 250,
        "pair": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(1000)), 2),
        "parts": [{"x": 1, "y": "z"}] * 500,
        "nothing": pa.nulls(500),
        "flag": [True, False] * 250,
    }
)


def written(table, compression=None, rows=100):
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_it_reads_what_arrow_wrote(compression):
    data = written(TABLE, compression)
    assert read_stream(data, **LIMITS).equals(TABLE)
    rows, size = _measured(data)
    assert rows == 500
    # Buffers are padded to 8 bytes, and a small one may stay as it is.
    assert size == pytest.approx(_measured(written(TABLE))[1], rel=0.1)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_size_is_known_before_it_is_read(compression, monkeypatch):
    data = written(pa.table({"a": np.zeros(2 * 10**6)}), compression, 10**6)

    def reads(*_):
        raise AssertionError("it was read")

    monkeypatch.setattr(pa.ipc, "open_stream", reads)
    with pytest.raises(DataError, match="2,000,000 rows and 16,000,000 bytes"):
        read_stream(data, most_bytes=15_999_999, most_rows=10**9)
    with pytest.raises(DataError, match="at most 1,999,999 rows"):
        read_stream(data, most_bytes=10**9, most_rows=1_999_999)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_damage_is_refused_or_harmless(compression):
    whole, rng = written(TABLE.slice(0, 60), compression), np.random.default_rng(0)
    read = refused = 0
    for _ in range(600):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        try:
            found = read_stream(bytes(data), **LIMITS)
        except DataError:
            refused += 1
        else:
            found.to_pylist()  # every value is there
            read += 1
    assert refused > 200
    assert read > 20


def test_every_beginning_of_a_stream_is_refused_or_a_part_of_it():
    whole = written(TABLE.slice(0, 40), rows=10)
    lengths = set()
    for end in range(0, len(whole), 7):
        try:
            lengths.add(read_stream(whole[:end], **LIMITS).num_rows)
        except DataError:
            continue
    assert lengths <= {0, 10, 20, 30, 40}


class Odd(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.int64(), "rainpp.odd")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        del storage, serialized
        return cls()


UNTAKEN = {
    "string view": pa.array(["x"], pa.string_view()),
    "binary view": pa.array([b"x"], pa.binary_view()),
    "run-end encoded": pa.RunEndEncodedArray.from_arrays(pa.array([10]), pa.array([1])),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "union": pa.UnionArray.from_dense(
        pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
    ),
    "list view": pa.array([[1]], pa.list_view(pa.int64())),
    "lists of nothing": pa.array([[None]], pa.list_(pa.null())),
    "dictionary in a list": pa.array([["x"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "tensor": pa.ExtensionArray.from_storage(Odd(), pa.array([1])),
}


@pytest.mark.parametrize("kind", UNTAKEN)
def test_types_that_unfold_are_not_taken(kind):
    if kind == "tensor":
        pa.register_extension_type(Odd())
    try:
        data = written(pa.table({"a": UNTAKEN[kind]}))
        with pytest.raises(DataError, match=r"`a` has the type .* which is not taken"):
            read_stream(data, **LIMITS)
    finally:
        if kind == "tensor":
            pa.unregister_extension_type("rainpp.odd")


def test_a_dictionary_is_as_large_as_what_it_stands_for():
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int8)), pa.array(["x" * 9999]))
    data = written(pa.table({"a": long}), rows=2000)
    assert len(data) < 20_000
    with pytest.raises(DataError, match="without its dictionary"):
        read_stream(data, **LIMITS)
    wide = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array([1.5, 2.5]))
    assert read_stream(written(pa.table({"a": wide})), **LIMITS).num_rows == 3
