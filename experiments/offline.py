"""Measurements of the offline stage; one file `experiments/offline_<name>.py` per subcommand.

A file is found by its name; its `main()` reads the arguments after the name.

    python -m experiments.offline subsample --cases mlp
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    known = names()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        usage = f"usage: python -m experiments.offline {{{','.join(known)}}} [options]"
        if sys.argv[1:] in (["-h"], ["--help"]):
            print(f"{usage}\n{(__doc__ or '').splitlines()[0]}")
            return
        sys.exit(usage)
    name = sys.argv.pop(1)
    importlib.import_module(f"experiments.offline_{name}").main()


def names() -> list[str]:
    """The subcommands there are files for."""
    found = Path(__file__).parent.glob("offline_*.py")
    return sorted(path.stem.removeprefix("offline_") for path in found)


if __name__ == "__main__":
    main()
