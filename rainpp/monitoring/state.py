"""A monitor's state: opened, found again after a restart, and prepared once tables are known."""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from rainpp.connection import sealed
from rainpp.errors import (
    ArtifactError,
    DataError,
    SettingsError,
)
from rainpp.inference import RegisteredModel
from rainpp.monitoring.alarm import Watch
from rainpp.monitoring.batch import Operation
from rainpp.monitoring.kept import Kept, Position, found_position
from rainpp.monitoring.setup import Keep, selected_names, table_names, understand
from rainpp.monitoring.spec import Spec
from rainpp.monitoring.tables import as_arrow
from rainpp.monitoring.timeline import Timeline
from rainpp.stream.store import Store

# Batches between summaries: opening the file adds up at most so many changes.
_SUMMARY_EVERY = 256
Handler = Callable[[Any, Any], Any]


class State:
    """What a monitor is made of; see `rainpp.monitoring.monitor` for what a user calls."""

    def __init__(
        self,
        spec: Spec,
        registered: RegisteredModel,
        schemas: Mapping[str, pa.Schema] | None,
        store: str | Path,
    ) -> None:
        self.spec = spec
        self._registered = registered
        self._lock = threading.RLock()
        self._path = store
        self._store = Store.open(store, spec.name)
        self._timeline = Timeline(spec.lateness, spec.retention, spec.ahead, spec.idle)
        self._watches: dict[str, Watch] = {}
        self._handlers: list[tuple[str, Handler]] = []
        self._kept: Kept | None = None
        self._names = selected_names(spec.sql, spec.function)
        self._schemas = schemas
        self._at = Position()
        self._stale = self._closed = self._telling = False
        self._untold: deque[Callable[[], Any]] = deque()
        try:
            self._check_about()
            self._restore()
        except BaseException:
            self._store.close()
            raise

    def _restore(self) -> None:
        """Memory as the state file says."""
        self._kept = None
        self._timeline.clear()
        known = self._known_schemas() or self._schemas
        self._at = found_position(self._store, self._timeline)
        if known is not None:
            self._prepare(known)
            self._summarise_in_time()
        stored = self._store.alarms()
        for name, watch in self._watches.items():
            watch.restore(stored.get(name, {"groups": []}))

    def _refresh(self) -> None:
        """Read the state file again after a batch that was interrupted at an unknown place."""
        with self._lock:  # a hook may be the first to ask, in a thread of its own
            self._check_open()
            if self._stale:
                self._store.give_up()
                self._restore()
                self._stale = False

    def _check_open(self) -> None:
        if self._closed:
            raise DataError(
                f"the monitor `{self.spec.name}` is closed; make it again with rainpp.monitor."
            )

    def _check_about(self) -> None:
        stored = self._store.about()
        for name, value in self.spec.about().items():
            if name in stored and stored[name] != value:
                raise SettingsError(
                    f"`{self._path}` holds the state of `{self.spec.name}` with {name} = "
                    f"{stored[name]!r}; asked is {value!r}. Use the same, another name, or a new "
                    "file."
                )

    def _known_schemas(self) -> dict[str, pa.Schema] | None:
        stored = self._store.about().get("schemas")
        if stored is None:
            return None
        return {
            name: pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
            for name, text in json.loads(stored).items()
        }

    def _prepare_from(self, operations: Sequence[Operation]) -> None:
        """Learn the schema from the first rows."""
        for operation in operations:
            if operation.doing == "predictions":
                rows = as_arrow(operation.what, "predictions")
                (name,) = table_names(self.spec.sql, self.spec.function)
                self._prepare({name: rows.schema})
                return
        if operations:
            raise DataError(
                "the monitor has seen no rows yet; send predictions before labels and retractions."
            )

    def _kept_so_far(self) -> Keep:
        """What of a row stays: what was chosen once is not chosen anew for another index."""
        asked, stored = self.spec.keep, self._store.about().get("keep")
        if stored is None or asked == stored:
            return asked
        if asked != "auto":
            raise SettingsError(
                f"`keep` is {asked!r}, but `{self._path}` holds rows of `{self.spec.name}` with "
                f"keep={stored!r}. Use the same, another name, or a new file."
            )
        return cast("Keep", stored)

    def _prepare(self, schemas: Mapping[str, pa.Schema]) -> None:
        spec = self.spec
        setup = understand(
            spec.sql,
            self._registered,
            schemas,
            spec.columns,
            window=spec.window,
            keep=self._kept_so_far(),
            also=spec.also,
            con=sealed(),
        )
        kept = Kept(spec, setup, self._timeline, self._store)
        if "sql" not in self._store.about():
            written = {
                name: base64.b64encode(schema.serialize().to_pybytes()).decode()
                for name, schema in schemas.items()
            }
            about = {**spec.about(), "schemas": json.dumps(written), "keep": setup.keep}
            sides = range(len(setup.tables))
            self._store.describe(about, [kept.intake.stored_schema(side) for side in sides])
        kept.restore(self._at)
        self._names, self._kept = kept.names, kept

    def _ready(self) -> Kept:
        self._refresh()
        if self._kept is None:
            raise DataError(
                f"the monitor `{self.spec.name}` has seen no rows yet; send a batch, or give "
                "schema= when it is made."
            )
        return self._kept

    def _summarise_in_time(self) -> None:
        """Write a summary once enough batches have come, in this process or in earlier ones."""
        # The batches are written; what cannot be done now, the next batch tries again.
        with suppress(ArtifactError):
            if self._kept is not None and self._at.unsummarised >= _SUMMARY_EVERY:
                self._kept.summarise(self._at)
            elif self._store.should_fold:
                self._store.fold()
