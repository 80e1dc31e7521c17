"""Train, rank, fix, again and again until a complaint holds: Rain's loop, with any intervention."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from rainpp.backing import RetrainableBacking
from rainpp.complaint import Cell, Complaint, Want
from rainpp.errors import RainError, SettingsError
from rainpp.fix import PrefixSearch, candidates, needed_improvement
from rainpp.index.artifact import Index
from rainpp.index.build import precompute
from rainpp.intervention import Delete, Relabel
from rainpp.intervention.applying import apply_interventions
from rainpp.intervention.kinds import Kind
from rainpp.model import Model
from rainpp.patch import Patch, patch_of
from rainpp.ranking import Ranking
from rainpp.result import Result
from rainpp.setting import Setting
from rainpp.training_set import TrainingSet
from rainpp.verification import Fit, check_fit, retrained


@dataclass(frozen=True, slots=True)
class Round:
    """One turn: what was changed, and the number after training again.

    Attributes
    ----------
    touched : rows changed so far, this round's among them.
    predicted : the relaxed number that was promised for this round.
    value, relaxed : the number after training again.
    """

    number: int
    changed: int
    touched: int
    predicted: float
    value: float
    relaxed: float
    seconds: float


@dataclass(frozen=True, eq=False)
class RepairLoop:
    """What a loop did.

    Attributes
    ----------
    rounds : one after the other.
    resolved : whether the complaint held at the end.
    before : the number before the first round.
    target : where it was to go.
    patch : all changes against the first training set.
    training : the last training set; `model` was trained on it.
    ended : why it ended.
    """

    complaint: Complaint
    rounds: tuple[Round, ...]
    resolved: bool
    before: float
    target: float
    patch: Patch = field(repr=False)
    training: TrainingSet = field(repr=False)
    model: Model = field(repr=False)
    ended: str

    @property
    def touched(self) -> int:
        """Training rows that were changed."""
        return self.rounds[-1].touched if self.rounds else 0

    def frame(self) -> pd.DataFrame:
        """One row for each round."""
        names = Round.__slots__
        return pd.DataFrame(
            [[getattr(each, name) for name in names] for each in self.rounds], columns=list(names)
        )

    def __repr__(self) -> str:
        after = self.rounds[-1].value if self.rounds else self.before
        return (
            f"RepairLoop({len(self.rounds)} rounds, {self.touched:,} rows changed, {self.before:g} "
            f"-> {after:g}: {self.ended})"
        )


class RepairInterrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a loop: an interruption like any other, but nothing is lost.

    Attributes
    ----------
    loop : what the rounds before it did, as `repair_loop` would have returned it.
    """

    def __init__(self, loop: RepairLoop) -> None:
        self.loop = loop
        super().__init__(f"{loop.ended}; what the rounds before did is kept as `loop` of this")


def _unwatched(done: Round) -> None:
    del done


def repair_loop(
    ranking: Ranking,
    *,
    fit: Fit,
    rounds: int = 10,
    most: int = 1000,
    by: float | None = None,
    kinds: Sequence[str] | None = None,
    k: int | str = "auto",
    round_done: Callable[[Round], None] = _unwatched,
) -> RepairLoop:
    """Fix, train again and ask again, until the complaint holds or a budget ends.

    Each round takes the prefix of the ranking that is predicted to close the gap that is left,
    trains on the changed rows, builds the index of the new model and ranks again. No row is changed
    twice. The user's data, database and registered models are not touched.

    Parameters
    ----------
    ranking : of one complaint about a cell.
    fit : (inputs, labels) -> params, as for `rainpp.verify`; a warm start makes the loop fast.
    rounds : at most this many.
    most : at most this many training rows changed, over all rounds.
    by : by how much the number should move; what is missing to the complaint's target by default.
    kinds : only these families: "delete", "relabel", names of repairs.
    k : eigenpairs of the indexes between the rounds.
    round_done : called with each round after it.

    Returns
    -------
    RepairLoop; also when the budget ended before the complaint held, which `ended` says.

    Raises
    ------
    RainError : the model, the rows or the query are not at hand, the ranking is of several
        complaints, or nothing is predicted to help in the first round.
    SettingsError : an argument makes no sense, or there is no target and no `by`.
    ModelError : `fit` fails in the first round.
    RepairInterrupted : Ctrl-C after a round was made; it holds what was done as `loop`.
    """
    backing = _checked(ranking, fit, rounds, most, round_done)
    goal = _Goal(ranking.complaints[0], needed_improvement(ranking, by))
    state = _State(backing, ranking, goal)
    ended = "the rounds ended"
    for number in range(1, int(rounds) + 1):
        left = most - len(state.touched)
        if left < 1:
            ended = f"{most:,} rows were changed"
            break
        try:
            state.turn(number, fit=fit, most=left, kinds=kinds, k=k)
            round_done(state.rounds[-1])
        except RainError as problem:
            if not state.rounds:
                raise
            ended = f"round {number} could not be made: {problem}"
            break
        except KeyboardInterrupt as stopped:
            if not state.rounds:
                raise
            raise RepairInterrupted(state.ended(f"round {number} was interrupted")) from stopped
        if goal.met(state.rounds[-1].value):
            ended = "the complaint holds"
            break
    return state.ended(ended)


@dataclass(frozen=True)
class _Goal:
    complaint: Complaint
    needed: float

    @property
    def target(self) -> float:
        """Where the number should go."""
        return self.complaint.hard + self.complaint.direction * self.needed

    @property
    def want(self) -> Want:
        """The goal as a wish about the number."""
        rises = self.complaint.direction > 0
        return Want.of("at_least" if rises else "at_most", self.target)

    def met(self, value: float) -> bool:
        """Whether the number has come as far as asked."""
        return self.left(value) <= 0

    def left(self, value: float) -> float:
        """How far it still is."""
        return self.needed - (value - self.complaint.hard) * self.complaint.direction


@dataclass(frozen=True)
class _Done:
    """A round that was made, and what it led to."""

    round: Round
    patch: Patch
    training: TrainingSet
    model: Model
    result: Result


class _State:
    """Where a loop is: rows, model and ranking, and what was changed on the way."""

    def __init__(self, backing: RetrainableBacking, ranking: Ranking, goal: _Goal) -> None:
        self.backing, self.ranking, self.goal = backing, ranking, goal
        # A round is one item, so that an interruption finds all of it or nothing.
        self._done: list[_Done] = []

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Those that were made."""
        return tuple(each.round for each in self._done)

    @property
    def touched(self) -> list[Any]:
        """Ids of the rows changed so far."""
        return [row for each in self._done for row in each.patch.frame["id"].tolist()]

    def ended(self, why: str) -> RepairLoop:
        """What was done, at least one round."""
        goal, rounds, last = self.goal, self.rounds, self._done[-1]
        # Everything that was changed, against the first rows.
        frame = pd.concat([each.patch.frame for each in self._done], ignore_index=True)
        return RepairLoop(
            goal.complaint,
            rounds,
            goal.met(rounds[-1].value),
            goal.complaint.hard,
            goal.target,
            replace(self._done[0].patch, frame=frame),
            last.training,
            last.model,
            why,
        )

    def turn(
        self, number: int, *, fit: Fit, most: int, kinds: Sequence[str] | None, k: int | str
    ) -> None:
        """Rank where a round came before; then fix, train, index and ask once."""
        began = time.perf_counter()
        training, model, value = self.backing.training, self.backing.model, self.goal.complaint.hard
        touched = self.touched
        if self._done:
            last = self._done[-1]
            training, model, value = last.training, last.model, last.round.value
            self._rank_again(last.result)
        without = np.flatnonzero(np.isin(training.ids, np.asarray(touched)))
        positions = candidates(self.ranking, most, kinds, without.tolist())
        search = PrefixSearch(self.backing, self.ranking.effects, positions, self.goal.left(value))
        count = search.smallest()
        chosen, (promised, _) = positions[:count], search.found[count]
        items = [self.ranking.interventions[int(place)] for place in chosen]
        before = self.backing.complaints[0].complaint
        patch = patch_of(self.ranking, training, chosen)
        changed = apply_interventions(training, items, self.backing.index.repairs)
        # A copy: training that works in place would change what the next round starts from.
        found = retrained(fit, changed.take(np.arange(changed.num_rows)), model)
        index = precompute(
            found,
            changed.inputs,
            changed.labels,
            k=k,
            interventions=_kinds(self.backing.index),
            ids=changed.ids,
            weights=changed.weights,
        )
        result = _asked(self.backing.complaints[0].result.setting, self.backing, found, index)
        hard, relaxed = before.about.read(result.answer)
        made = Round(
            number,
            len(items),
            len(touched) + len(items),
            before.relaxed + before.direction * promised.effect,
            hard,
            relaxed,
            round(time.perf_counter() - began, 3),
        )
        self._done.append(_Done(made, patch, changed, found, result))

    def _rank_again(self, result: Result) -> None:
        cell = _moved(self.goal.complaint.cell, result)
        self.ranking = result.complain_about(cell, self.goal.want).rank()
        assert isinstance(self.ranking.backing, RetrainableBacking)
        self.backing = self.ranking.backing


def _moved(cell: Cell, result: Result) -> Cell:
    """The cell of the same group in another answer."""
    row = result.answer.find_row(None, dict(cell.key) or None)
    return Cell(cell.column, row, cell.key)


def _asked(setting: Setting, backing: RetrainableBacking, model: Model, index: Index) -> Result:
    """The query's answer by another model, whose index is at hand."""
    name = backing.registered.name
    registered = replace(backing.registered, model=model, index=index)
    again = replace(setting.with_model(name, model), models={**setting.models, name: registered})
    return Result(again, again.evaluate())


def _kinds(index: Index) -> list[Kind]:
    names = index.manifest["interventions"]
    plain = [kind() for kind in (Delete, Relabel) if kind.name in names]
    return [*plain, *index.repairs_in_order()]


def _checked(ranking: Any, fit: Any, rounds: Any, most: Any, round_done: Any) -> RetrainableBacking:
    if not isinstance(ranking, Ranking):
        raise SettingsError(
            f"`ranking` is a {type(ranking).__name__}; give what complaint.rank() returns."
        )
    if not isinstance(ranking.backing, RetrainableBacking):
        raise RainError("`repair_loop` needs a ranking made from a complaint on a database.")
    check_fit(fit)
    if not callable(round_done):
        raise SettingsError(
            f"`round_done` is {round_done!r}; it must be a function that is given each round."
        )
    for name, value in (("rounds", rounds), ("most", most)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < 1:
            raise SettingsError(f"`{name}` is {value!r}; it must be a whole number of at least 1.")
    backing = ranking.backing
    cells = [item.about for item in backing.complaints if isinstance(item.about, Cell)]
    if len(backing.complaints) != 1 or not cells or backing.kept:
        raise RainError(
            "`repair_loop` goes on until one cell is as asked: give the ranking of a single "
            "complaint about a cell, without keep=."
        )
    backing.check_refinable()
    backing.check_unchanged()
    return backing
