"""Sums that do not depend on the order in which numbers came, nor on what was taken away again.

A number is cut into four parts, each a whole multiple of a power of two (a *limb*). Parts are
added as doubles, and because every sum of a limb stays below 2^53 units no addition rounds: sums
form a commutative group, in which a deletion undoes an insertion to the last bit. The idea of
adding into fixed bins is old; see Demmel and Nguyen, "Fast reproducible floating-point summation"
(2013).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rainpp.errors import DataError

Array = NDArray[np.float64]

# Units of the limbs. Neighbours are 2^32 apart: a part below the first is at most 2^31 units, so 4
# million of them can be added before `carried` must be called. The first is there for squares of
# amounts: sums are exact up to 2^93.
_UNITS = (2.0**40, 2.0**8, 2.0**-24, 2.0**-56)
LIMBS = len(_UNITS)
# Of one number: 10^25.
_LARGEST = 2.0**83
_MOST_ROWS = 1 << 22


def limbs(values: Array) -> Array:
    """`values` (...) as their parts (..., 4); what is below 2^-57 is dropped.

    Raises
    ------
    DataError : one is not finite, or larger than 2^83.
    """
    return np.moveaxis(_parts(values), 0, -1)


def _parts(values: Array) -> Array:
    """The limbs (4, ...) of `values`, each in one piece of memory."""
    if not np.abs(values).max(initial=0.0) <= _LARGEST:  # NaN is the largest
        bad = ~(np.abs(values) <= _LARGEST)
        raise DataError(
            f"a sum cannot hold {values[bad].flat[0]:g}: numbers that are added up must be finite "
            f"and at most {_LARGEST:.1g} in size. Filter such rows out, or scale the column."
        )
    rest, parts = values.copy(), np.empty((LIMBS, *values.shape))
    for place, unit in enumerate(_UNITS):
        part: Array = parts[place]
        np.multiply(rest, 1.0 / unit, out=part)  # exact: units are powers of two
        np.rint(part, out=part)
        part *= unit
        rest -= part
    return parts


def segment_sums(values: Array, starts: NDArray[np.int64]) -> Array:
    """Exact sums (s, ..., 4) of consecutive runs of `values` (m, ...); `starts[0]` is 0.

    Raises
    ------
    DataError : as `limbs`.
    """
    total = np.zeros((len(starts), *values.shape[1:], LIMBS))
    for first in range(0, len(values), _MOST_ROWS):
        last = min(first + _MOST_ROWS, len(values))
        inside = np.flatnonzero((starts < last) & (np.append(starts[1:], len(values)) > first))
        cuts = np.maximum(starts[inside], first) - first
        found = np.add.reduceat(_parts(values[first:last]), cuts, axis=1)
        total[inside] = carried(total[inside] + np.moveaxis(found, 0, -1))
    return total


def carried(sums: Array) -> Array:
    """The same sums (..., 4) with small parts, ready to be added to; `sums` itself is changed."""
    for place in range(LIMBS - 1, 0, -1):
        unit = _UNITS[place - 1]
        over = np.rint(sums[..., place] / unit) * unit
        sums[..., place] -= over
        sums[..., place - 1] += over
    return sums


def rounded(sums: Array) -> Array:
    """The doubles (...) nearest to sums (..., 4), but for the last bit."""
    return sums[..., 0] + (sums[..., 1] + (sums[..., 2] + sums[..., 3]))
