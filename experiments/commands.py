"""How the commands of experiments end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from rainpp.errors import RainError, one_line


def run(main: Callable[..., None], *given: Any) -> None:
    """Call `main`; what a user can mend is said in one line, and Ctrl-C too, without a traceback.

    The exit status is 1 and 130.
    """
    try:
        main(*given)
    except RainError as problem:
        sys.exit(f"error: {one_line(problem)}")
    except KeyboardInterrupt:
        print("interrupted: what was saved is kept", file=sys.stderr)
        sys.exit(130)


def without_options(main: Callable[[], None], about: str | None) -> None:
    """`run`, of a command that takes no options."""
    no_options(about)
    run(main)


def no_options(about: str | None) -> None:
    """End where options are given; `--help` says what the command does, and does nothing."""
    argparse.ArgumentParser(description=(about or "").splitlines()[0]).parse_args()
