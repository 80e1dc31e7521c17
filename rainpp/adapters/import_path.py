"""Functions of the user's own code, named as "package.module:function"."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rainpp.errors import SettingsError


def load_function(reference: str, *, key: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """The function that "package.module:function" names; the current folder is importable.

    Parameters
    ----------
    key : the setting it came from, for messages.
    arguments : what it will be called with, in order.

    Raises
    ------
    SettingsError : no such module, it fails to import, no such function, or other arguments.
    """
    module_name, _, name = reference.partition(":")
    module = _import_module(module_name, key)
    function = getattr(module, name, None)
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


def _import_module(name: str, key: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name and f"{name}.".startswith(f"{problem.name}."):
            raise SettingsError(
                f"`{key}` names the module `{name}`, but `{problem.name}` is neither in the "
                f"current folder ({folder}) nor installed."
            ) from problem
        raise SettingsError(_broken(name, key, problem)) from problem
    except Exception as problem:
        raise SettingsError(_broken(name, key, problem)) from problem


def _broken(name: str, key: str, problem: Exception) -> str:
    said = " ".join(str(problem).split())
    return f"`{key}` names the module `{name}`, which fails: {type(problem).__name__}: {said}"
