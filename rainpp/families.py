"""Which kind of change resolves a complaint: what each does, and whether its claims hold.

A wrong kind can move a number too: with salt and pepper on 70 % of MNIST's 1s, 37 deletions of
other digits that look like a 1 bring the count of 1s where it belongs. What tells the kinds apart
is what they claim about the rows they change. A deletion claims that the label is wrong, a relabel
that the new one is right: a model that has not seen the row says how likely that is. A repair
claims that the inputs went through something that those the query reads did not: trees say whether
the row can be told from them, and no longer once it is repaired (`rainpp.out_of_place`). Claims
about odd rows are always somewhat likely, so the control is as many changes of the same kind that
would move the number the other way. See `experiments/fix_families.py` for how often the right kind
comes first. Where a count of rows is most of a class the control is no control: deleting them all
makes every label of that class look wrong. Then no kind leads, and they go by what they do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import numpy as np
import pandas as pd

from rainpp.backing import RetrainableBacking
from rainpp.errors import RainError
from rainpp.fix import NothingHelps, candidates, check_most, target_of
from rainpp.group_effect import predict_group
from rainpp.intervention.repair import with_repairs
from rainpp.model import Model
from rainpp.out_of_place import out_of_place
from rainpp.types import PyTree

if TYPE_CHECKING:
    from rainpp.ranking import Ranking

COLUMNS = (
    "family",
    "rows",
    "first_order",
    "together",
    "low",
    "high",
    "share",
    "credible",
    "control",
)
# Newton steps of a model that judges: beyond, probabilities no longer move by a hundredth.
_STEPS = 3


def compare_families(ranking: Ranking, count: int) -> pd.DataFrame:
    """What `Ranking.families` does."""
    backing = ranking.backing
    if not isinstance(backing, RetrainableBacking):
        raise RainError("`families` needs a ranking made from complaints on a database.")
    check_most("count", count)
    needed = target_of(ranking)
    rows = [_judged(ranking, backing, kind, count, needed) for kind in ranking.interventions.kinds]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    lift = (frame["credible"] - frame["control"]).clip(lower=0).fillna(0)
    merit = 0 * lift if needed is None else frame["share"] * lift
    order = np.lexsort([-frame["together"].to_numpy(), -merit.to_numpy()])
    return frame.iloc[order].reset_index(drop=True)


def _judged(
    ranking: Ranking, backing: RetrainableBacking, kind: str, count: int, needed: float | None
) -> list[str | float]:
    """One row of the table."""
    try:
        positions = candidates(ranking, count, [kind])
    except NothingHelps:
        share = np.nan if needed is None else 0.0
        return [kind, 0, 0.0, 0.0, 0.0, 0.0, share, np.nan, np.nan]
    singles = float(ranking.effects[positions].astype(np.float64).sum())
    found, after = predict_group(backing, positions, singles=singles, newton_steps=None)
    share = np.nan
    if needed is not None:
        share = float(np.clip(backing.reached(found, after) / needed, 0, 1))
    return [
        kind,
        positions.size,
        singles,
        found.effect,
        found.low,
        found.high,
        share,
        _credible(ranking, backing, kind, positions, after),
        _control(ranking, backing, kind, positions.size),
    ]


def _control(ranking: Ranking, backing: RetrainableBacking, kind: str, count: int) -> float:
    """The same of as many changes that would move the number the other way; 0 for those missing."""
    other = replace(ranking, effects=-ranking.effects)
    try:
        positions = candidates(other, count, [kind])
    except NothingHelps:
        return 0.0
    after = None
    if kind == "delete":
        after = predict_group(backing, positions, singles=0.0, newton_steps=_STEPS)[1]
    return _credible(other, backing, kind, positions, after) * positions.size / count


def _credible(
    ranking: Ranking,
    backing: RetrainableBacking,
    kind: str,
    positions: np.ndarray,
    after: Model | None,
) -> float:
    """Mean of how credible the changes are, those of large effect counting more."""
    claims = _claims(backing, positions, kind, after)
    if not claims.size:
        return np.nan
    return float(np.average(claims, weights=np.abs(ranking.effects[positions])))


def _claims(
    backing: RetrainableBacking, positions: np.ndarray, kind: str, after: Model | None
) -> np.ndarray:
    """How credible each change is, in [0, 1]; empty where nothing can be said."""
    table, training = backing.interventions, backing.training
    rows = table.rows(positions)
    if kind in table.repairs:
        numbers = np.full(rows.size, table.repairs.index(kind))
        functions = backing.index.repairs_in_order()
        inputs = training.take(rows).inputs
        mended = with_repairs(inputs, np.arange(rows.size), numbers, functions)
        read = _read_by_query(backing)
        return np.zeros(0) if read is None else out_of_place(training.inputs, read, rows, mended)
    if backing.model.task == "regression" or positions.size < 2:
        return np.zeros(0)
    if after is not None and kind == "delete":  # the model after has seen none of them
        return 1 - _probabilities(backing, rows, training.labels[rows], after)
    labels, found = table.new_labels(positions), np.zeros(rows.size)
    for fold in (0, 1):
        unseen = np.arange(rows.size) % 2 == fold
        model = _without(backing, positions[~unseen], positions[unseen])
        found[unseen] = _probabilities(backing, rows[unseen], labels[unseen], model)
    return found


def _without(backing: RetrainableBacking, changed: np.ndarray, unseen: np.ndarray) -> Model:
    """The model after one half of the changes, and without the rows of the other."""
    return predict_group(backing, changed, singles=0.0, newton_steps=_STEPS, without=unseen)[1]


def _probabilities(
    backing: RetrainableBacking, rows: np.ndarray, labels: np.ndarray, model: Model
) -> np.ndarray:
    """P(label | inputs) of some training rows (m,)."""
    found = np.asarray(model.probabilities(backing.training.take(rows).inputs), np.float64)
    return found[np.arange(rows.size), labels]


def _read_by_query(backing: RetrainableBacking) -> PyTree | None:
    """Inputs of the rows that the model predicts for the query; None where they are not at hand."""
    tables = [found.table for found in backing.complaints[0].trace.weighted_tables]
    inputs = [table.inputs for table in tables if table.inputs is not None]
    if not inputs:
        return None
    return jax.tree.map(
        lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *inputs
    )
