"""The queries of Table 1 without SQL: their gradients by the probabilities, and their answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.cases import count_of, join_of, share_of
from experiments.paper.cells import Cell
from experiments.paper.tasks import SPOILT, Pool

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Query:
    """A complaint.

    Attributes
    ----------
    weights : ∂q/∂P (V, R), signed so that a larger value is better.
    direction : 1 where the answer should be larger, -1 where it should be smaller.
    value : the answer under the likeliest classes.
    correct : the answer of the model trained on clean data.
    truth : the answer under the true classes.
    """

    name: str
    weights: Floats
    direction: float
    value: float
    correct: float
    truth: float

    @property
    def relative_error(self) -> float:
        """How far the answer is from that of the clean model."""
        return abs(self.value - self.correct) / max(abs(self.correct), 1e-9)

    @property
    def away_from_clean(self) -> bool:
        """Whether what is asked would lead further from the answer of the clean model."""
        return self.direction * (self.correct - self.value) < 0


@dataclass(frozen=True, eq=False)
class Answers:
    """Probabilities (V, R) of the model with errors; classes under it, a clean one, in truth."""

    probabilities: Floats
    predicted: NDArray[np.int64]
    clean: NDArray[np.int64]
    truth: NDArray[np.int64]


def queries(cell: Cell, pool: Pool, answers: Answers) -> list[Query]:
    """The complaints the paper makes about a cell."""
    if cell.data == "adult":
        groups = pool.groups if cell.corruption == "men" else {"Q7": pool.groups["Q7"]}  # §6.4
        return [_share(name, rows, answers) for name, rows in groups.items()]
    if cell.data == "sst2":
        return [counted("Q3", (1,), answers)]
    if cell.corruption == "two flips":
        single = [counted(f"Q3-{label}", (label,), answers) for label in (1, 4, 7, 9)]
        return [*single, counted("Q2-(1,4)", (1, 4), answers), counted("Q2-(7,9)", (7, 9), answers)]
    both = np.ones(len(answers.truth), bool)
    left = pool.groups["left"]
    return [counted("Q3", (SPOILT,), answers), joined("Q1", left, both & ~left, answers)]


def swept(answers: Answers, *, joins: int, seed: int) -> Iterator[Query]:
    """Figure 13: counts of every class, and joins of two random classes."""
    num_classes = answers.probabilities.shape[1]
    for label in range(num_classes):
        yield counted(f"count of {label}", (label,), answers)
    generator = np.random.default_rng((seed, 13))
    pairs = [(a, b) for a in range(num_classes) for b in range(num_classes) if a != b]
    for place in generator.permutation(len(pairs))[:joins]:
        a, b = pairs[place]
        yield joined(f"join of {a} and {b}", answers.truth == a, answers.truth == b, answers)


def counted(name: str, labels: tuple[int, ...], answers: Answers) -> Query:
    """How many rows are predicted as one of some classes; wrong in the direction of the truth."""
    value, correct, truth = (
        float(np.isin(classes, labels).sum())
        for classes in (answers.predicted, answers.clean, answers.truth)
    )
    shape = answers.probabilities.shape
    weights = np.sum([count_of(label, shape) for label in labels], axis=0)
    direction = 1.0 if value <= truth else -1.0
    return Query(name, direction * weights, direction, value, correct, truth)


def joined(name: str, left: Mask, right: Mask, answers: Answers) -> Query:
    """How many pairs of a left and a right row are predicted equal; it should be none."""
    inside = left | right
    weights = np.zeros(answers.probabilities.shape)
    weights[inside] = join_of(answers.probabilities[inside], left[inside])
    width = answers.probabilities.shape[1]
    value, correct = (
        float(_pairs(classes[left], classes[right], width))
        for classes in (answers.predicted, answers.clean)
    )
    return Query(name, weights, -1.0, value, correct, 0.0)


def _pairs(left: NDArray[np.int64], right: NDArray[np.int64], width: int) -> int:
    counts = (np.bincount(side, minlength=width) for side in (left, right))
    return int(np.multiply(*counts).sum())


def _share(name: str, rows: Mask, answers: Answers) -> Query:
    value, correct, truth = (
        float((classes[rows] == 1).mean())
        for classes in (answers.predicted, answers.clean, answers.truth)
    )
    weights = share_of(1, rows)
    direction = 1.0 if value <= truth else -1.0
    return Query(name, direction * weights, direction, value, correct, truth)
