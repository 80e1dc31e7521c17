"""How many eigenpairs to keep: where the spectrum stops falling fast."""

from __future__ import annotations

import numpy as np

# A ratio λᵢ₊₁/λᵢ this close to one ends the fast decay (Flokas et al. 2022, §4.3: "close to one").
_PLATEAU = 0.9
# It did not end there if a drop this steep follows soon. ADULT has the ratios .94 .90 .84 .63 .61
# .68 .85 .86 .95 from the third on: the paper's rule alone stops at 3 (AUC_R 0.77 for Q4), the
# plateau after the last steep drop at 11 (0.88). MNIST has no such drop after its first plateau.
_STEEP = 0.7
_LOOKAHEAD = 6


def choose_k(values: np.ndarray, num_classes: int, *, complete: bool = False) -> int | None:
    """Number of eigenvalues before the spectrum flattens, or None when it has not flattened yet.

    The paper's rule (§4.3): start at the number of classes R and take the first inflection, here
    the first i >= R where the ratio λᵢ₊₁/λᵢ is at least 0.9 and a local maximum. Beyond the paper:
    none of the next 6 ratios may be below 0.7, or the decay had only paused.

    Parameters
    ----------
    values : positive eigenvalues, descending.
    complete : whether these are all there are; otherwise an inflection whose next 6 ratios are not
        known yet does not count.

    Examples
    --------
    >>> choose_k(np.array([8.0, 4.0, 2.0, 1.9, 1.0, 0.5, 0.49, 0.4]), 2, complete=True)
    6
    """
    ratios = values[1:] / values[:-1]  # ratios[i - 1] is λᵢ₊₁/λᵢ
    last = ratios.size if complete else ratios.size - _LOOKAHEAD + 1
    for i in range(max(num_classes, 2), last):
        before, here, after = ratios[i - 2], ratios[i - 1], ratios[i]
        peak = here >= _PLATEAU and here >= before and here >= after
        if peak and (ratios[i : i + _LOOKAHEAD] >= _STEEP).all():
            return i
    return None
