"""The queries of Table 1 without SQL: their gradients by the probabilities, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
    relaxed, relaxed_correct : the first two under probabilities.
    """

    name: str
    weights: Floats
    direction: float
    value: float
    correct: float
    truth: float
    relaxed: float
    relaxed_correct: float

    @property
    def signed_error(self) -> float:
        """How far off the clean model's is, relatively; below 0 where what is asked leads away."""
        return self.direction * _relative(self.value, self.correct)

    @property
    def relaxed_error(self) -> float:
        """The same of relaxed answers."""
        return self.direction * _relative(self.relaxed, self.relaxed_correct)


def _relative(value: float, correct: float) -> float:
    return (correct - value) / max(abs(correct), 1e-9)


@dataclass(frozen=True, eq=False)
class Answers:
    """What is predicted and what is true.

    Attributes
    ----------
    probabilities : (V, R) of the model with errors.
    of_clean : (V, R) of its twin trained on clean data.
    truth : (V,) classes.
    """

    probabilities: Floats
    of_clean: Floats
    truth: NDArray[np.int64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Likeliest classes."""
        return self.probabilities.argmax(axis=1)

    @property
    def clean(self) -> NDArray[np.int64]:
        """Likeliest classes of the twin."""
        return self.of_clean.argmax(axis=1)


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
    """How many rows are predicted as one of some classes."""
    shape = answers.probabilities.shape
    gradient = np.sum([count_of(label, shape) for label in labels], axis=0)
    return _query(name, lambda found: found[:, list(labels)].sum(), gradient, answers)


def joined(name: str, left: Mask, right: Mask, answers: Answers) -> Query:
    """How many pairs of a left and a right row are predicted equal; it should be none."""
    inside = left | right
    gradient = np.zeros_like(answers.probabilities)
    gradient[inside] = -join_of(answers.probabilities[inside], left[inside])

    def pairs(found: Floats) -> Any:
        return found[left].sum(axis=0) @ found[right].sum(axis=0)

    return _query(name, pairs, gradient, answers, direction=-1.0)


def _share(name: str, rows: Mask, answers: Answers) -> Query:
    return _query(name, lambda found: found[rows, 1].mean(), share_of(1, rows), answers)


def _query(
    name: str,
    answer: Callable[[Floats], Any],
    gradient: Floats,
    answers: Answers,
    direction: float | None = None,
) -> Query:
    """A complaint about a function of probabilities (V, R), which certain ones answer as SQL does.

    Parameters
    ----------
    direction : what `_towards` says where it is None.
    """
    certain = np.eye(gradient.shape[1])
    value, correct, truth = (
        float(answer(certain[classes]))
        for classes in (answers.predicted, answers.clean, answers.truth)
    )
    relaxed = (float(answer(found)) for found in (answers.probabilities, answers.of_clean))
    sign = direction or _towards(value, correct, truth)
    return Query(name, sign * gradient, sign, value, correct, truth, *relaxed)


def _towards(value: float, correct: float, truth: float) -> float:
    """+1 for an answer that is too low, -1 for one that is too high.

    What the clean model answers decides, and the true classes where it answers the same: a model
    that never saw an error may count fewer 7s than there are, and 1s labelled 7 then bring the
    count nearer to the truth. Deleting them is no answer to a complaint that there are too few.
    """
    return 1.0 if (correct - value or truth - value) >= 0 else -1.0
