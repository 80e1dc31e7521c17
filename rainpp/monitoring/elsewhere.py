"""Monitors whose rows are counted elsewhere: what those who count are told, and what comes back.

The rows stay where they are. What comes back are additive records, so a monitor that is fed this
way needs `keep="nothing"`, one table, and windows that do not depend on which rows there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from rainpp.errors import (
    ArtifactError,
    DataError,
    SettingsError,
    UnsupportedQueryError,
    one_line,
)
from rainpp.inference import RegisteredModel
from rainpp.monitoring.batch import Batch, Taken
from rainpp.monitoring.counted import Counted, Limits, Request, together
from rainpp.monitoring.intake import Pending
from rainpp.monitoring.kept import Kept
from rainpp.monitoring.setup import table_names
from rainpp.monitoring.state import State
from rainpp.monitoring.tables import plain_schema
from rainpp.monitoring.taking import Taking
from rainpp.stream.contributions import nothing


class Elsewhere(Taking):
    """A state that also takes rows that were counted elsewhere."""

    def counting_request(self, schema: pa.Schema) -> Request:
        """What whoever counts rows for this monitor must know.

        Parameters
        ----------
        schema : of the table, if the monitor knows none yet.

        Raises
        ------
        SettingsError, UnsupportedQueryError : the monitor needs the rows themselves.
        """
        with self._lock:
            self._refresh()
            names = self._check_options()
            if self._kept is None:
                with self._store.together():
                    self._prepare({names[0]: plain_schema(schema)})
            kept = self._ready()
            self._check_query(kept)
            (table,) = kept.setup.tables
            meaning = [] if self.spec.columns.time is None else [self.spec.columns.time]
            return Request(
                self.spec,
                table.name,
                table.schema.schema.serialize().to_pybytes(),
                tuple(dict.fromkeys([*meaning, *table.read, *table.arguments])),
                self._registered.classes,
                kept.fingerprint,
            )

    def _check_options(self) -> list[str]:
        spec = self.spec
        names = table_names(spec.sql, spec.function)
        if len(names) != 1:
            raise SettingsError(
                f"the query reads {', '.join(names)}; rows can be counted elsewhere for queries of "
                "one table. Send both tables with monitor.batch()."
            )
        for what, name in (("id", spec.columns.id), ("label", spec.columns.label)):
            if name is not None:
                raise SettingsError(
                    f"`{what}` is {name!r}, but rows that are counted elsewhere are not kept, so "
                    "none can be found again by its id, to be labelled or taken back. Make the "
                    f"monitor without `{what}`."
                )
        if spec.drift is not None:
            raise SettingsError(
                "`reference` is given, but rows that are counted elsewhere are not seen, so they "
                "cannot be compared with it. Make the monitor without `reference`."
            )
        if not spec.window.fixed:
            raise SettingsError(
                f"`window` is {spec.window}: where it begins and ends depends on all rows there "
                "are, which no part of them tells. Use Tumbling, Sliding or Everything windows."
            )
        return names

    def _check_query(self, kept: Kept) -> None:
        if kept.setup.query is None:
            raise UnsupportedQueryError(
                self.spec.sql.strip(),
                why=f"it is recomputed from the rows of a window ({kept.setup.reason}), which are "
                "not kept when they are counted elsewhere",
                instead="Send the rows with monitor.batch()",
            )
        if kept.setup.keep != "nothing":
            raise SettingsError(
                f"`keep` is {kept.setup.keep!r}, but nothing of a row that is counted elsewhere "
                "comes here. Make the monitor with keep='nothing'."
            )

    def counting_limits(self, source: str, stream: str, upto: int) -> Limits | None:
        """How far time has come before a batch; None if the batch was taken already.

        Parameters
        ----------
        stream : what tells this stream from another one of the same source.
        upto : the number of the batch; a stream counts from 0.

        Raises
        ------
        ArtifactError : the batch is not the next one of this stream.
        """
        with self._lock:
            self._ready()
            if self._is_taken(source, stream, upto):
                return None
            return Limits(self._timeline.watermark, self._timeline.clock())

    def take_counted(
        self, parts: Sequence[Counted], *, source: str, stream: str, upto: int, fingerprint: str
    ) -> Taken | None:
        """Add what was counted, as one batch; None if time went on and it must be counted again.

        Another source may have moved the watermark meanwhile: rows that are too old by now must not
        open windows again that have been forgotten.

        Raises
        ------
        ArtifactError : another model answered, or the batch is not the next one of this stream.
        """
        with self._lock:
            kept = self._ready()
            if kept.fingerprint != fingerprint:
                raise ArtifactError(
                    f"the monitor answers with the model {kept.fingerprint} now, and the rows were "
                    f"counted with {fingerprint}; follow the stream anew."
                )
            horizon = self._timeline.horizon
            times = [part.earliest for part in parts if part.earliest is not None]
            if horizon is not None and times and min(times) < horizon:
                return None
            self._is_taken(source, stream, upto)  # raises where another stream came first
            batch = Batch(lambda batch: self._take(batch, _called(source, stream), upto))
            with batch:
                for part in parts:
                    batch.counted(part)
            return batch.taken

    def _is_taken(self, source: str, stream: str, upto: int) -> bool:
        offsets, mine = self._at.offsets, _called(source, stream)
        others = [name for name in offsets if name.startswith(_called(source, "")[:-1])]
        if mine not in offsets and others:
            raise ArtifactError(
                f"`{self._path}` has counted batches up to {offsets[others[0]]} of the source "
                f"{source!r} from another stream. A new checkpoint would count rows twice, or not "
                "at all: use the old one, or another `source`, or begin with a new state file too."
            )
        seen = offsets.get(mine, -1)
        if upto > seen + 1:
            said = "none" if seen < 0 else f"those up to {seen}"
            raise ArtifactError(
                f"batch {upto} of the source {source!r} comes next, but of those before "
                f"`{self._path}` holds {said}: the checkpoint is further than the state. Use the "
                "state file that belongs to it, or begin both anew."
            )
        return upto <= seen


def _called(source: str, stream: str) -> str:
    """A stream among the sources: its name is written down with its offset, in one transaction."""
    return f"{source} [{stream}]"


class Counter(State):
    """Counts rows for a monitor that is elsewhere: its own code, on a state that is thrown away."""

    @staticmethod
    def of(request: Request, model: RegisteredModel) -> Counter:
        """Whatever answers here must be what the monitor answers with.

        Raises
        ------
        ArtifactError : it is another model, or another index of the same.
        """
        schema = pa.ipc.read_schema(pa.py_buffer(request.schema))
        counter = Counter(request.spec, model, {request.table: schema}, ":memory:")
        found = counter._ready().fingerprint
        if found != request.fingerprint:
            raise ArtifactError(
                f"the model and index here are {found}, and the monitor answers with "
                f"{request.fingerprint}: load the same weights, in the same precision, and the "
                "same index."
            )
        return counter

    def count(self, rows: pa.Table, limits: Limits) -> Counted:
        """Sums of some rows.

        Raises
        ------
        DataError, ModelError : as where a batch ends.
        """
        kept, pending = self._ready(), Pending()
        self._timeline.mark, self._timeline.clock = limits.mark, lambda: limits.now
        try:
            kept.intake.predictions(pending, 0, rows)
        except (duckdb.Error, pa.ArrowException, OverflowError) as problem:
            raise DataError(
                f"the batch cannot be used: {one_line(problem)}. Nothing of it was taken."
            ) from None
        finally:
            pending.undo.clear()  # whoever counts keeps nothing
        changes = pending.changes.get(0) or [nothing(kept.setup.sides[0].layout)]
        earliest = min((int(times.min()) for times in pending.times if len(times)), default=None)
        return Counted(pending.counted, changes[0], earliest, pending.latest, pending.late)

    def together(self, parts: Sequence[Counted]) -> Counted:
        """What some rows and others add."""
        return together(parts, self._ready().setup.sides[0].layout.width)
