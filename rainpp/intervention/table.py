"""All interventions of an index as columns, laid out as the scores are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from rainpp.errors import SettingsError
from rainpp.intervention.kinds import Delete, Intervention, Relabel

KINDS = {kind.name: kind for kind in (Delete, Relabel)}


def kind_names(interventions: Sequence[Delete | Relabel]) -> tuple[str, ...]:
    """Names of the families asked for, in index order.

    Raises
    ------
    SettingsError : none, one twice, or something that is not an intervention.
    """
    if isinstance(interventions, str | Delete | Relabel) or not isinstance(interventions, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(
            f"`interventions` is {interventions!r}; give a list, such as [rainpp.Delete()]."
        )
    for item in interventions:
        if not isinstance(item, Delete | Relabel):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(
                f"`interventions` holds {item!r}; use rainpp.Delete() and rainpp.Relabel()."
            )
    names = tuple(item.name for item in interventions)
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"`interventions` is {list(names)}; name each kind once, at least one.")
    return tuple(name for name in KINDS if name in names)


@dataclass(frozen=True, eq=False)
class InterventionTable(Sequence[Intervention]):
    """Interventions in index order: n deletions, then R − 1 relabels of row 0, of row 1, ...

    Nothing is stored per intervention: position i says which row and which label it is, so a table
    of 600 000 costs as much as its training labels.
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

    def __len__(self) -> int:
        relabels = self.num_rows * (self.num_classes - 1) if "relabel" in self.kinds else 0
        return self.num_deletions + relabels

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Training row of each intervention in `positions`."""
        beyond = positions - self.num_deletions
        return np.where(beyond < 0, positions, beyond // max(self.num_classes - 1, 1))

    def new_labels(self, positions: np.ndarray) -> np.ndarray:
        """Class number each intervention gives its row; -1 for a deletion."""
        if "relabel" not in self.kinds:
            return np.full(positions.shape, -1)
        beyond = positions - self.num_deletions
        shift = 1 + beyond % max(self.num_classes - 1, 1)
        labels = (self.labels[self.rows(positions)] + shift) % self.num_classes
        return np.where(beyond < 0, -1, labels)

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
        kind, detail = ("delete", None) if label < 0 else ("relabel", label)
        return Intervention(row, self.ids[row].item(), kind, detail)

    def __iter__(self) -> Iterator[Intervention]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return (
            f"InterventionTable({len(self):,}: {', '.join(self.kinds)} of {self.num_rows:,} rows)"
        )
