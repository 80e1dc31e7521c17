"""Several numbers of a standing query as one complaint: gradients add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from rainpp.combination import rank_together
from rainpp.complaint import Complaint
from rainpp.errors import ComplaintError
from rainpp.monitoring.context import Context, Reaction, reactions
from rainpp.patch import Patch, patch_of
from rainpp.ranking import Ranking
from rainpp.training_set import TrainingSet

# Each is one more product of k numbers, so this bounds a request, not the arithmetic.
_MOST = 1000


@dataclass(frozen=True, eq=False)
class Together:
    """Cells of one column, in some windows and groups, that are wrong in the same way.

    Make one with `together`. Where a target is given each cell should be that; those that are
    already do not count.

    Attributes
    ----------
    contexts : of the cells that count.
    complaints : one for each.
    """

    contexts: tuple[Context, ...] = field(repr=False)
    complaints: tuple[Complaint, ...]
    wanted: float | str | None

    @cached_property
    def vector(self) -> np.ndarray:
        """The complaint as its owner ranks it: Σ gradient times direction (k,)."""
        parts = [
            complaint.direction * context.gradient
            for context, complaint in zip(self.contexts, self.complaints, strict=True)
        ]
        return np.sum(parts, axis=0)

    def explain(self) -> Ranking:
        """All interventions by what they do to the sum; see `Context.explain`."""
        first = self.contexts[0]
        return first.index.rank(self.vector, complaints=self.complaints, classes=first.classes)

    def suggest(self, *, most: int | None = None) -> list[Reaction]:
        """As `Context.suggest`: effects are of the sum of the numbers.

        Where some should rise and some fall, of their summed distance to the target.
        """
        return reactions(self.explain(), self.complaints, most)

    def rank(self) -> Ranking:
        """The ranking with the query run again behind it: its coverage, fixes, proofs.

        Raises
        ------
        RainError : the inputs of the rows are not kept.
        """
        bound = [context.bound(self.wanted) for context in self.contexts]
        return rank_together(bound, [1.0] * len(bound))

    def patch(self, ranking: Ranking, count: int) -> Patch:
        """The best `count` interventions of a ranking of it, to be reviewed and applied.

        Raises
        ------
        ComplaintError : the training rows are not at hand.
        """
        training = self.training("a patch says what is changed from what")
        return patch_of(ranking, training, ranking.positions(count))

    def training(self, why: str) -> TrainingSet:
        """The training rows; `why` they are needed is said where they are not there.

        Raises
        ------
        ComplaintError : they are not at hand.
        """
        found = self.contexts[0].index.training
        if found is None:
            raise ComplaintError(
                f"the training rows are not at hand, and {why}: the index was loaded from disk. "
                "Make the monitor with data=(inputs, labels), or write [training] in watch.toml."
            )
        return found


def together(contexts: Sequence[Context], wanted: float | str | None = None) -> Together:
    """Numbers that are wrong in the same way, as one complaint.

    Parameters
    ----------
    contexts : of changes or alarms of one monitor; see `Monitor.context`.
    wanted : what each should be, "lower" or "higher"; by default what its alarm says.

    Raises
    ------
    ComplaintError : none, too many, of several columns, monitors or models, or all of them are as
        wanted.
    """
    if not contexts:
        raise ComplaintError("nothing is complained about; choose at least one number.")
    if len(contexts) > _MOST:
        raise ComplaintError(f"{len(contexts)} numbers are too many at once; choose {_MOST:,}.")
    for what in ("monitor", "column", "model"):
        values = dict.fromkeys(str(getattr(context.about, what)) for context in contexts)
        if len(values) > 1:
            raise ComplaintError(
                f"the numbers are of different {what}s ({', '.join(values)}); complain about one "
                "at a time."
            )
    found = [
        (context, context.complain(wanted)) for context in contexts if _counts(context, wanted)
    ]
    if not found:
        raise ComplaintError("every number is as wanted; there is nothing to change.")
    return Together(
        tuple(context for context, _ in found), tuple(item for _, item in found), wanted
    )


def _counts(context: Context, wanted: float | str | None) -> bool:
    """Whether a number is another than it should be; NULL is none."""
    value = context.about.value
    return not np.isnan(value) and (isinstance(wanted, str | None) or value != wanted)
