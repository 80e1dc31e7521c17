"""How the commands of experiments end."""

from __future__ import annotations

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
