"""The sign and the size of an influence score, against an exact inverse and retraining."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.lanczos.conjugate_gradient import deflation, iterate, solve_together
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.influence import query_change
from rainpp.training_set import TrainingSet
from tests import oracles


def relaxed_count(model, inputs):
    """Expected number of rows of class 1, and its gradient by the parameters."""

    def value(theta):
        return jnp.sum(jax.nn.softmax(model.outputs(theta, jnp.asarray(inputs)))[:, 1])

    return float(value(model.theta)), np.asarray(jax.grad(value)(model.theta))


def exact_changes(problem, query_gradient):
    hessian = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    gradients = oracles.row_gradients(problem.model, problem.inputs, problem.labels)
    return gradients @ np.linalg.solve(hessian, query_gradient) / len(problem.labels)


def test_all_eigenpairs_give_exact_influence():
    problem = oracles.solved_regression()
    index = rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=[rainpp.Delete()]
    )
    _, gradient = relaxed_count(problem.model, problem.inputs)
    changes = index.rank(index.eigenvectors @ gradient).effects
    assert_allclose(changes, exact_changes(problem, gradient), rtol=1e-8)


def test_deleting_moves_the_count_as_predicted():
    """Retraining to rounding without each of the top rows: same sign, correlation above 0.99."""
    problem = oracles.solved_regression(rows=200, l2=1e-3, seed=4)
    index = rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=[rainpp.Delete()]
    )
    before, gradient = relaxed_count(problem.model, problem.inputs)
    ranking = index.rank(index.eigenvectors @ gradient)
    top = np.argsort(-ranking.effects)[:20]
    actual = []
    for row in top:
        keep = np.arange(200) != row
        retrained = oracles.solve(problem.model, problem.inputs[keep], problem.labels[keep])
        actual.append(relaxed_count(retrained, problem.inputs)[0] - before)
    assert (ranking.effects[top] > 0).all()
    assert (np.array(actual) > 0).all()
    assert np.corrcoef(ranking.effects[top], actual)[0, 1] > 0.99


def test_relabelling_moves_the_count_as_predicted():
    problem = oracles.solved_regression(rows=200, l2=1e-3, seed=4)
    index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=15)
    before, gradient = relaxed_count(problem.model, problem.inputs)
    ranking = index.rank(index.eigenvectors @ gradient)
    relabels = np.arange(200, 600)
    extremes = relabels[np.argsort(ranking.effects[relabels])[[0, 1, 2, -3, -2, -1]]]
    for position in extremes:
        change = ranking.interventions[int(position)]
        labels = problem.labels.copy()
        labels[change.row] = change.detail
        retrained = oracles.solve(problem.model, problem.inputs, labels)
        actual = relaxed_count(retrained, problem.inputs)[0] - before
        assert actual == pytest.approx(ranking.effects[position], rel=0.25)


def test_permuting_the_training_rows_permutes_the_scores():
    problem = oracles.solved_regression()
    order = np.random.default_rng(1).permutation(60)
    _, gradient = relaxed_count(problem.model, problem.inputs)
    scores = []
    for rows in (np.arange(60), order):
        index = rainpp.precompute(
            problem.model,
            problem.inputs[rows],
            problem.labels[rows],
            k=15,
            interventions=[rainpp.Delete()],
        )
        scores.append(index.rank(index.eigenvectors @ gradient).scores)
    assert_allclose(scores[1], scores[0][order], atol=1e-10)


def test_halving_the_weight_of_the_data_halves_a_row():
    change = query_change(np.array([[2.0, 4.0]]), np.array([2.0, 4.0]), np.ones(2), num_rows=10)
    assert_allclose(change, [0.2])


@pytest.mark.parametrize("deflated", [False, True])
def test_conjugate_gradients_reach_the_dense_solution(deflated):
    problem = oracles.solved_regression()
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    curvature = Curvature.of(problem.model, training)
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    values, vectors = np.linalg.eigh(dense)
    known = deflation(jnp.asarray(values[::-1][:4]), jnp.asarray(vectors.T[::-1][:4]))
    _, gradient = relaxed_count(problem.model, problem.inputs)
    states = iterate(curvature.hvp, jnp.asarray(gradient), known if deflated else None)
    last = None
    for step, state in enumerate(states):
        last = state
        if step == 20:
            break
    assert last is not None
    assert_allclose(last.solution, np.linalg.solve(dense, gradient), rtol=1e-6)
    assert last.relative_residual < 1e-8


def test_deflated_gradients_start_from_the_answer_of_the_index():
    problem = oracles.solved_regression()
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    values, vectors = np.linalg.eigh(dense)
    inside = vectors.T[::-1][:4]
    right = jnp.asarray(inside[0] * 2 + inside[3])  # wholly captured by the known pairs
    known = deflation(jnp.asarray(values[::-1][:4]), jnp.asarray(inside))
    first = next(iter(iterate(lambda v: jnp.asarray(dense) @ v, right, known)))
    assert first.relative_residual < 1e-10


def test_negative_curvature_ends_the_iteration():
    operator = jnp.asarray(np.diag([1.0, -1.0]))
    states = list(iterate(lambda v: operator @ v, jnp.asarray([0.0, 1.0])))
    assert len(states) == 1
    assert not np.asarray(states[0].solution).any()


def eigenpairs_of(dense, count):
    values, vectors = np.linalg.eigh(dense)
    return jnp.asarray(values[::-1][:count]), jnp.asarray(vectors.T[::-1][:count])


def test_several_systems_are_solved_as_each_alone():
    problem = oracles.solved_regression()
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    curvature = Curvature.of(problem.model, training)
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    pairs = eigenpairs_of(dense, 4)
    rights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 15)))
    told = []
    found = solve_together(
        curvature.products, rights, pairs, 20, step_done=lambda *about: told.append(about)
    )
    assert_allclose(found.solutions, np.linalg.solve(dense, rights.T).T, rtol=1e-6, atol=1e-9)
    assert [step for step, _ in told] == list(range(len(found.residuals)))
    assert found.residuals[-1].max() < 1e-8
    alone = [
        solve_together(curvature.products, right[None], pairs, 3).solutions[0] for right in rights
    ]
    together = solve_together(curvature.products, rights, pairs, 3)
    assert_allclose(together.solutions, np.stack(alone), rtol=1e-9)
    assert together.residuals.shape == (4, 3)


def test_no_steps_leave_the_answer_of_the_index():
    dense = oracles.dense_hessian(
        *(lambda p: (p.model, p.inputs, p.labels))(oracles.solved_regression())
    )
    values, vectors = eigenpairs_of(dense, 4)
    right = jnp.asarray(np.random.default_rng(1).normal(size=(1, 15)))
    found = solve_together(lambda v: v @ jnp.asarray(dense), right, (values, vectors), 0)
    assert_allclose(found.solutions, (right @ vectors.T / values[None]) @ vectors, rtol=1e-12)
    outside = right - right @ vectors.T @ vectors
    expected = np.linalg.norm(outside) / np.linalg.norm(right)
    assert found.residuals[0, 0] == pytest.approx(expected)  # its square is 1 - coverage


def test_one_system_without_positive_curvature_does_not_stop_the_others():
    operator = jnp.asarray(np.diag([3.0, 2.0, 1.0, -1.0]))
    pairs = (jnp.asarray([3.0]), jnp.asarray(np.eye(4)[:1]))
    rights = jnp.asarray([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    found = solve_together(lambda v: v @ operator, rights, pairs, 5)
    assert_allclose(found.solutions[0], [1 / 3, 1 / 2, 1, 0], atol=1e-9)
    assert not np.asarray(found.solutions[1:]).any()
    assert found.stopped.tolist() == [False, True, False]
