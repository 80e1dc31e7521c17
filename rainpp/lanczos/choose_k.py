"""How many eigenpairs to keep.

Measured by AUC_R of planted label errors (`experiments/results/choose_k.json`), the best k falls
into two kinds. Where every parameter is determined by many rows, more directions find more: ADULT
(50 parameters, 32 561 rows) Q4 has 0.77 at k = 2 to 7, 0.87 at 11 and 0.89 at 30, and SST-2 as
counts of words (501, 8 000 rows) 0.25 at 9 and 0.63 at 30. Where parameters are many, the first
directions separate the classes, and what comes after adds rows that are merely odd: MNIST logistic
regression with 10 % flips, Q3, 0.963 at 4, 0.948 at 8, 0.938 at 9, 0.915 at 14.

A repair of inputs moves a row along directions the classes do not need. With salt and pepper on
70 % of the 1s of MNIST the median filter has AUC_R 0.36 at 6, 0.72 at 10, 0.78 at 20 to 30; on 90 %
0.44, 0.57, 0.92 (`experiments/fix_families.py`). So an index with repairs keeps thirty as well.
"""

from __future__ import annotations

import numpy as np

# Ten observations for each parameter: the rule of thumb of regression (Peduzzi et al. 1996).
ROWS_PER_PARAMETER = 10
# Pairs kept of a model whose parameters are determined: ADULT's Q4 gained up to here.
MOST = 30
# Otherwise a direction counts while its curvature is at least this share of the largest: undamped
# scores divide by the curvature, so no direction then weighs more than four times the first.
_SHARE = 0.25
# Few directions hold few complaints: never fewer than this, nor than two below the classes. R − 1
# directions separate R classes (Papyan 2019); the last of them already cost AUC_R on MNIST. Without
# R − 2 the choice is near the best in 3 of 7 complaints about small deep nets instead of 1, but
# AUC_R falls by .007 on average and by .059 at worst (`choose_k_deep.json`); logistic: no change.
_LEAST = 4
# A ratio λᵢ₊₁/λᵢ this close to one ends the fast decay (Flokas et al. 2022, §4.3: "close to one").
_PLATEAU = 0.9


def is_determined(num_rows: int, num_params: int) -> bool:
    """Whether the rows are enough to determine every parameter: ten for each."""
    return num_rows >= ROWS_PER_PARAMETER * num_params


def reason_for_many(num_rows: int, num_params: int, *, repairs: bool = False) -> str:
    """Why "auto" keeps thirty pairs, in words; empty where it does not."""
    if is_determined(num_rows, num_params):
        return f"{ROWS_PER_PARAMETER} rows or more per parameter"
    return "repairs need more than the classes do" if repairs else ""


def choose_k(
    values: np.ndarray, num_classes: int, *, many: bool = False, complete: bool = False
) -> int | None:
    """Number of eigenpairs to keep, or None when more of the spectrum must be known.

    Parameters
    ----------
    values : positive eigenvalues, descending.
    many : whether there is a `reason_for_many`; then the first 30 are kept, otherwise those of at
        least a quarter of the largest, and not fewer than max(R − 2, 4).
    complete : whether these are all there are.

    Examples
    --------
    >>> choose_k(np.array([8.0, 6.0, 5.0, 4.0, 3.0, 1.9, 1.0]), 2)
    5
    """
    if many:
        return MOST if values.size >= MOST else _all_of(values, complete=complete)
    least = max(num_classes - 2, _LEAST)
    if values.size == 0 or (values.size < least and not complete):
        return None
    large = int(np.sum(values >= _SHARE * values[0]))
    if large == values.size:  # the next may be large too
        return _all_of(values, complete=complete)
    return max(large, min(least, values.size))


def inflection(values: np.ndarray, num_classes: int, *, complete: bool = False) -> int | None:
    """The paper's rule (§4.3): the first inflection of the spectrum from the number of classes on.

    Here: the first i >= R where the ratio λᵢ₊₁/λᵢ is at least 0.9 and a local maximum.

    Parameters
    ----------
    values, complete : as in `choose_k`.

    Examples
    --------
    >>> inflection(np.array([8.0, 4.0, 2.0, 1.9, 1.0, 0.5, 0.49, 0.4]), 2)
    3
    """
    ratios = values[1:] / values[:-1]  # ratios[i - 1] is λᵢ₊₁/λᵢ
    for i in range(max(num_classes, 2), ratios.size):
        before, here, after = ratios[i - 2], ratios[i - 1], ratios[i]
        if here >= _PLATEAU and here >= before and here >= after:
            return i
    return _all_of(values, complete=complete)


def _all_of(values: np.ndarray, *, complete: bool) -> int | None:
    return values.size if complete and values.size else None
