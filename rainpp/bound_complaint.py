"""Complaints about an answer that is at hand, and cells of it that should stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rainpp.complaint import Cell, Complaint, Quantity, Wish
from rainpp.errors import ComplaintError
from rainpp.ranking import Ranking
from rainpp.traced import Traced

if TYPE_CHECKING:
    from rainpp.handoff import Secret
    from rainpp.result import Result


@dataclass(frozen=True, eq=False)
class BoundComplaint(Traced):
    """A complaint together with the result it is about: it can be ranked."""

    complaint: Complaint
    result: Result = field(repr=False)
    model_name: str | None = None

    @property
    def about(self) -> Quantity:
        """What the complaint is about."""
        return self.complaint.about

    @property
    def cell(self) -> Cell:
        """Where, for a complaint about one cell; a ComplaintError for others."""
        return self.complaint.cell

    @property
    def want(self) -> Wish:
        """What should change."""
        return self.complaint.want

    def through(self, model: str) -> BoundComplaint:
        """The same complaint seen through one of the models the query calls.

        Its ranking is over that model's training rows, the other models staying as they are.
        Effects are in units of the query, so rankings through different models can be compared.

        Raises
        ------
        ComplaintError : the query calls no such model.
        """
        names = sorted({name for name, _ in self.gradient})
        found = [name for name in names if name.lower() == str(model).lower()]
        if not found:
            raise ComplaintError(
                f"{self.about} does not depend on a model {model!r}; it depends on: "
                f"{', '.join(names)}."
            )
        return replace(self, model_name=found[0])

    def vector(self) -> np.ndarray:
        """The complaint as k numbers: all a model's owner needs for `index.rank(vector)`."""
        return self.complaint.direction * self.query_projection()

    def save(self, path: str | Path, *, secret: Secret | None = None, words: bool = True) -> Path:
        """Write the complaint as JSON of k numbers and no row, for the owner of the model.

        `rainpp.read_complaint(path).rank(index)` then ranks it without the database.

        Parameters
        ----------
        secret : what both sides know; signs the file. Without one it only shows damage.
        words : also say what the complaint is. Words name the cell, and so values of its group.

        Raises
        ------
        SettingsError : the secret is empty or no text.
        ArtifactError : the disk refuses.
        """
        # `handoff` knows this class.
        from rainpp.handoff import write_complaint

        return write_complaint(self, path, secret=secret, words=words)

    def rank(self, *, keep: Sequence[KeptCell] = ()) -> Ranking:
        """Rank the training rows' interventions by how much they should help.

        Parameters
        ----------
        keep : what `result.keep(...)` returns; see `Database.rank`.
        """
        # `combination` checks that it is given objects of this class.
        from rainpp.combination import rank_together

        return rank_together([self], keep=keep)

    def __repr__(self) -> str:
        return f"Complaint: {self.complaint}"


@dataclass(frozen=True, eq=False)
class KeptCell(Traced):
    """A cell that a fix should leave as it is: make one with `result.keep`."""

    cell: Cell
    result: Result = field(repr=False)
    model_name: str | None = None

    @property
    def about(self) -> Quantity:
        """The cell."""
        return self.cell

    def __repr__(self) -> str:
        return f"Keep: {self.cell}"
