"""watch.toml as it is written: what to watch, whom to tell, where rows come from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rainpp.errors import SettingsError
from rainpp.settings import DEFAULT_FILE as RAINPP_TOML
from rainpp.settings import Settings, parse_settings, read_settings
from rainpp.watching.rules import (
    COUNT,
    NUMBER,
    PATH,
    PORT,
    SECONDS,
    TABLE,
    TEXT,
    TEXTS,
    TRUTH,
    VARIABLE,
    Rule,
    nearest,
    one_of,
    read_table,
    secret_of,
)

DEFAULT_FILE = "watch.toml"
# Sections of rainpp.toml, which say what the model and its index are.
_OF_MODEL = ("model", "training", "index", "database")
_REPLAY = one_of("latest", "all")
_KIND = one_of("predictions", "feedback", "retract")

_ALERT: dict[str, Rule] = {
    "name": TEXT,
    "when": TEXT,
    "clear": TEXT,
    "where": TABLE,
    "hold": COUNT,
    "min_rows": NUMBER,
    "target": NUMBER,
    "whole_windows": TRUTH,
    "hooks": TEXTS,
}
_MONITOR: dict[str, Rule] = {
    "name": TEXT,
    "sql": TEXT,
    "function": TEXT,
    "schema": TABLE,
    "time": TEXT,
    "id": TEXT,
    "label": TEXT,
    "window": TEXT,
    "lateness": TEXT,
    "retention": TEXT,
    "ahead": TEXT,
    "idle": TEXT,
    "keep": one_of("auto", "inputs", "gradients", "nothing"),
    "reference": PATH,
    "hooks": TEXTS,
    "alert": Rule(lambda value, _: value if isinstance(value, list) else None, "a list of tables"),
}
_HOOKS: dict[str, dict[str, Rule]] = {
    "webhook": {
        "url": TEXT,
        "secret": TEXTS,
        "secret_env": VARIABLE,
        "rows": TRUTH,
        "allow_private": TRUTH,
        "timeout": SECONDS,
        "replay": _REPLAY,
    },
    "alertmanager": {
        "url": TEXT,
        "form": one_of("push", "webhook"),
        "allow_private": TRUTH,
        "replay": _REPLAY,
    },
    "file": {"path": PATH, "replay": _REPLAY},
}
_FOR = {"kind": _KIND, "table": TEXT, "monitors": TEXTS}
_SOURCES: dict[str, dict[str, Rule]] = {
    "directory": {
        **_FOR,
        "path": PATH,
        "pattern": TEXT,
        "format": one_of("parquet", "jsonl"),
        "rows": COUNT,
        "every": SECONDS,
    },
    "kafka": {
        **_FOR,
        "topics": TEXTS,
        "brokers": TEXT,
        "group": TEXT,
        "format": one_of("json", "arrow"),
        "lost": one_of("stop", "skip"),
        "look": SECONDS,
        "messages": COUNT,
        "options": TABLE,
    },
    "http": {"monitors": TEXTS, "max_bytes": COUNT, "max_rows": COUNT, "timeout": SECONDS},
}
_NEEDED = {"webhook": ["url"], "alertmanager": ["url"], "file": ["path"],
           "directory": ["path"], "kafka": ["topics", "brokers"], "http": []}  # fmt: skip
_SERVER: dict[str, Rule] = {"host": TEXT, "port": PORT, "token": TEXT, "token_env": VARIABLE}


@dataclass(frozen=True)
class MonitorConfig:
    """One [[monitor]]: options of `rainpp.monitor`, and of `alert` for each [[monitor.alert]]."""

    name: str
    options: Mapping[str, Any]
    alerts: tuple[Mapping[str, Any], ...] = ()
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartConfig:
    """One [[hook]] or [[source]]; secrets are not shown."""

    name: str
    type: str
    options: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class ServerConfig:
    """[server]: where it listens, and what a request must show."""

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        import ipaddress

        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


@dataclass(frozen=True)
class WatchConfig:
    """All of watch.toml."""

    file: Path
    state: Path
    aside: Path
    settings: Settings
    monitors: tuple[MonitorConfig, ...]
    hooks: tuple[PartConfig, ...]
    sources: tuple[PartConfig, ...]
    server: ServerConfig

    def at_port(self, port: int | None) -> WatchConfig:
        """The same, listening at another port if one is given."""
        return self if port is None else replace(self, server=replace(self.server, port=port))


def read_config(file: Path | None = None) -> WatchConfig:
    """What `file` says; watch.toml in the current folder by default.

    Raises
    ------
    SettingsError : it is not there or is not TOML; an unknown key, a wrong value, a name that
        nothing has.
    """
    path = Path(DEFAULT_FILE) if file is None else file
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(f"cannot read `{path}`: {problem.strerror}.") from None
    except ValueError as problem:
        raise SettingsError(f"`{path}` is not valid TOML: {problem}.") from None
    known = ["state", "aside", *_OF_MODEL, "monitor", "hook", "source", "server"]
    for key in content:
        if key not in known:
            raise SettingsError(f"`{path}` has no setting `{key}`{nearest(key, known)}")
    folder, about = path.parent, {key: content[key] for key in ("state", "aside") if key in content}
    paths = read_table(about, f"`{path}`:", {"state": PATH, "aside": PATH}, folder)
    state: Path = paths.get("state", folder / f"{path.stem}.duckdb")
    found = WatchConfig(
        path,
        state,
        paths.get("aside", state.with_name(f"{state.name}.aside.jsonl")),
        _model(content, path),
        tuple(_monitor(item, folder) for item in _listed(content, "monitor", path)),
        _parts(content, "hook", _HOOKS, path),
        _parts(content, "source", _SOURCES, path),
        _server(content.get("server", {}), folder),
    )
    _check_names(found)
    return found


def _model(content: Mapping[str, Any], path: Path) -> Settings:
    """What the model is: as rainpp.toml beside the file says, unless the file says so itself."""
    own = {name: content[name] for name in _OF_MODEL if name in content}
    beside = path.parent / RAINPP_TOML
    if own or not beside.exists():
        return parse_settings(own, path)
    return read_settings(beside)


def _listed(content: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    found = content.get(key, [])
    if not isinstance(found, list):
        raise SettingsError(f"`{path}` has [{key}]; write [[{key}]], once for each.")
    return found


def _monitor(content: Any, folder: Path) -> MonitorConfig:
    found = read_table(content, "[[monitor]]", _MONITOR, folder, ["name", "sql"])
    where = f"[[monitor.alert]] of `{found['name']}`"
    alerts = [
        read_table(alert, where, _ALERT, folder, ["name", "when"])
        for alert in found.pop("alert", [])
    ]
    name, hooks = found.pop("name"), found.pop("hooks", ())
    return MonitorConfig(name, found, tuple(alerts), hooks)


def _parts(
    content: Mapping[str, Any], what: str, kinds: Mapping[str, dict[str, Rule]], path: Path
) -> tuple[PartConfig, ...]:
    found: list[PartConfig] = []
    for item in _listed(content, what, path):
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str) or kind not in kinds:
            raise SettingsError(f"[[{what}]] type is {kind!r}; it must be one of {list(kinds)}.")
        where = f"[[{what}]] of type {kind}"
        rules = {"type": TEXT, "name": TEXT, **kinds[kind]}
        values = read_table(item, where, rules, path.parent, [*_NEEDED[kind]])
        if "secret" in kinds[kind]:
            values["secret"] = secret_of(values, "secret", where)
            values.pop("secret_env", None)
            if values["secret"] is None:
                raise SettingsError(f"{where} secret is missing: write secret or secret_env.")
        del values["type"]
        name = values.pop("name", None) or (kind if what == "hook" else _source_name(kind, values))
        found.append(PartConfig(name, kind, values))
    return tuple(found)


def _source_name(kind: str, values: Mapping[str, Any]) -> str:
    """What a source is called if it has no name: stable, as offsets are kept under it."""
    if kind == "directory":
        return str(values["path"].name) or str(values["path"])
    return ", ".join(values["topics"]) if kind == "kafka" else kind


def _server(content: Any, folder: Path) -> ServerConfig:
    found = read_table(content, "[server]", _SERVER, folder)
    token = secret_of(found, "token", "[server]")
    given = {key: found[key] for key in ("host", "port") if key in found}
    return ServerConfig(token=token, **given)


def _check_names(config: WatchConfig) -> None:
    """Refuse names that are there twice, and names that nothing has.

    Raises
    ------
    SettingsError : there is one; there is no monitor.
    """
    if not config.monitors:
        raise SettingsError(f"`{config.file}` has no [[monitor]]: there is nothing to watch.")
    monitors = _different("monitor", [item.name for item in config.monitors])
    hooks = _different("hook", [item.name for item in config.hooks])
    _different("source", [item.name for item in config.sources])
    for monitor in config.monitors:
        used = [*monitor.hooks, *(name for a in monitor.alerts for name in a.get("hooks", ()))]
        for name in used:
            if name not in hooks:
                raise SettingsError(
                    f"the monitor `{monitor.name}` names the hook `{name}`, which is none"
                    f"{nearest(name, hooks)}"
                )
    for source in config.sources:
        for name in source.options.get("monitors", ()):
            if name not in monitors:
                raise SettingsError(
                    f"the source `{source.name}` names the monitor `{name}`, which is none"
                    f"{nearest(name, monitors)}"
                )
        labels = source.options.get("kind", "predictions") != "predictions"
        for item in config.monitors if labels else ():
            fed = source.options.get("monitors") or [item.name]
            if item.name in fed and "schema" not in item.options:
                raise SettingsError(
                    f"the source `{source.name}` sends {source.options['kind']}, which may come "
                    f"before the first rows: give the monitor `{item.name}` a schema."
                )
    if any(source.type == "http" for source in config.sources) and config.server.token is None:
        raise SettingsError(
            "a [[source]] of type http takes rows from whoever shows a token: write [server] token "
            "or token_env."
        )


def _different(what: str, names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two [[{what}]] are called `{name}`; give each its own name.")
    return names
