"""Class probabilities and regression values as numbers in SQL, against DuckDB and differences."""

from __future__ import annotations

import numpy as np
import pytest

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax import smooth
from rainpp.relax.ask import answer, prepare
from rainpp.relax.smooth import Number, number_table, winning_bands
from rainpp.types import PredictionTable
from tests.online import BY_REGION, make_scene
from tests.relax.worlds import (
    assert_slopes,
    database,
    evaluated,
    expectation,
    frame,
    predictions,
    random_probabilities,
    rowids,
)

ROWS = "SELECT range AS i, range % 2 AS g, (7 * range) % 5 - 1.5 AS a FROM range(6)"
P = random_probabilities(3, 6)


@pytest.fixture
def con():
    con = database(t=ROWS, s="SELECT range AS i, range % 2 AS g, range + 1.0 AS b FROM range(3)")
    con.execute("ALTER TABLE t ADD COLUMN n DOUBLE")  # NULL in every other row
    con.execute("UPDATE t SET n = i WHERE i % 2 = 1")
    return con


def with_probabilities(con, p=P, table="t"):
    """The table with a probability in a column for each class, as plain SQL reads them."""
    for c in range(p.shape[1]):
        con.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS p{c} DOUBLE")
        for rid, value in zip(rowids(con, table), p[:, c], strict=True):
            con.execute(f"UPDATE {table} SET p{c} = ? WHERE rowid = ?", [float(value), int(rid)])


CERTAIN = [
    ("sum(predict_proba(i)[1])", "sum(p1)"),
    ("avg(predict_proba(i)[0]) + 1", "avg(p0) + 1"),
    ("mean(predict_proba(i)[0])", "avg(p0)"),
    ("sum(a * predict_proba(i)[1] + 2)", "sum(a * p1 + 2)"),
    ("sum(-(a - predict_proba(*)[2]) / 4)", "sum(-(a - p2) / 4)"),
    ("sum(predict_proba(i)[1] * predict_proba(i)[1])", "sum(p1 * p1)"),
    ("sum(predict_proba(t)[1] * (1 - predict_proba(t)[2]))", "sum(p1 * (1 - p2))"),
    ("sum(CASE WHEN a > 0 THEN predict_proba(i)[1] ELSE a END)", "sum(if(a > 0, p1, a))"),
    ("sum(if(g = 0, predict_proba(i)[1]::DOUBLE, 0))", "sum(if(g = 0, p1, 0))"),
    ("avg(n * predict_proba(i)[1])", "avg(n * p1)"),
    ("sum(coalesce(n * Predict_Proba(i) [ 1 ], 3))", "sum(coalesce(n * p1, 3))"),
    ("sum(predict_proba(i)[1]) FILTER (WHERE g = 1)", "sum(p1) FILTER (WHERE g = 1)"),
    ("100 * sum(predict_proba(i)[1]) - count(*) / 2", "100 * sum(p1) - count(*) / 2"),
    ("sum(predict_proba(i)[1] * (predict_proba(i)[2] > 0.4)::INT)", "sum(p1 * (p2 > 0.4)::INT)"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "plain"), CERTAIN, ids=[plain for _, plain in CERTAIN])
def test_sums_of_probabilities_are_those_of_duckdb_over_a_column(con, cell, plain):
    with_probabilities(con)
    for rest in ("", " WHERE a > -1", " WHERE i > 100"):
        got = evaluated(con, f"SELECT {cell} AS n FROM t{rest}", {"t": P})
        expected = float(frame(con, f"SELECT {plain} AS n FROM t{rest}")["n"].astype(float)[0])
        np.testing.assert_allclose(got.cell(0, "n"), [expected] * 2, rtol=1e-12)
    if "> 0.4" not in plain:
        assert_slopes(con, f"SELECT {cell} AS n FROM t", {"t": P}, tables=["t"])
        assert got.method.startswith("exact")


UNCERTAIN = [
    "SELECT sum(a * {p1} + {p2}) AS n FROM {t} WHERE {p} <> 1",
    "SELECT sum({p1}) FILTER (WHERE {p} = 1 OR a > 1) AS n FROM {t}",
    "SELECT sum(CASE WHEN {p} = 1 THEN {p1} ELSE -{p0} END) AS n FROM {t}",
    "SELECT sum({p1} * {p}) AS n FROM {t} WHERE {p} > 0",
    "SELECT count(*) AS n FROM {t} WHERE {p1} > 0.3 AND {p} = 1",
    "SELECT sum({p}) AS n FROM {t} WHERE {p1} BETWEEN 0.1 AND 1e0 / 3 OR NOT 0.5 >= {p2}",
    "SELECT sum({p1}) AS n FROM {t} WHERE {p1} < 0.5 AND {p} = 2",
    "SELECT max(a) AS n FROM {t} WHERE {p1} > 0.2 AND {p} <> 1",
]


@pytest.mark.parametrize("sql", UNCERTAIN)
def test_a_probability_is_a_number_and_not_a_draw(con, sql):
    con.execute("DELETE FROM t WHERE i > 3")
    p = P[:4]
    with_probabilities(con, p)
    called = {f"p{c}": f"predict_proba(i)[{c}]" for c in range(3)}
    mine = sql.format_map({"t": "t", "p": "predict(i)", **called})
    named = {f"p{c}": f"p{c}" for c in range(3)}
    plain = sql.format_map({"t": "{t}", "p": "pred", **named})
    top = plain.split(" AS n")[0].removeprefix("SELECT ")
    condition = plain.replace(top, "count(*)") if top.startswith("max") else None
    got = evaluated(con, mine, {"t": p}).cell(0, "n")[1]
    np.testing.assert_allclose(got, expectation(con, plain, {"t": p}, condition=condition))


@pytest.mark.parametrize("sql", UNCERTAIN[:4])
def test_slopes_of_numbers_and_draws_of_one_row_add_up(con, sql):
    called = {f"p{c}": f"predict_proba(i)[{c}]" for c in range(3)}
    mine = sql.format_map({"t": "t", "p": "predict(i)", **called})
    assert_slopes(con, mine, {"t": P}, tables=["t"])


def test_average_of_probabilities_over_uncertain_rows(con):
    con.execute("DELETE FROM t WHERE i > 3")
    with_probabilities(con, P[:4])
    sql = "SELECT avg(a * predict_proba(i)[1]) AS n FROM t WHERE predict(i) <> 1"
    plain, members = (
        f"SELECT {top} FROM {{t}} WHERE pred <> 1" for top in ("avg(a * p1)", "count(*)")
    )
    got = evaluated(con, sql, {"t": P[:4]}).cell(0, "n")[1]
    np.testing.assert_allclose(got, expectation(con, plain, {"t": P[:4]}, condition=members))
    assert_slopes(con, sql, {"t": P[:4]}, tables=["t"])


JOINED = [
    "SELECT sum(b * {l}) AS n FROM t JOIN s USING (g)",
    "SELECT avg({l} * {r}) AS n FROM t JOIN s USING (g)",
    "SELECT sum({l} - {r}) AS n FROM t CROSS JOIN s WHERE t.a > 0",
]


@pytest.mark.parametrize("sql", JOINED)
def test_probabilities_of_joined_rows(con, sql):
    q = random_probabilities(5, 3)
    with_probabilities(con)
    with_probabilities(con, q, "s")
    mine = sql.format(l="predict_proba(t.i)[1]", r="predict_proba(s.i)[2]")
    got = evaluated(con, mine, {"t": P, "s": q})
    expected = float(frame(con, sql.format(l="t.p1", r="s.p2"))["n"][0])
    np.testing.assert_allclose(got.cell(0, "n"), [expected] * 2)
    assert got.method.startswith("exact")
    assert_slopes(con, mine, {"t": P, "s": q}, tables=["t", "s"][: 1 + ("{r}" in sql)])


def test_rows_that_share_a_number_still_exist_exactly(con):
    """A number of one row in several joined rows ties none of them together."""
    sql = "SELECT s.b, sum({l} * a) AS n FROM t JOIN s USING (g) GROUP BY s.b ORDER BY s.b"
    got = evaluated(con, sql.format(l="predict_proba(t.i)[1]"), {"t": P})
    assert got.method == "exact (factorised join)"
    assert got.relaxed["_exists"].tolist() == [1.0] * 3
    nullable = "SELECT avg(n * predict_proba(t.i)[1]) AS m FROM t JOIN s USING (g)"
    with_probabilities(con)
    expected = frame(con, "SELECT avg(n * p1) AS m FROM t JOIN s USING (g)")["m"][0]
    got = evaluated(con, nullable, {"t": P})
    np.testing.assert_allclose(got.cell(0, "m"), [expected] * 2)
    assert got.method == "exact (factorised join)"


def test_an_average_over_uncertain_rows_of_a_number_they_share(con):
    con.execute("DELETE FROM t WHERE i > 3")
    q = random_probabilities(7, 3)
    with_probabilities(con, q, "s")
    con.execute("DELETE FROM s WHERE i = 2")
    sql = "SELECT avg(a * {r}) AS n FROM {t} t JOIN s USING (g) WHERE {p} <> 1"
    mine = sql.format(r="predict_proba(s.i)[2]", t="t", p="predict(t.i)")
    plain = sql.format(r="s.p2", t="{t}", p="t.pred")
    members = plain.replace("avg(a * s.p2)", "count(*)")
    got = evaluated(con, mine, {"t": P[:4], "s": q[:2]}).cell(0, "n")[1]
    np.testing.assert_allclose(got, expectation(con, plain, {"t": P[:4]}, condition=members))
    assert_slopes(con, mine, {"t": P[:4], "s": q[:2]}, tables=["t", "s"])


def test_a_row_joined_with_itself_squares_its_probability(con):
    with_probabilities(con)
    sql = "SELECT sum({l} * {r}) AS n FROM t x JOIN t y ON x.g = y.g"
    got = evaluated(con, sql.format(l="predict_proba(x)[1]", r="predict_proba(y)[1]"), {"t": P})
    expected = float(frame(con, sql.format(l="x.p1", r="y.p1"))["n"][0])
    np.testing.assert_allclose(got.cell(0, "n"), [expected] * 2)


def test_numbers_in_a_class_join_of_a_table_with_itself(con):
    con.execute("DELETE FROM t WHERE i > 4")
    with_probabilities(con, P[:5])
    sql = "SELECT sum(x.a * {r}) AS n FROM {t} x JOIN {t} y ON {l} = {m} WHERE x.g < 1"
    mine = sql.format(r="predict_proba(y)[1]", t="t", l="predict(x)", m="predict(y)")
    plain = sql.format(r="y.p1", t="{t}", l="x.pred", m="y.pred")
    got = evaluated(con, mine, {"t": P[:5]}).cell(0, "n")[1]
    np.testing.assert_allclose(got, expectation(con, plain, {"t": P[:5]}))
    assert_slopes(con, mine, {"t": P[:5]}, tables=["t"])


def test_groups_of_predicted_keys_average_their_probabilities(con):
    sql = "SELECT predict(i) AS k, sum(predict_proba(i)[1]) AS n FROM t GROUP BY 1 ORDER BY k"
    got = evaluated(con, sql, {"t": P})
    for row, k in enumerate(got.frame["k"]):
        np.testing.assert_allclose(got.cell(row, "n")[1], P[:, k] @ P[:, 1])
        assert_slopes(con, sql, {"t": P}, tables=["t"], row=row)


COMPARED = [
    "SELECT count(*) AS n FROM t WHERE predict_proba(i)[1] > 0.3",
    "SELECT sum(a) AS n FROM t WHERE predict_proba(i)[1] BETWEEN 0.2 AND 0.6 AND predict(i) <> 2",
    "SELECT sum(a * predict_proba(i)[1]) AS n FROM t WHERE NOT predict_proba(i)[1] <= 0.3",
    "SELECT count(*) AS n FROM (SELECT DISTINCT g FROM t WHERE predict_proba(i)[2] > 0.3)",
]


@pytest.mark.parametrize(
    "condition",
    ["{p} > -1e300", "{p} < 1e17", "{p} >= NULL", "{p} <= '0.5'", "{p} > 0.3::FLOAT", "{p} < 1/3",
     "0.2 < {p}", "({p}) > (0.1 + 0.2)", "{p} NOT BETWEEN -0.0 AND 0.25", "{p} > {v}"],
)  # fmt: skip
def test_constants_of_every_kind(con, condition):
    """`v` is one of the probabilities: none may be above itself."""
    with_probabilities(con)
    sql = f"SELECT count(*) AS n FROM t WHERE {condition}"
    got = evaluated(con, sql.format(p="predict_proba(i)[1]", v=repr(float(P[2, 1]))), {"t": P})
    expected = float(frame(con, sql.format(p="p1", v=repr(float(P[2, 1]))))["n"][0])
    np.testing.assert_allclose(got.cell(0, "n"), [expected] * 2)


@pytest.mark.parametrize("sql", COMPARED)
def test_predicates_have_the_value_of_duckdb_and_say_what_their_slope_is(con, sql):
    with_probabilities(con)
    got = evaluated(con, sql, {"t": P})
    words = "approximate gradient (straight-through predicate on predict_proba), exact"
    assert got.method.startswith(words)
    if "predict(" not in sql:
        plain = sql
        for c in range(3):
            plain = plain.replace(f"predict_proba(i)[{c}]", f"p{c}")
        np.testing.assert_allclose(got.cell(0, "n"), float(frame(con, plain)["n"][0]))


def test_slope_of_a_predicate_is_that_of_the_logistic_function(con):
    """Σ P[i, 0] ⟦P[i, 1] > 0.3⟧ moves as Σ P[i, 0] σ((P[i, 1] - 0.3) / 0.1)."""
    sql = "SELECT count(*) AS n FROM t WHERE predict(i) = 0 AND predict_proba(i)[1] > 0.3"
    slope = evaluated(con, sql, {"t": P}).gradient(0, "n")["predict", "t"]
    rising = 1 / (1 + np.exp(-(P[:, 1] - 0.3) / 0.1))
    expected = np.stack([P[:, 1] > 0.3, P[:, 0] * rising * (1 - rising) / 0.1, 0 * rising], axis=1)
    np.testing.assert_allclose(slope, expected)


@pytest.mark.parametrize("regression", [True, False])
def test_bands_move_as_their_surrogate(monkeypatch, regression):
    """Between two bounds, at one, with three of them: `pull` is the derivative of the masses."""
    monkeypatch.setattr(smooth, "TEMPERATURE", 0.7)
    y = np.array([-1.0, 0.5, 0.7, 3.0])
    number = Number("m", 0, "m", "", regression, (-0.5, 0.5, 2.0))
    adjoint = np.random.default_rng(0).normal(size=(4, 7))

    def made(values):
        return number_table(
            PredictionTable("m", "t", None, np.arange(4), values[:, None], (), 0.7), number, "b"
        )

    def surrogate(values):
        if regression:
            return (made(values).probabilities * adjoint).sum()
        rise = 1 / (1 + np.exp(-(np.array(number.bounds) - values[:, None]) / 0.7))
        edges = np.concatenate([np.zeros((4, 1)), rise, np.ones((4, 1))], axis=1)
        return (np.diff(edges, axis=1) * adjoint[:, ::2]).sum()

    pulled = made(y).pull(adjoint)[:, 0]
    for row in range(4):
        step = 1e-6 * np.eye(4)[row]
        seen = (surrogate(y + step) - surrogate(y - step)) / 2e-6
        np.testing.assert_allclose(pulled[row], seen, rtol=1e-6)
    assert winning_bands(y, number).tolist() == [0, 3, 4, 6]
    np.testing.assert_allclose(made(y).probabilities.sum(axis=1), 1.0)


def test_classes_are_named_between_the_brackets_as_sql_sees_them(con):
    functions = {"label": ("hi", "it's"), "flag": (False, True), "odd": (3, -7)}
    q = random_probabilities(1, 6, 2)
    for call, place in (("label_proba(i)['it''s']", 1), ("flag_proba(i)[false]", 0),
                        ("odd_proba(i)[-7]", 1), ("ODD_proba(i)[3]", 0)):  # fmt: skip
        got = evaluated(con, f"SELECT sum({call}) AS n FROM t", {"t": q}, classes=functions)
        np.testing.assert_allclose(got.cell(0, "n"), [q[:, place].sum()] * 2)


def test_a_model_registered_under_the_name_wins(con):
    functions = {"predict": (0, 1, 2), "predict_proba": (0, 1, 2)}
    sql = "SELECT count(*) AS n FROM t WHERE predict_proba(i) = 1"
    got = evaluated(con, sql, {"t": P}, classes=functions)
    np.testing.assert_allclose(got.cell(0, "n")[1], P[:, 1].sum())
    assert list(got.gradient(0, "n")) == [("predict_proba", "t")]


ROW_BY_ROW = [
    ("SELECT i, {l} AS n FROM t", ""),
    ("SELECT {l} * a - 1 AS n, a, g, 'x' AS x FROM t ORDER BY n DESC", ""),
    ("SELECT t.i, coalesce(n * {l}, 2) AS m, s.b FROM t JOIN s USING (g) ORDER BY t.i, s.b", ""),
    ("SELECT i, {l} AS n FROM t WHERE {l} > 0.3 ORDER BY a, i", ""),
    ("SELECT i, {l} AS n FROM t WHERE {p} = 1 ORDER BY 2", "pred"),
]


@pytest.mark.parametrize(("sql", "uncertain"), ROW_BY_ROW)
def test_numbers_row_by_row(con, sql, uncertain):
    with_probabilities(con)
    con.execute("ALTER TABLE t ADD COLUMN pred INT")
    for rid, winner in enumerate(P.argmax(axis=1)):
        con.execute("UPDATE t SET pred = ? WHERE i = ?", [int(winner), rid])
    got = evaluated(con, sql.format(l="predict_proba(t.i)[1]", p="predict(i)"), {"t": P})
    expected = frame(con, sql.format(l="p1", p="pred"))
    assert list(got.frame.columns) == list(expected.columns)
    for column in expected.columns:
        if column == "x":
            continue
        values = expected[column].astype(float)
        np.testing.assert_allclose(got.frame[column].astype(float), values, rtol=1e-12)
        np.testing.assert_allclose(got.relaxed[column].astype(float), values, rtol=1e-12)
    exists = got.relaxed["_exists"]
    if uncertain:
        assert exists.tolist() == pytest.approx(P[got.frame["i"], 1].tolist())
    else:
        assert exists.tolist() == [1.0] * len(exists)


def test_slope_of_a_number_of_one_row(con):
    sql = "SELECT i, a * predict_proba(i)[1] AS n FROM t WHERE predict(i) <> 1"
    got = evaluated(con, sql, {"t": P})
    for row, i in enumerate(got.frame["i"]):
        expected = np.zeros(P.shape)
        expected[i, 1] = (7 * i) % 5 - 1.5
        np.testing.assert_allclose(got.gradient(row, "n")["predict", "t"], expected, atol=1e-12)


def test_columns_are_named_as_the_user_wrote_them(con):
    got = evaluated(con, "SELECT sum(predict_proba(i)[1]) FROM t", {"t": P})
    assert list(got.relaxed.columns) == ["sum(predict_proba(i)[1])", "_exists"]
    assert got.columns == ("sum(predict_proba(i)[1])",)


REFUSED = [
    ("SELECT sum(predict_proba(i)) AS n FROM t", QueryError, r"write predict_proba\(i\)\[class\]"),
    ("SELECT sum(predict_proba(i)[7]) AS n FROM t", QueryError, r"one of 0, 1, 2"),
    ("SELECT sum(predict_proba(i)['1']) AS n FROM t", QueryError, r"\['1'\]` names no class"),
    ("SELECT sum(predict_proba(i)[g]) AS n FROM t", QueryError, r"\[g\]` names no class"),
    ("SELECT sum(predict_proba(i)[true]) AS n FROM t", QueryError, "names no class"),
    ("SELECT sum(predict_proba(zz)[1]) AS n FROM t", QueryError, "no column `zz`"),
    ("SELECT sum(predict_proba(i)[1] AS n FROM t", QueryError, "does not parse"),
    ("SELECT sum(round(predict_proba(i)[1])) AS n FROM t", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT round(sum(predict_proba(i)[1])) AS n FROM t", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT sum(1 / predict_proba(i)[1]) AS n FROM t", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT sum(predict_proba(i)[1]::INT) AS n FROM t", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT max(predict_proba(i)[1]) AS n FROM t", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT count(predict_proba(i)[1]) AS n FROM t", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT sum(DISTINCT predict_proba(i)[1]) AS n FROM t", UnsupportedQueryError, "number"),
    ("SELECT DISTINCT predict_proba(i)[1] AS n FROM t", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT i, predict_proba(i)[1] AS n FROM t LIMIT 2", UnsupportedQueryError, r"\(i\)\[1\]`"),
    ("SELECT *, predict_proba(i)[1] FROM t", UnsupportedQueryError, "Name the columns"),
    ("SELECT predict(i), predict_proba(i)[1] FROM t", UnsupportedQueryError, "beside a number"),
    ("SELECT predict_proba(i)[1] AS n FROM t WHERE n > 0.5", UnsupportedQueryError, "`n`: the q"),
    ("SELECT count(*) FROM t GROUP BY predict_proba(i)[1]", UnsupportedQueryError, "number"),
    ("SELECT count(*) FROM t WHERE predict_proba(i)[1] = 0.5", UnsupportedQueryError, "BETWEEN"),
    ("SELECT count(*) FROM t WHERE predict_proba(i)[1] IN (1)", UnsupportedQueryError, "BETWEEN"),
    ("SELECT count(*) FROM t WHERE predict_proba(i)[1] > a", UnsupportedQueryError, "no constant"),
    ("SELECT count(*) FROM t WHERE predict_proba(i)[1] > predict_proba(i)[2]",
     UnsupportedQueryError, "no constant"),
    ("SELECT count(*) FROM t WHERE predict_proba(i)[1] < 'inf'", UnsupportedQueryError, "finite"),
    ("SELECT count(*) FROM t WHERE predict_proba(i)[1] BETWEEN 1 AND 1.0000000000000002",
     UnsupportedQueryError, "further apart"),
    ("SELECT avg(c) FROM (SELECT predict_proba(i)[1] AS c FROM t)", UnsupportedQueryError,
     "one SELECT"),
    ("SELECT g, sum(predict_proba(i)[1]) FROM t GROUP BY g HAVING count(*) > 1",
     UnsupportedQueryError, "HAVING"),
    ("SELECT sum(predict_proba(i)[1]) FROM t WHERE predict(g) = 1", UnsupportedQueryError,
     "reads both g and i"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "error", "words"), REFUSED)
def test_what_has_no_relaxation_is_refused_in_the_users_words(con, sql, error, words):
    with pytest.raises(error, match=words) as caught:
        evaluated(con, sql, {"t": P})
    assert "__" not in str(caught.value)
    assert "number_" not in str(caught.value)


# A regression: no classes, one column of values.
Y = np.array([-2.0, 0.4, 1.0, 3.5, 8.0, 2.0])[:, None]


def asked(con, sql, values=Y, spread=None):
    functions = {"predict": (), "label": (0, 1, 2)}
    plan = prepare(sql, con, functions)
    tables = {}
    for slot, table in predictions(
        con, plan, {("predict", "t"): values, "t": P}, functions
    ).items():
        regression = slot.model == "predict"
        tables[slot] = PredictionTable(
            table.model, table.table, None, table.rowids, table.probabilities, table.classes,
            spread if regression else None,
        )  # fmt: skip
    return answer(plan, con, tables)


REGRESSIONS = [
    ("SELECT sum(predict(i)) AS n FROM t", "sum(y)"),
    ("SELECT avg(a * predict(i) + 3) AS n FROM t", "avg(a * y + 3)"),
    ("SELECT sum(predict(i) * Predict(i)) / 2 AS n FROM t WHERE a > 0", "sum(y * y) / 2"),
]


@pytest.mark.parametrize(("sql", "plain"), REGRESSIONS)
def test_values_of_a_regression_are_summed_as_duckdb_does(con, sql, plain):
    con.execute("CREATE TABLE ty AS SELECT t.*, 0.0::DOUBLE AS y FROM t")
    for rid, value in enumerate(Y[:, 0]):
        con.execute("UPDATE ty SET y = ? WHERE i = ?", [float(value), rid])
    rest = sql.split(" FROM t")[1]
    expected = float(frame(con, f"SELECT {plain} AS n FROM ty{rest}")["n"][0])
    got = asked(con, sql)
    np.testing.assert_allclose(got.cell(0, "n"), [expected] * 2)
    assert got.method == "exact (rows)"
    assert_values_slope(con, sql, got)


def assert_values_slope(con, sql, got, spread=None):
    slope = got.gradient(0, "n")["predict", "t"]
    assert slope.shape == Y.shape
    for row in range(len(Y)):
        step = np.zeros_like(Y)
        step[row] = 1e-6
        ends = [asked(con, sql, Y + sign * step, spread).cell(0, "n")[1] for sign in (1, -1)]
        np.testing.assert_allclose(slope[row, 0], (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_regression_beside_a_classifier(con):
    sql = "SELECT sum(predict(i)) AS n FROM t WHERE label(i) <> 0"
    got = asked(con, sql)
    np.testing.assert_allclose(got.cell(0, "n")[1], Y[:, 0] @ (1 - P[:, 0]))
    assert_values_slope(con, sql, got)
    np.testing.assert_allclose(got.gradient(0, "n")["label", "t"][:, 1], Y[:, 0])


def test_predicates_on_a_regression_have_normal_errors(con):
    from scipy.stats import norm

    sql = "SELECT count(*) AS n FROM t WHERE predict(i) > 3"
    got = asked(con, sql, spread=0.5)
    expected = norm.cdf((Y[:, 0] - 3) / 0.5).sum()
    np.testing.assert_allclose(got.cell(0, "n"), [2.0, expected])
    assert got.method.startswith("approximate (predicate on predict: normal errors, standard dev")
    assert_values_slope(con, sql, got, spread=0.5)


def test_conditions_on_one_regression_value_know_of_each_other(con):
    from scipy.stats import norm

    sql = "SELECT count(*) AS n FROM t WHERE predict(i) > 0 AND predict(i) <= 2 OR predict(i) < -1"
    got = asked(con, sql, spread=0.5)
    below = norm.cdf((np.array([-1.0, 0.0, 2.0]) - Y) / 0.5)
    np.testing.assert_allclose(got.cell(0, "n")[1], (below[:, 2] - below[:, 1] + below[:, 0]).sum())
    assert_values_slope(con, sql, got, spread=0.5)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT count(*) AS n FROM t WHERE predict(i) = 3", "BETWEEN"),
        ("SELECT count(*) AS n FROM t WHERE predict(i) > 3", "size of its errors.*data="),
        ("SELECT sum(exp(predict(i))) AS n FROM t", r"`predict\(i\)`: a number"),
        ("SELECT sum(predict(i)) AS n FROM t x, t y WHERE predict(x) = predict(y)", "BETWEEN"),
    ],
)
def test_what_a_regression_cannot_be_asked_is_named(con, sql, words):
    with pytest.raises(UnsupportedQueryError, match=words):
        asked(con, sql)


def test_a_regression_has_no_probabilities(con):
    with pytest.raises(QueryError, match=r"`predict_proba\(i\)`: `predict` is a regression"):
        asked(con, "SELECT sum(predict_proba(i)[0]) AS n FROM t")


def test_conditions_on_a_regression_beyond_one_block(con):
    """With large errors the likeliest band is not the one the value lies in."""
    from scipy.stats import norm

    sql = "SELECT count(*) AS n FROM (SELECT DISTINCT g FROM t WHERE predict(i) BETWEEN 0 AND 3)"
    got = asked(con, sql, spread=5.0)
    inside = norm.cdf((3 - Y[:, 0]) / 5) - norm.cdf(-Y[:, 0] / 5)
    expected = sum(1 - np.prod(1 - inside[g::2]) for g in (0, 1))
    np.testing.assert_allclose(got.cell(0, "n"), [2.0, expected])
    assert_values_slope(con, sql, got, spread=5.0)


def test_complaints_about_probabilities_rank_as_those_about_expected_counts():
    scene = make_scene(k=6)
    call = "predict_proba(a, b, c, d)[1]"
    summed = scene.database.sql(f"SELECT region, sum({call}) AS n FROM people GROUP BY region")
    counted = scene.database.sql(BY_REGION)
    rankings = [
        result.complain("n", where={"region": "EU"}, should="increase").rank()
        for result in (summed, counted)
    ]
    np.testing.assert_allclose(rankings[0].effects, rankings[1].effects, rtol=1e-10)
    assert "slot predict_proba on people" in summed.explain()
    with pytest.raises(UnsupportedQueryError, match="portable SQL reads classes"):
        summed.portable_sql()
    one = scene.database.sql(f"SELECT b, {call} AS n FROM people WHERE rowid = 3")
    point = scene.database.complain_prediction(
        "predict", table="people", rowid=3, label=1, should="not_be"
        if one.answer.cell(0, "n")[0] > 0.5 else "be", args=["a", "b", "c", "d"],
    )  # fmt: skip
    wish = "decrease" if one.answer.cell(0, "n")[0] > 0.5 else "increase"
    np.testing.assert_allclose(
        one.complain("n", row=0, should=wish).rank().effects, point.rank().effects, rtol=1e-10
    )
