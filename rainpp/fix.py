"""The smallest prefix of a ranking that is predicted to resolve its complaint (§2.3, Problem 1)."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rainpp.backing import RetrainableBacking
from rainpp.errors import RainError, SettingsError
from rainpp.group_effect import predict_group
from rainpp.intervention import Intervention
from rainpp.intervention.applying import apply_interventions
from rainpp.patch import Patch, patch_of
from rainpp.refinement import GroupEffect
from rainpp.training_set import TrainingSet

if TYPE_CHECKING:
    from rainpp.ranking import Ranking

# A prefix this much longer than needed is left as it is: another prediction costs seconds.
_CLOSE = 0.03
_MOST_PREDICTIONS = 14
# Newton steps of the one that is chosen; those before end when the effect has settled to 5 %.
_STEPS_OF_A_FIX = 8


@dataclass(frozen=True, eq=False)
class Fix:
    """Interventions to apply together, what they should do, and the patch that says so.

    Attributes
    ----------
    interventions : best first, one for each row.
    needed : by how much the complaint's number must move, in its units.
    together : the predicted improvement of all of them; see `Ranking.group_effect`.
    reached : by how much the number itself, not the relaxed one, is predicted to move: the query's
        plain answer by the model that training again is predicted to give. The relaxed sum for
        several complaints.
    tried : (interventions, what they reach) of every prefix that was looked at.
    """

    interventions: tuple[Intervention, ...] = field(repr=False)
    needed: float
    together: GroupEffect
    reached: float
    tried: tuple[tuple[int, float], ...] = field(repr=False)
    patch: Patch = field(repr=False)
    backing: RetrainableBacking = field(repr=False)

    @property
    def resolves(self) -> bool:
        """Whether the complaint should be resolved by it."""
        return self.reached >= self.needed

    def apply(self) -> TrainingSet:
        """A new training set with the fix applied; the one at hand is not touched."""
        repairs = self.backing.index.repairs
        return apply_interventions(self.backing.training, self.interventions, repairs)

    def save(self, path: str | Path) -> Path:
        """Write the patch for somebody to review; see `Patch.save`."""
        return self.patch.save(path)

    def __repr__(self) -> str:
        found = "resolves the complaint" if self.resolves else "does not resolve the complaint"
        return (
            f"Fix({len(self.interventions):,} interventions; predicted {self.reached:.4g} of "
            f"{self.needed:.4g} needed: {found})"
        )


def find_fix(ranking: Ranking, *, by: float | None, most: int, kinds: Sequence[str] | None) -> Fix:
    """What `Ranking.fix` does."""
    backing = ranking.backing
    if not isinstance(backing, RetrainableBacking):
        raise RainError("`fix` needs a ranking made from complaints on a database.")
    needed = needed_improvement(ranking, by)
    positions = candidates(ranking, most, kinds)
    search = PrefixSearch(backing, ranking.effects, positions, needed)
    count = search.smallest()
    chosen = tuple(ranking.interventions[int(place)] for place in positions[:count])
    return Fix(
        chosen,
        needed,
        *search.found[count],
        tuple((size, reached) for size, (_, reached) in sorted(search.found.items())),
        patch_of(ranking, backing.training, positions[:count]),
        backing,
    )


class NothingHelps(RainError):
    """No intervention of the kinds asked for is predicted to help."""


def needed_improvement(ranking: Ranking, by: Any) -> float:
    """By how much the complaint must move: `by`, or what is missing to its target.

    Raises
    ------
    SettingsError : `by` is no finite number above 0, or is needed and missing.
    """
    if by is not None:
        number = isinstance(by, int | float | np.number) and not isinstance(by, bool)
        if not number or not 0 < by < sys.float_info.max:
            raise SettingsError(f"`by` is {by!r:.40}; it must be a finite number above 0.")
        return float(by)
    needed = target_of(ranking)
    if needed is None:
        raise SettingsError(
            "there is no target to reach: complain with should='equal', 'at_least' or 'at_most', "
            "or say by how much the number should move: fix(by=...)."
        )
    return needed


def target_of(ranking: Ranking) -> float | None:
    """By how much the number must move to its target; None without one, or with several."""
    targets = [item.want.target for item in ranking.complaints]
    if len(targets) != 1 or targets[0] is None:
        return None
    return abs(float(targets[0]) - ranking.complaints[0].hard)


def candidates(
    ranking: Ranking, most: int, kinds: Sequence[str] | None, without: Sequence[int] = ()
) -> np.ndarray:
    """Positions of the `most` best interventions that should help, one for each row.

    Parameters
    ----------
    kinds : only these families: "delete", "relabel", names of repairs.
    without : training rows that are left alone.
    """
    check_most("most", most)
    table, scores = ranking.interventions, ranking.scores
    if kinds is not None:
        allowed = np.zeros(len(scores), bool)
        for kind in _families(kinds, table.kinds):
            allowed[table.of(kind)] = True
        scores = np.where(allowed, scores, -np.inf)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    rows = table.rows(order)
    first = np.sort(np.unique(rows, return_index=True)[1])
    found = order[first]
    found = found[~np.isin(table.rows(found), np.asarray(without, np.intp))]
    if not found.size:
        raise NothingHelps("no intervention is predicted to help this complaint; there is no fix.")
    return found[: int(most)]


def check_most(name: str, most: Any) -> None:
    """Refuse what is no number of interventions.

    Raises
    ------
    SettingsError : not a whole number of at least 1.
    """
    whole = isinstance(most, int | np.integer) and not isinstance(most, bool)
    if not whole or most < 1:
        raise SettingsError(f"`{name}` is {most!r}; it must be a whole number of at least 1.")


def _families(kinds: Any, known: Sequence[str]) -> list[str]:
    """`kinds` as a list of names, at least one."""
    asked: list[Any] = (
        [kinds] if isinstance(kinds, str) or not isinstance(kinds, Iterable) else [*kinds]
    )
    if not asked or not all(isinstance(kind, str) for kind in asked):
        raise SettingsError(
            f"`kinds` is {kinds!r}; name some of {', '.join(known)}, or leave it out for all."
        )
    return asked


class PrefixSearch:
    """Predictions for prefixes of `positions`, each made once."""

    def __init__(
        self,
        backing: RetrainableBacking,
        effects: np.ndarray,
        positions: np.ndarray,
        needed: float,
    ) -> None:
        self._backing, self._positions, self._needed = backing, positions, needed
        self._sums = np.cumsum(effects[positions].astype(np.float64))
        self.found: dict[int, tuple[GroupEffect, float]] = {}

    def smallest(self) -> int:
        """The smallest prefix that is predicted to do, to 3 %; all of them if none does.

        The one that is chosen is predicted again by more Newton steps: a number of whole rows turns
        on the last of them. Where it does not hold, longer ones are looked at.
        """
        low, high, whole = 0, self._positions.size, self._positions.size
        guess = int(np.clip(np.searchsorted(self._sums, self._needed) + 1, 1, whole))
        for _ in range(_MOST_PREDICTIONS):
            moved = self._predict(guess)
            if moved >= self._needed:
                high = guess
            else:
                low = guess
            if high - low <= max(1, int(_CLOSE * high)) or low == whole:
                if high not in self.found or self._confirm(high) >= self._needed or high == whole:
                    break
                low, high = high, min((n for n in self._enough() if n > high), default=whole)
            guess = self._next(low, high, guess, moved)
        enough = self._enough()
        if enough:
            return min(enough)
        self._predict(whole)
        return whole

    def _next(self, low: int, high: int, guess: int, moved: float) -> int:
        """Which prefix to look at after `guess`."""
        if high == self._positions.size and high not in self.found:
            # Not enough yet: improvements grow about in proportion, but not always at all.
            ratio = self._needed / moved if moved > 0 else 2.0
            return min(math.ceil(max(guess, low) * float(np.clip(ratio, 1.5, 2.5))), high)
        return (low + high + 1) // 2

    def _enough(self) -> list[int]:
        return [size for size, (_, moved) in self.found.items() if moved >= self._needed]

    def _confirm(self, count: int) -> float:
        """The same prediction by more steps."""
        return self._predict(count, newton_steps=_STEPS_OF_A_FIX)

    def _predict(self, count: int, newton_steps: int | None = None) -> float:
        if count not in self.found or newton_steps is not None:
            found, model = predict_group(
                self._backing,
                self._positions[:count],
                singles=float(self._sums[count - 1]),
                newton_steps=newton_steps,
            )
            self.found[count] = found, self._backing.reached(found, model)
        return self.found[count][1]
