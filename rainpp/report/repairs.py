"""A page about the repairs of a complaint, made from what the library gives anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rainpp.backing import RetrainableBacking
from rainpp.bound_complaint import BoundComplaint
from rainpp.complaint import Cell
from rainpp.errors import RainError, SettingsError, ShapeError
from rainpp.fix import Fix, needed_improvement
from rainpp.intervention import Intervention
from rainpp.ranking import Ranking
from rainpp.repair import RepairLoop
from rainpp.report import collect
from rainpp.report.families import Families, families_of
from rainpp.report.page import write_report
from rainpp.report.plots import rounds_chart
from rainpp.report.predicates import Predicates, predicates_of
from rainpp.report.repaired import input_names, with_repairs_shown
from rainpp.report.repairwords import aim_of, by_kind, promise, proven, titled
from rainpp.report.rounds import rounds_of
from rainpp.report.story import AnswerRow, Example, Finding, Story
from rainpp.report.styles import standalone
from rainpp.report.writing import check_place, write_text
from rainpp.trust import Verdict
from rainpp.verification import Verification

# Rows of an answer, and columns of a training row, that a page has room for.
_MOST_ROWS, _MOST_COLUMNS = 40, 6


@dataclass(frozen=True, eq=False)
class Repairs:
    """What a page about repairs is made from; only the ranking is needed.

    Attributes
    ----------
    ranking : of complaints on a database.
    rows : the training rows as people know them, in the order of the index: what `ranking.explain`
        reads, and columns to show.
    images : pixels (n, H, W) or (n, H, W, 3) of the training rows, in the same order.
    fix, verification, loop : what `ranking.fix`, `rainpp.verify` and `rainpp.repair_loop` gave for
        this ranking.
    families : so many of the best rows of each kind of change are compared; as many as the fix
        has, or 100, by default. It takes a few passes over the training rows a kind; 0 leaves the
        comparison out.
    count : training rows shown.
    title : of the page; what the complaint says by default.

    Raises
    ------
    RainError : the ranking has no database behind it.
    SettingsError : an argument is something else, or belongs to another ranking.
    ShapeError : `rows` or `images` has another number of rows than the index.
    """

    ranking: Ranking
    _: KW_ONLY
    rows: pd.DataFrame | None = None
    images: np.ndarray | None = None
    fix: Fix | None = None
    verification: Verification | None = None
    loop: RepairLoop | None = None
    families: int | None = None
    count: int = 12
    title: str = ""

    def __post_init__(self) -> None:
        _check_kinds(self)
        _check_numbers(self)
        _check_same_complaints(self)
        if self.images is not None:
            _check_images(self.images)
        num_rows = self.ranking.interventions.num_rows
        for name, values in (("rows", self.rows), ("images", self.images)):
            if values is not None and len(values) != num_rows:
                raise ShapeError(
                    f"`{name}` has {len(values)} rows; the index has {num_rows} training rows, in "
                    "this order."
                )

    def write(self, path: str | Path) -> Path:
        """Write the page to `path` as one HTML file without scripts or links; returns the path.

        Raises
        ------
        DataError : the folder is missing or cannot be written to.
        RainError : the model, the training rows or the function behind a repair are needed and not
            at hand.
        """
        target = check_place(path)
        return write_report(target, self.story())

    def story(self) -> Story:
        """What the page shows."""
        families, predicates = self._families(), self._predicates()
        answer, column, group = self._answer()
        backing = self._backing
        return Story(
            title=self.title or titled(self.ranking),
            lead=self._lead(families),
            findings=self._findings(answer),
            query="\n\n".join(
                dict.fromkeys(each.query.strip() for each in self.ranking.complaints)
            ),
            complaints=tuple(str(each) for each in self.ranking.complaints),
            column=column,
            group=group,
            answer=answer,
            families=families,
            predicates=predicates,
            fix=self._chosen_how(),
            examples=self._examples(predicates),
            num_applied=len(self._chosen or ()),
            rounds=rounds_of(self.loop, self._name) if self.loop is not None else None,
            spectrum=collect.spectrum(backing.index),
            trust=self._opinion(),
            coverage=self.ranking.coverage,
            facts={
                "training rows": backing.index.num_train,
                "kinds of change": ", ".join(self.ranking.interventions.kinds),
                "parameters": backing.model.num_params,
                "eigenpairs kept": backing.index.k,
            },
        )

    @property
    def _backing(self) -> RetrainableBacking:
        backing = self.ranking.backing
        assert isinstance(backing, RetrainableBacking)  # checked when this was made
        return backing

    @property
    def _bound(self) -> tuple[BoundComplaint, ...]:
        return self._backing.complaints

    @property
    def _proof(self) -> collect.Proof | None:
        """The last word: what training again gave, else what the fix promises."""
        return self.loop or self.verification or self.fix

    @property
    def _name(self) -> str:
        """Of what the first complaint is about."""
        return collect.name_of(self.ranking.complaints[0].about)

    @property
    def _aim(self) -> str:
        return aim_of(self.ranking.complaints, self._name)

    @property
    def _needed(self) -> float | None:
        """How much of an improvement is asked for, where that is known."""
        if self.fix is not None:
            return self.fix.needed
        if self.loop is not None:
            return abs(self.loop.target - self.loop.before)
        try:
            return needed_improvement(self.ranking, None)
        except SettingsError:
            return None

    @property
    def _chosen(self) -> Sequence[Intervention] | None:
        """What is to be done or was done to the rows; None for the top of the ranking."""
        if self.fix is not None:
            return self.fix.interventions
        if self.loop is not None:
            return _of_first_round(self.ranking, self.loop)
        return None if self.verification is None else self.verification.applied

    def _families(self) -> Families | None:
        count = self.families
        if count is None:
            count = len(self.fix.interventions) if self.fix is not None else 100
        if not count:
            return None
        return families_of(self.ranking, count, aim=self._aim, needed=self._needed)

    def _predicates(self) -> Predicates | None:
        if self.rows is None:
            return None
        top = len(self._chosen or ()) or min(200, self.ranking.interventions.num_rows)
        return predicates_of(self.ranking, self.rows, top)

    def _answer(self) -> tuple[tuple[AnswerRow, ...], str, str]:
        """Rows of the answer, and the names of their column and their group."""
        bound, first = self._bound, self._bound[0]
        cells = [each.about for each in bound if isinstance(each.about, Cell)]
        columns = {cell.column for cell in cells}
        together = {each.result.setting for each in bound} == {first.result.setting}
        if len(cells) < len(bound) or len(columns) > 1 or not together:
            return collect.quantity_rows(bound, self._proof), "value", "complaint"
        rows = collect.answer_rows(first.result, bound, self._proof, most=_MOST_ROWS)
        return rows, cells[0].column, ", ".join(map(str, cells[0].key)) or "group"

    def _examples(self, predicates: Predicates | None) -> tuple[Example, ...]:
        items = list(self._chosen or self.ranking.best(self.count))[: self.count]
        found = collect.examples(
            self.ranking, self._bound, count=self.count, images=self.images, chosen=items
        )
        index = self._backing.index
        inputs = index.training.inputs if index.training is not None else ()
        shown = with_repairs_shown(found, items, index, input_names(self.rows, inputs))
        if self.rows is None or self.images is not None:
            return shown
        return collect.with_columns(shown, items, _room_for(self.rows, predicates))

    def _chosen_how(self) -> str:
        if self.fix is not None:
            return f"{promise(self.fix, self._aim)} {by_kind(self.fix.interventions)}"
        if self.loop is not None:
            first = self.loop.rounds[0].changed
            return f"The first round of the loop changed {first:,} rows. {by_kind(self._chosen)}"
        if self.verification is not None:
            return (
                f"The first {len(self.verification.applied):,} of the ranking were applied before "
                f"the model was trained again. {by_kind(self._chosen)}"
            )
        return "The top of the ranking. Nothing was changed yet."

    def _lead(self, families: Families | None) -> str:
        """The last that is known."""
        if self.loop is not None:
            return rounds_of(self.loop, self._name).verdict
        if self.verification is not None:
            return proven(self.verification, self._name)
        if self.fix is not None:
            return promise(self.fix, self._aim)
        return "" if families is None else families.verdict

    def _findings(self, answer: tuple[AnswerRow, ...]) -> tuple[Finding, ...]:
        found = [
            Finding(collect.name_of(each.about), row.before if row.after is None else row.after,
                    None if row.after is None else row.before, str(each.want))
            for each, row in zip(self._bound, [r for r in answer if r.complained], strict=False)
        ]  # fmt: skip
        changed = self._changed
        return (*found, Finding("rows changed", changed)) if changed else tuple(found)

    @property
    def _changed(self) -> int:
        return self.loop.touched if self.loop is not None else len(self._chosen or ())

    def _opinion(self) -> str:
        """What the labels say about the complaint, where they say anything."""
        if self.ranking.interventions.repairs:
            return ""  # it is an opinion about labels, and would clear inputs it has not looked at
        trust = self.ranking.trust
        return "" if trust.verdict is Verdict.UNKNOWN else trust.sentence


def write_rounds(path: str | Path, loop: RepairLoop) -> Path:
    """Write the rounds of a loop as an SVG file that follows light and dark; returns the path.

    The number after each round, what was promised, where it was to go, and the rows changed so far;
    `loop.frame()` has the same as a table.

    Raises
    ------
    SettingsError : `loop` is no RepairLoop.
    DataError : the folder is missing or cannot be written to.
    """
    if not isinstance(loop, RepairLoop):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`loop` is a {type(loop).__name__}; give a RepairLoop.")
    target = check_place(path)
    rounds = rounds_of(loop, collect.name_of(loop.complaint.about))
    return write_text(target, standalone(rounds_chart(rounds)))


def _of_first_round(ranking: Ranking, loop: RepairLoop) -> list[Intervention]:
    """Later rounds are of other rankings."""
    table, classes = ranking.interventions, list(loop.patch.classes)
    place = {train_id: row for row, train_id in enumerate(table.ids.tolist())}
    found: list[Intervention] = []
    for item in loop.patch.frame.head(loop.rounds[0].changed).to_dict(orient="records"):
        kind, new = str(item["intervention"]), str(item["new"])
        detail = {"delete": None, "replace": new}.get(kind, new)
        detail = classes.index(new) if kind == "relabel" else detail
        found.append(Intervention(place[item["id"]], item["id"], kind, detail))
    return found


def _room_for(rows: pd.DataFrame, predicates: Predicates | None) -> pd.DataFrame:
    """The columns that are shown: those the predicates speak about come first."""
    said = " ".join(each.sql for each in predicates.found) if predicates is not None else ""
    order = sorted(rows.columns, key=lambda name: str(name) not in said)
    return rows.loc[:, order[:_MOST_COLUMNS]]


def _check_kinds(made: Repairs) -> None:
    kinds: dict[str, Any] = {
        "ranking": Ranking,
        "rows": pd.DataFrame,
        "images": np.ndarray,
        "fix": Fix,
        "verification": Verification,
        "loop": RepairLoop,
        "title": str,
    }
    for name, kind in kinds.items():
        value: Any = getattr(made, name)
        if not isinstance(value, kind) and not (value is None and name not in ("ranking", "title")):
            raise SettingsError(f"`{name}` is a {type(value).__name__}; give a {kind.__name__}.")
    if not isinstance(made.ranking.backing, RetrainableBacking):
        raise RainError("a page about repairs needs a ranking made from complaints on a database.")


def _check_images(images: np.ndarray) -> None:
    if images.ndim not in (3, 4) or not images.size or images.shape[3:] not in ((), (3,)):
        raise ShapeError(
            f"`images` has shape {images.shape}; pixels (n, H, W) or (n, H, W, 3) are drawn."
        )
    if images.dtype.kind not in "biuf":
        raise ShapeError(f"`images` has type {images.dtype}; numbers are drawn.")


def _check_numbers(made: Repairs) -> None:
    families = 0 if made.families is None else made.families
    for name, value, least in (("families", families, 0), ("count", made.count, 1)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not whole or value < least:
            raise SettingsError(
                f"`{name}` is {value!r}; it must be a whole number of at least {least}."
            )


def _check_same_complaints(made: Repairs) -> None:
    asked = made.ranking.complaints
    about = {
        "fix": made.fix and tuple(each.complaint for each in made.fix.backing.complaints),
        "verification": made.verification
        and tuple(each.complaint for each in made.verification.outcomes),
        "loop": made.loop and (made.loop.complaint,),
    }
    for name, found in about.items():
        if found is not None and found != asked:
            raise SettingsError(
                f"`{name}` is about other complaints than `ranking`: {'; '.join(map(str, found))}."
            )
