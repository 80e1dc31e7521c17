"""Short predicates over training columns that describe where the score of a ranking lies.

A rule is a conjunction of at most three conditions. Candidates are the paths of shallow regression
trees of scikit-learn, grown on truth values of conditions to fit the positive scores, their shorter
parts, and joins of the best of them; the best are kept by weighted relative accuracy,
P(rule)·(mean score within − mean score of all) (Lavrač et al. 1999; Klösgen 2002 for numbers): it
rises when a condition leaves out rows of little score and falls when it leaves out others. The
highest rows alone mislead: on ADULT with private-sector men mislabelled the top 200 are low earners
of rare kinds, while the score of all rows names the planted predicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rainpp.errors import DataError, RainError, SettingsError, ShapeError

if TYPE_CHECKING:
    from rainpp.ranking import Ranking

# Values of a column, and words of a text, that get a condition: the commonest.
_MOST_VALUES, _MOST_WORDS = 30, 100
_QUANTILES = tuple(tenth / 10 for tenth in range(1, 10))
# A column of so few different numbers is told apart by each of them, others by tenths.
_FEW_NUMBERS = 10
# Texts have more different values than this share of the rows, and blanks in them.
_TEXT_SHARE = 0.2
_TREES, _DEPTH = 12, 3
# Rules that are joined with each other.
_JOINED = 40

Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Condition:
    """One condition in SQL, the column it is about, and the rows it holds for (n,)."""

    sql: str
    column: str
    holds: Flags = field(repr=False)


def explain(ranking: Ranking, rows: Any, *, top: int, count: int) -> pd.DataFrame:
    """What `Ranking.explain` does."""
    table = ranking.interventions
    frame = _checked_frame(rows, table.num_rows)
    for name, value in (("top", top), ("count", count)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`{name}` is {value!r}; it must be a whole number of at least 1.")
    chosen = table.rows(ranking.positions(top))
    in_top = np.zeros(table.num_rows, bool)
    in_top[chosen] = True
    labels = _labels(ranking)
    if "label" not in frame.columns and labels is not None:
        frame = frame.assign(label=labels)
    conditions = [
        each
        for name in frame.columns
        for each in _conditions(str(name), pd.Series(frame[name]))
        if 0 < int(each.holds.sum()) < table.num_rows
    ]
    if not conditions:
        raise DataError("every column of `rows` holds one value; there is nothing to tell apart.")
    score = np.maximum(table.best_by_row(ranking.scores), 0).astype(np.float64)
    found = _best(conditions, score, count)
    best_effects = _effects_by_row(ranking)
    return pd.DataFrame(
        [_described(rule, in_top, best_effects) for rule in found],
        columns=["predicate", "rows", "precision", "recall", "effect"],
    )


def _labels(ranking: Ranking) -> list[Any] | None:
    """Of the training rows: SQL values of classes, or numbers; None where a row has several."""
    table = ranking.interventions
    if table.labels.dtype.kind not in "iu":
        one_each = table.labels.size == table.num_rows
        return table.labels.reshape(-1).tolist() if one_each else None
    names = list(ranking.classes or range(table.num_classes))
    return [names[int(label)] for label in table.labels]


def _described(rule: Rule, in_top: Flags, effects: np.ndarray) -> list[Any]:
    holds = _holds(rule)
    hits = int((holds & in_top).sum())
    return [
        " AND ".join(each.sql for each in rule),
        int(holds.sum()),
        hits / int(holds.sum()),
        hits / int(in_top.sum()),
        float(effects[holds].sum()),
    ]


Rule = tuple[Condition, ...]
Numbers = tuple[int, ...]


def _holds(rule: Rule) -> Flags:
    return np.logical_and.reduce([each.holds for each in rule])


def _effects_by_row(ranking: Ranking) -> np.ndarray:
    """Effect of each row's best intervention by score (n,); 0 where none should help."""
    table, scores = ranking.interventions, ranking.scores
    best, effects = np.zeros(table.num_rows), np.zeros(table.num_rows)
    for kind in table.kinds:
        where = table.of(kind)
        part = scores[where].reshape(table.num_rows, -1)
        own = ranking.effects[where].reshape(table.num_rows, -1)
        column = part.argmax(axis=1)[:, None]
        score = np.take_along_axis(part, column, axis=1)[:, 0]
        better = score > best
        best = np.where(better, score, best)
        effects = np.where(better, np.take_along_axis(own, column, axis=1)[:, 0], effects)
    return effects


def _grown(conditions: list[Condition], score: np.ndarray) -> set[Numbers]:
    """Paths of trees as conjunctions of conditions that hold, and all their parts."""
    try:
        from sklearn.tree import DecisionTreeRegressor
    except ImportError:
        raise RainError(
            "`explain` learns rules with scikit-learn, which is not installed: "
            'pip install "rainpp[explain]".'
        ) from None
    truth = np.column_stack([each.holds for each in conditions])
    found: set[Numbers] = set()
    for seed in range(_TREES):
        # The first looks at every condition; the others at some, so that they differ.
        some = None if seed == 0 else 0.3
        tree = DecisionTreeRegressor(max_depth=_DEPTH, max_features=some, random_state=seed)
        for path in _paths(tree.fit(truth, score).tree_):
            for size in range(1, len(path) + 1):
                found.update(combinations(path, size))
    return found


def _paths(tree: Any, node: int = 0, held: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Conditions that hold on the way to each leaf, in ascending order."""
    if tree.children_left[node] < 0:
        if held:
            yield tuple(sorted(held))
        return
    yield from _paths(tree, int(tree.children_left[node]), held)
    yield from _paths(tree, int(tree.children_right[node]), (*held, int(tree.feature[node])))


def _best(conditions: list[Condition], score: np.ndarray, count: int) -> list[Rule]:
    """The `count` best rules; of rules for the same rows the shortest."""
    usual = float(score.mean())

    def worth(numbers: Numbers) -> float:
        rule = tuple(conditions[number] for number in numbers)
        holds = _holds(rule)
        if len({each.column for each in rule}) < len(rule) or not holds.any():
            return -np.inf
        return float(holds.mean() * (score[holds].mean() - usual))

    known = {numbers: worth(numbers) for numbers in _grown(conditions, score)}
    for _ in range(_DEPTH - 1):
        best = sorted(known, key=lambda numbers: (-known[numbers], numbers))[:_JOINED]
        joined = {tuple(sorted({*one, *other})) for one, other in combinations(best, 2)}
        new = (numbers for numbers in joined - known.keys() if len(numbers) <= _DEPTH)
        known |= {numbers: worth(numbers) for numbers in new}
    by_rows: dict[bytes, Rule] = {}
    for numbers in sorted(known, key=lambda each: (-known[each], len(each), each)):
        if known[numbers] <= 0 or len(by_rows) == count:
            break
        rule = tuple(conditions[number] for number in numbers)
        by_rows.setdefault(np.packbits(_holds(rule)).tobytes(), rule)
    return list(by_rows.values())


def _checked_frame(rows: Any, num_rows: int) -> pd.DataFrame:
    if not isinstance(rows, pd.DataFrame):
        raise SettingsError(f"`rows` is a {type(rows).__name__}; give a pandas DataFrame.")
    if len(rows) != num_rows:
        raise ShapeError(
            f"`rows` has {len(rows)} rows; the index has {num_rows} training rows, in this order."
        )
    twice = rows.columns[rows.columns.duplicated()]
    if len(twice):
        raise DataError(
            f"`rows` has the column {twice[0]!r} more than once; name each column differently."
        )
    return rows.reset_index(drop=True)


def _conditions(name: str, column: pd.Series) -> Iterator[Condition]:
    quoted = name if name.isidentifier() else '"' + name.replace('"', '""') + '"'
    missing = column.isna().to_numpy(bool)
    if missing.any():
        yield Condition(f"{quoted} IS NULL", name, missing)
    known = pd.Series(column[~missing])
    if pd.api.types.is_complex_dtype(column):
        raise DataError(
            f"column `{name}` of `rows` holds complex numbers, which have no order. Leave it out, "
            "or give its parts as columns."
        )
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        yield from _of_numbers(quoted, name, column, known)
        return
    if not all(isinstance(value, str | bool | np.bool_ | int | float) for value in known):
        odd = next(v for v in known if not isinstance(v, str | bool | np.bool_ | int | float))
        raise DataError(
            f"column `{name}` of `rows` holds a {type(odd).__name__}; text, numbers and truth "
            "values can be described. Leave the column out, or turn it into one of them."
        )
    texts = known.astype(str)
    if texts.nunique() > _TEXT_SHARE * max(len(known), 1) and texts.str.contains(" ").mean() > 0.5:
        yield from _of_words(quoted, name, column, missing)
        return
    for value in known.value_counts().index[:_MOST_VALUES]:
        yield Condition(
            f"{quoted} = {_literal(value)}", name, (column == value).fillna(False).to_numpy(bool)
        )


def _of_numbers(quoted: str, name: str, column: pd.Series, known: pd.Series) -> Iterator[Condition]:
    values = column.to_numpy(np.float64, na_value=np.nan)
    if known.nunique() <= _FEW_NUMBERS:
        for value in sorted(known.unique()):
            yield Condition(f"{quoted} = {_literal(value)}", name, values == float(value))
        return
    for cut in sorted(set(known.quantile(list(_QUANTILES)).tolist())):
        yield Condition(f"{quoted} <= {cut:g}", name, values <= cut)
        yield Condition(f"{quoted} > {cut:g}", name, values > cut)


def _of_words(quoted: str, name: str, column: pd.Series, missing: Flags) -> Iterator[Condition]:
    words = [
        set() if gone else set(str(text).lower().split())
        for text, gone in zip(column, missing, strict=True)
    ]
    counts = pd.Series([word for each in words for word in each]).value_counts()
    for word in counts.index[:_MOST_WORDS]:
        holds = np.array([word in each for each in words])
        yield Condition(
            f"list_contains(string_split(lower({quoted}), ' '), {_literal(word)})", name, holds
        )


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool | np.bool_):
        return "TRUE" if value else "FALSE"
    return f"{value:g}" if isinstance(value, float) else str(value)
