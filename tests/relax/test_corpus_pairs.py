"""The SQL pairs of `tests/sql`: the oracle agrees with them, and so does the relaxation."""

from __future__ import annotations

import pytest

from tests.relax.corpus import asked, value_of
from tests.relax.corpus_certain import python
from tests.relax.corpus_pairs import FOLDER, Pair, identity, number, read
from tests.relax.enumeration import Enumeration, Oracle

PAIRS = [
    pytest.param(pair, id=f"{path.stem}: {pair.name}")
    for path in sorted(FOLDER.glob("*.sql"))
    for pair in read(path)
]


def expected(con, pair: Pair, row: list[str]):
    """(identity values, {column: (number, tolerance)}) of a line of the table."""
    known = [
        identity(con, text)
        for name, text in zip(pair.header, row, strict=True)
        if " " not in name and name != "_exists"
    ]
    numbers = {
        name.split()[-1]: number(con, text)
        for name, text in zip(pair.header, row, strict=True)
        if " " in name or name == "_exists"
    }
    return known, numbers


def assert_near(found: float, wanted: tuple[float, float], words: str) -> None:
    value, tolerance = wanted
    assert found == pytest.approx(value, abs=tolerance, nan_ok=True), words


@pytest.mark.parametrize("pair", PAIRS)
def test_the_numbers_are_those_of_the_possible_worlds(pair):
    with pair.setup.open() as con:
        oracle = Oracle(con, pair.setup.classes)
        given = pair.setup.probabilities  # worlds of what the query does not ask are alike
        used = {slot: given[slot] for slot in given if f"{slot[0]}(" in pair.sql}
        truth = Enumeration(oracle, pair.sql, used, pair.cells)
        seen: dict = {}
        listed = []
        for row in pair.rows:
            known, numbers = expected(con, pair, row)
            parts = iter(known)
            key = truth.key([None if n in truth.cells else next(parts) for n in truth.names], seen)
            listed.append(key)
            for name, wanted in numbers.items():
                found = truth.existence(key) if name == "_exists" else truth.cell(key, name)
                assert_near(found, wanted, f"{name} of {key}")
        assert {k for k in truth.keys if truth.existence(k) > 0} == set(listed)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_relaxed_answer_has_these_numbers(pair):
    with pair.setup.open() as con:
        answer = asked(con, pair.sql, pair.setup.probabilities, pair.setup.classes)
        assert answer.method.startswith("exact")
        names = [n for n in answer.frame.columns if n not in pair.cells]
        for row in pair.rows:
            known, numbers = expected(con, pair, row)
            for position in places(answer, names, known):
                for name, wanted in numbers.items():
                    found = answer.relaxed[name][position]
                    if name != "_exists":
                        found = value_of(answer, position, name)
                    assert_near(found, wanted, f"{name} of {known}")


@pytest.mark.parametrize("pair", [p for p in PAIRS if "_exists" in p.values[0].header])
def test_rows_are_counted_with_their_probability(pair):
    """The answer as a derived table: E[count(*)] is the sum of the probabilities of its rows."""
    with pair.setup.open() as con:
        numbers = [expected(con, pair, row)[1]["_exists"] for row in pair.rows]
        sql = f"SELECT count(*) AS n FROM ({pair.sql}) z"
        answer = asked(con, sql, pair.setup.probabilities, pair.setup.classes)
        total = sum(value for value, _ in numbers), sum(tolerance for _, tolerance in numbers)
        assert_near(value_of(answer, 0, "n"), total, pair.name)


def places(answer, names, known):
    """Positions of the rows of the plain answer with these identity values: none or one."""
    wanted = [str(value) for value in known]
    for position in range(len(answer.frame)):
        values = [answer.frame[name].tolist()[position] for name in names]
        if [_shown(value) for value in values] == wanted:
            yield position


def _shown(value) -> str:
    value = python(value)
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
