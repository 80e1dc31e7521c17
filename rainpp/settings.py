"""rainpp.toml: where the model, its training set, its index and the database are.

::

    [model]
    factory = "shop.models:clothing"       # (path of the checkpoint) -> rainpp.Model
    checkpoint = "model.ckpt"
    name = "predict"                       # what SQL calls it
    fit = "shop.models:fit"                # (inputs, labels) -> params: to train again

    [training]
    path = "train.parquet"                 # or .csv, or .npz with arrays `inputs` and `labels`
    inputs = ["red", "green", "blue"]      # default: every column but label and id
    label = "label"
    id = "row"

    [index]
    path = "clothing.rain"
    k = "auto"
    interventions = ["delete", "relabel"]
    repairs = ["shop.repairs:CLEAR"]       # each a rainpp.Replace, or a function that returns one
    matmul = "float32"                     # or "bfloat16": products of 2 to 3 digits
    storage = "float32"                    # of the projections; or "float16", "int8"
    memory = "8GB"                         # beside the rows; half of what is free by default

    [database]
    path = "shop.duckdb"
    table = "photos"
    args = ["image"]
    encode = "shop.models:encode"          # from one array per argument to model inputs
    classes = ["shirt", "shoe"]

Every line is optional and can be given as a flag instead. Paths are relative to the file's folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rainpp.errors import SettingsError
from rainpp.types import ClassValue

DEFAULT_FILE = "rainpp.toml"
_INTERVENTIONS = ("delete", "relabel")
# Those of `rainpp.matmul`, which imports JAX.
_MATMULS = ("float32", "bfloat16")
# Those of `rainpp.index.storage`.
_STORAGES = ("float32", "float16", "int8")


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a key may hold. `read` returns None for a value that is not allowed."""

    read: Callable[[Any, Path], Any]
    allowed: str


def _read_path(value: Any, folder: Path) -> Path | None:
    return folder / value if isinstance(value, str | Path) and str(value) else None


def _read_import(value: Any, _folder: Path) -> str | None:
    found = isinstance(value, str) and re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", value)
    return value if found else None


def _read_imports(value: Any, folder: Path) -> tuple[str, ...] | None:
    names = _read_words(value, folder) or ()
    known = names and len(set(names)) == len(names) and all(_read_import(x, folder) for x in names)
    return names if known else None


def _read_word(value: Any, _folder: Path) -> str | None:
    return value if isinstance(value, str) and value else None


def _read_identifier(value: Any, _folder: Path) -> str | None:
    return value if isinstance(value, str) and value.isidentifier() else None


def _read_words(value: Any, _folder: Path) -> tuple[str, ...] | None:
    words = (value,) if isinstance(value, str) else tuple(value) if _is_list(value) else ()
    return words if words and all(isinstance(word, str) and word for word in words) else None


def _read_k(value: Any, _folder: Path) -> int | str | None:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if value == "auto" or (type(value) is int and value >= 1) else None


def _read_size(value: Any, _folder: Path) -> int | str | None:
    positive = type(value) is int and value >= 1
    return value if positive or (isinstance(value, str) and value.strip()) else None


def _read_matmul(value: Any, _folder: Path) -> str | None:
    return value if value in _MATMULS else None


def _read_storage(value: Any, _folder: Path) -> str | None:
    return value if value in _STORAGES else None


def _read_interventions(value: Any, folder: Path) -> tuple[str, ...] | None:
    words = _read_words(value, folder)
    known = words and set(words) <= set(_INTERVENTIONS) and len(set(words)) == len(words)
    return words if known else None


def _read_classes(value: Any, _folder: Path) -> tuple[ClassValue, ...] | None:
    values = tuple(value) if _is_list(value) else ()
    return values if values and all(isinstance(x, str | int | float) for x in values) else None


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


_PATH = _Rule(_read_path, "a path")
_IMPORT = _Rule(_read_import, 'a string like "package.module:function"')
_IMPORTS = _Rule(_read_imports, 'a list of different strings like "package.module:name"')
_WORD = _Rule(_read_word, "a string that is not empty")
_NAME = _Rule(_read_identifier, "a plain SQL identifier")
_WORDS = _Rule(_read_words, "a name or a list of names")
_K = _Rule(_read_k, '"auto" or a whole number >= 1')
_MEMORY = _Rule(_read_size, 'a number of bytes or a size such as "8GB"')
_MATMUL = _Rule(_read_matmul, f"one of {list(_MATMULS)}")
_STORAGE = _Rule(_read_storage, f"one of {list(_STORAGES)}")
_KINDS = _Rule(_read_interventions, f"a list of different words from {list(_INTERVENTIONS)}")
_CLASSES = _Rule(_read_classes, "a list of strings or numbers, one for each output of the model")

_RULES: dict[str, dict[str, _Rule]] = {
    "model": {"factory": _IMPORT, "checkpoint": _PATH, "name": _NAME, "fit": _IMPORT},
    "training": {"path": _PATH, "inputs": _WORDS, "label": _WORD, "id": _WORD},
    "index": {
        "path": _PATH,
        "k": _K,
        "interventions": _KINDS,
        "repairs": _IMPORTS,
        "matmul": _MATMUL,
        "memory": _MEMORY,
        "storage": _STORAGE,
    },
    "database": {
        "path": _PATH,
        "table": _WORD,
        "args": _WORDS,
        "encode": _IMPORT,
        "classes": _CLASSES,
    },
}


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Where the trained model comes from, and how it is trained."""

    factory: str | None = None
    checkpoint: Path | None = None
    name: str = "predict"
    fit: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Where the training rows are; names default by format."""

    path: Path | None = None
    inputs: tuple[str, ...] | None = None
    label: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Where the index is, and what goes into a new one."""

    path: Path | None = None
    k: int | str = "auto"
    interventions: tuple[str, ...] | None = None
    repairs: tuple[str, ...] | None = None
    matmul: str = "float32"
    memory: int | str | None = None
    storage: str = "float32"


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """The database the model is asked about."""

    path: Path | None = None
    table: str | None = None
    args: tuple[str, ...] | None = None
    encode: str | None = None
    classes: tuple[ClassValue, ...] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a command can be told by rainpp.toml or by flags.

    `file` is the settings file that was read, None without one; modules beside it can be imported.
    """

    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    index: IndexSettings = IndexSettings()
    database: DatabaseSettings = DatabaseSettings()
    file: Path | None = None

    def override(self, section: str, **flags: Any) -> Settings:
        """These settings with the flags that were given (not None) in place of the file's.

        Raises
        ------
        SettingsError : a flag's value is not allowed.
        """
        given = {key: value for key, value in flags.items() if value not in (None, [], ())}
        changed = _section(getattr(self, section), section, given, Path(), "the flag")
        return replace(self, **{section: changed})

    def require(self, section: str, key: str) -> Any:
        """The value of a key that the command cannot do without.

        Raises
        ------
        SettingsError : neither the file nor a flag gives it.
        """
        value = getattr(getattr(self, section), key)
        if value is None:
            nowhere = "" if self.file else f" (there is no {DEFAULT_FILE} in this folder)"
            raise SettingsError(
                f"`[{section}] {key}` is missing: write {_RULES[section][key].allowed} in "
                f"{DEFAULT_FILE}{nowhere}, or give it as a flag (see --help)."
            )
        return value

    def require_existing(self, section: str, key: str) -> Path:
        """The path under a key, of a file or folder that is there.

        Raises
        ------
        SettingsError : the key is missing, or nothing is at the path.
        """
        path = self.require(section, key)
        try:
            found = path.exists()
        except OSError as problem:
            raise SettingsError(f"`[{section}] {key}` is `{path}`: {problem.strerror}.") from None
        if not found:
            raise SettingsError(f"`[{section}] {key}` is `{path}`, where there is nothing.")
        return path


def read_settings(file: Path | None = None) -> Settings:
    """Settings from `file`; from rainpp.toml in the current folder, if there is one, by default.

    Raises
    ------
    SettingsError : `file` is not there or is not TOML; an unknown section or key; a wrong value.
    """
    path = Path(DEFAULT_FILE) if file is None else file
    if file is None and not path.exists():
        return Settings()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(f"cannot read the settings `{path}`: {problem.strerror}.") from problem
    except ValueError as problem:
        raise SettingsError(f"`{path}` is not valid TOML: {problem}.") from problem
    return parse_settings(content, path)


def parse_settings(content: Mapping[str, Any], path: Path) -> Settings:
    """Settings from the sections of a file that has been read.

    Raises
    ------
    SettingsError : an unknown section or key; a wrong value.
    """
    blank = Settings()
    for name, section in content.items():
        if name not in _RULES:
            known = ", ".join(f"[{section}]" for section in _RULES)
            raise SettingsError(f"`{path}` has [{name}]; it may have {known}.")
        if not isinstance(section, dict):
            raise SettingsError(f"`{path}` has {name} = {section!r}; write a section [{name}].")
    sections = {
        name: _section(getattr(blank, name), name, section, path.parent, f"`{path}`")
        for name, section in content.items()
    }
    return replace(blank, file=path, **sections)


def _section(base: Any, name: str, content: Mapping[str, Any], folder: Path, source: str) -> Any:
    rules, values = _RULES[name], {}
    for key, value in content.items():
        if key not in rules:
            homes = [f"[{other}]" for other, keys in _RULES.items() if key in keys]
            hint = f" It belongs under {' or '.join(homes)}." if homes else ""
            raise SettingsError(
                f"`[{name}] {key}` in {source} is not a setting; [{name}] may have "
                f"{', '.join(rules)}.{hint}"
            )
        values[key] = rules[key].read(value, folder)
        if values[key] is None:
            raise SettingsError(
                f"`[{name}] {key}` in {source} is {value!r}; it must be {rules[key].allowed}."
            )
    return replace(base, **values)
