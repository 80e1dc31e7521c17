"""How alike two samples rank: identical, unrelated, and what both together are worth."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.lanczos.agreement import Agreement, compare, of_both, overlaps, seen_from
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import find_eigenpairs
from rainpp.training_set import TrainingSet
from tests import oracles


@pytest.fixture(scope="module")
def solved():
    problem = oracles.solved_regression()
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    pairs = find_eigenpairs(Curvature.of(problem.model, training), 4, num_classes=3)
    return problem.model, training, pairs


def test_a_sample_agrees_with_itself(solved):
    model, probe, pairs = solved
    found = compare(model, probe, (pairs, pairs), rows=60, seed=0)
    assert found.rows == 60
    values = [found.between, found.correlation, found.narrowest, found.overlap]
    assert_allclose(values, 1.0, atol=1e-9)
    assert found.enough


def test_the_sign_of_an_eigenvector_does_not_matter(solved):
    model, probe, pairs = solved
    flipped = dataclasses.replace(pairs, vectors=-pairs.vectors)
    found = compare(model, probe, (pairs, flipped), rows=60, seed=0)
    assert found.between == pytest.approx(1.0)
    assert found.overlap == pytest.approx(1.0)


def test_other_directions_do_not_agree(solved):
    """Four of 15 directions against four orthogonal ones: no overlap, and not enough."""
    model, probe, pairs = solved
    rest = np.linalg.svd(pairs.vectors)[2][4:8]
    other = dataclasses.replace(pairs, vectors=rest)
    found = compare(model, probe, (pairs, other), rows=60, seed=0)
    assert found.overlap == pytest.approx(0.0, abs=1e-12)
    assert found.between < 0.8
    assert not found.enough


def test_more_pairs_on_one_side_are_not_compared(solved):
    model, probe, pairs = solved
    fewer = dataclasses.replace(pairs, values=pairs.values[:2], vectors=pairs.vectors[:2])
    found = compare(model, probe, (pairs, fewer), rows=60, seed=0)
    assert found.overlap == pytest.approx(1.0)
    assert found.between == pytest.approx(1.0)


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_of_both_is_what_a_simulation_finds(noise):
    """Truth plus independent noise twice: 200 000 draws put ±0.003 on a correlation."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200_000)
    first, second = (truth + noise * rng.normal(size=truth.size) for _ in range(2))
    between = np.corrcoef(first, second)[0, 1]
    together = np.corrcoef((first + second) / 2, truth)[0, 1]
    assert of_both(between) == pytest.approx(together, abs=3e-3)


def test_of_both_ends():
    assert of_both(1.0) == 1.0
    assert of_both(0.0) == 0.0
    assert of_both(-0.5) == 0.0  # halves that contradict each other promise nothing


@pytest.mark.parametrize(
    ("correlation", "worst_class", "overlap", "enough"),
    [
        (0.99, 0.95, 0.85, True),
        (0.98, 0.96, 0.9, False),
        (0.999, 0.94, 0.9, False),
        (0.999, 0.96, 0.8, False),
    ],
)
def test_every_threshold_must_be_met(correlation, worst_class, overlap, enough):
    assert Agreement(512, 0.9, correlation, worst_class, 0.5, overlap).enough is enough


def test_the_worst_class_is_seen_behind_a_good_median(solved):
    """Sides that differ in one direction only, which complaints about one class hang on."""
    model, probe, pairs = solved
    values = pairs.values.copy()
    values[1] *= 40
    found = compare(
        model, probe, (pairs, dataclasses.replace(pairs, values=values)), rows=60, seed=0
    )
    assert found.narrowest <= found.worst_class < found.correlation


def test_overlaps_are_the_squared_cosines_of_the_principal_angles():
    rng = np.random.default_rng(1)
    first, second = (np.linalg.qr(rng.normal(size=(12, 5)))[0].T for _ in range(2))
    for k, found in enumerate(overlaps(first, second), start=1):
        cosines = np.linalg.svd(first[:k] @ second[:k].T, compute_uv=False)
        assert found == pytest.approx(np.mean(cosines**2))


def test_overlaps_see_a_direction_that_is_one_place_later():
    axes = np.eye(6)
    found = overlaps(axes[:3], axes[[0, 2, 1]])
    assert_allclose(found, [1.0, 0.5, 1.0])


def test_a_half_of_low_rank_is_seen_exactly():
    """Nyström is exact where the curvature has no more directions than it was multiplied with."""
    rng = np.random.default_rng(2)
    axes = np.linalg.qr(rng.normal(size=(12, 4)))[0].T
    curvature = axes.T @ np.diag([5.0, 3.0, 2.0, 1.0]) @ axes
    tilted = np.linalg.qr((axes + 0.1 * rng.normal(size=axes.shape)).T)[0].T
    found = seen_from(tilted, tilted @ curvature)
    assert_allclose(found.values, [5.0, 3.0, 2.0, 1.0], rtol=1e-12)
    assert_allclose(np.abs(np.sum(found.vectors * axes, axis=1)), 1.0, atol=1e-12)


def test_a_half_is_seen_to_first_order():
    """Eigenvectors of H + εD from those of H: what is wrong falls with the square of ε."""
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.normal(size=(30, 30)))[0].T
    curvature = axes.T @ np.diag(np.r_[9.0, 6.0, 4.0, np.zeros(27)]) @ axes
    noise = rng.normal(size=(30, 30)) / np.sqrt(30)
    errors = []
    for size in (0.2, 0.1):
        half = curvature + size * (noise + noise.T)
        exact = np.linalg.eigh(half)[1].T[::-1][:3]
        found = seen_from(axes[:3], axes[:3] @ half)
        errors.append(1 - np.sqrt(overlaps(found.vectors, exact)[-1]))
        assert errors[-1] < (1 - np.sqrt(overlaps(axes[:3], exact)[-1])) / 4
    assert errors[1] < errors[0] / 6


def test_directions_without_curvature_are_left_out():
    axes = np.eye(6)[:3]
    found = seen_from(axes, axes @ np.diag([4.0, -1.0, 2.0, 0, 0, 0]))
    assert_allclose(found.values, [4.0, 2.0])
