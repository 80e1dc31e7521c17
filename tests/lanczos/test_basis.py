"""A growing basis, on the host and on a device, against one dense array."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.lanczos.basis import _COLUMNS, DeviceBasis, HostBasis

SIZES = [0, 1, 8, 9, 17]  # none, one, a full block, one more, two full blocks and one
KINDS = [HostBasis, DeviceBasis]


def orthonormal(count, dimension=30):
    columns, _ = np.linalg.qr(np.random.default_rng(count).normal(size=(dimension, max(count, 1))))
    return columns.T[:count]


def filled(kind, dense, dtype=np.float64):
    basis = kind(dense.shape[1], np.dtype(dtype))
    for row in dense:
        basis.append(jnp.asarray(row, dtype))
    return basis


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_rows_come_back_from_any_start(kind, size):
    dense = orthonormal(size)
    basis = filled(kind, dense)
    assert basis.size == size
    for start in range(size + 1):
        assert_allclose(basis.rows(start), dense[start:], rtol=0, atol=0)
        assert basis.rows(start).shape == (size - start, 30)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_what_is_left_is_orthogonal_and_what_was_removed_is_inside(kind, size):
    dense = orthonormal(size)
    vector = np.random.default_rng(1).normal(size=30)
    rest = np.asarray(filled(kind, dense).without(jnp.asarray(vector)))
    assert_allclose(rest, vector - (dense @ vector) @ dense, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_removing_does_not_change_the_vector_given(kind):
    vector = jnp.ones(30)
    filled(kind, orthonormal(3)).without(vector)
    assert_allclose(vector, np.ones(30))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("k", [1, 4])
def test_combinations_are_the_dense_product_in_the_type_of_the_target(kind, size, k):
    dense = orthonormal(size)
    coordinates = np.random.default_rng(2).normal(size=(size, k))
    for dtype, tolerance in ((np.float64, 1e-14), (np.float32, 1e-6)):
        out = np.full((k, 30), np.nan, dtype)
        filled(kind, dense).combined(coordinates, out)
        assert_allclose(out, coordinates.T @ dense, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_combinations_wider_than_one_piece_of_columns(kind):
    rows = np.random.default_rng(0).normal(size=(3, _COLUMNS + 5))
    coordinates = np.random.default_rng(1).normal(size=(3, 2))
    out = np.full((2, _COLUMNS + 5), np.nan)
    filled(kind, rows).combined(coordinates, out)
    assert_allclose(out, coordinates.T @ rows, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_two_passes_leave_only_rounding_in_single_precision(kind):
    """A vector almost inside the basis: one pass would leave 1e-3 of what remains."""
    dense = orthonormal(9, 300).astype(np.float32)
    outside = orthonormal(10, 300)[-1]
    outside -= (dense.astype(np.float64) @ outside) @ dense
    vector = (dense.sum(axis=0) + 1e-4 * outside).astype(np.float32)
    rest = np.asarray(filled(kind, dense, np.float32).without(jnp.asarray(vector)))
    along = np.abs(dense.astype(np.float64) @ rest) / np.linalg.norm(rest)
    assert along.max() < 1e-5
