"""What a key of watch.toml may hold, and what is said about one that is wrong."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rainpp.errors import SettingsError

# Values of these are never shown.
_SECRET = ("secret", "token")


@dataclass(frozen=True)
class Rule:
    """What a key may hold. `read` returns None for a value that is not allowed."""

    read: Callable[[Any, Path], Any]
    allowed: str


def _text(value: Any, _folder: Path) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _path(value: Any, folder: Path) -> Path | None:
    return folder / value if isinstance(value, str) and value and "\0" not in value else None


def _texts(value: Any, _folder: Path) -> tuple[str, ...] | None:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) and item for item in listed):
        return None
    return tuple(listed) if len(set(listed)) == len(listed) else None


def _truth(value: Any, _folder: Path) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: Any, _folder: Path) -> int | None:
    return value if type(value) is int and value >= 1 else None


def _port(value: Any, _folder: Path) -> int | None:
    return value if type(value) is int and 0 <= value < 65536 else None


def _number(value: Any, _folder: Path) -> float | None:
    return value if type(value) in (int, float) and value == value else None


def _seconds(value: Any, _folder: Path) -> float | None:
    return float(value) if type(value) in (int, float) and 0 < value < 1e9 else None


def _table(value: Any, _folder: Path) -> dict[str, Any] | None:
    return value if isinstance(value, dict) and value else None


def one_of(*words: str) -> Rule:
    """One of some words."""
    return Rule(lambda value, _: value if value in words else None, f"one of {list(words)}")


TEXT = Rule(_text, "a text that is not empty")
PATH = Rule(_path, "a path")
TEXTS = Rule(_texts, "a text, or a list of different texts")
TRUTH = Rule(_truth, "true or false")
COUNT = Rule(_count, "a whole number >= 1")
PORT = Rule(_port, "a whole number from 0 to 65535")
NUMBER = Rule(_number, "a number")
SECONDS = Rule(_seconds, "a number of seconds > 0")
TABLE = Rule(_table, "a table { name = value }")


def read_table(
    content: Any, where: str, rules: Mapping[str, Rule], folder: Path, need: Collection[str] = ()
) -> dict[str, Any]:
    """The values of a table of the file, by key.

    Parameters
    ----------
    where : the table in messages.
    need : keys that must be there.

    Raises
    ------
    SettingsError : an unknown key, a wrong value, one that is missing.
    """
    if not isinstance(content, dict):
        raise SettingsError(f"{where} is {content!r}; write a table.")
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key not in rules:
            raise SettingsError(f"{where} has no setting `{key}`{nearest(key, rules)}")
        found[key] = rules[key].read(value, folder)
        if found[key] is None:
            said = "not" if key in _SECRET else f"{value!r}; it must be"
            raise SettingsError(f"{where} {key} is {said} {rules[key].allowed}.")
    for key in need:
        if key not in found:
            raise SettingsError(f"{where} {key} is missing: write {rules[key].allowed}.")
    return found


def nearest(key: str, known: Collection[str]) -> str:
    """The rest of a sentence about an unknown name: what may be meant, and what there is."""
    close = difflib.get_close_matches(key, list(known), n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return f"; there are {', '.join(known) or 'none'}.{hint}"


def secret_of(values: Mapping[str, Any], key: str, where: str) -> str | None:
    """A secret that stands in the file, or in the environment variable that `<key>_env` names.

    Raises
    ------
    SettingsError : both are given, or the variable is not set.
    """
    name = values.get(f"{key}_env")
    if name is None:
        return values.get(key)
    if key in values:
        raise SettingsError(f"{where} has both {key} and {key}_env; give one of them.")
    found = os.environ.get(name)
    if not found:
        raise SettingsError(f"{where} {key}_env is {name!r}, but that variable is not set.")
    return found


_NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def _variable(value: Any, _folder: Path) -> str | None:
    return value if isinstance(value, str) and _NAMES.fullmatch(value) else None


VARIABLE = Rule(_variable, "the name of an environment variable")
