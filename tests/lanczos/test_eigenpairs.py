import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.errors import NotConverged, SettingsError
from rainpp.lanczos.choose_k import choose_k
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import find_eigenpairs
from rainpp.lanczos.krylov import Krylov
from rainpp.training_set import TrainingSet
from tests import oracles

SPECTRA = {
    "decaying": 0.7 ** np.arange(30),
    "step": np.r_[np.full(5, 10.0), np.full(25, 0.1)],
    "clustered": np.r_[5 + 1e-3 * np.arange(10), 0.5 ** np.arange(20)],
    "rank_deficient": np.r_[4.0, 3.0, 2.0, 1.0, np.zeros(26)],
    "indefinite": np.linspace(3, -2, 30),
    "hilbert": np.linalg.eigvalsh(1 / (np.add.outer(np.arange(30), np.arange(30)) + 1.0)),
}


def matrix(spectrum, seed=0):
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(30, 30)))
    return (basis * spectrum) @ basis.T


def run(dense, steps):
    operator = jnp.asarray(dense)
    krylov = Krylov(lambda v: operator @ v, 30, jax.random.key(0), np.dtype(np.float64))
    for _ in range(steps):
        krylov.step()
    return krylov


@pytest.mark.parametrize("name", SPECTRA)
def test_all_steps_give_the_whole_spectrum(name):
    dense = matrix(SPECTRA[name])
    krylov = run(dense, 30)
    values, _, coordinates = krylov.ritz()
    vectors = np.asarray(krylov.vectors(coordinates))
    scale = np.abs(SPECTRA[name]).max()
    assert krylov.exhausted
    assert_allclose(values, np.sort(SPECTRA[name])[::-1], atol=1e-11 * scale)
    assert_allclose(vectors @ vectors.T, np.eye(30), atol=1e-11)
    assert_allclose(vectors @ dense, values[:, None] * vectors, atol=1e-10 * scale)


@pytest.mark.parametrize("name", ["decaying", "clustered", "indefinite"])
def test_residuals_are_the_true_ones(name):
    dense = matrix(SPECTRA[name])
    krylov = run(dense, 12)
    values, residuals, coordinates = krylov.ritz()
    vectors = np.asarray(krylov.vectors(coordinates))
    true = np.linalg.norm(vectors @ dense - values[:, None] * vectors, axis=1)
    assert_allclose(residuals, true, atol=1e-10)


def test_a_repeated_eigenvalue_is_found_as_often_as_it_occurs():
    # One Krylov space holds one vector per distinct eigenvalue: only restarts find the rest.
    values, _, _ = run(matrix(SPECTRA["step"]), 30).ritz()
    assert np.sum(np.abs(values - 10) < 1e-9) == 5


def pairs_of(problem, k, num_classes=3):
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    curvature = Curvature.of(problem.model, training)
    return find_eigenpairs(curvature, k, num_classes=num_classes)


@pytest.mark.parametrize("make", [oracles.solved_regression, oracles.random_mlp])
def test_leading_pairs_are_the_dense_ones(make):
    problem = make()
    pairs = pairs_of(problem, 4)
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    exact = np.linalg.eigvalsh(dense)[::-1][:4]
    vectors = np.asarray(pairs.vectors)
    # Residual tolerance 1e-3 λ bounds an isolated eigenvalue's error by its square.
    assert_allclose(pairs.values, exact, rtol=1e-5)
    assert_allclose(vectors @ vectors.T, np.eye(4), atol=1e-10)
    assert np.linalg.norm(vectors @ dense - exact[:, None] * vectors) < 4e-3 * exact[0]


def test_negative_curvature_is_never_kept():
    problem = oracles.random_mlp(l2=0.0)
    dense = np.linalg.eigvalsh(oracles.dense_hessian(problem.model, problem.inputs, problem.labels))
    positive = int(np.sum(dense > 1e-9 * dense.max()))
    assert dense.min() < -1e-3  # the problem really is indefinite
    assert pairs_of(problem, positive // 2).values.min() > 0
    with pytest.raises(NotConverged, match="positive eigenvalues"):
        pairs_of(problem, problem.model.num_params)


@pytest.mark.parametrize("k", [0, -1, 16, 2.5, "many", True])
def test_an_impossible_k_is_refused(k):
    with pytest.raises(SettingsError, match="`k` is"):
        pairs_of(oracles.solved_regression(), k)  # 15 parameters


def test_the_seed_decides_everything():
    problem = oracles.random_mlp()
    first, second = pairs_of(problem, 3), pairs_of(problem, 3)
    assert np.array_equal(first.vectors, second.vectors)


def test_auto_stops_early_on_a_decaying_spectrum_with_a_plateau():
    spectrum = np.r_[2.0 ** -np.arange(6), 2.0**-6 * 0.99 ** np.arange(54)]
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))
    inputs = np.sqrt(60 * spectrum)[:, None] * basis.T
    from rainpp.model import Model

    model = Model(lambda p, x: x @ p, jnp.zeros(60), loss="squared_error")
    problem = oracles.Problem(model, inputs, np.zeros(60))
    pairs = pairs_of(problem, "auto", num_classes=3)
    assert_allclose(pairs.values, np.sort(spectrum)[::-1][: pairs.k], rtol=1e-4)
    assert 6 <= pairs.k <= 8
    assert pairs.num_products < 60


# Ratios λᵢ₊₁/λᵢ measured on logistic regressions with planted label errors.
MNIST = [0.887, 0.861, 0.798, 0.841, 0.778, 0.838, 0.793, 0.797, 0.599, 0.87, 0.972, 0.832]
MNIST_TAIL = [0.923, 0.887, 0.886, 0.952, 0.917, 0.94]
ADULT = [0.32, 0.81, 0.94, 0.9, 0.84, 0.63, 0.61, 0.68, 0.85, 0.86, 0.95, 0.88, 0.95, 0.97]
ADULT_TAIL = [0.81, 0.87, 0.96, 0.95]


@pytest.mark.parametrize(
    ("ratios", "num_classes", "chosen"),
    [
        (MNIST + MNIST_TAIL, 10, 11),  # the first peak from ten classes on
        (ADULT + ADULT_TAIL, 2, 11),  # not 3, where the decay only pauses
        (MNIST, 10, None),  # the peak is there but what follows is not known yet
        ([0.5] * 20, 2, None),  # never flattens
    ],
)
def test_choose_k_takes_the_first_lasting_plateau(ratios, num_classes, chosen):
    values = np.cumprod(np.r_[1.0, ratios])
    assert choose_k(values, num_classes) == chosen


def test_a_complete_spectrum_needs_no_look_ahead():
    values = np.cumprod(np.r_[1.0, MNIST])
    assert choose_k(values, 10, complete=True) == 11
