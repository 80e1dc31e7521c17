"""What docs/watch.md shows is what happens."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rainpp.cli import app
from rainpp.watching import opening

PAGE = Path(__file__).parents[2] / "docs" / "watch.md"
BLOCK = re.compile(r"^```(python|pycon|toml|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_every_example_of_the_page_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    if not (Path(opening.__file__).parents[1] / "hooks").exists():
        monkeypatch.setattr(opening, "open_hook", lambda _: lambda *_: None)
    names, counts = {}, {"pycon": 0, "console": 0}
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind in ("python", "toml"):
            name = re.match(r"# (\S+)\n", text)[1]
            (tmp_path / name).write_text(text)
        elif kind == "console":
            command, _, expected = text.partition("\n")
            said = CliRunner().invoke(app, shlex.split(command)[2:])
            assert said.exit_code == 0, said.stderr
            assert said.stdout == expected
            counts[kind] += 1
        else:
            example = doctest.DocTestParser().get_doctest(text, names, PAGE.name, str(PAGE), 0)
            out = []
            failed = doctest.DocTestRunner().run(example, out=out.append, clear_globs=False)
            assert failed.failed == 0, "".join(out)
            names.update(example.globs)
            counts[kind] += len(example.examples)
    assert counts["console"] == 2
    assert counts["pycon"] > 15
    (aside,) = (tmp_path / "watch.duckdb.aside.jsonl").read_text().splitlines()
    assert "{oops" in aside
