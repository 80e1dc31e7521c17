import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.errors import NotConverged, SettingsError
from rainpp.lanczos.choose_k import inflection
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


def test_auto_stops_early_on_a_decaying_spectrum():
    spectrum = np.r_[2.0 ** -np.arange(6), 2.0**-6 * 0.99 ** np.arange(54)]
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))
    inputs = np.sqrt(60 * spectrum)[:, None] * basis.T
    from rainpp.model import Model

    model = Model(lambda p, x: x @ p, jnp.zeros(60), loss="squared_error")
    problem = oracles.Problem(model, inputs, np.zeros(60))
    pairs = pairs_of(problem, "auto", num_classes=3)
    assert_allclose(pairs.values, np.sort(spectrum)[::-1][: pairs.k], rtol=1e-4)
    assert pairs.k == 4
    assert pairs.num_products < 20


def test_the_paper_s_rule_stays_available():
    problem = oracles.solved_regression()
    pairs = pairs_of(problem, "inflection")
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    exact = np.linalg.eigvalsh(dense)[::-1]
    assert pairs.k == inflection(exact[exact > 1e-9], 3, complete=True)
    assert "inflection" in pairs.rule


def test_ten_rows_for_each_parameter_keep_more_pairs():
    problem = oracles.solved_regression(rows=150)  # 15 parameters, 10 rows for each
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    curvature = Curvature.of(problem.model, training)
    few, many = (
        find_eigenpairs(curvature, "auto", num_classes=3, num_rows=rows) for rows in (149, 150)
    )
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    exact = np.linalg.eigvalsh(dense)[::-1]
    assert many.k == 15
    assert few.k == max(np.sum(exact >= exact[0] / 4), 4)
