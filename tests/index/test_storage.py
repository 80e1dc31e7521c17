"""Projections in half precision and in bytes: how far scores move, and that all else goes on."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr

import rainpp
from rainpp.errors import ArtifactError, SettingsError
from rainpp.index.score import Projections, from_half
from rainpp.index.storage import store_projections, stored_alike

pytestmark = pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
COMPACT = ["float16", "int8"]


def built(problem, path=None, **options):
    return rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=3, path=path, **options
    )


def skewed(size=20_000, k=8, seed=0):
    """Projections as training leaves them: few rows large, most tiny, columns of many sizes."""
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(0, 3, size)[:, None]
    return (lengths * rng.normal(size=(size, k)) * SPREAD[:k]).astype(np.float32)


def stored(full, storage, plausibility=None):
    chances = np.ones(len(full), np.float32) if plausibility is None else plausibility
    arrays = {"projections": full, "plausibility": chances}
    found = store_projections(arrays, storage, SPREAD[: full.shape[1]], seed=0)
    return found, Projections.of(found.arrays)


SPREAD = 10.0 ** -np.arange(8)


@pytest.mark.parametrize(("storage", "least"), [("float16", 0.99999), ("int8", 0.997)])
def test_scores_keep_their_ranks_and_the_manifest_has_the_measured_agreement(storage, least):
    full = skewed()
    found, table = stored(full, storage)
    agreement = found.notes["storage"]["agreement"]
    assert least <= agreement < 1
    assert found.notes["storage"]["shared_top"] >= 0.95
    assert found.checks[0]["value"] == agreement
    assert found.checks[0]["passed"] == (agreement >= 0.999)
    direction = full[::701].sum(axis=0) / SPREAD
    measured = spearmanr(full @ direction, table @ direction.astype(np.float32)).statistic
    assert measured >= least


def test_one_scale_for_a_column_would_not_do():
    full = skewed()
    columns = np.abs(full).max(axis=0) / 127
    coarse = np.rint(full / columns) * columns
    direction = full[::701].sum(axis=0) / SPREAD
    assert spearmanr(full @ direction, coarse @ direction).statistic < 0.9


def test_a_storage_that_moves_rows_fails_its_check():
    # Rows that differ by less than a byte resolves.
    full = (1 + 1e-4 * np.random.default_rng(0).random((5000, 2))).astype(np.float32)
    check = stored(full, "int8")[0].checks[0]
    assert not check["passed"]
    assert "storage='float16'" in check["advice"]


def test_half_precision_is_widened_to_the_last_bit():
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = bits[np.isfinite(bits)].reshape(-1, 2)
    found = from_half(halves)
    assert_array_equal(found.view(np.uint32), halves.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("storage", COMPACT)
def test_numbers_come_back_up_to_their_rounding(storage):
    full = skewed(9000)
    full[5] = 0.0
    table = stored(full, storage)[1]
    back = table.restored(slice(0, len(full)))
    if storage == "float16":
        floor = 2.0**-24 * np.abs(full).max(axis=0) / 2.0**11
        assert (np.abs(back - full) <= np.maximum(2.0**-11 * np.abs(full), floor)).all()
    else:
        scales = np.sqrt(SPREAD)
        step = np.abs(full / scales).max(axis=1, keepdims=True) / 127
        assert (np.abs(back - full) <= 0.5001 * step * scales).all()
    assert_array_equal(back[5], 0.0)


@pytest.mark.parametrize("storage", COMPACT)
def test_an_index_on_disk_is_smaller_and_ranks_alike(logistic, tmp_path, storage):
    full = built(logistic, tmp_path / "full.rain")
    small = built(logistic, tmp_path / "small.rain", storage=storage)
    assert small.manifest["storage"]["kind"] == storage
    assert small.arrays["projections"].dtype == storage
    entries = [index.manifest["arrays"]["projections"]["bytes"] - 128 for index in (full, small)]
    assert entries[0] / entries[1] == {"float16": 4, "int8": 8}[storage]  # float64 in tests
    for index in (small, rainpp.load(tmp_path / "small.rain")):
        vector = np.array([1.0, -2.0, 0.5])
        assert_allclose(
            index.rank(vector).effects,
            full.rank(vector).effects,
            atol=0.02 * full.rank(vector).effects.max(),
        )
    assert [check["name"] for check in small.manifest["self_checks"]][-1] == "storage"
    memory = built(logistic, storage=storage)
    for name in ("projections", "projection_columns"):
        assert_array_equal(memory.arrays[name], small.arrays[name])


def test_the_default_is_what_it_was(logistic, tmp_path):
    index = built(logistic, tmp_path / "x.rain", storage="float32")
    same = built(logistic, tmp_path / "y.rain")
    assert "storage" not in index.manifest
    assert index.arrays["projections"].dtype == np.float64
    for name, entry in same.manifest["arrays"].items():
        assert entry["sha256"] == index.manifest["arrays"][name]["sha256"]
    assert index.manifest["request"] == same.manifest["request"]


def test_another_storage_is_another_request(logistic, tmp_path):
    built(logistic, tmp_path / "x.rain", storage="int8")
    again = built(logistic, tmp_path / "x.rain", storage="float16", again=False)
    assert again.manifest["storage"]["kind"] == "float16"


@pytest.mark.parametrize("storage", COMPACT)
@pytest.mark.parametrize("disk", [False, True])
def test_appended_rows_take_the_storage_of_the_others(logistic, tmp_path, storage, disk):
    old, new = slice(0, 37), slice(37, 40)
    options = {"k": 3, "path": tmp_path / "x.rain" if disk else None}
    start = [
        rainpp.precompute(
            logistic.model, logistic.inputs[old], logistic.labels[old], storage=kind, **options
        ).append(logistic.model, logistic.inputs[new], logistic.labels[new])
        for kind in ("float32", storage)
    ]
    vector = np.array([1.0, -2.0, 0.5])
    full, small = (index.rank(vector).effects for index in start)
    assert start[1].arrays["projections"].dtype == storage
    assert_allclose(small, full, atol=0.02 * np.abs(full).max())


def test_a_row_too_large_for_half_precision_is_refused():
    found, _ = stored(skewed(1000), "float16")
    arrays = {name: found.arrays[name] for name in ("projections", "projection_columns")}
    with pytest.raises(ArtifactError, match="too large for the float16 storage"):
        stored_alike(arrays, np.abs(skewed(1000)).max(axis=0, keepdims=True) * 40)


@pytest.mark.parametrize("storage", ["float64", "half", None, 16])
def test_another_word_is_refused(logistic, storage):
    with pytest.raises(SettingsError, match=r"`storage` is .*float32, float16, int8"):
        built(logistic, storage=storage)


# --- opening


def test_what_is_checked_on_use_opens_at_once_and_refuses_a_damaged_array_then(logistic, tmp_path):
    path = tmp_path / "x.rain"
    file = path / built(logistic, path).manifest["arrays"]["projections"]["file"]
    whole = rainpp.load(path, verify="on use")
    assert_array_equal(whole.rank(np.ones(3)).effects, rainpp.load(path).rank(np.ones(3)).effects)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    index = rainpp.load(path, verify="on use")
    assert index.eigenvalues.shape == (3,)  # undamaged
    for _ in range(2):
        with pytest.raises(ArtifactError, match="checksum does not match"):
            index.rank(np.ones(3))
    with pytest.raises(ArtifactError, match="checksum does not match"):
        rainpp.load(path)


def test_all_arrays_are_there_when_checked_on_use(logistic, tmp_path):
    index = built(logistic, tmp_path / "x.rain")
    lazy = rainpp.load(tmp_path / "x.rain", verify="on use")
    assert set(lazy.arrays) == set(index.arrays)
    assert len(lazy.arrays) == len(index.arrays)
    assert "nothing" not in lazy.arrays
    assert lazy.arrays.get("nothing") is None
    for name, array in index.arrays.items():
        assert_array_equal(lazy.arrays[name], array)


@pytest.mark.parametrize("verify", ["later", None, 2])
def test_another_way_to_verify_is_refused(tmp_path, verify):
    with pytest.raises(SettingsError, match="True, False or 'on use'"):
        rainpp.load(tmp_path, verify=verify)


MEASURED = """
import json, resource, sys
import numpy as np
from rainpp.index import score
values = np.load(sys.argv[1], "r")
score._memory = lambda: values.nbytes  # as if the machine had no more than this
score._PASSING_BYTES = 1 << 20
table = score.Projections(values)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
best = score.Streamed(table, np.broadcast_to(np.float32(1), len(values)), 50) @ np.ones(16, "f4")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([(after - before) * 1024, best.positions.tolist()]))
"""


def test_a_table_larger_than_memory_is_read_in_a_few_megabytes(tmp_path):
    values = np.random.default_rng(0).integers(-50, 50, (1 << 20, 16)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "values.npy")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    grown, positions = json.loads(done.stdout)
    assert grown < 16 << 20  # of 64 MB
    scores = values.sum(axis=1)
    assert positions == np.argsort(-scores, kind="stable")[:50].tolist()
