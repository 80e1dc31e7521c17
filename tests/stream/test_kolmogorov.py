"""K-S from counts: what SciPy says, whatever the batches, and exact when they leave again."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from rainpp.errors import ArtifactError, DataError, SettingsError
from rainpp.stream.kolmogorov import Reference

ROWS = 20_000


def kinds_of_columns():
    """Name -> (training, live): smooth, rounded, counted, with heavy values, constant."""
    rng = np.random.default_rng(0)
    normal, moved = rng.normal(size=ROWS), rng.normal(0.1, 1.1, size=3000)
    often, seldom = rng.random(ROWS) < 0.6, rng.random(3000) < 0.4
    return {
        "normal": (normal, moved),
        "float32": (normal.astype(np.float32), moved.astype(np.float32)),
        "rounded": (np.round(np.exp(normal), 1), np.round(np.exp(moved), 2)),
        "counted": (rng.poisson(3, ROWS), rng.poisson(4, 3000)),
        "heavy": (np.where(often, 0.0, normal), np.where(seldom, 0.0, moved)),
        "infinite": (np.where(often, np.inf, normal), np.where(seldom, -np.inf, moved)),
        "constant below": (np.zeros(ROWS), np.full(3000, -1.0)),
        "constant in a gap": (np.arange(ROWS) % 2, np.full(3000, 0.5)),
        "truth": (often, seldom),
        "wide": (np.arange(ROWS) * 1e15, np.arange(3000) * 9e15),
    }


@pytest.mark.parametrize(("train", "live"), kinds_of_columns().values(), ids=kinds_of_columns())
@pytest.mark.parametrize("size", [3000, 40], ids=["sorted", "searched"])
def test_distance_is_that_of_scipy(train, live, size):
    train, live = train.astype(float), live[:size].astype(float)
    reference = Reference.of({"x": train})
    found = reference.distance(reference.count({"x": live}))[0]
    assert ks_2samp(train, live).statistic - found == pytest.approx(0.00125, abs=0.00125)


def test_where_every_value_has_a_bin_the_distance_is_exact():
    train, live = kinds_of_columns()["counted"]
    reference = Reference.of({"x": train})
    found = reference.distance(reference.count({"x": live + 0.25}))[0]
    assert found == pytest.approx(ks_2samp(train, live + 0.25).statistic, abs=1e-15)


@given(
    train=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    live=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    bins=st.integers(2, 50),
)
def test_distance_is_too_small_by_at_most_a_bin(train, live, bins):
    reference = Reference.of({"x": train}, bins=bins)
    found = reference.distance(reference.count({"x": live}))[0]
    both = np.concatenate([train, live])
    exact = max(
        abs(np.mean(np.array(train) <= value) - np.mean(np.array(live) <= value)) for value in both
    )
    assert -1e-12 <= exact - found <= 1 / bins + 1e-12


@given(cuts=st.lists(st.integers(0, 300), max_size=5), seed=st.integers(0, 5))
def test_any_panes_add_up_and_leave_again(cuts, seed):
    rng = np.random.default_rng(seed)
    columns = {
        "x": np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300)),
        "city": rng.choice(np.array(["A", "B", "C", None], object), 300),
    }
    reference = Reference.of({name: values[:200] for name, values in columns.items()}, bins=16)
    whole = reference.count(columns)
    ends = sorted({0, *cuts, 300})
    panes = [
        reference.count({name: values[start:end] for name, values in columns.items()})
        for start, end in itertools.pairwise(ends)
    ]
    assert whole.dtype == np.int64
    assert (sum(panes) == whole).all()
    assert (whole - sum(panes[1:]) == panes[0]).all()
    np.testing.assert_array_equal(
        reference.distance(np.stack([whole, panes[0]])),
        [reference.distance(whole), reference.distance(panes[0])],
    )


def test_float32_against_float32_keeps_its_type():
    reference = Reference.of({"x": np.float32([0.1, 0.2, 0.7]), "y": [0.1, 0.2, 0.7]})
    assert [item.kind for item in reference.features] == ["float32", "float64"]
    live = {"x": np.array([0.1, 0.2, 0.7]), "y": [0.1, 0.2, 0.7]}
    assert reference.distance(reference.count(live)).tolist() == [0.0, 0.0]


def test_categories_by_total_variation():
    reference = Reference.of({"city": ["A"] * 6 + ["B"] * 3 + ["C"]})
    counts = reference.count({"city": ["A", "C", "new", "other", None]})
    # 0.6, 0.3, 0.1, 0 against 1/4, 0, 1/4, 1/2
    assert reference.distance(counts)[0] == pytest.approx((0.35 + 0.3 + 0.15 + 0.5) / 2)
    assert reference.missing(counts)[0] == pytest.approx(0.2)
    assert reference.rows(counts) == 5


def test_rare_categories_share_a_slot():
    reference = Reference.of({"id": [f"{number}" for number in range(9000)] + ["0"]})
    assert len(reference.counts) == 4096 + 2
    assert reference.counts[-2] == 9000 - 4096
    assert reference.distance(reference.counts)[0] == 0.0


def test_missing_values_of_any_library():
    columns = {
        "number": np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0]),
        "object": np.array([1.5, None, 2, float("nan")], object),
        "text": np.ma.array(["a", "b", "c", "d"], mask=[0, 0, 1, 1]),
        "pandas": pd.array(["a", "b", None, "b"], dtype="string"),
        "nothing": [None] * 4,
    }
    reference = Reference.of(columns)
    assert reference.missing(reference.count(columns)).tolist() == [0.25, 0.5, 0.5, 0.25, 1.0]


def test_a_window_without_values_has_no_distance():
    reference = Reference.of({"x": [1.0, 2.0], "y": [1.0, 2.0]})
    found = reference.distance(reference.count({"x": [np.nan], "y": [1.0]}))
    assert np.isnan(found[0])
    assert found[1] == 0.5
    assert np.isnan(reference.missing(0 * reference.counts)).all()


def test_divergence_is_that_of_scipy():
    reference = Reference.of({"x": [1, 1, 2, 3], "y": ["a", "a", "b", "b"]})
    counts = reference.count({"x": [1, 2, 2, 7], "y": ["a", "b", "b", "c"]})
    expected = [
        jensenshannon([2, 1, 1, 0], [1, 2, 0, 1], base=2) ** 2,
        jensenshannon([2, 2, 0], [1, 2, 1], base=2) ** 2,
    ]
    np.testing.assert_allclose(reference.divergence(counts), expected)


def test_arrays_bring_the_reference_back(tmp_path):
    rng = np.random.default_rng(1)
    columns = {
        "x": rng.normal(size=500).astype(np.float32),
        "y": rng.poisson(2, 500),
        "city": rng.choice(np.array(["A", "Bü", None], object), 500),
    }
    reference = Reference.of(columns, bins=64)
    np.savez(tmp_path / "reference.npz", **reference.to_arrays())
    with np.load(tmp_path / "reference.npz", allow_pickle=False) as file:
        again = Reference.from_arrays(file)
    live = {name: values[::3] for name, values in columns.items()}
    assert again.names == reference.names
    assert [item.kind for item in again.features] == ["float32", "float64", "category"]
    np.testing.assert_array_equal(again.count(live), reference.count(live))
    np.testing.assert_array_equal(again.counts, reference.counts)


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays.pop("edges"),
        lambda arrays: arrays.update(edges=arrays["edges"][:-1]),
        lambda arrays: arrays.update(counts=arrays["counts"][:-1]),
        lambda arrays: arrays.update(counts=np.append(arrays["counts"], 1)),
        lambda arrays: arrays.update(num_slots=arrays["num_slots"] + 1),
        lambda arrays: arrays.update(categories=np.array(["[", "["])),
        lambda arrays: arrays.update(names=arrays["names"][:1]),
    ],
)
def test_damaged_arrays(damage):
    arrays = Reference.of({"x": [1.0, 2.0], "city": ["A", "B"]}).to_arrays()
    damage(arrays)
    with pytest.raises(ArtifactError, match="no K-S reference"):
        Reference.from_arrays(arrays)


GOOD = {"x": [1.0, 2.0, 3.0], "city": ["A", "B", "B"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": [1.0]}, "`z` is no feature. The reference has x, city"),
        ({"x": None}, "`x` is missing"),
        ({"x": [], "city": []}, "`x` has no row"),
        ({"x": [1.0]}, "`city` has 3 rows and `x` has 1"),
        ({"x": ["a", "b", "c"]}, r"`x` holds objects, the reference numbers \(float64\)"),
        ({"city": [1, 2, 3]}, "`city` holds int64, the reference categories"),
        ({"city": [["A"], "B", "B"]}, "`city` is no column"),
        ({"x": np.zeros((3, 2))}, r"`x` has shape \(3, 2\)"),
        ({"x": np.array(["2020", "2021", "2022"], "M8[Y]")}, "Cast dates"),
        ({"x": np.zeros(3, complex)}, "holds complex128"),
    ],
)
def test_bad_batches(change, message):
    reference = Reference.of(GOOD)
    columns = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(DataError, match=message):
        reference.count(columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "no column"),
        ({"x": []}, "no row"),
        ({"x": [1], "y": [1, 2]}, "`y` has 2 rows and `x` has 1"),
        ({"x": np.array(["a", b"c"], object)}, "b'c', a bytes"),
    ],
)
def test_bad_references(columns, message):
    with pytest.raises(DataError, match=message):
        Reference.of(columns)


def test_a_category_that_cannot_be_hashed():
    reference = Reference.of({"city": ["A"]})
    values = np.empty(1, object)
    values[0] = ["A"]
    with pytest.raises(DataError, match=r"\['A'\], a list"):
        reference.count({"city": values})


def test_too_few_bins():
    with pytest.raises(SettingsError, match="`bins` is 1; it must be at least 2"):
        Reference.of(GOOD, bins=1)


def test_counts_of_another_reference_and_too_much_taken_out():
    reference = Reference.of(GOOD)
    with pytest.raises(DataError, match=r"has shape \(3,\); this reference counts into"):
        reference.distance(np.zeros(3, np.int64))
    with pytest.raises(DataError, match="more rows were taken out"):
        reference.distance(-reference.counts)


def test_statistics_of_drift_load_nothing_heavy():
    code = """
import sys
from rainpp.stream import adversarial, evidence, kolmogorov, rows
print(*({"jax", "duckdb", "pandas", "sqlglot"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.bench
def test_ten_million_values_a_second():
    columns = {
        f"x{number}": np.random.default_rng(number).normal(size=100_000).astype(np.float32)
        for number in range(10)
    }
    reference = Reference.of(columns)
    batch = {name: values[:1000].copy() for name, values in columns.items()}
    began = time.perf_counter()
    for _ in range(100):
        reference.count(batch)
    assert 100 * 1000 * 10 / (time.perf_counter() - began) > 1e7
