"""All interventions of an index as columns, laid out as the scores are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from rainpp.errors import DataError, SettingsError
from rainpp.intervention.kinds import Delete, Intervention, Kind, Relabel, Replace

KINDS = {kind.name: kind for kind in (Delete, Relabel)}
# What `Intervention.kind` can be.
WORDS = ("delete", "relabel", "replace")


def kind_names(interventions: Sequence[Kind]) -> tuple[str, ...]:
    """Names of the families asked for, in index order: repairs last, as they were given.

    Raises
    ------
    SettingsError : none, one twice, or something that is not an intervention.
    """
    if isinstance(interventions, str | Kind) or not isinstance(interventions, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(
            f"`interventions` is {interventions!r}; give a list, such as [rainpp.Delete()]."
        )
    for item in interventions:
        if not isinstance(item, Kind):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(
                f"`interventions` holds {item!r}; use rainpp.Delete(), rainpp.Relabel() and "
                "rainpp.Replace(name, repair)."
            )
        if isinstance(item, Replace):
            _check_repair(item)
    names = tuple(item.name for item in interventions)
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"`interventions` is {list(names)}; name each kind once, at least one.")
    repairs = tuple(item.name for item in interventions if isinstance(item, Replace))
    return (*(name for name in KINDS if name in names), *repairs)


def _check_repair(item: Replace) -> None:
    name: Any = item.name
    if not isinstance(name, str) or not name.strip() or name in WORDS:
        raise SettingsError(
            f"a repair is called {name!r}; give it a name of its own, none of {', '.join(WORDS)}."
        )
    if not callable(item.repair):
        raise SettingsError(
            f"the repair {name!r} is {item.repair!r}; give a function from inputs to inputs."
        )


@dataclass(frozen=True, eq=False)
class InterventionTable(Sequence[Intervention]):
    """Interventions in index order: n deletions, R − 1 relabels of row 0, of row 1, ..., n repairs.

    There are n more for every further repair. Nothing is stored per intervention: position i says
    which row and which label it is, so a table of 600 000 costs as much as its training labels.
    """

    kinds: tuple[str, ...]
    ids: np.ndarray  # (n,)
    labels: np.ndarray  # (n,) class numbers
    num_classes: int

    @property
    def num_rows(self) -> int:
        """n."""
        return int(self.ids.shape[0])

    @property
    def num_deletions(self) -> int:
        """How many of the first interventions are deletions."""
        return self.num_rows if "delete" in self.kinds else 0

    @property
    def relabels(self) -> slice:
        """Positions of the relabels: R − 1 of each row, one row after the other."""
        count = self.num_rows * (self.num_classes - 1) if "relabel" in self.kinds else 0
        return slice(self.num_deletions, self.num_deletions + count)

    @property
    def repairs(self) -> tuple[str, ...]:
        """Names of the repairs."""
        return tuple(name for name in self.kinds if name not in KINDS)

    def of(self, kind: str) -> slice:
        """Positions of one family: "delete", "relabel", or the name of a repair.

        Raises
        ------
        SettingsError : the index has no such family.
        """
        if kind not in self.kinds:
            raise SettingsError(
                f"there is no intervention {kind!r} in this index; it has {', '.join(self.kinds)}."
            )
        if kind == "delete":
            return slice(0, self.num_deletions)
        if kind == "relabel":
            return self.relabels
        start = self.relabels.stop + self.repairs.index(kind) * self.num_rows
        return slice(start, start + self.num_rows)

    def __len__(self) -> int:
        return self.relabels.stop + len(self.repairs) * self.num_rows

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Training row of each intervention in `positions`."""
        beyond, last = positions - self.num_deletions, positions - self.relabels.stop
        rows = np.where(beyond < 0, positions, beyond // max(self.num_classes - 1, 1))
        return np.where(last < 0, rows, last % max(self.num_rows, 1)) if self.repairs else rows

    def new_labels(self, positions: np.ndarray) -> np.ndarray:
        """Class number each intervention gives its row; -1 where the label goes or stays."""
        if "relabel" not in self.kinds:
            return np.full(positions.shape, -1)
        beyond, last = positions - self.num_deletions, positions - self.relabels.stop
        shift = 1 + beyond % max(self.num_classes - 1, 1)
        labels = (self.labels[self.rows(positions)] + shift) % self.num_classes
        return np.where((beyond < 0) | (last >= 0), -1, labels)

    def repair_numbers(self, positions: np.ndarray) -> np.ndarray:
        """Which of `repairs` each intervention is; -1 for a deletion or a relabel."""
        last = positions - self.relabels.stop
        return np.where(last < 0, -1, last // max(self.num_rows, 1))

    def positions_of(self, items: Sequence[Intervention]) -> np.ndarray:
        """Where each of `items` stands: the inverse of indexing, for all of them at once.

        Raises
        ------
        SettingsError : the index has no such family.
        DataError : a new label is none of the classes, or the one its row has.
        """
        rows = np.array([item.row for item in items], np.intp)
        names = [item.detail if item.kind == "replace" else item.kind for item in items]
        families, of_item = np.unique(np.array(names, str), return_inverse=True)
        starts = np.array([self.of(name).start for name in families.tolist()], np.intp)
        found = starts[of_item] + rows
        again = np.flatnonzero([item.kind == "relabel" for item in items])
        if again.size:
            labels = np.array([item.detail for item in items if item.kind == "relabel"], np.intp)
            shifts = self._shifts(rows[again], labels)
            found[again] = self.relabels.start + rows[again] * (self.num_classes - 1) + shifts - 1
        return found

    def _shifts(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which of the relabels of its row each label is, from 1."""
        shifts = (labels - self.labels[rows]) % self.num_classes
        wrong = np.flatnonzero((shifts == 0) | (labels < 0) | (labels >= self.num_classes))
        if wrong.size:
            row, label = rows[wrong[0]], int(labels[wrong[0]])
            has = "it has already" if shifts[wrong[0]] == 0 else "which is no class of this index"
            raise DataError(f"row {self.ids[row].item()!r} is to get the label {label}, {has}.")
        return shifts

    def best_by_row(self, scores: np.ndarray) -> np.ndarray:
        """The largest of each row's scores over its interventions (n,)."""
        parts = [scores[self.of(kind)].reshape(self.num_rows, -1) for kind in self.kinds]
        return np.max([part.max(axis=1) for part in parts], axis=0)

    @overload
    def __getitem__(self, index: int) -> Intervention: ...

    @overload
    def __getitem__(self, index: slice) -> list[Intervention]: ...

    def __getitem__(self, index: int | slice) -> Intervention | list[Intervention]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"intervention {index} of {len(self)}")
        position = np.array([index % len(self)])
        row, label = int(self.rows(position)[0]), int(self.new_labels(position)[0])
        repair = int(self.repair_numbers(position)[0])
        kind, detail = ("delete", None) if label < 0 else ("relabel", label)
        if repair >= 0:
            kind, detail = "replace", self.repairs[repair]
        return Intervention(row, self.ids[row].item(), kind, detail)

    def __iter__(self) -> Iterator[Intervention]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return (
            f"InterventionTable({len(self):,}: {', '.join(self.kinds)} of {self.num_rows:,} rows)"
        )
