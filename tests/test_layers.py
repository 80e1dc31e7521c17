"""Who may import whom: parsed from the sources, so that a wrong arrow fails before it is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rainpp"

# Rooms from left to right; a room imports from its own column and from columns to its left.
COLUMNS = [
    {"errors", "types"},
    {
        "adapters",
        "additions",
        "complaint",
        "convolution",
        "explain",
        "fingerprint",
        "intervention",
        "listing",
        "loss",
        "matmul",
        "metrics",
        "model",
        "out_of_place",
        "ranking",
        "refinement",
        "selection",
        "training_set",
        "trust",
    },
    {"lanczos", "relax"},
    {"connection", "index", "inference", "stream"},
    {
        "adding",
        "backing",
        "bound_complaint",
        "combination",
        "database",
        "families",
        "fix",
        "group_effect",
        "handoff",
        "label_noise",
        "materialized",
        "patch",
        "point_query",
        "registration",
        "repair",
        "result",
        "saturation",
        "setting",
        "traced",
        "verification",
    },
    {
        "buckets",
        "demo",
        "hooks",
        "monitoring",
        "report",
        "settings",
        "sources",
        "windows",
        "workspace",
    },
    {"cli", "dashboard", "options", "rendering", "spark", "terminal", "watching"},
]
COLUMN = {room: number for number, rooms in enumerate(COLUMNS) for room in rooms}

# Pairs that meet only as arrays, and libraries that are the business of a few rooms.
STRANGERS = ({"lanczos", "relax"},)
ROOMS_WITH_SQL = {
    "relax",
    "stream",
    "connection",
    "inference",
    "database",
    "setting",
    "monitoring",
}
HEAVY = ("jax", "duckdb", "pandas", "matplotlib", "pyarrow", "flax", "orbax", "sqlglot")
HEAVY += ("starlette", "uvicorn")


def room_of(module: str) -> str:
    """The part of rainpp a module lives in: rainpp.lanczos.krylov is in lanczos."""
    return module.split(".")[1]


def imported(tree: ast.AST, module: str) -> Iterator[str]:
    """Every module named in an import statement, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield node.module or ""
            # `from rainpp import store` may name a module; `__version__` is not one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_arrows(module: str, source: str) -> list[str]:
    """What is wrong with the imports of one module, in words."""
    room, found = room_of(module), []
    if room not in COLUMN:
        return [f"{module}: `{room}` has no place in COLUMNS"]
    for target in imported(ast.parse(source), module):
        top, _, rest = target.partition(".")
        other = rest.partition(".")[0]
        if top == "rainpp" and other in COLUMN:
            if COLUMN[other] > COLUMN[room]:
                found.append(f"{module} -> {target}: {other} is to the right of {room}")
            if {room, other} in STRANGERS:
                found.append(f"{module} -> {target}: {room} and {other} never meet")
        if top in ("duckdb", "sqlglot") and room not in ROOMS_WITH_SQL:
            found.append(f"{module} -> {target}: only {sorted(ROOMS_WITH_SQL)} use it")
        if top in ("jax", "flax", "optax") and room == "relax":
            found.append(f"{module} -> {target}: relax is free of JAX")
    return sorted(set(found))


def modules() -> list[tuple[str, Path]]:
    files = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files]
    pairs = zip(names, files, strict=True)
    return [(name.removesuffix(".__init__"), file) for name, file in pairs]


@pytest.mark.parametrize(("module", "file"), modules()[1:], ids=lambda value: str(value))
def test_imports_run_one_way(module, file):
    assert wrong_arrows(module, file.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rainpp.lanczos.krylov", "from rainpp.relax.plan import Slot"),
        ("rainpp.relax.plan", "import rainpp.lanczos.krylov"),
        ("rainpp.model", "def f():\n    from rainpp.database import connect"),
        ("rainpp.model", "from rainpp import database"),
        ("rainpp.ranking", "import duckdb"),
        ("rainpp.cli", "import sqlglot"),
        ("rainpp.relax.semantics", "import jax.numpy as jnp"),
        ("rainpp.helpers", ""),
    ],
)
def test_a_wrong_arrow_is_found(module, source):
    assert wrong_arrows(module, source) != []


def loaded_after(code: str) -> set[str]:
    """Heavy libraries a fresh interpreter has loaded after running `code`."""
    report = f"{code}\nimport sys\nprint(*(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HELP = """
import contextlib, io, sys
sys.argv = ["rainpp", {arguments}]
from rainpp.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
    main()
assert "Usage" in out.getvalue(), out.getvalue()
"""


@pytest.mark.parametrize(
    "code",
    [
        "import rainpp",
        "import rainpp.cli",
        "import rainpp.settings",
        "import rainpp.dashboard",
        HELP.format(arguments="'--help'"),
        HELP.format(arguments="'complain', '--help'"),
    ],
    ids=["rainpp", "cli", "settings", "dashboard", "help", "complain help"],
)
def test_asking_for_help_loads_nothing_heavy(code):
    assert loaded_after(code) == set()


def test_relax_runs_without_jax():
    rooms = [name for name, _ in modules() if name.startswith("rainpp.relax")]
    assert "jax" not in loaded_after("\n".join(f"import {name}" for name in rooms))
