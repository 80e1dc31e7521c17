"""Training of NNX networks ends near an optimum of the J whose curvature is taken."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.testing import assert_array_equal

from experiments.train_nnx import Schedule, fit
from rainpp.lanczos.curvature import Curvature
from rainpp.model import Model
from rainpp.training_set import TrainingSet

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(3, 1, size=(200, 4)).astype(np.float32)
LABELS = (ROWS[:, :3] + GENERATOR.normal(size=(200, 3))).argmax(axis=1).astype(np.int32)
L2 = 0.02


class Normed(nnx.Module):
    """A linear model of normed inputs."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, rows):
        return self.head(self.norm(rows))


def gradient_norm(network):
    model = Model.from_flax(network, l2=L2)
    training = TrainingSet.checked(model, ROWS, LABELS)
    return float(jnp.linalg.norm(Curvature.of(model, training).gradient()))


def trained(**schedule):
    network = Normed()
    loss = fit(network, ROWS, LABELS, Schedule(batch_size=40, l2=L2, **schedule))
    return network, loss


def test_settling_ends_at_the_optimum_of_the_evaluated_network():
    settled, loss = trained(epochs=20, settling=60, learning_rate=0.05)
    assert gradient_norm(settled) < 0.01
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(settled))} == {jnp.dtype("float32")}
    losses = Model.from_flax(settled).probabilities(ROWS)[np.arange(200), LABELS]
    assert abs(loss + np.log(losses).mean()) < 0.01


def test_running_statistics_move_only_before_settling():
    assert_array_equal(trained(epochs=0, settling=3)[0].norm.mean[...], np.zeros(4))
    before = np.asarray(trained(epochs=4, settling=0)[0].norm.mean[...])
    assert np.all(np.abs(before - 3) < 0.7)
