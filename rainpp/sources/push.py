"""Rows pushed over HTTP: `POST /push/{source}`, with a token, all of a request or nothing of it."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rainpp.errors import ArtifactError, RainError, SettingsError, named, one_line
from rainpp.monitoring.batch import Doing, Taken
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.rules import is_name
from rainpp.monitoring.setup import table_names
from rainpp.sources.bodies import Refused, media_type, read_body, rows_in
from rainpp.sources.feeding import least_offsets, say, take
from rainpp.sources.parcel import Chunk, checked_kind

_log = logging.getLogger(__name__)
_KEYS = ("kind", "table", "offset", "monitor")
# Offsets of each source whose contents are remembered, to tell a replay from a mistake.
_REMEMBERED = 4096
_LONGEST_NAME = 200


def push_routes(
    monitors: Sequence[Monitor],
    *,
    token: str,
    source: str | None = None,
    max_bytes: int = 64 * 2**20,
    max_rows: int = 1_000_000,
    timeout: float = 30.0,
) -> list[Route]:
    """Routes of a Starlette application by which rows come in.

    `POST /push/{source}?kind=...&table=...&offset=...&monitor=...` takes an Arrow IPC stream, JSON
    lines or JSON. `offset` is the number of the request at its source: one that was taken is
    answered with `"replayed": true` and does nothing, so a client that got no answer sends the same
    again. Without it a request that is sent twice counts twice, but for rows with ids. The answer
    says what was taken; an answer of 400 and above means that nothing was.

    Parameters
    ----------
    token : what a request must show: `Authorization: Bearer ...`.
    source : the only source there is; any name by default.
    max_bytes, max_rows : of one request.
    timeout : seconds in which a body must have come.

    Raises
    ------
    SettingsError : the token is empty, there is no monitor, or a limit is not positive.
    """
    if not isinstance(token, str) or len(token) < 16 or not token.isascii():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError("`token` must be a text of at least 16 ASCII characters.")
    if not monitors or max_bytes < 1 or max_rows < 1 or not timeout > 0:
        raise SettingsError(
            f"`max_bytes` is {max_bytes!r}, `max_rows` {max_rows!r}, `timeout` {timeout!r} and "
            f"there are {len(monitors)} monitors; all are positive."
        )
    if source is not None and (not is_name(source) or set(source) & set("{}/?#")):
        raise SettingsError(f"`source` is {source!r}; it is part of an address, without {{}}/?#.")
    door = _Door(tuple(monitors), token.encode(), source, max_bytes, max_rows, timeout)
    path = "/push/{source}" if source is None else f"/push/{source}"
    return [Route(path, door.push, methods=["POST"])]


@dataclass(frozen=True)
class _Asked:
    """What a request is about."""

    source: str
    monitors: tuple[Monitor, ...]
    kind: Doing
    table: str | None
    offset: int | None
    media: str


@dataclass(eq=False)
class _Known:
    """Requests of one source: one at a time, and what the last ones held.

    `floor` : up to this offset one that is not in `digests` may have been taken, by an earlier
        process or long ago; a later one was not. None before the first request with an offset.
    """

    floor: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    digests: OrderedDict[int, str] = field(default_factory=OrderedDict[int, str])

    def contradicts(self, offset: int, digest: str) -> str | None:
        """Why a request with an offset that was passed is no replay; None if it may be one."""
        before = self.digests.get(offset)
        if before is not None:
            return None if before == digest else "was sent before with other content"
        if self.floor is not None and offset > self.floor:
            return "was passed over by a later one, and never taken"
        return None

    def note(self, offset: int, digest: str) -> None:
        """Remember what was taken under an offset."""
        self.digests[offset] = digest
        if len(self.digests) > _REMEMBERED:
            gone, _ = self.digests.popitem(last=False)
            self.floor = gone if self.floor is None else max(self.floor, gone)


class _Door:
    """Where requests come in."""

    def __init__(
        self,
        monitors: tuple[Monitor, ...],
        token: bytes,
        source: str | None,
        max_bytes: int,
        max_rows: int,
        timeout: float,
    ) -> None:
        self._monitors = {monitor.spec.name: monitor for monitor in monitors}
        self._token, self._source = token, source
        self._max_bytes, self._max_rows, self._timeout = max_bytes, max_rows, timeout
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    async def push(self, request: Request) -> JSONResponse:
        """One request."""
        try:
            self._admit(request)
            asked = self._asked(request)
            body = await read_body(request, most=self._max_bytes, seconds=self._timeout)
            # Decoding and taking in are work: in a thread, so that others are answered meanwhile.
            return JSONResponse(await run_in_threadpool(self._taken, asked, body))
        except Refused as problem:
            return _answer(problem.status, one_line(problem), **problem.more)
        except ArtifactError as problem:
            _log.error("%s", problem)
            return _answer(503, one_line(problem))
        except RainError as problem:
            return _answer(400, one_line(problem))
        except Exception as problem:  # noqa: BLE001 - the model is the user's code
            _log.exception("a request of %s failed", request.url.path)
            return _answer(500, f"{named(problem)}. Nothing of it was taken.")

    def _admit(self, request: Request) -> None:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(shown.strip().encode(), self._token)
        if scheme.lower() != "bearer" or not right:
            raise Refused(401, "show the token: `Authorization: Bearer ...`.")

    def _asked(self, request: Request) -> _Asked:
        source, query = request.path_params.get("source", self._source), request.query_params
        unknown = [name for name in query if name not in _KEYS]
        if unknown:
            raise Refused(400, f"`{unknown[0]}` is no parameter; there are {', '.join(_KEYS)}.")
        twice = [name for name in _KEYS if name != "monitor" and len(query.getlist(name)) > 1]
        if twice:
            raise Refused(400, f"`{twice[0]}` is given twice; say one.")
        if not is_name(source) or len(source) > _LONGEST_NAME:
            raise Refused(404, f"a source has a name of at most {_LONGEST_NAME} characters.")
        wanted = query.getlist("monitor") or list(self._monitors)
        for name in wanted:
            if name not in self._monitors:
                listed = ", ".join(self._monitors)
                raise Refused(404, f"there is no monitor {name!r}; there are {listed}.")
        monitors = tuple(self._monitors[name] for name in dict.fromkeys(wanted))
        table, kind = _table(query, monitors), checked_kind(query.get("kind", "predictions"))
        return _Asked(source, monitors, kind, table, _offset(query), media_type(request))

    def _taken(self, asked: _Asked, body: bytes) -> dict[str, Any]:
        """What is answered to a request whose body has come.

        Raises
        ------
        RainError : nothing of it was taken.
        """
        with self._lock:
            known = self._known.setdefault(asked.source, _Known())
        digest = hashlib.sha256(f"{asked.kind}\0{asked.table}\0".encode() + body).hexdigest()
        with known.lock:
            if asked.offset is not None:
                self._check_offset(asked, known, digest)
            behind = [m for m in asked.monitors if not _has(m, asked)]
            rows = self._rows(asked, body) if behind else pa.table({})
            chunk = _chunk(asked, rows)
            for monitor in behind if len(behind) > 1 else ():
                _rehearse(monitor, asked, chunk)
            found = {
                monitor.spec.name: take(monitor, asked.source, [chunk], asked.offset)
                for monitor in asked.monitors
            }
            if asked.offset is not None and behind:
                known.note(asked.offset, digest)
        return _report(asked, rows, found)

    def _check_offset(self, asked: _Asked, known: _Known, digest: str) -> None:
        assert asked.offset is not None
        if known.floor is None:
            taken = (monitor.offsets.get(asked.source) for monitor in self._monitors.values())
            known.floor = max((at for at in taken if at is not None), default=-1)
        why = known.contradicts(asked.offset, digest)
        taken = least_offsets(asked.monitors).get(asked.source)
        if why is not None and (taken is not None and asked.offset <= taken):
            raise Refused(
                409,
                f"offset {asked.offset} of `{asked.source}` {why}; go on after {taken}.",
                taken=taken,
            )

    def _rows(self, asked: _Asked, body: bytes) -> pa.Table:
        times = {m.spec.columns.time for m in asked.monitors} - {None}
        return rows_in(
            body,
            asked.media,
            asked.kind,
            times={name for name in times if name is not None},
            most=self._max_bytes,
            most_rows=self._max_rows,
        )


def _table(query: Mapping[str, str], monitors: Sequence[Monitor]) -> str | None:
    """The table the rows are for, which every monitor reads."""
    asked = query.get("table")
    for monitor in monitors:
        tables = table_names(monitor.spec.sql, monitor.spec.function)
        name, listed = monitor.spec.name, ", ".join(tables)
        if asked is None and len(tables) > 1:
            raise Refused(404, f"the query of `{name}` reads {listed}; say which: `table=...`.")
        if asked is not None and asked.lower() not in {table.lower() for table in tables}:
            raise Refused(404, f"the query of `{name}` reads {listed}, and no table {asked!r}.")
    return asked


def _offset(query: Mapping[str, str]) -> int | None:
    text = query.get("offset")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise Refused(400, f"`offset` is {text[:40]!r}; it is a whole number below 10**18.")
    return int(text)


def _has(monitor: Monitor, asked: _Asked) -> bool:
    seen = monitor.offsets.get(asked.source)
    return asked.offset is not None and seen is not None and asked.offset <= seen


def _chunk(asked: _Asked, rows: pa.Table) -> Chunk:
    return Chunk(asked.kind, rows, np.zeros(rows.num_rows, np.int64), asked.table)


class _Enough(RainError):
    """Ends a rehearsal."""


class _End(Mapping[str, Any]):
    """A table that ends the batch it is part of, when all before it has been gone through."""

    def __getitem__(self, name: str) -> Any:
        raise _Enough

    def __iter__(self) -> Iterator[str]:
        raise _Enough

    def __len__(self) -> int:
        raise _Enough

    def items(self) -> Any:
        """What a monitor reads a table by."""
        raise _Enough


class _EndIds(Sequence[int]):
    """Ids that do so."""

    def __getitem__(self, place: Any) -> Any:
        raise _Enough

    def __len__(self) -> int:
        raise _Enough

    def __iter__(self) -> Iterator[int]:
        raise _Enough


def _rehearse(monitor: Monitor, asked: _Asked, chunk: Chunk) -> None:
    """Go through a batch without taking it in.

    Monitors write one by one: one that refuses what another has taken would leave half of the
    request behind. So where there are several, each goes through it first, in a batch whose last
    operation fails, and a batch that fails is taken back.

    Raises
    ------
    RainError : the monitor refuses the rows.
    """
    try:
        with monitor.batch(asked.source, asked.offset) as batch:
            say(batch, chunk, monitor)
            # Of the same kind: predictions would show a monitor without rows a table to begin with.
            if asked.kind == "retract":
                batch.retract(_EndIds(), table=asked.table)
            elif asked.kind == "feedback":
                batch.feedback(_End(), table=asked.table)
            else:
                batch.predictions(_End(), table=asked.table)
    except _Enough:
        return


def _report(asked: _Asked, rows: pa.Table, found: Mapping[str, Taken]) -> dict[str, Any]:
    names = ("rows", "labels", "retracted", "repeated", "late", "replayed")
    return {
        "source": asked.source,
        "offset": asked.offset,
        "rows": rows.num_rows,
        "replayed": all(taken.replayed for taken in found.values()),
        "monitors": {
            monitor: {name: getattr(taken, name) for name in names}
            for monitor, taken in found.items()
        },
    }


def _answer(status: int, text: str, **more: Any) -> JSONResponse:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}.get(status)
    # What is left of a body is not read: the connection ends with the answer.
    ended = {"Connection": "close"} if status in (408, 413) else {}
    return JSONResponse({"error": text, **more}, status, {**(headers or {}), **ended})
