"""A Lanczos run that goes on from a file is the run that was never interrupted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rainpp.lanczos.eigenpairs import find_eigenpairs
from rainpp.lanczos.krylov import Krylov
from tests.lanczos.test_eigenpairs import SPECTRA, matrix

DIMENSION = 30


class Dense:
    """A symmetric matrix as the operator of a run."""

    def __init__(self, spectrum, dtype):
        self.dimension, self.dtype = DIMENSION, np.dtype(dtype)
        self.matrix = jnp.asarray(matrix(spectrum), dtype)

    def hvp(self, vector):
        return self.matrix @ vector


def started(operator):
    return Krylov(operator.hvp, DIMENSION, jax.random.key(3), operator.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["decaying", "step", "rank_deficient", "indefinite"])
@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 17, 30])
def test_a_restored_run_goes_on_to_the_last_bit(name, dtype, cut):
    operator = Dense(SPECTRA[name], dtype)
    whole, first = started(operator), started(operator)
    for _ in range(DIMENSION):
        whole.step()
    for _ in range(cut):
        first.step()
    second = started(operator)
    second.restore(first.state(), first.rows())
    for _ in range(DIMENSION - cut):
        second.step()
    assert second.state() == whole.state()
    assert np.array_equal(second.rows(), whole.rows())
    for mine, other in zip(second.ritz(), whole.ritz(), strict=True):
        assert np.array_equal(mine, other)


def test_rows_written_in_pieces_are_the_rows_written_at_once():
    """What a checkpoint after every product appends: only the rows that are new."""
    krylov = started(Dense(SPECTRA["decaying"], np.float32))
    written = krylov.rows()
    for _ in range(19):
        before = krylov.size
        krylov.step()
        written = np.concatenate([written[:before], krylov.rows(before)])
    assert np.array_equal(written, krylov.rows())


class Interrupted:
    """A keeper that remembers the run and stops it after some products."""

    def __init__(self, after):
        self.after, self.kept = after, None

    def restore(self, krylov):
        if self.kept is not None:
            krylov.restore(*self.kept)

    def save(self, krylov):
        self.kept = (krylov.state(), krylov.rows())
        if krylov.size == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 8, 12])
def test_eigenpairs_after_an_interruption_are_the_same(after):
    operator = Dense(SPECTRA["decaying"], np.float32)
    keeper = Interrupted(after)
    with pytest.raises(KeyboardInterrupt):
        find_eigenpairs(operator, 6, num_classes=2, keeper=keeper)
    again = find_eigenpairs(operator, 6, num_classes=2, keeper=keeper)
    once = find_eigenpairs(operator, 6, num_classes=2)
    assert np.array_equal(again.vectors, once.vectors)
    assert np.array_equal(again.values, once.values)
    assert again.num_products == once.num_products
