"""A case that takes no time."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from experiments.cases import Case, count_of
from rainpp.model import Model
from rainpp.training_set import TrainingSet


def apply_linear(weights, rows):
    return rows @ weights


def linear_case(*, rows):
    """Three classes of noisy rows; every fourth row of class 1 is labelled 2."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(rows, 6)).astype(np.float32)
    weights = generator.normal(size=(6, 3)).astype(np.float32)
    labels = (inputs @ weights + generator.normal(size=(rows, 3))).argmax(axis=1).astype(np.int32)
    corrupted = np.zeros(rows, bool)
    corrupted[np.flatnonzero(labels == 1)[::4]] = True
    labels[corrupted] = 2
    model = Model(apply_linear, jnp.asarray(weights), loss="cross_entropy", l2=1e-2)
    training = TrainingSet.checked(model, inputs, labels)
    complaints = {"Q3": count_of(1, (50, 3))}
    return Case("small", model, training, corrupted, inputs[:50], complaints, batch=100)
