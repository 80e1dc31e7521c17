"""Files that are written in one step: what is interrupted leaves the old one, whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rainpp.errors import SettingsError


def write(path: Path, content: bytes) -> Path:
    """Put `content` in the place of what was there; returns the path.

    Raises
    ------
    SettingsError : the folder cannot be made or written to.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(0o644)  # mkstemp leaves it readable by its owner only
        os.replace(part, path)
    except OSError as problem:
        raise _refused(path.parent, problem) from problem
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)
    return path


def check_folder(folder: Path, instead: str = "") -> None:
    """Whether files can be put into a folder, which is made: asked before the work for them.

    Parameters
    ----------
    instead : another way out than mending the folder.

    Raises
    ------
    SettingsError : they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise _refused(folder, problem, instead) from problem


def _refused(folder: Path, problem: OSError, instead: str = "") -> SettingsError:
    return SettingsError(
        f"cannot write to the folder `{folder}`: {problem.strerror or problem}. "
        f"Make it a folder that can be written to, with space left{instead}."
    )
