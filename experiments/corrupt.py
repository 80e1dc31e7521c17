"""Systematic label errors, as in Tables 2 and 3 of the paper, with the rows they hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.data import AdultDataset, Labels
from rainpp.errors import DataError, SettingsError


@dataclass(frozen=True)
class Corruption:
    """Labels with planted errors.

    Attributes
    ----------
    labels : (n,), a copy; the clean ones are untouched.
    corrupted : (n,), true where the label was changed.
    """

    labels: Labels
    corrupted: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """N: changed rows."""
        return int(self.corrupted.sum())


def flip_classes(
    labels: Labels, pairs: Sequence[tuple[int, int]], *, rate: float, seed: int
) -> Corruption:
    """Class-conditional label errors: of every class a, the share `rate` becomes class b.

    (Flokas et al. 2022, §6.1.2: 1 -> 7 at 0.4 changes 40 % of the ones, 4 % of MNIST.)

    Parameters
    ----------
    labels : (n,) classes.
    pairs : (a, b) each; a class is the source of at most one. Sources are the clean labels, so
        [(1, 7), (7, 1)] swaps.
    rate : share of the rows of class a, in [0, 1].
    seed : the rows of one pair depend on it and on a alone, and grow with the rate: those hit at
        0.1 are hit at 0.2 too.

    Raises
    ------
    SettingsError : a rate outside [0, 1], or a class that is the source of two pairs.
    DataError : no row has class a.
    """
    sources = [source for source, _ in pairs]
    if len(set(sources)) != len(sources):
        raise SettingsError(f"`pairs` is {list(pairs)}; a class may be the source of only one.")
    flipped, corrupted = labels.copy(), np.zeros(len(labels), dtype=bool)
    for source, target in pairs:
        rows = _choose(labels == source, f"class {source}", rate=rate, seed=(seed, source))
        flipped[rows] = target
        corrupted[rows] = source != target
    return Corruption(flipped, corrupted)


def flip_private_men(data: AdultDataset, *, rate: float, seed: int) -> Corruption:
    """Feature-conditional label errors: low earners among men in private firms become high ones.

    (Table 3: sex = Male and workclass = Private and income <= 50K -> > 50K.)

    Parameters
    ----------
    rate : share of the training rows that satisfy the predicate, in [0, 1].
    seed : rows hit at a lower rate are hit at a higher one too.

    Raises
    ------
    SettingsError : a rate outside [0, 1].
    DataError : no row satisfies the predicate.
    """
    frame, labels = data.train_frame, data.train_labels
    private_men = (frame["sex"] == "Male") & (frame["workclass"] == "Private")
    affected = private_men.to_numpy(bool) & (labels == 0)
    rows = _choose(affected, "male, private and <=50K", rate=rate, seed=(seed,))
    flipped, corrupted = labels.copy(), np.zeros(len(labels), dtype=bool)
    flipped[rows], corrupted[rows] = 1, True
    return Corruption(flipped, corrupted)


def _choose(
    affected: NDArray[np.bool_], subset: str, *, rate: float, seed: tuple[int, ...]
) -> NDArray[np.intp]:
    """The first round(rate · N) of the N affected rows in a random order."""
    if not 0 <= rate <= 1:
        raise SettingsError(f"`rate` is {rate}; it must be in [0, 1].")
    rows = np.flatnonzero(affected)
    if not rows.size:
        raise DataError(f"no row is {subset}; there is nothing to corrupt.")
    return np.random.default_rng(seed).permutation(rows)[: round(rate * rows.size)]
