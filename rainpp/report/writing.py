"""Files of a report: written beside their place and renamed, so nobody reads half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from rainpp.errors import DataError


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` to `path`, in the place of what was there; returns the path.

    Raises
    ------
    DataError : the folder is missing or cannot be written to, or `path` is one.
    """
    target = check_place(path)
    # Half of a pair of surrogates, as from a damaged file, has no UTF-8.
    contents = text.encode("utf-8", errors="replace")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}-")
    except OSError as problem:
        raise _refused(target, problem.strerror or str(problem)) from problem
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(contents)
        Path(name).chmod(0o644)  # mkstemp leaves it readable by its owner only
        Path(name).replace(target)
    except OSError as problem:
        raise _refused(target, problem.strerror or str(problem)) from problem
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def check_place(path: Any) -> Path:
    """`path`, if a file can be put there: before the work of making one.

    Raises
    ------
    DataError : as `write_text`.
    """
    if not isinstance(path, str | Path) or not str(path):
        raise DataError(f"`path` is {path!r}; it must be the path of a file.")
    target = Path(path)
    try:
        os.lstat(target)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise _refused(target, f"`{target.parent}` is no folder") from None
    except (OSError, ValueError) as problem:  # too long, a zero byte
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise _refused(target, reason or str(problem)) from None
    if target.is_dir():
        raise _refused(target, "it is a folder")
    if not target.parent.is_dir():
        raise _refused(target, f"there is no folder `{target.parent}`")
    return target


def _refused(target: Path, reason: str) -> DataError:
    return DataError(f"cannot write the report `{target}`: {reason}.")
