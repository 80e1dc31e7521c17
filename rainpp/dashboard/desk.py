"""Complaints made on the page: each is ranked by the library, and kept for what is asked next."""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rainpp.dashboard.feed import Feed
from rainpp.dashboard.pictures import Gallery, Shape
from rainpp.dashboard.shown import number, words
from rainpp.errors import ComplaintError
from rainpp.fix import Fix
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.context import Reaction, kind_places
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.together import Together, together
from rainpp.patch import Patch, patch_of
from rainpp.ranking import Ranking

# Rankings hold two numbers for every intervention.
_KEPT = 16
_TOP, _MOST_CELLS, _MOST_ROWS = 30, 500, 10_000
# Windows whose query is run again for the coverage.
_RUN_AGAIN = 12
_FORMS = ("parquet", "csv", "json")


@dataclass(eq=False)
class Case:
    """One complaint and its ranking."""

    monitor: str
    together: Together
    ranking: Ranking
    lock: threading.Lock = field(default_factory=threading.Lock)
    whole: Ranking | None = None
    fix: Fix | None = None
    most: int = 0  # rows of the largest suggestion

    def patch(self, kind: str, rows: int) -> Patch:
        """The best `rows` changes: of one kind, as `suggest` counts them, of all, or of the fix.

        Raises
        ------
        ComplaintError : there are no such changes, or the training rows are not at hand.
        """
        if kind == "all":
            return self.together.patch(self.ranking, rows)
        if kind == "fix" and self.fix is not None:
            if rows != len(self.fix.patch):
                raise ComplaintError(
                    f"`rows` is {rows}, but the fix has {len(self.fix.patch)}; choose 'all' for "
                    "another number."
                )
            return self.fix.patch
        known = self.ranking.interventions.kinds
        if kind not in known:
            raise ComplaintError(
                f"`kind` is {words(kind)!r}; it must be one of {', '.join(['all', *known])}, or "
                "'fix' once one was asked for."
            )
        training = self.together.training("a patch says what is changed from what")
        return patch_of(self.ranking, training, kind_places(self.ranking, kind, rows))

    def proven(self) -> Ranking:
        """The ranking with the query run again behind it, made once.

        Raises
        ------
        RainError : the inputs of the rows are not kept.
        """
        if len(self.together.contexts) > _RUN_AGAIN:
            raise ComplaintError(
                f"the query would be run again for {len(self.together.contexts)} numbers; choose "
                f"at most {_RUN_AGAIN}."
            )
        with self.lock:
            if self.whole is None:
                self.whole = self.together.rank()
            return self.whole


class Desk:
    """Takes complaints; every method waits, so it is called in a thread."""

    def __init__(self, feed: Feed, shapes: Mapping[str, Shape]) -> None:
        self._feed, self._shapes = feed, shapes
        self._cases: OrderedDict[str, Case] = OrderedDict()
        self._galleries: dict[str, tuple[object, Gallery]] = {}
        self._lock = threading.Lock()

    def complain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Rank a complaint: {"monitor", "seqs", "wanted"}; seqs are of changes, or of one alarm.

        Raises
        ------
        ComplaintError : a part of it is missing or wrong.
        RainError : what `together` and `Context.explain` raise.
        """
        monitor = self._monitor(asked.get("monitor"))
        found = [self._said(monitor, seq) for seq in _read_seqs(asked.get("seqs"))]
        wanted = _read_wanted(asked.get("wanted"))
        case = Case(
            monitor.spec.name,
            both := together([monitor.context(f) for f in found], wanted),
            both.explain(),
        )
        name = secrets.token_hex(8)
        with self._lock:
            self._cases[name] = case
            while len(self._cases) > _KEPT:
                self._cases.popitem(last=False)
        return {"id": name, **self._described(case, len(found) - len(both.contexts))}

    def coverage(self, name: str) -> dict[str, Any]:
        """The share of the complaint's gradient that the index captures.

        And the least cosine between its numbers: below 0 what helps one harms another.

        Raises
        ------
        RainError : as `Case.proven`; there is no such complaint.
        """
        proven = self._case(name).proven()
        cosines = None if proven.cosines is None else float(proven.cosines.to_numpy().min())
        return {"coverage": number(proven.coverage), "cosine": cosines}

    def fix(self, name: str) -> dict[str, Any]:
        """The smallest prefix of the ranking that is predicted to do, by Newton steps: seconds.

        Raises
        ------
        RainError : as `Ranking.fix`.
        """
        case = self._case(name)
        case.together.training("a fix is found by training steps over them")
        case.fix = fix = case.proven().fix()
        kinds = pd.Series([item.kind for item in fix.interventions]).value_counts().to_dict()
        return {
            "rows": len(fix.interventions),
            "kinds": {str(kind): int(count) for kind, count in kinds.items()},
            "needed": number(fix.needed),
            "reached": number(fix.reached),
            "resolves": fix.resolves,
        }

    def rules(self, name: str) -> dict[str, Any]:
        """Short predicates over the training columns that describe the top rows.

        Raises
        ------
        RainError : as `Ranking.explain`.
        """
        case = self._case(name)
        frame = pd.DataFrame(index=range(case.ranking.interventions.num_rows))
        return {"rules": _records(case.ranking.explain(frame))}

    def patch(self, name: str, rows: int, form: str, *, kind: str = "all") -> tuple[bytes, str]:
        """The best `rows` interventions as a file, and what to call it.

        Parameters
        ----------
        kind : of which kind, such as "delete", or "all"; "fix" for those that `fix` found.

        Raises
        ------
        ComplaintError : there is no such complaint, number, kind or form.
        """
        case = self._case(name)
        most = max(_MOST_ROWS, case.most)
        if not 1 <= rows <= most:
            raise ComplaintError(f"`rows` is {rows}; it must be from 1 to {most:,}.")
        if form not in _FORMS:
            raise ComplaintError(f"`form` is {form!r}; it must be one of {', '.join(_FORMS)}.")
        patch = case.patch(kind, rows)
        of = f"-{kind}" if kind.isidentifier() and kind != "all" else ""
        called = f"{case.monitor}{of}-patch.{form}"
        if form == "csv":
            return str(patch.frame.to_csv(index=False)).encode(), called
        if form == "json":
            return str(patch.frame.to_json(orient="records", indent=1)).encode(), called
        with tempfile.TemporaryDirectory() as folder:
            return patch.save(Path(folder) / called).read_bytes(), called

    # Reading what is asked.

    def _monitor(self, name: Any) -> Monitor:
        found = self._feed.monitors.get(name) if isinstance(name, str) else None
        if found is None:
            raise ComplaintError(
                f"there is no monitor {words(name)!r}; known: {', '.join(self._feed.monitors)}."
            )
        return found

    def _said(self, monitor: Monitor, seq: int) -> Delta | Alarm:
        """What a line of the outbox was about, as it is now."""
        found = monitor.changes(after=seq - 1, most=1)
        if not found or found[0].seq != seq:
            raise ComplaintError(
                f"{monitor.spec.name} does not remember its change {seq}; reload the page."
            )
        (what,) = found
        return what if isinstance(what, Alarm) else self._feed.boards[monitor.spec.name].now(what)

    def _case(self, name: str) -> Case:
        with self._lock:
            found = self._cases.get(name)
            if found is None:
                raise ComplaintError("this complaint is not kept any more; complain again.")
            self._cases.move_to_end(name)
        return found

    # Saying what was found.

    def _described(self, case: Case, fine: int) -> dict[str, Any]:
        complaints, ranking = case.together.complaints, case.ranking
        top = _records(ranking.top(_TOP))
        gallery, table = self._gallery(case), ranking.interventions
        names = ranking.classes or tuple(range(table.num_classes))
        whole = table.labels.dtype.kind in "iu"
        suggested = case.together.suggest()
        case.most = max((item.rows for item in suggested), default=0)
        for line, place in zip(top, ranking.positions(_TOP), strict=True):
            (row,) = table.rows(place[None])
            line |= gallery.show(int(row))
            line["label"] = words(names[int(table.labels[row])]) if whole else None
            line["seen"] = int(row)
        return {
            "monitor": case.monitor,
            "column": case.together.contexts[0].about.column,
            "about": [str(item) for item in complaints[:5]],
            "numbers": len(complaints),
            "as_wanted": fine,
            "total": number(sum(item.hard for item in complaints)),
            "interventions": len(ranking),
            "training_rows": table.num_rows,
            "top": top,
            "note": gallery.note,
            "reactions": [_reaction(item) for item in suggested],
            "aimed": all(item.want.target is not None for item in complaints),
            "patch": gallery.training is not None,
        }

    def _gallery(self, case: Case) -> Gallery:
        """How training rows are shown; looked at once for each index."""
        index = case.together.contexts[0].index
        known = self._galleries.get(case.monitor)
        if known is None or known[0] is not index:
            known = index, Gallery.of(index.training, self._shapes.get(case.monitor))
            self._galleries[case.monitor] = known
        return known[1]


def _read_seqs(seqs: Any) -> list[int]:
    if not isinstance(seqs, list) or not 1 <= len(seqs) <= _MOST_CELLS:
        raise ComplaintError(f"`seqs` must be a list of 1 to {_MOST_CELLS} numbers of changes.")
    for seq in seqs:
        if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq < 2**63:
            raise ComplaintError(f"`seqs` holds {words(seq)!r}; it must hold numbers of changes.")
    return list(dict.fromkeys(seqs))


def _read_wanted(wanted: Any) -> float | str | None:
    if wanted is None or wanted in ("lower", "higher"):
        return wanted
    whole = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    # Compared, not asked whether it is finite: an integer of JSON may be larger than any float.
    if not whole or not abs(wanted) <= 1e300:
        raise ComplaintError(
            f"`wanted` is {words(wanted)!r}; it must be a number, 'lower' or 'higher'."
        )
    return float(wanted)


def _reaction(found: Reaction) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "rows": found.rows,
        "effect": number(found.effect),
        "after": number(found.after),
        "resolves": found.resolves,
        "words": str(found),
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    convert: dict[str, Callable[[Any], Any]] = {
        "train_id": words,
        "detail": lambda value: None if value is None else words(value),
    }
    return [
        {str(name): convert.get(str(name), _plain)(value) for name, value in line.items()}
        for line in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return number(value) if isinstance(value, float) else value
