"""Directions that leave chosen quantities alone, and how far two complaints pull together.

A fix whose training gradients add up to g moves the parameters along H⁻¹g (Eq. 2 of Flokas et al.
2022), and a quantity with gradient a by ⟨a, H⁻¹g⟩. So the inner product that says what a fix does
is ⟨u, v⟩ = Σⱼ uⱼ vⱼ / λⱼ: g leaves a alone when it is orthogonal to a in it, not in the plain one,
and the fix of one complaint harms another when their product is negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def multipliers(products: Array, target: Array) -> Array:
    """What to take off a gradient of each kept one: μ (m,) with Σᵢ μᵢ ⟨aᵢ, aⱼ⟩ = ⟨aⱼ, q⟩.

    Parameters
    ----------
    products : (m, m), ⟨aᵢ, aⱼ⟩; singular when kept quantities move together.
    target : (m,), ⟨aⱼ, q⟩.
    """
    return np.asarray(np.linalg.lstsq(products, target, rcond=None)[0], np.float64)


def shares(kept: Array, vector: Array, eigenvalues: Array) -> Array:
    """The multipliers μ (m,) for k-vectors: `vector` - μ `kept` leaves all `kept` (m, k) alone."""
    products = inner_products(kept, kept, eigenvalues)
    return multipliers(products, inner_products(kept, vector[None], eigenvalues)[:, 0])


def inner_products(left: Array, right: Array, eigenvalues: Array) -> Array:
    """Σⱼ leftⱼ rightⱼ / λⱼ of k-vectors, for every pair of rows."""
    values = np.asarray(eigenvalues, np.float64)
    return (np.asarray(left, np.float64) / values) @ np.asarray(right, np.float64).T


def cosines(vectors: Array, eigenvalues: Array) -> Array:
    """Cosine of every pair of k-vectors (m, k) under H⁻¹: (m, m), 0 beside a vector of zeros."""
    products = inner_products(vectors, vectors, eigenvalues)
    norms = np.sqrt(np.diag(products))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    found = np.clip(products * scale[:, None] * scale[None, :], -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found
