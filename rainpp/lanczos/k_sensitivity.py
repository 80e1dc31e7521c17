"""How much the scores would change had fewer eigenpairs been kept."""

from __future__ import annotations

import numpy as np

from rainpp.lanczos.agreement import PROBE_ROWS, probed
from rainpp.lanczos.eigenpairs import Eigenpairs
from rainpp.model import Model
from rainpp.training_set import TrainingSet

_COMPLAINTS = 32


def measure_k_sensitivity(
    model: Model, training: TrainingSet, pairs: Eigenpairs
) -> dict[str, float]:
    """Median correlation of random complaints' scores at smaller k with those at the k kept.

    Parameters
    ----------
    training : 512 rows of it, evenly spaced, are scored and complained about.

    Returns
    -------
    By k - 1, k - 2 and k // 2, as strings: what JSON has for keys. Empty for a single pair.
    """
    rows = np.unique(np.linspace(0, training.num_rows - 1, PROBE_ROWS).astype(np.intp))
    probe = training.take(rows)
    gradients, queries = probed(model, probe, pairs.vectors, count=_COMPLAINTS, seed=0)
    smaller = sorted({pairs.k - 1, pairs.k - 2, pairs.k // 2} - {0, -1, pairs.k})

    def scores(k: int) -> np.ndarray:
        return (queries[:, :k] / pairs.values[:k]) @ gradients[:, :k].T

    whole = scores(pairs.k)
    return {str(k): round(_median_correlation(scores(k), whole), 4) for k in smaller}


def _median_correlation(first: np.ndarray, second: np.ndarray) -> float:
    a, b = (side - side.mean(axis=1, keepdims=True) for side in (first, second))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.median(np.sum(a * b, axis=1) / np.maximum(size, np.finfo(np.float64).tiny)))
