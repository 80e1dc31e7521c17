"""Training-row interventions in order of how much they should help a complaint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from rainpp.additions import Additions
from rainpp.complaint import Cell, Complaint
from rainpp.errors import RainError
from rainpp.intervention import Intervention, InterventionTable
from rainpp.listing import DELETE, RELABEL, REPLACE, Numbers, SortKey, check_count, listing, merged
from rainpp.refinement import (
    GroupEffect,
    Refined,
    Refinement,
    Refining,
    StepDone,
    check_steps,
)
from rainpp.selection import leading
from rainpp.training_set import TrainingSet
from rainpp.types import ClassValue, PyTree

if TYPE_CHECKING:
    from rainpp.trust import Circumstances, Trust


class Backing(Protocol):
    """What a ranking can ask of the model and the database it came from."""

    def coverage(self) -> float:
        """Share of the complaint's gradient that the index captures."""
        ...

    def check_refinable(self) -> None:
        """Raise a RainError where the training rows are not at hand."""
        ...

    def refined(self, steps: int, step_done: StepDone) -> Refined:
        """Effects (N,) after `steps` of conjugate gradients."""
        ...

    def group_effect(
        self, positions: np.ndarray, *, singles: float, newton_steps: int | None
    ) -> GroupEffect:
        """Of interventions applied together."""
        ...

    def families(self, ranking: Ranking, count: int) -> pd.DataFrame:
        """What the best of each family do together."""
        ...

    def fix(
        self, ranking: Ranking, *, by: float | None, most: int, kinds: Sequence[str] | None
    ) -> Any:
        """A rainpp.fix.Fix."""
        ...

    def additions(self, ranking: Ranking, inputs: PyTree, labels: Any, ids: Any) -> Additions:
        """What adding other rows does, each alone."""
        ...

    def together_with(
        self, new: TrainingSet, *, singles: float, newton_steps: int | None
    ) -> GroupEffect:
        """What adding all of `new` does."""
        ...

    def training_with(self, new: TrainingSet) -> TrainingSet:
        """The training rows, then `new`."""
        ...


def _unwatched(step: int, residual: float) -> None:
    del step, residual


@dataclass(eq=False)
class Ranking:
    """Every intervention with its predicted effect on a complaint, best first in `top`.

    Attributes
    ----------
    interventions : what each position of the arrays below stands for.
    effects : (N,), predicted improvement of the cell in the units of the query if the intervention
        is applied alone; positive helps. For several complaints, their weighted sum.
    plausibility : (N,), 1 for a deletion, P(new label | x) for a relabel.
    complaints : what was complained about; empty when ranked from a bare vector.
    classes : SQL value of each class, for `detail`; class numbers when the database is unknown.
    cosines : between the complaints, named by what they say; None for a single one. A negative one
        means that what helps the first harms the second, to first order.
    kept : cells held by `keep=`. Effects are then those of the part of the complaint that moves
        none of them.
    refinement : how the effects were refined; None for those of the index.
    words : what was complained about where `complaints` are not at hand, as in a hand-off.
    survives : the share of the complaint's first-order improvement that is left once they are held.
    circumstances : asked by `trust` for what is known beside the scores.
    direction : H⁻¹∇q (d,) behind refined effects; None for those of the index.
    """

    interventions: InterventionTable
    effects: np.ndarray = field(repr=False)
    plausibility: np.ndarray = field(repr=False)
    complaints: tuple[Complaint, ...] = ()
    classes: tuple[ClassValue, ...] | None = None
    backing: Backing | None = field(default=None, repr=False)
    refinement: Refinement | None = None
    cosines: pd.DataFrame | None = field(default=None, repr=False)
    kept: tuple[Cell, ...] = ()
    survives: float = 1.0
    words: str = ""
    circumstances: Callable[[], Circumstances] | None = field(default=None, repr=False)
    direction: np.ndarray | None = field(default=None, repr=False)
    _scores: np.ndarray | None = field(default=None, init=False, repr=False)
    _coverage: float | None = field(default=None, init=False, repr=False)

    @property
    def scores(self) -> np.ndarray:
        """effect x plausibility (N,), aligned with `interventions`: the order of suspects.

        The effects are those of the index, also once `refine` has replaced `effects`.
        """
        if self._scores is None:
            self._scores = self.effects * self.plausibility
        return self._scores

    @property
    def coverage(self) -> float:
        """Share of the complaint's gradient that the index captures: ‖V∇q‖²/‖∇q‖², in [0, 1].

        It speaks about the gradient, not about the effects: what is missed lies along directions of
        small curvature, which change most when a row does. With a coverage of 0.99 single effects
        were off by up to a factor of 3 (README example); `refine` before quoting one.

        Once refined, the share that the refined effects account for: 1 − residual².

        Computed on first use by one backward pass over the inference rows; NaN when the ranking
        was made from a bare vector, without the model.
        """
        if self.refinement is not None:
            return self.refinement.coverage
        if self._coverage is None:
            self._coverage = self.backing.coverage() if self.backing else float("nan")
        return self._coverage

    def take_coverage(self, known: float) -> None:
        """Note the coverage that whoever had the complaint's gradient found."""
        self._coverage = known

    @property
    def trust(self) -> Trust:
        """How far to trust this ranking, and whether the complaint behind it looks right.

        A few passes over the scores (45 ms for 600 000), and the backward pass of `coverage`.
        """
        from rainpp.trust import trust_of

        return trust_of(self)

    def top(
        self,
        count: int = 20,
        *,
        by: SortKey = "score",
        repeat_rows: bool = False,
        additions: Additions | None = None,
    ) -> pd.DataFrame:
        """The best interventions, at most one per training row unless `repeat_rows`.

        Parameters
        ----------
        additions : what `additions` of this ranking gave: rows to add stand among the others, each
            at most once.

        Returns
        -------
        DataFrame with train_id, intervention, detail (new label, repair), score, effect (units of
        the query; a weighted sum of improvements when several complaints were combined),
        plausibility, cumulative_effect (sum of the effects so far).

        Raises
        ------
        SettingsError : an argument makes no sense, or the additions are of another ranking, or from
            before it was refined.
        """
        positions = self._top_positions(count, by, repeat_rows=repeat_rows)
        labels = self.interventions.new_labels(positions)
        repairs = self.interventions.repair_numbers(positions)
        found = listing(
            self.interventions.ids[self.interventions.rows(positions)],
            np.where(repairs >= 0, REPLACE, np.where(labels >= 0, RELABEL, DELETE)),
            self._details(labels, repairs),
            self._numbers.at(positions),
        )
        if additions is None:
            return found
        Additions.check_of(additions, self)
        return merged(found, additions.top(count, by=by), count, by)

    def best(self, count: int) -> list[Intervention]:
        """The interventions of `top(count)`, one per row, as objects to apply."""
        return [self.interventions[int(position)] for position in self.positions(count)]

    def positions(self, count: int) -> np.ndarray:
        """Positions in `interventions` of `best(count)`."""
        return self._top_positions(count, "score", repeat_rows=False)

    def row_scores(self) -> np.ndarray:
        """Best score of each training row over its interventions (n,): AUC_R is measured on it."""
        return self.interventions.best_by_row(self.scores)

    def refine(self, steps: int = 4, *, step_done: StepDone = _unwatched) -> Ranking:
        """Replace the effects by near-exact ones: `steps` of conjugate gradients, deflated by V.

        Returns this ranking, changed in place. Effects and scores are two jobs. Small curvature
        directions carry true effect and much noise about who is wrong: on MNIST with 10 % flips
        scores from refined effects lower AUC_R from 0.94 to 0.83. So `effects` become the refined
        ones, those to quote, while `scores`, the order of suspects, stay those of the index.

        Parameters
        ----------
        step_done : called with the step and the relative residual after it, also for step 0.

        Raises
        ------
        RainError : the model or the training set is not at hand.
        """
        wanted = check_steps(steps)
        found = self._refinable().refined(wanted, step_done)
        self.replace_effects(found)
        return self

    def group_effect(self, count: int = 100, *, newton_steps: int | None = None) -> GroupEffect:
        """What the interventions of `best(count)` do together: not the sum of their effects.

        Newton steps of the objective without (or with changed) rows, until they settle, and the
        query at the θ they reach: that of retraining for a convex loss. Cost: 20 to 70 passes over
        the training rows a step, and two to five steps.

        Parameters
        ----------
        newton_steps : a number of steps instead of as many as are needed.

        Raises
        ------
        RainError : the model or the training set is not at hand.
        SettingsError : `count` or `newton_steps` makes no sense.
        """
        positions = self.positions(count)
        backing = self._refinable()
        singles = float(self.effects[positions].astype(np.float64).sum())
        return backing.group_effect(positions, singles=singles, newton_steps=newton_steps)

    def families(self, count: int = 100) -> pd.DataFrame:
        """Which kind of change resolves the complaint: the best `count` of each, together.

        Deletions may be of no use where a repair of the same rows is, and the other way round
        (§6.9): each family's best rows are predicted together, as `group_effect` does. A number
        can also be moved by changing rows that are right, so a model that has not seen the rows
        is asked whether the changes are credible; see `rainpp.families`. A few Newton steps for
        each family: seconds for thousands of rows.

        Returns
        -------
        DataFrame with family ("delete", "relabel", names of repairs), rows, first_order (the sum of
        single effects), together, low and high; share of what is missing to the target, up to 1;
        credible, the mean probability of what the changes claim, and control, that of as many
        changes the other way. By share x (credible - control), and where none leads, or without a
        target, by together.

        Raises
        ------
        RainError : the model, the rows or the query are not at hand.
        SettingsError : `count` is not a whole number of at least 1.
        """
        return self._refinable().families(self, count)

    def explain(self, rows: pd.DataFrame, *, top: int = 200, count: int = 5) -> pd.DataFrame:
        """Short predicates over training columns that describe where the score lies.

        Parameters
        ----------
        rows : the training rows as people know them, one for each row of the index, in its order;
            text, numbers, truth values and categories. `label` is added where it is not a column.
        top : how many rows of the top `precision` and `recall` are about.
        count : how many predicates.

        Returns
        -------
        DataFrame with predicate (a condition in SQL), rows (that it holds for), precision (share of
        them in the top), recall (share of the top that it holds for) and effect (sum over its rows
        of the single effects of their best interventions), best first.

        Raises
        ------
        RainError : scikit-learn is not installed.
        ShapeError, DataError, SettingsError : `rows` is not such a frame, a column holds something
            else, or a number makes no sense.
        """
        from rainpp.explain import explain

        return explain(self, rows, top=top, count=count)

    def fix(
        self, *, by: float | None = None, most: int = 1000, kinds: Sequence[str] | None = None
    ) -> Any:
        """The smallest prefix of the ranking that is predicted to resolve the complaint.

        Prefixes are predicted together, as `group_effect` does, not as sums of single effects.

        Parameters
        ----------
        by : by how much the number should move, in its units; what is missing to the target of the
            complaint by default.
        most : at most this many interventions, one for each row.
        kinds : only these families: "delete", "relabel", names of repairs.

        Returns
        -------
        rainpp.fix.Fix : `interventions`, `together` (what they should do), `resolves`, `patch` to
            review and `save(path)`, `apply()` for the new training set.

        Raises
        ------
        RainError : the model, the rows or the query are not at hand, or nothing helps.
        SettingsError : there is no target and no `by`, or an argument makes no sense.
        """
        return self._refinable().fix(self, by=by, most=most, kinds=kinds)

    def additions(self, inputs: PyTree, labels: Any = None, *, ids: Any = None) -> Additions:
        """What adding rows that the model was not trained on would do to the complaint.

        The opposite of a deletion, to first order: Δq = -(1/n)⟨H⁻¹∇q, ∇ℓ(x, y)⟩ for a row with a
        weight of 1. One forward pass over the candidates. Cells of `keep=`, weights of complaints
        and refined effects count as they do for the ranking.

        Parameters
        ----------
        inputs : candidates, of the shapes and types of the training inputs.
        labels : theirs, as for `rainpp.precompute`. Plausibility is 1: nothing is claimed that was
            not said. None for rows that somebody could label: see `Additions`.
        ids : what to call them; needed where the training rows have ids of their own, and none of
            those. Else positions go on after the last training row.

        Raises
        ------
        RainError : the ranking was made from a vector alone, without the model.
        DataError, ShapeError, ModelError : the candidates cannot be used, or an id is taken.
        SettingsError : a regression without labels.
        """
        return self._backed().additions(self, inputs, labels, ids)

    def refine_in_background(self, steps: int = 4) -> Refining:
        """`refine` in a thread of its own: go on with this ranking, `wait()` for it or `cancel()`.

        Raises
        ------
        RainError : the model or the training set is not at hand.
        """
        wanted = check_steps(steps)
        self._refinable()
        return Refining(self, wanted)

    def replace_effects(self, found: Refined) -> None:
        """Take refined effects; the order of suspects stays."""
        _ = self.scores  # from the index, before its effects are gone
        self.effects, self.refinement = found.effects, found.refinement
        self.direction = found.direction

    @property
    def refined_steps(self) -> int:
        """Steps of conjugate gradients behind the effects; 0 for those of the index."""
        return self.refinement.steps if self.refinement else 0

    @property
    def _numbers(self) -> Numbers:
        return Numbers(self.scores, self.effects, self.plausibility)

    def _refinable(self) -> Backing:
        """The backing, which has the training rows."""
        backing = self._backed()
        backing.check_refinable()
        return backing

    def _backed(self) -> Backing:
        if self.backing is None:
            raise RainError(
                "this needs the model, the training rows and the query; the ranking was made from "
                "a vector of k numbers alone. Rank the complaint on a database that has them."
            )
        return self.backing

    def _details(self, labels: np.ndarray, repairs: np.ndarray) -> np.ndarray:
        """SQL values of new labels, names of repairs, None for deletions, as objects."""
        found = np.empty(len(labels), object)
        for place in np.flatnonzero(labels >= 0):
            label = int(labels[place])
            found[place] = self.classes[label] if self.classes else label
        for place in np.flatnonzero(repairs >= 0):
            found[place] = self.interventions.repairs[repairs[place]]
        return found

    def _top_positions(self, count: int, by: SortKey, *, repeat_rows: bool) -> np.ndarray:
        count, values = check_count(count), self._numbers.sorted_by(by)
        if repeat_rows or self.interventions.kinds == ("delete",):  # one for each row anyway
            return leading(values, count)
        wanted = min(count, self.interventions.num_rows)
        looked_at = 2 * wanted
        while True:
            positions = leading(values, looked_at)
            rows = self.interventions.rows(positions)
            first = np.sort(np.unique(rows, return_index=True)[1])
            if first.size >= wanted or looked_at >= values.size:
                return positions[first[:wanted]]
            looked_at *= 4

    def __len__(self) -> int:
        return len(self.interventions)

    def __repr__(self) -> str:
        about = "; ".join(map(str, self.complaints)) or self.words or "a vector"
        how = f"refined {self.refinement}" if self.refinement else "from the index"
        if self.kept:
            cells = ", ".join(map(str, self.kept))
            about += f"; keeping {cells}, which leaves {self.survives:.0%} of the improvement"
        return f"Ranking of {len(self):,} interventions for: {about} ({how})"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self))}</p>" + self.top(10).to_html(index=False)
