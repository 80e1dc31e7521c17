"""Rows that are not in the training set, by what adding them would do to a complaint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rainpp.errors import SettingsError
from rainpp.listing import ADD, Numbers, SortKey, check_count, listing
from rainpp.refinement import GroupEffect, Refinement
from rainpp.selection import leading
from rainpp.training_set import TrainingSet

if TYPE_CHECKING:
    from rainpp.ranking import Backing, Ranking


@dataclass(frozen=True, eq=False)
class Additions:
    """Candidates to add to the training set, each with its predicted effect on a complaint.

    With labels a candidate is taken as it is, with plausibility 1.

    Without labels every class c could turn out to be the label. The expected effect of a row under
    the model's own posterior, Σ P(c | x) · effect(x, c), is no score: for cross-entropy and binary
    cross-entropy it is 0 for every row, because Σ P(c | x) ∇ℓ(x, c) = 0. A model does not expect to
    be moved by labels that come as it expects them. What differs between rows is how much hangs on
    the label. So each stands with the class of the largest P(c | x) · effect(x, c): that class is
    its detail, its probability the plausibility and the product the score, as for a relabel. The
    score is what the row promises if only that label is counted; the other labels together take as
    much away. It says which rows are worth labelling, and is no promise of what labelling them
    does: the labels that come back say that.

    Attributes
    ----------
    rows : the candidates; without labels, each with the class of its detail.
    labelled : whether the labels were given.
    effects : (m,), predicted improvement in units of the query if the row is added alone, with that
        label; positive helps. Refined where the ranking was.
    plausibility : (m,), 1 for given labels, else P(label | x).
    expected : (m,), Σ P(c | x) · effect(x, c); the effect itself for given labels.
    refinement : of the ranking, when these were scored.
    """

    ranking: Ranking = field(repr=False)
    rows: TrainingSet = field(repr=False)
    labelled: bool
    effects: np.ndarray = field(repr=False)
    plausibility: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    expected: np.ndarray = field(repr=False)
    refinement: Refinement | None = None

    def top(self, count: int = 20, *, by: SortKey = "score") -> pd.DataFrame:
        """The best candidates, with the columns of `Ranking.top`.

        `train_id` is the candidate's id, `intervention` "add", `detail` the label as an SQL value.

        Raises
        ------
        SettingsError : an argument makes no sense.
        """
        numbers = Numbers(self.scores, self.effects, self.plausibility)
        positions = leading(numbers.sorted_by(by), check_count(count))
        return listing(
            self.rows.ids[positions],
            np.full(positions.size, ADD),
            self._details(positions),
            numbers.at(positions),
        )

    def positions(self, count: int) -> np.ndarray:
        """Which candidates are the best by score."""
        return leading(self.scores, check_count(count))

    def together(self, count: int = 100, *, newton_steps: int | None = None) -> GroupEffect:
        """What adding the best `count` does together, by Newton steps of the mean over all rows.

        As `Ranking.group_effect`. Without labels: if every one turns out to have the label of its
        detail.

        Raises
        ------
        RainError : the training rows are not at hand, or lie in files.
        SettingsError : `count` or `newton_steps` makes no sense.
        DataError : the database has changed since the complaint.
        """
        positions = self.positions(count)
        singles = float(self.effects[positions].astype(np.float64).sum())
        chosen = self.rows.take(positions)
        return self._backing.together_with(chosen, singles=singles, newton_steps=newton_steps)

    def apply(self, count: int) -> TrainingSet:
        """A new training set with the best `count` appended; those at hand are not touched.

        Raises
        ------
        RainError : the training rows are not at hand, or lie in files.
        SettingsError : `count` makes no sense, or nobody has labelled the candidates.
        """
        positions = self.positions(count)
        if not self.labelled:
            raise SettingsError(
                "nobody has labelled these rows: the labels of `top` are guesses of the model that "
                "suit the complaint best, and training on them proves nothing. Have the rows of "
                "`top` labelled, and give them with their labels to ranking.additions."
            )
        return self._backing.training_with(self.rows.take(positions))

    @staticmethod
    def check_of(found: Any, ranking: Ranking) -> None:
        """Refuse what cannot stand beside the rows of `ranking`.

        Raises
        ------
        SettingsError : it is something else, of another ranking, or the ranking was refined since.
        """
        if not isinstance(found, Additions):
            raise SettingsError(
                f"`additions` is a {type(found).__name__}; give what ranking.additions returns."
            )
        if found.ranking is not ranking:
            raise SettingsError(
                "`additions` belongs to another ranking, of other effects; call additions on this."
            )
        if found.refinement is not ranking.refinement:
            raise SettingsError(
                "the ranking was refined after its additions were scored, so their effects do not "
                "compare; call ranking.additions again."
            )

    @property
    def _backing(self) -> Backing:
        assert self.ranking.backing is not None  # they were scored by it
        return self.ranking.backing

    def _details(self, positions: np.ndarray) -> np.ndarray:
        """Labels in the values of the database, as objects."""
        labels, classes = self.rows.labels[positions], self.ranking.classes
        found = np.empty(positions.size, object)
        for place, label in enumerate(labels.tolist()):
            if labels.ndim > 1:  # of a regression
                found[place] = label[0] if len(label) == 1 else tuple(label)
            else:
                found[place] = classes[label] if classes else label
        return found

    def __len__(self) -> int:
        return self.rows.num_rows

    def __repr__(self) -> str:
        what = "labelled" if self.labelled else "unlabelled"
        about = "; ".join(map(str, self.ranking.complaints))
        return f"Additions of {len(self):,} {what} rows for: {about}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self))}</p>" + self.top(10).to_html(index=False)
