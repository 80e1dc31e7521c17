"""What watch.toml describes, made: monitors with alarms and hooks, and sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rainpp.errors import RainError, SettingsError, one_line
from rainpp.index.artifact import load
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.opening import monitor as make_monitor
from rainpp.sources.parcel import Source
from rainpp.watching.config import MonitorConfig, PartConfig, WatchConfig
from rainpp.watching.schemas import read_schema, read_window
from rainpp.watching.trial import try_schema
from rainpp.workspace import load_encode, open_model, read_rows

MakeHook = Callable[[PartConfig], Any]


def open_monitors(config: WatchConfig, *, make_hook: MakeHook | None = None) -> list[Monitor]:
    """The monitors, with their alarms and the hooks these leave by.

    Parameters
    ----------
    make_hook : from a [[hook]] to what `Monitor.on` takes; those of rainpp.hooks by default.

    Raises
    ------
    RainError : something is missing, wrong, or belongs to another model.
    """
    settings = config.settings
    model = open_model(settings)
    index = load(settings.require("index", "path"))
    rows = None if settings.training.path is None else read_rows(settings)
    shared = {
        "model": model,
        "index": index,
        "function": settings.model.name,
        "encode": load_encode(settings),
        "classes": settings.database.classes,
        "data": None if rows is None else (rows.inputs, rows.labels),
    }
    make = open_hook if make_hook is None else make_hook
    hooks = {part.name: make(part) for part in config.hooks}
    options: list[dict[str, Any]] = [{**shared, **_read(item)} for item in config.monitors]
    if not config.state.exists():
        for item, given in zip(config.monitors, options, strict=True):
            try_schema(item.name, given["sql"], {k: v for k, v in given.items() if k != "sql"})
    with ExitStack() as opened:
        found = [
            opened.enter_context(_monitor(item, config, given, hooks))
            for item, given in zip(config.monitors, options, strict=True)
        ]
        opened.pop_all()
    return found


def _read(item: MonitorConfig) -> dict[str, Any]:
    """Options of `rainpp.monitor` that a [[monitor]] gives."""
    options = dict(item.options)
    if "schema" in options:
        options["schema"] = read_schema(options["schema"], f"[[monitor]] {item.name} schema")
    if "window" in options:
        options["window"] = read_window(options["window"])
    if "reference" in options:
        options["reference"] = read_reference(options["reference"])
    return options


def _monitor(
    item: MonitorConfig, config: WatchConfig, options: Mapping[str, Any], hooks: Mapping[str, Any]
) -> Monitor:
    where = f"[[monitor]] {item.name}"
    found = make_monitor(item.name, store=config.state, **options)
    try:
        for alert in item.alerts:
            given = {key: value for key, value in alert.items() if key != "hooks"}
            found.alert(**given)
            for name in alert.get("hooks", ()):
                found.on(alert["name"], hooks[name])
        for name in item.hooks:
            found.on("*", hooks[name])
    except RainError as problem:
        found.close()
        raise SettingsError(f"{where}: {one_line(problem)}") from None
    return found


def read_reference(path: Path) -> dict[str, Any]:
    """Training columns by name, from .npz or .parquet.

    Raises
    ------
    SettingsError : the file cannot be read.
    """
    import numpy as np
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as found:
                return dict(found)
        table = pq.read_table(path)
    except (OSError, ValueError) as problem:  # Arrow's errors are ValueErrors, too
        raise SettingsError(f"cannot read the reference `{path}`: {one_line(problem)}.") from None
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: Any) -> Any:
    import numpy as np

    listed = column.to_pylist()
    return np.array(listed) if listed and isinstance(listed[0], list) else column.to_numpy()


def open_hook(part: PartConfig) -> Any:
    """The hook of rainpp.hooks that a [[hook]] describes.

    Raises
    ------
    SettingsError : an option is wrong.
    """
    from rainpp import hooks

    options = dict(part.options)
    if part.type == "webhook":
        return hooks.Webhook(
            options.pop("url"), secret=options.pop("secret"), name=part.name, **options
        )
    if part.type == "alertmanager":
        return hooks.Alertmanager(options.pop("url"), name=part.name, **options)
    return hooks.File(options.pop("path"), name=part.name, **options)


def open_sources(config: WatchConfig) -> list[tuple[Source, tuple[str, ...]]]:
    """The sources that are read, each with the names of the monitors it is for.

    Raises
    ------
    SettingsError : an option is wrong, or there is no such directory.
    """
    found: list[tuple[Source, tuple[str, ...]]] = []
    for part in config.sources:
        if part.type == "http":
            continue
        options = dict(part.options)
        wanted = options.pop("monitors", tuple(item.name for item in config.monitors))
        found.append((_source(part, options, config), wanted))
    return found


def _source(part: PartConfig, options: dict[str, Any], config: WatchConfig) -> Source:
    if part.type == "kafka":
        from rainpp.sources.kafka import Kafka

        return Kafka(options.pop("topics"), options.pop("brokers"), **options)
    from rainpp.sources.directory import Directory

    ledger = config.state.with_name(f"{config.state.name}.{_plain(part.name)}.files.jsonl")
    return Directory(options.pop("path"), name=part.name, ledger=ledger, **options)


def _plain(name: str) -> str:
    """A name as part of a file's name; different names stay different."""
    import hashlib

    if name.replace("-", "").replace("_", "").isalnum() and name.isascii() and len(name) < 60:
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def only(monitors: Sequence[Monitor], names: Sequence[str]) -> list[Monitor]:
    """The monitors with some names."""
    return [monitor for monitor in monitors if monitor.spec.name in names]
