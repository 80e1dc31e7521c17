"""Whether training inputs look like those the query reads, and whether repaired ones do.

Trees of scikit-learn tell training rows from inference rows (a classifier two-sample test,
Lopez-Paz and Oquab 2017). Where training rows went through something the inference rows did not,
such as noise, another unit or a code for missing values, they are told apart.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rainpp.errors import RainError
from rainpp.types import PyTree

# Rows of each kind that the trees see. Those that are asked about are among them as often as among
# all rows: more of them, and trees would tell their class, not what is wrong with them.
_MOST_ROWS = 8000
_TREES, _LEAF = 100, 4
# Columns that every split looks at: all of a table's. With the square root of 3, as is usual, rows
# with one value ten times too small were told apart with 0.75, with all 3 with 0.99.
_COLUMNS = 50


def out_of_place(
    training: PyTree, inference: PyTree, rows: np.ndarray, mended: PyTree
) -> np.ndarray:
    """How much less a repaired row looks like training data only than it did (m,), in [0, 1].

    1: the row could be told from inference rows, and what the repair made of it cannot. Trees are
    grown twice, each without half of `rows`, and asked about that half.

    Parameters
    ----------
    training, inference : inputs, rows first.
    rows : m different training rows, by number.
    mended : their inputs after the repair.

    Raises
    ------
    RainError : scikit-learn is not installed.
    """
    grow = _grower()
    table, after, others = flat(training), flat(mended), flat(inference)
    found = np.zeros(len(rows))
    folds = np.random.default_rng(0).permutation(len(rows)) % 2
    for fold in (0, 1):
        unseen = folds == fold
        if not unseen.any():  # of a single row
            continue
        known = _some(np.delete(table, rows[unseen], axis=0))
        against = _some(others)
        labels = np.repeat([1, 0], [len(known), len(against)])
        trees = grow(np.concatenate([known, against]), labels)
        was, now = (
            trees.predict_proba(each)[:, 1] for each in (table[rows[unseen]], after[unseen])
        )
        found[unseen] = np.clip(2 * (was - now), 0, 1)
    return found


def flat(inputs: PyTree) -> np.ndarray:
    """Inputs as a table (rows, numbers)."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(inputs)]
    return np.hstack([leaf.reshape(len(leaf), -1).astype(np.float32) for leaf in leaves])


def _some(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= _MOST_ROWS:
        return rows
    return rows[np.random.default_rng(0).permutation(len(rows))[:_MOST_ROWS]]


def _grower() -> Any:
    try:
        from sklearn.ensemble import ExtraTreesClassifier
    except ImportError as problem:
        raise RainError(
            "comparing families that repair inputs needs scikit-learn: pip install "
            "'rainpp[explain]'."
        ) from problem

    def grow(rows: np.ndarray, labels: np.ndarray) -> Any:
        width = rows.shape[1]
        trees = ExtraTreesClassifier(
            _TREES,
            min_samples_leaf=_LEAF,
            max_features=min(width, max(_COLUMNS, int(width**0.5))),
            class_weight="balanced",
            random_state=0,
            n_jobs=-1,
        )
        return trees.fit(rows, labels)

    return grow
