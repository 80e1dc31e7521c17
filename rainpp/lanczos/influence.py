"""What an intervention does to a query: the one place where the sign is decided.

Deleting z turns J into J − ℓ(·, z)/n, whose minimiser is θ* + (1/n) H⁻¹ ∇ℓ(θ*, z) to first order:
Eq. 2 of Flokas et al. 2022 describes *adding* a record and has the opposite sign. Replacing z by z'
subtracts one loss and adds the other. The denominator stays n, as when a row's weight is set to 0.
Retraining with the mean over n − 1 rows also makes l2 weaker by a factor 1 − 1/n, which moves every
deletion by the same (l2/n)·⟨H⁻¹∇q, θ*⟩ and so changes no ranking; the mean over n + 1 rows makes it
stronger, and moves every addition by as much the other way.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def query_change(
    projections: Any, eigenvalues: np.ndarray, query_projection: np.ndarray, *, num_rows: int
) -> np.ndarray:
    """Predicted change of the query if each intervention is applied alone, in the query's units.

    Δq = (1/n) Σⱼ ⟨∇q, vⱼ⟩ (1/λⱼ) ⟨vⱼ, g⟩ with g = ∇ℓ(z) for a deletion, ∇ℓ(z) − ∇ℓ(z') for a
    replacement and −∇ℓ(z') for an addition.

    Parameters
    ----------
    projections : (..., k), ⟨vⱼ, g⟩ per intervention.
    eigenvalues : (k,), positive.
    query_projection : (k,), ⟨∇q, vⱼ⟩.
    num_rows : n.

    Returns
    -------
    (...,) in the dtype of `projections`.
    """
    direction = np.asarray(query_projection) / np.asarray(eigenvalues) / num_rows
    return projections @ direction.astype(projections.dtype)
