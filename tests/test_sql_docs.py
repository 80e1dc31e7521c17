"""What docs/sql.md shows is what happens, and its relaxed answers are those of possible worlds."""

import doctest
import itertools
import math
import re
from collections import Counter
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.ask import MAX_ERROR
from rainpp.relax.nested.relation import MAX_ROWS
from rainpp.relax.nested.worlds import MAX_WORLDS, SAMPLES

PAGE = Path(__file__).parent.parent / "docs" / "sql.md"
TEXT = PAGE.read_text()
CALL = re.compile(r"kind\((\w+\.)?photo\)")


def rows_of_table(header: str) -> list[list[str]]:
    """The cells of every row of the table that has this header."""
    lines = TEXT.split(f"\n{header}\n", 1)[1].splitlines()[1:]
    table = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in line.split(" | ")] for line in (row[2:-2] for row in table)]


UNDERSTOOD = rows_of_table("| | query | plain | relaxed |")
REFUSED = rows_of_table("| | query | instead |")


@pytest.fixture(scope="module")
def names():
    """Every name the page defines, once its examples have printed what they show."""
    source = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    example = doctest.DocTestParser().get_doctest(source, {}, PAGE.name, str(PAGE), 0)
    assert len(example.examples) > 20
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed = runner.run(example, out=said.append, clear_globs=False)
    assert failed.failed == 0, "".join(said)
    return example.globs


def test_every_example_of_the_page_prints_what_it_shows(names):
    assert "db" in names


def written(value) -> str:
    if pd.isna(value):
        return "NULL"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_text(frame: pd.DataFrame) -> str:
    """Rows of an answer as the page writes them."""
    rows = []
    for row in frame.astype(object).itertuples(index=False):
        exists = row[-1] if frame.columns[-1] == "_exists" else 1.0
        values = row[:-1] if frame.columns[-1] == "_exists" else row
        shown = " ".join(map(written, values))
        rows.append(shown if math.isclose(exists, 1.0) else f"{shown} ({written(exists)})")
    return "; ".join(rows)


@pytest.mark.parametrize(("query", "plain", "relaxed"), [row[1:] for row in UNDERSTOOD])
def test_an_understood_query_has_the_answers_shown(names, query, plain, relaxed):
    result = names["db"].sql(query.strip("`"))
    assert result.method.startswith("exact")
    assert as_text(result.df()) == plain
    assert as_text(result.relaxed()) == relaxed


# --- the same by all worlds -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def worlds(names):
    """A connection with one schema per world, predictions as a column, and their probabilities."""
    con = duckdb.connect()
    shots = names["con"].sql("FROM shots ORDER BY photo").df()
    con.register("copied", names["con"].sql("FROM cages").df())
    con.execute("CREATE TABLE cages AS FROM copied")
    found = {}
    for world in itertools.product(range(2), repeat=len(shots)):
        name = "w" + "".join(map(str, world))
        con.register("copied", shots.assign(k=[("cat", "dog")[kind] for kind in world]))
        con.execute(f"CREATE SCHEMA {name}; CREATE TABLE {name}.shots AS FROM copied")
        con.execute(f"CREATE VIEW {name}.cages AS FROM main.cages")
        found[name] = math.prod(map(list.__getitem__, names["chances"], world))
    assert sum(found.values()) == pytest.approx(1.0)
    return con, found


def answers(worlds, query):
    """(probability, row) of every row of the answer in every world."""
    con, found = worlds
    plain = CALL.sub(lambda call: f"{call[1] or 'shots.'}k", query)
    for name, chance in found.items():
        con.execute(f"SET schema = '{name}'")
        yield from ((chance, row) for row in con.execute(plain).fetchall())


def split(row, is_cell):
    """Identity and cells of a row."""
    row = [None if pd.isna(value) else value for value in row]
    key = tuple(value for value, cell in zip(row, is_cell, strict=True) if not cell)
    return key, [value for value, cell in zip(row, is_cell, strict=True) if cell]


def is_plain_sum(query: str) -> bool:
    """Whether the cells are COUNTs or SUMs of the outermost SELECT and nothing filters its rows."""
    outer = re.match(r"SELECT (.*?) FROM", query)
    if outer is None or re.search(r"/|OVER", outer[1]) or re.search(r"HAVING|LIMIT", query):
        return False
    return bool(re.search(r"\b(count|sum)\(", outer[1]))


@pytest.mark.parametrize("query", [row[1].strip("`") for row in UNDERSTOOD])
def test_an_understood_query_agrees_with_all_worlds(names, worlds, query):
    result = names["db"].sql(query)
    is_cell = [name in result.answer.columns for name in result.df().columns]
    exists, total, mass = Counter(), Counter(), Counter()
    for chance, row in answers(worlds, query):
        key, cells = split(row, is_cell)
        exists[key] += chance
        for value in cells:
            total[key] += chance * float(value or 0.0)
            mass[key] += chance * (value is not None)
    relaxed = result.relaxed().astype(object)
    assert len(relaxed)
    for row in relaxed.itertuples(index=False):
        key, cells = split(row[:-1], is_cell)
        assert row[-1] == pytest.approx(exists[key], abs=1e-9)
        expected = total[key] / (1.0 if is_plain_sum(query) or not cells else mass[key])
        assert cells == [pytest.approx(expected, abs=1e-9)] * len(cells)


# --- what is refused, and the limits --------------------------------------------------------------


@pytest.mark.parametrize("query", [row[1].strip("`") for row in REFUSED])
def test_a_refused_query_is_refused_by_name(names, query):
    with pytest.raises(UnsupportedQueryError):
        names["db"].sql(query)


def test_the_limits_are_those_of_the_code():
    assert f"up to {MAX_WORLDS:,}" in TEXT
    assert f"{MAX_ROWS:,} possible rows" in TEXT
    assert f"({SAMPLES} sampled worlds)" in TEXT
    assert f"`max_relax_error` ({MAX_ERROR:g} by default)" in TEXT
