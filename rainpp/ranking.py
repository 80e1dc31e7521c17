"""Training-row interventions in order of how much they should help a complaint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd

from rainpp.complaint import Cell, Complaint
from rainpp.errors import RainError, SettingsError
from rainpp.intervention import Intervention, InterventionTable
from rainpp.refinement import (
    GroupEffect,
    Refined,
    Refinement,
    Refining,
    StepDone,
    check_steps,
)
from rainpp.selection import leading
from rainpp.types import ClassValue

if TYPE_CHECKING:
    from rainpp.trust import Circumstances, Trust

SortKey = Literal["score", "effect", "plausibility"]
# Pandas takes from these faster than it infers them: 0.06 ms of a frame's 0.22.
_WORDS = pd.Series(["delete", "relabel", "replace"]).array


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


def _is_whole(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and int(value) >= 0


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
        self, count: int = 20, *, by: SortKey = "score", repeat_rows: bool = False
    ) -> pd.DataFrame:
        """The best interventions, at most one per training row unless `repeat_rows`.

        Returns
        -------
        DataFrame with train_id, intervention, detail (new label, repair), score, effect (units of
        the query; a weighted sum of improvements when several complaints were combined),
        plausibility, cumulative_effect (sum of the effects so far).
        """
        positions = self._top_positions(count, by, repeat_rows=repeat_rows)
        rows = self.interventions.rows(positions)
        labels = self.interventions.new_labels(positions)
        repairs = self.interventions.repair_numbers(positions)
        effects = self.effects[positions].astype(np.float64)
        return pd.DataFrame(
            {
                "train_id": self.interventions.ids[rows],
                "intervention": _WORDS.take(np.where(repairs >= 0, 2, labels >= 0)),
                "detail": pd.Series(self._details(labels, repairs), dtype=object),
                "score": self.scores[positions].astype(np.float64),
                "effect": effects,
                "plausibility": self.plausibility[positions].astype(np.float64),
                "cumulative_effect": np.cumsum(effects),
            },
            copy=False,  # every column is new
        )

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
        self._check_refinable()
        assert self.backing is not None  # checked
        found = self.backing.refined(wanted, step_done)
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
        self._check_refinable()
        assert self.backing is not None  # checked
        singles = float(self.effects[positions].astype(np.float64).sum())
        return self.backing.group_effect(positions, singles=singles, newton_steps=newton_steps)

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
        credible, the mean probability of what the changes claim. By share x credible; without
        a target by together.

        Raises
        ------
        RainError : the model, the rows or the query are not at hand.
        SettingsError : `count` is not a whole number of at least 1.
        """
        self._check_refinable()
        assert self.backing is not None  # checked
        return self.backing.families(self, count)

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
        self._check_refinable()
        assert self.backing is not None  # checked
        return self.backing.fix(self, by=by, most=most, kinds=kinds)

    def refine_in_background(self, steps: int = 4) -> Refining:
        """`refine` in a thread of its own: go on with this ranking, `wait()` for it or `cancel()`.

        Raises
        ------
        RainError : the model or the training set is not at hand.
        """
        wanted = check_steps(steps)
        self._check_refinable()
        return Refining(self, wanted)

    def replace_effects(self, found: Refined) -> None:
        """Take refined effects; the order of suspects stays."""
        _ = self.scores  # from the index, before its effects are gone
        self.effects, self.refinement = found.effects, found.refinement

    @property
    def refined_steps(self) -> int:
        """Steps of conjugate gradients behind the effects; 0 for those of the index."""
        return self.refinement.steps if self.refinement else 0

    def _check_refinable(self) -> None:
        if self.backing is None:
            raise RainError(
                "this needs the model, the training rows and the query; the ranking was made from "
                "a vector of k numbers alone. Rank the complaint on a database that has them."
            )
        self.backing.check_refinable()

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
        if not _is_whole(count):
            raise SettingsError(f"`count` is {count!r}; it must be a whole number >= 0.")
        columns = {"score": self.scores, "effect": self.effects, "plausibility": self.plausibility}
        if not isinstance(by, str) or by not in columns:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`by` is {by!r}; it must be one of {', '.join(columns)}.")
        values = columns[by]
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
