"""Every query template of the paper's Table 1, in the spellings people use."""

from __future__ import annotations

import numpy as np
import pytest

from tests.relax.worlds import database, evaluated, one_hot, random_probabilities

FILL = (
    "SELECT i AS id, i % 5 AS image, CASE WHEN i % 2 = 0 THEN 'Private' ELSE 'State' END "
    "AS workclass, CASE WHEN i % 3 = 0 THEN 'Male' ELSE 'Female' END AS gender FROM range(12) r(i)"
)


@pytest.fixture(scope="module")
def con():
    with database(D=FILL, LEFT=FILL, RIGHT=FILL) as con:
        yield con


P = {
    "D": random_probabilities(0, 12),
    "LEFT": random_probabilities(1, 12),
    "RIGHT": random_probabilities(2, 12),
}
PRIVATE = np.arange(12) % 2 == 0
MALE = np.arange(12) % 3 == 0
MEAN = P["D"] @ np.arange(3)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            'SELECT COUNT(*) AS n FROM "LEFT" L, "RIGHT" R WHERE predict(L) = predict(R)',
            (P["LEFT"] @ P["RIGHT"].T).sum(),
        ),
        (
            'select Count(*) n from "LEFT" l join "RIGHT" r on PREDICT(l.*)=Predict(r.image)',
            (P["LEFT"] @ P["RIGHT"].T).sum(),
        ),
        ("SELECT COUNT(*) AS n FROM D WHERE predict(*) IN (0, 2)", P["D"][:, [0, 2]].sum()),
        ("SELECT COUNT(*) AS n FROM d WHERE predict(image) NOT IN (1)", P["D"][:, [0, 2]].sum()),
        ("SELECT COUNT(*) AS n FROM D WHERE predict(*) = 1", P["D"][:, 1].sum()),
        ('SELECT COUNT(*) AS n FROM "D" AS d WHERE 1 = "predict"(d.image)', P["D"][:, 1].sum()),
        ("SELECT COUNT(*) AS n FROM main.D WHERE Predict(D.*) <> 1", P["D"][:, [0, 2]].sum()),
        (
            "SELECT AVG(predict(*)) AS n FROM D WHERE workclass = 'Private' AND gender = 'Male'",
            MEAN[PRIVATE & MALE].mean(),
        ),
        ("SELECT AVG(predict(*)) AS n FROM D WHERE workclass = 'Private'", MEAN[PRIVATE].mean()),
        ("SELECT AVG(predict(d)) AS n FROM D WHERE gender = 'Male'", MEAN[MALE].mean()),
        ("FROM D SELECT avg(PREDICT(id, image)) AS n", MEAN.mean()),
    ],
)
def test_template_has_its_closed_form(con, sql, expected):
    answer = evaluated(con, sql, P)
    assert answer.columns == ("n",)
    assert answer.cell(0, "n")[1] == pytest.approx(expected, rel=1e-12)


def test_count_by_group(con):
    sql = "SELECT gender, count(*) AS n FROM D WHERE predict(image) = 1 GROUP BY gender ORDER BY 1"
    answer = evaluated(con, sql, P)
    assert answer.relaxed["n"].tolist() == pytest.approx(
        [P["D"][~MALE, 1].sum(), P["D"][MALE, 1].sum()]
    )
    assert answer.relaxed["_exists"].tolist() == pytest.approx(
        [1 - np.prod(1 - P["D"][~MALE, 1]), 1 - np.prod(1 - P["D"][MALE, 1])]
    )
    expected = np.zeros((12, 3))
    expected[~MALE, 1] = 1
    np.testing.assert_array_equal(answer.gradient(0, "n")["predict", "D"], expected)


def test_a_syntax_error_in_the_papers_text_is_reported(con):
    with pytest.raises(ValueError, match="does not parse") as error:
        evaluated(con, "SELECT COUNT(*) FROM D WHERE predict(*) = IN (1)", P)
    assert "^" in str(error.value)


def test_certain_predictions_give_the_plain_answer(con):
    labels = np.arange(12) % 3
    answer = evaluated(
        con, "SELECT count(*) AS n FROM D WHERE predict(*) = 2", {"D": one_hot(labels)}
    )
    assert answer.cell(0, "n") == (4.0, 4.0)
