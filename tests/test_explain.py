"""Predicates that describe a ranking: the planted one is found; what cannot be read is named."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pytest

from rainpp.errors import DataError, SettingsError, ShapeError
from rainpp.intervention import InterventionTable
from rainpp.ranking import Ranking

ROWS = 600


def people(seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "work": rng.choice(["private", "state", "self"], ROWS, p=[0.6, 0.2, 0.2]),
            "sex": rng.choice(["male", "female"], ROWS),
            "age": rng.integers(18, 80, ROWS),
            "note": [
                " ".join(rng.choice(["good", "bad", "late", "early", "it's"], 3)) + f" {i}"
                for i in range(ROWS)
            ],
            "member": rng.random(ROWS) < 0.5,
        }
    )


def ranking_of(holds, seed=1):
    """Deletions that help where `holds`, and a little anywhere."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, ROWS)
    scores = rng.normal(size=ROWS) * 0.1 + np.where(holds, 1.0, 0.0)
    table = InterventionTable(("delete",), np.arange(ROWS), labels, 2)
    return Ranking(table, scores, np.ones(ROWS), classes=("no", "yes"))


def sure(frame, sql):
    con = duckdb.connect()
    con.register("people", frame)
    return con.sql(f"SELECT {sql} AS holds FROM people").df()["holds"].to_numpy(bool)


@pytest.mark.parametrize(
    "sql",
    [
        "work = 'private' AND sex = 'male'",
        "sex = 'female'",
        "work = 'state' AND member = TRUE",
        "list_contains(string_split(lower(note), ' '), 'late')",
        "list_contains(string_split(lower(note), ' '), 'it''s') AND sex = 'male'",
    ],
)
def test_the_planted_predicate_comes_first(sql):
    frame = people()
    holds = sure(frame, sql)
    found = ranking_of(holds).explain(frame, top=int(holds.sum()))
    first = found.iloc[0]
    assert set(first["predicate"].split(" AND ")) == set(sql.split(" AND "))
    assert first["rows"] == holds.sum()
    assert first["precision"] > 0.99
    assert first["recall"] > 0.99


def test_every_predicate_is_sql_with_the_numbers_beside_it():
    frame = people()
    ranking = ranking_of((frame["age"] > 40).to_numpy() & (frame["work"] == "self").to_numpy())
    found = ranking.explain(frame, top=50, count=8)
    assert 1 <= len(found) <= 8
    best = np.zeros(ROWS, bool)
    best[ranking.positions(50)] = True
    frame["label"] = np.array(["no", "yes"])[ranking.interventions.labels]
    for each in found.itertuples():
        holds = sure(frame, each.predicate)
        assert each.rows == holds.sum()
        assert each.precision == pytest.approx((holds & best).sum() / holds.sum())
        assert each.recall == pytest.approx((holds & best).sum() / 50)
        assert each.effect == pytest.approx(np.maximum(ranking.effects, 0)[holds].sum())


def test_labels_are_a_column_of_their_own():
    frame = people()
    plain = ranking_of(np.zeros(ROWS, bool))
    holds = plain.interventions.labels == 1
    assert ranking_of(holds).explain(frame).iloc[0]["predicate"] == "label = 'yes'"


def test_labels_of_a_regression_are_numbers():
    frame = people()[["sex"]]
    labels = np.linspace(0, 1, ROWS, dtype=np.float32)
    for shape in ((ROWS,), (ROWS, 1)):
        table = InterventionTable(("delete",), np.arange(ROWS), labels.reshape(shape), 1)
        scores = np.where(labels > 0.7, 1.0, 0.0)
        found = Ranking(table, scores, np.ones(ROWS), classes=()).explain(frame, top=100)
        assert found["predicate"][0].startswith("label > 0.7")
    table = InterventionTable(("delete",), np.arange(ROWS), np.ones((ROWS, 2), np.float32), 2)
    found = Ranking(table, scores, np.ones(ROWS), classes=()).explain(frame)
    assert not found["predicate"].str.contains("label").any()


def test_missing_values_are_a_condition():
    frame = people()
    frame.loc[::7, "work"] = None
    holds = frame["work"].isna().to_numpy()
    assert ranking_of(holds).explain(frame).iloc[0]["predicate"] == "work IS NULL"


def test_a_ranking_without_help_has_no_predicates():
    ranking = ranking_of(np.zeros(ROWS, bool))
    ranking.effects = -np.ones(ROWS)
    ranking._scores = None
    assert ranking.explain(people()).empty


@pytest.mark.parametrize(
    ("frame", "error", "words"),
    [
        (people().to_dict(), SettingsError, "`rows` is a dict"),
        (people().head(5), ShapeError, "has 5 rows; the index has 600"),
        (people().assign(x=[[1]] * ROWS), DataError, "column `x` of `rows` holds a list"),
    ],
)
def test_frames_that_cannot_be_read_are_named(frame, error, words):
    with pytest.raises(error, match=words):
        ranking_of(np.ones(ROWS, bool)).explain(frame)


@pytest.mark.parametrize("name", ["top", "count"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "x"])
def test_numbers_are_checked(name, value):
    with pytest.raises(SettingsError, match=f"`{name}` is"):
        ranking_of(np.ones(ROWS, bool)).explain(people(), **{name: value})
