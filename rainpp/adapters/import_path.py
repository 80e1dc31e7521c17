"""What is in the user's own code, named as "package.module:name"."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rainpp.errors import SettingsError, named


def load_function(
    reference: str, *, key: str, arguments: tuple[str, ...], folder: Path | None = None
) -> Callable[..., Any]:
    """The function that "package.module:function" names.

    Modules of `folder` and of the current folder can be imported, in that order.

    Parameters
    ----------
    key : the setting it came from, for messages.
    arguments : what it will be called with, in order.
    folder : of the settings file that names the function.

    Raises
    ------
    SettingsError : no such module, it fails to import, no such function, or other arguments.
    """
    function, (module_name, name) = _found(reference, key, folder)
    if not callable(function):
        raise SettingsError(
            f"`{key}` is {reference!r}, but `{module_name}` has no function `{name}`."
        )
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:  # written in C, without a signature: the call itself will tell
        return function
    except TypeError as problem:
        raise SettingsError(
            f"`{key}` is {reference!r}, which cannot be called as "
            f"{name}({', '.join(arguments)}): {problem}."
        ) from problem
    return function


def load_value(reference: str, *, key: str, folder: Path | None = None) -> Any:
    """Whatever "package.module:name" names; the rest as `load_function`.

    Raises
    ------
    SettingsError : no such module, it fails to import, or it has no such name.
    """
    value, (module_name, name) = _found(reference, key, folder)
    if value is None:
        raise SettingsError(f"`{key}` is {reference!r}, but `{module_name}` has no `{name}`.")
    return value


def _found(reference: str, key: str, folder: Path | None) -> tuple[Any, tuple[str, str]]:
    """The value, None where there is none, and the two parts of its name."""
    module_name, _, name = reference.partition(":")
    module = _import_module(module_name, key, [folder or Path.cwd(), Path.cwd()])
    return getattr(module, name, None), (module_name, name)


def _import_module(name: str, key: str, folders: list[Path]) -> Any:
    for folder in reversed(folders):
        if str(folder.absolute()) not in sys.path:
            sys.path.insert(0, str(folder.absolute()))
            importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name and f"{name}.".startswith(f"{problem.name}."):
            raise SettingsError(
                f"`{key}` names the module `{name}`, but `{problem.name}` is neither in the "
                f"folder {folders[0]} nor in the current folder ({Path.cwd()}) nor installed."
            ) from problem
        raise SettingsError(_broken(name, key, problem)) from problem
    except Exception as problem:
        raise SettingsError(_broken(name, key, problem)) from problem


def _broken(name: str, key: str, problem: Exception) -> str:
    return f"`{key}` names the module `{name}`, which fails: {named(problem)}"
